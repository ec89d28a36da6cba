"""Fit a model's confidence to questions with gold answers, and store it in the model's config.json.

python scripts/calibrate.py --model_name_or_path runs/squad_v2 --validation_file dev.json

One half of the questions is fitted; the other half shows what confidences were worth before and are worth after. Only the
calibration is written: the no-answer threshold stays as it is. With --answers all the least score of one of several answers is
tuned too, on all questions, and written beside it.
"""

from dataclasses import dataclass, field

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.distributed.settings import RuntimeConfig
from qa_accel.inference.settings import PredictorConfig, SpanConfig
from qa_accel.models.settings import ModelConfig


@dataclass(frozen=True)
class CalibrateConfig:
    model: ModelConfig
    output_dir: str | None = None
    """Folder for calibration.json: the three numbers, the figures of both halves, the curve of risk and coverage. Needed for a
    model of the hub, whose config.json cannot be changed."""
    data: DataConfig = field(default_factory=DataConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    prediction: PredictorConfig = field(default_factory=PredictorConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


Config = CalibrateConfig
