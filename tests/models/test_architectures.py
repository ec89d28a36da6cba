"""The layers of a model, as learning rates, frozen layers and FSDP2 count them."""

import pytest
import zoo
from transformers import AutoModelForQuestionAnswering

from qa_accel.distributed import strategy
from qa_accel.models import architectures

LAYERS = {
    "albert": (1, ["AlbertLayerGroup"]),
    "bart": (4, ["BartDecoderLayer", "BartEncoderLayer"]),
    "bert": (2, ["BertLayer"]),
    "big_bird": (2, ["BigBirdLayer"]),
    "camembert": (2, ["CamembertLayer"]),
    "deberta-v2": (2, ["DebertaV2Layer"]),
    "deberta-v3": (2, ["DebertaV2Layer"]),
    "distilbert": (2, ["TransformerBlock"]),
    "electra": (2, ["ElectraLayer"]),
    "fnet": (2, ["FNetLayer"]),
    "funnel": (4, ["FunnelLayer"]),
    "gpt2": (2, ["GPT2Block"]),
    "llama": (2, ["LlamaDecoderLayer"]),
    "longformer": (2, ["LongformerLayer"]),
    "mbart": (4, ["MBartDecoderLayer", "MBartEncoderLayer"]),
    "mistral": (2, ["MistralDecoderLayer"]),
    "mobilebert": (2, ["MobileBertLayer"]),
    "modernbert": (2, ["ModernBertEncoderLayer"]),
    "mpnet": (2, ["MPNetLayer"]),
    "qwen2": (2, ["Qwen2DecoderLayer"]),
    "qwen3": (2, ["Qwen3DecoderLayer"]),
    "roberta": (2, ["RobertaLayer"]),
    "squeezebert": (2, ["SqueezeBertModule"]),
    "t5": (4, ["T5Block"]),
    "xlm-roberta": (2, ["XLMRobertaLayer"]),
    "xlnet": (2, ["XLNetLayer"]),
}
"""Number of layers and their classes, written down before the two walkers over a model became one."""


@pytest.mark.parametrize("name", sorted(zoo.KINDS))
def test_the_layers_of_every_architecture_are_found(name, tmp_path):
    """Breaks if the walker stops above the layers, descends into them, or loses the decoder's."""
    qa_model = AutoModelForQuestionAnswering.from_pretrained(zoo.make(name, tmp_path))
    count, classes = LAYERS[name]
    assert max(architectures.depths(qa_model).values()) - 1 == count
    assert strategy.layer_classes(qa_model) == classes
    assert len(architectures.layers(qa_model)) == count
