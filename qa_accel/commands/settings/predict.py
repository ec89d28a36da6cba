"""Answer the questions of a file with a fine-tuned model, and score the answers where the file has gold ones.

accelerate launch scripts/predict.py --model_name_or_path runs/squad_v2 --test_file questions.json --output_dir runs/answers
"""

from dataclasses import dataclass, field

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.settings import DataConfig, LogitsDtype, WindowConfig
from qa_accel.distributed.settings import RuntimeConfig
from qa_accel.inference.settings import Backend, PredictorConfig, SpanConfig
from qa_accel.models.settings import ModelConfig
from qa_accel.ranges import check_ranges


@dataclass(frozen=True)
class CorpusConfig:
    shard_output: bool = False
    """Answer a corpus that need not fit into memory: `test_file`, Parquet or JSON lines, is read in pieces, and output_dir
    gets a Parquet file for each, with the columns id, context_id, file, place, answer, start, end, score, confidence and
    null_odds. The same command computes what is missing, on any number of processes (docs/scale.md)."""
    piece_megabytes: float = 16.0
    """Input per piece, in MB: what a killed process loses at most."""
    shard_nbest: bool = False
    """Also write the n-best list of each question, as the column nbest."""
    passages_file: tuple[str, ...] | None = None
    """Contexts by id, with shard_output: paths or globs of Parquet or JSON lines with the columns id and text. Questions
    then have a column context_id, an id or a list of ids, in place of the context."""

    def __post_init__(self):
        check_ranges(self, piece_megabytes="(0, 10000]")
        for name in ("shard_nbest", "passages_file"):
            if getattr(self, name) and not self.shard_output:
                raise ValueError(f"--{name} is for prediction in pieces: give --shard_output, too")


@dataclass(frozen=True)
class PredictConfig:
    model: ModelConfig
    output_dir: str
    """Folder for predictions.json, nbest_predictions.json, null_odds.json, of a calibrated model confidences.json, with
    --answers all answers.json and, where the file has answers, all_results.json; not that of a training run."""
    min_confidence: float | None = None
    """Answer with "" below this confidence, 0 to 1; confidences.json tells that from "no answer". The model must be
    calibrated (scripts/calibrate.py)."""
    save_logits: bool = False
    """Keep the logits of every window in a file beside the windows' cache, and its place in logits.json, so that
    scripts/decode.py answers under other settings without the model."""
    logits_dtype: LogitsDtype = "float32"
    """Type of the saved logits. From `float32` decode.py gives these answers to the bit; `float16` is half as large."""
    backend: Backend = "torch"
    """`onnx`: the model is a folder that scripts/export.py wrote, and onnxruntime computes on the CPU."""
    compile: bool = False
    """torch.compile of the forward pass, a minute once. Not measured on a GPU; in batches of 8 on a CPU no gain was found. Answers
    may differ in the last digits."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    data: DataConfig = field(default_factory=DataConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    prediction: PredictorConfig = field(default_factory=PredictorConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self):
        check_ranges(self, min_confidence="[0, 1]")
        if self.compile and self.backend == "onnx":
            raise ValueError("--compile is for the backend torch: leave it out with --backend onnx")
        if self.compile and self.save_logits:
            raise ValueError("--save_logits keeps the logits of the model as it is: leave --compile out")
        if self.compile and self.corpus.shard_output:
            raise ValueError(
                "--compile is for one file: each piece of --shard_output has shapes of its own, which would be compiled again and "
                "again; leave it out"
            )


Config = PredictConfig
