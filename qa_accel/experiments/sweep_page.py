"""What a sweep found -> the sections of sweep.html: the best recipe, how lucky it is, the trials, the parameters."""

from collections.abc import Sequence
from datetime import timedelta

import yaml

from qa_accel.evaluation.significance import shown_p
from qa_accel.experiments import sweep_figures
from qa_accel.experiments.importance import LEAST_TRIALS
from qa_accel.experiments.luck_page import luck_section, shown_score
from qa_accel.experiments.space import Parameter
from qa_accel.experiments.sweep_exports import best_folder
from qa_accel.experiments.sweep_results import (
    SweepResults,
    failures,
    parameter_names,
    seconds_of,
    shown_param,
    unfinished_reruns,
)
from qa_accel.experiments.trials import RUNNING, Trial
from qa_accel.reporting.blocks import Block, Cell, Code, Report, Section, Table, Text, Tile, Tiles
from qa_accel.reporting.local_places import public, spelled

MOST_ROWS = 300
MOST_FAILURES = 20
LONGEST_REASON = 300


def report(results: SweepResults) -> Report:
    best, metric = results.best, results.plan.metric
    named = f"the best of {len(results.ranked):,} finished trials" if best else "no trial has a value"
    value = "" if best is None else f"{metric} {shown_score(best.value)}, trial {best.number}: "
    return Report(
        title=f"Sweep {results.folder.resolve().name}",
        subtitle=f"{value}{named}",
        sections=[
            result_section(results),
            luck_section(results),
            history_section(results),
            parameters_section(results),
            trials_section(results),
            settings_section(results),
        ],
    )


def result_section(results: SweepResults) -> Section:
    blocks: list[Block] = [_tiles(results), *_warnings(results)]
    best = results.best
    if best is None:
        return Section("result", "The best recipe", [*blocks, Text("No trial has finished with a value yet.")])
    why = (
        "It has the best mean of the re-runs with fresh seeds."
        if results.best_confirmed is not None
        else "It has the best value of the sweep. Nothing was run again with fresh seeds, so that nothing is confirmed."
    )
    rows = [(name, shown_param(value)) for name, value in best.params.items()]
    settings = public(results.plan.fixed | best.params, (results.plan.fixed | best.params).keys())
    recipe = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=10_000)
    return Section(
        "result",
        "The best recipe",
        [
            *blocks,
            Text(f"Trial {best.number}. {why}"),
            Table("Its parameters", ("parameter", "value"), rows),
            Text("Its recipe, with names of files and models in place of where they are; best.yaml has all of it."),
            Code(recipe),
            Code(f"python scripts/train.py --config best.yaml --output_dir {best_folder(results).rpartition('/')[2]}"),
        ],
    )


def _tiles(results: SweepResults) -> Tiles:
    states, best, confirmed = results.states, results.best, results.best_confirmed
    others = ", ".join(f"{count} {state}" for state, count in states.items() if count and state != "finished")
    tiles = []
    if best is not None:
        tiles.append(Tile(results.plan.metric, shown_score(best.value), f"trial {best.number}, in the sweep"))
    if confirmed is not None:
        of = f"{len(confirmed.reruns)} fresh seed{'s' if len(confirmed.reruns) > 1 else ''}"
        tiles.append(Tile(f"{results.plan.metric}, re-runs", shown_score(confirmed.mean), f"mean of {of}"))
    if (expected := results.expectation) is not None:
        low, high = expected.interval
        interval = f"95 %: {low:.2f} to {high:.2f}"
        tiles.append(Tile(f"{results.plan.metric}, expected", shown_score(expected.value), interval))
    tiles.append(Tile("trials finished", f"{states['finished']:,} of {results.plan.trials:,}", others))
    hours = str(timedelta(seconds=round(results.seconds)))
    ended = [seconds for trial in results.trials if (seconds := seconds_of(trial)) is not None]
    mean = f"{sum(ended) / len(ended):,.0f} s a trial" if ended else ""
    return Tiles([*tiles, Tile("time of all runs", hours, mean)])


def _warnings(results: SweepResults) -> list[Text]:
    states, found = results.states, []
    if states[RUNNING]:
        found.append(f"{states[RUNNING]} trials have not ended: this report is of what there is so far.")
    if failed := states["failed"]:
        found.append(f"{failed} of {len(results.trials)} trials failed; the reasons are below the table of trials.")
    if count := unfinished_reruns(results):
        found.append(f"{count} of {len(results.confirmations)} re-runs have failed or not ended, and do not count.")
    if without := states["finished"] - len(results.ranked):
        found.append(f"{without} finished trials have no {results.plan.metric} that is a number, and do not count.")
    return [Text(text, is_warning=True) for text in found]


def history_section(results: SweepResults) -> Section:
    figure = sweep_figures.history(results)
    blocks: list[Block] = [figure] if figure.curves else [Text("No trial has a value yet.")]
    return Section("history", "History", blocks)


def parameters_section(results: SweepResults) -> Section:
    blocks: list[Block] = []
    if results.importances:
        rows: list[Sequence[Cell]] = [
            (each.parameter, f"{100 * each.share:.1f}", shown_p(each.p_value), each.groups)
            for each in results.importances
        ]
        blocks += [
            Text(
                "The trials are put into groups by one parameter: its choices, or ranges with equally many trials. Its share is "
                "how much of the variance of the values' ranks is between the groups, corrected for their number (epsilon squared); "
                "p is that of a permutation test, corrected for the number of parameters (Holm). Only the "
                f"{len(results.ranked)} finished trials count: pruned ones have no final value, and leaving them out makes shares "
                "rather too small. What parameters do only together is not in it."
                + (
                    ""
                    if results.plan.sampler == "random"
                    else " This sampler looks near good trials, so that p is a rough guide only."
                )
            ),
            sweep_figures.importance(results),
            Table("Importance of the parameters", ("parameter", "share, %", "p", "groups"), rows),
        ]
    else:
        blocks.append(Text(_why_no_importance(results)))
    if any(trial.value is not None for trial in results.trials):
        figures = sweep_figures.by_parameter(results)
        blocks += [sweep_figures.parallel(results), *figures]
        if len(results.plan.space) > sweep_figures.MOST_PARAMETERS:
            blocks.append(Text(f"Figures of the {sweep_figures.MOST_PARAMETERS} most important parameters are shown."))
    return Section("parameters", "Parameters", blocks)


def _why_no_importance(results: SweepResults) -> str:
    if len(results.ranked) < LEAST_TRIALS:
        return (
            f"{len(results.ranked)} trials have finished, which is too few to say which parameters matter: at least "
            f"{LEAST_TRIALS} are needed."
        )
    return "The finished trials differ too little to say which parameters matter."


def trials_section(results: SweepResults) -> Section:
    blocks: list[Block] = [trials_table(results, MOST_ROWS)]
    if len(results.trials) > MOST_ROWS:
        blocks.append(Text(f"{len(results.trials) - MOST_ROWS:,} more trials are in trials.csv."))
    if failed := failures(results):
        rows = [(str(trial.number), (trial.reason or "not known")[:LONGEST_REASON]) for trial in failed[:MOST_FAILURES]]
        more = len(failed) - len(rows)
        name = f"Why trials failed{f' ({len(rows)} of {len(failed)})' if more else ''}"
        blocks.append(Table(name, ("trial", "reason"), rows))
    return Section("trials", "Trials", blocks)


def trials_table(results: SweepResults, most: int) -> Table:
    """The best first."""
    names = parameter_names(results)
    rows = [_row(results, trial, names) for trial in results.all_best_first[:most]]
    return Table("Trials, the best first", ("trial", "state", results.plan.metric, *names, "seconds"), rows)


def short_table(results: SweepResults, most: int) -> Table:
    """The same for a console, which has no room for a column per parameter."""
    rows: list[Sequence[Cell]] = []
    for trial in results.all_best_first[:most]:
        seconds = seconds_of(trial)
        params = ", ".join(f"{name} {shown_param(value)}" for name, value in trial.params.items())
        rows.append((trial.number, trial.state, trial.value, params, None if seconds is None else round(seconds)))
    return Table("Trials, the best first", ("trial", "state", results.plan.metric, "parameters", "seconds"), rows)


def _row(results: SweepResults, trial: Trial, names: Sequence[str]) -> list[Cell]:
    seconds = seconds_of(trial)
    params = [shown_param(trial.params[name]) if name in trial.params else None for name in names]
    return [str(trial.number), trial.state, trial.value, *params, None if seconds is None else round(seconds)]


def settings_section(results: SweepResults) -> Section:
    plan = results.plan
    space = [(parameter.name, _range(parameter)) for parameter in plan.space]
    facts = [("sampler", plan.sampler), ("pruner", plan.pruner), ("seed of the sweep", str(plan.seed))]
    facts += [("trials planned", str(plan.trials)), ("seeds of the re-runs", str(plan.confirm_seeds))]
    fixed = [(name, spelled(name, value)) for name, value in plan.fixed.items()]
    blocks: list[Block] = [Table("Sweep", ("", ""), facts), Table("What is searched", ("setting", "values"), space)]
    if fixed:
        blocks.append(Table("Fixed in all trials", ("setting", "value"), fixed, open=len(fixed) <= 12))
    return Section("settings", "Settings", blocks)


def _range(parameter: Parameter) -> str:
    if parameter.kind == "choice":
        return " | ".join(map(shown_param, parameter.choices))
    step = f", steps of {parameter.step:g}" if parameter.step else ""
    return f"{parameter.low:g} to {parameter.high:g}{', logarithmic' if parameter.log else ''}{step}"
