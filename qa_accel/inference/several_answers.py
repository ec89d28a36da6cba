"""Spans of a question that share no character, most probable first -> its answers: those above a least score, or none.

The score of a span is the probability of its start times that of its end, each a softmax over the context's tokens and the null
position of its window. So "no answer" competes with it in its own window, and spans of two windows can be compared: a window
without an answer leaves little for its spans, whatever their logits are, and the null score of another window has no say.
"""

from collections.abc import Sequence

from qa_accel.inference.answer_lists import SeveralEntry

UNTUNED = 0.1
"""Least score of an answer of a model for which none was tuned."""


def several_answers(
    candidates: Sequence[SeveralEntry], min_answer_score: float, *, version_2_with_negative: bool
) -> list[SeveralEntry]:
    """Of one question the candidates with at least that score, the best first.

    Where each question has an answer, the best candidate always counts, as it does in predictions.json.
    """
    least = 0 if version_2_with_negative else 1
    return [entry for place, entry in enumerate(candidates) if place < least or entry["score"] >= min_answer_score]
