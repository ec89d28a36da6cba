"""How much the server takes: of one request, and of all of them at a time."""

from dataclasses import dataclass

from qa_accel.ranges import COUNT, check_ranges


@dataclass(frozen=True)
class LimitsConfig:
    max_batch_tokens: int | None = None
    """Tokens per forward pass, padding included; a window that is longer is computed alone. Not given: 1024
    on a CPU, which gains nothing by more, else 32 full windows."""
    max_queue_windows: int = 1024
    """Windows that wait at a time. A request that finds no room is refused with 429, one that has more than half of them with
    413."""
    max_requests: int = 256
    """Requests that are read, wait or are computed at a time; a further one is refused with 429."""
    deadline_seconds: float = 30.0
    """A request that is not answered so long after it came gets 504, and what is left of it is not computed. Where half of
    this would pass before a new request is begun, it is refused with 429."""
    max_body_bytes: int = 2_000_000
    """Bytes of a request; 413 beyond it, while the rest is still on its way."""
    max_documents: int = 200
    """Contexts and documents of one request, a batch's together; 413 beyond it."""
    max_document_characters: int = 500_000
    """Characters of one question, context or document; 413 beyond it."""

    def __post_init__(self):
        check_ranges(
            self,
            max_batch_tokens=COUNT,
            max_queue_windows=COUNT,
            max_requests=COUNT,
            deadline_seconds="(0, 86400]",
            max_body_bytes=COUNT,
            max_documents=COUNT,
            max_document_characters=COUNT,
        )
