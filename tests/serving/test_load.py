"""The study of a server under load, whole, with a tiny model: some two minutes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_nothing_is_lost_or_mixed_up_for_30_seconds_at_twice_what_it_bears(toy, repository: Path):
    """The study leaves with 1 if a request is lost, gets another's answer, or the server does not recover and stop in order."""
    words = [sys.executable, "tests/studies/serving_load.py", "--model", toy.model, "--test_file", toy.dev]
    if shutil.which("wrk") is None:
        words += ["--rate", "50"]
    environment = os.environ | {"PYTHONPATH": str(repository), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(list(map(str, words)), cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n| ") >= 5, "a row for each time of load"
