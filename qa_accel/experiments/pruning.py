"""Evaluations of a trial and of the others -> why it is not worth its time, or None.

The median rule of Golovin et al., "Google Vizier", KDD 2017, section 3.2.1, on best values.
"""

import statistics
from collections.abc import Iterable, Sequence

from qa_accel.experiments.trials import FAILED, Trial

TRIALS_BEFORE = 5
"""Ended trials before the first is pruned: a median of fewer says little, and the sampler needs whole results."""
EVALUATIONS_BEFORE = 1
"""Evaluations of each trial that never prune it: during warm-up a high learning rate looks worse than it is."""


def why_hopeless(values: Sequence[float], others: Iterable[Trial]) -> str | None:
    """`values`: the metric at each evaluation of a trial so far, higher being better.

    Its best value is compared with the median of the others' best values up to the same evaluation, of those that came so
    far. A run ends with its best model, so it is the best value that counts and not the last.
    """
    count = len(values)
    others = [trial for trial in others if trial.state != FAILED]
    if count <= EVALUATIONS_BEFORE or sum(trial.has_ended for trial in others) < TRIALS_BEFORE:
        return None
    best = [max(value for _, value in trial.evaluations[:count]) for trial in others if len(trial.evaluations) >= count]
    if not best or max(values) >= (median := statistics.median(best)):
        return None
    return f"best value {max(values):.2f} after {count} evaluations, the median of {len(best)} other trials is {median:.2f}"
