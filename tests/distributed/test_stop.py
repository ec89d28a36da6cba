"""Runs that are requested to stop, in every way: all ranks stop at one step, and the continued run is the same run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from speed import scaled
from training_runs import SPREAD, Trainer, assert_same_weights, evaluations_of, lines_of, results_of, steps_of, touch_at

from qa_accel.distributed import rank_status, run_folder, stop
from qa_accel.inference import predictor
from qa_accel.training import checkpoint
from qa_accel.training.progress import Progress

SETTINGS: dict[str, Any] = dict(eval_steps=4, learning_rate=1e-2, logging_steps=1)
"""Evaluations at 4, 8, 9, 12, 16, 18."""


def signal_at(name: str, rank: int, step: int, times: int = 1) -> None:
    """Send this process a signal after an optimizer step, on one rank only."""
    original = Progress.advance

    def advanced(self, *arguments, **options):
        original(self, *arguments, **options)
        if self.step == step and int(os.environ.get("RANK", "0")) == rank:
            for _ in range(times):
                os.kill(os.getpid(), getattr(signal, name))

    Progress.advance = advanced  # type: ignore


def signal_in_evaluation(name: str, rank: int) -> None:
    """Send a signal when the first evaluation's first batch is through."""
    original = predictor.candidate_rows
    sent = []

    def rows(*arguments):
        if not sent and int(os.environ.get("RANK", "0")) == rank:
            sent.append(name)
            os.kill(os.getpid(), getattr(signal, name))
        return original(*arguments)

    predictor.candidate_rows = rows


def signal_while_saving(name: str, times: int) -> None:
    """Send signals in the middle of each checkpoint, when its files are there and its manifest is not."""
    original = checkpoint.write_manifest

    def written(folder):
        for _ in range(times if "checkpoint" in folder.name else 0):
            os.kill(os.getpid(), getattr(signal, name))
        original(folder)

    checkpoint.write_manifest = written  # type: ignore


def pass_hours(step: int) -> None:
    """Let the clock, as `stop` reads it, be an hour later after this step."""
    original, real, passed = Progress.advance, time.monotonic, []

    class FakeTime:
        monotonic = staticmethod(lambda: real() + 3600 * len(passed))
        time = staticmethod(time.time)

    def advanced(self, *arguments, **options):
        original(self, *arguments, **options)
        if self.step == step:
            passed.append(1)

    stop.time = FakeTime  # type: ignore
    Progress.advance = advanced  # type: ignore


def die_at(rank: int, step: int) -> None:
    """Kill one rank when its sign of this step is written; every step writes one, and nobody waits long for the others'."""
    original = rank_status.RankStatus.heartbeat
    rank_status.SECONDS_BETWEEN, rank_status.SECONDS_FOR_OTHERS = -1.0, 0.2

    def at(self, now):
        original(self, now)
        if now == step and self.accelerator.process_index == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    rank_status.RankStatus.heartbeat = at  # type: ignore


def marker_of(folder: Path) -> dict:
    return json.loads((folder / "stopped.json").read_text())


@pytest.fixture(scope="module")
def uninterrupted(trainer, tmp_path_factory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {
        processes: trainer.whole(folder / str(processes), processes=processes, **SETTINGS, **spread)
        for processes, spread in SPREAD.items()
    }


def goes_on_as_if_nothing_had_happened(trainer: Trainer, folder: Path, whole: Path, **settings: Any) -> None:
    trainer.whole(folder, **settings)
    assert not (folder / "stopped.json").exists(), "the marker of a run that is over would have it started once more"
    assert lines_of(folder) == lines_of(whole)
    assert_same_weights(folder / "checkpoint-18", whole / "checkpoint-18")
    assert_same_weights(folder, whole)
    for name in ("predictions.json", "nbest_predictions.json", "null_odds.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert results_of(folder) == results_of(whole)


@pytest.mark.parametrize(
    ("name", "processes", "rank", "step"),
    [
        ("SIGTERM", 1, 0, 5),
        ("SIGUSR1", 1, 0, 9),  # the last step of an epoch, whose evaluation is then still to come
        ("SIGUSR2", 1, 0, 18),  # the very last step
        ("SIGTERM", 2, 0, 5),
        ("SIGUSR1", 2, 1, 17),  # agreed on after the very last step
        ("SIGUSR2", 2, 1, 1),
    ],
)
def test_a_signal_on_any_rank_ends_the_run_at_one_step_of_all(
    trainer, uninterrupted, tmp_path, name, processes, rank, step
):
    """Breaks if a rank leaves alone (the others would wait for it), if the evaluation that was due is skipped or done
    twice, or if random state is lost. Two ranks hear of it one step later."""
    settings: dict[str, Any] = dict(processes=processes, **SETTINGS, **SPREAD[processes])
    left = trainer(tmp_path, arrangements=[(signal_at, name, rank, step)], **settings)
    assert [one.code for one in left] == [0] * processes, left[0].output
    agreed = step if processes == 1 else step + 1
    expected = {"reason": name, "rank": rank, "host": socket.gethostname(), "step": agreed}
    assert marker_of(tmp_path) == expected | {"checkpoint": f"checkpoint-{agreed}"}
    assert checkpoint.damage_of(tmp_path / f"checkpoint-{agreed}") is None
    assert [line["step"] for line in steps_of(tmp_path)] == list(range(1, agreed + 1))
    assert "stopped at step" in left[0].output and name in left[0].output
    goes_on_as_if_nothing_had_happened(trainer, tmp_path, uninterrupted[processes], **settings)


@pytest.mark.parametrize(("processes", "rank"), [(1, 0), (2, 1)])
def test_a_signal_in_the_middle_of_an_evaluation_ends_it(trainer, uninterrupted, tmp_path, processes, rank):
    """The evaluation is at step 4, in batches of 2 windows. Breaks if the run only leaves when all of it is done, or if
    what is saved then does not know that it is still to come."""
    settings: dict[str, Any] = dict(processes=processes, **SETTINGS, **SPREAD[processes], per_device_eval_batch_size=2)
    left = trainer(tmp_path, arrangements=[(signal_in_evaluation, "SIGUSR1", rank)], **settings)
    assert [one.code for one in left] == [0] * processes, left[0].output
    assert marker_of(tmp_path)["step"] == 4 and evaluations_of(tmp_path) == []
    assert json.loads((tmp_path / "checkpoint-4" / "progress.json").read_text())["progress"]["evaluation_due"] is True
    whole = trainer.whole(tmp_path / "whole", **settings)
    goes_on_as_if_nothing_had_happened(trainer, tmp_path, whole, **settings)


def test_a_second_signal_does_not_break_the_save(trainer, uninterrupted, tmp_path):
    """Breaks if any of these signals has its usual effect, the end of the process, while the checkpoint is written."""
    settings: dict[str, Any] = dict(**SETTINGS, **SPREAD[1])
    arrangements = [(signal_at, "SIGUSR1", 0, 5, 3), (signal_while_saving, "SIGTERM", 3)]
    left = trainer(tmp_path, arrangements=arrangements, **settings)[0]
    assert left.code == 0, left.output
    assert marker_of(tmp_path)["reason"] == "SIGUSR1", "what came first"
    assert checkpoint.damage_of(tmp_path / "checkpoint-5") is None
    goes_on_as_if_nothing_had_happened(trainer, tmp_path, uninterrupted[1], **settings)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_hours_of_a_run_and_a_file_in_its_folder_stop_it_too(trainer, uninterrupted, tmp_path, processes):
    """Breaks if the file stays: the run that goes on would stop again at once."""
    settings: dict[str, Any] = dict(processes=processes, **SETTINGS, **SPREAD[processes])
    trainer.whole(tmp_path, arrangements=[(pass_hours, 3)], max_train_hours=0.5, **settings)
    assert marker_of(tmp_path)["reason"] == "max_train_hours are over"
    assert marker_of(tmp_path)["step"] == 2 + processes
    trainer.whole(tmp_path, arrangements=[(touch_at, tmp_path / "STOP", 10)], **settings)
    assert marker_of(tmp_path)["reason"] == "the file STOP" and marker_of(tmp_path)["step"] == 9 + processes
    assert not (tmp_path / "STOP").exists()
    goes_on_as_if_nothing_had_happened(trainer, tmp_path, uninterrupted[processes], **settings)


def test_a_run_leaves_before_its_slurm_job_ends(trainer, tmp_path):
    """The job ends in 50 s, and a minute is what is left for leaving. Breaks if only the signal is waited for, that a site's
    settings may not send."""
    environment = {"SLURM_JOB_END_TIME": str(int(time.time()) + 50)}
    trainer.whole(tmp_path, environment=environment, **SETTINGS, **SPREAD[1])
    assert marker_of(tmp_path)["reason"] == "the Slurm job ends in less than 60 s"
    assert marker_of(tmp_path)["step"] == 1


def test_signals_that_are_left_out_keep_their_meaning(trainer, tmp_path):
    """Breaks if a library that uses SIGUSR1 for its own ends has it taken away. Its default is the end of the process."""
    arrangements = [(signal_at, "SIGUSR1", 0, 2)]
    left = trainer(tmp_path, arrangements=arrangements, stop_signals="SIGTERM", **SETTINGS, **SPREAD[1])[0]
    assert left.code == -signal.SIGUSR1
    refused = trainer(tmp_path / "other", stop_signals=["SIGTERM", "SIGFOO"], **SETTINGS)[0]
    assert refused.code == 2 and "SIGFOO is not a signal that can be caught" in refused.output


def test_a_checkpoint_is_written_every_so_many_minutes(trainer, tmp_path):
    """An hour passes after step 3. Breaks if each rank goes by its own clock: one would save alone and wait forever."""
    settings: dict[str, Any] = dict(SETTINGS, num_train_epochs=1, save_total_limit=9, processes=2, **SPREAD[2])
    trainer.whole(tmp_path, arrangements=[(pass_hours, 3)], save_minutes=30, **settings)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-9"]


def test_a_separate_process_exits_with_the_documented_code(toy, tmp_path, repository):
    """The real script, no launcher. Breaks if a chain of commands goes on with a model that is not done."""
    words = [sys.executable, "scripts/train.py", "--model_name_or_path", str(toy.model), "--train_file", str(toy.train)]
    words += ["--output_dir", str(tmp_path / "run"), "--cache_dir", str(tmp_path / "cache"), "--max_seq_length", "64"]
    words += ["--doc_stride", "16", "--max_query_length", "16", "--num_train_epochs", "100000", "--logging_steps", "1"]
    # the precision by hand, as the documentation shows it: that is not a launcher
    environment = os.environ | {"ACCELERATE_MIXED_PRECISION": "no", "PYTHONPATH": str(repository)}
    run = subprocess.Popen(
        words, cwd=repository, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    metrics, end = tmp_path / "run" / "metrics.jsonl", time.monotonic() + scaled(120)
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < end and run.poll() is None:
        time.sleep(0.1)
    run.terminate()
    output = run.communicate(timeout=scaled(60))[0]
    assert run.returncode == stop.EXIT_CODE == 75, output
    assert marker_of(tmp_path / "run")["reason"] == "SIGTERM"


def test_an_early_signal_is_noted_before_torch_is_there(repository, tmp_path):
    """SIGUSR1 ends a process that does not listen. Breaks if the script listens only when torch has been imported."""
    program = (
        "import os, signal, sys; from qa_accel.distributed import signals; signals.listen(signals.BEFORE_TRAINING)\n"
    )
    program += "os.kill(os.getpid(), signal.SIGUSR1); print(signals.received(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert done.stdout.split() == ["SIGUSR1", "False"], done.stderr
    program = (
        "import importlib, os, signal, sys; from qa_accel import cli; from qa_accel.distributed import signals\n"
        "def note(name): os.kill(os.getpid(), signal.SIGUSR1); print(name, signals.received()); raise SystemExit\n"
        "importlib.import_module = note; sys.argv = ['qa-accel', 'train']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert done.stdout.split() == ["qa_accel.commands.settings.train", "SIGUSR1"], done.stderr


# -------------------------------------------------------------------------------------------- two runs, one folder


def hold_and_wait(folder: Path, ready: Path) -> None:
    run_folder.hold(folder)
    ready.touch()
    time.sleep(600)  # longer than the other run takes anywhere; it is killed then


def test_a_second_run_on_a_folder_is_refused_until_the_first_is_gone(trainer, repository, tmp_path):
    """The first is ended with SIGKILL. Breaks if it leaves a lock behind, or if both write."""
    folder, ready = tmp_path / "run", tmp_path / "ready"
    folder.mkdir()
    program = f"import test_stop, pathlib; test_stop.hold_and_wait(pathlib.Path({str(folder)!r}), pathlib.Path({str(ready)!r}))"
    path = os.pathsep.join(
        [str(repository), *(str(repository / "tests" / name) for name in ("support", "distributed"))]
    )
    first = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path})
    while not ready.exists() and first.poll() is None:
        time.sleep(0.05)
    refused = trainer(folder, max_train_steps=1)[0]
    assert refused.code == 2
    assert f"another run is writing {folder}: process {first.pid} on {socket.gethostname()}" in refused.output
    assert not (folder / "config.yaml").exists()
    first.kill()
    first.wait()
    trainer.whole(folder, max_train_steps=1)


# ------------------------------------------------------------------------------------------------ death of a rank


def test_the_other_ranks_report_host_and_step_of_a_killed_rank(trainer, tmp_path):
    """Rank 1 is killed after step 6. Breaks if the only message is that some connection was closed."""
    settings: dict[str, Any] = dict(SETTINGS, save_steps=3, processes=2, **SPREAD[2])
    left = trainer(tmp_path, arrangements=[(die_at, 1, 6)], **settings)
    assert left[1].code == -signal.SIGKILL and left[0].code == 1
    line = (tmp_path / "ranks" / "rank-1.txt").read_text()
    assert line.startswith(f"rank 1 of 2 on {socket.gethostname()}, pid ") and ": running, step 6 at " in line
    assert line.strip() + " -- then nothing more" in left[0].output
    assert ": failed after step " in (tmp_path / "ranks" / "rank-0.txt").read_text()
    trainer.whole(tmp_path, **settings)
    assert not (tmp_path / "ranks").exists()
