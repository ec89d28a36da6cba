"""Confidences of answers, and whether these are right -> what the confidences are worth. Axis V: different values."""

from typing import Any

import numpy as np

BINS = 15
ACCURACIES = (80, 90, 95)
"""Percent, of `coverage_at_*`."""


def figures(confidence_Q: np.ndarray, correct_Q: np.ndarray) -> dict[str, Any]:
    """What confidences (0 to 1) say of answers that are right (1) or wrong (0); all as parts of 1.

    Among equal confidences the order is unknown: each counts as right as they are on average.

    confidence_ece     expected calibration error over 15 bins of equal count: mean over bins, weighted by their questions, of
                       abs(accuracy - mean confidence) (Naeini et al. 2015; Guo et al. 2017)
    confidence_brier   mean of (confidence - correct)^2 (Brier 1950)
    confidence_auroc   probability that a right answer has the higher confidence of a right and a wrong one (not given if all are
                       right or all wrong)
    confidence_aurc    mean error rate of the k most confident answers over all k (Geifman and El-Yaniv 2017, arXiv:1705.08500)
    coverage_at_80     largest part of the questions, the most confident ones, of which 80 % are right (Kamath, Jia and Liang
                       2020, arXiv:2006.09462); 0 where there is none; so for 90 and 95
    """
    p_Q, c_Q, last_Q = _most_confident_first(confidence_Q, correct_Q)
    bins = np.array_split(np.arange(len(p_Q)), min(BINS, len(p_Q)))
    accuracy_Q = np.cumsum(c_Q) / np.arange(1, len(c_Q) + 1)
    area = auroc(confidence_Q, correct_Q == 1)
    found = {
        "confidence_questions": len(p_Q),
        "confidence_ece": sum(len(b) * abs(float(c_Q[b].mean() - p_Q[b].mean())) for b in bins) / len(p_Q),
        "confidence_brier": float(np.mean((confidence_Q - correct_Q) ** 2)),
        **({} if area is None else {"confidence_auroc": area}),
        "confidence_aurc": float(np.mean(1 - accuracy_Q)),
    }
    for percent in ACCURACIES:
        enough = np.nonzero(last_Q & (accuracy_Q >= percent / 100 - 1e-12))[0]
        found[f"coverage_at_{percent}"] = (int(enough[-1]) + 1) / len(p_Q) if len(enough) else 0.0
    return found


def risk_coverage(confidence_Q: np.ndarray, correct_Q: np.ndarray, points: int = 20) -> list[dict[str, float]]:
    """The curve at about `points` coverages: what part is answered with at least this confidence, and how much of it is wrong."""
    p_Q, c_Q, last_Q = _most_confident_first(confidence_Q, correct_Q)
    wanted = np.ceil(np.arange(1, points + 1) / points * len(p_Q)).astype(int) - 1
    ends = np.nonzero(last_Q)[0]  # equal confidences are not divided
    places = sorted(set(ends[np.searchsorted(ends, wanted)].tolist()))
    return [
        {
            "coverage": (place + 1) / len(p_Q),
            "min_confidence": float(p_Q[place]),
            "risk": float(1 - c_Q[: place + 1].mean()),
        }
        for place in places
    ]


def auroc(score_Q: np.ndarray, label_Q: np.ndarray) -> float | None:
    """Area under the ROC curve by ranks (Mann and Whitney 1947), ties count half; None if all labels are equal."""
    _, place_Q, count_V = np.unique(score_Q, return_inverse=True, return_counts=True)
    rank_Q = (np.cumsum(count_V) - (count_V - 1) / 2)[place_Q]
    positive = int(label_Q.sum())
    negative = len(label_Q) - positive
    if not positive or not negative:
        return None
    return float((rank_Q[label_Q].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _most_confident_first(confidence_Q: np.ndarray, correct_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences and correctness by falling confidence, equal ones averaged; and which is the last of equal ones."""
    value_V, place_Q, count_V = np.unique(-confidence_Q, return_inverse=True, return_counts=True)
    mean_V = np.bincount(place_Q, weights=correct_Q) / count_V
    last_Q = np.zeros(len(confidence_Q), bool)
    last_Q[np.cumsum(count_V) - 1] = True
    return np.repeat(-value_V, count_V), np.repeat(mean_V, count_V), last_Q
