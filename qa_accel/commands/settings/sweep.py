"""Search settings of a training run: one worker, of as many as are started with the same command.

python scripts/sweep.py --space scripts/spaces/quickstart.yaml --trials 64 --output_dir runs/sweep

Each trial is a usual training run, started as a child by `--launcher`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qa_accel.experiments.trials import Metric
from qa_accel.ranges import COUNT, NATURAL, check_ranges


@dataclass(frozen=True)
class SweepConfig:
    space: Path
    """YAML file of the search: `recipe`, `settings` and `space`; see docs/better_models.md."""
    output_dir: str
    """Folder of the sweep; all its workers, on any host, give the same one."""
    trials: int = 64
    """Training runs of the whole sweep, those that fail included."""
    sampler: Literal["random", "tpe"] = "random"
    """`random`: trial i depends on the seed and i alone; `tpe`: optuna learns from the trials so far (extra `sweep`)."""
    seed: int = 0
    """Seed of the sampler. Seeds of training belong to the space or its settings."""
    metric: Metric = "best_f1"
    """Score of a run that is searched for, higher being better; best_* are those at the tuned no-answer threshold."""
    pruner: Literal["median", "none"] = "median"
    """`median`: a run stops at an evaluation where its best score is below the median of the other runs'."""
    confirm_seeds: int = 2
    """Further seeds with which each of the three best trials is run again at the end; 0 for none."""
    launcher: str = "accelerate launch"
    """Command before scripts/train.py, as a shell reads it: `accelerate launch --config_file ...`."""

    def __post_init__(self):
        check_ranges(self, trials=COUNT, seed=NATURAL, confirm_seeds="[0, 100]")


Config = SweepConfig
