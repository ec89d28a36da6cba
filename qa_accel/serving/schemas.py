"""Bodies of requests and responses: what is checked before a text is read, and what /docs shows."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_ANSWERS = 100
"""Of `top_k`: each further one costs time in every window."""

CONTEXT_EXAMPLE = {
    "question": "What is the capital of Peru?",
    "context": "Lima is the capital of Peru. Peru is in South America.",
    "top_k": 2,
    "handle_impossible_answer": True,
}
DOCUMENTS_EXAMPLE = {
    "question": "When was Lima founded?",
    "documents": [
        {"id": "peru", "text": "Lima is the capital of Peru. It was founded in 1535 by Francisco Pizarro."},
        {"id": "chile", "text": "Santiago is the capital of Chile. It was founded in 1541."},
    ],
}


MOST_FIELDS = 20
"""Of one object: every further one would be a finding of its own, and a body has room for hundreds of thousands."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _not_too_many(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > MOST_FIELDS:
            raise ValueError(f"{len(given)} fields; /docs lists those that there are")
        return given


class Document(_Body):
    id: str | int = Field(description="comes back with each answer; the ids of a request differ")
    text: str


class AnswerRequest(_Body):
    """A question, and either `context` or `documents`."""

    model_config = ConfigDict(json_schema_extra={"examples": [CONTEXT_EXAMPLE, DOCUMENTS_EXAMPLE]})

    question: str = Field(min_length=1)
    context: str | None = Field(None, min_length=1, description="the text that holds the answer, of any length")
    documents: list[Document] | None = Field(
        None, fail_fast=True, description="texts that may hold it, ranked together"
    )
    top_k: int = Field(1, ge=1, le=MOST_ANSWERS, description="answers, best first, at most")
    handle_impossible_answer: bool = Field(
        False, description='whether "no answer" may be the answer, as "", by the threshold of the model'
    )
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="answers that are less sure are left out; the model must be calibrated"
    )
    model: str | None = Field(None, description="name of a model; the first one if not given")

    @model_validator(mode="after")
    def _one_source(self) -> "AnswerRequest":
        if (self.context is None) == (self.documents is None):
            raise ValueError("expected either context or documents")
        return self


class BatchRequest(_Body):
    """Several questions, answered in this order, all or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [CONTEXT_EXAMPLE, DOCUMENTS_EXAMPLE]}]})

    requests: list[AnswerRequest] = Field(min_length=1, fail_fast=True)


class Answer(BaseModel):
    answer: str = Field(description='a piece of the text; "" for "no answer"')
    start: int = Field(description="its first character in the text, counted in Unicode characters")
    end: int = Field(description="the character after its last one; 0 and 0 for no answer")
    score: float = Field(description="probability of its start times that of its end in its window")
    confidence: float | None = Field(
        None, description="probability that it is right; only of a calibrated model, with documents within its own"
    )
    document: str | int | None = Field(None, description="id of the document; only with documents")
    passage: str | None = Field(None, description="the text around it, at most 240 characters; only with documents")
    passage_start: int | None = Field(None, description="the passage's first character in the document")


class AnswerResponse(BaseModel):
    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "model": "squad",
                    "answers": [{"answer": "Lima", "start": 0, "end": 4, "score": 0.97}],
                    "windows": 1,
                }
            ]
        },
    )

    model: str
    answers: list[Answer] = Field(
        description="best first; none where no answer is sure enough, or there is no document"
    )
    windows: int = Field(description="pieces that the texts were computed in")
    no_answer_probability: float | None = Field(
        None, description="that none of the documents holds an answer; only with documents"
    )
    null_odds: float | None = Field(
        None, description='score of "no answer" less that of the best span, lowest of the documents; only with them'
    )


class BatchResponse(BaseModel):
    results: list[AnswerResponse]


class Error(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "top_k: Input should be at least 1"}]})

    error: str = Field(description="what is wrong, what was found, what is expected")


class State(BaseModel):
    status: str = Field(description="ok, loading, stopping, stuck, busy or dead")


class ModelInfo(BaseModel):
    name: str
    max_seq_length: int
    max_answer_length: int
    null_score_diff_threshold: float
    calibrated: bool
    device: str


class Info(BaseModel):
    models: list[ModelInfo] = Field(description="the first one answers where a request names none")
    limits: dict[str, Any]
    versions: dict[str, str]
