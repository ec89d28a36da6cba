"""Workers of a sweep in forked processes, whose training runs are forked processes too: real ones, without their imports.

`Trainings` is what `accelerate launch` is elsewhere: a worker's launcher is `fork_client.py`, which asks it for a process.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
import yaml
from launches import REPOSITORY
from processes import script
from speed import scaled
from toy import WINDOWS, Toy

from qa_accel.experiments import trials
from qa_accel.experiments.trials import Trial

CLIENT = Path(__file__).with_name("fork_client.py")
SECONDS = 120
WORKERS = {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no", "CUDA_VISIBLE_DEVICES": ""}
"""Environment of workers, and so of their runs."""


class Trainings:
    """A process that forks training runs; used by `with`."""

    def __init__(self, folder: Path):
        self.socket = str(folder / "trainings")

    @property
    def launcher(self) -> str:
        return f"{sys.executable} -I -S {CLIENT} {self.socket}"

    def __enter__(self) -> "Trainings":
        self._process = processes._server().Process(target=_serve, args=(self.socket,))
        self._process.start()
        wait_for(lambda: os.path.exists(self.socket), "the server of training runs")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _serve(place: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a handler ended
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen(8)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _handle(connection)
            connection.close()


def _handle(connection: socket.socket) -> None:
    """One run, from its request to its exit code; killed when the client is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, descriptors, _, _ = socket.recv_fds(connection, 8, 1)
    content = b""
    while len(content) < int.from_bytes(size, "big"):
        content += connection.recv(1 << 16)
    request = json.loads(content)
    runner = os.fork()
    if runner == 0:
        os.setsid()
        connection.close()
        for stream in (1, 2):
            os.dup2(descriptors[0], stream)
        os.environ.clear()
        os.environ.update(request["environment"] | {"ACCELERATE_DYNAMO_BACKEND": "NO", "CUDA_VISIBLE_DEVICES": ""})
        os.chdir(request["cwd"])
        sys.modules["plotly"] = None  # type: ignore[assignment]  # a report would take as long as all the rest
        with contextlib.suppress(SystemExit):
            script(Path(request["argv"][0]), request["argv"][1:])
        os._exit(0)  # a script leaves by itself
    while True:
        pid, status = os.waitpid(runner, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(OSError):
                connection.sendall(str(code).encode())
            os._exit(0)
        if select.select([connection], [], [], 0.02)[0]:  # readable: its end
            with contextlib.suppress(ProcessLookupError):
                os.killpg(runner, signal.SIGKILL)
            os.waitpid(runner, 0)
            os._exit(0)


@dataclass
class SweepWorker:
    """One `scripts/sweep.py`."""

    process: Any
    place: Path

    @property
    def output(self) -> str:
        return self.place.with_suffix(".log").read_text(errors="replace")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        self.process.join(scaled(SECONDS))
        assert self.process.exitcode is not None, f"still running:\n{self.output}"
        return self.process.exitcode


@dataclass
class Sweep:
    """A sweep on the toy: its space, and workers for it."""

    toy: Toy
    folder: Path
    """Where everything is written."""
    trainings: Trainings
    space: dict[str, Any]
    settings: dict[str, Any]
    workers: int = 0

    @property
    def output(self) -> Path:
        return self.folder / "sweep"

    def start(self, *words: str, trials: int, **environment: str) -> SweepWorker:
        """One more worker."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "space.yaml"
        usual = dict(model_name_or_path=str(self.toy.model), train_file=[str(self.toy.train)])
        usual |= dict(validation_file=[str(self.toy.dev)], cache_dir=str(self.folder.parent / "cache"), logging_steps=1)
        usual |= dict(learning_rate=3e-3, per_device_train_batch_size=8, n_best_size=4, num_train_epochs=2, **WINDOWS)
        file.write_text(yaml.safe_dump({"settings": usual | self.settings, "space": self.space}))
        flags = ["--space", str(file), "--output_dir", str(self.output), "--trials", str(trials)]
        flags += ["--launcher", self.trainings.launcher, *words]
        self.workers += 1
        place = self.folder / f"worker-{self.workers}"
        arguments = (script, (REPOSITORY / "scripts" / "sweep.py", flags), WORKERS | environment, str(place))
        worker = processes._server().Process(target=processes._child, args=arguments)
        worker.start()
        return SweepWorker(worker, place)

    def whole(self, *words: str, trials: int, **environment: str) -> str:
        """One worker that must end well; its output."""
        worker = self.start(*words, trials=trials, **environment)
        assert worker.ended() == 0, worker.output
        return worker.output

    @property
    def trials(self) -> list[Trial]:
        return trials.read_trials(self.output)

    def training(self, number: int) -> Path:
        return trials.folder_of(self.output, number)

    def lines(self, number: int) -> int:
        """Of metrics.jsonl so far."""
        path = self.training(number) / "metrics.jsonl"
        return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(holds: Callable[[], Any], what: str, limit: float = SECONDS) -> Any:
    """What it returns, once that is true."""
    end = time.monotonic() + scaled(limit)
    while not (found := holds()):
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(0.02)
    return found
