"""The settings of data and windows, and the choices that they name. Light imports only, as in every settings module: a command's
--help and its refusals import them and nothing else of a stage."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from qa_accel import language_by_set
from qa_accel.ranges import COUNT, NATURAL, check_ranges

LabelledAnswers = Literal["first", "any", "all"]
"""Which gold answers of a question are labels (`DataConfig.answers`)."""
SplitName = Literal["train", "validation", "test"]
LogitsDtype = Literal["float16", "float32"]


class Columns(NamedTuple):
    """Names of a source's columns."""

    id: str = "id"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"


@dataclass(frozen=True)
class DataConfig:
    dataset_name: str | None = None
    """A data set of the hub, a folder that `save_to_disk` wrote, or a folder of files named by their split (train.csv). Its
    splits are train, validation and test. Files win: if any *_file is given, a recipe's dataset_name is ignored."""
    dataset_config_name: str | None = None
    """Configuration of the hub's data set."""
    train_file: tuple[str, ...] | None = None
    """Training questions: paths or globs of JSON (nested SQuAD or rows), JSONL, CSV, TSV or Parquet, .gz allowed. Several sets
    have names and, if they are to be seen more or less often, weights: squad=A.json mine=B.jsonl:3.0"""
    validation_file: tuple[str, ...] | None = None
    """Questions with answers for evaluation: paths or globs, as for train_file. Sets with names (en=A.json de=B.json) have
    scores of their own, and ids with the name before them: en/ID."""
    test_file: tuple[str, ...] | None = None
    """Questions to answer, with or without gold answers: paths or globs, with or without names, as for validation_file."""
    id_column: str = "id"
    """Column of the question's id; numbers become text."""
    question_column: str = "question"
    """Column of the question's text."""
    context_column: str = "context"
    """Column of the text that holds the answer."""
    answers_column: str = "answers"
    """Column of {"text": [...], "answer_start": [...]} or a list of such pairs, or either as JSON text. A file without it
    may have the columns answer_text (or answer) and answer_start instead, both empty if there is no answer."""
    answer_language: tuple[str, ...] = language_by_set.DEFAULT
    """Language of the answers, an ISO 639-1 code, whose rules compare predicted with gold answers: `en` gives the official SQuAD
    scores, `zh` and others have words, articles and punctuation of their own, `char` compares characters."""
    version_2_with_negative: bool | None = None
    """Whether questions may have no answer; None detects it from the data. False with such questions is an error."""
    answers: LabelledAnswers = "any"
    """Which gold answers of a question are labels in training. any: in each window the first one that it holds whole,
    as for SQuAD's annotators, of whom each gave one answer to the same question. first: only the question's first
    answer. all: each one that the window holds whole, as for contracts and lists, where each answer is a part of the
    whole answer. A window with another gold answer is never taught "no answer"."""
    max_train_samples: int | None = None
    """Maximum number of training questions (not windows) of each set; None takes all."""
    max_eval_samples: int | None = None
    """Maximum number of validation questions (not windows) of each set; None takes all."""
    max_predict_samples: int | None = None
    """Maximum number of test questions (not windows) of each set; None takes all."""
    train_shuffle_seed: int | None = None
    """Shuffles the training questions before the shard and the limit; None keeps the file's order."""
    train_num_shards: int = 1
    """Number of equal parts of the (shuffled) training questions, one of which is used."""
    train_shard: int = 0
    """Index of the part used for training, from 0."""
    validation_shuffle_seed: int | None = None
    """Shuffles the validation questions before the shard and the limit; None keeps the file's order."""
    validation_num_shards: int = 1
    """Number of equal parts of the (shuffled) validation questions, one of which is used."""
    validation_shard: int = 0
    """Index of the part used for validation, from 0."""
    preprocessing_num_workers: int | None = None
    """Processes that tokenize; None tokenizes in this process."""
    cache_dir: str | None = None
    """Folder for prepared questions and windows. None takes the folder qa_accel in `datasets`' own cache."""

    def __post_init__(self):
        for name in ("train_file", "validation_file", "test_file"):
            files = getattr(self, name)
            if isinstance(files, str) or files == ():
                raise ValueError(f"{name} must be a tuple of paths or None, got {files!r}")
        if self.dataset_config_name is not None and self.dataset_name is None:
            raise ValueError(f"dataset_config_name {self.dataset_config_name!r} needs a dataset_name")
        columns = self.columns
        if "" in columns or len(set(columns)) < len(columns):
            raise ValueError(f"id, question, context and answers need four different column names, got {list(columns)}")
        language_by_set.check_languages(self.answer_language)
        check_ranges(self, max_train_samples=COUNT, max_eval_samples=COUNT, max_predict_samples=COUNT)
        check_ranges(self, preprocessing_num_workers="[1, 1024]")
        for split in ("train", "validation"):
            check_ranges(self, **{f"{split}_shuffle_seed": NATURAL, f"{split}_num_shards": COUNT})
            check_ranges(self, **{f"{split}_shard": NATURAL})
            parts, part = getattr(self, f"{split}_num_shards"), getattr(self, f"{split}_shard")
            if part >= parts:
                raise ValueError(f"{split}_shard must be in [0, {split}_num_shards), got {part} of {parts}")

    @property
    def columns(self) -> Columns:
        return Columns(self.id_column, self.question_column, self.context_column, self.answers_column)


@dataclass(frozen=True)
class WindowConfig:
    max_seq_length: int = 384
    """Maximum number of tokens per window, including question and special tokens."""
    doc_stride: int = 128
    """Tokens that two neighbouring windows of one context share."""
    max_query_length: int = 64
    """Tokens kept of a question; the rest is cut, and counted."""

    @classmethod
    def of_length(cls, max_seq_length: int, special_tokens: int) -> "WindowConfig":
        """The defaults for windows of at most this length. Short windows keep room for a context and its overlap."""
        max_query_length = min(cls.max_query_length, max(1, (max_seq_length - special_tokens) // 2))
        room = max_seq_length - max_query_length - special_tokens
        doc_stride = max(0, min(cls.doc_stride, max_seq_length // 2, room // 2))
        return cls(max_seq_length, doc_stride, max_query_length)

    @classmethod
    def of_model(cls, tokenizer, positions: int | None) -> "WindowConfig":
        """The defaults, shorter where the model has fewer positions (None: any number) or the tokenizer's
        `model_max_length` is less."""
        longest = min(cls.max_seq_length, positions or cls.max_seq_length, int(tokenizer.model_max_length))
        return cls.of_length(longest, tokenizer.num_special_tokens_to_add(pair=True))

    def __post_init__(self):
        check_ranges(self, max_seq_length=COUNT, doc_stride=NATURAL, max_query_length=COUNT)
        if self.max_seq_length <= self.max_query_length:
            raise ValueError(
                f"max_seq_length must be more than max_query_length ({self.max_query_length}), got {self.max_seq_length}"
            )
