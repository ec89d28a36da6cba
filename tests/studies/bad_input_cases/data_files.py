"""Files that are no data, or broken in their form: bytes, JSON, gzip, Parquet, CSV, nesting, sizes."""

import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from bad_input_cases.case import Accepted, Case, Either, Expected, Place, Refused, report_has

CONTEXT = "Ana was born in Bern. Ana keeps a goat."
ANSWERS = {"text": ["Bern"], "answer_start": [16]}
ROW: dict[str, Any] = {"id": "q1", "question": "Where was Ana born?", "context": CONTEXT, "answers": ANSWERS}
SECOND: dict[str, Any] = ROW | {"id": "q2", "question": "Which animal does Ana keep?"}
SECOND |= {"answers": {"text": ["goat"], "answer_start": [34]}}
HEADER = "id,question,context,answer_text,answer_start\n"
LINE = f"q1,Where was Ana born?,{CONTEXT},Bern,16\n"
ONE = report_has(questions=1, without_answer=0, misplaced_answers=0, windows_with_answer=1)
TWO = report_has(questions=2, without_answer=0, misplaced_answers=0, windows_with_answer=2)

Content = bytes | Callable[[], bytes]


def file_case(
    name: str, content: Content, expected: Expected | None = None, *, file: str = "data.json", **settings: Any
) -> Case:
    """`prepare` with one file; without `expected` it is refused with the file's name."""

    def make(place: Place):
        place.path(file).write_bytes(content() if callable(content) else content)
        return place.prepare(train_file=file, **settings)

    return Case("data", name, make, expected or Refused(file))


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_lines(*rows: Any) -> bytes:
    return b"".join(as_json(row) + b"\n" for row in rows)


def as_parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def parquet_of(*rows: dict[str, Any]) -> bytes:
    return as_parquet(pa.Table.from_pylist(list(rows)))


GOOD = as_json([ROW])

NO_DATA: dict[str, bytes] = {
    "empty file": b"",
    "a byte order mark alone": b"\xef\xbb\xbf",
    "blanks": b" \t \n" * 9,
    "line ends": b"\n" * 9,
    "one NUL": b"\0",
    "NULs": bytes(100_000),
    "all byte values": bytes(range(256)) * 40,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(200)),
    "a PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "a zip archive": b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(99),
    "a bzip2 file": b"BZh91AY&SY" + bytes(99),
    "a web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "a YAML file": b"- id: q1\n  question: Where?\n",
    "plain text": b"Where was Ana born?\n",
    "null": b"null",
    "true": b"true",
    "a number": b"3",
    "a string": b'"text"',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "a list of lists": b"[[]]",
    "a list of numbers": b"[1]",
    "a list of strings": b'["Where?"]',
    "a list of null": b"[null]",
    "data an empty list": b'{"data": []}',
    "data an object": b'{"data": {}}',
    "data null": b'{"data": null}',
    "data a string": b'{"data": "x"}',
    "data a number": b'{"data": 3}',
    "data a list of null": b'{"data": [null]}',
    "a row, then null": as_json([ROW, None]),
    "a row, then a number": as_json([ROW, 3]),
}
BROKEN_JSON: dict[str, bytes] = {
    "cut after a quarter": GOOD[: len(GOOD) // 4],
    "cut in the middle": GOOD[: len(GOOD) // 2],
    "cut after three quarters": GOOD[: 3 * len(GOOD) // 4],
    "cut before the last bracket": GOOD[:-1],
    "a comma at the end": GOOD[:-1] + b",]",
    "no comma between rows": GOOD[:-1] + as_json(SECOND) + b"]",
    "single quotes": str([ROW]).encode(),
    "comments": b"// people\n" + GOOD,
    "text behind the end": GOOD + b" end",
    "two lists": GOOD + GOOD,
    "a control character in a string": GOOD.replace(b"Ana was", b"Ana\x01was"),
    "a broken escape": GOOD.replace(b"Ana was", rb"Ana\q was"),
    "a broken unicode escape": GOOD.replace(b"Ana was", rb"Ana\u12 was"),
    "a colon missing": GOOD.replace(b'"id": ', b'"id" '),
    "a byte that is not UTF-8": GOOD.replace(b"Ana was", b"Ana \xff was"),
    "a letter of Latin-1": GOOD.replace(b"Ana was", b"An\xe4 was"),
    "an overlong form": GOOD.replace(b"Ana was", b"Ana \xc0\xaf was"),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16, big end first": GOOD.decode().encode("utf-16-be"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "lines, the second broken": as_lines(ROW) + b'{"id": "q2", "question": \n' + as_lines(SECOND),
    "lines, the last cut": (as_lines(ROW, SECOND))[:-30],
    "lines, a word between": as_lines(ROW) + b"null\n" + as_lines(SECOND),
}
READ: dict[str, tuple[bytes, Any]] = {
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, ONE),
    "line ends of Windows": (as_lines(ROW, SECOND).replace(b"\n", b"\r\n"), TWO),
    "empty lines": (as_lines(ROW) + b"\n\n" + as_lines(SECOND) + b"\n\n", TWO),
    "objects in one line": (as_json(ROW) + as_json(SECOND), TWO),
    "no line end at the end": (as_lines(ROW, SECOND)[:-1], TWO),
    "a key twice": (GOOD.replace(b'"id": "q1"', b'"id": "q0", "id": "q1"'), ONE),
    "unknown keys beside data": (as_json({"version": 3, "data": [ROW], "note": {"by": [1]}}), ONE),
    "100,000 blanks before the data": (b" " * 100_000 + GOOD, ONE),
}

DEEP: dict[str, Content] = {
    "100,000 brackets": b"[" * 100_000,
    "100,000 brackets, closed": b"[" * 100_000 + b"]" * 100_000,
    "3,000 brackets, closed": b"[" * 3000 + b"]" * 3000,
    "100,000 objects": b'{"a":' * 100_000,
    "100,000 objects, closed": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "data 100,000 brackets": b'{"data":' + b"[" * 100_000,
    "deep value in an unused column": GOOD.replace(b'"id"', b'"other": ' + b"[" * 5000 + b"]" * 5000 + b', "id"'),
    "deep answers": GOOD.replace(as_json(ANSWERS), b"[" * 5000 + b"]" * 5000),
    "deep answers as text": as_json([ROW | {"answers": "[" * 100_000}]),
    "deep answers as text, closed": as_json([ROW | {"answers": "[" * 100_000 + "]" * 100_000}]),
    "integer of 5,000 digits": GOOD.replace(b"[16]", b"[" + b"1" * 5000 + b"]"),
    "integer of 5,000 digits as id": GOOD.replace(b'"q1"', b"1" * 5000),
    "integer of 5,000 digits in an unused column": GOOD.replace(b'"id"', b'"other": ' + b"1" * 5000 + b', "id"'),
    "integer of 5,000 digits in answers as text": as_json(
        [ROW | {"answers": '{"text": ["Bern"], "answer_start": [%s]}' % ("1" * 5000)}]
    ),
}

MEGABYTES = 64
GZIP: dict[str, tuple[Content, Expected | None]] = {
    "gz, sound": (gzip.compress(GOOD), Accepted(ONE)),
    "gz, a plain file of that name": (GOOD, Accepted(ONE)),
    "gz, cut": (gzip.compress(GOOD)[:-12], None),
    "gz, cut in the header": (gzip.compress(GOOD)[:6], None),
    "gz, wrong checksum": (gzip.compress(GOOD)[:-8] + bytes(8), None),
    "gz, garbage inside": (b"\x1f\x8b" + bytes(range(200)), None),
    "gz, flipped byte": (lambda: flipped(gzip.compress(GOOD), 30), None),
    "gz, empty inside": (gzip.compress(b""), None),
    "gz, gz inside": (gzip.compress(gzip.compress(GOOD)), None),
    "gz, a tail of zeros": (gzip.compress(GOOD) + bytes(64), Accepted(ONE)),
    "gz, a tail of garbage": (gzip.compress(GOOD) + b"end of file", None),
    "gz, Parquet inside": (lambda: gzip.compress(parquet_of(ROW)), None),
    "gz bomb of [": (lambda: bomb(b"["), None),
    "gz bomb of blanks": (lambda: bomb(b" "), None),
    "gz bomb in a string": (lambda: gzip.compress(b'[{"id": "' + b"a" * (MEGABYTES << 20)), None),
}


def bomb(byte: bytes) -> bytes:
    return gzip.compress(byte * (MEGABYTES << 20), 1)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


PARQUET: dict[str, tuple[Content, Expected | None]] = {
    "Parquet, sound": (lambda: parquet_of(ROW), Accepted(ONE)),
    "Parquet, cut": (lambda: parquet_of(ROW)[:-9], None),
    "Parquet, the mark alone": (b"PAR1", None),
    "Parquet, garbage": (b"PAR1" + bytes(range(256)) + b"PAR1", None),
    "Parquet, flipped in the middle": (
        lambda: flipped(parquet_of(ROW), len(parquet_of(ROW)) // 8),
        Either(ONE, ("data.parquet",)),
    ),
    "Parquet, no rows": (lambda: as_parquet(pa.Table.from_pylist([ROW]).slice(0, 0)), None),
    "Parquet, no columns": (lambda: as_parquet(pa.table({})), None),
    "Parquet, id a list": (lambda: parquet_of(ROW | {"id": ["q1"]}), None),
    "Parquet, context of bytes": (lambda: parquet_of(ROW | {"context": CONTEXT.encode()}), None),
    "Parquet, nulls": (lambda: parquet_of(ROW, dict.fromkeys(ROW)), Refused("data.parquet", "row 2")),
    "Parquet, offsets of floats": (
        lambda: parquet_of(ROW | {"answers": {"text": ["Bern"], "answer_start": [16.5]}}),
        Refused("data.parquet", "row 1", "answer_start"),
    ),
}


def cases() -> list[Case]:
    made = [file_case(name, content) for name, content in NO_DATA.items()]
    made += [file_case(name, content) for name, content in BROKEN_JSON.items()]
    made += [file_case(name, content, Accepted(check)) for name, (content, check) in READ.items()]
    made += [file_case(name, content, _read_or_refused(name)) for name, content in DEEP.items()]
    made += [file_case(name, content, expected, file="data.json.gz") for name, (content, expected) in GZIP.items()]
    made += [file_case("gz under another name", gzip.compress(GOOD), Accepted(ONE))]
    made += [
        file_case(
            "gz bomb in a cell of csv",
            lambda: gzip.compress(HEADER.encode() + b"a" * (MEGABYTES << 20), 1),
            file="data.csv.gz",
        )
    ]
    made += [file_case(name, content, expected, file="data.parquet") for name, (content, expected) in PARQUET.items()]
    return made


def _read_or_refused(name: str) -> Expected:
    """What is in a column that nobody asked for may be passed over."""
    return Either(ONE, ("data.json",)) if "unused" in name else Refused("data.json")
