"""The folder of a sweep -> what its report says in numbers: ranking, best recipe, re-runs, importance."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from qa_accel.experiments import trials as folders
from qa_accel.experiments.importance import Importance, importances
from qa_accel.experiments.luck import Confirmed, Expectation, Luck, best_by_reruns, expectation, luck, with_reruns
from qa_accel.experiments.trials import CONFIRMED, FAILED, FINISHED, PRUNED, STATES, SweepPlan, Trial
from qa_accel.messages import short
from qa_accel.run_layout import SWEEP_PLAN


@dataclass(frozen=True)
class SweepResults:
    folder: Path
    plan: SweepPlan
    trials: Sequence[Trial]
    """By number; values are finite or None."""
    confirmations: Sequence[Trial]

    @cached_property
    def ranked(self) -> list[Trial]:
        """The finished trials that have a value, the best first; of equal ones the earlier."""
        return folders.best_first(self.trials)

    @cached_property
    def all_best_first(self) -> list[Trial]:
        """All trials: the ranked ones, then pruned ones by their last value, then the others."""
        places = {trial.number: place for place, trial in enumerate(self.ranked)}

        def key(trial: Trial) -> tuple[float, ...]:
            value = math.inf if trial.value is None else -trial.value
            return places.get(trial.number, math.inf), trial.state != PRUNED, value, trial.number

        return sorted(self.trials, key=key)

    @cached_property
    def states(self) -> dict[str, int]:
        """State -> number of trials; all states are there."""
        counts = Counter(trial.state for trial in self.trials)
        return {state: counts[state] for state in STATES}

    @cached_property
    def top(self) -> list[Confirmed]:
        """The three best and all others that were run again, in the order of the sweep."""
        reruns: dict[int, list[float]] = {}
        for run in self.confirmations:
            if run.state == FINISHED and run.value is not None:
                reruns.setdefault(run.number, []).append(run.value)
        chosen = [trial for place, trial in enumerate(self.ranked) if place < CONFIRMED or trial.number in reruns]
        return [Confirmed(each.number, each.value or 0.0, tuple(reruns.get(each.number, ()))) for each in chosen]

    @cached_property
    def luck(self) -> Luck:
        """Needs scipy."""
        return luck([trial.value or 0.0 for trial in self.ranked], self.top)

    @cached_property
    def expectation(self) -> Expectation | None:
        """Of the best recipe; None where the luck of seeds is not known."""
        return expectation(self.top)

    @cached_property
    def importances(self) -> list[Importance]:
        return importances([trial.params for trial in self.ranked], [trial.value or 0.0 for trial in self.ranked])

    @property
    def best_confirmed(self) -> Confirmed | None:
        """The one with the best mean of re-runs; None where none was run again."""
        return next(iter(best_by_reruns(self.top)), None)

    @property
    def best(self) -> Trial | None:
        """By the mean of its re-runs where there are re-runs, else by its value; None where no trial has a value."""
        if self.best_confirmed is not None:
            return next(trial for trial in self.ranked if trial.number == self.best_confirmed.trial)
        return self.ranked[0] if self.ranked else None

    @property
    def order_by_reruns(self) -> list[int]:
        """Trials that were run again, by the mean of their re-runs."""
        return [each.trial for each in best_by_reruns(self.top)]

    @property
    def order_holds(self) -> bool | None:
        """Whether the re-runs order the best trials as the sweep did; None of fewer than two."""
        in_sweep = [each.trial for each in with_reruns(self.top)]
        return None if len(in_sweep) < 2 else in_sweep == self.order_by_reruns

    @property
    def seconds(self) -> float:
        """Of all trials and re-runs together."""
        return sum(seconds_of(run) or 0.0 for run in (*self.trials, *self.confirmations))


def read_sweep(folder: Path) -> SweepResults:
    """Raises ValueError for a folder that is no sweep's, and for a damaged file, with its name."""
    plan = folders.read_plan(folder)
    _check_plan(plan, folder / SWEEP_PLAN)
    trials = [_checked(trial) for trial in folders.read_trials(folder)]
    return SweepResults(folder, plan, trials, [_checked(run) for run in folders.read_confirmations(folder)])


def _check_plan(plan: SweepPlan, path: Path) -> None:
    """Raises ValueError for what scripts/sweep.py does not write."""
    if not isinstance(plan.metric, str) or not isinstance(plan.fixed, dict):
        raise ValueError(f"{path}: is not a sweep's plan: metric is a text and fixed are settings")
    for parameter in plan.space:
        bounds = (parameter.low, parameter.high)
        numbers = all(map(_is_number, bounds))
        is_range = numbers and (0.0 if parameter.log else -math.inf) < parameter.low < parameter.high  # type: ignore[operator]
        if not (parameter.choices if parameter.kind == "choice" else is_range):
            raise ValueError(f"{path}: {short(parameter.name)} has neither choices nor a range of numbers")


def _checked(trial: Trial) -> Trial:
    """A value that is no number, as of a model that diverged, is none."""
    value = float(trial.value) if trial.value is not None and math.isfinite(trial.value) else None
    evaluations = [list(pair) for pair in trial.evaluations if all(map(_is_number, pair))]
    return replace(trial, value=value, evaluations=evaluations)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def seconds_of(trial: Trial) -> float | None:
    """From the first start to the end, waiting for a requeued job included; None of a trial that has not ended."""
    times = (trial.began, trial.ended)
    if not all(map(_is_number, times)):
        return None
    assert trial.began is not None and trial.ended is not None, "they are numbers"
    return max(0.0, trial.ended - trial.began)


def parameter_names(results: SweepResults) -> list[str]:
    """Those of the space, then others that trials have."""
    names = [parameter.name for parameter in results.plan.space]
    return list(dict.fromkeys([*names, *(name for trial in results.trials for name in trial.params)]))


def shown_param(value: Any) -> str:
    """As a flag or a person would write it."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def unfinished_reruns(results: SweepResults) -> int:
    """Re-runs that failed, or have not ended."""
    return sum(run.state != FINISHED or run.value is None for run in results.confirmations)


def failures(results: SweepResults) -> list[Trial]:
    return [trial for trial in results.trials if trial.state == FAILED]
