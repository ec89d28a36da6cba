"""Errors of models that were trained on parts of the data -> error = a * n^-b + c with c >= 0, and intervals for what follows.

The form is that of Hestness et al. 2017 (arXiv:1712.00409): error falls as a power of the size of the training data, down to what
no data can take away. For a given b the best a and c are those of a linear regression (variable projection, Golub and Pereyra
1973), so that only b is searched: on a grid, and then on a finer one around the best.

Two kinds of chance are in a curve. The validation data are a sample: its contexts are resampled, the same ones for all sizes.
And each run has the luck of its seed and of its part: noise of that size is added to each resampled error. Its size comes from the
runs with several seeds; without these from what the fit leaves unexplained. The intervals are quantiles of the curves that are
fitted to these errors. What they cannot know: whether the law holds beyond the data.

Axes: S sizes, R resamples, G grid of b, X sizes at which the curve is asked for. Errors are from 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qa_accel.evaluation.bootstrap import interval_of
from qa_accel.evaluation.significance import pooled_deviation

LEAST_SIZES = 3
B_LOWEST, B_HIGHEST, GRID = 0.01, 4.0, 120
ROWS_AT_ONCE = 250
"""Curves that are fitted at a time, which bounds the memory."""
POOR_FIT = 0.9
"""Of the differences between sizes, the share that the law explains, below which the fit is called poor."""


@dataclass(frozen=True)
class RunNoise:
    """Standard deviation of one size's error by the luck of its runs, with its degrees of freedom."""

    deviation_S: np.ndarray
    """(S,) of the mean over the size's runs; 0 where nothing is known of it."""
    freedom: int
    """0: not known."""
    source: str
    """seeds, residuals or unknown."""


@dataclass(frozen=True, eq=False)
class CurveFit:
    """The law, and laws that the data could have given as well."""

    a: float
    """Error above c at one context."""
    b: float
    c: float
    explained: float | None
    """Share of the differences between sizes that the law explains, up to 1; None where the errors do not differ."""
    largest_residual: float
    noise: RunNoise
    laws_R3: np.ndarray
    """(R, 3): a, b, c of each resample."""
    paragraphs: int

    def at(self, size_X: np.ndarray) -> np.ndarray:
        """(X,) errors by the law."""
        return law(np.array([[self.a, self.b, self.c]]), size_X)[0]

    def interval_at(self, size_X: np.ndarray) -> np.ndarray:
        """(X, 2) 95 % intervals of these."""
        error_RX = law(self.laws_R3, size_X)
        return np.array([interval_of(error_R, self.paragraphs) for error_R in error_RX.T])

    def gain_interval(self, size: float, larger: float) -> tuple[float, float]:
        """95 % interval of how much less the error is at the larger size."""
        error_R2 = law(self.laws_R3, np.array([size, larger], np.float64))
        return interval_of(error_R2[:, 0] - error_R2[:, 1], self.paragraphs)

    @property
    def exponent_interval(self) -> tuple[float, float]:
        return interval_of(self.laws_R3[:, 1], self.paragraphs)

    @property
    def is_poor(self) -> bool:
        return self.explained is None or self.explained < POOR_FIT or self.a == 0


def law(laws_R3: np.ndarray, size_X: np.ndarray) -> np.ndarray:
    """(R, X) errors, at most 1."""
    a_R, b_R, c_R = laws_R3.T[:, :, None]
    return np.minimum(a_R * np.asarray(size_X, np.float64) ** -b_R + c_R, 1.0)


def fit_curve(
    size_S: np.ndarray,
    error_S: np.ndarray,
    resampled_RS: np.ndarray,
    paragraphs: int,
    errors_of_runs: Sequence[Sequence[float]] = (),
    seed: int = 0,
) -> CurveFit | None:
    """None of fewer than three sizes. `resampled_RS`: errors on resampled validation data of `paragraphs` contexts, the same
    resample in a row. `errors_of_runs`: of each size the errors of its runs, whose mean is in `error_S`."""
    if len(size_S) < LEAST_SIZES:
        return None
    [best] = fitted(size_S, error_S[None])
    residual_S = error_S - law(best[None], size_S)[0]
    used = 2 + bool(best[2] > 0)  # c at its bound is not fitted
    noise = run_noise(residual_S, errors_of_runs, used)
    noisy_RS = resampled_RS + _drawn_noise(noise, len(resampled_RS), seed)
    spread = float(((error_S - error_S.mean()) ** 2).sum())
    return CurveFit(
        *(float(value) for value in best),
        explained=1 - float((residual_S**2).sum()) / spread if spread > 1e-18 else None,
        largest_residual=float(np.abs(residual_S).max()),
        noise=noise,
        laws_R3=fitted(size_S, noisy_RS),
        paragraphs=paragraphs,
    )


def run_noise(residual_S: np.ndarray, errors_of_runs: Sequence[Sequence[float]], parameters: int) -> RunNoise:
    """From the spread within sizes, pooled, where some size has several runs; else from the residuals of a fit of so many
    parameters."""
    of_one_run, freedom = pooled_deviation(errors_of_runs)
    if of_one_run is not None:
        count_S = np.array([len(runs) for runs in errors_of_runs])
        return RunNoise(of_one_run / count_S**0.5, freedom, "seeds")
    freedom = len(residual_S) - parameters
    if freedom < 1:
        return RunNoise(np.zeros(len(residual_S)), 0, "unknown")
    deviation = (float((residual_S**2).sum()) / freedom) ** 0.5
    return RunNoise(np.full(len(residual_S), deviation), freedom, "residuals")


def _drawn_noise(noise: RunNoise, rows: int, seed: int) -> np.ndarray:
    """(R, S) normal; in each row as large as a deviation of these degrees of freedom may really be, so that it is Student's t."""
    generator = np.random.default_rng([seed, 1])
    draws_RS = generator.normal(size=(rows, len(noise.deviation_S))) * noise.deviation_S
    if noise.freedom:
        draws_RS *= (noise.freedom / generator.chisquare(noise.freedom, size=(rows, 1))) ** 0.5
    return draws_RS


def fitted(size_S: np.ndarray, error_RS: np.ndarray) -> np.ndarray:
    """(R, 3) a, b and c of the least squares of each row, a and c not negative, B_LOWEST <= b <= B_HIGHEST."""
    size_S = np.asarray(size_S, np.float64)
    parts = [error_RS[start : start + ROWS_AT_ONCE] for start in range(0, len(error_RS), ROWS_AT_ONCE)]
    return np.concatenate([_fitted(size_S, part) for part in parts])


def _fitted(size_S: np.ndarray, error_RS: np.ndarray) -> np.ndarray:
    grid_G = np.geomspace(B_LOWEST, B_HIGHEST, GRID)
    b_RG = np.broadcast_to(grid_G, (len(error_RS), GRID))
    step = grid_G[1] / grid_G[0]
    for _ in range(3):  # b to one part in 10,000
        squares_RG, _, _ = _regressions(size_S, error_RS, b_RG)
        best_R1 = np.take_along_axis(b_RG, squares_RG.argmin(axis=1)[:, None], axis=1)
        b_RG = np.clip(best_R1 * step ** np.linspace(-1, 1, 21), B_LOWEST, B_HIGHEST)
        step = step**0.1
    squares_RG, a_RG, c_RG = _regressions(size_S, error_RS, b_RG)
    place_R1 = squares_RG.argmin(axis=1)[:, None]
    b_R, a_R, c_R = (np.take_along_axis(each, place_R1, axis=1)[:, 0] for each in (b_RG, a_RG, c_RG))
    return np.stack([a_R * size_S.max() ** b_R, b_R, c_R], axis=1)  # a of sizes that are not scaled


def _regressions(
    size_S: np.ndarray, error_RS: np.ndarray, b_RG: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R, G) sums of squares, a for sizes as shares of the largest, and c: the best of the line, of a alone and of c alone."""
    x_RGS = (size_S / size_S.max()) ** -b_RG[:, :, None]
    y_R1S = error_RS[:, None, :]
    mean_x, mean_y = x_RGS.mean(axis=2), y_R1S.mean(axis=2)
    centred_RGS = x_RGS - mean_x[..., None]
    a_RG = (centred_RGS * y_R1S).sum(axis=2) / (centred_RGS**2).sum(axis=2)
    c_RG = mean_y - a_RG * mean_x
    alone_RG = (x_RGS * y_R1S).sum(axis=2) / (x_RGS**2).sum(axis=2)
    a_RG, c_RG = np.where(c_RG < 0, alone_RG, a_RG), np.maximum(c_RG, 0.0)
    rising_RG = a_RG < 0  # the error grows with the data: no law of this form, a constant fits best
    a_RG, c_RG = np.where(rising_RG, 0.0, a_RG), np.where(rising_RG, np.maximum(mean_y, 0.0), c_RG)
    squares_RG = ((a_RG[..., None] * x_RGS + c_RG[..., None] - y_R1S) ** 2).sum(axis=2)
    return squares_RG, a_RG, c_RG
