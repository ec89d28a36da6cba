"""An ensemble over HTTP: windows of each member go through its own model, and the answers are those of its reader."""

from pathlib import Path

import pytest
from served import Served, served
from toy import context_about
from zoo import make

from qa_accel import Reader
from qa_accel.inference.confidence import Calibration

QUESTION, CONTEXT = "Where was Ana born?", context_about("Ana")
LONG = context_about("Tess") * 3


@pytest.fixture(scope="module")
def both(toy, tmp_path_factory) -> Reader:
    """WordPiece and byte-level pieces, so that the members' windows differ."""
    other: Path = make("roberta", tmp_path_factory.mktemp("roberta") / "model")
    reader = Reader([toy.model, other], device="cpu")
    reader.calibration = Calibration(2.0, 0.5, -0.25)
    return reader


@pytest.fixture(scope="module")
def server(both, reader):
    with served({"both": both, "one": reader}) as up:
        yield up


def same(found: list[dict], expected: list[dict]) -> bool:
    keys = ("answer", "start", "end")
    assert [[each[key] for key in keys] for each in found] == [[each[key] for key in keys] for each in expected]
    for one, other in zip(found, expected):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-5)
    return True


@pytest.mark.parametrize("context", [CONTEXT, LONG], ids=["a window", "several windows"])
@pytest.mark.parametrize("handle", [False, True])
def test_a_context_is_answered_as_by_the_reader(server: Served, both, context, handle):
    """Breaks if a member's windows are computed by another model, or the members' answers are not joined."""
    found = server.ask(question=QUESTION, context=context, top_k=4, handle_impossible_answer=handle)
    expected = both(
        QUESTION,
        context,
        top_k=4,
        handle_impossible_answer=handle,
        max_answer_len=both.spans.max_answer_length,
    )
    assert same(found["answers"], expected)
    windows = [len(member.prepare([(QUESTION, context)])) for member in both.members]
    assert found["windows"] == sum(windows) and found["model"] == "both"


def test_documents_are_ranked_as_by_the_reader_also_in_a_batch_with_another_model(server: Served, both):
    documents = [{"id": name, "text": context_about(name)} for name in ("Ana", "Ben", "Tess")]
    rows = [
        {"question": QUESTION, "documents": documents, "top_k": 3},
        {"question": QUESTION, "context": CONTEXT, "model": "one"},
    ]
    found, _ = server.client.post("/answer/batch", json={"requests": rows}).json()["results"]
    expected = both.rank(QUESTION, documents, top_k=3)
    assert same(found["answers"], [each | {"answer": each["text"]} for each in expected["answers"]])
    assert found["null_odds"] == pytest.approx(expected["null_odds"], abs=1e-5)


def test_an_ensemble_says_what_it_is(server: Served, both):
    [info, _] = server.client.get("/info").json()["models"]
    assert info["name"] == "both" and info["calibrated"]
    assert info["max_seq_length"] == max(member.windows.max_seq_length for member in both.members)
