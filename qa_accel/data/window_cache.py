"""Questions + a fast tokenizer -> windows, computed once, kept in one Arrow file and read from there without a copy.

The file's name is a fingerprint of what windows depend on: the questions, tokenizer, window settings and this code.
A second call with the same ones (another learning rate, a resumed run, another process of this node) tokenizes
nothing. The file appears under its name only when it is complete.
"""

import hashlib
import json
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from qa_accel import files
from qa_accel.data import cache_file
from qa_accel.data.contexts import Contexts
from qa_accel.data.pair_tokenizer import PairTokenizer, one_thread
from qa_accel.data.settings import LabelledAnswers, WindowConfig
from qa_accel.data.window_store import features, lengths, read, table_of, write_in_question_order
from qa_accel.data.windows import GoldSpans, Windows

logger = logging.getLogger(__name__)

# Part of every cache file's name. Increase it when the same input gives other windows than before.
CODE_VERSION = 3

BATCH_ROWS = 1000
BATCH_CHARACTERS = 2_000_000  # of contexts; limits the memory of one batch if contexts are long
SHORT_CONTEXT = 8_000  # characters; longer contexts are tokenized after these, in batches of fewer rows


def prepare_windows(
    questions: Dataset,
    tokenizer,
    config: WindowConfig,
    *,
    cache_dir: str | os.PathLike,
    num_proc: int | None = None,
    check_cache: bool = True,
    labelled: LabelledAnswers = "any",
    path: Path | None = None,
) -> Windows:
    """Windows of all questions, in their order: read from cache_dir if they are there, else written there first.

    Call `check_tokenizer` before, once for all splits.

    num_proc processes tokenize (None: this one). Several processes may call this at once, each computing the same
    content; to tokenize only once, let one process go first. check_cache: read a file that is there once to see
    whether it is damaged, in which case it is computed again. labelled: which gold answers are labels. path: what
    `windows_file` gives, if it is known: a tokenizer of 250,000 words takes half a second to name.
    """
    if path is None:
        path = windows_file(questions, tokenizer, config, cache_dir=cache_dir, labelled=labelled)
    if cache_file.is_usable(path, check=check_cache):
        logger.info("windows of %d questions: read from %s, nothing to tokenize", len(questions), path)
        return read(path)
    began = time.perf_counter()
    with (
        files.replacing(path, files.CACHE_REMEDY) as partial,
        # For what datasets.map writes. Named so that files.ABANDONED matches it.
        TemporaryDirectory(prefix=f"{partial.name}-", dir=path.parent, ignore_cleanup_errors=True) as folder,
    ):
        with one_thread():
            made, row_of_place = _tokenized(questions, tokenizer, config, Path(folder), num_proc, labelled)
        write_in_question_order(made, row_of_place, partial)
        cache_file.seal(partial, path.name)
    windows, seconds = read(path), time.perf_counter() - began
    logger.info("windows of %d questions: %d made in %.1f s, %s", len(questions), len(windows), seconds, path)
    return windows


def windows_file(
    questions: Dataset,
    tokenizer,
    config: WindowConfig,
    *,
    cache_dir: str | os.PathLike,
    labelled: LabelledAnswers = "any",
) -> Path:
    """Path of these questions' windows, whether the file exists or not."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    # Left by the last call or wanted by the collator: windows set their own.
    core["truncation"] = core["padding"] = None
    content = {
        "code": CODE_VERSION,
        "questions": questions._fingerprint,
        "tokenizer": core,
        "class": type(tokenizer).__name__,
        "token types": "token_type_ids" in tokenizer.model_input_names,
        "special tokens as text": bool(getattr(tokenizer, "split_special_tokens", False)),
        "null tokens": [tokenizer.cls_token_id, tokenizer.bos_token_id],
        "max_seq_length": config.max_seq_length,
        "doc_stride": config.doc_stride,
        "max_query_length": config.max_query_length,
    }
    if labelled != "any":
        content["labelled answers"] = labelled
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return Path(cache_dir) / f"windows-{fingerprint}.arrow"


class _TokenizeBatch:
    """The function for datasets.map: a table of questions -> a table of their windows. Sent to the worker processes."""

    def __init__(self, pairs: PairTokenizer, first_place: int, labelled: LabelledAnswers):
        self.pairs, self.first_place = pairs, first_place
        self.labelled: LabelledAnswers = labelled

    def __call__(self, table: pa.Table, places: list[int]) -> pa.Table:
        table = table.combine_chunks()  # rows selected one by one are one chunk each, which is slow to read
        gold = gold_answers(table, self.labelled)
        windows = self.pairs.windows(table["question"].to_pylist(), table["context"].to_pylist(), gold)
        return table_of(windows, self.first_place + places[0])


def gold_answers(table: pa.Table, labelled: LabelledAnswers = "any") -> GoldSpans:
    """Characters of the gold answers of all rows; none if there is no answers column."""
    if "answers" not in table.column_names or not table.num_rows:
        return replace(GoldSpans.none(), labelled=labelled)
    answers = table["answers"].combine_chunks()
    starts, texts = answers.field("answer_start"), answers.field("text")
    count_Q = starts.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    begin_A = starts.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    length_A = np.fromiter(map(len, texts.flatten().to_pylist()), np.int64)
    return GoldSpans(np.repeat(np.arange(len(count_Q)), count_Q), begin_A, begin_A + length_A, labelled)


def _tokenized(
    questions: Dataset,
    tokenizer,
    config: WindowConfig,
    folder: Path,
    num_proc: int | None,
    labelled: LabelledAnswers,
) -> tuple[Dataset, np.ndarray]:
    """Windows as datasets.map returns them, with "question" as the place in tokenizing order; the row of each place."""
    questions = questions.with_format(None)
    row_of_place, characters_Q = _rows_by_context(questions)
    class_of_place = _classes(characters_Q[row_of_place])
    row_of_place = row_of_place[np.argsort(class_of_place, kind="stable")]
    pairs = PairTokenizer(tokenizer, config)
    rows = np.unique(np.linspace(0, len(questions) - 1, 24).astype(int)) if len(questions) else []
    sample = questions.select(rows)
    # The beginning of a long text is enough to see how the tokenizer treats it.
    reason = pairs.compose_if_equal([q[:500] for q in sample["question"]], [c[:3000] for c in sample["context"]])
    if reason is not None:
        name = type(tokenizer).__name__
        logger.warning("%s: every question is tokenized together with its context, which is slower: %s", name, reason)
    columns = [name for name in ("question", "context", "answers") if name in questions.column_names]
    grouped = questions.select_columns(columns)
    if not np.array_equal(row_of_place, np.arange(len(questions))):
        grouped = grouped.select(row_of_place)
    columns_made = features(pairs.gives_types, labelled)
    if not len(questions):
        return Dataset(columns_made.arrow_schema.empty_table()), row_of_place
    parts, first = [], 0
    for count in np.unique(class_of_place, return_counts=True)[1].tolist():
        part = grouped if count == len(grouped) else grouped.select(range(first, first + count))
        characters = int(characters_Q[row_of_place[first : first + count]].sum())
        parts.append(
            part.with_format("arrow").map(
                _TokenizeBatch(pairs, first, labelled),
                with_indices=True,
                batched=True,
                batch_size=int(np.clip(BATCH_CHARACTERS * count // max(1, characters), 1, BATCH_ROWS)),
                remove_columns=columns,
                features=columns_made,
                num_proc=min(num_proc, count) if num_proc and num_proc > 1 else None,
                load_from_cache_file=False,
                cache_file_name=str(folder / f"made-{first}.arrow"),
                new_fingerprint=f"made {first}",  # not used; without it datasets would hash the tokenizer
                desc="Tokenizing",
            )
        )
        first += count
    made = concatenate_datasets(parts)
    nothing = np.flatnonzero(lengths(made) == 0)
    if len(nothing):
        row = int(row_of_place[made.data["question"].to_numpy()[nothing[0]]])
        raise ValueError(
            f"row {row} (id {questions[row].get('id')!r}): question and context are empty and {type(tokenizer).__name__} "
            "adds no special token, so there is nothing to give to a model. Drop the row, or give it a question"
        )
    return made, row_of_place


def _classes(characters_Q: np.ndarray) -> np.ndarray:
    """0 for contexts up to SHORT_CONTEXT characters, 1 up to 8 times as many, and so on: a batch has so many rows that the
    average one of its class does not take too much memory, and no context is much longer than that."""
    above = np.maximum(characters_Q, SHORT_CONTEXT) / SHORT_CONTEXT
    return np.ceil(np.log2(above) / 3).astype(np.int64)


def _rows_by_context(questions: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """All rows grouped by context, contexts in order of their first row; and the characters of each row's context.

    If nearly all are grouped already, as in SQuAD's own files, the order is kept: selecting rows one by one costs more.
    """
    hashes, characters = [], []
    tables: Any = questions.select_columns("context").with_format("arrow").iter(batch_size=10_000)  # pa.Table each
    for table in tables:
        contexts = Contexts(table["context"])
        # Two texts with the same hash would only be grouped needlessly.
        of_text = [(hash(text), len(text)) for text in map(contexts.text, range(len(contexts)))]
        hash_Q, length_Q = np.array(of_text, np.int64).reshape(-1, 2)[contexts.text_Q].T
        hashes.append(hash_Q)
        characters.append(length_Q)
    if not hashes:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    characters_Q = np.concatenate(characters)
    _, first, group = np.unique(np.concatenate(hashes), return_index=True, return_inverse=True)
    if np.count_nonzero(np.diff(group)) < 1.05 * len(first):
        return np.arange(len(group)), characters_Q
    return np.argsort(first[group], kind="stable"), characters_Q
