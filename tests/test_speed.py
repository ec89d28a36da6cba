"""Time limits grow with what the machine takes for a fixed piece of work, and never shrink."""

from types import SimpleNamespace

import pytest
import speed


@pytest.mark.parametrize(("reference", "expected"), [(1e-6, speed.MOST), (1e6, 1.0)], ids=["slow", "fast"])
def test_a_limit_is_never_below_what_was_chosen_and_never_endless(reference, expected, monkeypatch):
    """The reference stands in for the machine: this one is either a million times slower or faster than it."""
    monkeypatch.setattr(speed, "SECONDS_OF_WORK", reference)
    assert speed.slowness.__wrapped__() == expected


def test_a_machine_that_takes_twice_as_long_gets_twice_the_time(monkeypatch):
    ticks = iter([10.0, 10.0 + 2 * speed.SECONDS_OF_WORK])
    # in place of the module there: other threads of the session read the real clock
    monkeypatch.setattr(speed, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    slowness = speed.slowness.__wrapped__()
    monkeypatch.setattr(speed, "slowness", lambda: slowness)
    assert speed.scaled(60) == pytest.approx(120)
