"""The outermost ASGI application: who may come in, with how much, for how long. Every request of the server goes through it.

It reads a body itself, within its limits, before anything looks into it; runs the application under the request's deadline
and ends it when the client goes away; turns what goes wrong into JSON; and counts. No text of a request is logged unless that is
asked for, nor is a message of an exception, which may quote one.
"""

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from qa_accel.input_files import limit_of
from qa_accel.serving.refusal import Refusal, encoded
from qa_accel.serving.service import Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)
requests_log = logging.getLogger("qa_accel.serving.requests")

WITH_BODY = ("/answer", "/answer/batch")
OPEN = ("/", "/docs", "/health", "/openapi.json", "/ready")
"""What needs no key: nothing of the models, nothing of other requests."""
ENDPOINTS = (*WITH_BODY, *OPEN, "/info", "/metrics")
BODY_SECONDS = 10.0
"""Within which a body must be whole; a slow client does not keep a place longer."""
DRAINED_BYTES, DRAINED_SECONDS = 20_000_000, 1.0
"""Of a body that is refused, read and dropped before the answer: who still sends would not see it, but a reset connection."""
SEND_SECONDS = 10.0
"""Within which a client must take what it is sent; who does not read would else keep its place for ever."""
CLIENT_GONE = 499
"""Counted, never sent."""
INTERNAL = "internal error; the server's log has its place"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Gate:
    def __init__(self, app: App, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        endpoint = scope["path"] if scope["path"] in ENDPOINTS else "other"
        response = _Response(send)
        try:
            await self._answer(scope, receive, response, endpoint)
        except Refusal as refusal:
            await response.refuse(refusal)
        except Exception as error:
            _log_failure(endpoint, error)
            await response.refuse(Refusal(500, INTERNAL))
        finally:
            self.service.metrics.request(endpoint, response.status, time.perf_counter() - began)

    async def _answer(self, scope: Any, receive: Receive, response: "_Response", endpoint: str) -> None:
        headers = dict(scope["headers"])
        has_body = endpoint in WITH_BODY and scope["method"] == "POST"
        deadline = time.monotonic() + self.service.limits.deadline_seconds
        try:
            if endpoint not in OPEN and not self.service.is_allowed(_text(headers.get(b"authorization"))):
                raise Refusal(401, "expected the server's key: Authorization: Bearer KEY", close=has_body)
            if (
                endpoint == "other"
            ):  # nothing else reaches the router, which takes some paths for those above: /answer%0A
                raise Refusal(404, "there is no such page; /docs lists what there is")
            if has_body:
                self.service.accept()
        except Refusal:
            if has_body:
                await _drain(receive)
            raise
        if not has_body:
            await self.app(scope, receive, response.send)
            return
        try:
            body = await self._body(headers, receive)
            _check_json(body)
            await self._run(scope, body, receive, response, deadline)
        finally:
            self.service.in_flight -= 1
        if self.service.log_requests:
            line = {"path": endpoint, "status": response.status, "body": body.decode("utf-8", "replace")}
            requests_log.info("%s", encoded(line).decode())

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """All of the body. Raises Refusal for another type, for too much, whatever the headers say, and too late."""
        most = self.service.limits.max_body_bytes
        kind = (_text(headers.get(b"content-type")) or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            await _drain(receive)
            raise Refusal(415, "content-type: expected application/json", close=True)
        length = _text(headers.get(b"content-length")) or ""
        too_much = Refusal(413, f"the body is too large; expected at most {most:,} bytes", close=True)
        if length.isdecimal() and int(length[:20]) > most:
            await _drain(receive)
            raise too_much
        body = bytearray()
        end = time.monotonic() + min(BODY_SECONDS, self.service.limits.deadline_seconds)
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), end - time.monotonic())
            except asyncio.TimeoutError:
                raise Refusal(408, "the body did not come in time", close=True) from None
            if message["type"] == "http.disconnect":
                raise Refusal(CLIENT_GONE, "the client went away")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most:
                if more:
                    await _drain(receive)
                raise too_much
        return bytes(body)

    async def _run(self, scope: Any, body: bytes, receive: Receive, response: "_Response", deadline: float) -> None:
        """The application, until it has answered, the client is gone, or it is too late."""
        given = [{"type": "http.request", "body": body, "more_body": False}]
        forever = asyncio.Event()

        async def receive_body() -> Message:
            if not given:
                await forever.wait()
            return given.pop()

        app = asyncio.ensure_future(self.app(scope, receive_body, response.send))
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            left = max(0.0, deadline - time.monotonic())
            await asyncio.wait({app, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if app.done() or response.started:
                await app
            elif gone.done():
                raise Refusal(CLIENT_GONE, "the client went away")
            else:
                raise Refusal(504, f"not answered within {self.service.limits.deadline_seconds:g} s", retry_after=1)
        finally:
            gone.cancel()
            if not app.done():
                app.cancel()  # its jobs leave the queue
                await asyncio.wait({app})


class _Response:
    """What goes out, with the headers that every response has."""

    def __init__(self, send: Send):
        self._send = send
        self.started = False
        self.status = CLIENT_GONE

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            own = {name for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in HEADERS if pair[0] not in own)]
        await asyncio.wait_for(self._send(message), SEND_SECONDS)

    async def refuse(self, refusal: Refusal) -> None:
        if refusal.status == CLIENT_GONE or self.started:
            return
        content = encoded({"error": refusal.message})
        headers = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": content, "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drain(receive: Receive) -> None:
    """Drop what comes, for a moment."""
    left, end = DRAINED_BYTES, time.monotonic() + DRAINED_SECONDS
    while left > 0 and (seconds := end - time.monotonic()) > 0:
        try:
            message = await asyncio.wait_for(receive(), seconds)
        except asyncio.TimeoutError:
            return
        if not message.get("more_body", False):
            return
        left -= len(message["body"])


def _check_json(body: bytes) -> None:
    """Raises Refusal for what is not JSON; Python's own reader takes NaN and Infinity, which are none."""
    try:
        json.loads(body, parse_constant=_refuse_constant)
    except (RecursionError, ValueError) as error:
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
        elif isinstance(error, UnicodeDecodeError):
            reason = f"byte {error.start} is not UTF-8"
        elif isinstance(error, _Constant):
            reason = f"{error} is no number of JSON"
        else:
            reason = limit_of(error)
        raise Refusal(400, f"the body is not JSON: {reason}") from None


class _Constant(ValueError):
    pass


def _refuse_constant(name: str) -> None:
    raise _Constant(name)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _log_failure(endpoint: str, error: Exception) -> None:
    """Type and place of an error, without its message."""
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", endpoint, type(error).__name__, places.rstrip())
