"""Answers of several models to the same questions -> one `Answers`: spans join by the characters that they cover, null by null.

Nothing but n-best lists is needed, so tokenizers, architectures and lengths of lists may differ. Of one question, with
s(m, i) the score of span i and n(m) the null score of member m, L(m) the log-sum-exp of s(m, i) over the spans that m lists,
and w(m) the weights, which add up to 1:

    p(i) = sum of w(m) * exp(s(m, i) - L(m))        a span that a member does not list has probability 0 there
    score of span i = log p(i) + sum of w(m) * L(m)
    null score = sum of w(m) * n(m)

So which span is right is decided by the mean of the members' probabilities (linear opinion pool, Stone 1961), whether any is
by the mean of their null scores over their spans' (logarithmic pool: means of log odds beat means of probabilities for
questions of yes or no, Turner et al. 2014, doi:10.1007/s10994-013-5401-4). Ferritto et al. 2019 (arXiv:1911.00337) sum
normalised span scores over members in the same way. docs/results.md compares other rules.

The term with L(m) is one number per question: it leaves probabilities and null odds as they are, and keeps scores on the
members' scale. So scores of several documents can be ranked as those of one model, the mean of the members' thresholds fits,
and one member alone, or copies of it, get its own scores back.

Sums are exact (math.fsum): the order of the members changes nothing. A member that lists no span of a question, since its
tokenizer finds no token in the context, has no say in it.
"""

import math
from collections.abc import Sequence

import numpy as np

from qa_accel.inference.answer_lists import Answers, Listing, NBestEntry, logit_score
from qa_accel.inference.confidence import Calibration
from qa_accel.messages import quoted


def join(
    members: Sequence[Answers],
    weights: Sequence[float] | None = None,
    *,
    threshold: float = 0.0,
    calibration: Calibration | None = None,
    version_2_with_negative: bool = True,
) -> Answers:
    """The ensemble's answers, in the first member's order of questions.

    `weights`: of the members, above 0; equal if not given. `threshold`, `calibration`: the ensemble's own, as in
    `best_answers`. An entry's `start_logit` and `end_logit` are half of its score each, so that `logit_score` gives the score
    and null odds are the difference of two such; its `score` is the mean of the members', 0 where one does not list it; its
    `probability` a softmax over the joined list. A question's list has as many spans as the longest of the members', the best
    first; equal scores in the order of their places.

    Raises ValueError, with the question, for scores that are not finite and for unlike texts at one place.
    """
    assert members, "one member at least"
    assert all(member.nbest.keys() == members[0].nbest.keys() for member in members), "answers to the same questions"
    given = [1.0] * len(members) if weights is None else list(weights)
    assert len(given) == len(members) and min(given) > 0, "a weight above 0 for each member"
    nbest: dict[str, list[NBestEntry]] = {}
    answers = Answers({}, {}, {}, nbest)
    for key in members[0].nbest:
        try:
            listing = _joined(
                [
                    _MemberList(member.nbest[key], member.null_odds[key], weight)
                    for member, weight in zip(members, given)
                ]
            )
        except ValueError as error:
            raise ValueError(f"question {quoted(key)}: {error}") from None
        decision = listing.decide(threshold, calibration, version_2_with_negative=version_2_with_negative)
        answers.add(key, decision)
        nbest[key] = decision.entries
    return answers


class _MemberList:
    """One member's list of one question."""

    def __init__(self, entries: Sequence[NBestEntry], null_odds: float, weight: float):
        self.weight = weight
        self.empty = next((entry for entry in entries if not entry["text"]), None)
        self.spans = {(entry["start"], entry["end"]): entry for entry in entries if entry["text"]}
        self.scores = {place: logit_score(entry) for place, entry in self.spans.items()}
        highest = max(self.scores.values(), default=0.0)
        self.null_score = highest + null_odds if self.empty is None else logit_score(self.empty)
        if not all(map(math.isfinite, (self.null_score, *self.scores.values()))):
            raise ValueError("a score is not finite; the member's logits overflowed or its files are damaged")
        self.log_sum = highest + math.log(math.fsum(math.exp(score - highest) for score in self.scores.values()) or 1.0)


def _joined(members: Sequence[_MemberList]) -> Listing:
    speaking = [member for member in members if member.spans] or list(members)
    total = math.fsum(member.weight for member in speaking)

    def mean(values: Sequence[tuple[_MemberList, float]]) -> float:
        """Weighted, over all that have a say; those that are not among `values` count as 0."""
        return math.fsum(member.weight / total * value for member, value in values)

    level = mean([(member, member.log_sum) for member in speaking])
    listed: dict[tuple[int, int], list[_MemberList]] = {}
    for member in speaking:
        for place in member.spans:
            listed.setdefault(place, []).append(member)
    entries, scores = [], []
    for place, listing in listed.items():
        texts = {member.spans[place]["text"] for member in listing}
        if len(texts) > 1:
            raise ValueError(
                f"characters {place[0]} to {place[1]} are {' and '.join(sorted(map(quoted, texts)))}; the members answered other contexts"
            )
        logs = [(member, member.scores[place] - member.log_sum) for member in listing]
        highest = max(log for _, log in logs)
        log_probability = highest + math.log(mean([(member, math.exp(log - highest)) for member, log in logs]))
        pipeline_score = mean([(member, member.spans[place]["score"]) for member in listing])
        scores.append(_rounded(log_probability + level))
        entries.append(_entry(texts.pop(), place, scores[-1], pipeline_score))
    order = sorted(range(len(entries)), key=lambda row: (-scores[row], entries[row]["start"], entries[row]["end"]))
    order = order[: max(len(member.spans) for member in speaking)]
    null_score = _rounded(mean([(member, member.null_score) for member in speaking]))
    of_empty = mean([(member, member.empty["score"]) for member in speaking if member.empty is not None])
    empty = _entry("", (0, 0), null_score, of_empty)
    return Listing([entries[row] for row in order], [scores[row] for row in order], empty, null_score)


def _rounded(score: float) -> float:
    """To float32, as scores of models are: halves of it add up to it without a rounding."""
    return float(np.float32(score))


def _entry(text: str, place: tuple[int, int], score: float, pipeline_score: float) -> NBestEntry:
    start, end = place
    return {
        "text": text,
        "probability": 0.0,
        "score": pipeline_score,
        "start_logit": score / 2,
        "end_logit": score / 2,
        "start": start,
        "end": end,
    }
