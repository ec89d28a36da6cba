"""What a sweep found -> the texts of trials.csv and best.yaml, and the content of results.json."""

import csv
import io
from typing import Any

import yaml

from qa_accel.experiments.luck import Confirmed, Expectation, Luck
from qa_accel.experiments.sweep_results import SweepResults, parameter_names, seconds_of, shown_param
from qa_accel.shell_words import quoted
from qa_accel.terminal import visible


def csv_text(results: SweepResults) -> str:
    """A row per trial, the best first."""
    names = parameter_names(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["trial", "state", results.plan.metric, *names, "seconds", "starts", "reason"]
    writer.writerow(map(visible, head))
    for trial in results.all_best_first:
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
    line = f"Re-runs with fresh seeds: {values} (mean {found.mean:.2f})"
    expected, count = results.expectation, len(results.order_by_reruns)
    if count < 2:
        return [f"{line}; expect that."]
    if expected is None:
        return [f"{line}, the best of {count}: expect less."]
    return [f"{line}; expect {expected.value:.2f}, since the best of {count} means is lucky, too."]


def as_dict(results: SweepResults) -> dict[str, Any]:
    """All numbers of the page, for JSON. Needs scipy."""
    best, plan, lucky = results.best, results.plan, results.luck
    confirmed = results.best_confirmed
    return {
        "metric": plan.metric,
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
            "expected": _expected(results.expectation),
            "params": best.params,
        },
        "luck": {
            "top": [_confirmed(lucky, each) for each in lucky.top],
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
            for each in results.all_best_first
        ],
    }


def _expected(found: Expectation | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"value": found.value, "interval": list(found.interval), "optimism_of_the_mean": found.optimism}


def _confirmed(lucky: Luck, each: Confirmed) -> dict[str, Any]:
    interval = lucky.interval(each)
    return {
        "trial": each.trial,
        "value": each.value,
        "reruns": list(each.reruns),
        "mean": each.mean,
        "deviation": each.deviation,
        "difference": each.difference,
        "interval": None if interval is None else list(interval),
    }
