"""The settings of the bench."""

from dataclasses import dataclass, field
from typing import Literal

from qa_accel.batching.settings import BatchingConfig
from qa_accel.ranges import COUNT, LARGEST, NATURAL, check_ranges
from qa_accel.training.part_settings import CompileConfig

ModelName = Literal["minilm", "distilbert", "bert-base", "bert-large", "modernbert-base"]
MOST_WINDOWS = 10_000_000
"""They are all made in memory: 12 GB."""
Part = Literal["matmul", "prepare", "input", "train", "predict", "postprocess", "reader", "scaling"]


PER_NODE = 8
"""GPUs that NVLink connects."""


@dataclass(frozen=True)
class ScalingConfig:
    world_size: tuple[int, ...] = (8, 64)
    """Of the part `scaling`: numbers of GPUs to calculate, eight of them on each node."""
    step_ms: float = 11.31
    """Milliseconds of one GPU's optimizer step, captured as a CUDA graph: BERT-base, 32 windows, H100."""
    ddp_step_ms: float | None = None
    """Milliseconds of the same step without the capture, as several processes run it now; left out: `step_ms`."""
    predict_ms: float = 13.75
    """Milliseconds of a batch in evaluation."""
    start_seconds: float = 23.0
    """Seconds from a run's start to its first steps, its compiler included."""
    node_gb_s: float = 360.0
    """Bus bandwidth of a sum within a node, GB/s (NCCL tests' busbw at sizes of a bucket, 25 to 100 MB)."""
    network_gb_s: float = 40.0
    """GB/s of each GPU's own network link that a sum reaches: 0.8 of 400 Gb/s."""
    node_latency_us: float = 20.0
    """Microseconds of a sum of no bytes within a node."""
    network_latency_us: float = 40.0
    """Microseconds that a sum of no bytes takes longer over several nodes."""
    memory_gb_s: float = 2500.0
    """GB/s at which a GPU copies gradients."""

    def __post_init__(self):
        for size in self.world_size:
            if not 1 <= size <= LARGEST // PER_NODE:
                raise ValueError(f"--world_size must be from 1 to {LARGEST // PER_NODE}, got {size}")
        check_ranges(self, step_ms="(0, inf)", ddp_step_ms="(0, inf)", predict_ms="(0, inf)", start_seconds="[0, inf)")
        check_ranges(self, node_gb_s="(0, inf)", network_gb_s="(0, inf)", memory_gb_s="(0, inf)")
        check_ranges(self, node_latency_us="[0, inf)", network_latency_us="[0, inf)")


@dataclass(frozen=True)
class BenchConfig:
    model: ModelName = "bert-base"
    """Which shape, with random weights."""
    train_file: tuple[str, ...] = ("quickstart/train.json.gz",)
    """Questions for the parts `prepare` and `reader`."""
    tokenizer_name: str = "quickstart/encoder"
    """Tokenizer for the part `prepare`, and for `reader` without `reader_model`."""
    reader_model: str | None = None
    """Hub name or folder of a fine-tuned model for the part `reader`; not given: the shape of `model`, with random weights."""
    onnx_model: tuple[str, ...] = ()
    """Folders that scripts/export.py wrote from `reader_model`, for the engines of the part `reader`."""
    windows: int = 4096
    """Windows with lengths drawn like SQuAD's, and random tokens."""
    per_device_train_batch_size: int = 32
    """Windows per step in training and per forward pass in prediction."""
    steps: int = 20
    """Steps of one repeat."""
    repeats: int = 3
    """Repeats after the warm-up; the median is printed."""
    warmup_steps: int = 5
    """Steps that are not counted: compilation, first allocations."""
    compare: bool = False
    """Run the baseline too, in fp32 and in this run's precision, and print the ratios."""
    baseline_padding: Literal["longest", "max_length"] = "longest"
    """The baseline pads each batch to its own longest window, as transformers' run_qa_no_trainer.py does, or to the longest of all,
    which has nearly 384 tokens, as run_qa.py does by default."""
    parts: tuple[Part, ...] = ("matmul", "prepare", "input", "train", "predict", "postprocess")
    """What to measure."""
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    compile: CompileConfig = field(default_factory=CompileConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    def __post_init__(self):
        check_ranges(self, windows=f"[1, {MOST_WINDOWS}]", per_device_train_batch_size=COUNT, steps=COUNT)
        check_ranges(self, repeats=COUNT, warmup_steps=NATURAL)
        if self.onnx_model and self.reader_model is None:
            raise ValueError("--onnx_model needs --reader_model: the model that was exported, to compare with")
        if self.per_device_train_batch_size * self.steps > MOST_WINDOWS:
            raise ValueError(
                f"--per_device_train_batch_size {self.per_device_train_batch_size} times --steps {self.steps} must be at most "
                f"{MOST_WINDOWS} windows"
            )
