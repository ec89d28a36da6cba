"""How `make quickstart` starts training, by the cores and GPUs that the machine has."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = "scripts/recipes/quickstart.yaml"


def started(folder: Path, cores: int, gpu: bool) -> str:
    """The command line of training; make's own tools are the machine's, `python` only repeats what it is given."""
    for name, body in {
        "nproc": f"echo {cores}",
        "nvidia-smi": f"exit {0 if gpu else 1}",
        "python": 'echo "ran $*"',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    words = ["make", "--old-file", "install", "quickstart", f"BIN={folder}"]
    done = subprocess.run(words, cwd=REPOSITORY, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    [line] = [line.removeprefix("ran ") for line in done.stdout.splitlines() if line.startswith("ran ")]
    return line


@pytest.mark.parametrize(
    ("cores", "gpu", "processes"), [(1, False, 1), (2, False, 2), (6, False, 4), (64, False, 8), (64, True, 1)]
)
def test_the_quickstart_runs_a_process_per_core_of_a_cpu_on_the_recipes_windows_a_step(cores, gpu, processes, tmp_path):
    """Breaks if processes get the recipe's batch each, so that a step has another size than the recipe's score is for."""
    line = started(tmp_path, cores, gpu)
    assert f"scripts/train.py --config {RECIPE} --overwrite_output_dir" in line
    if processes == 1:
        assert line.startswith("scripts/train.py")
        return
    launch = "-m accelerate.commands.launch --config_file accelerate_configs/cpu_ddp.yaml"
    assert line.startswith(f"{launch} --num_processes {processes} ")
    windows = yaml.safe_load((REPOSITORY / RECIPE).read_text())["per_device_train_batch_size"]
    assert line.endswith(f"--per_device_train_batch_size {windows // processes}")
    assert windows % processes == 0


def test_make_test_gpu_runs_exactly_the_tests_that_need_a_gpu():
    """Breaks if a test asks for a GPU on its own, so that `-m cuda` leaves it out, or if none is marked."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "test-gpu"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.rstrip().endswith("-m pytest -m cuda")
    sources = {path: path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("*.py")}
    ask = [path.name for path, source in sources.items() if "cuda." + "is_available" in source]
    assert ask == ["conftest.py"]
    marked = {path.name for path, source in sources.items() if "pytest.mark." + "cuda" in source}
    assert marked == {"test_attention_on_cuda.py", "test_cuda.py", "test_spans_apart.py", "test_topk_spans.py"}
