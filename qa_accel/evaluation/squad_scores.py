"""Answer texts + gold answers -> exact match and F1 as the official SQuAD v2.0 scorer gives them, in its keys.

Separate from `squad_metric`, since `import evaluate` loads torch, and scoring a file needs none of it. The no-answer score of a
question is any real number that is higher the less likely an answer is: a probability, or our null odds (null score
minus best span score). Thresholds, the best ones included, are in its unit.
SQuAD v1.1 is the case in which every question has an answer: the same keys but for NoAns_*.
Answers of other languages are compared by the rules of `answer_language`; what is made of the comparisons is the same.
"""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import numpy as np

from qa_accel.answer_language import ENGLISH, AnswerLanguage, check_language, counts_characters, language_of
from qa_accel.answer_text import answer_tokens
from qa_accel.messages import quoted, shown


def f1_of_tokens(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words with their counts; two empty answers agree."""
    if predicted == gold:
        return 1.0
    shared = (Counter(predicted) & Counter(gold)).total() if not set(predicted).isdisjoint(gold) else 0
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return (2 * precision * recall) / (precision + recall)


def exact_and_f1(prediction: str, golds: Iterable[str], language: str = ENGLISH) -> tuple[float, float]:
    """The best over the gold answers; those of punctuation and articles alone do not count, and none at all means ""."""
    predicted = answer_tokens(prediction, language)
    gold_tokens = {tokens for gold in golds if (tokens := answer_tokens(gold, language))} or {()}
    if predicted in gold_tokens:
        return 1.0, 1.0
    if counts_characters(language):
        return 0.0, max(f1_of_tokens("".join(predicted), "".join(tokens)) for tokens in gold_tokens)
    return 0.0, max(f1_of_tokens(predicted, tokens) for tokens in gold_tokens)


def exact_and_f1_of(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], language: AnswerLanguage = ENGLISH
) -> np.ndarray:
    """(Q, 2) float64, 0 to 1: of each question, in the order of `references`."""
    pairs = (exact_and_f1(predictions[key], golds, language_of(language, key)) for key, golds in references.items())
    return np.fromiter(pairs, np.dtype((np.float64, 2)), count=len(references))


def squad_scores(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    no_answer_scores: Mapping[str, float] | None = None,
    no_answer_threshold: float = math.inf,
    language: AnswerLanguage = ENGLISH,
) -> dict[str, float | int]:
    """Scores in percent of `predictions` (id -> text, "" = no answer) against `references` (id -> gold texts, [] = none).

    A question whose no-answer score is above the threshold counts as answered with "", whatever its text. With scores
    come best_exact and best_f1, the best that one threshold for all questions reaches, and that threshold; so give
    the texts of the best spans, not texts that a threshold has emptied already. Like the official scorer they begin
    with "" for every question at 0.0: where nothing beats that, the threshold reads 0.0 whatever the unit is.
    Equal no-answer scores are taken in the order of `no_answer_scores`, as there.

    Ids must be the same on both sides: a figure over only some of the questions would look like any other.

    `language`: of the answers, an ISO 639-1 code or `char`: one for all questions, or by id. Raises ValueError for a language
    without rules, and for texts, ids and scores that cannot be scored.
    """
    _check(predictions, references, no_answer_scores)
    _check_languages(language, references)
    has_answer_Q = np.fromiter((len(golds) > 0 for golds in references.values()), dtype=bool, count=len(references))
    raw_Q2 = exact_and_f1_of(predictions, references, language)
    scores_Q2 = raw_Q2
    if no_answer_scores is not None:
        no_answer_Q = np.fromiter((no_answer_scores[key] for key in references), np.float64, count=len(references))
        scores_Q2 = np.where((no_answer_Q > no_answer_threshold)[:, None], ~has_answer_Q[:, None], raw_Q2)

    result = _means(scores_Q2)
    for prefix, chosen_Q in (("HasAns_", has_answer_Q), ("NoAns_", ~has_answer_Q)):
        if chosen_Q.any():
            result |= {prefix + name: value for name, value in _means(scores_Q2[chosen_Q]).items()}
    if no_answer_scores is not None:
        rows = _rows_of(references, no_answer_scores)
        no_answer_Q = no_answer_Q[rows]
        by_score = np.argsort(no_answer_Q, kind="stable")
        rows, no_answer_Q = rows[by_score], no_answer_Q[by_score]
        answered_Q = np.fromiter((bool(predictions[key]) for key in references), bool, count=len(references))[rows]
        for column, name in enumerate(("exact", "f1")):
            # what a question adds once its own text counts instead of ""
            gain_Q = np.where(has_answer_Q[rows], raw_Q2[rows, column], -answered_Q.astype(np.float64))
            best, threshold = _best(gain_Q, no_answer_Q, start=float((~has_answer_Q).sum()))
            result |= {f"best_{name}": 100.0 * best / len(references), f"best_{name}_thresh": threshold}
    return result


def _rows_of(references: Iterable[str], given: Iterable[str]) -> np.ndarray:
    """Row among `references` of each id that is given, in its order; others are left out."""
    if all(key == other for key, other in zip_longest(references, given)):  # nearly always: no table of all rows
        return np.arange(sum(1 for _ in references))
    row_of = {key: row for row, key in enumerate(references)}
    return np.array([row_of[key] for key in given if key in row_of])


def _means(scores_Q2: np.ndarray) -> dict[str, float | int]:
    exact, f1 = (100.0 * scores_Q2.sum(axis=0) / len(scores_Q2)).tolist()
    return {"exact": exact, "f1": f1, "total": len(scores_Q2)}


def _best(gain_Q: np.ndarray, no_answer_Q: np.ndarray, start: float) -> tuple[float, float]:
    """Highest running sum and the no-answer score where it is first reached; 0.0 where that is before any question."""
    # One sum after the other, in double precision, as the official loop does it: a sum by pairs rounds differently, and
    # among thresholds that are worth the same the rounding decides.
    running = np.cumsum(np.concatenate(([start], gain_Q)))
    first = int(running.argmax())
    return float(running[first]), float(no_answer_Q[first - 1]) if first else 0.0


def _check(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    no_answer_scores: Mapping[str, float] | None,
) -> None:
    if not references:
        raise ValueError("there are no questions to score: references are empty")
    missing = [key for key in references if key not in predictions]
    if missing:
        raise ValueError(f'{_some(missing)} no prediction; an unanswered question is predicted as ""')
    unknown = [key for key in predictions if key not in references]
    if unknown:
        raise ValueError(f"{_some(unknown)} a prediction but no reference; are these predictions for other data?")
    for key, text in predictions.items():
        if not isinstance(text, str):
            raise ValueError(f'{quoted(key)}: a prediction is a text ("" = no answer), found {shown(text)}')
    for key, golds in references.items():
        if isinstance(golds, str) or not all(isinstance(gold, str) for gold in golds):
            raise ValueError(f"{quoted(key)}: a reference is a list of texts ([] = no answer), found {shown(golds)}")
    if no_answer_scores is None:
        return
    missing = [key for key in references if key not in no_answer_scores]
    if missing:
        raise ValueError(f"{_some(missing)} no no-answer score; give one for every question or none at all")
    for key, score in no_answer_scores.items():
        is_number = isinstance(score, int | float | np.integer | np.floating) and not isinstance(score, bool)
        # infinity is what others write if a window has no span; an integer may exceed every float
        if not is_number or score != score or (isinstance(score, int) and abs(score) > sys.float_info.max):
            raise ValueError(
                f"{quoted(key)}: a no-answer score is a number that a float can hold, or infinity; found {shown(score)}"
            )


def _check_languages(language: AnswerLanguage, references: Mapping[str, Sequence[str]]) -> None:
    if isinstance(language, str):
        check_language(language)
        return
    if missing := [key for key in references if key not in language]:
        raise ValueError(f"{_some(missing)} no language; give one for every question, or one for all")
    for each in set(language.values()):
        check_language(each)


def _some(keys: Sequence[str]) -> str:
    """The first ids and how many more, with the verb of the sentence that they begin."""
    first = ", ".join(map(quoted, keys[:5]))
    rest = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{len(keys)} question{'s' if len(keys) > 1 else ''} ({first}{rest}) {'have' if len(keys) > 1 else 'has'}"
