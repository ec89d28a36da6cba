"""Reader of several models: as the files of predict.py joined, with tokenizers of two kinds, and what it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from processes import run
from toy import WINDOWS, Toy, flags
from zoo import make

from qa_accel import Reader, config
from qa_accel.commands import ensemble, predict
from qa_accel.data.settings import WindowConfig
from qa_accel.distributed import entry
from qa_accel.inference.settings import SpanConfig
from qa_accel.models import model_folder

THRESHOLD = 0.375
OTHER_WINDOWS = {"max_seq_length": 96, "doc_stride": 8, "max_query_length": 20}


def predict_script(words: list[str]) -> None:
    entry.main(lambda: predict.run(config.parse(predict.PredictConfig, words)))


def pairs_of(file: Path) -> dict[str, tuple[str, str]]:
    paragraphs = json.loads(file.read_text())["data"][0]["paragraphs"]
    return {row["id"]: (row["question"], part["context"]) for part in paragraphs for row in part["qas"]}


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models(toy: Toy, tmp_path_factory) -> Path:
    """A folder with `bert` (WordPiece) and `roberta` (byte-level pieces), each with a threshold, its answers, and their ensemble."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(toy.model, folder / "bert")
    make("roberta", folder / "roberta")
    for name, threshold, windows, n_best in (("bert", 0.5, WINDOWS, 4), ("roberta", 0.25, OTHER_WINDOWS, 7)):
        settings = read(folder / name, "config") | {"answer_policy": {"null_score_diff_threshold": threshold}}
        (folder / name / "config.json").write_text(json.dumps(settings))
        own = dict(model_name_or_path=folder / name, test_file=toy.dev, output_dir=folder / f"{name}-answers")
        own |= dict(cache_dir=folder / "cache", per_device_eval_batch_size=8, n_best_size=n_best, **windows)
        [left] = run(predict_script, flags(**own))
        assert left.code == 0, left.output
    members = (folder / "bert-answers", folder / "roberta-answers")
    ensemble.run(ensemble.EnsembleConfig(members, str(folder / "ensemble")))
    return folder


def assert_as_files(reader: Reader, pairs: dict[str, tuple[str, str]], folder: Path) -> None:
    answers = reader.answer_all(list(pairs.values()))
    assert {key: found["text"] for key, found in zip(pairs, answers)} == read(folder, "predictions")
    assert {key: found["null_odds"] for key, found in zip(pairs, answers)} == read(folder, "null_odds")
    assert {key: found["nbest"] for key, found in zip(pairs, answers)} == read(folder, "nbest_predictions")


def test_an_ensembles_folder_answers_as_its_files(toy, models):
    """With windows, lengths of lists, threshold and calibration of each member and of the whole. Breaks if one of them is the
    reader's default, or answers are joined in two ways."""
    texts = set(read(models / "ensemble", "predictions").values())
    assert len(texts) > 5, "or there would be little to compare"
    assert_as_files(Reader(models / "ensemble", batch_size=8), pairs_of(toy.dev), models / "ensemble")


def test_folders_that_are_moved_together_go_on_to_work(toy, models, tmp_path):
    """Breaks if ensemble.json has paths of the machine or of the working directory."""
    shutil.copytree(models, tmp_path / "moved")
    for name in ("bert", "roberta"):
        shutil.move(models / name, models / f"{name}-away")
    try:
        assert_as_files(Reader(tmp_path / "moved" / "ensemble", batch_size=8), pairs_of(toy.dev), models / "ensemble")
    finally:
        for name in ("bert", "roberta"):
            shutil.move(models / f"{name}-away", models / name)


def test_a_list_of_models_answers_by_the_mean_of_their_thresholds(models):
    reader = Reader([models / "bert", str(models / "roberta")])
    assert reader.spans.null_score_diff_threshold == (0.5 + 0.25) / 2
    assert reader.calibration is None and len(reader.members) == 2
    given = Reader([models / "bert", models / "roberta"], spans=SpanConfig(null_score_diff_threshold=THRESHOLD * 2))
    assert given.spans.null_score_diff_threshold == 0.75


def test_a_list_is_as_the_ensembles_members_in_any_order(toy, models):
    """Breaks if the order of the members reaches an answer, in any way of asking."""
    pairs, windows = list(pairs_of(toy.dev).values()), WindowConfig(**WINDOWS)
    one, other = (
        Reader([models / name for name in names], windows=windows, batch_size=8)
        for names in (("bert", "roberta"), ("roberta", "bert"))
    )
    assert one.answer_all(pairs) == other.answer_all(pairs)
    asked = dict(question=[pair[0] for pair in pairs], context=[pair[1] for pair in pairs], top_k=3)
    assert one(**asked) == other(**asked)
    documents = [context for _, context in pairs[:6]]
    assert one.rank(pairs[0][0], documents) == other.rank(pairs[0][0], documents)


def test_every_way_of_asking_gives_pieces_of_the_context(toy, models):
    reader = Reader(models / "ensemble")
    question, context = next(iter(pairs_of(toy.dev).values()))
    found = reader(question=question, context=context, top_k=3)
    assert found and all(context[each["start"] : each["end"]] == each["answer"] for each in found)
    assert list(reader(iter([(question, context)]), top_k=3)) == [found]
    assert reader(question, context, handle_impossible_answer=True, max_seq_len=48, doc_stride=8)["score"] > 0
    ranked = reader.rank(question, {"a": context, "b": "It rains."})
    assert {"a"} <= {answer["document"] for answer in ranked["answers"]}
    assert reader.answer(question, "")["text"] == ""


def test_words_are_widened_as_far_as_all_tokenizers_agree(models):
    reader = Reader([models / "bert", models / "roberta"])
    context = "Ana keeps a goat, a hen."
    [place] = reader.whole_words(context, [(13, 14)])
    each = [next(iter(member.maker.whole_words(context, [(13, 14)]))) for member in reader.members]
    assert place == (max(start for start, _ in each), min(end for _, end in each)) and place[0] <= 13 < place[1]


def test_a_list_of_one_model_is_that_model(toy, models):
    pairs = list(pairs_of(toy.dev).values())[:5]
    alone, listed = Reader(models / "bert"), Reader([models / "bert"])
    assert alone.answer_all(pairs) == listed.answer_all(pairs)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("bert", "bert"), "is given twice"),
        (("bert", "ensemble"), "is an ensemble itself; give its members"),
        ((), "0 models; expected 1 to 100"),
        (("bert", 7), "model 1 is '7' .int.; expected the folder of a model"),
        (("bert", "no-such"), "there is no such folder"),
    ],
)
def test_a_list_that_is_no_ensemble_is_refused(models, names, message):
    given: Any = [models / name if isinstance(name, str) else name for name in names]
    with pytest.raises(ValueError, match=message):
        Reader(given)


def test_withholding_needs_a_calibration_in_common(models):
    with pytest.raises(ValueError, match="have no calibration in common"):
        Reader([models / "bert", models / "roberta"], min_confidence=0.5)


BERT, ROBERTA = {"folder": "../bert"}, {"folder": "../roberta"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nested too deep"),
        ("{", "is not JSON"),
        ("[]", "expected an object with 2 to 100 members"),
        ({"members": [BERT]}, "expected an object with 2 to 100 members, found '1 members'"),
        ({"members": [BERT] * 101}, "101 members"),
        ({"members": {"a": BERT}}, "expected an object with 2 to 100 members"),
        ({"members": [BERT, BERT]}, "is a member twice"),
        ({"members": [BERT, {"folder": "../bert/../bert"}]}, "is a member twice"),
        ({"members": [BERT, {"folder": "."}]}, "member 1: .* is an ensemble itself"),
        ({"members": [{"folder": "../hostile"}, BERT]}, "member 0: .* is an ensemble itself"),
        ({"members": [BERT, {"folder": "../ensemble"}]}, "member 1: .* is an ensemble itself"),
        ({"members": [BERT, {"folder": "../gone"}]}, "member 1: there is no folder '../gone' .*beside this ensemble"),
        ({"members": [BERT, {"folder": "a\0b"}]}, "member 1: there is no folder"),
        ({"members": [BERT, "../roberta"]}, "member 1: expected an object"),
        ({"members": [BERT, {}]}, "member 1: expected either folder or model"),
        ({"members": [BERT, {"name": "roberta"}]}, "member 1: expected either folder or model"),
        ({"members": [BERT, ROBERTA | {"model": "a/b"}]}, "member 1: expected either folder or model"),
        ({"members": [BERT, ROBERTA | {"weight": 0}]}, "member 1: weight is '0'"),
        ({"members": [BERT, ROBERTA | {"weight": 10**400}]}, "member 1: weight is"),
        ({"members": [BERT, ROBERTA | {"weight": "a"}]}, "member 1: weight is 'a'"),
        ({"members": [BERT, ROBERTA | {"max_seq_length": "x"}]}, "member 1: max_seq_length is 'x'"),
        ({"members": [BERT, ROBERTA | {"n_best_size": 0}]}, "member 1: --n_best_size must be at least 1"),
        ({"members": [BERT, {"model": "a\0b"}]}, "ensemble.json: member 1: model .* has a character that no name"),
        ({"members": [BERT, {"model": "\ud800"}]}, "ensemble.json: member 1: model .* has a character that no name"),
        ({"members": [BERT, {"folder": "\ud800"}]}, "ensemble.json: member 1: there is no folder"),
        ({"members": [BERT, ROBERTA], "answer_policy": [1]}, "ensemble.json has answer_policy"),
        (
            {"members": [BERT, ROBERTA], "answer_policy": {"temperature": "hot"}},
            "ensemble.json has temperature 'hot'; expected a finite number.* scripts/ensemble.py again",
        ),
        (
            {"members": [BERT, ROBERTA], "answer_policy": {"temperature": -1.0}},
            "ensemble.json has temperature -1.0; expected a number above 0",
        ),
    ],
)
def test_a_hostile_ensemble_json_is_refused_with_its_place(models, content, message):
    """No model is loaded before, so that each takes milliseconds."""
    folder = models / "hostile"
    folder.mkdir(exist_ok=True)
    (folder / "ensemble.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=f"(?s){message}") as refusal:
        Reader(folder)
    assert len(str(refusal.value)) < 1000 and str(refusal.value).isprintable()


def test_an_ensemble_is_no_model_for_other_commands(models):
    """Breaks if predict, calibrate or export say that config.json is missing instead of what to do."""
    with pytest.raises(ValueError, match=r"is an ensemble of models .* only Reader, ask and serve"):
        model_folder.check_name(str(models / "ensemble"))
