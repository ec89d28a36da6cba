"""Questions + a fast tokenizer -> windows, computed once, kept in one Arrow file and read from there without a copy.

The file's name is a fingerprint of what windows depend on: the questions, the tokenizer, the window settings, this code.
Whoever asks again with the same ones (another learning rate, a resumed run, another process of this node) tokenizes
nothing. The file appears under its name only when it is whole.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value
from datasets import List as ListOf

from qa_accel.assemble import Gold, WindowConfig, Windows, begins, runs
from qa_accel.pairs import PairTokenizer, one_thread

__all__ = ["WindowConfig", "Windows", "prepare_windows", "windows_file"]

logger = logging.getLogger(__name__)

# Part of every cache file's name. Raise it whenever the same input gives other windows than before.
CODE_VERSION = 1

BATCH_ROWS = 1000
BATCH_CHARACTERS = 2_000_000  # of contexts; bounds the memory of one batch where contexts are long

TOKEN_COLUMNS = {"input_ids": "int32", "token_type_ids": "uint8", "offset_start": "int32", "offset_end": "int32"}
WINDOW_COLUMNS = ("question", "context_begin", "context_end", "null", "start", "end")  # int32


def prepare_windows(
    questions: Dataset, tokenizer, config: WindowConfig, *, cache_dir: str | os.PathLike, num_proc: int | None = None
) -> Windows:
    """Windows of all questions, in their order: read from cache_dir if they are there, else put there first.

    num_proc processes tokenize (None: this one). Several processes may call this at once, each with its own result of
    the same content; to tokenize once only, let one go first.
    """
    check_tokenizer(tokenizer, config)
    path = windows_file(questions, tokenizer, config, cache_dir=cache_dir)
    if path.exists():
        logger.info("windows of %d questions: read from %s, nothing to tokenize", len(questions), path)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside its final place, as a rename is all or nothing within one file system only.
        folder = Path(tempfile.mkdtemp(prefix=f"{path.stem}.partial-", dir=path.parent))
        try:
            began = time.perf_counter()
            with one_thread():
                mapped, row_of_place = _tokenized(questions, tokenizer, config, folder, num_proc)
            _write_in_question_order(mapped, row_of_place, folder / path.name)
            (folder / path.name).rename(path)
            logger.info("windows of %d questions: %.1f s, %s", len(questions), time.perf_counter() - began, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return _read(path)


def check_tokenizer(tokenizer, config: WindowConfig) -> None:
    """Raises ValueError where windows cannot be made, before any text is looked at."""
    name = type(tokenizer).__name__
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{name} is a slow tokenizer: it does not say which characters its tokens stand for, and answers are "
            "characters. Load the fast one (AutoTokenizer.from_pretrained(..., use_fast=True), or a checkpoint with "
            "a tokenizer.json)"
        )
    special = tokenizer.num_special_tokens_to_add(pair=True)
    room = config.max_seq_length - config.max_query_length - special
    # Short questions leave more room, but whether a run starts must not hang on the longest question in its data.
    if config.doc_stride >= room:
        raise ValueError(
            f"doc_stride={config.doc_stride} must be less than the context's room in a window with the longest "
            f"question: max_seq_length {config.max_seq_length} - max_query_length {config.max_query_length} - "
            f"{special} special tokens of {name} = {room}. Lower doc_stride or max_query_length, or raise max_seq_length"
        )
    if config.max_seq_length > tokenizer.model_max_length:
        logger.warning(
            "max_seq_length=%d, but the tokenizer's model takes %d tokens by its own account (model_max_length)",
            config.max_seq_length,
            tokenizer.model_max_length,
        )


def windows_file(questions: Dataset, tokenizer, config: WindowConfig, *, cache_dir: str | os.PathLike) -> Path:
    """Where the windows of these questions are, or will be."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last call left behind, or the collator wants: windows set their own.
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
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    return Path(cache_dir) / f"windows-{fingerprint}.arrow"


class _TokenizeBatch:
    """What datasets.map calls: a table of questions -> a table of their windows. Travels to the worker processes."""

    def __init__(self, pairs: PairTokenizer):
        self.pairs = pairs

    def __call__(self, table: pa.Table, places: list[int]) -> pa.Table:
        table = table.combine_chunks()  # rows that were picked one by one come as one chunk each, which is slow to read
        windows = self.pairs.windows(table["question"].to_pylist(), table["context"].to_pylist(), gold_answers(table))
        offsets = pa.array(windows.begin_W.astype(np.int32))
        columns: dict[str, pa.Array] = {}
        for name in TOKEN_COLUMNS:
            values_N = getattr(windows, f"{name}_N")
            if values_N is not None:
                columns[name] = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(values_N)))
        columns |= {name: pa.array(getattr(windows, f"{name}_W")) for name in WINDOW_COLUMNS}
        columns["question"] = pa.array(windows.question_W + np.int32(places[0]))
        columns["question_cut"] = pa.array(windows.question_cut_Q[windows.question_W].astype(np.uint8))
        return pa.table(columns)


def gold_answers(table: pa.Table) -> Gold:
    """Characters of the first gold answer of each row; none where there is no answer, or no column of answers."""
    begin_Q, end_Q = np.zeros((2, table.num_rows), np.int64)
    if "answers" in table.column_names:
        answers = table["answers"].combine_chunks()
        starts, texts = pc.struct_field(answers, "answer_start"), pc.struct_field(answers, "text")
        has_Q = (
            np.minimum(
                *(pc.fill_null(pc.list_value_length(x), 0).to_numpy(zero_copy_only=False) for x in (starts, texts))
            )
            > 0
        )
        begin_Q[has_Q] = pc.list_element(starts.filter(pa.array(has_Q)), 0).to_numpy(zero_copy_only=False)
        length_Q = pc.utf8_length(pc.list_element(texts.filter(pa.array(has_Q)), 0)).to_numpy(zero_copy_only=False)
        end_Q[has_Q] = begin_Q[has_Q] + length_Q
    return Gold(begin_Q, end_Q)


def _tokenized(
    questions: Dataset, tokenizer, config: WindowConfig, folder: Path, num_proc: int | None
) -> tuple[Dataset, np.ndarray]:
    """Windows as datasets.map leaves them, with "question" a place in the order they were made in; row of each place."""
    row_of_place, characters = _rows_by_context(questions)
    pairs = PairTokenizer(tokenizer, config)
    rows = np.unique(np.linspace(0, len(questions) - 1, 24).astype(int)) if len(questions) else []
    sample = questions.select(rows)
    # Beginnings are enough to see how the tokenizer treats them, however long the texts are.
    reason = pairs.compose_if_equal([q[:500] for q in sample["question"]], [c[:3000] for c in sample["context"]])
    if reason is not None:
        name = type(tokenizer).__name__
        logger.warning("%s: every question is tokenized together with its context, which is slower: %s", name, reason)
    columns = [name for name in ("question", "context", "answers") if name in questions.column_names]
    grouped = questions.select_columns(columns)
    if not np.array_equal(row_of_place, np.arange(len(questions))):
        grouped = grouped.select(row_of_place)
    mapped = grouped.with_format("arrow").map(
        _TokenizeBatch(pairs),
        with_indices=True,
        batched=True,
        batch_size=int(np.clip(BATCH_CHARACTERS * len(questions) // max(1, characters), 1, BATCH_ROWS)),
        remove_columns=columns,
        features=_features(pairs.gives_types),
        num_proc=num_proc if num_proc and num_proc > 1 else None,
        load_from_cache_file=False,
        cache_file_name=str(folder / "made.arrow"),
        new_fingerprint="made",  # nobody sees it; without it datasets would hash the tokenizer
        desc="Tokenizing",
    )
    return mapped, row_of_place


def _rows_by_context(questions: Dataset) -> tuple[np.ndarray, int]:
    """All rows, those of one context together, contexts in order of their first row; and the contexts' characters."""
    hashes, characters = [], 0
    for table in questions.select_columns("context").with_format("arrow").iter(batch_size=10_000):
        encoded = table["context"].combine_chunks().dictionary_encode()
        # Two texts with one hash would only stand together for nothing.
        hash_of = np.array([hash(text) for text in encoded.dictionary.to_pylist()], np.int64)
        hashes.append(hash_of[encoded.indices.to_numpy()])
        characters += table["context"].nbytes
    if not hashes:
        return np.zeros(0, np.int64), 0
    _, first, group = np.unique(np.concatenate(hashes), return_index=True, return_inverse=True)
    return np.argsort(first[group], kind="stable"), characters


def _features(gives_types: bool) -> Features:
    tokens = {
        name: ListOf(Value(kind)) for name, kind in TOKEN_COLUMNS.items() if gives_types or name != "token_type_ids"
    }
    return Features(tokens | {name: Value("int32") for name in WINDOW_COLUMNS} | {"question_cut": Value("uint8")})


def _write_in_question_order(mapped: Dataset, row_of_place: np.ndarray, path: Path) -> None:
    """One record batch of all windows. The file is laid out with zeros and then filled through a memory map, part after
    part, so that memory does not grow with the data. Laid out by writing, as a full disk is an error only there."""
    made = mapped.data.table if len(row_of_place) else _features(True).arrow_schema.empty_table()
    question_W = row_of_place[made["question"].to_numpy()]
    window_W = np.argsort(question_W, kind="stable")  # where the windows come from; a question's stay in their order
    length_W = pc.list_value_length(made["input_ids"]).to_numpy()
    begin_W = begins(length_W[window_W])
    columns = {}
    for name in made.column_names:
        if name in TOKEN_COLUMNS:
            values = pa.array(np.zeros(begin_W[-1], TOKEN_COLUMNS[name]))
            columns[name] = pa.LargeListArray.from_arrays(pa.array(begin_W), values)
        elif name == "question":
            columns[name] = pa.array(question_W[window_W].astype(np.int32))
        else:
            columns[name] = pa.array(made[name].to_numpy()[window_W])
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    del columns, batch
    place_W = np.empty_like(window_W)
    place_W[window_W] = np.arange(len(window_W))

    file_bytes = np.memmap(path, np.uint8, "r+")
    whole = pa.ipc.open_file(pa.py_buffer(file_bytes)).get_batch(0)
    target = {name: _writable(file_bytes, whole[name].values) for name in TOKEN_COLUMNS if name in whole.schema.names}
    done = 0
    for part in made.to_batches():
        place = place_W[done : done + len(part)]
        done += len(part)
        if (np.diff(place) == 1).all():  # as most often: they go where they belong in one piece
            token_N = slice(begin_W[place[0]], begin_W[place[-1] + 1])
        else:
            token_N = runs(begin_W[place], begin_W[place + 1] - begin_W[place])
        for name, all_values in target.items():
            all_values[token_N] = part[name].flatten().to_numpy()
    file_bytes.flush()


def _writable(file_bytes: np.memmap, values: pa.Array) -> np.ndarray:
    """The bytes of the file that hold these values, which arrow itself does not let one write."""
    values_N = values.to_numpy()
    begin = values_N.ctypes.data - file_bytes.ctypes.data
    return file_bytes[begin : begin + values_N.nbytes].view(values_N.dtype)


def _read(path: Path) -> Windows:
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    tokens = {
        f"{name}_N": batch[name].values.to_numpy() if name in batch.schema.names else None for name in TOKEN_COLUMNS
    }
    per_window = {f"{name}_W": batch[name].to_numpy() for name in WINDOW_COLUMNS}
    question_W = per_window["question_W"]
    cut_Q = np.zeros(1 + question_W[-1] if len(question_W) else 0, bool)  # every question has a window
    cut_Q[question_W] = batch["question_cut"].to_numpy()
    begin_W = batch["input_ids"].offsets.to_numpy()
    return Windows(**tokens, **per_window, begin_W=begin_W, question_cut_Q=cut_Q)
