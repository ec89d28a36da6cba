"""Lets a study that is started as a script import the tests' helpers, as pytest's `pythonpath` does for tests."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for folder in (TESTS.parent, TESTS / "support"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
