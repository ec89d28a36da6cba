"""Fill the cache of a training run before it starts: one process, no process group, no GPU."""

from pathlib import Path

from qa_accel import files
from qa_accel.data import splits
from qa_accel.data.named_sets import weights_of
from qa_accel.distributed.run_folder import hold, make_writable
from qa_accel.inference.qa_model import load_tokenizer_and_config
from qa_accel.terminal import make_console
from qa_accel.training import distillation
from qa_accel.training.epochs import few_answers, windows_of_epochs
from qa_accel.training.model_checks import teachers_of
from qa_accel.training.settings import TrainConfig

Config = TrainConfig


def run(settings: TrainConfig) -> None:
    """Questions and windows of a training run with these settings, those of its teachers too; prints the audit, writes
    `output_dir/data_report.json`. Raises ValueError for a model, layers or teachers that the run would refuse."""
    folder = Path(settings.checkpoint.output_dir)
    make_writable(folder)
    hold(folder)
    tokenizer, model_config = load_tokenizer_and_config(settings.model, settings.windows)
    teachers = teachers_of(
        settings.distillation, settings.layers, settings.model, settings.windows, tokenizer, model_config
    )
    prepared = splits.prepare_splits(
        settings.data, settings.windows, tokenizer, max_answer_length=settings.spans.max_answer_length
    )
    for teacher in teachers:
        distillation.own_windows(teacher, settings.data, settings.windows, prepared["train"])
    chosen, prepared["train"] = windows_of_epochs(
        settings.loop, prepared["train"], settings.runtime.seed, weights_of(settings.data.train_file, "train_file")
    )
    console = make_console()
    console.print(splits.audit_table(prepared))
    if (warning := few_answers(settings.loop, chosen)) is not None:
        console.print(f"warning: {warning}")
    files.write_json(folder / "data_report.json", splits.audit_as_dict(prepared))
