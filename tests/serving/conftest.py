"""One tiny reader for all tests of the server."""

import pytest

from qa_accel import Reader


@pytest.fixture(scope="session")
def reader(toy) -> Reader:
    return Reader(toy.model, device="cpu")
