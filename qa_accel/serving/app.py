"""A service -> its ASGI application: endpoints, their documentation, and messages for bodies that do not fit."""

import difflib
import importlib.metadata
import platform
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

import qa_accel
from qa_accel.messages import quoted
from qa_accel.serving import pages
from qa_accel.serving.gate import INTERNAL, Gate
from qa_accel.serving.refusal import Refusal, encoded
from qa_accel.serving.schemas import (
    AnswerRequest,
    AnswerResponse,
    BatchRequest,
    BatchResponse,
    Error,
    Info,
    State,
)
from qa_accel.serving.service import Service

KEY = {401: "the server has a key and this request has not"}
BUSY = {
    503: "the models are loaded, the server is stopped, or its worker has ended",
    504: "not answered within the deadline; what was left of it is not computed",
}
NOT_TAKEN = {
    **KEY,
    400: "the body is not JSON",
    404: "no model of this name",
    408: "the body did not come in time",
    413: "the body, a text or all of them are too large",
    415: "the body is not application/json",
    422: "a field is missing, unknown or wrong",
    429: "too many requests wait; Retry-After says how many seconds to wait",
    **BUSY,
}
PACKAGES = ("torch", "onnxruntime", "transformers", "tokenizers", "numpy", "fastapi", "uvicorn")


def make_app(service: Service) -> Gate:
    app = FastAPI(
        title="qa-accel",
        version=qa_accel.__version__,
        description="Extractive question answering: the answer is a piece of the text, or there is none.",
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
    )
    _add_answers(app, service)
    _add_state(app, service)
    _add_pages(app)
    _add_messages(app)
    return Gate(app, service)


def _errors(statuses: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Error, "description": text} for status, text in statuses.items()}


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encoded(content), status, headers, "application/json")


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/answer", response_model=AnswerResponse, responses=_errors(NOT_TAKEN))
    async def answer(body: AnswerRequest) -> Response:
        """The best answers to a question, out of a context or of several documents."""
        [response] = await service.answers([body])
        return _json(response)

    @app.post("/answer/batch", response_model=BatchResponse, responses=_errors(NOT_TAKEN))
    async def answer_batch(body: BatchRequest) -> Response:
        """Several questions at once; one that cannot be answered refuses all."""
        return _json({"results": await service.answers(body.requests)})


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health", response_model=State, responses={503: {"model": State, "description": "it does not work"}})
    async def health() -> Response:
        """Whether the models are loaded and the worker computes. If not for long, start the server again."""
        return _json({"status": service.state}, 200 if service.state == "ok" else 503)

    @app.get("/ready", response_model=State, responses={503: {"model": State, "description": "not at this moment"}})
    async def ready() -> Response:
        """Whether it takes a request at this moment."""
        state = service.state
        if state == "ok" and service.stopping:
            state = "stopping"
        elif state == "ok" and service.in_flight >= service.limits.max_requests:
            state = "busy"
        return _json({"status": state}, 200 if state == "ok" else 503)

    @app.get("/metrics", response_class=Response, responses=_errors(KEY))
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/info", response_model=Info, responses=_errors({**KEY, 503: "the models are being loaded"}))
    async def info() -> Response:
        """Models, limits and versions."""
        if not service.worker.ready:
            raise Refusal(503, "the models are being loaded", 1)
        models = [
            {
                "name": name,
                "max_seq_length": reader.windows.max_seq_length,
                "max_answer_length": reader.spans.max_answer_length,
                "null_score_diff_threshold": _finite(reader.spans.null_score_diff_threshold or 0.0),
                "calibrated": reader.calibration is not None,
                "device": str(reader.device),
            }
            for name, reader in service.worker.readers.items()
        ]
        return _json({"models": models, "limits": asdict(service.limits), "versions": _versions()})


def _finite(number: float) -> float:
    """JSON knows no infinity."""
    return max(-1e308, min(1e308, number))


def _versions() -> dict[str, str]:
    found = {"qa-accel": qa_accel.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return pages.response(pages.page())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return pages.response(pages.reference(app.openapi()))


def _add_messages(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return _json({"error": refusal.message}, refusal.status, refusal.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _json({"error": _what_is_wrong(error.errors()[0])}, 422)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        """The gate gets the exception itself, and logs its place."""
        return _json({"error": INTERNAL}, 500)

    @app.exception_handler(HTTPException)
    async def wrong_place(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 404:
            return _json({"error": "there is no such page; /docs lists what there is"}, 404, headers)
        if error.status_code == 405:
            return _json({"error": "this method is not for this page; see /docs"}, 405, headers)
        return _json({"error": error.detail}, error.status_code, headers)


def _what_is_wrong(found: Any) -> str:
    """One of pydantic's findings as `field: message`, without the value."""
    place = ""
    for part in found["loc"][1:]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    if found["type"] == "extra_forbidden":
        name = str(found["loc"][-1])
        near = difflib.get_close_matches(name[:40], AnswerRequest.model_fields, n=1)
        return f"unknown field {quoted(name)}" + (f"; did you mean {near[0]}?" if near else "; /docs lists the fields")
    message = found["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
