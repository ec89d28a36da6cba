"""The questions that a run answered, in memory: by columns, with the windows that they were cut into where these can be made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import datasets

from qa_accel.data import questions as question_data
from qa_accel.data.audit import SplitReport, audit_questions, audit_windows
from qa_accel.data.questions import DataConfig, SplitName
from qa_accel.data.windows import WindowConfig, Windows
from qa_accel.evaluation.window_reach import WindowReach
from qa_accel.inference.postprocess import shared_contexts
from qa_accel.reporting.run_files import RunFiles


@dataclass(frozen=True, eq=False)
class RunData:
    """Columns of equal length, one entry per question."""

    ids: Sequence[str]
    questions: Sequence[str]
    contexts: Sequence[str]
    """Equal ones are one string."""
    titles: Sequence[str | None]
    gold_texts: Sequence[Sequence[str]]
    gold_starts: Sequence[Sequence[int]]
    reach: WindowReach | None
    """None where the windows are not known; `no_windows` says why."""
    no_windows: str = ""
    source: str = ""
    """Names of the files or of the data set."""
    split: str = "validation"
    audit: SplitReport | None = None
    is_part: bool = False
    """Whether these are only some of the questions that the run answered."""

    @classmethod
    def of(cls, rows: datasets.Dataset, windows: Windows | None, **facts: Any) -> "RunData":
        """`rows` must have answers."""
        answers = rows["answers"][:]
        return cls(
            ids=rows["id"][:],
            questions=rows["question"][:],
            contexts=shared_contexts(rows),
            titles=rows["title"][:] if "title" in rows.column_names else [None] * len(rows),
            gold_texts=[answer["text"] for answer in answers],
            gold_starts=[answer["answer_start"] for answer in answers],
            reach=None if windows is None else WindowReach(windows, range(len(rows))),
            **facts,
        )

    def golds(self) -> dict[str, Sequence[str]]:
        return dict(zip(self.ids, self.gold_texts))

    def contexts_by_id(self) -> dict[str, str]:
        return dict(zip(self.ids, self.contexts))


@dataclass(frozen=True)
class GivenData:
    """What the command line says of the data, in place of what the run's settings say."""

    validation_file: tuple[str, ...] | None = None
    columns: Mapping[str, str] | None = None
    """Setting of DataConfig -> name of a column."""


def load_data(run: RunFiles, given: GivenData) -> RunData:
    """The split that the run was evaluated on. Raises ValueError where it cannot be read or has no answers."""
    config, split = _data_config(run, given)
    try:
        rows = question_data.load_questions(config, split)
    except (ValueError, OSError) as error:
        if given.validation_file is None:
            raise ValueError(
                f"{run.path}: its data cannot be read: {error}; give the file with --validation_file"
            ) from error
        raise
    if "answers" not in rows.column_names:
        raise ValueError(
            f"{run.path}: its questions have no gold answers, so there is nothing to report; give --validation_file"
        )
    windows, no_windows = _windows(run, config, rows)
    return RunData.of(
        rows,
        windows,
        no_windows=no_windows,
        source=source_of(run.settings, given, split),
        split=split,
        audit=_audit(rows, windows, run),
    )


def _audit(rows: datasets.Dataset, windows: Windows | None, run: RunFiles) -> SplitReport:
    _, questions = audit_questions(rows, training=False)
    longest = run.settings.get("max_answer_length")
    return SplitReport(questions, None if windows is None else audit_windows(windows, rows, longest))


def _data_config(run: RunFiles, given: GivenData) -> tuple[DataConfig, SplitName]:
    known = _stored(DataConfig, run.settings)
    config = DataConfig(**known)
    if given.validation_file is not None:
        config = replace(config, dataset_name=None, dataset_config_name=None, validation_file=given.validation_file)
    config = replace(config, **(given.columns or {}))
    if given.validation_file is None and not run.settings:
        raise ValueError(f"{run.path}: predictions alone do not name their questions; give --validation_file")
    predicted_test = not run.trained and given.validation_file is None and question_data.has_split(config, "test")
    return config, "test" if predicted_test else "validation"


def source_of(settings: Mapping[str, Any], given: GivenData, split: str) -> str:
    """Names of the files or of the data set, without folders."""
    if given.validation_file is not None:
        return ", ".join(Path(name).name for name in given.validation_file)
    named = settings.get(f"{split}_file")
    if named:
        return ", ".join(Path(name).name for name in named)
    return " ".join(filter(None, (settings.get("dataset_name"), settings.get("dataset_config_name"), split)))


def _stored(config_class: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's own settings out of a run's; those that this version does not know are left out."""
    names = {field.name for field in fields(config_class)}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items() if key in names}


def _windows(run: RunFiles, config: DataConfig, rows: datasets.Dataset) -> tuple[Windows | None, str]:
    """As the run cut them, from the cache or made again; None with the reason where there is no tokenizer."""
    if not run.settings:
        return None, "predictions alone do not say how contexts were cut into windows"
    # imports torch, which nothing else of a report needs
    from qa_accel.data.window_cache import prepare_windows
    from qa_accel.models.loading import ModelConfig, load_tokenizer

    model = ModelConfig(**_stored(ModelConfig, run.settings))
    if run.trained and (run.path / "tokenizer.json").exists():
        model = replace(model, model_name_or_path=str(run.path), tokenizer_name=None)
    try:
        tokenizer = load_tokenizer(model)
    except (ValueError, OSError):  # the message would show where the model was: reports are passed on
        return None, "the run's tokenizer cannot be read here"
    window_config = WindowConfig(**_stored(WindowConfig, run.settings))
    cache, processes = question_data.cache_folder(config), config.preprocessing_num_workers
    return prepare_windows(rows, tokenizer, window_config, cache_dir=cache, num_proc=processes), ""
