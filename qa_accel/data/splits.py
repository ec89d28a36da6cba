"""Settings -> questions and windows of each split, from the cache or made, with a report on both.

Needs no process group: `scripts/prepare.py` fills the cache on any machine before a job starts, and `scripts/train.py` with
the same settings finds it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from rich.console import Console
from rich.table import Table
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel import files
from qa_accel.data import audit
from qa_accel.data import questions as data
from qa_accel.data.window_cache import WindowConfig, Windows, check_tokenizer, prepare_windows
from qa_accel.models import loading as model

if TYPE_CHECKING:
    from qa_accel.training.trainer import TrainConfig


@dataclass(frozen=True)
class Split:
    questions: datasets.Dataset
    windows: Windows
    report: audit.SplitReport | None = None
    """None where nobody asked for one."""


def prepare_split(
    data_config: data.DataConfig, window_config: WindowConfig, tokenizer: PreTrainedTokenizerBase, split: data.SplitName
) -> Split:
    """One split. In training questions whose answer does not stand at its offset are dropped; elsewhere none ever is."""
    questions = data.load_questions(data_config, split)
    questions, question_report = audit.audit_questions(questions, training=split == "train")
    windows = prepare_windows(
        questions,
        tokenizer,
        window_config,
        cache_dir=data.cache_folder(data_config),
        num_proc=data_config.preprocessing_num_workers,
    )
    return Split(questions, windows, audit.SplitReport(question_report, audit.audit_windows(windows, questions)))


def prepare_splits(
    data_config: data.DataConfig, window_config: WindowConfig, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Split]:
    """The training split, and the validation split where the settings name one."""
    check_tokenizer(tokenizer, window_config)
    names: list[data.SplitName] = ["train"]
    if data.has_split(data_config, "validation"):
        names.append("validation")
    return {name: prepare_split(data_config, window_config, tokenizer, name) for name in names}


def report_of(splits: dict[str, Split]) -> dict[str, Any]:
    """What data_report.json holds."""
    return audit.report_as_dict({name: split.report for name, split in splits.items() if split.report is not None})


def report_table(splits: dict[str, Split]) -> Table:
    """The audit, a column for each split."""
    return audit.report_table({name: split.report for name, split in splits.items() if split.report is not None})


def run(config: "TrainConfig") -> None:
    """Fill the cache for a training run with these settings; print the audit, write `output_dir/data_report.json`."""
    tokenizer = model.load_tokenizer(config.model)
    model.load_model_config(config.model, config.windows.max_seq_length, tokenizer)
    splits = prepare_splits(config.data, config.windows, tokenizer)
    Console().print(report_table(splits))
    folder = Path(config.checkpoint.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "data_report.json", report_of(splits))
