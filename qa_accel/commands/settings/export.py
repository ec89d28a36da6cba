"""Export a fine-tuned model as a graph that onnxruntime computes on a CPU, in fp32 or with 8 bits.

python scripts/export.py --model_name_or_path runs/squad_v2 --output_dir runs/squad_v2_onnx

python scripts/export.py --model_name_or_path runs/squad_v2 --int8 --validation_file dev.json --output_dir runs/squad_v2_int8

The folder holds model.onnx, tokenizer, config.json with the answer policy, and export.json with figures. It is written only if
the logits equal torch's and, of an int8 graph, if F1 on the validation file stays: see docs/export.md.
"""

from dataclasses import dataclass, field

from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.distributed.settings import RuntimeConfig
from qa_accel.inference.settings import PredictorConfig, SpanConfig
from qa_accel.models.settings import ModelConfig


@dataclass(frozen=True)
class ExportConfig:
    model: ModelConfig
    output_dir: str
    """Folder for the graph and what belongs to it: a new one, or that of a former export, which is replaced."""
    int8: bool = False
    """Weights and products of 8 bits. Needs validation_file: the graph is refused if F1 falls by more than 0.5. Activations
    are measured on questions of train_file, if it is given, else of validation_file."""
    data: DataConfig = field(default_factory=DataConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    prediction: PredictorConfig = field(default_factory=PredictorConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self):
        if self.int8 and not (self.data.validation_file or self.data.dataset_name):
            raise ValueError("--int8 needs --validation_file: questions with gold answers, to see what F1 it costs")
        if self.model.dtype != "float32":
            raise ValueError(
                f"--dtype {self.model.dtype}: a graph is exported in float32; leave it out, or give --int8"
            )


Config = ExportConfig
