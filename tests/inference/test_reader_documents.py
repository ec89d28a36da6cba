"""Several documents, and answers that are sure enough, on a reader: the same answers as one document at a time gives."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from toy import NAMES, WINDOWS, context_about

from qa_accel import Reader
from qa_accel.data.settings import WindowConfig
from qa_accel.inference.answer_policy import CONFIG_KEY
from qa_accel.inference.confidence import Calibration, sigmoid

DOCUMENTS = {name: context_about(name) for name in NAMES} | {"empty": ""}
QUESTIONS = ["Where was Ana born?", "Which animal does Tess keep?", "What does Ben drink?"]
CALIBRATION = dict(temperature=0.25, null_odds_weight=2.0, null_odds_bias=1.0)


@pytest.fixture(scope="module")
def reader(toy) -> Reader:
    return Reader(toy.model, windows=WindowConfig(**WINDOWS), batch_size=4)


def calibrated(toy, folder: Path, **policy: float) -> Path:
    shutil.copytree(toy.model, folder)
    content = json.loads((folder / "config.json").read_text()) | {CONFIG_KEY: policy or CALIBRATION}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def words(entry: dict) -> list[str]:
    """What exact match compares: no case, no punctuation, no articles."""
    found = re.findall(r"\w+", entry["text"].lower())
    return [word for word in found if word not in ("a", "an", "the")]


def test_the_ranking_is_that_of_all_answers_of_each_document_alone(reader):
    """Breaks if batches of several documents mix them up, or if documents are ranked by what is not comparable."""
    for question, found in zip(QUESTIONS, reader.rank(QUESTIONS, DOCUMENTS, top_k=40)):
        alone = reader.answer_all([(question, text) for text in DOCUMENTS.values()])
        expected = [
            (entry["start_logit"] + entry["end_logit"], name, entry["start"], entry["end"])
            for name, answer in zip(DOCUMENTS, alone)
            for entry in answer["nbest"]
            if entry["text"]
        ]
        expected.sort(key=lambda row: -row[0])
        assert len(found["answers"]) == 40
        for answer, (score, *_) in zip(found["answers"], expected):
            assert answer["start_logit"] + answer["end_logit"] == pytest.approx(score, abs=1e-4)
            assert DOCUMENTS[answer["document"]][answer["start"] : answer["end"]] == answer["text"]
            assert answer["text"] in answer["passage"] and "probability" not in answer
        odds = [answer["null_odds"] for answer in alone]
        assert found["null_odds"] == pytest.approx(min(odds), abs=1e-4)
        assert found["no_answer_probability"] == pytest.approx(sigmoid(min(odds)), abs=1e-4)


@pytest.mark.parametrize(
    "documents",
    [
        list(DOCUMENTS.values()),
        tuple(enumerate(DOCUMENTS.values())),
        [{"id": place, "text": text} for place, text in enumerate(DOCUMENTS.values())],
        dict(enumerate(DOCUMENTS.values())),
        (text for text in DOCUMENTS.values()),
    ],
    ids=["texts", "pairs", "mappings", "mapping", "generator"],
)
def test_documents_come_in_every_form_with_their_ids(reader, documents):
    expected = [NAMES.index(answer["document"]) for answer in reader.rank(QUESTIONS[0], DOCUMENTS)["answers"]]
    assert [answer["document"] for answer in reader.rank(QUESTIONS[0], documents)["answers"]] == expected


def test_nothing_to_search_is_no_answer(reader):
    for documents in ([], {}, ["", "   "]):
        found = reader.rank(QUESTIONS[0], documents)
        assert found["answers"] == [] and found["no_answer_probability"] == 1.0
    assert reader.rank([], DOCUMENTS) == []


@pytest.mark.parametrize(
    ("question", "documents", "message"),
    [
        (QUESTIONS[0], None, "the documents are null or missing; expected a list of texts"),
        (QUESTIONS[0], "one text", "the documents are 'one text' .*expected a list"),
        (QUESTIONS[0], ["a", None], "document 1: null or missing; expected a text"),
        (QUESTIONS[0], [("a", None)], "document 0: the text is null or missing"),
        (QUESTIONS[0], [("a", "x"), ("b", "y"), ("a", "z")], r"two documents have the id 'a' \(str\)"),
        (QUESTIONS[0], [{"text": "x"}], "document 0: .*expected a text"),
        (QUESTIONS[0], ["half \udc00"], "document 0: character 5 of the text is half of a surrogate pair"),
        (None, ["a"], "row 0: the question is null or missing"),
        (["Who?", 7], ["a"], "row 1: the question is '7'"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(reader, question, documents, message):
    with pytest.raises(ValueError, match=message):
        reader.rank(question, documents)


def test_a_document_is_tokenized_once_for_all_questions(toy):
    """Breaks if each question, or each call, tokenizes the documents again: most of the time for a large collection."""
    reader = Reader(toy.model, windows=WindowConfig(**WINDOWS))
    tokenized: list[str] = []
    documents = reader.members[0].maker._documents
    original = documents._tokenized

    def noted(texts: list[str]):
        tokenized.extend(texts)
        return original(texts)

    documents._tokenized = noted  # type: ignore[method-assign]
    reader.rank(QUESTIONS, DOCUMENTS)
    reader.rank("Who counts the boats?", list(DOCUMENTS.values())[::-1])
    reader(question=QUESTIONS, context=DOCUMENTS["Ana"], top_k=3)
    assert sorted(tokenized) == sorted(DOCUMENTS.values())


def test_a_calibrated_reader_says_how_sure_it_is(toy, tmp_path):
    """By hand from the logits, for spans and for "no answer". Breaks if one of the ways of asking leaves it out."""
    reader = Reader(calibrated(toy, tmp_path / "model"), windows=WindowConfig(**WINDOWS))
    question, context = QUESTIONS[0], DOCUMENTS["Ana"]
    answer = reader.answer(question, context)
    answerable = 1 / (1 + math.exp(2 * answer["null_odds"] + 1))
    spans = [entry for entry in answer["nbest"] if entry["text"]]
    weights = [math.exp(4 * (entry["start_logit"] + entry["end_logit"])) for entry in spans]
    same = [weight for entry, weight in zip(spans, weights) if words(entry) == words(spans[0])]
    assert spans[0]["confidence"] == pytest.approx(answerable * sum(same) / sum(weights), rel=1e-3)
    [empty] = [entry for entry in answer["nbest"] if not entry["text"]]
    assert empty["confidence"] == pytest.approx(1 - answerable)
    called = reader(question=question, context=context, max_answer_len=30, top_k=30, handle_impossible_answer=True)
    assert {"score", "start", "end", "answer", "confidence"} == called[0].keys()
    [found] = [result for result in called if result["answer"] == ""]
    assert found["confidence"] == pytest.approx(1 - answerable, abs=1e-6)
    ranked = reader.rank(question, DOCUMENTS)
    lowest = min(entry["null_odds"] for entry in reader.answer_all([(question, text) for text in DOCUMENTS.values()]))
    expected = 1 - Calibration(**CALIBRATION).answerable(lowest)
    assert ranked["no_answer_probability"] == pytest.approx(expected, abs=1e-5)
    assert all(0 < entry["confidence"] < 1 for entry in ranked["answers"])


def test_what_is_not_sure_enough_is_withheld_and_is_not_no_answer(toy, tmp_path):
    """Breaks if a withheld answer cannot be told from "", or if the text is given all the same."""
    folder = calibrated(toy, tmp_path / "model")
    free = Reader(folder, windows=WindowConfig(**WINDOWS))
    pairs = [(question, text) for question in QUESTIONS for text in DOCUMENTS.values()]
    answers = free.answer_all(pairs)
    limit = sorted(answer["confidence"] for answer in answers)[len(answers) // 2]
    strict = Reader(folder, windows=WindowConfig(**WINDOWS), min_confidence=limit)
    withheld = 0
    for answer, found in zip(answers, strict.answer_all(pairs)):
        sure = answer["confidence"] >= limit
        withheld += not sure
        place = (answer["text"], answer["start"], answer["end"]) if sure else (None, 0, 0)
        assert (found["text"], found["start"], found["end"]) == place
        assert found["confidence"] == answer["confidence"] and found["nbest"] == answer["nbest"]
    assert 10 < withheld < len(answers) - 10
    filled = [pair for pair in pairs if pair[1]]
    for result, found in zip(free(filled), strict(filled)):
        assert found["answer"] == (result["answer"] if result["confidence"] >= limit else None)
    for result, found in zip(free(filled, top_k=5), strict(filled, top_k=5)):
        assert found == [one for one in result if one["confidence"] >= limit]
    ranked = strict.rank(QUESTIONS[0], DOCUMENTS, top_k=100)["answers"]
    assert all(answer["confidence"] >= limit for answer in ranked)


def test_confidence_of_a_model_that_never_saw_an_unanswerable_question(toy, tmp_path):
    """Calibrated on SQuAD v1.1: spans have a confidence, and of "no answer" nothing is known."""
    reader = Reader(calibrated(toy, tmp_path / "model", temperature=1.0), windows=WindowConfig(**WINDOWS))
    answer = reader.answer(QUESTIONS[0], DOCUMENTS["Ana"])
    spans = [entry for entry in answer["nbest"] if entry["text"]]
    weights = [math.exp(entry["start_logit"] + entry["end_logit"]) for entry in spans]
    same = [weight for entry, weight in zip(spans, weights) if words(entry) == words(spans[0])]
    assert spans[0]["confidence"] == pytest.approx(sum(same) / sum(weights), rel=1e-3)
    assert [entry["confidence"] for entry in answer["nbest"] if not entry["text"]] == [0.0]


@pytest.mark.parametrize("value", [-0.1, 1.1, "0.5", float("nan")])
def test_a_confidence_that_is_no_probability_is_refused(toy, value):
    with pytest.raises(ValueError, match=r"min_confidence is .*; expected a number from 0 to 1"):
        Reader(toy.model, min_confidence=value)


def test_a_model_without_calibration_cannot_withhold(toy):
    with pytest.raises(ValueError, match=r"is not calibrated, .*; run scripts/calibrate\.py"):
        Reader(toy.model, min_confidence=0.5)
