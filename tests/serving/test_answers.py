"""Answers over HTTP are those of the reader itself, in every form of a request."""

import json

import pytest
from served import Served, served
from toy import NAMES, context_about

from qa_accel import Reader
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.confidence import Calibration

QUESTION, CONTEXT = "Where was Ana born?", context_about("Ana")
LONG = context_about("Tess") * 3
DOCUMENTS = [{"id": name, "text": context_about(name)} for name in NAMES[:5]] + [{"id": 7, "text": ""}]


@pytest.fixture(scope="module")
def calibrated(toy, tmp_path_factory) -> Reader:
    reader = Reader(toy.without_dropout, device="cpu")
    reader.calibration = Calibration(2.0, 0.5, -0.25)
    assert AnswerPolicy(0.0).with_calibration(reader.calibration).temperature == 2.0
    return reader


@pytest.fixture(scope="module")
def server(reader, calibrated):
    with served({"toy": reader, "sure": calibrated}, max_documents=8) as up:
        yield up


def close(found: dict, expected: dict) -> bool:
    """The same texts and places; numbers to 1e-5, since a batch's other windows move the last bits of logits."""
    assert {key: value for key, value in found.items() if not isinstance(value, float)} == {
        key: value for key, value in expected.items() if not isinstance(value, float)
    }
    numbers = {key: value for key, value in expected.items() if isinstance(value, float)}
    assert {key: found[key] for key in numbers} == pytest.approx(numbers, abs=1e-5)
    return True


def direct(reader: Reader, question: str, context: str, **arguments) -> list[dict]:
    found = reader(question=question, context=context, max_answer_len=reader.spans.max_answer_length, **arguments)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("context", [CONTEXT, LONG], ids=["a window", "several windows"])
@pytest.mark.parametrize("top_k", [1, 5])
@pytest.mark.parametrize("handle", [False, True])
def test_a_context_is_answered_as_by_the_reader(server: Served, reader, context, top_k, handle):
    found = server.ask(question=QUESTION, context=context, top_k=top_k, handle_impossible_answer=handle)
    expected = direct(reader, QUESTION, context, top_k=top_k, handle_impossible_answer=handle)
    assert (found["model"], found["windows"]) == ("toy", len(reader.members[0].prepare([(QUESTION, context)])))
    assert len(found["answers"]) == len(expected) and all(map(close, found["answers"], expected))
    for answer in found["answers"]:
        assert context[answer["start"] : answer["end"]] == answer["answer"]


def test_documents_are_ranked_as_by_the_reader(server: Served, reader):
    found = server.ask(question=QUESTION, documents=DOCUMENTS, top_k=4)
    expected = reader.rank(QUESTION, DOCUMENTS, top_k=4)
    assert len(found["answers"]) == 4
    for answer, direct in zip(found["answers"], expected["answers"], strict=True):
        assert answer["answer"] == direct["text"]
        assert close(answer, {key: direct[key] for key in answer if key != "answer"} | {"answer": direct["text"]})
        text = next(each["text"] for each in DOCUMENTS if each["id"] == answer["document"])
        assert text[answer["start"] : answer["end"]] == answer["answer"]
    for key in ("null_odds", "no_answer_probability"):
        assert found[key] == pytest.approx(expected[key], abs=1e-5)


def test_where_no_document_has_the_answer_none_comes_first(server: Served, reader, monkeypatch):
    """By the threshold that the reader has. Breaks if documents never give "no answer"."""
    odds = server.ask(question=QUESTION, documents=DOCUMENTS)["null_odds"]
    for threshold, none_first in ((odds - 0.01, True), (odds + 0.01, False)):
        monkeypatch.setattr(reader, "spans", type(reader.spans)(null_score_diff_threshold=threshold))
        found = server.ask(question=QUESTION, documents=DOCUMENTS, top_k=2, handle_impossible_answer=True)
        assert (found["answers"][0]["answer"] == "") is none_first and len(found["answers"]) == 2


def test_no_documents_have_no_answer(server: Served):
    found = server.ask(question=QUESTION, documents=[], handle_impossible_answer=True)
    assert (found["answers"], found["no_answer_probability"], found["windows"]) == ([], 1.0, 0)


def test_a_calibrated_model_withholds_what_is_not_sure_enough(server: Served, calibrated):
    everything = server.ask(question=QUESTION, context=CONTEXT, top_k=5, model="sure")["answers"]
    assert all(map(close, everything, direct(calibrated, QUESTION, CONTEXT, top_k=5)))
    least = sorted(answer["confidence"] for answer in everything)[2]
    assert everything[0]["confidence"] > everything[-1]["confidence"], "they differ, or nothing could be withheld"
    kept = server.ask(question=QUESTION, context=CONTEXT, top_k=5, model="sure", min_confidence=least)["answers"]
    assert [answer["answer"] for answer in kept] == [
        answer["answer"] for answer in everything if answer["confidence"] >= least
    ]
    assert server.ask(question=QUESTION, context=CONTEXT, model="sure", min_confidence=1.0)["answers"] == []
    assert "sure" in server.ask(question=QUESTION, documents=DOCUMENTS, model="sure", min_confidence=0.0)["model"]


def test_a_batch_is_answered_row_by_row(server: Served, reader, calibrated):
    rows = [
        {"question": f"Where was {name} born?", "context": context_about(name), "top_k": 1 + number % 3}
        for number, name in enumerate(NAMES[:6])
    ]
    rows[1]["model"] = "sure"
    found = server.client.post("/answer/batch", json={"requests": rows}).json()["results"]
    for row, result in zip(rows, found, strict=True):
        own = calibrated if row.get("model") else reader
        expected = direct(own, row["question"], row["context"], top_k=row["top_k"])
        assert len(result["answers"]) == len(expected) and all(map(close, result["answers"], expected))


def test_characters_beyond_the_first_plane_are_one_character(server: Served):
    """Breaks if places count UTF-16 or bytes."""
    text = "🌳🌳 é " + CONTEXT
    for answer in server.ask(question=QUESTION, context=text, top_k=5)["answers"]:
        assert text[answer["start"] : answer["end"]] == answer["answer"]


def test_a_whole_number_may_be_written_with_a_point(server: Served):
    """JSON has one kind of number. Breaks for programs that write 2 as 2.0."""
    content = '{"question": "Where?", "documents": [{"id": 5.0, "text": "Ana was born in Bern."}], "top_k": 2.0}'
    found = server.client.post("/answer", content=content, headers={"content-type": "application/json"}).json()
    assert [answer["document"] for answer in found["answers"]] == [5, 5]


WRONG = {
    "no question": ({"context": CONTEXT}, 422, "question: Field required"),
    "an empty question": ({"question": "", "context": CONTEXT}, 422, "question: String should have at least 1"),
    "an empty context": ({"question": "q", "context": ""}, 422, "context: String should have at least 1"),
    "neither": ({"question": "q"}, 422, "expected either context or documents"),
    "both": ({"question": "q", "context": "c", "documents": []}, 422, "expected either context or documents"),
    "a number": ({"question": 3, "context": CONTEXT}, 422, "question: Input should be a valid string"),
    "null": ({"question": None, "context": CONTEXT}, 422, "question: Input should be a valid string"),
    "a list": ([1], 422, "Input should be a valid dictionary"),
    "text for a number": ({"question": "q", "context": "c", "top_k": "3"}, 422, "top_k: Input should be a valid int"),
    "half of an answer": ({"question": "q", "context": "c", "top_k": 2.5}, 422, "top_k: Input should be a valid int"),
    "true for a number": ({"question": "q", "context": "c", "top_k": True}, 422, "top_k: Input should be a valid int"),
    "no answers": ({"question": "q", "context": "c", "top_k": 0}, 422, "top_k: Input should be greater"),
    "too many answers": ({"question": "q", "context": "c", "top_k": 10**9}, 422, "top_k: Input should be less"),
    "a confidence above 1": ({"question": "q", "context": "c", "min_confidence": 1.5}, 422, "min_confidence: Input"),
    "no calibration": (
        {"question": "q", "context": "c", "min_confidence": 0.5},
        422,
        "the model toy is not calibrated",
    ),
    "an unknown field": (
        {"question": "q", "context": "c", "topk": 3},
        422,
        "unknown field 'topk'; did you mean top_k?",
    ),
    "many fields": ({str(n): n for n in range(100_000)}, 422, "100000 fields"),
    "another model": (
        {"question": "q", "context": "c", "model": "../x"},
        404,
        "there is no '../x'; expected one of toy",
    ),
    "an id twice": ({"question": "q", "documents": [{"id": 1, "text": "a"}] * 2}, 422, "two documents have the id"),
    "a text without id": ({"question": "q", "documents": [{"text": "a"}]}, 422, "documents[0].id"),
    "half of a character": ({"question": "q", "context": "a\ud800"}, 422, "context: Input should be a valid string"),
    "half of one in an id": ({"question": "q", "documents": [{"id": "\udfff", "text": "a"}]}, 422, "of the id is half"),
    "too many texts": (
        {"question": "q", "documents": [{"id": n, "text": "a"} for n in range(9)]},
        413,
        "9 texts in one request; expected at most 8",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_gets_one_plain_message(server: Served, case):
    body, status, message = WRONG[case]
    found = server.client.post("/answer", content=json.dumps(body), headers={"content-type": "application/json"})
    assert found.status_code == status, found.text
    assert list(found.json()) == ["error"] and message in found.json()["error"]
    assert len(found.content) < 400


def test_a_wrong_row_of_a_batch_is_named(server: Served):
    rows = [{"question": "q", "context": "c"}, {"question": "q", "context": "c", "min_confidence": 0.5}]
    found = server.client.post("/answer/batch", json={"requests": rows})
    assert found.status_code == 422 and found.json()["error"].startswith("requests[1]: min_confidence: the model toy")
    rows[1] = {"question": "q"}
    found = server.client.post("/answer/batch", json={"requests": rows})
    assert found.status_code == 422 and found.json()["error"] == "requests[1]: expected either context or documents"
    assert server.client.post("/answer/batch", json={"requests": []}).status_code == 422


def test_info_names_models_limits_and_versions(server: Served):
    found = server.client.get("/info").json()
    assert [(model["name"], model["calibrated"]) for model in found["models"]] == [("toy", False), ("sure", True)]
    assert found["limits"]["max_documents"] == 8
    assert {"qa-accel", "python", "torch", "transformers"} <= found["versions"].keys()


def test_metrics_count_batches_and_the_share_without_answer(reader):
    with served({"toy": reader}) as server:
        asked = [server.ask(question=QUESTION, context=CONTEXT) for _ in range(3)]
        assert all(found["answers"][0]["answer"] for found in asked)
        server.ask(question=QUESTION, documents=[])
        server.refused(422, question=QUESTION)
        text = server.client.get("/metrics").text
        assert server.metric('qa_requests_total{endpoint="/answer",status="200"}') == 4
        assert server.metric('qa_requests_total{endpoint="/answer",status="422"}') == 1
        assert server.metric('qa_questions_total{model="toy"}') == 4
        assert server.metric('qa_questions_without_answer_total{model="toy"}') == 1
        assert server.metric("qa_batch_windows_sum") == 3
        assert server.metric("qa_batch_tokens_sum") == 3 * reader.members[0].prepare([(QUESTION, CONTEXT)]).begin_W[-1]
        assert 'qa_request_seconds_bucket{endpoint="/answer",le="0.1"}' in text and "qa_queue_windows 0.0" in text


def test_the_documentation_is_complete_and_its_examples_are_answered(server: Served):
    """Breaks if an endpoint has no description, or an example would be refused."""
    schema = server.client.get("/openapi.json").json()
    assert schema["paths"].keys() == {"/answer", "/answer/batch", "/health", "/ready", "/metrics", "/info"}
    for methods in schema["paths"].values():
        assert all(operation["description"] for operation in methods.values())
    components = schema["components"]["schemas"]
    for path, name in (("/answer", "AnswerRequest"), ("/answer/batch", "BatchRequest")):
        examples = components[name]["examples"]
        assert examples
        for example in examples:
            assert server.client.post(path, json=example).status_code == 200
    page = server.client.get("/docs")
    assert page.status_code == 200 and "handle_impossible_answer" in page.text and "Francisco Pizarro" in page.text
    assert "http" not in page.text.replace("text/html", ""), "it loads nothing from anywhere"
