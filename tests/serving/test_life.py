"""A server's life: loading, ready, full, its worker's death, a stop in the middle of work."""

import asyncio
import ctypes
import threading
import time

import httpx
from load import ask_all, direct_answers, questions, same
from served import Held, Served, served, until
from speed import scaled
from toy import context_about

BODY = {"question": "Where was Ana born?", "context": context_about("Ana")}


class KilledFromOutside(SystemExit):
    pass


def kill_worker(server: Served) -> None:
    """End the thread as no code of its own could: Python raises this in it at its next instruction."""
    number = server.service.worker._thread.ident
    assert number is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(number), ctypes.py_object(KilledFromOutside)) == 1


def test_health_is_503_until_the_models_are_loaded_and_warm(reader):
    may_load, warmed = threading.Event(), []

    class Watched(Held):
        def candidates(self, made, spans, batch_size):
            warmed.append(len(made))
            return self._reader.candidates(made, spans, batch_size)

    def load():
        assert may_load.wait(scaled(30))
        return {"toy": Watched(reader)}

    with served(load) as server:
        until(lambda: reached(server))
        for path in ("/health", "/ready", "/info"):
            assert server.client.get(path).status_code == 503, path
        assert server.client.get("/health").json() == {"status": "loading"}
        assert server.refused(503, **BODY) == "the models are being loaded"
        may_load.set()
        until(lambda: server.client.get("/health").status_code == 200)
        assert warmed == [1, 8], "one window, then a full batch"
        assert server.ask(**BODY)["answers"]


def reached(server: Served) -> bool:
    try:
        return server.client.get("/health").status_code > 0
    except httpx.ConnectError:
        return False


def test_a_model_that_cannot_be_loaded_is_the_commands_error(tmp_path):
    errors = []

    def load():
        raise ValueError("no model")

    excepthook = threading.excepthook
    threading.excepthook = lambda found: errors.append(found.exc_value)
    try:
        with served(load) as server:
            server.thread.join(scaled(10))
    finally:
        threading.excepthook = excepthook
    assert [str(error) for error in errors] == ["no model"]


def test_a_worker_that_ends_fails_what_it_had_accepted_and_ends_the_process(reader):
    """Killed while a batch is computed and others wait. Breaks if a client waits for what will never come, or if health
    says for more than a second that all is well."""
    held = Held(reader)
    with served({"toy": held}) as server:
        held.holds = True
        found: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: found.append(server.client.post("/answer", json=BODY))) for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        until(lambda: server.service.in_flight == 5 and held.began.acquire(blocking=False))
        kill_worker(server)
        held.open.set()  # the forward pass comes back to Python, and ends there
        killed = time.monotonic()
        until(lambda: health(server) != 200)
        assert time.monotonic() - killed < scaled(1)
        for thread in threads:
            thread.join(scaled(5))
        assert [response.status_code for response in found] == [503] * 5
        assert found[0].json() == {"error": "the worker has ended"}
        server.thread.join(scaled(5))
        assert server.code == [1]


def test_an_error_in_a_forward_pass_ends_the_process(reader, capfd):
    """The GPU is gone, memory is full: nothing after it can be trusted. Breaks if the reason is not shown."""

    class Broken(Held):
        def candidates(self, made, spans, batch_size):
            if self.holds:
                raise RuntimeError("out of memory")
            return self._reader.candidates(made, spans, batch_size)

    broken = Broken(reader)
    with served({"toy": broken}) as server:
        broken.holds = True
        assert server.refused(503, **BODY) == "the worker has ended"
        assert health(server) != 200
        server.thread.join(scaled(5))
        assert server.code == [1]
    said = capfd.readouterr().err
    assert "the worker ended:" in said and "RuntimeError: out of memory" in said


def health(server: Served) -> int:
    """Status, 0 if nobody answers any more."""
    try:
        return httpx.get(f"{server.url}/health", trust_env=False).status_code
    except httpx.TransportError:
        return 0


def test_a_stop_finishes_what_was_accepted_and_refuses_what_is_new(reader):
    held = Held(reader)
    with served({"toy": held}) as server:
        held.holds = True
        found: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: found.append(server.client.post("/answer", json=BODY))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        until(lambda: server.service.in_flight == 4)
        server.service.stopping = True
        refused = server.client.post("/answer", json=BODY)
        assert (refused.status_code, refused.headers["connection"]) == (503, "close")
        assert server.client.get("/ready").json() == {"status": "stopping"}
        assert server.client.get("/health").status_code == 200, "it works, and is not to be killed"
        held.open.set()
        server.thread.join(scaled(10))
        assert [response.status_code for response in found] == [200] * 4 and server.code == [0]
        assert health(server) == 0


def test_under_twice_the_load_no_answer_is_lost_or_anothers(reader):
    """Distinct questions, far more at once than the house holds. Each gets its own answer, or 429; then all get theirs.
    Breaks if a batch's rows are mixed up, or if a refused or finished request leaves something behind."""
    asked = questions(120)
    expected = direct_answers(reader, asked)
    with served({"toy": reader}, max_requests=20) as server:
        found = asyncio.run(ask_all(server.url, asked, at_once=60))
        statuses = {status for status, _ in found}
        assert statuses == {200, 429}, statuses
        assert all(same(own, body) for own, (status, body) in zip(expected, found) if status == 200)
        after = asyncio.run(ask_all(server.url, asked[:30], at_once=10))
        assert [status for status, _ in after] == [200] * 30, "recovered at once"
        assert all(same(own, body) for own, (_, body) in zip(expected, after))
        # a client may have its answer before the server's task has ended
        until(lambda: (server.service.in_flight, server.service.worker.waiting_windows) == (0, 0))
        assert not server.service.worker._accepted


def test_a_stop_in_the_middle_of_load_loses_no_accepted_request(reader):
    """Each request gets its own answer, a 503, or finds the door closed, and none of the last two before the stop."""
    asked = questions(120)
    expected = direct_answers(reader, asked)
    with served({"toy": reader}) as server:

        async def stop_after_a_while() -> list[tuple[int, dict]]:
            asking = asyncio.ensure_future(ask_all(server.url, asked, at_once=30))
            while server.metric('qa_requests_total{endpoint="/answer",status="200"}') < 30:
                await asyncio.sleep(0.01)
            server.service.stopping = True
            return await asking

        found = asyncio.run(stop_after_a_while())
        server.thread.join(scaled(10))
        counts = {status: sum(one == status for one, _ in found) for status, _ in found}
        assert counts.keys() <= {200, 503, 0} and counts[200] >= 30, counts
        assert counts.get(503, 0) + counts.get(0, 0) > 0, "the stop came too late to show anything"
        assert all(same(own, body) for own, (status, body) in zip(expected, found) if status == 200)
        assert server.metric('qa_requests_total{endpoint="/answer",status="200"}') == counts[200]
        assert server.code == [0]
