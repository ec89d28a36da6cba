"""The best trials and their re-runs -> the section of sweep.html that says how lucky they are, and what to expect."""

from collections.abc import Sequence

from qa_accel.experiments.luck import Confirmed
from qa_accel.experiments.sweep_results import SweepResults
from qa_accel.reporting.blocks import Block, Cell, Curve, Figure, Section, Table, Text


def luck_section(results: SweepResults) -> Section:
    title = "How lucky the best trials are"
    idea = (
        "Each value is that of a recipe with the luck of one seed, and the best of many is one with luck. Re-runs of the same "
        "recipe with fresh seeds show how much of the value was luck."
    )
    if not results.ranked:
        return Section("luck", title, [Text("There is no trial to run again.")])
    if results.best_confirmed is None:
        text = "Nothing was confirmed: no trial was run again, so that it is not known by how much the best value is lucky."
        return Section("luck", title, [Text(text, is_warning=True), Text(idea)])
    blocks: list[Block] = [Text(idea), *map(Text, _verdicts(results)), luck_table(results), _luck_figure(results)]
    return Section("luck", title, blocks)


def _verdicts(results: SweepResults) -> list[str]:
    """What the re-runs say, in sentences."""
    lucky, metric = results.luck, results.plan.metric
    first = lucky.confirmed[0]
    assert first.mean is not None and first.difference is not None, "it was run again"
    place = "The best trial" if first.trial == results.ranked[0].number else "Of those run again the best one"
    found = [
        f"{place}, {first.trial}, had {shown_score(first.value)}; its re-runs have {shown_score(first.mean)} on average: "
    ]
    found[0] += (
        f"its {metric} in the sweep was {shown_score(abs(first.difference))} {'too good' if first.difference > 0 else 'too bad'}."
    )
    interval = lucky.interval(first)
    if interval is None:
        found[0] += " The spread over seeds is not known; run more of them."
    else:
        low, high = interval
        beyond = "that is more than the luck of one seed" if low > 0 or high < 0 else "it may be the luck of one seed"
        found[0] += f" The 95 % interval of the difference is {_interval(results, first)}: {beyond}."
    if lucky.deviation is not None and lucky.expected is not None and lucky.most is not None:
        found.append(
            f"The seed alone moves a value by {shown_score(lucky.deviation)} (standard deviation, {lucky.freedom} degrees of "
            f"freedom). The best of {len(results.ranked)} such values is too good by {shown_score(lucky.expected)} on average, and by "
            f"{shown_score(lucky.most)} if all the recipes were equally good."
        )
    return [*found, *_expected(results), *_order(results)]


def _expected(results: SweepResults) -> list[str]:
    expected, count, metric = results.expectation, len(results.luck.confirmed), results.plan.metric
    if expected is None:
        return [] if count < 2 else [f"The best of {count} re-runs is lucky, too: expect less than its {metric}."]
    low, high = expected.interval
    text = f"Expect {metric} {shown_score(expected.value)} of trial {expected.trial} with further seeds"
    if count > 1:
        text += (
            f": its re-runs have {shown_score(expected.mean)}, and the best of {count} such means is too good by "
            f"{shown_score(expected.optimism)} on average"
        )
    return [f"{text}. The 95 % interval of its mean over all seeds is {low:.2f} to {high:.2f}."]


def _order(results: SweepResults) -> list[str]:
    if results.order_holds is None:
        return []
    in_sweep = ", ".join(str(each.trial) for each in results.luck.confirmed)
    by_reruns = ", ".join(map(str, results.order_by_reruns))
    text = (
        f"The order of the best holds: {in_sweep} in the sweep and in the re-runs."
        if results.order_holds
        else f"The order of the best does not hold: {in_sweep} in the sweep, {by_reruns} by the re-runs."
    )
    known = [(one, other, found) for one, other, found in results.luck.pairs if found is not None]
    apart = [f"{one} and {other}" for one, other, found in known if found.beyond_chance]
    if not known:
        return [f"{text} With so few re-runs, whether they differ at all is not known."]
    if not apart:
        return [f"{text} No two of them differ by more than chance (Welch's t-test): take the one that is cheapest."]
    return [f"{text} More than chance apart (Welch's t-test, each pair by itself): {'; '.join(apart)}."]


def luck_table(results: SweepResults) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            str(each.trial),
            each.value,
            len(each.reruns),
            each.mean,
            each.deviation,
            each.difference,
            _interval(results, each),
        )
        for each in results.luck.top
    ]
    columns = ("trial", "in the sweep", "re-runs", "their mean", "their std", "difference", "95 % interval")
    return Table("The best trials and their re-runs with fresh seeds", columns, rows)


def _interval(results: SweepResults, each: Confirmed) -> str:
    found = results.luck.interval(each)
    return "" if found is None else f"{found[0]:.2f} to {found[1]:.2f}"


def _luck_figure(results: SweepResults) -> Figure:
    confirmed = results.luck.confirmed
    names = [f"trial {each.trial}" for each in confirmed]
    reruns = [(name, value) for name, each in zip(names, confirmed) for value in each.reruns]
    curves = [
        Curve("in the sweep", names, [each.value for each in confirmed], "dots"),
        Curve("re-runs", [name for name, _ in reruns], [value for _, value in reruns], "dots"),
    ]
    return Figure("reruns", "The best trials again", "", results.plan.metric, curves)


def shown_score(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
