"""Join the answers of several models to the same questions into those of an ensemble, and say what that gains.

python scripts/ensemble.py runs/seed-1 runs/seed-2 runs/seed-3 --output_dir runs/ensemble

A run is the output_dir of train.py or predict.py; tokenizers and architectures may differ. Threshold and calibration are tuned again.
`Reader("runs/ensemble")`, ask and serve answer new questions with all members.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class EnsembleConfig:
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """The members: at least two folders of train.py or predict.py with answers to the same questions."""
    output_dir: str
    """Folder for the joined answers and ensemble.json; not that of a member or of a training run."""
    validation_file: tuple[str, ...] | None = None
    """The questions that were answered, if not where the first run's config.yaml says: they were moved."""


Config = EnsembleConfig
