"""The study of growth, on a few questions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = ["prepare", "prepared", "plan, padded", "plan, packed", "results", "first step"]


@pytest.mark.parametrize("parts", [["results"], pytest.param(PARTS, marks=pytest.mark.slow)])
def test_the_study_measures_every_part(repository: Path, tmp_path, parts: list[str]):
    """Breaks if a part fails, or is left out of the table."""
    words = ["tests/studies/growth.py", "--questions", "40", "--folder", str(tmp_path), "--parts", *parts]
    environment = os.environ | {"PYTHONPATH": str(repository), "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, *words], cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == parts
    assert (tmp_path / "40" / "answers" / "all_results.json").is_file()
