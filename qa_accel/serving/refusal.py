"""What the server answers in place of answers: a status of HTTP, a plain message, and when to try again."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class Refusal(Exception):
    """Raised wherever a request cannot be answered; the gate makes a response of it."""

    status: int
    message: str
    """For the caller: names the field, what was found and what is expected. No text of the request but a short piece."""
    retry_after: float | None = None
    """Seconds; only where another try may succeed."""
    close: bool = False
    """Whether the connection ends with it, since the rest of the request was not read."""

    def __str__(self) -> str:
        return self.message

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.close:
            headers["connection"] = "close"
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


def encoded(content: Mapping[str, Any]) -> bytes:
    """JSON in ASCII: whatever characters a text holds, half of a surrogate pair included, it can be sent."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
