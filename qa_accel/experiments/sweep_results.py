"""The folder of a sweep -> what its report says in numbers: ranking, best recipe, re-runs, importance; as CSV, JSON and YAML."""

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from qa_accel.experiments import trials as folders
from qa_accel.experiments.importance import Importance, importances
from qa_accel.experiments.luck import Confirmed, Luck, luck
from qa_accel.experiments.trials import CONFIRMED, FAILED, FINISHED, PRUNED, STATES, SweepPlan, Trial
from qa_accel.messages import short
from qa_accel.shell_words import quoted
from qa_accel.terminal import visible


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
        finished = [trial for trial in self.trials if trial.state == FINISHED and trial.value is not None]
        sign = 1 if self.higher_is_better else -1
        return sorted(finished, key=lambda trial: (-sign * (trial.value or 0.0), trial.number))

    @cached_property
    def best_first(self) -> list[Trial]:
        """All trials: the ranked ones, then pruned ones by their last value, then the others."""
        places = {trial.number: place for place, trial in enumerate(self.ranked)}
        sign = 1 if self.higher_is_better else -1

        def key(trial: Trial) -> tuple[float, ...]:
            value = math.inf if trial.value is None else -sign * trial.value
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
        values = [trial.value or 0.0 for trial in self.ranked]
        return luck(values, self.top, higher_is_better=self.higher_is_better)

    @cached_property
    def importances(self) -> list[Importance]:
        return importances([trial.params for trial in self.ranked], [trial.value or 0.0 for trial in self.ranked])

    @property
    def best_confirmed(self) -> Confirmed | None:
        """The one with the best mean of re-runs; None where none was run again."""
        confirmed = [each for each in self.top if each.reruns]
        sign = 1 if self.higher_is_better else -1
        return max(confirmed, key=lambda each: sign * (each.mean or 0.0), default=None)

    @property
    def best(self) -> Trial | None:
        """By the mean of its re-runs where there are re-runs, else by its value; None where no trial has a value."""
        if self.best_confirmed is not None:
            return next(trial for trial in self.ranked if trial.number == self.best_confirmed.trial)
        return self.ranked[0] if self.ranked else None

    @property
    def higher_is_better(self) -> bool:
        return self.plan.direction != "minimize"

    @property
    def order_by_reruns(self) -> list[int]:
        """Trials that were run again, by the mean of their re-runs."""
        sign = 1 if self.higher_is_better else -1
        confirmed = [each for each in self.top if each.reruns]
        return [each.trial for each in sorted(confirmed, key=lambda each: -sign * (each.mean or 0.0))]

    @property
    def order_holds(self) -> bool | None:
        """Whether the re-runs order the best trials as the sweep did; None of fewer than two."""
        in_sweep = [each.trial for each in self.top if each.reruns]
        return None if len(in_sweep) < 2 else in_sweep == self.order_by_reruns

    @property
    def seconds(self) -> float:
        """Of all trials and re-runs together."""
        return sum(seconds_of(run) or 0.0 for run in (*self.trials, *self.confirmations))


def read_sweep(folder: Path) -> SweepResults:
    """Raises ValueError for a folder that is no sweep's, and for a damaged file, with its name."""
    plan = folders.read_plan(folder)
    _check_plan(plan, folder / folders.PLAN)
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


def csv_text(results: SweepResults) -> str:
    """A row per trial, the best first."""
    names = parameter_names(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["trial", "state", results.plan.metric, *names, "seconds", "starts", "reason"]
    writer.writerow(map(visible, head))
    for trial in results.best_first:
        params = [_cell(trial.params.get(name)) for name in names]
        value = "" if trial.value is None else trial.value
        seconds = seconds_of(trial)
        row = [trial.number, trial.state, value, *params, "" if seconds is None else round(seconds, 1), trial.starts]
        writer.writerow([*row, visible(trial.reason or "")])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return value if type(value) in (int, float) else visible(shown_param(value))


def shown_param(value: Any) -> str:
    """As a flag or a person would write it."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def best_folder(results: SweepResults) -> str:
    """Where the best recipe trains: beside the sweep."""
    folder = results.folder
    return str(folder.with_name(f"{folder.name or folder.resolve().name}-best"))


def best_recipe(results: SweepResults) -> str:
    """A whole train recipe, with how it was found as comments at its head."""
    best = results.best
    assert best is not None, "there is a trial with a value"
    metric, recipe = results.plan.metric, results.folder / "best.yaml"
    lines = [
        f"python scripts/train.py --config {quoted(str(recipe))}",
        "",
        f"Trial {best.number} of the sweep {results.folder.resolve().name}: {metric} {best.value:.2f}, "
        f"the best of {len(results.ranked)} finished trials by {_criterion(results)}.",
        *_rerun_lines(results),
    ]
    head = "".join(f"# {visible(line)}".rstrip() + "\n" for line in lines)
    settings = results.plan.fixed | best.params | {"output_dir": best_folder(results)}
    return head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=10_000)


def _criterion(results: SweepResults) -> str:
    return "the mean of its re-runs" if results.best_confirmed is not None else "its own value, which is lucky"


def _rerun_lines(results: SweepResults) -> list[str]:
    found = results.best_confirmed
    if found is None:
        return ["It was not run again with fresh seeds: expect less."]
    values = ", ".join(f"{value:.2f}" for value in found.reruns)
    return [f"Re-runs with fresh seeds: {values} (mean {found.mean:.2f}); expect that."]


def as_dict(results: SweepResults) -> dict[str, Any]:
    """All numbers of the page, for JSON. Needs scipy."""
    best, plan, lucky = results.best, results.plan, results.luck
    confirmed = results.best_confirmed
    return {
        "metric": plan.metric,
        "higher_is_better": results.higher_is_better,
        "sampler": plan.sampler,
        "planned_trials": plan.trials,
        "states": results.states,
        "seconds": results.seconds,
        "best": None
        if best is None
        else {
            "trial": best.number,
            "value": best.value,
            "by": "re-runs" if confirmed else "value",
            "mean_of_reruns": confirmed.mean if confirmed else None,
            "params": best.params,
        },
        "luck": {
            "top": [_confirmed(each) for each in lucky.top],
            "deviation_over_seeds": lucky.deviation,
            "degrees_of_freedom": lucky.freedom,
            "expected_optimism": lucky.expected,
            "optimism_of_equal_trials": lucky.most,
            "order_by_reruns": results.order_by_reruns,
            "order_holds": results.order_holds,
            "pairs": [
                {"trials": [one, other]}
                | ({} if found is None else {"difference": found.difference, "interval": [found.low, found.high]})
                for one, other, found in lucky.pairs
            ],
        },
        "importance": [
            {"parameter": each.parameter, "share": each.share, "p_value": each.p_value} for each in results.importances
        ],
        "trials": [
            {
                "trial": each.number,
                "state": each.state,
                "value": each.value,
                "params": each.params,
                "seconds": seconds_of(each),
                "reason": each.reason,
            }
            for each in results.best_first
        ],
    }


def _confirmed(each: Confirmed) -> dict[str, Any]:
    return {
        "trial": each.trial,
        "value": each.value,
        "reruns": list(each.reruns),
        "mean": each.mean,
        "deviation": each.deviation,
        "difference": each.difference,
        "interval": None if each.interval is None else list(each.interval),
    }


def unfinished_reruns(results: SweepResults) -> int:
    """Re-runs that failed, or have not ended."""
    return sum(run.state != FINISHED or run.value is None for run in results.confirmations)


def failures(results: SweepResults) -> list[Trial]:
    return [trial for trial in results.trials if trial.state == FAILED]
