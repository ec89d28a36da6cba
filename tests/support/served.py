"""A reader -> a real server on loopback in this process, up in a tenth of a second, and a client of it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from speed import scaled

from qa_accel.serving import server
from qa_accel.serving.metrics import Metrics
from qa_accel.serving.service import Service
from qa_accel.serving.settings import LimitsConfig
from qa_accel.serving.worker import Worker


@dataclass
class Served:
    service: Service
    url: str
    client: httpx.Client
    thread: threading.Thread
    code: list[int]
    """The exit code, when it has ended."""

    def ask(self, **body: Any) -> dict[str, Any]:
        """The response of a request that must be answered."""
        found = self.client.post("/answer", json=body)
        assert found.status_code == 200, found.text
        return found.json()

    def refused(self, status: int, **body: Any) -> str:
        """The message of a request that must be refused with this status."""
        found = self.client.post("/answer", json=body)
        assert found.status_code == status, found.text
        return found.json()["error"]

    def metric(self, name: str) -> float:
        """A line of /metrics, by its name and labels; 0 if it is not there."""
        lines = dict(line.rsplit(" ", 1) for line in self.service.metrics.text().decode().splitlines())
        return float(lines.get(name, 0))


@contextmanager
def served(readers: Mapping[str, Any] | Callable[[], Mapping[str, Any]], **options: Any) -> Iterator[Served]:
    """`options`: limits, and `api_key` and `log_requests`. Ended, with all that it started, when the block is left."""
    own = {name: options.pop(name) for name in ("api_key", "log_requests") if name in options}
    limits, metrics = LimitsConfig(**options), Metrics()
    load = readers if callable(readers) else lambda: readers
    service = Service(Worker(load, limits, metrics), limits, metrics, **own)
    opened = server.bind("127.0.0.1", 0)
    url, up, code = server.address_of(opened), threading.Event(), []
    thread = threading.Thread(target=lambda: code.append(server.run(service, opened, up.set)), daemon=True)
    thread.start()
    if not callable(readers):
        assert up.wait(scaled(30)), "the server did not come up"
    with httpx.Client(base_url=url, timeout=scaled(30), trust_env=False) as client:
        try:
            yield Served(service, url, client, thread, code)
        finally:
            service.stopping = True
            thread.join(scaled(15))
    assert not thread.is_alive(), "the server did not end"


def until(holds: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + scaled(seconds)
    while not holds():
        assert time.monotonic() < end, f"not within {scaled(seconds):.0f} s"
        time.sleep(0.01)


class Held:
    """A reader of one model, and that model, whose forward passes wait until they are let go: what else happens then is in the
    test's hands."""

    def __init__(self, reader: Any):
        self._whole, [self._reader] = reader, reader.members
        self.members = (self,)
        self.open = threading.Event()
        self.began = threading.Semaphore(0)
        self.passes: list[int] = []
        """Windows of each forward pass since the warm-up."""
        self.holds = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole if hasattr(self._whole, name) else self._reader, name)

    def candidates(self, made: Any, spans: Any, batch_size: int) -> Any:
        if self.holds:
            self.passes.append(len(made))
            self.began.release()
            assert self.open.wait(scaled(30)), "nobody let it go"
        return self._reader.candidates(made, spans, batch_size)
