"""A corpus of the toy's questions, and what plain prediction says to them, as rows of a corpus's pieces."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from toy import NAMES, WINDOWS, Toy, context_about, flags, questions_about

PIECE = 0.002
"""MB: a dozen questions of the toy."""


def toy_rows(copies: int = 1, names: list[str] = NAMES) -> list[dict[str, str]]:
    """Questions without gold answers; ids differ between copies."""
    return [
        {"id": question["id"], "question": question["question"], "context": context_about(name)}
        for copy in range(copies)
        for name in names
        for question in questions_about(name, f"{copy}-{name.lower()}")
    ]


def write_corpus(folder: Path, rows: list[dict[str, Any]]) -> str:
    """Two Parquet files and one of JSON lines; the glob that names them."""
    folder.mkdir(parents=True)
    third = len(rows) // 3
    pq.write_table(pa.Table.from_pylist(rows[:third]), folder / "a.parquet", row_group_size=7)
    pq.write_table(pa.Table.from_pylist(rows[third : 2 * third]), folder / "b.parquet")
    write_lines(folder / "c.jsonl", rows[2 * third :])
    return str(folder / "*")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def corpus_flags(toy: Toy, corpus: str | Path, folder: Path, **settings: Any) -> list[str]:
    usual = dict(model_name_or_path=toy.model, test_file=corpus, output_dir=folder, piece_megabytes=PIECE)
    return ["--shard_output", *flags(**usual | dict(n_best_size=4) | WINDOWS | settings)]


def pieces_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """All rows, in the order of files and places: names sort so."""
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def rows_of_plain(folder: Path, min_confidence: float | None = None) -> dict[str, dict[str, Any]]:
    """By id what the files of plain prediction say, put together here: the entry of the n-best list whose text is the
    prediction that the null odds, and not the confidence, decide."""
    names = ("predictions", "nbest_predictions", "null_odds")
    predictions, nbest, null_odds = (json.loads((folder / f"{name}.json").read_text()) for name in names)
    path = folder / "confidences.json"
    confidences = json.loads(path.read_text()) if path.exists() else {}
    found = {}
    for key, answer in predictions.items():
        row = {"answer": answer, "start": 0, "end": 0, "null_odds": null_odds[key], "nbest": nbest[key]}
        row["confidence"] = confidences.get(key)
        withheld = min_confidence is not None and confidences[key] < min_confidence
        if not withheld:
            entry = next(entry for entry in nbest[key] if entry["text"] == answer)
            row |= {name: entry[name] for name in ("start", "end", "score")}
        found[key] = row
    return found
