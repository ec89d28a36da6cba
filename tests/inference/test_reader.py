"""Answers to a file's questions and from Python: the same, with the model's own threshold, and scored where there is gold."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import pytest
from processes import run
from toy import WINDOWS, Toy, flags

from qa_accel import Reader, config
from qa_accel.commands import predict
from qa_accel.data import splits
from qa_accel.data.settings import WindowConfig
from qa_accel.distributed import entry
from qa_accel.evaluation import scoring
from qa_accel.inference import postprocess
from qa_accel.inference import reader as reader_module
from qa_accel.inference.answer_policy import AnswerPolicy


def predict_script(words: list[str]) -> None:
    entry.main(lambda: predict.run(config.parse(predict.PredictConfig, words)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def predicted(folder: Path, cache: Path, **settings: Any) -> Path:
    words = flags(cache_dir=cache, output_dir=folder, per_device_eval_batch_size=8, **WINDOWS, **settings)
    [left] = run(predict_script, words)
    assert left.code == 0, left.output
    return folder


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def with_threshold(toy: Toy, folder: Path, threshold: float) -> Path:
    """The toy's model with a threshold in its config, as training stores it."""
    shutil.copytree(toy.model, folder)
    settings = json.loads((folder / "config.json").read_text()) | {"null_score_diff_threshold": threshold}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def pairs_of(file: Path) -> dict[str, tuple[str, str]]:
    paragraphs = json.loads(file.read_text())["data"][0]["paragraphs"]
    return {row["id"]: (row["question"], part["context"]) for part in paragraphs for row in part["qas"]}


def read_with_python(model: Path, pairs: list[tuple[str, str]], batch_size: int = 8) -> list[dict]:
    reader = reader_module.Reader(str(model), windows=WindowConfig(**WINDOWS), batch_size=batch_size)
    return reader.answer_all(pairs)


def test_python_and_the_script_give_the_same_answers(toy, cache, tmp_path):
    """Breaks if there are two decoders, or the reader does not window, batch or threshold as prediction does."""
    folder = predicted(tmp_path / "answers", cache, model_name_or_path=toy.model, test_file=toy.dev)
    pairs = pairs_of(toy.dev)
    answers = read_with_python(toy.model, list(pairs.values()))
    assert {key: found["text"] for key, found in zip(pairs, answers)} == read(folder, "predictions")
    assert {key: found["null_odds"] for key, found in zip(pairs, answers)} == read(folder, "null_odds")
    for key, found in zip(pairs, answers):
        assert found["nbest"] == read(folder, "nbest_predictions")[key]
        assert pairs[key][1][found["start"] : found["end"]] == found["text"] or found["text"] == ""
        assert 0 < found["probability"] <= 1


def test_one_question_is_answered_as_among_many(toy):
    pairs = list(pairs_of(toy.dev).values())
    many, alone = read_with_python(toy.model, pairs), read_with_python(toy.model, pairs[-1:])
    assert alone[0]["text"] == many[-1]["text"]
    assert alone[0]["null_odds"] == pytest.approx(many[-1]["null_odds"], abs=1e-4)


def test_no_questions_give_no_answers_and_an_empty_context_holds_no_answer(toy):
    assert read_with_python(toy.model, []) == []
    [found] = read_with_python(toy.model, [("Where was Ana born?", "")])
    assert found["text"] == ""


@pytest.mark.parametrize(("stored", "flag", "expected"), [(-1e6, None, "none"), (1e6, None, "all"), (-1e6, 1e6, "all")])
def test_the_models_own_threshold_counts_unless_a_flag_is_given(toy, cache, tmp_path, stored, flag, expected):
    """Null odds are some units; a threshold far below them answers nothing, one far above them everything."""
    model = with_threshold(toy, tmp_path / "model", stored)
    given = {} if flag is None else {"null_score_diff_threshold": flag}
    folder = predicted(tmp_path / "answers", cache, model_name_or_path=model, test_file=toy.dev, **given)
    texts = read(folder, "predictions").values()
    assert [bool(text) for text in texts] == [expected == "all"] * 30
    results = read(folder, "all_results")
    assert results["null_score_diff_threshold"] == (stored if flag is None else flag)
    assert {"f1_threshold_0", "best_f1", "best_f1_thresh"} <= results.keys()
    if flag is None:
        answers = read_with_python(model, list(pairs_of(toy.dev).values()))
        assert [found["text"] for found in answers] == list(texts)


def test_questions_without_gold_are_answered_and_not_scored(toy, cache, tmp_path):
    file = tmp_path / "questions.jsonl"
    rows = [{"id": key, "question": question, "context": text} for key, (question, text) in pairs_of(toy.dev).items()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = predicted(tmp_path / "answers", cache, model_name_or_path=toy.model, test_file=file)
    assert {path.name for path in folder.iterdir()} == {
        "predictions.json",
        "nbest_predictions.json",
        "null_odds.json",
        ".lock",
        "config.yaml",
        "environment.json",
    }
    with_gold = predicted(tmp_path / "with_gold", cache, model_name_or_path=toy.model, test_file=toy.dev)
    assert (folder / "predictions.json").read_bytes() == (with_gold / "predictions.json").read_bytes()


def test_where_every_question_has_an_answer_none_is_left_out(toy, cache, tmp_path):
    """SQuAD v1.1. Breaks if the null score is looked at where the data has no unanswerable questions."""
    content = json.loads(toy.dev.read_text())
    for paragraph in content["data"][0]["paragraphs"]:
        paragraph["qas"] = [
            {key: row[key] for key in ("id", "question", "answers")} for row in paragraph["qas"] if row["answers"]
        ]
    file = tmp_path / "v1.json"
    file.write_text(json.dumps(content | {"version": "1.1"}))
    model = with_threshold(toy, tmp_path / "model", -1e6)
    folder = predicted(tmp_path / "answers", cache, model_name_or_path=model, test_file=file)
    assert all(read(folder, "predictions").values()) and len(read(folder, "predictions")) == 20
    results = read(folder, "all_results")
    assert results["total"] == 20 and not [key for key in results if key.startswith("best_")]


def test_a_limit_counts_questions_and_keeps_all_windows_of_each(toy, cache, tmp_path):
    """The last person's context has several windows. Breaks if the limit cuts windows: answers would change."""
    folder = predicted(tmp_path / "all", cache, model_name_or_path=toy.model, test_file=toy.dev)
    some = predicted(tmp_path / "some", cache, model_name_or_path=toy.model, test_file=toy.dev, max_predict_samples=28)
    assert len(read(some, "predictions")) == 28
    assert list(read(some, "predictions").items()) == list(read(folder, "predictions").items())[:28]


# --------------------------------------------------------------------------------------------------------- evaluation


def three_answers() -> tuple[postprocess.Answers, splits.Split]:
    """Null odds -2, 1, 3: the first two have answers and their best spans are right, the third has none."""
    from datasets import Dataset

    golds = [{"text": ["red"], "answer_start": [0]}, {"text": ["blue"], "answer_start": [0]}]
    golds.append({"text": [], "answer_start": []})
    questions = Dataset.from_dict({"id": ["a", "b", "c"], "answers": golds})
    best = {"a": "red", "b": "blue", "c": "green"}
    odds = {"a": -2.0, "b": 1.0, "c": 3.0}
    predictions = {key: text if odds[key] <= 0 else "" for key, text in best.items()}
    return postprocess.Answers(predictions=predictions, best_texts=best, nbest={}, null_odds=odds), splits.Split(
        questions, None
    )  # type: ignore


def test_scores_are_those_at_the_threshold_in_use_and_the_best_are_beside_them():
    """At 0 "b" is left unanswered: 2 of 3 are right; from 1 to below 3 all are."""
    answers, split = three_answers()
    at_zero = scoring.scores_of(answers, split, 0.0, version_2_with_negative=True)
    assert at_zero["exact"] == pytest.approx(200 / 3) and at_zero["best_exact"] == at_zero["best_f1"] == 100
    assert at_zero["best_f1_thresh"] == 1.0 and at_zero["null_score_diff_threshold"] == 0.0
    assert "f1_threshold_0" not in at_zero
    tuned = scoring.scores_of(answers, split, 1.0, version_2_with_negative=True)
    assert tuned["exact"] == tuned["f1"] == 100
    assert tuned["exact_threshold_0"] == tuned["f1_threshold_0"] == pytest.approx(200 / 3)
    everything = scoring.scores_of(answers, split, 0.0, version_2_with_negative=False)
    assert everything["exact"] == pytest.approx(200 / 3) and everything["HasAns_exact"] == 100


def test_a_tuned_threshold_is_some_questions_null_odds_or_there_is_none():
    """Breaks if the search's 0.0 for "answer nothing at all" is stored: with it, questions would be answered."""
    answers, _ = three_answers()
    assert scoring.tuned_threshold(answers, {"best_f1_thresh": 1.0}) == 1.0
    assert scoring.tuned_threshold(answers, {"best_f1_thresh": 0.0}) is None
    assert scoring.tuned_threshold(answers, {}) is None


@pytest.mark.parametrize(
    ("given", "stored", "used"), [(None, None, 0.0), (None, 1.5, 1.5), (-3.0, 1.5, -3.0), (0.0, 1.5, 0.0)]
)
def test_the_flags_threshold_wins_over_the_stored_one(given, stored, used):
    found = AnswerPolicy(stored).apply(postprocess.SpanConfig(null_score_diff_threshold=given))
    assert found.null_score_diff_threshold == used
    assert asdict(found)["n_best_size"] == postprocess.SpanConfig().n_best_size


def test_mappings_and_pairs_are_read_and_their_texts_are_the_same():
    """The removed pipeline took mappings. Breaks if a mapping of two keys is unpacked into its
    keys, which would then be the question and the context."""
    row = {"question": "Where?", "context": "In Paris."}
    for given in (row, ("Where?", "In Paris."), ["Where?", "In Paris."], row | {"id": 7}):
        assert reader_module.question_and_context(given, 0) == ("Where?", "In Paris.")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("qc", r"row 3: 'qc' \(str\); expected \(question, context\), or a mapping"),
        (("only one",), "row 3: .*tuple.*; expected"),
        (None, "row 3: null or missing; expected"),
        ((None, "context"), "row 3: the question is null or missing; text is expected"),
        (("question", float("nan")), r"row 3: the context is 'nan' \(float\); text is expected"),
        (("question", None), "row 3: the context is null or missing; text is expected"),
        ((7, "context"), r"row 3: the question is '7' \(int\); text is expected"),
        ((b"Where?", "context"), r"row 3: the question is .*Where.* \(bytes\); text is expected"),
        (("question", ["context"]), r"row 3: the context is .*context.* \(list\); text is expected"),
        ((("question",), "context"), r"row 3: the question is .* \(tuple\); text is expected"),
        (("question", {"text": "context"}), r"row 3: the context is .* \(dict\); text is expected"),
        ((True, "context"), r"row 3: the question is 'True' \(bool\); text is expected"),
        (("one", "two", "three"), r"row 3: .* \(tuple\); expected \(question, context\)"),
        (b"qc", r"row 3: .* \(bytes\); expected \(question, context\)"),
        (float("nan"), r"row 3: 'nan' \(float\); expected"),
        (("question", "half \udc00"), "row 3: character 5 of the context is half of a surrogate pair"),
        ({"question": "Where?"}, "row 3: the context is null or missing; text is expected"),
        ({"context": "Here.", "questions": "Where?"}, "row 3: the question is null or missing; text is expected"),
        (("Where\ud83d?", "context"), "row 3: character 5 of the question is half of a surrogate pair"),
    ],
)
def test_what_is_not_two_texts_is_refused_with_its_row(given, message):
    """Breaks if the message comes from deep inside a tokenizer and names no row."""
    with pytest.raises(ValueError, match=message):
        reader_module.question_and_context(given, 3)


@pytest.fixture(scope="module")
def small_reader(toy) -> Reader:
    return Reader(toy.model, windows=WindowConfig(**WINDOWS))


QUESTION, CONTEXT = "Where was Ana born?", "Ana was born in Bern."


def test_each_iterable_of_pairs_gives_the_same_answers(small_reader):
    """A list, a generator, zip and a data set. Breaks if one has no length, is read twice, or yields its keys."""
    expected = small_reader.answer_all([(QUESTION, CONTEXT), (CONTEXT, QUESTION)])
    assert expected[0]["nbest"] != expected[1]["nbest"]
    questions, contexts = [QUESTION, CONTEXT], [CONTEXT, QUESTION]
    rows = [{"question": question, "context": context} for question, context in zip(questions, contexts)]
    assert small_reader.answer_all(zip(questions, contexts)) == expected
    assert small_reader.answer_all(row for row in rows) == expected
    assert small_reader.answer_all(datasets.Dataset.from_list(rows)) == expected
    assert small_reader.answer_all([]) == []


@pytest.mark.parametrize("given", [None, 5, float("nan"), "ab", b"ab", {"question": QUESTION, "context": CONTEXT}])
def test_what_is_no_iterable_of_pairs_is_refused(small_reader, given):
    """Breaks if a single mapping or text is read letter by letter or key by key."""
    with pytest.raises(ValueError, match=r"expected a list, or any other iterable, of \(question, context\) pairs"):
        small_reader.answer_all(given)


@pytest.mark.parametrize("given", [None, 5, float("nan"), b"Where?", ["Where?"], "Where\ud83d?"])
def test_a_single_question_that_is_no_text_is_refused(small_reader, given):
    for pair in ((given, CONTEXT), (QUESTION, given)):
        with pytest.raises(ValueError, match=r"row 0: .*(text is expected|half of a surrogate pair)"):
            small_reader.answer(*pair)


def test_a_bad_row_among_many_is_named_before_anything_is_computed(small_reader):
    rows = [(QUESTION, CONTEXT)] * 5 + [(QUESTION, float("nan"))]
    with pytest.raises(ValueError, match="row 5: the context is 'nan'"):
        small_reader.answer_all(rows)


def rows_for(model: Path, pairs: list[tuple[str, str]]) -> list[int]:
    reader = reader_module.Reader(str(model), windows=WindowConfig(**WINDOWS))
    rows: list[int] = []
    reader.qa.model.register_forward_hook(lambda module, arguments, output: rows.append(len(output.start_logits)))
    reader.answer_all(pairs)
    return rows


def test_one_question_costs_one_row(toy):
    """Breaks if the batch is filled up to batch_size, which made a single question 20 to 29 times as expensive."""
    pairs = list(pairs_of(toy.dev).values())[:3]
    assert rows_for(toy.model, pairs[:1]) == [1]
    assert rows_for(toy.model, pairs) == [3]
