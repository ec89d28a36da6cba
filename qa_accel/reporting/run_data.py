"""The questions that a run answered, in memory: by columns, with the windows that they were cut into where these can be made."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from qa_accel.answer_language import ENGLISH, AnswerLanguage
from qa_accel.config import written_settings
from qa_accel.data import questions as question_data
from qa_accel.data.audit import SplitReport, audit_questions, audit_windows
from qa_accel.data.named_sets import SET, named_files
from qa_accel.data.set_languages import languages_of
from qa_accel.data.settings import DataConfig, SplitName, WindowConfig
from qa_accel.data.windows import Windows
from qa_accel.evaluation.window_reach import WindowReach
from qa_accel.inference.postprocess import shared_contexts
from qa_accel.inference.settings import SpanConfig
from qa_accel.language_by_set import languages_of_sets
from qa_accel.reporting.local_places import without_place
from qa_accel.reporting.run_files import RunFiles
from qa_accel.run_layout import SETTINGS


@dataclass(frozen=True, eq=False)
class RunData:
    """Columns of equal length, one entry per question."""

    ids: Sequence[str]
    questions: Sequence[str]
    contexts: Sequence[str]
    """Equal ones are one string."""
    titles: Sequence[str | None]
    sets: Sequence[str | None]
    """Names of the sets that the questions are of."""
    gold_texts: Sequence[Sequence[str]]
    gold_starts: Sequence[Sequence[int]]
    reach: WindowReach | None
    """None where the windows are not known; `no_windows` says why."""
    no_windows: str = ""
    source: str = ""
    """Names of the files or of the data set."""
    split: str = "validation"
    max_answer_length: int | None = None
    """Tokens of the longest answer that the run could give; None where it is not known."""
    audit: SplitReport | None = None
    is_part: bool = False
    """Whether these are only some of the questions that the run answered."""
    answer_language: AnswerLanguage = ENGLISH
    """Whose rules compare answers."""

    @classmethod
    def of(cls, rows: datasets.Dataset, windows: Windows | None, **facts: Any) -> "RunData":
        """`rows` must have answers."""
        answers = rows["answers"][:]
        return cls(
            ids=rows["id"][:],
            questions=rows["question"][:],
            contexts=shared_contexts(rows),
            titles=_column(rows, "title"),
            sets=_column(rows, SET),
            gold_texts=[answer["text"] for answer in answers],
            gold_starts=[answer["answer_start"] for answer in answers],
            reach=None if windows is None else WindowReach(windows, range(len(rows))),
            **facts,
        )

    def golds(self) -> dict[str, Sequence[str]]:
        return dict(zip(self.ids, self.gold_texts))

    def contexts_by_id(self) -> dict[str, str]:
        return dict(zip(self.ids, self.contexts))


def _column(rows: datasets.Dataset, name: str) -> Sequence[str | None]:
    return rows[name][:] if name in rows.column_names else [None] * len(rows)


@dataclass(frozen=True)
class GivenData:
    """What the command line says of the data, in place of what the run's settings say."""

    validation_file: tuple[str, ...] | None = None
    columns: Mapping[str, str] | None = None
    """Setting of DataConfig -> name of a column."""
    answer_language: tuple[str, ...] | None = None


def load_data(run: RunFiles, given: GivenData) -> RunData:
    """The split that the run was evaluated on. Raises ValueError where it cannot be read or has no answers."""
    rows, config, split = load_rows(run, given)
    if "answers" not in rows.column_names:
        raise ValueError(
            f"{run.path}: its questions have no gold answers, so there is nothing to report; give --validation_file"
        )
    windows, no_windows = _windows(run, config, rows)
    longest = longest_answer(run)
    _, questions = audit_questions(rows, training=False)
    return RunData.of(
        rows,
        windows,
        no_windows=no_windows,
        source=source_of(run, given, split),
        split=split,
        max_answer_length=longest,
        audit=SplitReport(questions, None if windows is None else audit_windows(windows, rows, longest)),
        answer_language=languages_of(config.answer_language, rows),
    )


def load_rows(run: RunFiles, given: GivenData) -> tuple[datasets.Dataset, DataConfig, SplitName]:
    """The questions that the run answered, with or without gold answers, and where they are from. Raises ValueError where they
    cannot be read."""
    config, split = _data_config(run, given)
    try:
        return question_data.load_questions(config, split), config, split
    except (ValueError, OSError) as error:
        if given.validation_file is None:
            raise ValueError(
                f"{run.path}: its data cannot be read: {error}; give the file with --validation_file"
            ) from error
        raise


def run_language(run: RunFiles) -> tuple[str, ...]:
    """Whose rules compared the run's answers; of predictions alone, English."""
    return DataConfig(**stored_settings(DataConfig, run)).answer_language


def longest_answer(run: RunFiles) -> int | None:
    """Tokens of the longest answer that the run could give; None for predictions alone."""
    return SpanConfig(**stored_settings(SpanConfig, run)).max_answer_length if run.settings else None


def _data_config(run: RunFiles, given: GivenData) -> tuple[DataConfig, SplitName]:
    config = replace(DataConfig(**stored_settings(DataConfig, run)), **(given.columns or {}))
    if given.answer_language is not None:
        config = replace(config, answer_language=given.answer_language)
    if config.cache_dir is not None and not _writable(question_data.cache_folder(config)):
        config = replace(config, cache_dir=None)  # that of another machine
    if given.validation_file is None:
        if not run.settings:
            raise ValueError(f"{run.path}: predictions alone do not name their questions; give --validation_file")
        if run.settings.get("split") in ("validation", "test"):  # of an ensemble
            return config, run.settings["split"]
        return config, "test" if not run.trained and question_data.has_split(config, "test") else "validation"
    # in the place of the file that was answered, so that the same limit holds
    split: SplitName = "test" if not run.trained and config.test_file is not None else "validation"
    files: dict[str, Any] = {f"{split}_file": given.validation_file}
    if given.answer_language is None and (sets := named_files(given.validation_file, "validation_file")):
        languages = languages_of_sets(config.answer_language, [each.name for each in sets])
        config = replace(config, answer_language=languages or config.answer_language)
    return replace(config, dataset_name=None, dataset_config_name=None, **files), split


def _writable(folder: Path) -> bool:
    """Whether the folder is there, or can be made, and can be written in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def source_of(run: RunFiles, given: GivenData, split: str) -> str:
    """Names of the files or of the data set, without folders."""
    named = given.validation_file or run.settings.get(f"{split}_file")
    if named:
        return ", ".join(without_place("validation_file", list(named)))
    data_set = without_place("dataset_name", run.settings.get("dataset_name"))
    return " ".join(filter(None, (data_set, run.settings.get("dataset_config_name"), split)))


def stored_settings(config_class: type, run: RunFiles) -> dict[str, Any]:
    """A stage's own settings out of a run's; those that this version does not know are left out."""
    return written_settings(config_class, run.settings, run.path / SETTINGS)


def _windows(run: RunFiles, config: DataConfig, rows: datasets.Dataset) -> tuple[Windows | None, str]:
    """As the run cut them, from the cache or made again; None with the reason where there is no tokenizer."""
    if not run.settings:
        return None, "predictions alone do not say how contexts were cut into windows"
    if "model_name_or_path" not in run.settings:
        return None, "the members of an ensemble have windows of their own"
    # imports torch, which nothing else of a report needs
    from qa_accel.data.window_cache import prepare_windows
    from qa_accel.models.loading import load_tokenizer
    from qa_accel.models.settings import ModelConfig

    window_config = WindowConfig(**stored_settings(WindowConfig, run))
    # the folder may be somebody else's: none of its code is run, and nothing is fetched
    model = replace(ModelConfig(**stored_settings(ModelConfig, run)), trust_remote_code=False)
    if run.trained and (run.path / "tokenizer.json").exists():
        model = replace(model, model_name_or_path=str(run.path), tokenizer_name=None)
    try:
        tokenizer = load_tokenizer(model, local_files_only=True)
    except (ValueError, OSError):  # the message would show where the model was: reports are passed on
        return None, "the run's tokenizer cannot be read here"
    cache, processes = question_data.cache_folder(config), config.preprocessing_num_workers
    return prepare_windows(rows, tokenizer, window_config, cache_dir=cache, num_proc=processes), ""
