"""The study of growth, whole, on a few questions."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_study_measures_every_part(repository: Path, tmp_path):
    """Breaks if a part fails, or is left out of the table."""
    words = ["tests/studies/growth.py", "--questions", "40", "--folder", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(repository), "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, *words], cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == [
        "prepare",
        "prepared",
        "plan, padded",
        "plan, packed",
        "results",
        "first step",
    ]
    assert (tmp_path / "40" / "answers" / "all_results.json").is_file()
