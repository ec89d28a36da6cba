"""Fill the cache of a training run before it starts: one process, no process group, no GPU.

python scripts/prepare.py --config scripts/recipes/squad_v2.yaml
"""

from pathlib import Path

from rich.console import Console

from qa_accel import files
from qa_accel.data import splits
from qa_accel.inference.qa_model import load_tokenizer_and_config
from qa_accel.training.settings import TrainConfig

Config = TrainConfig


def run(settings: TrainConfig) -> None:
    """Questions and windows of a training run with these settings; prints the audit, writes `output_dir/data_report.json`."""
    tokenizer, _ = load_tokenizer_and_config(settings.model, settings.windows)
    prepared = splits.prepare_splits(
        settings.data, settings.windows, tokenizer, max_answer_length=settings.spans.max_answer_length
    )
    Console().print(splits.audit_table(prepared))
    folder = Path(settings.checkpoint.output_dir)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / "data_report.json", splits.audit_as_dict(prepared))
