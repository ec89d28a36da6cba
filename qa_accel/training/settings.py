"""The settings of a training run: only a nest of the stages' own settings."""

from dataclasses import dataclass, field

from qa_accel.batching.mode import BatchingConfig
from qa_accel.data.questions import DataConfig
from qa_accel.data.windows import WindowConfig
from qa_accel.distributed.accelerator import RuntimeConfig
from qa_accel.distributed.gradient_sums import GradientSumsConfig
from qa_accel.distributed.stop import StopConfig
from qa_accel.hub import HubConfig
from qa_accel.inference.postprocess import SpanConfig
from qa_accel.models.adapters import AdapterConfig
from qa_accel.models.layer_cut import LayerCutConfig
from qa_accel.models.loading import ModelConfig
from qa_accel.training.checkpoint import CheckpointConfig
from qa_accel.training.compile import CompileConfig
from qa_accel.training.distillation import DistillConfig
from qa_accel.training.epochs import LoopConfig
from qa_accel.training.evaluator import EvaluationConfig
from qa_accel.training.log import LogConfig
from qa_accel.training.optim import OptimConfig


@dataclass(frozen=True)
class TrainConfig:
    model: ModelConfig
    checkpoint: CheckpointConfig
    data: DataConfig = field(default_factory=DataConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    compile: CompileConfig = field(default_factory=CompileConfig)
    layers: LayerCutConfig = field(default_factory=LayerCutConfig)
    distillation: DistillConfig = field(default_factory=DistillConfig)
    tuning: AdapterConfig = field(default_factory=AdapterConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    gradient_sums: GradientSumsConfig = field(default_factory=GradientSumsConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    log: LogConfig = field(default_factory=LogConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    hub: HubConfig = field(default_factory=HubConfig)

    def __post_init__(self):
        metric = self.evaluation.metric_for_best_model
        if ("multi_" in metric or metric == "aupr") and self.data.answers != "all":
            raise ValueError(
                f"--metric_for_best_model {metric} is a score of several answers per question: add --answers all, or choose another"
            )
        if self.layers.keep_layers is not None and self.tuning.lora_r and not self.tuning.merge_lora:
            raise ValueError(
                "--keep_layers with --lora_r: an adapter is loaded onto the model that it names, which has all its layers; add "
                "--merge_lora: the run then ends with the weights of the shorter model"
            )
