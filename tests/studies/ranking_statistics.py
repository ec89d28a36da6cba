"""Figures per question -> means, areas, calibration, and how far each may be off by the choice of questions.

Every statistic takes weights_RQ: a row of ones for the sample as it is, then rows of bootstrap counts. The same rows serve
all candidates, so that a difference of two is paired over the questions.
"""

import numpy as np


def bootstrap_weights(questions: int, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).multinomial(questions, np.full(questions, 1 / questions), size=resamples)
    return np.vstack([np.ones(questions), drawn])


def mean(value_Q: np.ndarray, weights_RQ: np.ndarray) -> np.ndarray:
    return weights_RQ @ value_Q / weights_RQ.sum(axis=1)


def best_score(
    value_Q: np.ndarray, answerable_Q: np.ndarray, figure_Q: np.ndarray, weights_RQ: np.ndarray
) -> np.ndarray:
    """Mean of the questions' scores at the threshold of `figure_Q` that is best for the row: below it, "no answer"."""
    order = np.argsort(-figure_Q, kind="stable")
    gain_Q = np.where(answerable_Q, value_Q, -1.0)[order]
    running_RQ = np.cumsum(weights_RQ[:, order] * gain_Q, axis=1)
    return (weights_RQ @ ~answerable_Q + np.maximum(running_RQ.max(axis=1), 0)) / weights_RQ.sum(axis=1)


def auroc(figure_Q: np.ndarray, positive_Q: np.ndarray, weights_RQ: np.ndarray) -> np.ndarray:
    """Probability that a positive question's figure is the higher of two; a half where they are equal."""
    order = np.argsort(figure_Q, kind="stable")
    first = np.unique(figure_Q[order], return_index=True)[1]
    positive_RV, negative_RV = (
        np.add.reduceat(weights_RQ[:, order] * chosen_Q[order], first, axis=1) for chosen_Q in (positive_Q, ~positive_Q)
    )
    below_RV = np.cumsum(negative_RV, axis=1) - negative_RV / 2
    return (positive_RV * below_RV).sum(axis=1) / (positive_RV.sum(axis=1) * negative_RV.sum(axis=1))


def logistic_fit(figure_Q: np.ndarray, positive_Q: np.ndarray) -> tuple[float, float]:
    """Weight and bias of the highest likelihood, by Newton's method."""
    center, scale = figure_Q.mean(), figure_Q.std() or 1.0
    x_Q2 = np.stack([(figure_Q - center) / scale, np.ones_like(figure_Q)], axis=1)
    w_2 = np.zeros(2)
    for _ in range(50):
        p_Q = probability(x_Q2 @ w_2)
        # the small ridge bounds the weights where the figure parts the two classes
        curvature_22 = (x_Q2 * (p_Q * (1 - p_Q))[:, None]).T @ x_Q2 + 1e-3 * np.eye(2)
        w_2 += np.linalg.solve(curvature_22, x_Q2.T @ (positive_Q - p_Q) - 1e-3 * w_2)
    return float(w_2[0] / scale), float(w_2[1] - w_2[0] * center / scale)


def probability(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))


def expected_calibration_error(p_Q: np.ndarray, positive_Q: np.ndarray, bins: int = 15) -> float:
    """Bins of equal count: mean distance of a bin's mean probability from its share of positives."""
    order = np.argsort(p_Q, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(p_Q[part].mean() - positive_Q[part].mean()) for part in parts]
    return float(sum(gaps) / len(p_Q))


def calibration_error_by_chance(p_Q: np.ndarray, draws: int = 200, seed: int = 0) -> float:
    """Mean of the error above if every p is true: what so few questions leave of it."""
    drawn_RQ = np.random.default_rng(seed).random((draws, len(p_Q))) < p_Q
    return float(np.mean([expected_calibration_error(p_Q, drawn_Q) for drawn_Q in drawn_RQ]))
