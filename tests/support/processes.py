"""A function and a number of processes -> what each of them returned and printed, and its exit code.

The processes get the environment that `accelerate launch` sets, but are forked from a server that has done the imports,
so a run takes a fraction of a second. Every run has separate processes, even a run of one: accelerate's state is one
per process, and tests must not see each other's.

What is called must be a function of a module (it travels by name), with arguments that can be pickled.
"""

import contextlib
import multiprocessing
import os
import pickle
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from speed import scaled

SECONDS = 150
"""Within which a run must be over, on the machine that limits were chosen on (speed.py)."""
SECONDS_AFTER_A_DEATH = 1
"""How long the others may go on when one has died; a launcher ends them at once."""


@dataclass(frozen=True)
class Left:
    """What one process left behind."""

    code: int
    """Its exit code; negative: the signal that ended it."""
    output: str
    """All that it wrote to stdout and stderr."""
    value: Any
    """What the function returned, None if it did not return."""


_ASKING = threading.Lock()
"""A start asks all children of this process for their exit codes. A code can be read once: of two threads that ask at the same
time, one gets 255."""


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["qa_accel.training.trainer", "qa_accel.inference.reader", "tensorboard.compat", "deepspeed", "processes"]
    )
    return context


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch_environment(config_file: Path, processes: int, *flags: str) -> dict[str, str]:
    """What `accelerate launch --config_file ... --num_processes ... flags` adds to the environment of its processes."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import (
        prepare_deepspeed_cmd_env,
        prepare_multi_gpu_env,
        prepare_simple_launcher_cmd_env,
    )

    words = ["--config_file", str(config_file), "--num_processes", str(processes), "--main_process_port", "0", *flags]
    parsed, defaults, precision_from_file = _validate_launch_command(
        launch_command_parser().parse_args([*words, "x.py"])
    )
    if parsed.use_deepspeed:
        fields = list(defaults.deepspeed_config) + (["mixed_precision"] if precision_from_file else [])
        parsed.deepspeed_fields_from_accelerate_config = ",".join(fields)  # as launch_command does
        environment = prepare_deepspeed_cmd_env(parsed)[1]
    elif parsed.multi_gpu or parsed.use_fsdp:
        environment = prepare_multi_gpu_env(parsed)
    else:
        environment = prepare_simple_launcher_cmd_env(parsed)[1]
    return {name: value for name, value in environment.items() if os.environ.get(name) != value}


def run(
    function: Callable[..., Any],
    *arguments: Any,
    processes: int = 1,
    environment: Mapping[str, str] | None = None,
    without: Iterable[str] = (),
    limit: float | None = None,
) -> list[Left]:
    """Call `function(*arguments)` in each of so many processes, ranks of one group; all are gone when this returns.

    They run on the CPU in fp32, one thread each, unless `environment` says otherwise, or the variable that says so is to
    be missing (`without`).
    Raises TimeoutError with what they wrote if they take more than `limit` seconds; left out: SECONDS, as scaled for this
    machine.
    """
    limit = scaled(SECONDS) if limit is None else limit
    common = {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no", "CUDA_VISIBLE_DEVICES": ""}
    common["ACCELERATE_DYNAMO_BACKEND"] = "NO"  # every launch sets it
    if processes > 1:  # a single process gets none of these, as accelerate launches it
        common |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= environment or {}
    common = {name: value for name, value in common.items() if name not in without}
    with tempfile.TemporaryDirectory(prefix="processes-") as folder:
        places = [Path(folder, str(rank)) for rank in range(processes)]
        started = []
        for rank, place in enumerate(places):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            child = _server().Process(target=_child, args=(function, arguments, common | ranks, str(place)))
            with _ASKING:
                child.start()
            started.append(child)
        in_time = _wait(started, limit)
        left = [
            Left(child.exitcode, _read(place.with_suffix(".log")).decode(errors="replace"), _value(place))
            for child, place in zip(started, places)
        ]
    if not in_time:
        wrote = "\n".join(f"--- rank {rank}, code {one.code}\n{one.output}" for rank, one in enumerate(left))
        raise TimeoutError(f"{processes} processes were not done after {limit:.0f} s:\n{wrote}")
    return left


def script(path: Path, argv: list[str]) -> None:
    """Run a script's file as if it had been started with these words."""
    sys.argv = [str(path), *argv]
    runpy.run_path(str(path), run_name="__main__")


def call(function: Callable[..., Any], *arguments: Any, processes: int = 1, **options: Any) -> list[Any]:
    """As run(), where nothing may go wrong: what each rank returned."""
    left = run(function, *arguments, processes=processes, **options)
    for rank, one in enumerate(left):
        assert one.code == 0, f"rank {rank} left with {one.code}:\n{one.output}"
    return [one.value for one in left]


def _wait(started: list[Any], limit: float) -> bool:
    """Whether all ended by themselves within the limit. Those left when one has failed, or at the limit, are killed."""
    end = time.monotonic() + limit
    failed_at = None
    while None in (codes := [_exit_code(child) for child in started]):
        now = time.monotonic()
        if failed_at is None and set(codes) - {None, 0}:
            failed_at = now
        if now > end or (failed_at is not None and now > failed_at + SECONDS_AFTER_A_DEATH):
            break
        time.sleep(0.02)
    for child in started:
        if _exit_code(child) is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with the helpers that it has forked, if any
            with _ASKING:
                child.kill()  # it may not have become the head of a group yet
                child.join()
    return time.monotonic() <= end


def _exit_code(child: Any) -> int | None:
    """None of a process that is still running."""
    with _ASKING:
        return child.exitcode


def _child(function: Callable[..., Any], arguments: tuple, environment: dict[str, str], place: str) -> None:
    os.setsid()
    log = os.open(f"{place}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.update(environment)
    multiprocessing.set_start_method("fork", force=True)  # an ordinary process's default, not the server's method
    code = 0
    try:
        value = function(*arguments)
        Path(f"{place}.pickle").write_bytes(pickle.dumps(value))
        if torch.distributed.is_initialized():
            # rank 0 holds the group's store; another one may just be joining. A rank that ends after the barrier can
            # cut off a slower one's barrier messages: that one has waited long enough, and its value is written
            with contextlib.suppress(RuntimeError):
                torch.distributed.barrier()
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        if not isinstance(error, SystemExit):
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # no interpreter's shutdown: a gloo thread that still holds tensors would abort the process


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _value(place: Path) -> Any:
    content = _read(place.with_suffix(".pickle"))
    return pickle.loads(content) if content else None
