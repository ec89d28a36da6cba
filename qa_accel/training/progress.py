"""How far a run is: all that a resume needs in addition to the states of model, optimizer and random generators."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qa_accel.messages import short

MAX_RANKS = 1_000_000
"""More are a damaged file: a plan has a column for each."""


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

    def load_state_dict(self, state: Any) -> None:
        """Raises ValueError if this is not what `state_dict` gave, or contradicts itself."""
        fields = dataclasses.fields(self)
        names = {field.name for field in fields}
        if not isinstance(state, dict) or state.keys() != names:
            raise ValueError(f"progress has the entries {', '.join(sorted(names))}, found {short(repr(state))}")
        for name in names:
            if not _VALID[name](state[name]):
                raise ValueError(f"progress cannot have {short(repr(state[name]))} as its {name}")
        done = sum(steps for _, steps in state["segments"])
        if max(done, state["epoch"]) > state["step"]:
            raise ValueError(
                f"progress names {done} steps of epoch {state['epoch']}, but {state['step']} of the whole run"
            )
        for name, value in state.items():
            setattr(self, name, value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_segment(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)) and 0 < value[0] <= MAX_RANKS


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_VALID: dict[str, Callable[[Any], bool]] = {
    "epoch": _is_count,
    "segments": lambda value: isinstance(value, list) and all(map(_is_segment, value)),
    "step": _is_count,
    "windows": _is_count,
    "best_score": lambda value: value is None or (type(value) in (int, float) and abs(value) < 1e9),
    "best_step": lambda value: value is None or _is_count(value),
    "evaluations_without_gain": _is_count,
    "evaluation_due": _is_flag,
    "stopped_early": _is_flag,
}
