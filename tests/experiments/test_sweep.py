"""scripts/sweep.py with real training runs on the toy: workers that share trials, die, are stopped and go on."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from launches import REPOSITORY
from sweeps import WORKERS, Sweep, SweepWorker, Trainings, wait_for
from training_runs import assert_same_weights, lines_of, results_of, steps_of

from qa_accel.experiments import trials
from qa_accel.experiments.space import Parameter

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "weight_decay": [0.0, 0.1]}
MakeSweep = Callable[..., Sweep]
LONG = {"num_train_epochs": 20}
"""A run of the toy that does not end before its ranks have seen the file STOP, which they look for once a second."""


@pytest.fixture(scope="module")
def trainings(tmp_path_factory) -> Iterator[Trainings]:
    with Trainings(tmp_path_factory.mktemp("trainings")) as server:
        yield server


@pytest.fixture(scope="module")
def make(toy, trainings, tmp_path_factory) -> MakeSweep:
    folder = tmp_path_factory.mktemp("sweeps")

    def make_sweep(name: str, space: dict[str, Any] = SPACE, **settings: Any) -> Sweep:
        return Sweep(toy, folder / name, trainings, space, settings)

    return make_sweep


@pytest.fixture(scope="module")
def whole(make) -> Sweep:
    """Two trials by one worker, undisturbed, and a confirmation of each."""
    sweep = make("whole")
    sweep.whole("--confirm_seeds", "1", trials=2)
    return sweep


def in_the_middle(sweep: Sweep, worker: SweepWorker, *, after: int) -> int:
    """Wait until a trial of this worker has written so many lines; its number."""

    def found() -> list[int]:
        mine = [one.number for one in sweep.trials if one.owner.get("pid") == worker.process.pid and not one.has_ended]
        return [number for number in mine if sweep.lines(number) >= after]

    wait_for(found, f"a trial in its middle\n{worker.output if worker.place.with_suffix('.log').exists() else ''}")
    return found()[0]


def one_of_two_killed(sweep: Sweep, *flags: str) -> tuple[int, SweepWorker]:
    """Two workers do two trials, one of them is killed in the middle of its own: that trial's number, and who took it up."""
    workers = [sweep.start(*flags, trials=2) for _ in range(2)]
    number = in_the_middle(sweep, workers[1], after=12)  # of 18 steps; the first checkpoint is that of step 9
    other_at_work = sum(one.state == "running" for one in sweep.trials) == 2
    workers[1].kill()
    assert workers[0].ended() == 0, workers[0].output
    if other_at_work:
        return number, workers[0]
    # the other had done its trial before the kill, and left what the killed one still ran
    third = sweep.start(*flags, trials=2)
    assert third.ended() == 0, third.output
    return number, third


def results(sweep: Sweep) -> list[tuple[int, str, dict[str, Any], float | None, list[Any]]]:
    return [(one.number, one.state, one.params, one.value, one.evaluations) for one in sweep.trials]


def assert_each_step_once(folder: Path) -> None:
    steps = [line["step"] for line in steps_of(folder)]
    assert steps == list(range(1, results_of(folder)["steps"] + 1))


def test_a_whole_sweep_keeps_results_and_no_checkpoints(whole):
    """Breaks if a value is not that of the run's results, a number is missing, or checkpoints fill the disk."""
    assert [one.number for one in whole.trials] == [0, 1]
    for one in whole.trials:
        folder = whole.training(one.number)
        assert (one.state, one.starts) == ("finished", 1)
        assert one.value == results_of(folder)["best_f1"]
        assert [step for step, _ in one.evaluations] == [9, 18]
        assert not list(folder.glob("checkpoint-*")) and (folder / "model.safetensors").is_file()
        assert_each_step_once(folder)


def test_the_best_are_run_again_with_a_seed_that_no_trial_had(whole):
    """Breaks if the places are not by value, a seed is one of the search, or settings other than the seed change."""
    best = sorted(whole.trials, key=lambda one: (-(one.value or 0), one.number))
    again = trials.read_confirmations(whole.output)
    assert [one.confirms for one in again] == [one.number for one in best]
    assert [one.params for one in again] == [one.params | {"seed": 1} for one in best]
    for place, one in enumerate(again, start=1):
        folder = trials.confirmation_folder(whole.output, place, 1)
        assert (one.state, one.value) == ("finished", results_of(folder)["best_f1"])
        differ = [
            line
            for line in (folder / "config.yaml").read_text().splitlines()
            if line not in (whole.training(best[place - 1].number) / "config.yaml").read_text().splitlines()
        ]
        assert sorted(line.partition(":")[0] for line in differ) == ["output_dir", "seed"]


def test_three_are_confirmed_the_best_first_and_of_equal_ones_the_earlier():
    """Five trials written by hand; seeds 1 and 3 were searched. Breaks if a pruned or failed one counts, or a seed is used."""
    values = [("finished", 60.0), ("pruned", 90.0), ("finished", 70.0), ("finished", 70.0), ("finished", 50.0)]
    ended = [
        trials.Trial(number, state, {"seed": 1 + 2 * (number % 2)}, value)
        for number, (state, value) in enumerate(values)
    ]
    searched = (Parameter("seed", "choice", choices=(1, 3)),)
    plan = trials.SweepPlan("random", 0, 5, "best_f1", searched, {}, ("none",), confirm_seeds=2)
    found = trials.confirmations(plan, ended)
    assert [(place, one.number) for place, one, _ in found] == [(1, 2), (1, 2), (2, 3), (2, 3), (3, 0), (3, 0)]
    assert [seed for _, _, seed in found] == [2, 4] * 3


def test_the_documented_command_repeats_a_trial_in_another_folder(whole, trainings, tmp_path):
    """The command of the table in docs/better_models.md. Breaks if it lacks a folder of its own, which the trial's is not, or if
    the trial's recipe lacks a setting."""
    text = (REPOSITORY / "docs" / "better_models.md").read_text()
    command = re.search(r"`(scripts/train\.py --config runs/sweep/trial-N/config\.yaml [^`]+)` repeats it", text)
    assert command is not None
    before = lines_of(whole.training(1))
    words = (
        command[1].replace("runs/sweep/trial-N", str(whole.training(1))).replace("runs/again", str(tmp_path / "again"))
    )
    launch = [*trainings.launcher.split(), *words.split()]
    assert subprocess.run(launch, cwd=REPOSITORY, env=os.environ | WORKERS).returncode == 0
    assert_same_weights(tmp_path / "again", whole.training(1))
    assert lines_of(whole.training(1)) == before == lines_of(tmp_path / "again")


def test_two_workers_of_which_one_is_killed_lose_no_trial_and_run_none_twice(whole, make):
    """The killed one's trial goes on from its checkpoint in the other worker. Breaks if it is lost, begins from its first
    step, is trained by two processes at once, or if any result is not that of the undisturbed sweep."""
    sweep = make("killed")
    number, survivor = one_of_two_killed(sweep, "--confirm_seeds", "0")
    assert results(sweep) == results(whole)
    assert [one.starts for one in sweep.trials] == [2 if one.number == number else 1 for one in sweep.trials]
    assert f"trial-{number}, taken up" in survivor.output
    assert "resumed from" in (sweep.training(number) / "train.log").read_text()
    for one in sweep.trials:
        assert_each_step_once(sweep.training(one.number))
        assert_same_weights(sweep.training(one.number), whole.training(one.number))
        assert lines_of(sweep.training(one.number)) == lines_of(whole.training(one.number))


def test_two_workers_of_tpe_share_a_journal_with_the_folders_numbers_and_results(make):
    """One of them is killed in the middle of a trial. Breaks if a number is asked for twice, if a trial stays running in the
    journal, or if journal and folder differ in a value."""
    optuna = pytest.importorskip("optuna")
    sweep = make("tpe")
    flags = ("--confirm_seeds", "0", "--sampler", "tpe")
    one_of_two_killed(sweep, *flags)
    backend = optuna.storages.journal.JournalFileBackend(str(sweep.output / "optuna.journal"))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    assert [one.number for one in sweep.trials] == [one.number for one in study.trials] == [0, 1]
    for ours, theirs in zip(sweep.trials, study.trials):
        assert (ours.state, theirs.state.name) == ("finished", "COMPLETE")
        assert theirs.value == ours.value
        assert theirs.intermediate_values == {n: value for n, (_, value) in enumerate(ours.evaluations)}
        assert ours.params["learning_rate"] == pytest.approx(theirs.params["learning_rate"], rel=1e-5)
        assert json.dumps(ours.params["weight_decay"]) == theirs.params["weight_decay"]
        assert_each_step_once(sweep.training(ours.number))


SIGNALS = [signal.SIGINT, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGTERM, signal.SIGUSR1))]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda one: one.name)
def test_a_signalled_worker_saves_its_trial_and_the_same_command_goes_on_with_it(number, make):
    """Breaks if the signal ends the run without a checkpoint, if the exit code is not 75, or if another trial is begun."""
    whole, sweep = (make(name, **LONG) for name in (f"{number.name}-undisturbed", number.name))
    whole.whole("--confirm_seeds", "0", trials=1)
    worker = sweep.start("--confirm_seeds", "0", trials=1)
    in_the_middle(sweep, worker, after=3)
    worker.signal(number)
    assert worker.ended() == 75, worker.output
    [trial] = sweep.trials
    assert (trial.state, trial.starts) == ("running", 1)
    assert "trial-0: stopped" in worker.output and "the same command goes on with it" in worker.output
    sweep.whole("--confirm_seeds", "0", trials=1)
    [trial] = sweep.trials
    assert (trial.state, trial.starts) == ("finished", 2)
    assert_same_weights(sweep.training(0), whole.training(0))
    assert_each_step_once(sweep.training(0))


def test_a_run_that_outlived_its_worker_is_read_and_not_run_again(whole, make):
    """A worker was killed between its run's end and the result. Breaks if the run is started a second time, or its result is
    lost."""
    sweep = make("outlived")
    shutil.copytree(whole.output, sweep.output)
    before = (sweep.training(1) / "train.log").read_bytes()
    known = sweep.trials[1]
    unwritten = dataclasses.replace(known, state="running", value=None, evaluations=[], ended=None)
    trials.write_trial(sweep.training(1), unwritten)
    output = sweep.whole("--confirm_seeds", "1", trials=2)
    assert "trial-1, taken up" in output and output.count("confirm") == 0
    assert results(sweep) == results(whole)
    assert sweep.trials[1].starts == 1 and (sweep.training(1) / "train.log").read_bytes() == before


def test_a_run_below_the_median_is_pruned_at_an_evaluation(make):
    """Five trials are written by hand, with values that the real sixth one cannot have. Breaks if it goes on to its end, if
    it counts as failed, if its first evaluation prunes it, or if a pruned run keeps what only a resume needs."""
    sweep, steps = make("pruned", eval_steps=9, **LONG), range(9, 181, 9)
    for number in range(5):
        ended = trials.Trial(number, "finished", {"weight_decay": 0.0}, 101.0, [[step, 101.0] for step in steps])
        sweep.training(number).mkdir(parents=True)
        trials.write_trial(sweep.training(number), ended)
    output = sweep.whole("--confirm_seeds", "0", trials=6)
    pruned = sweep.trials[5]
    assert pruned.state == "pruned", output
    assert "evaluations, the median of 5 other trials is 101.00" in (pruned.reason or "")
    assert 2 <= len(pruned.evaluations) < len(steps) and pruned.value == pruned.evaluations[-1][1]
    assert not (sweep.training(5) / "all_results.json").exists()
    assert not list(sweep.training(5).glob("checkpoint-*")) and not (sweep.training(5) / "best").exists()


@pytest.mark.slow
def test_a_trial_that_is_stopped_by_hand_is_pruned_and_the_sweep_goes_on(make):
    """Breaks if the file STOP in a trial's folder ends the worker, or if the trial comes back."""
    sweep = make("by_hand", num_train_epochs=6)
    worker = sweep.start("--confirm_seeds", "0", trials=2)
    number = in_the_middle(sweep, worker, after=3)
    (sweep.training(number) / "STOP").touch()
    assert worker.ended() == 0, worker.output
    assert [(one.state, one.reason) for one in sweep.trials] == [
        ("pruned", "stopped by hand (the file STOP)"),
        ("finished", None),
    ]


def test_a_combination_that_is_refused_is_a_failed_trial_with_its_reason_and_never_started(make):
    """Breaks if it ends the sweep, or costs the start of a run."""
    space = {"max_query_length": [16, 64]}  # 64 is all of the window
    sweep = make("refused", space, num_train_epochs=1)
    sweep.whole("--confirm_seeds", "0", "--seed", "2", trials=2)
    for one in sweep.trials:
        if one.params["max_query_length"] == 16:
            assert (one.state, one.starts) == ("finished", 1)
        else:
            assert (one.state, one.starts, one.value) == ("failed", 0, None)
            assert "max_seq_length must be more than max_query_length (64), got 64" in (one.reason or "")
    assert {one.state for one in sweep.trials} == {"finished", "failed"}


def test_trials_that_fail_one_after_the_other_stop_the_sweep(make):
    """Data that are not there. Breaks if all of a night's trials fail for one reason, or the message does not have it."""
    sweep = make("hopeless", train_file=["nowhere.json"])
    worker = sweep.start(trials=64)
    assert worker.ended() == 2
    assert [one.state for one in sweep.trials] == ["failed"] * 6
    assert "6 trials in a row failed, the last one: exit code 2: error" in worker.output
    assert "nowhere.json: there is no such file" in worker.output and "Traceback" not in worker.output


def test_a_run_that_crashes_is_started_once_more(make):
    """The first start is killed, as for want of memory. Breaks if the trial counts as failed, or loses its checkpoint."""
    sweep = make("crashed", num_train_epochs=6)
    worker = sweep.start("--confirm_seeds", "0", trials=1)
    in_the_middle(sweep, worker, after=12)
    status = wait_for(lambda: next((sweep.training(0) / "ranks").glob("rank-0.txt"), None), "the run's status")
    pid = re.search(r"pid (\d+)", status.read_text())
    assert pid is not None
    os.kill(int(pid[1]), signal.SIGKILL)
    assert worker.ended() == 0, worker.output
    [trial] = sweep.trials
    assert (trial.state, trial.starts) == ("finished", 2)
    assert "trial-0: crashed" in worker.output
    assert_each_step_once(sweep.training(0))


@pytest.mark.slow
def test_a_worker_that_finds_only_running_trials_says_so_and_leaves(make):
    """Breaks if it waits for hours, or takes the other's trial."""
    sweep = make("busy", num_train_epochs=8)
    worker = sweep.start("--confirm_seeds", "0", trials=1)
    in_the_middle(sweep, worker, after=1)
    began = time.monotonic()
    output = sweep.whole("--confirm_seeds", "0", trials=1)
    assert "no trial is free; 1 are running elsewhere" in output
    assert sweep.trials[0].state == "running" and time.monotonic() - began < 60
    assert worker.ended() == 0
    assert sweep.trials[0].starts == 1


def test_another_plan_in_the_same_folder_is_refused(whole):
    """Breaks if two workers search different things in one folder."""
    worker = whole.start("--confirm_seeds", "1", "--seed", "5", trials=4)
    assert worker.ended() == 2
    assert "holds a sweep with another seed (0, here 5) and trials (2, here 4). Give the same" in worker.output
