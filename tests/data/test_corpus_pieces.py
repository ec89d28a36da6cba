"""Files of a corpus in pieces: every row in exactly one of them, memory that is bounded, and files that cannot be cut refused."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qa_accel.data import corpus_rows
from qa_accel.data.corpus_pieces import Piece, corpus_files, pieces
from qa_accel.data.settings import Columns

COLUMNS = {"id": "id_column", "question": "question_column", "context": "context_column"}


def question(number: int) -> dict:
    """Lengths differ, and some characters have several bytes."""
    return {"id": f"q{number}", "question": "Wo? " + "ß" * (number % 5), "context": "Bärn. " * (1 + number % 7)}


def parquet(path: Path, rows: list[dict], row_group: int = 1000) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group)
    return path


def lines(path: Path, rows: list[dict], end: str = "\n") -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + end for row in rows), encoding="utf-8", newline="")
    return path


def pieces_of(*paths: Path, size: int) -> list[Piece]:
    return pieces(corpus_files([str(path) for path in paths], "test_file"), COLUMNS, size)


def ids(found: list[Piece]) -> list[str]:
    return [key for piece in found for chunk in corpus_rows.chunks(piece, Columns()) for key in chunk.ids]


@pytest.mark.parametrize("size", [1, 37, 100, 5_000, 10**9])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \n"])
def test_each_line_is_in_exactly_one_piece(tmp_path, size, end):
    """Breaks if a line that a bound cuts is read twice or by nobody, also where the bound is a line's first byte."""
    rows = [question(number) for number in range(40)]
    found = pieces_of(lines(tmp_path / "a.jsonl", rows, end), size=size)
    assert ids(found) == [row["id"] for row in rows]
    size_of_file = (tmp_path / "a.jsonl").stat().st_size
    assert len(found) == -(-size_of_file // size)


@pytest.mark.parametrize("row_group", [1, 7, 40])
@pytest.mark.parametrize("size", [1, 700, 10**9])
def test_each_row_of_parquet_is_in_exactly_one_piece(tmp_path, row_group, size):
    """Breaks if a large row group's parts overlap, or a small one is lost between two pieces."""
    rows = [question(number) for number in range(40)]
    found = pieces_of(parquet(tmp_path / "a.parquet", rows, row_group), size=size)
    assert ids(found) == [row["id"] for row in rows]
    assert (len(found) == {1: 40, 10**9: 1}[size]) if size != 700 else 1 < len(found) < 40


def test_row_groups_without_rows_are_passed_over(tmp_path):
    """Between others, first and last, as a filter leaves them. Breaks if rows per row group are divided by."""
    schema = pa.Table.from_pylist([question(0)]).schema
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as writer:
        for number in range(3):
            writer.write_table(schema.empty_table())
            writer.write_table(pa.Table.from_pylist([question(number)], schema))
            writer.write_table(schema.empty_table())
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 9
    for size in (1, 10**9):
        assert ids(pieces_of(tmp_path / "a.parquet", size=size)) == ["q0", "q1", "q2"]


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    """By a glob and a path, or by a link. Breaks if two pieces of one name are made."""
    path = lines(tmp_path / "a.jsonl", [question(1)])
    (tmp_path / "b.jsonl").symlink_to(path)
    found = corpus_files([str(tmp_path / "*.jsonl"), str(path), str(tmp_path / ".." / tmp_path.name / "a.jsonl")], "f")
    assert [file.path for file in found] == [path]


def test_the_place_leads_to_the_row(tmp_path):
    """Breaks if the place is counted from the piece's begin, or in characters where bytes are meant."""
    rows = [question(number) for number in range(20)]
    for piece in pieces_of(lines(tmp_path / "a.jsonl", rows), size=200):
        for chunk in corpus_rows.chunks(piece, Columns()):
            for key, place in zip(chunk.ids, chunk.places):
                assert json.loads((tmp_path / "a.jsonl").read_bytes()[place:].split(b"\n")[0])["id"] == key
    table = pq.read_table(parquet(tmp_path / "a.parquet", rows, 3)).to_pylist()
    for piece in pieces_of(tmp_path / "a.parquet", size=200):
        for chunk in corpus_rows.chunks(piece, Columns()):
            assert [table[place - 1]["id"] for place in chunk.places] == chunk.ids


def test_the_list_does_not_depend_on_rows_but_on_sizes(tmp_path):
    """Another content of the same size gives the same bounds: no row is read for them."""
    one = lines(tmp_path / "a.jsonl", [question(1)] * 30)
    before = [(piece.begin, piece.end) for piece in pieces_of(one, size=100)]
    one.write_bytes(one.read_bytes().replace(b"Wo?", b"Wer"))
    assert [(piece.begin, piece.end) for piece in pieces_of(one, size=100)] == before


def test_a_chunk_is_limited_by_questions_and_by_characters(tmp_path):
    """Breaks if one long document among many rows fills the memory: each question's context counts."""
    short = [{"id": str(n), "question": "?", "context": "a"} for n in range(corpus_rows.CHUNK_QUESTIONS + 1)]
    [piece] = pieces_of(parquet(tmp_path / "a.parquet", short), size=10**9)
    assert [len(chunk) for chunk in corpus_rows.chunks(piece, Columns())] == [corpus_rows.CHUNK_QUESTIONS, 1]
    context = "a" * (corpus_rows.CHUNK_CHARACTERS // 2)
    long = [{"id": str(n), "question": "?", "context": context} for n in range(5)]
    [piece] = pieces_of(parquet(tmp_path / "b.parquet", long), size=10**9)
    assert [len(chunk) for chunk in corpus_rows.chunks(piece, Columns())] == [2, 2, 1]


def test_numbers_become_ids_and_other_columns_are_not_read(tmp_path):
    """As plain prediction has it; a column of answers may hold anything."""
    rows = [{"id": 7, "question": "?", "context": "c", "answers": "no JSON"}]
    assert ids(pieces_of(parquet(tmp_path / "a.parquet", rows), size=99)) == ["7"]
    assert ids(pieces_of(lines(tmp_path / "a.jsonl", rows), size=9)) == ["7"]


def broken_lines(path: Path) -> None:
    text = "".join(json.dumps(question(number)) + "\n" for number in range(3))
    path.write_text(text[:-20], encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.jsonl", lambda path: path.write_bytes(b""), "is empty"),
        ("a.jsonl.gz", lambda path: path.write_bytes(gzip.compress(b'{"id": 1}')), "is gzipped.*unpack it"),
        ("a.json", lambda path: path.write_text("[]"), "is one JSON list: write its questions as Parquet"),
        ("a.json", lambda path: path.write_text('{"data": []}'), "is nested JSON with the keys data"),
        ("a.json", lambda path: path.write_text('{"qas": [], "context": ""}'), "is nested JSON with the keys qas"),
        ("a.json", lambda path: path.write_text('{\n "data": []\n}'), "its first line is no JSON object"),
        ("a.csv", lambda path: path.write_text("id,question,context\n"), "neither Parquet nor JSON lines"),
        ("a.parquet", lambda path: path.write_bytes(b"PAR1 cut off"), "broken or cut off"),
        ("a.parquet", lambda path: parquet(path, [{"id": "1", "question": "?"}]), "no column 'context'"),
        ("a.jsonl", lambda path: lines(path, [{"id": "1", "query": "?", "context": "c"}]), "no column 'question'"),
        ("a.parquet", lambda path: pq.write_table(pa.table({"id": pa.array([], pa.string())}), path), "no question"),
        ("a.jsonl", broken_lines, r"a.jsonl: line at byte \d+: broken JSON"),
        ("a.jsonl", lambda path: lines(path, [question(1), question(2) | {"id": ""}]), r"byte \d+.*'id' is empty"),
        ("a.jsonl", lambda path: path.write_bytes(b'{"id":1,"question":"","context":""}\n\xff\n'), "is not UTF-8"),
        (
            "a.parquet",
            lambda path: parquet(path, [question(1), question(2) | {"question": None}]),
            "row 2: id 'q2': 'question' is null",
        ),
        (
            "a.jsonl",
            lambda path: path.write_text('{"id": "1", "question": "\\ud83d", "context": "c"}\n'),
            "half of a surrogate pair",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_file_and_place(tmp_path, name, write, message):
    """Breaks if such a file is read as something else, or if nobody says which of thousands it is."""
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError, match=message) as raised:
        ids(pieces_of(path, size=10**6))
    assert str(path) in str(raised.value)


def test_a_damaged_page_is_named_by_file_and_row(tmp_path):
    path = parquet(tmp_path / "a.parquet", [question(number) for number in range(600)], 256)
    content = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(2).column(2)
    for place in range(group.data_page_offset, group.data_page_offset + 20):
        content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path}: broken after row 512 "):
        ids(pieces_of(path, size=10**6))


def test_a_file_without_a_column_among_others_is_named(tmp_path):
    """Mixed columns: breaks if only the first file is looked at."""
    good = parquet(tmp_path / "a.parquet", [question(1)])
    bad = parquet(tmp_path / "b.parquet", [{"id": "1", "question": "?", "text": "c"}])
    with pytest.raises(ValueError, match=rf"{bad}: no column 'context'"):
        pieces_of(good, bad, size=100)
