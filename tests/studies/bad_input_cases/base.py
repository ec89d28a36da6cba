"""What all cases start from: the toy, a filled cache, predictions and runs that nothing has disturbed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Left, run, script
from toy import WINDOWS, Toy, flags, make_toy
from training_runs import kill_after, train_script

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@dataclass(frozen=True)
class Base:
    toy: Toy
    cache: Path
    """Questions and windows of the toy. Cases that damage a cache copy it."""
    predictions: Path
    """What `predict` writes for the toy."""
    interrupted: Path
    """A run of 8 steps that was killed after step 4; it has two checkpoints."""
    whole: Path
    """The same run without interruption."""
    adapter: Path
    """A finished run that trained a low-rank adapter."""

    def training(self, **settings: Any) -> dict[str, Any]:
        usual = dict(model_name_or_path=self.toy.model, train_file=self.toy.train, validation_file=self.toy.dev)
        usual |= dict(per_device_train_batch_size=8, max_train_steps=2, learning_rate=1e-3, n_best_size=4)
        return usual | dict(cache_dir=self.cache) | WINDOWS | settings

    def interrupted_training(self, folder: Path) -> dict[str, Any]:
        return self.training(max_train_steps=8, save_steps=2, eval_steps=4, output_dir=folder)


def make_base(folder: Path) -> Base:
    base = Base(
        make_toy(folder), *(folder / name for name in ("cache", "predictions", "interrupted", "whole", "adapter"))
    )
    words = flags(**base.interrupted_training(base.whole))
    _done(run(script, SCRIPTS / "train.py", words), 0)
    words = flags(**base.interrupted_training(base.interrupted))
    _done(run(train_script, words, [(kill_after, "training.checkpoint.save", 2)]), -9)
    _done(run(script, SCRIPTS / "train.py", flags(**base.training(output_dir=base.adapter, lora_r=4))), 0)
    settings = dict(model_name_or_path=base.toy.model, test_file=base.toy.dev, output_dir=base.predictions)
    settings |= dict(cache_dir=base.cache, per_device_eval_batch_size=8, n_best_size=4)
    _done(run(script, SCRIPTS / "predict.py", flags(**settings, **WINDOWS)), 0)
    return base


def _done(left: list[Left], code: int) -> None:
    assert left[0].code == code, left[0].output
