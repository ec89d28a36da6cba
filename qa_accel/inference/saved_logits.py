"""A model and windows -> a file with the start and end logits of every window, beside the windows' cache.

The file's name is a fingerprint of all that decides about its bits (`logits_fingerprint.py`). It is the same to the bit from any number of processes,
since batches are (`predictor.py`), and appears under its name only when it is whole. Every rank may read it afterwards:
each round's rows reach all ranks, and where nodes have caches of their own, the first process of each node writes.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from qa_accel import files
from qa_accel.batching.settings import BatchingConfig
from qa_accel.data import cache_file
from qa_accel.data.logit_file import LogitFileWriter, SavedLogits, read
from qa_accel.data.settings import LogitsDtype, WindowConfig
from qa_accel.data.windows import Windows
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.inference import logits_fingerprint, predictor
from qa_accel.inference.logit_rounds import LogitRounds
from qa_accel.inference.qa_model import QAModel, QATask, load_task
from qa_accel.inference.settings import SpanConfig
from qa_accel.messages import listed
from qa_accel.models.settings import ModelConfig

__all__ = ["LogitsFile", "SavedLogits", "filling", "locate", "logits_of_checkpoints", "read", "save_logits"]

SECONDS_TO_APPEAR = 90
"""Within which a network file system shows a file that another host wrote."""


@dataclass(frozen=True)
class LogitsFile:
    """Where the logits of one model over some windows are, or are to be."""

    path: Path
    """In this process's cache."""
    source: str
    """Fingerprint of the model and the windows, whatever the batches, device and versions."""
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
) -> LogitsFile:
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
    return target


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
) -> list[LogitsFile]:
    """As `save_logits`, of several fine-tuned models, one after the other in memory. All ranks must call.

    `check`: called with each model before its weights are read; it may refuse one (another tokenizer, say). `done`: called
    with the model's name, its finished batches and their number.
    Raises ValueError also for a model without a trained head.
    """
    found = []
    for settings in checkpoints:
        name = settings.model_name_or_path
        task = load_task(settings, window_config, batching, **strategy.placement(accelerator))
        check(task)
        with strategy.loading_whole(accelerator):
            qa = task.load_model(trained=True)
        try:
            file = save_logits(
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
        found.append(file)
        del qa  # the next model gets its memory
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
    return found


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
    """The file of these logits; one that is damaged is deleted, with a warning (of a large one
    samples are looked at). All ranks must call, and agree on the result.

    `qa`: as loaded, not yet prepared.
    """
    box: list[Any] = [None]
    if accelerator.is_main_process:  # other hosts' processors may have other names and versions
        length = max_seq_length or qa.max_seq_length
        box = [logits_fingerprint.fingerprint(accelerator, qa, windows, batch_size, dtype, length)]
    broadcast_object_list(box)
    path = Path(cache_dir) / f"logits-{box[0].bits}.arrow"
    with runtime.first_on_each_cache(accelerator) as first:
        usable = cache_file.is_usable(path, check=first)
    states: list[tuple[bool, bool]] = gather_object([(usable, first)])
    writers = tuple(rank for rank, (found, is_first) in enumerate(states) if is_first and not found)
    there = all(found for found, _ in states)
    if not there and not writers:  # every node's first process has it; the others must see the same cache
        _wait_for(path, accelerator)
        there = True
    return LogitsFile(path, box[0].source, dtype, there, writers)


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
    _wait_for(target.path, accelerator)


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


def _wait_for(path: Path, accelerator: Accelerator) -> None:
    """All ranks must call. Raises OSError on all of them if one does not see the file in time."""
    give_up = time.monotonic() + SECONDS_TO_APPEAR
    while not (seen := path.is_file()) and time.monotonic() < give_up:
        with suppress(OSError):
            os.listdir(path.parent)  # makes a client of NFS ask again for what it believes not to be there
        time.sleep(0.2)
    blind = [rank for rank, sees in enumerate(gather_object([seen])) if not sees]
    if blind:
        raise OSError(
            f"{path} is there for the first process of each machine, but not for rank {listed(blind)}: processes of one machine "
            "must share the cache; name a folder that they share with --cache_dir"
        )
