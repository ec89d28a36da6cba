"""A table of passages: each text by its id, whatever the order, and an index that is made once."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qa_accel.data import passages
from qa_accel.data.passages import PassageTable, passage_table


def table(path: Path, first: int, last: int) -> Path:
    rows = [{"id": f"p{n}", "text": f"text {n}"} for n in range(first, last)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=500)
    return path


def test_every_passage_is_found_and_no_other(tmp_path):
    """More than one record batch and bucket. Breaks if the sort pairs a hash with another's row."""
    table(tmp_path / "a.parquet", 0, 2500)
    table(tmp_path / "b.parquet", 2500, 3000)
    path, files = passage_table([str(tmp_path / "*.parquet")], "passages_file", tmp_path / "cache")
    found = PassageTable(path)
    assert len(found) == 3000 and len(files) == 2
    ids = [f"p{n}" for n in np.random.default_rng(0).permutation(3000)]
    assert found(ids) == [f"text {key[1:]}" for key in ids]
    assert found(["p3000", "", "p1"]) == [None, None, "text 1"]


def test_ids_of_one_hash_are_told_apart_by_their_text(tmp_path, monkeypatch):
    monkeypatch.setattr(passages, "_hash", lambda key: np.uint64(len(key)))
    table(tmp_path / "a.parquet", 0, 30)
    path, _ = passage_table([str(tmp_path / "a.parquet")], "passages_file", tmp_path / "cache")
    assert PassageTable(path)(["p3", "p29", "p7", "p77"]) == ["text 3", "text 29", "text 7", None]


def test_the_index_is_made_once_and_again_for_a_changed_table(tmp_path):
    """Breaks if an old index answers for new texts."""
    source = table(tmp_path / "a.parquet", 0, 30)
    first, _ = passage_table([str(source)], "passages_file", tmp_path / "cache")
    made = first.stat().st_mtime_ns
    again, _ = passage_table([str(source)], "passages_file", tmp_path / "cache")
    assert again == first and again.stat().st_mtime_ns == made
    table(source, 100, 140)
    changed, _ = passage_table([str(source)], "passages_file", tmp_path / "cache")
    assert changed != first and PassageTable(changed)(["p120", "p1"]) == ["text 120", None]


def test_lines_and_numbers_and_the_column_context(tmp_path):
    rows = [{"id": 4, "context": "four"}, {"id": "5", "context": "five"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path, _ = passage_table([str(tmp_path / "a.jsonl")], "passages_file", tmp_path / "cache")
    assert PassageTable(path)(["5", "4"]) == ["five", "four"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "1", "text": "a"}, {"id": "2", "text": "b"}, {"id": "1", "text": "c"}], "id '1' comes twice"),
        ([{"id": "1", "text": None}], "row 1: 'text' is null"),
        ([{"id": "1", "body": "a"}], "no column 'text'"),
        ([{"key": "1", "text": "a"}], "no column 'id'"),
    ],
)
def test_what_is_no_passage_is_refused_and_nothing_is_kept(tmp_path, rows, message):
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        passage_table([str(tmp_path / "a.parquet")], "passages_file", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]
