"""What the parts of one server share: its worker, its limits, and whether it takes requests at this moment."""

import asyncio
import hashlib
import hmac
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from qa_accel.serving import answering
from qa_accel.serving.jobs import Job, WorkerEnded
from qa_accel.serving.metrics import Metrics
from qa_accel.serving.refusal import Refusal
from qa_accel.serving.schemas import AnswerRequest
from qa_accel.serving.settings import LimitsConfig
from qa_accel.serving.worker import Worker

TEXT_THREADS = 2
"""Threads that tokenize and that put answers together; a reader tokenizes one request at a time."""


@dataclass
class Service:
    worker: Worker
    limits: LimitsConfig
    metrics: Metrics
    api_key: str | None = field(default=None, repr=False)
    log_requests: bool = False
    stopping: bool = False
    """Whether new requests are refused, while accepted ones are finished."""
    in_flight: int = 0
    """Accepted requests that are not answered yet."""

    def __post_init__(self):
        self.texts = ThreadPoolExecutor(TEXT_THREADS, thread_name_prefix="texts")
        self.metrics.watch("qa_queue_windows", "Windows that wait", lambda: self.worker.waiting_windows)
        self.metrics.watch(
            "qa_requests_in_flight", "Requests that are accepted and not answered", lambda: self.in_flight
        )
        self.metrics.watch(
            "qa_token_seconds", "Time of a token, a mean of the last batches", lambda: self.worker.seconds_per_token
        )

    @property
    def state(self) -> str:
        """ok, loading, stuck (one batch takes longer than any request may) or dead."""
        worker = self.worker
        if worker.error is not None or not worker.alive:
            return "dead"
        if not worker.ready:
            return "loading"
        began = worker.batch_began
        return "stuck" if began is not None and time.monotonic() - began > self.limits.deadline_seconds else "ok"

    def is_allowed(self, authorization: str | None) -> bool:
        """Whether a header has the key. Takes the same time for every wrong one: digests are compared, and to the end."""
        if self.api_key is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        right = hmac.compare_digest(_digest(given.strip()), _digest(self.api_key))
        return right and scheme.lower() == "bearer"

    def accept(self) -> None:
        """Count one more request. Raises Refusal while none is taken."""
        if self.state in ("dead", "loading"):
            raise Refusal(503, "the models are being loaded" if self.state == "loading" else "the worker has ended", 1)
        if self.stopping:
            raise Refusal(503, "the server is being stopped", close=True)
        if self.in_flight >= self.limits.max_requests:
            raise Refusal(429, f"{self.in_flight} requests wait already, try again later", self.worker.seconds_to_wait)
        self.in_flight += 1

    async def answers(self, requests: list[AnswerRequest]) -> list[dict[str, Any]]:
        """The response to each, in order. If this is cancelled, what is not computed yet will not be."""
        answering.check_sizes(requests, self.limits)
        loop = asyncio.get_running_loop()
        names = [answering.chosen_model(request.model, self.worker.readers) for request in requests]
        jobs_of_requests = await loop.run_in_executor(self.texts, self._jobs, requests, names)
        jobs = [job for jobs in jobs_of_requests for job in jobs]
        try:
            self.worker.submit(jobs)
            for job in jobs:
                await asyncio.wrap_future(job.done)
        except WorkerEnded:
            raise Refusal(503, "the worker has ended", close=True) from None
        finally:
            unfinished = [job for job in jobs if job.missing]
            if unfinished:
                self.worker.cancel(unfinished)
        responses = await loop.run_in_executor(self.texts, self._responses, requests, names, jobs_of_requests)
        for response in responses:
            answers = response["answers"]
            self.metrics.question(response["model"], answered=bool(answers and answers[0]["answer"]))
        return responses

    def _jobs(self, requests: list[AnswerRequest], names: list[str]) -> list[list[Job]]:
        """Of each request one for each member of its reader."""
        jobs = []
        for row, (request, name) in enumerate(zip(requests, names)):
            try:
                jobs.append(answering.jobs_of(request, name, self.worker.readers[name]))
            except Refusal as refusal:
                if len(requests) > 1:
                    refusal.message = f"requests[{row}]: {refusal.message}"
                raise
        return jobs

    def _responses(
        self, requests: list[AnswerRequest], names: list[str], jobs: list[list[Job]]
    ) -> list[dict[str, Any]]:
        readers = [self.worker.readers[name] for name in names]
        return [answering.response_of(*each) for each in zip(requests, names, readers, jobs)]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
