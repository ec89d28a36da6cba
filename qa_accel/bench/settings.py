"""The settings of the bench."""

from dataclasses import dataclass, field
from typing import Literal

from qa_accel.batching.settings import BatchingConfig
from qa_accel.ranges import COUNT, NATURAL, check_ranges
from qa_accel.training.part_settings import CompileConfig

ModelName = Literal["minilm", "distilbert", "bert-base", "bert-large", "modernbert-base"]
MOST_WINDOWS = 10_000_000
"""They are all made in memory: 12 GB."""
Part = Literal["matmul", "prepare", "input", "train", "predict", "postprocess", "reader"]


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
    parts: tuple[Part, ...] = ("matmul", "prepare", "input", "train", "predict", "postprocess")
    """What to measure."""
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    compile: CompileConfig = field(default_factory=CompileConfig)

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
