"""The settings of the parts of a training run."""

import re
from dataclasses import dataclass, field
from typing import Literal

from qa_accel.inference.settings import PredictorConfig
from qa_accel.ranges import COUNT, NATURAL, check_ranges


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
        check_ranges(self, save_steps=COUNT, save_minutes="(0, inf)", save_total_limit=COUNT)


@dataclass(frozen=True)
class CompileConfig:
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile of forward and loss: `auto` on CUDA with packed batches, whose shapes never change; a minute once. On
    one process the whole step is then replayed as a CUDA graph, unless the run is in fp16."""


@dataclass(frozen=True)
class Distillation:
    """How much a batch's teacher counts. Numbers of the whole run: a compiled step may hold them as constants."""

    temperature: float
    weight: float
    """Share of the teacher's term, 0 to 1; the labels' term has the rest."""


@dataclass(frozen=True)
class DistillConfig:
    teacher: tuple[str, ...] = ()
    """Folders or hub names of fine-tuned models with this model's tokenizer, whose answers this one learns to give; of several
    the mean counts. `name@revision`: a branch, tag or commit of the hub model."""
    distill_temperature: float = 2.0
    """Logits of teacher and student are divided by this before they are compared: the higher, the more small ones count."""
    distill_weight: float = 0.75
    """Share of the teachers' term in the loss; the labels' term has the rest."""

    def __post_init__(self):
        check_ranges(self, distill_temperature="[0.1, 100]", distill_weight="[0, 1]")
        usual = DistillConfig.distill_temperature, DistillConfig.distill_weight
        if not self.teacher and (self.distill_temperature, self.distill_weight) != usual:
            raise ValueError("--distill_temperature and --distill_weight mean nothing without --teacher")
        for name in self.teacher:
            if self.teacher.count(name) > 1:
                raise ValueError(f"--teacher: {name!r} is named twice; its logits would count twice. Name each once")

    @property
    def term(self) -> Distillation | None:
        """What the loss needs to know; None without a teacher."""
        return Distillation(self.distill_temperature, self.distill_weight) if self.teacher else None


@dataclass(frozen=True)
class LoopConfig:
    per_device_train_batch_size: int = 16
    """Windows per process and forward pass."""
    gradient_accumulation_steps: int = 1
    """Batches per process and optimizer step."""
    num_train_epochs: int = 2
    """Times that every training window is seen."""
    max_train_steps: int | None = None
    """Optimizer steps of the whole run; wins over num_train_epochs."""
    sampling_temperature: float | None = None
    """Of several named training sets: their sizes are raised to the power 1 / temperature, and their sum is kept, so that above 1
    small sets are seen more often and large ones less. None leaves them, as 1 does."""
    negative_window_ratio: float | None = None
    """Windows without answer in each epoch, at most, for each window with an answer. They take turns: each epoch has others.
    None takes every window. For long documents, where nearly all windows hold no answer."""

    def __post_init__(self):
        check_ranges(self, per_device_train_batch_size=COUNT, gradient_accumulation_steps=COUNT)
        check_ranges(self, num_train_epochs=COUNT, max_train_steps=COUNT, negative_window_ratio="[0, inf)")
        check_ranges(self, sampling_temperature="(0, inf)")


BestModelMetric = Literal[
    "f1",
    "exact",
    "best_f1",
    "best_exact",
    "mean_f1",
    "mean_exact",
    "multi_exact_f1",
    "best_multi_exact_f1",
    "aupr",
]


@dataclass(frozen=True)
class EvaluationConfig:
    """All that decides about a run's evaluations, but for what an answer is (`SpanConfig`) and what the data are (`DataConfig`)."""

    eval_steps: int | None = None
    """Optimizer steps between evaluations; there is one at the end of each epoch in any case."""
    metric_for_best_model: BestModelMetric = "f1"
    """The score that decides which model is the best; best_* are those at the tuned no-answer threshold, mean_* those of
    named validation sets in which every set counts the same. With --answers all also multi_exact_f1, best_multi_exact_f1
    (at the tuned least score) and aupr."""
    load_best_model_at_end: bool = True
    """End with the best evaluated model rather than with the last one."""
    early_stopping_patience: int | None = None
    """Stop after this many evaluations in a row without a better score."""
    prediction: PredictorConfig = field(default_factory=PredictorConfig)

    def __post_init__(self):
        check_ranges(self, eval_steps=COUNT, early_stopping_patience=COUNT)


@dataclass(frozen=True)
class LogConfig:
    logging_steps: int = 10
    """Steps between device-to-host synchronisations. Each step has a line in metrics.jsonl; this many are written at once."""
    report_to: tuple[str, ...] = ()
    """Trackers of accelerate (tensorboard, wandb, ...) in addition to metrics.jsonl; keys come from their own environment variables."""
    project_name: str = "qa-accel"
    """Name of the project in the trackers."""

    def __post_init__(self):
        check_ranges(self, logging_steps=COUNT)
        # TensorBoard makes it a folder in the run's
        if not re.fullmatch(r"[\w .-]{1,100}", self.project_name) or self.project_name.startswith(
            ("ranks", "best", "check", ".")
        ):
            raise ValueError(f"--project_name {self.project_name!r}: use letters, digits, blanks, -, _ and .")
        if not self.report_to:
            return
        from accelerate.tracking import get_available_trackers
        from accelerate.utils import LoggerType

        for name in self.report_to:
            if name not in LoggerType.list():
                raise ValueError(
                    f"--report_to {name}: accelerate has no such tracker; known: {', '.join(LoggerType.list())}"
                )
            installed = get_available_trackers()
            if not installed or LoggerType(name) not in (LoggerType.ALL, *installed):
                get = "pip install 'qa-accel[tracking]'" if name in ("all", "tensorboard", "wandb") else "install it"
                raise ValueError(f"--report_to {name}: its package is not installed; {get}, or leave the name out")


@dataclass(frozen=True)
class OptimConfig:
    learning_rate: float = 3e-5
    """Highest learning rate of the schedule."""
    weight_decay: float = 0.01
    """AdamW's decay; biases and normalisation weights have none."""
    adam_beta1: float = 0.9
    """AdamW's decay rate of the first moment."""
    adam_beta2: float = 0.999
    """AdamW's decay rate of the second moment."""
    adam_epsilon: float = 1e-8
    """AdamW's epsilon."""
    layerwise_lr_decay: float = 1.0
    """Learning rate of a layer over that of the layer above it, the head having the full one; 1: all the same."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm; 0 turns clipping off."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the learning rate after warm-up."""
    warmup_ratio: float = 0.0
    """Warm-up as a share of the whole run's optimizer steps."""
    num_warmup_steps: int | None = None
    """Warm-up in optimizer steps; wins over warmup_ratio."""

    def __post_init__(self):
        check_ranges(self, learning_rate="(0, inf)", weight_decay="[0, inf)", layerwise_lr_decay="(0, 1]")
        check_ranges(self, adam_beta1="[0, 1)", adam_beta2="[0, 1)", adam_epsilon="(0, inf)", max_grad_norm="[0, inf)")
        check_ranges(self, warmup_ratio="[0, 1]", num_warmup_steps=NATURAL)
