"""A checkpoint's folder -> the states of a prepared run, or one message that names the checkpoint and the reason.

Whatever keeps the run from going on to the bit is said, since neither accelerate nor the files say it.
"""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from qa_accel.distributed import strategy
from qa_accel.messages import LINE, REASON, short
from qa_accel.terminal import visible
from qa_accel.training import safe_loading
from qa_accel.training.checkpoint import IF_USED, PROGRESS, TEACHERS, TEACHERS_LOGITS, versions
from qa_accel.training.progress import Progress

WEIGHTS = "model.safetensors"
OTHERWISE = "Resume from another checkpoint (--resume_from_checkpoint), or start over (--overwrite_output_dir)"
NOT_TO_THE_BIT = "the run goes on, but not to the bit as if it had not been interrupted"


def load(
    path: Path,
    accelerator: Accelerator,
    progress: Progress,
    fingerprint: dict[str, Any],
    say: Callable[[str], None],
    *,
    allow_changes: bool,
    trust: bool = False,
) -> dict[str, Any]:
    """Restore everything from a checkpoint into prepared objects; returns the fingerprint that it was saved with.

    All ranks must call. `say` gets a line for what keeps the run from going on to the bit. `trust`: the files may run code.
    Raises ValueError if `fingerprint`, all that decides what the next step does, differs from the checkpoint's, or if the
    checkpoint cannot be restored.
    """
    saved = _read_state(path)
    changed = _changes(saved["identity"], fingerprint)
    if changed and not allow_changes:
        raise ValueError(
            f"{path} was made with other settings, so resuming would continue a different run:\n  "
            + "\n  ".join(changed)
            + "\nGive the former settings, start over (--overwrite_output_dir), or pass --resume_with_changed_settings"
        )
    if saved["layout"] != strategy.layout(accelerator):
        raise ValueError(
            f"{path}: its states were saved as {short(repr(saved['layout']))}, this run has them as "
            f"{strategy.layout(accelerator)!r}, and neither reads the other's. Resume under the former strategy (and number of "
            "processes), or start a new run from a model: --model_name_or_path"
        )
    try:
        progress.load_state_dict(saved["progress"])
    except ValueError as error:
        raise ValueError(f"{path / PROGRESS}: {error}. {OTHERWISE}") from error
    if not trust:
        _check_files(path, accelerator)
    _load_states(path, accelerator, trust=trust)
    # It counts batches, and a multiple of the accumulation ends a step. A checkpoint is between two steps; under
    # another accumulation the restored count would be in the middle of one.
    accelerator.step = 0
    now = versions(accelerator)
    differ = [
        f"{name} {short(str(old))} (now {now[name]})" for name, old in saved["versions"].items() if now.get(name) != old
    ]
    if not changed and saved["identity"].get(TEACHERS_LOGITS) != fingerprint.get(TEACHERS_LOGITS):
        say(
            f"the logits of {_spelled(TEACHERS, fingerprint[TEACHERS])} were computed again and are not those of "
            f"{visible(path.name)} to the bit (another --per_device_eval_batch_size, version or device): {NOT_TO_THE_BIT}"
        )
    if differ:
        say(f"{visible(path.name)} was made with {visible(', '.join(differ))}: {NOT_TO_THE_BIT}")
    _report_random_states(path, accelerator, say)
    return saved["identity"]


def _changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each entry that makes it another run."""
    changed = []
    for name in dict.fromkeys((*now, *(name for name in IF_USED if name in then))):
        former, value = then.get(name), now.get(name)
        if name == TEACHERS and isinstance(former, dict) and isinstance(value, dict):
            same = former.keys() == value.keys()  # they may have moved
        else:
            # other bits of other teachers' logits are one change, not two
            same = former == value or (name == TEACHERS_LOGITS and TEACHERS in then)
        if not same:
            changed.append(f"{name}: {_spelled(name, former)} then, {_spelled(name, value, REASON)} now")
    return changed


def _spelled(name: str, value: Any, most: int = LINE) -> str:
    if name == TEACHERS and isinstance(value, dict):
        value = [f"{model} (weights and windows {str(fingerprint)[:8]})" for fingerprint, model in value.items()]
        return short(", ".join(value), REASON)
    return short(repr(value), most)


def _read_state(path: Path) -> dict[str, Any]:
    """progress.json, whose entries are there and of their types. Checkpoints of former versions name no versions."""
    file = path / PROGRESS
    try:
        content = json.loads(file.read_bytes() if file.is_file() else b"")
        state = {"versions": {}} | content
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is missing or not JSON. {OTHERWISE}") from error
    types = {"progress": dict, "identity": dict, "layout": str, "versions": dict}
    wrong = [name for name, type_ in types.items() if not isinstance(state.get(name), type_)]
    if wrong:
        raise ValueError(f"{file} has no {' and no '.join(wrong)}, as a checkpoint has them. {OTHERWISE}")
    return state


def _check_files(path: Path, accelerator: Accelerator) -> None:
    """Raises ValueError on all ranks if a file would run code, cannot be read or is missing; rank 0 reads them."""
    box: list[str | None] = [None]
    if accelerator.is_main_process:
        box = [safe_loading.problem_of(path, strategy.checkpoint_classes(accelerator))]
        if box[0] is None and not strategy.splits_training(accelerator) and not (path / WEIGHTS).is_file():
            box = [f"{WEIGHTS} is missing"]  # accelerate would name a file of another format
    broadcast_object_list(box)
    if box[0] is not None:
        raise ValueError(
            f"{path} is not loaded: {box[0]}. {OTHERWISE}. If you know who made it, --trust_checkpoint loads it nevertheless"
        )


def _load_states(path: Path, accelerator: Accelerator, *, trust: bool) -> None:
    from torch.distributed.checkpoint.api import CheckpointException  # not an Exception

    try:
        with nullcontext() if trust else safe_loading.restricted(strategy.checkpoint_classes(accelerator)):
            accelerator.load_state(str(path))
    except (Exception, CheckpointException) as error:
        if isinstance(error, (torch.distributed.DistError, torch.OutOfMemoryError, MemoryError)) or "gloo" in str(
            error
        ):
            raise  # another rank is gone, or this run needs too much: not the checkpoint's fault
        failures = getattr(error, "failures", {})  # of a CheckpointException, by rank
        reasons = [safe_loading.reason_of(one) for one, _ in failures.values()] or [safe_loading.reason_of(error)]
        raise ValueError(f"{path} cannot be restored: {reasons[0]}. {OTHERWISE}") from error


def _report_random_states(path: Path, accelerator: Accelerator, say: Callable[[str], None]) -> None:
    """accelerate ignores random states that it cannot restore; then dropout has other masks. All ranks must call."""
    own = safe_loading.unrestored_random_states(path, accelerator.process_index)
    reasons = dict(enumerate(gather_object([own])))
    missing = {rank: reason for rank, reason in reasons.items() if reason is not None}
    if missing:
        ranks = ", ".join(map(str, [*missing][:10])) + (" ..." if len(missing) > 10 else "")
        reason = visible(next(iter(missing.values())))
        say(f"the random states of rank {ranks} are not those of {visible(path.name)} ({reason}): {NOT_TO_THE_BIT}")
