"""What is counted, for Prometheus. Each server has a registry of its own."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128)
TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Metrics:
    def __init__(self):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "qa_requests", "Requests; status 499: the client went away", ["endpoint", "status"], registry=self.registry
        )
        self._latency = Histogram(
            "qa_request_seconds",
            "From the first byte to the last of the answer",
            ["endpoint"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._batch_windows = Histogram(
            "qa_batch_windows", "Windows of a forward pass", buckets=WINDOWS, registry=self.registry
        )
        self._batch_tokens = Histogram(
            "qa_batch_tokens",
            "Tokens of a forward pass, without padding",
            buckets=TOKENS,
            registry=self.registry,
        )
        self._batch_seconds = Histogram(
            "qa_batch_seconds", "Time of a forward pass", buckets=SECONDS, registry=self.registry
        )
        self._questions = Counter("qa_questions", "Questions that were answered", ["model"], registry=self.registry)
        self._without = Counter(
            "qa_questions_without_answer",
            "Of these, questions whose best answer is none, or is not sure enough",
            ["model"],
            registry=self.registry,
        )

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A gauge that is read when somebody looks."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        self._requests.labels(endpoint, str(status)).inc()
        self._latency.labels(endpoint).observe(seconds)

    def batch(self, windows: int, tokens: int, seconds: float) -> None:
        self._batch_windows.observe(windows)
        self._batch_tokens.observe(tokens)
        self._batch_seconds.observe(seconds)

    def question(self, model: str, *, answered: bool) -> None:
        self._questions.labels(model).inc()
        without = self._without.labels(model)  # made in any case, so that the share can be computed before the first
        if not answered:
            without.inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)
