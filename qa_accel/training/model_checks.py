"""Settings, tokenizer and config of a run's model -> its teachers, or a refusal of what cannot work, before a weight is read.

Training, `prepare.py` and `preflight.py` all come through here.
"""

from transformers import PretrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel.data.settings import WindowConfig
from qa_accel.models.layer_cut import cut_config
from qa_accel.models.settings import LayerCutConfig, ModelConfig
from qa_accel.training.distillation import Teacher, load_teachers
from qa_accel.training.part_settings import DistillConfig


def teachers_of(
    distillation: DistillConfig,
    layers: LayerCutConfig,
    student: ModelConfig,
    windows: WindowConfig,
    tokenizer: PreTrainedTokenizerBase,
    model_config: PretrainedConfig,
) -> list[Teacher]:
    """`tokenizer` and `model_config`: the student's. Raises ValueError for layers that cannot be kept alone, and for teachers that do
    not fit."""
    if layers.keep_layers is not None:
        cut_config(model_config, layers.keep_layers, student.model_name_or_path)
    return load_teachers(distillation, student, windows, tokenizer)
