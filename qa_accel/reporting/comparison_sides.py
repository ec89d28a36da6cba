"""Two sides of judged runs on the same questions -> what differs in their runs, so that a difference of scores is not the models'.

A side is one run, or several that should differ in their seed alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qa_accel.inference.answer_policy import THRESHOLD_KEY
from qa_accel.reporting.judged_run import JudgedRun
from qa_accel.reporting.local_places import PER_RUN, spelled

DECIDES_SCORES = ("max_answer_length", "n_best_size", "min_confidence")
"""Settings that make scores of two runs hard to compare."""
NEGATIVE = "version_2_with_negative"
OF_MODEL = frozenset({"model_name_or_path", "tokenizer_name", "model_revision"})
TUNED = "tuned"


@dataclass(frozen=True, eq=False)
class Side:
    name: str
    names: Sequence[str]
    """Of the runs, unlike those of the other side."""
    runs: Sequence[JudgedRun]
    """Of equal questions, in equal order."""

    @property
    def first(self) -> JudgedRun:
        return self.runs[0]

    @property
    def first_name(self) -> str:
        return self.names[0]


def warnings(one: Side, other: Side) -> list[str]:
    """What makes the difference of both something else than a difference of models."""
    return [*_within(one), *_within(other), *_between(one, other)]


def have_seeds(one: Side, other: Side) -> bool:
    """Whether the runs of each side may be taken for different seeds. Those with the same answers are copies, or trainings that
    do not depend on the seed."""
    return not (_same_answers(one) or _same_answers(other))


def threshold_note(one: Side, other: Side) -> str | None:
    """Where every run tuned its own threshold: what these are. That is no fault of the comparison."""
    runs = [*one.runs, *other.runs]
    if {_kind_of_threshold(run) for run in runs} != {TUNED} or len({run.threshold for run in runs}) == 1:
        return None
    return f"Each model has its own tuned threshold: {_thresholds(one)} for {one.name}, {_thresholds(other)} for {other.name}."


def differing_settings(one: Side, other: Side) -> list[tuple[str, str, str]] | None:
    """(name, values of the one side, values of the other) of settings that change a run; None where a run has no settings."""
    if not all(run.files.settings for run in [*one.runs, *other.runs]):
        return None
    found = []
    for name in _setting_names(one, other):
        here, there = _values(one, name), _values(other, name)
        if _are_same(here, there):
            continue
        texts = [_spelled(name, values) for values in (here, there)]
        if texts[0] == texts[1]:
            texts[1] += " (in another folder)"
        found.append((name, texts[0], texts[1]))
    return found


def _within(side: Side) -> list[str]:
    found = [
        f"{name} and {again} of {side.name} have the same answers: they are not different seeds, and seeds are not compared."
        for name, again in _same_answers(side)
    ]
    if len({_kind_of_threshold(run) for run in side.runs}) > 1:
        found.append(f"The thresholds of {side.name} differ from run to run: {_thresholds(side)}.")
    # answers of several models: there the model is what the seed has changed
    ignored = {"seed", NEGATIVE, THRESHOLD_KEY, *(() if side.first.files.trained else OF_MODEL)}
    differing = [
        f"{name} ({_spelled(name, values)})"
        for name in _setting_names(side)
        if name not in ignored and len(values := _values(side, name)) > 1
    ]
    if len({run.version_2_with_negative for run in side.runs}) > 1:
        differing.append(NEGATIVE)
    if differing:
        found.append(f"The runs of {side.name} differ in more than their seed: {', '.join(differing)}.")
    return found


def _between(one: Side, other: Side) -> list[str]:
    found = []
    here, there = ({_kind_of_threshold(run) for run in side.runs} for side in (one, other))
    if here != there:
        differ = f"The thresholds differ: {_thresholds(one)} for {one.name}, {_thresholds(other)} for {other.name}."
        one_is_tuned = (TUNED in here) != (TUNED in there)
        found.append(f"{differ} A tuned threshold is an advantage that is not the model's." if one_is_tuned else differ)
    may = [any(run.version_2_with_negative for run in side.runs) for side in (one, other)]
    if may[0] != may[1]:
        found.append(f'Only {one.name if may[0] else other.name} may answer with "no answer".')
    if all(run.files.settings for run in [*one.runs, *other.runs]):
        for name in DECIDES_SCORES:
            values = [_values(side, name) for side in (one, other)]
            if not _are_same(*values):
                shown = [_spelled(name, each) for each in values]
                found.append(f"{name} is {shown[0]} for {one.name} and {shown[1]} for {other.name}.")
    return found


def _same_answers(side: Side) -> list[tuple[str, str]]:
    """Names of a run and of a later one that answers every question alike."""
    answers = [run.outcomes.predictions_at(run.threshold) for run in side.runs]
    return [
        (side.names[answers.index(each)], side.names[place])
        for place, each in enumerate(answers)
        if answers.index(each) < place
    ]


def _kind_of_threshold(run: JudgedRun) -> str:
    """TUNED, whatever the value, or how a threshold that was given or is the default reads."""
    if run.threshold is None:
        return run.threshold_source
    return TUNED if _is_tuned(run) else f"{run.threshold:.4g}"


def _is_tuned(run: JudgedRun) -> bool:
    """A training run tunes what is not given; predict.py takes what the model stores, else 0."""
    if run.files.settings.get(THRESHOLD_KEY) is not None:
        return False
    if run.files.trained:
        return run.files.policy.null_score_diff_threshold is not None
    return run.files.results.get(THRESHOLD_KEY) is not None and run.threshold != 0


def _thresholds(side: Side) -> str:
    """Values with where they come from: "0.5, 0.7 (tuned by the run)"."""
    by_source: dict[str, list[str]] = {}
    for run in side.runs:
        by_source.setdefault(run.threshold_source, []).extend([] if run.threshold is None else [f"{run.threshold:.4g}"])
    return " and ".join(f"{', '.join(values)} ({source})" if values else source for source, values in by_source.items())


def _setting_names(*sides: Side) -> list[str]:
    names = dict.fromkeys(name for side in sides for run in side.runs for name in run.files.settings)
    return [name for name in names if name not in PER_RUN]


def _values(side: Side, name: str) -> list[Any]:
    """Different ones of the runs that have settings; a setting may be a list, which no set holds."""
    return _distinct(run.files.settings.get(name) for run in side.runs if run.files.settings)


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _are_same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return all(value in other for value in one) and all(value in one for value in other)


def _spelled(name: str, values: Sequence[Any]) -> str:
    texts = _distinct("not set" if value is None else spelled(name, value) for value in values)
    return " or ".join(texts) + (" of different folders" if len(texts) < len(values) else "")
