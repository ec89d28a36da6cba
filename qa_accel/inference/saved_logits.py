"""A model and windows -> a file with the start and end logits of every window, beside the windows' cache.

The file's name is a fingerprint of all that decides about its bits: the model's tensors and config, the windows' tokens,
batches, attention, precision, device type and the file's type. It is the same to the bit from any number of processes,
since batches are (`predictor.py`), and appears under its name only when it is whole. Every rank may read it afterwards:
each round's rows reach all ranks, and where nodes have caches of their own, the first process of each node writes.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from qa_accel import files
from qa_accel.batching.collate import PackedCollator
from qa_accel.batching.mode import BatchingConfig, padding_rules
from qa_accel.data import cache_file
from qa_accel.data.logit_file import LogitFileWriter, LogitsDtype, SavedLogits, read
from qa_accel.data.windows import WindowConfig, Windows
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.inference import predictor
from qa_accel.inference.answer_policy import CONFIG_KEY, THRESHOLD_KEY
from qa_accel.inference.logit_rounds import LogitRounds
from qa_accel.inference.postprocess import SpanConfig
from qa_accel.inference.qa_model import QAModel, QATask, load_task
from qa_accel.models.loading import ModelConfig

__all__ = ["LogitsFile", "SavedLogits", "filling", "locate", "logits_of_checkpoints", "read", "save_logits"]

# Part of every file's name. Increase it when the same input gives another file than before.
CODE_VERSION = 2
SECONDS_TO_APPEAR = 90
"""Within which a network file system shows a file that another host wrote."""
NOT_IN_LOGITS = ("_name_or_path", "transformers_version", CONFIG_KEY, THRESHOLD_KEY)
"""Keys of a model's config that change no logit."""


@dataclass(frozen=True)
class LogitsFile:
    """Where the logits of one model over some windows are, or are to be."""

    path: Path
    """In this process's cache."""
    dtype: LogitsDtype
    there: bool
    """Whether every rank has it: nothing is to be computed."""
    writers: tuple[int, ...] = ()
    """Ranks that are first on a cache without the file."""


def save_logits(
    accelerator: Accelerator,
    qa: QAModel,
    windows: Windows,
    batch_size: int,
    *,
    dtype: LogitsDtype,
    cache_dir: Path,
    max_seq_length: int | None = None,
    done: Callable[[int, int], None] = lambda batches, of: None,
) -> Path:
    """The file with the logits of every window, computed with the evaluation path unless it is there. All ranks must call.

    `qa`: as loaded, not yet prepared: its model is put on the accelerator's device, whole on each rank, under any strategy.
    `max_seq_length`: of the windows, if not the model's own setting. `done`: called with the batches that are finished, and
    their number.
    Raises ValueError for logits that are not finite or do not fit into `dtype`, OSError if the cache cannot be written.
    """
    target = locate(
        accelerator, qa, windows, batch_size, dtype=dtype, cache_dir=cache_dir, max_seq_length=max_seq_length
    )
    if not target.there:
        plan, collate = qa.evaluation_batches(windows, batch_size, max_seq_length)
        smallest = SpanConfig(n_best_size=1, max_answer_length=1)  # the spans are not used
        with filling(accelerator, target, windows) as rounds:
            predictor.predict_windows(
                accelerator,
                _whole_on_each_rank(accelerator, qa.model),
                collate,
                plan,
                smallest,
                lambda batches: done(batches, len(plan)),
                rounds,
            )
    return target.path


def logits_of_checkpoints(
    accelerator: Accelerator,
    checkpoints: Sequence[ModelConfig],
    windows: Windows,
    window_config: WindowConfig,
    batching: BatchingConfig,
    batch_size: int,
    *,
    cache_dir: Path,
    dtype: LogitsDtype = "float16",
    check: Callable[[QATask], None] = lambda task: None,
    done: Callable[[str, int, int], None] = lambda name, batches, of: None,
) -> list[Path]:
    """As `save_logits`, of several fine-tuned models, one after the other in memory. All ranks must call.

    `check`: called with each model before its weights are read; it may refuse one (another tokenizer, say). `done`: called
    with the model's name, its finished batches and their number.
    Raises ValueError also for a model without a trained head.
    """
    paths = []
    for settings in checkpoints:
        name = settings.model_name_or_path
        task = load_task(settings, window_config, batching, **strategy.placement(accelerator))
        check(task)
        with strategy.loading_whole(accelerator):
            qa = task.load_model(trained=True)
        try:
            path = save_logits(
                accelerator,
                qa,
                windows,
                batch_size,
                dtype=dtype,
                cache_dir=cache_dir,
                done=lambda batches, of, name=name: done(name, batches, of),
            )
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from error
        paths.append(path)
        del qa  # the next model gets its memory
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
    return paths


def locate(
    accelerator: Accelerator,
    qa: QAModel,
    windows: Windows,
    batch_size: int,
    *,
    dtype: LogitsDtype,
    cache_dir: Path,
    max_seq_length: int | None = None,
) -> LogitsFile:
    """The file of these logits; one that is damaged is deleted, with a warning. All ranks must call, and agree on the result.

    `qa`: as loaded, not yet prepared.
    """
    box: list[Any] = [None]
    if accelerator.is_main_process:  # other hosts' processors may have other names and versions
        content = _decides(accelerator, qa, windows, batch_size, dtype, max_seq_length or qa.max_seq_length)
        box = [hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]]
    broadcast_object_list(box)
    path = Path(cache_dir) / f"logits-{box[0]}.arrow"
    with runtime.first_on_each_cache(accelerator) as first:
        usable = cache_file.is_usable(path, check=first)
    states: list[tuple[bool, bool]] = gather_object([(usable, first)])
    writers = tuple(rank for rank, (found, is_first) in enumerate(states) if is_first and not found)
    return LogitsFile(path, dtype, all(found for found, _ in states), writers)


@contextmanager
def filling(accelerator: Accelerator, target: LogitsFile, windows: Windows) -> Iterator[LogitRounds]:
    """What `predict_windows` gives its rounds to; the file is there when the block ends. All ranks must call.

    After an error in the block there is no file.
    """
    assert not target.there, "there is nothing to fill"
    rank = accelerator.process_index
    with ExitStack() as stack:

        def laid_out() -> tuple[Path, LogitFileWriter]:
            partial = stack.enter_context(files.replacing(target.path, files.CACHE_REMEDY))
            return partial, LogitFileWriter(partial, windows, target.dtype)

        partial, writer = laid_out() if target.writers[:1] == (rank,) else (None, None)
        [shown] = filter(None, gather_object([partial.name if partial else None]))
        # nobody can guess that name: a node that sees it shares the first writer's cache
        if rank in target.writers[1:] and not target.path.with_name(shown).exists():
            partial, writer = laid_out()
        rounds = LogitRounds(windows, writer)
        yield rounds
        rounds.finish()
        if partial is not None:
            cache_file.seal(partial, target.path.name)
    accelerator.wait_for_everyone()
    _wait_for(target.path)


def _whole_on_each_rank(accelerator: Accelerator, model: Any) -> Callable[..., Any]:
    """A loaded model on the accelerator's device and in its precision, apart from the models that it trains; any other
    callable as it is."""
    if not isinstance(model, torch.nn.Module):
        return model
    placed = model.to(accelerator.device).eval()
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(strategy.precision(accelerator))

    def forward(**inputs: Any) -> Any:
        with torch.autocast(accelerator.device.type, precision, enabled=precision is not None):
            return placed(**inputs)

    return forward


def _wait_for(path: Path) -> None:
    give_up = time.monotonic() + SECONDS_TO_APPEAR
    while not path.is_file():
        if time.monotonic() > give_up:
            raise OSError(
                f"{path} was written, but this process does not see it: processes of one machine must share the cache; "
                "name a folder that they share with --cache_dir"
            )
        os.listdir(path.parent)  # makes a client of NFS ask again for what it believes not to be there
        time.sleep(0.2)


def _decides(
    accelerator: Accelerator, qa: QAModel, windows: Windows, batch_size: int, dtype: LogitsDtype, max_seq_length: int
) -> dict[str, Any]:
    """All that decides about the bits of a file."""
    plan, collate = qa.evaluation_batches(windows, batch_size, max_seq_length)
    packed = isinstance(collate, PackedCollator)
    return {
        "code": CODE_VERSION,
        "model": _model_content(qa.model),
        "windows": _windows_content(windows),
        "batches": [plan.shape, hashlib.blake2b(plan.tobytes(), digest_size=16).hexdigest()],
        "padding": asdict(padding_rules(qa.inputs, qa.tokenizer)),
        "packed rows": [collate.row_tokens, collate.max_length] if packed else None,
        "max_seq_length": max_seq_length,
        "attention": qa.mode.attention,
        "precision": strategy.precision(accelerator),
        "device": accelerator.device.type,
        "dtype": dtype,
    }


def _model_content(model: Any) -> list[Any]:
    """Of a torch model the hash of its tensors, its config and the library; of an exported one its files and runtime."""
    if not isinstance(model, torch.nn.Module):
        return [model.runtime, *(files.sha256(path) for path in model.files)]
    digest = hashlib.blake2b(digest_size=32)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    config: Any = model.config
    content = {key: value for key, value in config.to_dict().items() if key not in NOT_IN_LOGITS}
    attention = getattr(config, "_attn_implementation", None)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return [digest.hexdigest(), content, attention, kind, torch.__version__, transformers.__version__]


def _windows_content(windows: Windows) -> str:
    """Hash of all that a model sees of the windows, and of what the normalisers depend on."""
    digest = hashlib.blake2b(digest_size=32)
    names = ("input_ids_N", "token_type_ids_N", "begin_W", "context_begin_W", "context_end_W", "null_W")
    for name in names:
        array = getattr(windows, name)
        digest.update(f"{name} {None if array is None else (array.dtype, array.shape)};".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
