"""Who may come in, with how much, for how long: limits, deadline, key and log, against clients that behave badly."""

import asyncio
import json
import logging
import socket
import threading
import time
from contextlib import suppress

import httpx
import pytest
from served import Held, Served, served, until
from speed import scaled
from toy import context_about

from qa_accel.serving import gate

QUESTION, CONTEXT = "Where was Ana born?", context_about("Ana")
BODY = {"question": QUESTION, "context": CONTEXT}
KEY = "0123456789abcdef-key"
JSON = {"content-type": "application/json"}


@pytest.fixture
def held(reader) -> Held:
    return Held(reader)


def raw(server: Served, *pieces: bytes, seconds: float = 20, then_wait: float = 0) -> bytes:
    """What comes back for these bytes."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=scaled(seconds)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        time.sleep(then_wait)
        found = b""
        while more := connection.recv(65536):
            found += more
        return found


def head(length: int | str, *further: str) -> bytes:
    lines = [
        "POST /answer HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        *further,
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


# --- bodies


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is not JSON: Expecting value at line 1, column 1"),
        (b'{"question": ', 400, "the body is not JSON: Expecting value"),
        (b'{"question": NaN}', 400, "NaN is no number of JSON"),
        (b'{"top_k": -Infinity}', 400, "-Infinity is no number of JSON"),
        (b"[" * 100_000, 400, "nested too deep"),
        (b"1" * 10_000, 400, "an integer has thousands of digits"),
        (b'{"question": "\xff"}', 400, "is not UTF-8"),
        (b"\x00\x01\x02", 400, "the body is not JSON"),
        (b"null", 422, ""),
    ],
)
def test_a_body_that_is_not_json_gets_400(plain: Served, body, status, message):
    found = plain.client.post("/answer", content=body, headers=JSON)
    assert (found.status_code, list(found.json())) == (status, ["error"]) and message in found.json()["error"]


@pytest.fixture(scope="module")
def plain(reader):
    with served({"toy": reader}, max_body_bytes=200_000, max_document_characters=5_000, max_queue_windows=40) as up:
        yield up


def test_who_does_not_read_the_answer_keeps_no_place(monkeypatch, plain: Served):
    """Breaks if a response waits for its client without an end: 256 such clients would fill the server, one would stop its stop."""
    monkeypatch.setattr(gate, "SEND_SECONDS", 0.05)

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def never(message):
        await asyncio.Event().wait()

    scope = {"type": "http", "path": "/health", "method": "GET", "headers": []}
    began = time.monotonic()
    asyncio.run(gate.Gate(application, plain.service)(scope, never, never))
    assert time.monotonic() - began < scaled(5) and plain.service.in_flight == 0


@pytest.mark.parametrize("path", ["/answer%0A", "/answer/batch%0A", "/answer/", "/Answer"])
def test_only_the_pages_that_exist_reach_the_router(plain: Served, path):
    """The router takes a line break at the end for /answer. Breaks if such a request goes past limits and deadline."""
    assert plain.client.post(path, json=BODY).status_code == 404


def test_another_content_type_gets_415(plain: Served):
    """A form of another site's page could be posted otherwise, without the browser's question first."""
    found = plain.client.post("/answer", content=json.dumps(BODY), headers={"content-type": "text/plain"})
    assert found.status_code == 415


def test_a_body_beyond_its_limit_gets_413_with_and_without_its_length(plain: Served):
    """Breaks if the limit trusts Content-Length, or if all of the body is kept first."""
    text = json.dumps(BODY | {"context": "x" * 300_000}).encode()
    with_length = plain.client.post("/answer", content=text, headers=JSON)
    pieces = (text[first : first + 1000] for first in range(0, len(text), 1000))
    without = plain.client.post("/answer", content=pieces, headers=JSON)
    for found in (with_length, without):
        assert (found.status_code, found.headers["connection"]) == (413, "close")
        assert found.json()["error"] == "the body is too large; expected at most 200,000 bytes"


def test_a_body_without_end_is_cut_off(plain: Served):
    """Breaks if the server reads, or keeps, what comes without end."""
    url = httpx.URL(plain.url)
    with socket.create_connection((url.host, url.port), timeout=scaled(20)) as connection:
        connection.sendall(head("9" * 18))
        sent = 0
        with suppress(OSError):  # the server hangs up
            while sent < 500_000_000:
                sent += connection.send(b" " * 65536)
    assert sent < 500_000_000


def test_a_long_text_gets_413(plain: Served):
    message = plain.refused(413, question=QUESTION, context="a " * 2_501)
    assert message == "a text has 5,002 characters; expected at most 5,000: send parts of it"
    assert "characters" in plain.refused(413, question="a " * 2_501, context=CONTEXT)


def test_more_windows_than_the_queue_holds_get_413(plain: Served):
    documents = [{"id": number, "text": f"{number} " + "rain " * 900} for number in range(3)]
    message = plain.refused(413, question=QUESTION, documents=documents)
    assert "windows; expected at most 20: send shorter or fewer texts" in message


def test_a_body_that_does_not_come_is_not_waited_for(reader, monkeypatch):
    """Breaks if a client that sends half of its body keeps a place."""
    monkeypatch.setattr("qa_accel.serving.gate.BODY_SECONDS", 0.2)
    with served({"toy": reader}, max_requests=1) as server:
        began = time.monotonic()
        found = raw(server, head(1000), b'{"question": "Wh')
        assert b"408 Request Timeout" in found.splitlines()[0] and time.monotonic() - began < scaled(5)
        until(lambda: server.service.in_flight == 0)
        assert server.ask(**BODY)["answers"]


def test_half_a_head_harms_nobody(plain: Served):
    url = httpx.URL(plain.url)
    open_ones = [socket.create_connection((url.host, url.port)) for _ in range(50)]
    for connection in open_ones:
        connection.sendall(b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Le")
    assert plain.ask(**BODY)["answers"]
    for connection in open_ones:
        connection.close()


def test_a_slow_client_is_answered(plain: Served):
    """Byte by byte, within the time for a body."""
    text = json.dumps(BODY).encode()
    found = raw(plain, head(len(text), "Connection: close"), *(text[at : at + 1] for at in range(len(text))))
    assert found.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("bad", [b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"])
def test_what_is_not_http_gets_400(plain: Served, bad):
    assert raw(plain, bad).startswith(b"HTTP/1.1 400")
    assert plain.ask(**BODY)["answers"]


def test_a_head_without_an_end_is_cut_off(plain: Served):
    """Breaks if it is collected. Whoever still sends when the connection is closed may see that before the response."""
    with suppress(ConnectionResetError, BrokenPipeError):
        assert raw(plain, b"POST /answer HTTP/1.1\r\nA" + b"a" * 100_000).startswith(b"HTTP/1.1 400")
    assert plain.ask(**BODY)["answers"]


def test_two_lengths_are_refused(plain: Served):
    """The way in which one request hides in another. h11 refuses it; breaks if another parser takes its place."""
    hidden = b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
    assert raw(plain, hidden + b"Content-Length: 50\r\n\r\n12345").startswith(b"HTTP/1.1 400")


# --- places and time


def test_a_full_house_gets_429_and_the_time_to_wait(held):
    with served({"toy": held}, max_requests=2) as server:
        held.holds = True
        threads = [threading.Thread(target=server.ask, kwargs=BODY) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: server.service.in_flight == 2)
        found = server.client.post("/answer", json=BODY)
        assert found.status_code == 429 and int(found.headers["retry-after"]) >= 1
        assert server.client.get("/ready").json() == {"status": "busy"}
        held.open.set()
        for thread in threads:
            thread.join(scaled(10))
        assert server.ask(**BODY)["answers"], "there is room again"


def test_a_full_queue_gets_429(held):
    with served({"toy": held}, max_queue_windows=10) as server:
        held.holds = True
        threads = [threading.Thread(target=server.ask, kwargs=BODY) for _ in range(9)]
        threads[0].start()
        until(lambda: held.began.acquire(blocking=False))
        for thread in threads[1:]:
            thread.start()
        until(lambda: server.service.worker.waiting_windows == 8)
        documents = [{"id": number, "text": "rain"} for number in range(3)]
        assert server.refused(429, question=QUESTION, documents=documents) == "8 windows wait already, try again later"
        held.open.set()
        for thread in threads:
            thread.join(scaled(10))


def test_what_would_wait_for_half_of_its_deadline_gets_429(held):
    """One window waits, and takes 60 s by the last batches. Breaks if it is accepted, to fail later with 504."""
    with served({"toy": held}, deadline_seconds=100) as server:
        held.holds = True
        threads = [threading.Thread(target=server.ask, kwargs=BODY) for _ in range(2)]
        threads[0].start()
        until(lambda: held.began.acquire(blocking=False))
        threads[1].start()
        until(lambda: server.service.worker.waiting_windows == 1)
        server.service.worker.seconds_per_token = 60.0 / reader_tokens(held)
        assert server.refused(429, **BODY) == "what waits takes 60 s, try again later"
        held.open.set()
        for thread in threads:
            thread.join(scaled(10))


def reader_tokens(reader) -> int:
    return int(reader.prepare([(QUESTION, CONTEXT)]).begin_W[-1])


def test_a_request_beyond_its_deadline_gets_504_and_leaves_the_queue(held):
    with served({"toy": held}, deadline_seconds=0.5) as server:
        held.holds = True
        first = threading.Thread(target=lambda: server.client.post("/answer", json=BODY))
        first.start()
        until(lambda: held.began.acquire(blocking=False))
        assert server.refused(504, **BODY) == "not answered within 0.5 s"
        assert server.service.worker.waiting_windows == 0
        until(lambda: server.client.get("/health").json() == {"status": "stuck"})
        held.open.set()
        first.join(scaled(10))
        until(lambda: server.client.get("/health").status_code == 200)
        held.holds = False
        assert server.ask(**BODY)["answers"] and held.passes == [1], "the second request was never computed"


def test_a_client_that_goes_takes_its_windows_along(held):
    with served({"toy": held}) as server:
        held.holds = True
        first = threading.Thread(target=server.ask, kwargs=BODY)
        first.start()
        until(lambda: held.began.acquire(blocking=False))
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/answer", json=BODY, timeout=0.3, trust_env=False)
        until(lambda: server.service.in_flight == 1 and server.service.worker.waiting_windows == 0)
        held.open.set()
        first.join(scaled(10))
        assert held.passes == [1]
        assert server.metric('qa_requests_total{endpoint="/answer",status="499"}') == 1


def test_a_failed_answer_is_its_own_requests_alone(reader, caplog):
    """Logits that are not finite, in one request: 500 without its text in the log."""
    with served({"toy": reader}) as server:
        finish, calls = reader.finish, []

        def fail_once(*arguments):
            calls.append(1)
            if len(calls) == 1:
                raise ValueError(f"scores are not finite in {CONTEXT}")
            return finish(*arguments)

        reader.finish = fail_once
        try:
            assert "internal error" in server.refused(500, **BODY)
            assert server.ask(**BODY)["answers"] and server.client.get("/health").status_code == 200
        finally:
            del reader.finish
    assert "/answer: ValueError" in caplog.text and "answering.py" in caplog.text and CONTEXT not in caplog.text


# --- the key


def test_without_the_key_only_the_pages_and_health_are_open(reader):
    with served({"toy": reader}, api_key=KEY) as server:
        for path in ("/health", "/ready", "/", "/docs", "/openapi.json"):
            assert server.client.get(path).status_code == 200, path
        wrong = [
            None,
            "",
            KEY,
            f"Basic {KEY}",
            f"Bearer {KEY}x",
            f"Bearer {KEY[:-1]}",
            "Bearer",
            f"Bearer {KEY.upper()}",
        ]
        for header in wrong:
            headers = {} if header is None else {"authorization": header}
            for path in ("/info", "/metrics", "/nothing"):
                assert server.client.get(path, headers=headers).status_code == 401, (path, header)
            found = server.client.post("/answer", json=BODY, headers=headers)
            assert found.status_code == 401 and found.headers["www-authenticate"] == "Bearer"
        right = {"authorization": f"Bearer {KEY}"}
        assert server.client.post("/answer", json=BODY, headers=right).status_code == 200
        assert server.client.get("/info", headers=right).status_code == 200
        assert KEY not in repr(server.service)


def test_a_key_is_compared_by_digests_of_one_length(reader, monkeypatch):
    """Breaks if a wrong key is found out sooner the earlier it differs, or by its length."""
    import hmac

    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or real(a, b))
    with served({"toy": reader}, api_key=KEY) as server:
        for given in ("a", KEY, "b" * 5000):
            server.client.get("/info", headers={"authorization": f"Bearer {given}"})
    assert compared == [(32, 32)] * 3


# --- the log


@pytest.mark.parametrize("asked_for", [False, True])
def test_texts_are_logged_only_if_that_is_asked_for(reader, caplog, asked_for):
    secret = "Ana was born in Bern\r\nINFO forged line \x1b[31m"
    with served({"toy": reader}, api_key=KEY, log_requests=asked_for) as server, caplog.at_level(logging.DEBUG):
        caplog.clear()
        headers = {"authorization": f"Bearer {KEY}"}
        server.client.post("/answer", json={"question": "Where?", "context": secret}, headers=headers)
        server.client.post("/answer", json={"question": "Where?", "context": secret, "model": secret}, headers=headers)
        server.client.get(f"/{'x' * 100}%0d%0aforged", headers=headers)
        server.client.post("/answer", content=secret.encode(), headers=headers | JSON)
    own = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore", "asyncio"))]
    text = "\n".join(record.getMessage() for record in own)
    assert ("Ana was born" in text) is asked_for and KEY not in text
    assert "\x1b" not in text and "\nINFO forged" not in text, "a text cannot look like a line of the log"
    if asked_for:
        lines = [json.loads(record.getMessage()) for record in own if record.name.endswith(".requests")]
        assert [line["status"] for line in lines][:1] == [200]
        assert json.loads(lines[0]["body"])["context"] == secret


def test_unknown_pages_and_methods_get_json(plain: Served):
    for path in ("/nothing", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/static/x", "/answer/"):
        found = plain.client.get(path, follow_redirects=False)
        assert found.status_code in (404, 405, 307) and "root:" not in found.text, path
    assert plain.client.get("/answer").json() == {"error": "this method is not for this page; see /docs"}
    assert plain.client.get("/answer").status_code == 405
    assert plain.metric('qa_requests_total{endpoint="other",status="404"}') >= 3, "no label is made of a foreign path"


def test_every_response_has_the_headers_of_safety(plain: Served):
    for found in (plain.client.get("/"), plain.client.get("/nothing"), plain.client.post("/answer", json=BODY)):
        assert found.headers["x-content-type-options"] == "nosniff" and found.headers["cache-control"] == "no-store"
        assert "server" not in found.headers and "access-control-allow-origin" not in found.headers
