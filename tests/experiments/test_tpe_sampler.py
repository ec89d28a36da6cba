"""TPE: numbers of journal and folders agree, results that nobody told are told, and a killed worker's lock is free."""

import math
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from processes import call, run

from qa_accel.distributed.claims import Claims
from qa_accel.experiments import tpe_sampler
from qa_accel.experiments.space import Parameter
from qa_accel.experiments.tpe_sampler import TPESampler
from qa_accel.experiments.trials import FAILED, FINISHED, PRUNED, Trial

pytest.importorskip("optuna")
SPACE = (
    Parameter("learning_rate", "float", 1e-5, 1e-3, log=True),
    Parameter("decay", "float", 0.0, 0.3, step=0.1),
    Parameter("steps", "int", 0, 100, step=10),
    Parameter("modules", "choice", choices=(["query"], ["query", "value"], None)),
)


def opened(folder: Path, worker: int = 0) -> TPESampler:
    return TPESampler(folder, SPACE, seed=0, worker=worker, claims=Claims(folder))


def journal(folder: Path) -> list[tuple[str, float | None, dict[int, float]]]:
    trials = opened(folder)._study.get_trials()
    assert [one.number for one in trials] == list(range(len(trials)))
    return [(one.state.name, one.value, one.intermediate_values) for one in trials]


def test_values_are_in_the_space_and_a_trial_of_a_killed_worker_gets_the_same_again(tmp_path):
    """Breaks if a choice that is a list is lost, or a number that was asked for gets other values in the next worker."""
    first = opened(tmp_path)
    given = [first.params(number) for number in range(6)]
    for params in given:
        assert 1e-5 <= params["learning_rate"] <= 1e-3
        assert params["decay"] in (0.0, 0.1, 0.2, 0.3) and params["steps"] in range(0, 101, 10)
        assert type(params["steps"]) is int and params["modules"] in SPACE[3].choices
    assert len({params["learning_rate"] for params in given}) == 6
    second = opened(tmp_path, worker=1)
    assert [second.params(number) for number in range(6)] == given
    assert [state for state, _, _ in journal(tmp_path)] == ["RUNNING"] * 6


def test_two_workers_do_not_ask_for_the_same(tmp_path):
    """Breaks if both have one random state: at first, without results, their trials would be equal."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert opened(tmp_path / "a", worker=0).params(0) != opened(tmp_path / "b", worker=1).params(0)


def test_results_that_a_killed_worker_did_not_tell_are_told_once(tmp_path):
    """Breaks if TPE learns nothing from them, or a second telling is an error."""
    sampler = opened(tmp_path)
    for number in range(4):
        sampler.params(number)
    sampler.report(1, 0, 40.0)
    ended = [
        Trial(0, FINISHED, {}, value=70.0, evaluations=[[5, 60.0], [10, 70.0]]),
        Trial(1, PRUNED, {}, value=41.0, evaluations=[[5, 40.0], [10, 41.0]]),
        Trial(2, FAILED, {}, reason="no"),
        Trial(3, "running", {}),
    ]
    expected = [
        ("COMPLETE", 70.0, {0: 60.0, 1: 70.0}),
        ("PRUNED", 41.0, {0: 40.0, 1: 41.0}),
        ("FAIL", None, {}),
        ("RUNNING", None, {}),
    ]
    for worker in range(2):
        opened(tmp_path, worker).catch_up(ended)
        assert journal(tmp_path) == expected


def test_it_learns(tmp_path):
    """A score that is highest at 1e-4, in the middle of two powers of ten: random draws are half a power off on average
    (of twenty 0.5, standard deviation 0.06), optuna's own loop of ask and tell a quarter. Breaks if results are told with the wrong sign, or not at all."""
    sampler, distances = TPESampler(tmp_path, SPACE[:1], seed=0, worker=0, claims=Claims(tmp_path)), []
    for number in range(40):
        distances.append(abs(math.log10(sampler.params(number)["learning_rate"]) + 4))
        sampler.catch_up([Trial(number, FINISHED, {}, value=100 - 50 * distances[-1])])
    assert sum(distances[20:]) / 20 < 0.3


def die_with_the_lock(folder: Path) -> None:
    """In the middle of a line, as a killed worker may be."""
    tpe_sampler.KernelLock(folder / tpe_sampler.JOURNAL, Claims(folder)).acquire()
    with (folder / tpe_sampler.JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    os.kill(os.getpid(), signal.SIGKILL)


def ask(folder: Path) -> tuple[int, float]:
    """Trials in the journal afterwards, and the seconds that it took."""
    began = time.monotonic()
    sampler = opened(folder, worker=1)
    sampler.params(1)
    return len(sampler._study.get_trials()), time.monotonic() - began


def test_a_worker_that_is_killed_with_the_lock_blocks_nobody_and_leaves_a_journal_that_can_be_read(tmp_path):
    """Breaks with optuna's own locks, which others wait for, and if half a line is left in the journal's middle."""
    opened(tmp_path).params(0)
    [left] = run(die_with_the_lock, tmp_path)
    assert left.code == -signal.SIGKILL
    [(count, seconds)] = call(ask, tmp_path)
    assert count == 2 and seconds < 25, "optuna's own locks are free after 30 s"
    assert len(journal(tmp_path)) == 2


def test_without_optuna_a_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"--sampler tpe needs the package optuna: pip install 'qa-accel\[sweep\]'"):
        opened(tmp_path)
