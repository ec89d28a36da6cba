"""A model's shape -> the collectives of its training steps, counted on two real processes.

Two CPU processes train a few batches under DDP over gloo with the run's own step, stop requests and metrics. Every collective,
also those of DDP's C++ reducer, passes torch's dispatcher, where a mode notes it. What a rank gives to a sum depends neither on
the number of ranks, nor on the batch, nor on the device, but for the gradient of the words.
"""

import json
import os
import socket
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing
from torch.utils._python_dispatch import TorchDispatchMode

from qa_accel.batching.collate import batch_loader
from qa_accel.batching.mode import BatchingConfig, choose
from qa_accel.batching.plan import NOTHING
from qa_accel.bench.steps import planned
from qa_accel.bench.synthetic import make_model, model_config, squad_like_windows
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import gradient_sums, strategy
from qa_accel.distributed.settings import GradientSumsConfig
from qa_accel.distributed.stop import Stop, StopConfig
from qa_accel.training import optim
from qa_accel.training.compile import CompileConfig, LossFunction
from qa_accel.training.log import LogConfig, MetricsLog
from qa_accel.training.progress import Progress
from qa_accel.training.step import OptimizerStep

STEPS = 3
"""DDP groups gradients into buckets again after the first step; the last step is counted."""
BATCH = 1
"""Windows of a rank and step."""


@dataclass(frozen=True)
class Call:
    """One collective, as one rank sees it."""

    name: str
    """Of torch's operator: allreduce_, broadcast_, _allgather_base_ ..."""
    bytes: int
    """Of the tensors that hold its result."""


@dataclass(frozen=True)
class Counted:
    """Of one training step on one rank."""

    tokens: list[Call]
    """Which words the ranks' batches have, before the forward pass, beside the device."""
    gradients: list[Call]
    """In their order; each is one of DDP's buckets."""
    rows: list[Call]
    """The gradient of these words, after the backward pass; as many as the batches have."""
    others: list[Call]
    """Of the loop: stop requests."""
    log: list[Call]
    """When the metrics are written, once in `logging_steps` steps."""
    trained: int
    """Numbers that are trained."""
    embedded: int
    """Those of them that are rows of embeddings: their gradient comes last and takes no matrix product."""
    words: tuple[int, int]
    """Rows of the table of words, which are summed apart from DDP's buckets, and numbers of a row."""

    @property
    def bucket_bytes(self) -> list[int]:
        return [call.bytes for call in self.gradients]

    @property
    def in_buckets(self) -> int:
        """Numbers whose gradients DDP sums."""
        return self.trained - self.words[0] * self.words[1]


class Recorder(TorchDispatchMode):
    """Notes every collective that this thread starts while it is entered."""

    def __init__(self):
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self.calls.append(Call(func.__name__.partition(".")[0], _bytes(args[0]) if args else 0))
        return func(*args, **(kwargs or {}))


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0


def count_collectives(model: str, ddp_comm_hook: str = "no") -> Counted:
    """Of a shape of `synthetic.SHAPES`. Takes the memory of two training states in fp32: 3.5 GB for BERT-base."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # spawned, not forked: this process may have threads, and has an accelerator of its own
        torch.multiprocessing.start_processes(
            _rank, (model, ddp_comm_hook, folder, port), nprocs=2, start_method="spawn"
        )
        content = json.loads(Path(folder, "counted.json").read_text(encoding="utf-8"))
    names = ("tokens", "gradients", "rows", "others", "log")
    lists = {name: [Call(**call) for call in content.pop(name)] for name in names}
    return Counted(**lists, words=tuple(content.pop("words")), **content)


def _rank(rank: int, model: str, ddp_comm_hook: str, folder: str, port: int) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="", ACCELERATE_MIXED_PRECISION="no")
    torch.set_num_threads(1)
    counted = _counted(model, GradientSumsConfig(ddp_comm_hook), Path(folder))  # type: ignore[arg-type]
    if rank == 0:
        Path(folder, "counted.json").write_text(json.dumps(asdict(counted)), encoding="utf-8")
    torch.distributed.barrier()
    os._exit(0)  # no interpreter's shutdown: a gloo thread that still holds tensors would abort the process


def _counted(model: str, sums: GradientSumsConfig, folder: Path) -> Counted:
    """All ranks must call. The loop is that of `Trainer.train`, less evaluation and saving."""
    accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), training=True, cpu=True)
    config = model_config(model)
    windows = squad_like_windows(2 * BATCH * STEPS, config.vocab_size)
    mode = choose(BatchingConfig("padded"), config, **strategy.placement(accelerator), training=True)
    qa_model = mode.set_up(make_model(config))
    entries, collate = planned(windows, mode, qa_model, BATCH)
    entries = entries[accelerator.process_index :: 2]
    embedded = [one.weight for one in qa_model.modules() if isinstance(one, torch.nn.Embedding)]
    loss_function = LossFunction(CompileConfig("off"), accelerator, qa_model, packed=False)
    optimizer = optim.make_optimizer(qa_model, optim.OptimConfig())
    prepared, optimizer, embedding_sums = gradient_sums.prepare(accelerator, qa_model, optimizer, sums, timeout=600)
    assert embedding_sums is not None
    words = embedding_sums.weight
    prepared.train()
    step = OptimizerStep(
        accelerator, prepared, loss_function, optimizer, max_grad_norm=1.0, embedding_sums=embedding_sums
    )
    stop, progress = Stop(StopConfig(), accelerator, folder, timeout=600, save_minutes=None), Progress()
    metrics = MetricsLog(
        accelerator,
        runtime.make_console(quiet=True),
        folder / "metrics.jsonl",
        LogConfig(),
        total_steps=STEPS,
        first_step=0,
        epoch_windows=len(windows),
    )
    gradients: list[Call] = []
    others: list[Call] = []
    for entry, batch in zip(entries, batch_loader(collate, entries)):
        with Recorder() as recorder:
            result = step([batch], windows=2 * BATCH)
        gradients = recorder.calls
        progress.advance(2, 2 * BATCH)
        with Recorder() as recorder:
            metrics.step(
                progress,
                np.stack([entry, entry])[None],
                loss_parts=result.loss_parts,
                grad_norm=result.grad_norm,
                learning_rate=0.0,
                tokens=int(windows.lengths_W[entry[entry != NOTHING]].sum()),
                computed_tokens=int(windows.lengths_W.max()) * BATCH,
            )
            stop.poll()
        others = recorder.calls
    with Recorder() as recorder:
        metrics.flush()
    stop.close()
    return Counted(
        gradients[:1],
        gradients[1:-1],
        gradients[-1:],
        others,
        recorder.calls,
        trained=sum(parameter.numel() for parameter in prepared.parameters() if parameter.requires_grad),
        embedded=sum(weight.numel() for weight in embedded),
        words=(words.shape[0], words.shape[1]),
    )
