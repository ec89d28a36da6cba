"""A run's settings, tokenizer and config of its model -> its teachers, or a refusal of what cannot work, before a weight is read.

Training, `prepare.py` and `preflight.py` all come through here.
"""

from transformers import PretrainedConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel.models import layer_cut
from qa_accel.training import distillation
from qa_accel.training.distillation import Teacher
from qa_accel.training.settings import TrainConfig


def teachers_of(
    settings: TrainConfig, tokenizer: PreTrainedTokenizerBase, model_config: PretrainedConfig
) -> list[Teacher]:
    """Raises ValueError for layers that cannot be kept alone, and for teachers that do not fit."""
    if settings.layers.keep_layers is not None:
        layer_cut.cut_config(model_config, settings.layers.keep_layers, settings.model.model_name_or_path)
    return distillation.load_teachers(settings.distillation, settings.model, settings.windows, tokenizer)
