"""One question's n-best list and its null odds -> confidences: how likely each answer is to be right, by exact match.

    p_answerable = sigmoid(-(null_odds_weight * null_odds + null_odds_bias))
    p(span) = softmax of the listed spans' scores / temperature
    confidence of a span = p_answerable * sum of p over the spans that exact match takes for the same answer
    confidence of "no answer" = 1 - p_answerable

One scale for all: the confidences of a question's different answers, "no answer" included, add up to 1. The softmax with
a temperature is that of Guo et al. 2017 (arXiv:1706.04599), the logistic function of a score that of Platt 1999. Equal
answers count together, since "Rhine" and "the Rhine" share what the model believes and are right or wrong together.
`evaluation/calibration.py` fits the three numbers. Neither numpy nor torch is needed.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from qa_accel.answer_language import ENGLISH
from qa_accel.answer_text import answer_tokens


@dataclass(frozen=True)
class Calibration:
    """Three numbers, which belong to one model with one max_answer_length and one n_best_size."""

    temperature: float
    """Divides the scores of spans (start logit + end logit); above 0. The higher, the more alike spans become."""
    null_odds_weight: float | None = None
    null_odds_bias: float | None = None
    """Both None: fitted on questions that all have an answer, so that nothing is known about "no answer"."""
    answer_language: str = ENGLISH
    """Whose rules say which answers are equal."""

    def as_dict(self) -> dict[str, float | str | None]:
        """The numbers, and the language where it is not English."""
        found = asdict(self)
        if self.answer_language == ENGLISH:
            del found["answer_language"]
        return found

    @property
    def knows_no_answer(self) -> bool:
        """Whether it holds for questions that may have no answer."""
        return self.null_odds_weight is not None

    def answerable(self, null_odds: float) -> float:
        """Probability that a question has an answer; `null_odds`: null score minus the best span's."""
        assert self.null_odds_weight is not None and self.null_odds_bias is not None, "see knows_no_answer"
        return sigmoid(-(self.null_odds_weight * null_odds + self.null_odds_bias))

    def confidences(
        self, texts: Sequence[str], scores: Sequence[float], null_odds: float | None
    ) -> tuple[list[float], float]:
        """Of each listed span, given by text and score, and of "no answer".

        `null_odds` None: the question is known to have an answer. Where no span is listed, "no answer" is certain, and
        impossible if the question is known to have one.
        """
        if not texts:
            return [], float(null_odds is not None)
        answerable = 1.0 if null_odds is None else self.answerable(null_odds)
        of_texts = text_probabilities(texts, scores, self.temperature, self.answer_language)
        return [answerable * p for p in of_texts], 1.0 - answerable


def text_probabilities(
    texts: Sequence[str], scores: Sequence[float], temperature: float, language: str = ENGLISH
) -> list[float]:
    """Of each listed span, the probability that its text is the answer if the question has one."""
    highest = max(scores)
    weights = [math.exp((score - highest) / temperature) for score in scores]
    of_answer: dict[tuple[str, ...], float] = defaultdict(float)
    answers = [answer_tokens(text, language) for text in texts]
    for answer, weight in zip(answers, weights, strict=True):
        of_answer[answer] += weight
    total = sum(weights)
    return [min(of_answer[answer] / total, 1.0) for answer in answers]


def withheld(predictions: Mapping[str, str], confidences: Mapping[str, float], min_confidence: float) -> dict[str, str]:
    """The predictions, "" where the confidence is below the least that is accepted."""
    return {key: text if confidences[key] >= min_confidence else "" for key, text in predictions.items()}


def sigmoid(x: float) -> float:
    """exp is taken of negative numbers only: it overflows from 710 on."""
    small = math.exp(-abs(x))
    return 1.0 / (1.0 + small) if x >= 0 else small / (1.0 + small)
