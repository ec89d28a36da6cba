"""A request -> a job for each model of its reader; jobs whose windows are computed -> the response. What is computed is the reader's
own.

They run beside the thread that computes, in threads that only prepare and finish texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qa_accel.inference.call_settings import CallSettings
from qa_accel.inference.ranking import RankSettings, ranking
from qa_accel.inference.reader_inputs import check_text, documents_with_ids
from qa_accel.messages import listed, quoted
from qa_accel.serving.jobs import Job
from qa_accel.serving.refusal import Refusal
from qa_accel.serving.schemas import AnswerRequest
from qa_accel.serving.settings import LimitsConfig

if TYPE_CHECKING:
    from qa_accel.inference.answer_lists import Answers
    from qa_accel.inference.reader import Reader
    from qa_accel.inference.reader_backends import ReaderModel
    from qa_accel.inference.settings import SpanConfig

PASSAGE_SIZE = 240


def check_sizes(requests: list[AnswerRequest], limits: LimitsConfig) -> None:
    """Raises Refusal for more, or longer, texts than a request may have."""
    texts = [text for request in requests for text in _texts(request)]
    if len(texts) > limits.max_documents:
        raise Refusal(413, f"{len(texts)} texts in one request; expected at most {limits.max_documents}")
    longest = max(map(len, [*texts, *(request.question for request in requests)]), default=0)
    if longest > limits.max_document_characters:
        raise Refusal(
            413,
            f"a text has {longest:,} characters; expected at most {limits.max_document_characters:,}: send parts of it",
        )


def _texts(request: AnswerRequest) -> list[str]:
    if request.context is not None:
        return [request.context]
    return [document.text for document in request.documents or []]


def chosen_model(name: str | None, readers: Mapping[str, "Reader"]) -> str:
    """The model that a request names, or the first. Raises Refusal for one that is not here."""
    if name is None:
        return next(iter(readers))
    if name not in readers:
        raise Refusal(404, f"model: there is no {quoted(name)}; expected one of {listed(readers, most=50)}")
    return name


def jobs_of(request: AnswerRequest, name: str, reader: "Reader") -> list[Job]:
    """One for each member of the reader. Raises Refusal for what the model cannot do, and for texts that are none."""
    if request.min_confidence is not None and reader.calibration is None:
        raise Refusal(
            422,
            f"min_confidence: the model {name} is not calibrated, so nothing is known of its confidence: leave it out",
        )
    try:
        check_text(request.question, "the request", "question")
        if request.documents is not None:
            texts = documents_with_ids([(document.id, document.text) for document in request.documents])[1]
            for place, document in enumerate(request.documents):
                check_text(str(document.id), f"document {place}", "id")
        else:
            texts = _texts(request)
            check_text(texts[0], "the request", "context")
    except ValueError as error:
        raise Refusal(422, str(error)) from None
    pairs = [(request.question, text) for text in texts]
    return [
        Job(member, pairs, member.prepare(pairs) if pairs else None, _spans(request, reader, member))
        for member in reader.members
    ]


def response_of(request: AnswerRequest, name: str, reader: "Reader", jobs: Sequence[Job]) -> dict[str, Any]:
    """The response to a request whose jobs are done, in the form of `AnswerResponse`."""
    response: dict[str, Any] = {"model": name, "windows": sum(map(len, jobs))}
    if request.context is None:
        return response | _ranked(request, reader, jobs)
    [entries] = _answers(reader, jobs).nbest.values()
    answers = reader.results(request.context, entries, _call(request, reader))
    return response | {"answers": [answer for answer in answers if _is_sure(answer, request)]}


def _answers(reader: "Reader", jobs: Sequence[Job]) -> "Answers":
    """Of jobs that have texts."""
    parts = [(job.windows, job.found, job.spans) for job in jobs if job.windows is not None]
    return reader.finish(jobs[0].pairs, parts)


def _spans(request: AnswerRequest, reader: "Reader", member: "ReaderModel") -> "SpanConfig":
    """Answers may be as long as the model's own: its calibration is for these."""
    if request.context is None:
        return member.spans
    return replace(member.spans, n_best_size=_call(request, reader).spans(member.spans).n_best_size)


def _call(request: AnswerRequest, reader: "Reader") -> CallSettings:
    """The reader's call of the same arguments."""
    return CallSettings(
        top_k=request.top_k,
        doc_stride=None,
        max_answer_len=reader.spans.max_answer_length,
        max_seq_len=None,
        max_question_len=None,
        handle_impossible_answer=request.handle_impossible_answer,
        align_to_words=True,
        batch_size=reader.batch_size,
    )


def _ranked(request: AnswerRequest, reader: "Reader", jobs: Sequence[Job]) -> dict[str, Any]:
    """What `Reader.rank` gives, with `answer` for `text`; "no answer" comes first where the threshold says so."""
    documents = request.documents or []
    nbest, null_odds = [], []
    if documents:
        answers = _answers(reader, jobs)
        nbest, null_odds = list(answers.nbest.values()), list(answers.null_odds.values())
    found = ranking(
        [document.id for document in documents],
        [document.text for document in documents],
        [[entry for entry in entries if _is_sure(entry, request)] for entries in nbest],
        null_odds,
        RankSettings(request.top_k, None, False, False, PASSAGE_SIZE),
        reader.calibration,
    )
    keys = ("start", "end", "score", "confidence", "document", "passage", "passage_start")
    ranked = [
        {"answer": answer["text"], **{key: answer[key] for key in keys if key in answer}} for answer in found["answers"]
    ]
    threshold = reader.spans.null_score_diff_threshold or 0.0
    if request.handle_impossible_answer and documents and found["null_odds"] > threshold:
        none = {"answer": "", "start": 0, "end": 0, "score": found["no_answer_probability"], "document": None}
        if reader.calibration is not None:
            none["confidence"] = found["no_answer_probability"]
        if _is_sure(none, request):
            ranked = [none, *ranked][: request.top_k]
    return found | {"answers": ranked}


def _is_sure(entry: Mapping[str, Any], request: AnswerRequest) -> bool:
    return request.min_confidence is None or entry["confidence"] >= request.min_confidence
