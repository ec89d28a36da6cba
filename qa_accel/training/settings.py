"""The settings of a training run: only a nest of the stages' own settings."""

from dataclasses import dataclass, field

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.distributed.settings import GradientSumsConfig, RuntimeConfig, StopConfig
from qa_accel.hub_settings import HubConfig
from qa_accel.inference.settings import SpanConfig
from qa_accel.models.settings import AdapterConfig, LayerCutConfig, ModelConfig
from qa_accel.training.part_settings import (
    CheckpointConfig,
    CompileConfig,
    DistillConfig,
    EvaluationConfig,
    LogConfig,
    LoopConfig,
    OptimConfig,
)


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
