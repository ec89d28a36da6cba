"""Several answers per question + all gold answers -> exact and partial match as MultiSpanQA's script counts them, and the least
score of an answer that suits the data best.

Source of the definitions: haonan-li/MultiSpanQA, src/eval_script.py (Li et al. 2022, "MultiSpanQA: A Dataset for Multi-Span
Question Answering"). Answers of a question are a set of texts without case, punctuation and articles. Counts are summed over all
questions (micro-average); a question without answers, predicted or gold, counts as one:

    exact      texts that are in both sets; two empty sets agree
    partial    of each predicted text the greatest share that it has in common with a gold text, as one string of characters, and
               of each gold text the greatest share that it has in common with a predicted one; two empty sets agree

The common string is found as the script finds it, by difflib with its rule for texts of 200 characters and more: characters that
make up more than 1 % of the predicted text begin no common string, so that of such long texts little but a common beginning is
found. The script's first version gave two empty sets 0 in exact match; this is the later one.
"""

import difflib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qa_accel.answer_language import ENGLISH, AnswerLanguage, language_of
from qa_accel.answer_text import answer_tokens
from qa_accel.inference.answer_lists import SeveralEntry

Texts = frozenset[str]


def multi_span_scores(
    predictions: Mapping[str, Sequence[str]],
    references: Mapping[str, Sequence[str]],
    language: AnswerLanguage = ENGLISH,
) -> dict[str, float]:
    """In percent: multi_exact_ and multi_partial_ precision, recall and f1 of `predictions` (id -> texts, [] = no answer) against
    `references` (id -> all gold texts, [] = none), which are of the same questions. `language`: one for all questions, or by id."""
    counts = np.zeros(5)  # predicted, gold, exact, partial by prediction, partial by gold
    for key, golds in references.items():
        of_question = language_of(language, key)
        predicted, gold = text_set(predictions[key], of_question), text_set(golds, of_question)
        counts[:2] += max(len(predicted), 1), max(len(gold), 1)
        counts[2] += exact_matches(predicted, gold)
        counts[3:] += partial_matches(predicted, gold)
    of_predicted, of_gold, exact, by_prediction, by_gold = counts.tolist()
    return {
        **_figures("multi_exact", exact / of_predicted, exact / of_gold),
        **_figures("multi_partial", by_prediction / of_predicted, by_gold / of_gold),
    }


def text_set(texts: Iterable[str], language: str = ENGLISH) -> Texts:
    """The texts as they are compared: the tokens that count, joined by blanks."""
    return frozenset(" ".join(answer_tokens(text, language)) for text in texts)


def exact_matches(predicted: Texts, gold: Texts) -> int:
    return 1 if not predicted and not gold else len(predicted & gold)


def partial_matches(predicted: Texts, gold: Texts) -> tuple[float, float]:
    """Sums of the greatest shares of the predicted texts, and of the gold texts."""
    none_predicted = not predicted or predicted == {""}
    if not gold or none_predicted:
        return (1.0, 1.0) if not gold and none_predicted else (0.0, 0.0)
    common = {(text, other): _common(other, text) for text in predicted for other in gold}
    by_prediction = sum(max(common[text, other] for other in gold) / max(len(text), 1) for text in sorted(predicted))
    by_gold = sum(max(common[text, other] for text in predicted) / max(len(other), 1) for other in sorted(gold))
    return by_prediction, by_gold


@lru_cache(maxsize=1 << 16)
def _common(gold: str, predicted: str) -> int:
    """Characters of the longest common string."""
    return difflib.SequenceMatcher(None, gold, predicted).find_longest_match(0, len(gold), 0, len(predicted)).size


def _figures(name: str, precision: float, recall: float) -> dict[str, float]:
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return {f"{name}_precision": 100 * precision, f"{name}_recall": 100 * recall, f"{name}_f1": 100 * f1}


@dataclass(frozen=True)
class BestLeastScore:
    f1: float
    """Percent, exact match."""
    least: float
    """The score of some candidate; 1.0: nothing is better than no answer at all or, where each question has an answer, than the best
    candidates alone."""


def best_least_score(
    candidates: Mapping[str, Sequence[SeveralEntry]],
    references: Mapping[str, Sequence[str]],
    *,
    version_2_with_negative: bool,
    language: AnswerLanguage = ENGLISH,
) -> BestLeastScore:
    """The least score at which the candidates' exact F1 is highest; the highest such score where several are as good.

    `candidates`: by id, best first. Where each question has an answer, the best candidate always counts.
    """
    gold = exact = 0
    score_E, predicted_E, exact_E = array("d"), array("b"), array("b")
    """Of each text of a question that counts with its score: by how much the numbers of answers and of exact ones change then."""
    for key, texts in references.items():
        of_question = text_set(texts, language_of(language, key))
        gold, exact = gold + max(len(of_question), 1), exact + (not of_question)
        entries = candidates[key]
        scores = [
            np.inf if place == 0 and not version_2_with_negative else each["score"]
            for place, each in enumerate(entries)
        ]
        taken: set[str] = set()
        for place in sorted(range(len(entries)), key=lambda place: -scores[place]):
            [text] = text_set([entries[place]["text"]], language_of(language, key))
            if text not in taken:
                score_E.append(scores[place])
                predicted_E.append(bool(taken))
                exact_E.append((text in of_question) - (not taken and not of_question))
                taken.add(text)
    order = np.argsort(-np.array(score_E), kind="stable")
    sorted_E = np.array(score_E)[order]
    last_T = np.flatnonzero(np.append(sorted_E[1:] != sorted_E[:-1], True)) if len(order) else order
    """A least score takes all candidates of this score or none."""
    answers_T = len(references) + gold + np.cumsum(np.array(predicted_E, np.int64)[order])[last_T]
    half_f1_T = (exact + np.cumsum(np.array(exact_E, np.int64)[order])[last_T]) / answers_T
    least_T = sorted_E[last_T]
    best, least = exact / (len(references) + gold), 1.0
    if len(least_T) and least_T[0] == np.inf:
        best, half_f1_T, least_T = float(half_f1_T[0]), half_f1_T[1:], least_T[1:]
    if len(least_T) and half_f1_T.max() > best:
        first = int(half_f1_T.argmax())
        best, least = float(half_f1_T[first]), float(least_T[first])
    return BestLeastScore(200 * best, least)
