"""Questions out of a pipe: every form, what is wrong with a line, and what is waited for."""

import csv
import os
import threading
from pathlib import Path

import pytest

from qa_accel.data import arriving_rows
from qa_accel.data.arriving_rows import ArrivingLines, ArrivingRow, question_rows, ready_rows


def opened(content: bytes, folder: Path) -> ArrivingLines:
    path = folder / "questions"
    path.write_bytes(content)
    return ArrivingLines(os.open(path, os.O_RDONLY), "questions")


def read(content: bytes, folder: Path, plain: bool = False) -> list[ArrivingRow | None]:
    return list(question_rows(opened(content, folder), "question", plain=plain))


def row(line: int, **values) -> ArrivingRow:
    return ArrivingRow(line, values)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b'{"question": "a"}\n{"question": "b", "x": [1]}\n', [row(1, question="a"), row(2, question="b", x=[1])]),
        (b'{"question": "a"}\n\n  \n{"question": "b"}', [row(1, question="a"), None, None, row(4, question="b")]),
        (b'\xef\xbb\xbf{"question": "a"}\r\n{"question": "b"}\r\n', [row(1, question="a"), row(2, question="b")]),
        (b'\n\n{"question": "a\\u0000"}', [row(3, question="a\0")]),
        ('{"question": "é😀"}'.encode(), [row(1, question="é😀")]),
        (b"question,context\na,b\n\nc,d", [row(2, question="a", context="b"), None, row(4, question="c", context="d")]),
        (b"\xef\xbb\xbfquestion;context\r\na;b,c\r\n", [row(2, question="a", context="b,c")]),
        (b"question\tcontext\na\tb\n", [row(2, question="a", context="b")]),
        (b'context,question\n"x\r\ny ""z""",a\nu,b\n', [row(3, context='x\r\ny "z"', question="a"), row(4, context="u", question="b")]),
        (b"id,question\n1,\n", [row(2, id="1", question="")]),
        (b"question\nWho?\n", [row(2, question="Who?")]),
        (b"", []),
        (b"\n \n", []),
    ],
)  # fmt: skip
def test_a_form_is_known_by_its_first_line(content, rows, tmp_path):
    """The number is that of the line in which a row ends. Breaks if a text is changed, a blank line counts as a row or not
    as a line, or a byte order mark stays in the first name."""
    assert read(content, tmp_path) == rows
    if content.strip():
        assert read(content, tmp_path, plain=True) == rows, "plain text is only what is of no other form"


def test_lines_of_plain_text_are_questions_where_nothing_else_is_needed(tmp_path):
    """Breaks if a comma makes a header of a question, or the end of a line from Windows is part of it."""
    content = b"Who, and where?\r\n\r\n{a}\nquestion, or not?"
    rows = [row(1, question="Who, and where?"), None, row(3, question="{a}"), row(4, question="question, or not?")]
    assert read(content, tmp_path, plain=True) == rows


def test_a_first_line_that_the_csv_module_cannot_read_is_plain_text_or_refused(tmp_path):
    """A carriage return in the middle, and more characters than the module's limit, which other code may have set. Breaks if
    its error ends the program with a traceback."""
    for first in (b"Who wrote\rit?", b"Who? " + b"a" * 200_000):
        csv.field_size_limit(131_072)
        assert read(first + b"\nWhy?\n", tmp_path, plain=True) == [
            row(1, question=first.decode()),
            row(2, question="Why?"),
        ]
        csv.field_size_limit(131_072)
        with pytest.raises(
            ValueError, match=r"^questions: begins with .?Who.*expected JSON lines, or CSV with a header"
        ):
            read(first + b"\n", tmp_path)


@pytest.mark.parametrize(
    ("content", "line", "error"),
    [
        (b'{"question": "a"}\n{"question": \n{"question": "b"}', 2, "is not JSON (Expecting value at column"),
        (b'{"question": "a"}\n[1]\n{"question": "b"}', 2, "'[1]' (list); an object with columns is expected"),
        (b'{"question": "a"}\n{"question": "\0"}\n{"question": "b"}', 2, "is not JSON (Invalid control character"),
        (b'{"question": "a"}\n{"question": "\xff"}\n{"question": "b"}', 2, "is not UTF-8; save the text as UTF-8"),
        (b'{"question": "a"}\n' + b'{"a":' * 99_999 + b'\n{"question": "b"}', 2, "is not JSON (nested too deep)"),
        (b"question,x\na,1\nq,1,2\nb,1\n", 3, "3 cells, the header has 2 (question, x); put cells that hold commas"),
        (b'question,x\na,1\n"q"r,1\nb,1\n', 3, "',' expected after '\"'; check its quoting"),
        (b"question,x\na,1\nq,\xfc\nb,1\n", 3, "is not UTF-8; save the text as UTF-8"),
        (b'question,x\na,1\nq,"\xfc\n"\nb,1\n', 4, "is not UTF-8; save the text as UTF-8"),
    ],
)
def test_a_line_that_cannot_be_read_costs_no_other_one(content, line, error, tmp_path):
    """Rows a and b are around it. Breaks if a stream ends at its first bad line, or goes on in the middle of a cell."""
    first, wrong, last = read(content, tmp_path)
    assert first is not None and wrong is not None and last is not None
    assert (first.values["question"], first.error, last.values["question"], last.error) == ("a", None, "b", None)
    assert wrong.line == line and wrong.error is not None and wrong.error.startswith(error), wrong


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Who wrote it?\n", r"begins with Who wrote it\?; plain text is a question only with --context_file; expected JSON"),
        (b"Question,context\na,b\n", "has a header, but no column 'question'; .*name it: --question_column Question"),
        (b'[{"question": "a"}]', r"begins with a list; write an object per line, as `jq -c '\.\[\]'` does"),
        (b"\x1f\x8b\x08\0\0", "is gzip or Parquet; unpack it, or use qa-accel predict"),
        (b"PAR1\x15\x04", "is gzip or Parquet"),
        ("question,context\na,b".encode("utf-16"), "is not UTF-8; save the text as UTF-8"),
        (b"question,x,x\na,b,c\n", "the header names a column twice: x; rename one"),
    ],
)  # fmt: skip
def test_a_first_line_of_no_form_is_refused_by_name(content, message, tmp_path):
    with pytest.raises(ValueError, match=f"^questions: {message}"):
        read(content, tmp_path)


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    """As /dev/zero has one. Breaks if a line is read to its end however long it is; long lines of text are read."""
    long = b'{"question": "' + b"a" * 300_000 + b'"}\n'
    assert [len(found.values["question"]) for found in read(long * 3, tmp_path) if found] == [300_000] * 3
    monkeypatch.setattr(arriving_rows, "LONGEST_LINE", 200_000)
    with pytest.raises(ValueError, match="questions: line 2 is longer than 200,000 bytes; a row per line is expected"):
        read(b'{"question": "a"}\n' + long, tmp_path)


LINE = b'{"question": "a"}\n'


NO_QUESTION = b'{"id": "z", "type": "yesno", "body": "x", "snippets": []}\n'


@pytest.mark.parametrize(
    "behind",
    [b"", b"\n\n", b'{"question": "b', NO_QUESTION],
    ids=["nothing", "blank lines", "half a row", "a line of another layout without a question"],
)
def test_a_row_that_is_there_waits_for_no_other_one(behind):
    """The pipe stays open until the row is there, or for 20 seconds. Breaks if a list is only given out when it is full, or
    when the next row is whole."""
    reading, writing = os.pipe()
    os.write(writing, LINE + behind)
    given_out = threading.Event()

    def close() -> None:
        closed_early.append(not given_out.wait(20))
        os.close(writing)

    closed_early: list[bool] = []
    closing = threading.Thread(target=close)
    closing.start()
    lines = ArrivingLines(reading, "stdin")
    ready = ready_rows(question_rows(lines, "question", plain=False), lines, 32)
    first = next(ready)
    given_out.set()
    closing.join()
    assert closed_early == [False] and first == [row(1, question="a")]
    assert len(list(ready)) == (1 if behind.startswith(b'{"question') else 0)
    os.close(reading)


def test_what_is_there_comes_in_full_lists(tmp_path):
    """Ten rows with blank lines between them, at most four at once: 4, 4, 2. Breaks if a file is answered row by row, a
    row is lost between two lists, or their order changes."""
    content = b"".join(b'{"question": "%d"}\n\n' % number for number in range(10))
    lines = opened(content, tmp_path)
    found = list(ready_rows(question_rows(lines, "question", plain=False), lines, 4))
    assert [len(rows) for rows in found] == [4, 4, 2]
    assert [one.values["question"] for rows in found for one in rows] == [str(number) for number in range(10)]


def test_an_endless_source_is_not_read_ahead():
    """Of the stream only what the lists hold, a piece and what the pipe itself holds are taken. Breaks if rows pile up
    while others are answered."""
    reading, writing = os.pipe()
    written = [0]

    def write() -> None:
        try:
            while True:
                written[0] += os.write(writing, LINE)
        except BrokenPipeError:
            os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    lines = ArrivingLines(reading, "stdin")
    ready = ready_rows(question_rows(lines, "question", plain=False), lines, 8)
    for _ in range(2000):
        assert 1 <= len(next(ready)) <= 8
    taken = lines.number * len(LINE)
    assert taken >= 2000 * len(LINE)
    os.close(reading)
    writer.join()
    assert written[0] <= taken + 2 * arriving_rows.PIECE + len(LINE)
