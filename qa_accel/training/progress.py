"""How far a run is: all that a resume needs in addition to the states of model, optimizer and random generators."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """How far a run is."""

    epoch: int = 0
    """Epochs that are over."""
    segments: list[list[int]] = field(default_factory=list)
    """[world size, optimizer steps done] within this epoch, one entry per layout it was run with."""
    step: int = 0
    """Optimizer steps of the whole run."""
    windows: int = 0
    """Training windows seen."""
    best_score: float | None = None
    """Best value of the chosen metric."""
    best_step: int | None = None
    """Step of the best value."""
    evaluations_without_gain: int = 0
    """Evaluations since the best one, for early stopping."""
    evaluation_due: bool = False
    """Whether this step's evaluation is still missing: the run was stopped before its end."""
    stopped_early: bool = False
    """Whether early stopping has ended training."""

    def advance(self, world_size: int, windows: int, *, ends_epoch: bool = False) -> None:
        """Count one optimizer step on `world_size` ranks with `windows` real windows."""
        if not self.segments or self.segments[-1][0] != world_size:
            self.segments.append([world_size, 0])
        self.segments[-1][1] += 1
        self.step += 1
        self.windows += windows
        if ends_epoch:
            self.end_epoch()

    def end_epoch(self) -> None:
        self.epoch += 1
        self.segments = []

    def state_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
