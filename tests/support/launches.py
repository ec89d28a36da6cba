"""Flags and words -> a script as users start it: by `accelerate launch` in separate processes, or, if a start is to be
refused, its file in forked processes."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from processes import Left, run, script
from speed import scaled
from toy import WINDOWS, Toy, flags

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "scripts"
TWO_ON_ONE_CPU = ["--config_file", "accelerate_configs/cpu_ddp.yaml", "--mixed_precision", "no"]
SECONDS = 240
"""Within which a launch must be over, on the machine that limits were chosen on (speed.py)."""


def start(words: list, **options) -> subprocess.Popen:
    """In a separate process group, so that all of it can be ended."""
    return subprocess.Popen(
        list(map(str, words)),
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def finish(process: subprocess.Popen) -> str:
    """What it wrote. Whatever is left of its group after that is killed."""
    try:
        return process.communicate(timeout=scaled(SECONDS))[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def launched(name: str, *words, processes: int = 2) -> str:
    """`accelerate launch` of a script that must succeed: its output."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", *TWO_ON_ONE_CPU, "--num_processes", processes]
    process = start([*launch, f"scripts/{name}", *words])
    output = finish(process)
    assert process.returncode == 0, output
    return output


def refused(name: str, *words, processes: int = 1, **environment: str) -> list[Left]:
    """A script's file in forked processes, where it is to end with a message."""
    return run(script, SCRIPTS / name, list(map(str, words)), processes=processes, environment=environment)


def only_message(left: Left) -> str:
    """The one message of a run that a user can fix: exit code 2, no traceback."""
    assert left.code == 2, left.output
    assert "Traceback" not in left.output
    [message] = re.findall(r"^error: .*", left.output, re.MULTILINE | re.DOTALL)
    return message


def training_flags(toy: Toy, cache: Path) -> list[str]:
    """Of a training run on the toy, all but --output_dir."""
    settings = dict(model_name_or_path=toy.model, train_file=toy.train, validation_file=toy.dev)
    settings |= dict(per_device_train_batch_size=4, gradient_accumulation_steps=2, learning_rate=1e-2, eval_steps=3)
    return flags(**settings, cache_dir=cache, **WINDOWS)
