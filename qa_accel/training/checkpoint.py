"""Training state <-> `output_dir/checkpoint-STEP/`, whole or not at all.

Progress is a value, not a folder's name: epoch, steps and the layouts it was made with are saved with the weights. A folder
is written under a temporary name, its manifest of sizes and hashes last, and gets its name when all files are on the disk;
`find` accepts only folders whose files match their manifest.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast_object_list, gather_object
from rich.markup import escape

import qa_accel
from qa_accel import config, files
from qa_accel.data.windows import Windows
from qa_accel.distributed import strategy
from qa_accel.distributed.run_folder import FINISHED
from qa_accel.files import damage_of, shown, write_manifest
from qa_accel.models.adapters import AdapterConfig
from qa_accel.training import safe_loading
from qa_accel.training.optim import OptimConfig
from qa_accel.training.progress import Progress

PROGRESS = "progress.json"
OTHERWISE = "Resume from another checkpoint (--resume_from_checkpoint), or start over (--overwrite_output_dir)"
NOT_TO_THE_BIT = "the run goes on, but not to the bit as if it had not been interrupted"


@dataclass(frozen=True)
class CheckpointConfig:
    output_dir: str
    """Folder of the run: model, predictions, scores, metrics, checkpoints."""
    overwrite_output_dir: bool = False
    """Start over even if the folder holds a finished or an interrupted run; its files are replaced."""
    resume_from_checkpoint: str = "auto"
    """`auto`: continue this folder's interrupted run from its latest whole checkpoint; or a checkpoint's path; or `no`."""
    resume_with_changed_settings: bool = False
    """Resume although data, seed, batch sizes or the like are not those of the checkpoint."""
    trust_checkpoint: bool = False
    """Let the files of a checkpoint run code. Only for one whose maker you know, if it is refused without this."""
    save_steps: int | None = None
    """Optimizer steps between checkpoints; there is one at the end of each epoch in any case."""
    save_minutes: float | None = None
    """Minutes after which a checkpoint is written if none was in between."""
    save_total_limit: int = 2
    """Checkpoints that are kept, the latest ones."""

    def __post_init__(self):
        if self.save_steps is not None and self.save_steps < 1:
            raise ValueError(f"--save_steps must be at least 1, got {self.save_steps}")
        if self.save_minutes is not None and self.save_minutes <= 0:
            raise ValueError(f"--save_minutes must be positive, got {self.save_minutes}")
        if self.save_total_limit < 1:
            raise ValueError(f"--save_total_limit must be at least 1, got {self.save_total_limit}")


def run_fingerprint(
    settings: dict[str, Any], questions: datasets.Dataset, windows: Windows, *, packed: bool
) -> dict[str, Any]:
    """All that decides what a step computes, the number of ranks aside: a resume under another fingerprint is another run.

    `settings`: flat, of the whole run. `questions` and `windows`: those of training.
    """
    shape = hashlib.sha256()
    for array in (windows.begin_W, windows.start_W, windows.end_W):
        shape.update(np.ascontiguousarray(array).tobytes())
    chosen = ("model_name_or_path", "seed", "per_device_train_batch_size", "gradient_accumulation_steps")
    chosen += ("num_train_epochs", "max_train_steps", "dtype", *config.setting_types(OptimConfig))
    chosen += tuple(name for name in config.setting_types(AdapterConfig) if name != "merge_lora")
    return {name: settings[name] for name in chosen} | {
        "batches": "packed" if packed else "padded",
        "training questions": questions._fingerprint,
        "training windows": shape.hexdigest()[:16],
    }


def clear(settings: CheckpointConfig, folder: Path, accelerator: Accelerator) -> None:
    """Delete the previous run if `overwrite_output_dir` is set, and what a killed one was writing.

    Not in open_run: a mistake in the data's name must not cost the results that are there.
    """
    if accelerator.is_main_process:
        if settings.overwrite_output_dir:
            for name in (FINISHED, "metrics.jsonl", "predictions.json", "nbest_predictions.json", "null_odds.json"):
                (folder / name).unlink(missing_ok=True)
            for old in (*checkpoints(folder), folder / "best"):
                files.remove(old)
        files.remove_partial(folder)
    accelerator.wait_for_everyone()


@contextmanager
def atomic_folder(final: Path, accelerator: Accelerator) -> Iterator[Path]:
    """A folder for all ranks to write in; it becomes `final` when every rank is done and its bytes are on the disk."""
    partial = files.partial_of(final)
    with ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(files.replacing_folder(final))
        accelerator.wait_for_everyone()
        try:
            with files.writing(final):
                yield partial
                accelerator.wait_for_everyone()  # else rank 0 names a folder that a slow rank still writes
                if accelerator.is_main_process:
                    files.apply_umask(partial)
                    write_manifest(partial)
        except BaseException as error:
            rank_0_failed = not accelerator.is_main_process and not partial.exists()
            if rank_0_failed and isinstance(error.__cause__ or error, (FileNotFoundError, RuntimeError)):
                # the folder is gone, or a barrier has found rank 0 gone
                raise OSError(f"rank 0 failed to write {final}; see its error") from error
            raise
    accelerator.wait_for_everyone()


def save(folder: Path, accelerator: Accelerator, progress: Progress, fingerprint: dict[str, Any], keep: int) -> Path:
    """Write `folder/checkpoint-STEP` (all ranks must call) and delete all but the latest `keep`.

    Checkpoints of later steps are from a run that this one did not continue: they would be taken for its latest.
    """
    final = folder / f"checkpoint-{progress.step}"
    with atomic_folder(final, accelerator) as partial:
        accelerator.save_state(str(partial))
        if accelerator.is_main_process:
            state = {"progress": progress.state_dict(), "identity": fingerprint, "layout": strategy.layout(accelerator)}
            state["versions"] = versions(accelerator)
            (partial / PROGRESS).write_text(json.dumps(state, indent=2), encoding="utf-8")
    if accelerator.is_main_process:
        found = checkpoints(folder)
        for later in found[found.index(final) + 1 :]:
            files.remove(later)
        rotate(folder, final, keep)
    return final


def rotate(folder: Path, latest: Path, keep: int) -> None:
    """Delete all but the last `keep` of the folder's checkpoints up to `latest`; rank 0 only.

    After a resume too: a run that was killed between a save and this has one too many.
    """
    found = checkpoints(folder)
    if latest in found:
        for old in found[: max(0, found.index(latest) + 1 - keep)]:
            files.remove(old)


def checkpoints(folder: Path) -> list[Path]:
    """The folder's checkpoints by step, damaged ones included."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch("checkpoint-[0-9]+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def find(settings: CheckpointConfig, folder: Path, say) -> Path | None:
    """The checkpoint to resume from, or None. Raises ValueError if a named one is damaged."""
    if settings.resume_from_checkpoint == "no" or settings.overwrite_output_dir:
        return None
    if settings.resume_from_checkpoint != "auto":
        path = Path(settings.resume_from_checkpoint)
        damage = damage_of(path)
        if damage:
            raise ValueError(f"--resume_from_checkpoint {path}: {damage}")
        return path
    for path in reversed(checkpoints(folder)):
        damage = damage_of(path)
        if damage is None:
            return path
        say(f"[yellow]checkpoint {path.name} is skipped: {escape(damage)}[/]")
    return None


def versions(accelerator: Accelerator) -> dict[str, str]:
    """Of the packages that decide what a step computes, to the bit."""
    names = ["torch", "transformers", "accelerate", "numpy"]
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        names.append("deepspeed")
    return {"qa_accel": qa_accel.__version__} | {name: metadata.version(name) for name in names}


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
    changed = [
        f"{name}: {shown(repr(saved['identity'].get(name)))} then, {value!r} now"
        for name, value in fingerprint.items()
        if saved["identity"].get(name) != value
    ]
    if changed and not allow_changes:
        raise ValueError(
            f"{path} was made with other settings, so resuming would continue a different run:\n  "
            + "\n  ".join(changed)
            + "\nGive the former settings, start over (--overwrite_output_dir), or pass --resume_with_changed_settings"
        )
    if saved["layout"] != strategy.layout(accelerator):
        raise ValueError(
            f"{path}: its states were saved as {shown(repr(saved['layout']))}, this run has them as "
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
        f"{name} {shown(str(old))} (now {now[name]})" for name, old in saved["versions"].items() if now.get(name) != old
    ]
    if differ:
        say(f"[yellow]{escape(path.name)} was made with {escape(', '.join(differ))}: {NOT_TO_THE_BIT}[/]")
    _report_random_states(path, accelerator, say)
    return saved["identity"]


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
    """Raises ValueError on all ranks if a file would run code or cannot be read; rank 0 reads them."""
    box = [
        safe_loading.problem_of(path, strategy.checkpoint_classes(accelerator)) if accelerator.is_main_process else None
    ]
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
        reason = escape(next(iter(missing.values())))
        say(
            f"[yellow]the random states of rank {ranks} are not those of {escape(path.name)} ({reason}): {NOT_TO_THE_BIT}[/]"
        )
