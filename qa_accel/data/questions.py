"""Settings -> the questions of a split: a memory-mapped `datasets.Dataset` in SQuAD form, checked, selected, fingerprinted.

A source is read once: its canonical questions are stored as Arrow under a name that is a hash of the source's bytes, the
column mapping and the reader's version, and every later start maps that file. The same hash is the questions'
`_fingerprint`, so everything computed from them (windows) is found again wherever the files are.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets.config
import numpy as np
import pyarrow as pa

from qa_accel import files
from qa_accel.data import cache_file, gold_answers, named_sets, set_languages, sources, squad_format
from qa_accel.data.named_sets import NamedSources
from qa_accel.data.settings import DataConfig, SplitName
from qa_accel.messages import PATH, quoted, short

logger = logging.getLogger(__name__)


Source = sources.Source | NamedSources


def load_questions(config: DataConfig, split: SplitName, *, check_cache: bool = True) -> datasets.Dataset:
    """The questions of a split: read or taken from the cache, then shuffled, sharded and cut to the limit, in this order.

    Columns: id, title (if the source has it), question, context, answers (if the source has them; train and validation
    must), contradiction (if `is_impossible` contradicts some answers), and set (if the files have names of sets, each of
    which is shuffled, sharded and cut by itself). Raises ValueError that names what is wrong with the source. check_cache: see
    whether the cached file is damaged (of a large one, in samples: `cache_file`), in which case the source is
    read again.
    """
    started = time.monotonic()
    source = _source(config, split)
    questions = _cached(source, config.columns, cache_folder(config), check=check_cache)
    if split != "test" and "answers" not in questions.column_names:
        error = _without_answers(next(source.rows()).values, config.answers_column)
        raise ValueError(f"{source.name}: {error} ({split} needs answers; questions without them go to test_file)")
    _warn_of_contradictions(questions, source.name)
    # Checked on the whole source: a limit could hide such a question until the full run.
    if config.version_2_with_negative is False and has_unanswerable(questions):
        first = int(np.argmin(answer_counts(questions)))
        raise ValueError(
            f"{source.name}: id {quoted(questions[first]['id'])} has no answer, but version_2_with_negative is false, which says "
            "that every question has one; leave the setting out (it follows from the data) or remove such questions"
        )
    everything = len(questions)
    questions = select_rows(questions, _selected_rows(config, split, questions, source.name))
    if split != "train":  # of training questions nothing is scored
        set_languages.warn_of_scripts(config.answer_language, questions, source.name)
    seconds = time.monotonic() - started
    logger.info("%s: %d of %d questions of %s, %.2f s", split, len(questions), everything, source.name, seconds)
    return questions


def has_split(config: DataConfig, split: SplitName) -> bool:
    """Whether the settings name questions for a split: its file, or a data set that has it."""
    if config.dataset_name is None or _has_files(config):
        return getattr(config, f"{split}_file") is not None
    return split in sources.dataset_splits(config.dataset_name, config.dataset_config_name, config.cache_dir)


def has_unanswerable(questions: datasets.Dataset) -> bool:
    """Whether some question has no answer; False if the questions have no answers column."""
    return "answers" in questions.column_names and bool((answer_counts(questions) == 0).any())


def answer_counts(questions: datasets.Dataset) -> np.ndarray:
    """Number of gold answers of each question; 0 for "no answer". The questions must have an answers column."""
    pieces = questions.select_columns(["answers"]).with_format("arrow").iter(10_000)
    texts = (table["answers"].combine_chunks().field("text") for table in pieces)  # type: ignore[union-attr]
    return np.concatenate([text.value_lengths().to_numpy() for text in texts])


def cache_folder(config: DataConfig) -> Path:
    """Folder of the prepared questions and windows."""
    if config.cache_dir is not None:
        folder = Path(os.path.expanduser(config.cache_dir))
        try:
            folder.exists()
        except OSError as error:  # no name that a folder can have
            raise ValueError(f"--cache_dir {short(config.cache_dir, PATH)}: {error.strerror}") from error
        return folder
    return Path(datasets.config.HF_DATASETS_CACHE) / "qa_accel"


def select_rows(questions: datasets.Dataset, rows_Q: np.ndarray) -> datasets.Dataset:
    """These rows, in this order, with a fingerprint computed from the questions' fingerprint and the rows."""
    if np.array_equal(rows_Q, np.arange(len(questions))):
        return questions
    digest = hashlib.blake2b(questions._fingerprint.encode(), digest_size=16)
    digest.update(rows_Q.astype("<i8").tobytes())
    # In memory, since the indices of a cached dataset would become a file next to it, one for each selection.
    return questions.select(rows_Q, keep_in_memory=True, new_fingerprint=digest.hexdigest())


def contradicting_ids(questions: datasets.Dataset, contradiction: str) -> list[str]:
    """Ids of the questions whose `is_impossible` and answers contradict each other in this way."""
    if "contradiction" not in questions.column_names:
        return []
    return [id for id, found in zip(questions["id"][:], questions["contradiction"][:]) if found == contradiction]


def _warn_of_contradictions(questions: datasets.Dataset, source: str) -> None:
    for contradiction in (gold_answers.IMPOSSIBLE_WITH_ANSWER, gold_answers.POSSIBLE_WITHOUT_ANSWER):
        if ids := contradicting_ids(questions, contradiction):
            logger.warning(
                "%s: %s in %d of %d questions, the first id %s; they count as questions without answer",
                *(source, contradiction, len(ids), len(questions), quoted(ids[0])),
            )


def _without_answers(found: Mapping[str, Any], name: str) -> ValueError:
    if name in found:
        return ValueError(f"the column {name!r} is there, but it is null or empty in every row; fill it in")
    error = gold_answers.without_offsets(found, name)
    return error or squad_format.missing_column(found, name, "answers_column")


def _selected_rows(config: DataConfig, split: SplitName, questions: datasets.Dataset, source: str) -> np.ndarray:
    sets = named_sets.SetRows.of(questions)
    if sets is None:
        return _selection(config, split, len(questions), source)
    rows = [np.flatnonzero(sets.set_Q == number) for number in range(len(sets.names))]
    of_sets = zip(sets.names, rows, strict=True)
    return np.concatenate(
        [rows_S[_selection(config, split, len(rows_S), f"the set {name}")] for name, rows_S in of_sets]
    )


def _selection(config: DataConfig, split: SplitName, count: int, source: str) -> np.ndarray:
    """Selected rows of a source of `count` questions, as row numbers, so that one fingerprint covers all steps."""
    if split == "test":
        return np.arange(count)[: config.max_predict_samples]
    limit = config.max_train_samples if split == "train" else config.max_eval_samples
    seed, parts, part = (getattr(config, f"{split}_{what}") for what in ("shuffle_seed", "num_shards", "shard"))
    if parts > count:
        raise ValueError(
            f"{source}: {split}_num_shards is {parts}, but there are only {count} questions; use fewer shards"
        )
    if seed is None and parts == 1:
        return np.arange(count)[:limit]
    rows = datasets.Dataset.from_dict({"row": np.arange(count)})
    if seed is not None:
        rows = rows.shuffle(seed=seed)
    if parts > 1:
        rows = rows.shard(num_shards=parts, index=part)
    table: Any = rows.with_format("arrow")[:limit]  # as numpy, datasets looks at each number
    return table["row"].to_numpy().astype(np.int64)


def _source(config: DataConfig, split: SplitName) -> Source:
    patterns = getattr(config, f"{split}_file")
    if patterns is not None:
        if config.dataset_name is not None:
            logger.warning("dataset_name %s is ignored, since %s_file is given", config.dataset_name, split)
        sets = named_sets.named_sources(patterns, f"{split}_file")
        return sources.file_source(patterns, f"{split}_file") if sets is None else sets
    if config.dataset_name is not None and not _has_files(config):
        return sources.dataset_source(
            config.dataset_name, config.dataset_config_name, split, config.cache_dir, config.id_column
        )
    raise ValueError(
        f"no {split} questions: give --{split}_file (paths or globs) or --dataset_name (a hub name or a saved folder; "
        "it is read only if no file is given)"
    )


def _has_files(config: DataConfig) -> bool:
    # One data set's training questions with another's validation file would more often be a mix-up than intended.
    return any(files is not None for files in (config.train_file, config.validation_file, config.test_file))


def _cached(source: Source, columns: squad_format.Columns, folder: Path, *, check: bool) -> datasets.Dataset:
    """All of a source's questions, mapped from the cache, which is filled first if it lacks them."""
    fingerprint = hashlib.blake2b(
        repr((squad_format.VERSION, *columns, *source.hashes(folder), *source.readings)).encode(), digest_size=16
    ).hexdigest()
    path = folder / f"questions-{fingerprint}.arrow"
    if not cache_file.is_usable(path, check=check):
        if isinstance(source, NamedSources):
            schema, batches = named_sets.SCHEMA, source.question_batches(columns)
        else:
            schema, batches = squad_format.SCHEMA, squad_format.question_batches(source.rows(), columns)
        _fill(path, batches, schema, source.name)
    try:
        questions = datasets.Dataset.from_file(str(path))
    except (OSError, pa.ArrowException) as error:
        raise ValueError(
            f"{path}: this cached file is damaged ({error}); delete it, and it will be computed again"
        ) from error
    # Only after the last row is it known which of these a source has, so the file has both.
    unused = [name for name in squad_format.OPTIONAL if questions.data.column(name).null_count == len(questions)]
    questions = questions.remove_columns(unused)
    questions._fingerprint = fingerprint
    return questions


def _fill(path: Path, batches: Iterator[pa.RecordBatch], schema: pa.Schema, source: str) -> None:
    """The file exists only when it is complete; several processes may write it at once, each with the same content."""
    count = 0
    with files.replacing(path, files.CACHE_REMEDY) as partial:
        with partial.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                count += len(batch)
        if not count:
            raise ValueError(f"{source}: holds no question; at least one is expected")
        cache_file.seal(partial, path.name)
