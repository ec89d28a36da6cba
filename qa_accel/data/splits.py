"""Settings -> questions and windows of each split, read from the cache or computed, with an audit of both.

Needs no process group: `scripts/prepare.py` fills the cache on any machine before a job starts, and `scripts/train.py` with
the same settings reads it.
"""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

import datasets
from rich.table import Table
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel.answer_language import ENGLISH, AnswerLanguage
from qa_accel.data import audit, audit_cache
from qa_accel.data.audit_table import report_table
from qa_accel.data.question_lengths import cut_questions
from qa_accel.data.questions import cache_folder, has_split, has_unanswerable, load_questions
from qa_accel.data.set_languages import languages_of
from qa_accel.data.settings import DataConfig, SplitName, WindowConfig
from qa_accel.data.window_cache import prepare_windows, windows_file
from qa_accel.data.windows import Windows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    questions: datasets.Dataset
    windows: Windows
    report: audit.SplitReport | None = None
    """None if no audit was requested."""
    answer_language: AnswerLanguage = ENGLISH
    """Whose rules compare answers."""


def prepare_split(
    data_config: DataConfig,
    window_config: WindowConfig,
    tokenizer: PreTrainedTokenizerBase,
    split: SplitName,
    *,
    max_answer_length: int | None = None,
    check_cache: bool = True,
) -> Split:
    """One split. Training drops questions whose answer is not at its offset; other splits keep every question.

    max_answer_length: tokens of prediction's longest answer, for the audit to count gold answers that are longer.
    check_cache: look for damage in cached files, which costs a read of each, or of samples of large ones; one process of those that share them is enough.
    `DataConfig.answers` decides about the labels of training alone; other windows are labelled as under `any`.
    """
    labelled = data_config.answers if split == "train" else "any"
    questions = load_questions(data_config, split, check_cache=check_cache)
    cache_dir = cache_folder(data_config)
    of_all = windows_file(questions, tokenizer, window_config, cache_dir=cache_dir, labelled=labelled)
    kept_audit = audit_cache.audit_file(of_all, training=split == "train", max_answer_length=max_answer_length)
    known = audit_cache.read(kept_audit)
    if known is None:
        dropped, question_report = audit.audit_rows(questions, training=split == "train")
    else:
        dropped, question_report = known[0], known[1].questions
    all_questions, questions = questions, audit.without_rows(questions, dropped)
    windows = prepare_windows(
        questions,
        tokenizer,
        window_config,
        cache_dir=cache_dir,
        num_proc=data_config.preprocessing_num_workers,
        check_cache=check_cache,
        labelled=labelled,
        path=of_all if questions is all_questions else None,
    )
    if known is None or known[1].windows is None:
        window_report = audit.audit_windows(
            windows, questions, max_answer_length, labelled=labelled if split == "train" else None
        )
        audit_cache.write(kept_audit, dropped, audit.SplitReport(question_report, window_report))
    else:
        window_report = known[1].windows
    special_tokens = tokenizer.num_special_tokens_to_add(pair=True)
    cut = cut_questions(windows.question_tokens_Q, window_config, special_tokens)
    if cut is not None:
        logger.warning("%s: %s", split, cut.described(window_config))
        window_report = dataclasses.replace(window_report, suggested_max_query_length=cut.suggested)
    # training questions are not scored, and their sets may have other names
    language = ENGLISH if split == "train" else languages_of(data_config.answer_language, questions)
    return Split(questions, windows, audit.SplitReport(question_report, window_report), language)


def prepare_splits(
    data_config: DataConfig,
    window_config: WindowConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_answer_length: int | None = None,
    check_cache: bool = True,
) -> dict[str, Split]:
    """The training split, and the validation split if the settings name one."""
    names: list[SplitName] = ["train"]
    if has_split(data_config, "validation"):
        names.append("validation")
    return {
        name: prepare_split(
            data_config,
            window_config,
            tokenizer,
            name,
            max_answer_length=max_answer_length,
            check_cache=check_cache,
        )
        for name in names
    }


def version_2_with_negative(config: DataConfig, *splits: Split) -> bool:
    """The setting; if None, whether a question of these splits has no answer or comes without gold answers."""
    if config.version_2_with_negative is not None:
        return config.version_2_with_negative
    return any("answers" not in split.questions.column_names or has_unanswerable(split.questions) for split in splits)


def audit_as_dict(splits: dict[str, Split]) -> dict[str, Any]:
    """Content of data_report.json."""
    return audit.report_as_dict(_reports(splits))


def audit_table(splits: dict[str, Split]) -> Table:
    """The audit as a table, one column per split."""
    return report_table(_reports(splits))


def _reports(splits: dict[str, Split]) -> dict[str, audit.SplitReport]:
    return {name: split.report for name, split in splits.items() if split.report is not None}
