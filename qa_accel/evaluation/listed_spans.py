"""The spans of n-best lists as arrays, for what is computed from all of them: Q questions, K spans of the longest list."""

from array import array
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from qa_accel.answer_text import answer_tokens
from qa_accel.inference.answer_lists import Answers


@dataclass(frozen=True)
class ListedSpans:
    """9 bytes for each of Q x K."""

    row: Mapping[str, int]
    """By id."""
    score_QK: np.ndarray
    """Start logit + end logit, best first; -inf where there are fewer."""
    same_QK: np.ndarray
    """Whether exact match takes a span for the same answer as the best one."""
    count_Q: np.ndarray
    """Number of spans."""

    @classmethod
    def of(cls, answers: Answers, wanted: Container[str], language: str) -> "ListedSpans":
        """Of the questions that are wanted, in the order of the lists, each of which may be made when it is read."""
        keys = [key for key in answers.nbest if key in wanted]
        score_S, same_S, count_Q = array("d"), array("b"), np.zeros(len(keys), np.int64)
        for row, key in enumerate(keys):
            spans = [entry for entry in answers.nbest[key] if entry["text"]]
            texts = [answer_tokens(span["text"], language) for span in spans]
            score_S.extend(span["start_logit"] + span["end_logit"] for span in spans)
            same_S.extend(text == texts[0] for text in texts)
            count_Q[row] = len(spans)
        listed_QK = np.arange(count_Q.max(initial=1)) < count_Q[:, None]
        score_QK, same_QK = np.full(listed_QK.shape, -np.inf), np.zeros(listed_QK.shape, bool)
        score_QK[listed_QK], same_QK[listed_QK] = score_S, same_S
        return cls({key: row for row, key in enumerate(keys)}, score_QK, same_QK, count_Q)

    def rows(self, keys: Iterable[str]) -> np.ndarray:
        """(number of keys,): the row of each."""
        return np.array([self.row[key] for key in keys], np.int64)


def probability_of_best(score_QK: np.ndarray, same_QK: np.ndarray, temperature: float) -> np.ndarray:
    """(Q,): that the best span is right if the question has an answer, as in `inference.confidence`. Each question has a span."""
    weight_QK = np.exp((score_QK - score_QK.max(axis=1, keepdims=True)) / temperature)
    return np.minimum((weight_QK * same_QK).sum(axis=1) / weight_QK.sum(axis=1), 1.0)
