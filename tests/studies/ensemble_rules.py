"""Rules to join n-best lists of several models, compared on the same answers.

python tests/studies/ensemble_rules.py runs/seed-1 runs/seed-2 runs/seed-3

Each rule gives every span of a question, and "no answer", a score; all are judged as scripts/ensemble.py judges: each half of the
contexts at the threshold of the other half. Prints exact match and F1 of each rule, and its gain over the members' mean.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from qa_accel.evaluation.calibration import GoldAnswers
from qa_accel.evaluation.cross_judged import gains, judge_across
from qa_accel.inference import ensemble
from qa_accel.inference.answer_lists import NULL_ODDS_WITHOUT_SPAN, Answers, logit_score
from qa_accel.reporting.listed_answers import has_negative, listed_answers
from qa_accel.reporting.run_data import GivenData, load_rows
from qa_accel.reporting.run_files import read_run

Place = tuple[int, int]
Scores = Mapping[Place, float]
"""Of one member's spans of a question, by place."""
Joined = tuple[dict[Place, float], float]
"""Scores of spans, and of "no answer"."""


def log_sum(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def probabilities(spans: Scores, null: float, *, with_null: bool) -> tuple[dict[Place, float], float]:
    total = log_sum([*spans.values(), *([null] if with_null else [])])
    return {place: math.exp(score - total) for place, score in spans.items()}, null - total


def mean_probability(members: Sequence[tuple[Scores, float]]) -> Joined:
    """Spans and "no answer" in one softmax, averaged."""
    listed = [probabilities(spans, null, with_null=True) for spans, null in members]
    null = math.fsum(math.exp(log) for _, log in listed) / len(members)
    return summed([spans for spans, _ in listed]), math.log(null + 1e-300)


def mean_of_both(members: Sequence[tuple[Scores, float]]) -> Joined:
    """Spans given that there is an answer, averaged; the probability of no answer, averaged, as odds."""
    listed = [probabilities(spans, null, with_null=False)[0] for spans, null in members]
    none = math.fsum(math.exp(probabilities(spans, null, with_null=True)[1]) for spans, null in members) / len(members)
    none = min(max(none, 1e-12), 1 - 1e-12)
    return summed(listed), math.log(none / (1 - none))


def mean_score(members: Sequence[tuple[Scores, float]]) -> Joined:
    """Scores averaged as they are; a span that is not listed has the lowest score of the list."""
    places = {place for spans, _ in members for place in spans}
    joined = {
        place: math.fsum(spans.get(place, min(spans.values())) for spans, _ in members) / len(members)
        for place in places
    }
    return joined, math.fsum(null for _, null in members) / len(members)


def highest_probability(members: Sequence[tuple[Scores, float]]) -> Joined:
    """The surest member decides, for spans and for no answer."""
    listed = [probabilities(spans, null, with_null=True) for spans, null in members]
    joined: dict[Place, float] = {}
    for spans, _ in listed:
        for place, p in spans.items():
            joined[place] = max(joined.get(place, -math.inf), math.log(p + 1e-300))
    return joined, max(log for _, log in listed)


def reciprocal_ranks(members: Sequence[tuple[Scores, float]]) -> Joined:
    """1 / rank, summed; "no answer" by the mean of null odds."""
    joined: dict[Place, float] = {}
    for spans, _ in members:
        for rank, place in enumerate(sorted(spans, key=lambda each: -spans[each])):
            joined[place] = joined.get(place, 0.0) + 1 / (1 + rank)
    odds = math.fsum(null - max(spans.values()) for spans, null in members) / len(members)
    return joined, odds + max(joined.values())


def spans_and_mean_odds(members: Sequence[tuple[Scores, float]]) -> Joined:
    """Spans given that there is an answer, averaged; "no answer" by the mean of null odds."""
    joined = summed([probabilities(spans, null, with_null=False)[0] for spans, null in members])
    odds = math.fsum(null - max(spans.values()) for spans, null in members) / len(members)
    return joined, odds + max(joined.values())


def summed(listed: Sequence[Mapping[Place, float]]) -> dict[Place, float]:
    """Logarithm of the mean probability of each place."""
    places = {place for spans in listed for place in spans}
    return {
        place: math.log(math.fsum(spans.get(place, 0.0) for spans in listed) / len(listed) + 1e-300) for place in places
    }


RULES: dict[str, Callable[[Sequence[tuple[Scores, float]]], Joined]] = {
    "mean of probabilities, no answer among them": mean_probability,
    "mean of the spans' probabilities, mean probability of no answer": mean_of_both,
    "mean of the spans' probabilities, mean of null odds": spans_and_mean_odds,
    "mean of scores": mean_score,
    "highest probability": highest_probability,
    "reciprocal ranks, mean of null odds": reciprocal_ranks,
}


def by_rule(rule: Callable[[Sequence[tuple[Scores, float]]], Joined], members: Sequence[Answers]) -> Answers:
    found = Answers({}, {}, {}, members[0].nbest)
    for key in members[0].nbest:
        lists, texts = [], {}
        for member in members:
            spans = {(each["start"], each["end"]): logit_score(each) for each in member.nbest[key] if each["text"]}
            texts |= {(each["start"], each["end"]): each["text"] for each in member.nbest[key] if each["text"]}
            if spans:
                lists.append((spans, max(spans.values()) + member.null_odds[key]))
        found.best_texts[key], found.null_odds[key] = "", NULL_ODDS_WITHOUT_SPAN
        if lists:
            scores, null = rule(lists)
            best = min(scores, key=lambda place: (-scores[place], place))
            found.best_texts[key], found.null_odds[key] = texts[best], null - scores[best]
    return found


def main(paths: Sequence[str]) -> None:
    runs = [read_run(Path(path)) for path in paths]
    rows, _, _ = load_rows(runs[0], GivenData())
    contexts = dict(zip(rows["id"][:], rows["context"][:]))
    golds = GoldAnswers(dict(zip(contexts, (each["text"] for each in rows["answers"][:]))), contexts)
    negative = all(map(has_negative, runs))
    members = [listed_answers(run, contexts) for run in runs]
    judged = [judge_across(each, golds, version_2_with_negative=negative) for each in members]
    print(f"{len(contexts):,} questions, {len(runs)} members")
    joined = {"qa_accel": ensemble.join(members, version_2_with_negative=negative)}
    joined |= {name: by_rule(rule, members) for name, rule in RULES.items()}
    for name, answers in joined.items():
        own = judge_across(answers, golds, version_2_with_negative=negative)
        found = gains(own, judged)
        cells = (
            f"{each.one:6.2f} {each.difference:+5.2f} ({each.low:+5.2f} to {each.high:+5.2f})"
            for each in found.values()
        )
        print("   ".join(cells), name)


if __name__ == "__main__":
    main(sys.argv[1:])
