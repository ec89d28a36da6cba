"""Training state <-> `output_dir/checkpoint-STEP/`, whole or not at all.

Progress is a value, not a folder's name: epoch, steps and the layouts it was made with are saved with the weights. A folder
is written under a temporary name, its manifest of sizes and hashes last, and gets its name when all files are on the disk;
`find` accepts only folders whose files match their manifest.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from accelerate import Accelerator
from accelerate.utils import DistributedType

import qa_accel
from qa_accel import config, files
from qa_accel.data.named_sets import weights_of
from qa_accel.data.windows import TaughtWindows, Windows
from qa_accel.distributed import strategy
from qa_accel.files import damage_of, write_manifest
from qa_accel.inference.answer_files import ANSWER_FILES
from qa_accel.models.settings import AdapterConfig
from qa_accel.run_layout import BEST, CONFIDENCES, ERROR_ANALYSIS, FINISHED, METRICS, REPORT, SEVERAL
from qa_accel.terminal import visible
from qa_accel.training.part_settings import CheckpointConfig, OptimConfig
from qa_accel.training.progress import Progress

PROGRESS = "progress.json"
TEACHERS = "teachers"
"""Entry of a fingerprint: of each teacher the fingerprint -> the name, which may change."""
IF_USED = {"negative_window_ratio": None, "sampling_temperature": None, "ddp_comm_hook": "no"}
"""Settings that are entries of a fingerprint only where they have another value than this."""
SET_WEIGHTS = "weights of sets"
"""Entry of a fingerprint where some set has another weight than 1."""
TEACHERS_LOGITS = "teachers' logits"
"""Entry of a fingerprint: hash of what the same teachers may say in other bits (versions, device, batches of their pass)."""


def run_fingerprint(
    settings: dict[str, Any], questions: datasets.Dataset, windows: Windows, *, packed: bool
) -> dict[str, Any]:
    """All that decides what a step computes, the number of ranks aside: a resume under another fingerprint is another run.

    `settings`: flat, of the whole run. `questions` and `windows`: those of training, with the teachers' logits if there are any.
    """
    chosen = ("model_name_or_path", "seed", "per_device_train_batch_size", "gradient_accumulation_steps")
    chosen += ("num_train_epochs", "max_train_steps", "dtype", "keep_layers", *config.setting_types(OptimConfig))
    chosen += tuple(name for name in config.setting_types(AdapterConfig) if name != "merge_lora")
    chosen += tuple(name for name, unused in IF_USED.items() if settings[name] != unused)
    teachers = taught = None
    if isinstance(windows, TaughtWindows):
        chosen += ("distill_temperature", "distill_weight")
        teachers = dict(windows.teachers)
        taught = _hash((*windows.teacher_start_MN, *windows.teacher_end_MN))
    weights = weights_of(settings["train_file"], "train_file")
    weighed = {SET_WEIGHTS: weights} if any(weight != 1 for weight in weights.values()) else {}
    labels = (windows.gold_begin_W, windows.gold_start_G, windows.gold_end_G, windows.left_out_W)
    labels = (windows.start_W, windows.end_W, *(array for array in labels if array is not None))
    return {name: settings[name] for name in chosen} | {
        **weighed,
        "batches": "packed" if packed else "padded",
        "training questions": questions._fingerprint,
        "training windows": _hash((windows.begin_W, *labels)),
        TEACHERS: teachers,
        TEACHERS_LOGITS: taught,
    }


def _hash(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def clear(settings: CheckpointConfig, folder: Path, accelerator: Accelerator) -> None:
    """Delete the previous run if `overwrite_output_dir` is set, and what a killed one was writing.

    Not in open_run: a mistake in the data's name must not cost the results that are there.
    """
    if accelerator.is_main_process:
        if settings.overwrite_output_dir:
            for name in (FINISHED, METRICS, *ANSWER_FILES, CONFIDENCES, SEVERAL, REPORT, ERROR_ANALYSIS):
                (folder / name).unlink(missing_ok=True)
            for old in (*checkpoints(folder), folder / BEST):
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
        say(f"checkpoint {path.name} is skipped: {visible(damage)}")
    return None


def versions(accelerator: Accelerator) -> dict[str, str]:
    """Of the packages that decide what a step computes, to the bit."""
    names = ["torch", "transformers", "accelerate", "numpy"]
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        names.append("deepspeed")
    return {"qa_accel": qa_accel.__version__} | {name: metadata.version(name) for name in names}
