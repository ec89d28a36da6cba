"""python tests/studies/equality.py

Trains the toy with the training script under every strategy, on the same global batches and from the same seed, and prints
how far its weights and predictions are from those of one process. fp32, no dropout, CPU processes.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # under pytest, conftest.py does this
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"})
    os.environ["DS_ACCELERATOR"] = "cpu"

from processes import launch_environment
from rich.console import Console
from rich.table import Table
from toy import make_toy
from training_runs import Trainer, weights_of

CONFIGS = Path(__file__).resolve().parents[2] / "accelerate_configs"
STRATEGIES = ["cpu_ddp", "fsdp2", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3", "deepspeed_zero3_offload"]
"""Files of accelerate_configs/."""
BATCHES_PER_STEP = 4
"""Batches of 2 windows in an optimizer step, over all ranks."""
TOLERANCE = 1e-4
"""Largest difference of a weight from one process's, for sums in another order; a step moves weights by up to 3e-3."""


def arguments(
    strategy: str | Path | None, processes: int = 2, precision: str | None = "no", **settings: Any
) -> dict[str, Any]:
    """Of a Trainer: a run of the same steps as `strategy` (a name or a path) is launched, or in one process."""
    environment = {"ACCELERATE_MIXED_PRECISION": precision or "no"}
    if strategy is None:
        processes = 1
    else:
        config_file = strategy if isinstance(strategy, Path) else CONFIGS / f"{strategy}.yaml"
        flags = [] if precision is None else ["--mixed_precision", precision]
        environment = launch_environment(config_file, processes, *flags)
    usual = dict(per_device_train_batch_size=2, gradient_accumulation_steps=BATCHES_PER_STEP // processes)
    # the head's and the keys' biases have a gradient of 0 but for rounding, which AdamW's usual epsilon makes whole steps of
    usual |= dict(adam_epsilon=1e-5, warmup_ratio=0.2, logging_steps=1)
    return usual | settings | dict(processes=processes, environment=environment)


def difference(one: Path, other: Path) -> float:
    """Largest absolute difference of two runs' final weights."""
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def same_predictions(one: Path, other: Path) -> bool:
    first, second = (json.loads((folder / "predictions.json").read_text()) for folder in (one, other))
    return first == second


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max_train_steps", type=int, default=20, help="optimizer steps (one epoch has 9)")
    return parser.parse_args()


def main() -> None:
    steps = read_arguments().max_train_steps
    table = Table(title=f"Against one process after {steps} optimizer steps, fp32")
    for column in ("strategy", "processes", "max |difference| of weights", "predictions equal"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as place:
        toy = make_toy(Path(place))
        trainer = Trainer(toy, Path(place, "cache"))
        options = dict(model_name_or_path=toy.without_dropout, max_train_steps=steps)
        reference = trainer.whole(Path(place, "one"), **arguments(None, **options))
        for strategy in STRATEGIES:
            folder = trainer.whole(Path(place, strategy), **arguments(strategy, **options))
            equal = "yes" if same_predictions(reference, folder) else "no"
            table.add_row(strategy, "2", f"{difference(reference, folder):.1e}", equal)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
