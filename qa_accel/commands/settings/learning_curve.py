"""Train on growing parts of the training data, fit a power law to the error, and say what twice the data would give.

python scripts/learning_curve.py --recipe scripts/recipes/quickstart.yaml --output_dir runs/curve

Every part is a usual training run, a child process of this one. Start the same command again after a stop: finished runs are
not run again, an interrupted one goes on. Writes learning_curve.json and learning_curve.html.
"""

from dataclasses import dataclass
from pathlib import Path

from qa_accel.ranges import check_ranges


@dataclass(frozen=True)
class LearningCurveConfig:
    recipe: Path
    """Train recipe with training and validation data; its output_dir is not used."""
    output_dir: Path
    """Folder for the parts, their training runs and the report."""
    fractions: tuple[int, ...] = (16, 8, 4, 2, 1)
    """Parts of the training contexts to train on: 16 is a sixteenth of them, 1 all. Each part has all of the smaller ones."""
    seeds: int = 1
    """Runs for each part. Their seeds are that of the recipe and the numbers after it; each draws parts of its own."""
    launcher: str = "accelerate launch"
    """Command before scripts/train.py, as a shell reads it: `accelerate launch --config_file ...`."""

    def __post_init__(self):
        check_ranges(self, seeds="[1, 1000]")
        if not self.fractions or min(self.fractions) < 1:
            raise ValueError(
                f"--fractions must be integers from 1 on, got {' '.join(map(str, self.fractions)) or 'none'}"
            )
        if len(set(self.fractions)) < len(self.fractions):
            raise ValueError(f"--fractions has a part twice: {' '.join(map(str, self.fractions))}")


Config = LearningCurveConfig
