"""CSV files, and values so long that no message may repeat them."""

from bad_input_cases.case import Accepted, Case, Either, Expected, Refused, anything, both, report_has, says
from bad_input_cases.data_files import CONTEXT, HEADER, LINE, ONE, ROW, Content, as_json, file_case

CSV: dict[str, tuple[Content, Expected | None]] = {
    "csv, sound": ((HEADER + LINE).encode(), Accepted(ONE)),
    "csv, a byte order mark": (("\ufeff" + HEADER + LINE).encode(), Accepted(ONE)),
    "csv, line ends of Windows": ((HEADER + LINE).replace("\n", "\r\n").encode(), Accepted(ONE)),
    "csv, line ends of old Macs": ((HEADER + LINE).replace("\n", "\r").encode(), Either(ONE, ("data.csv",))),
    "csv, empty": (b"", None),
    "csv, the header alone": (HEADER.encode(), None),
    "csv, no header": (LINE.encode(), None),
    "csv, a column twice": (("id," + HEADER + "q," + LINE).encode(), Refused("data.csv", "id", "twice")),
    "csv, an empty name": (("," + HEADER + "0," + LINE).encode(), Accepted(ONE)),
    "csv, a short row": ((HEADER + LINE + "q2,Where?\n").encode(), Refused("data.csv", "row 2", "cells")),
    "csv, a long row": ((HEADER + LINE + "q2,Where?,Bern, Ana,Bern,0,1\n").encode(), Refused("data.csv", "row 2", "cells")),
    "csv, a quote without end": ((HEADER + LINE + 'q2,"Where?,Bern,Bern,0\n').encode(), Refused("data.csv", "row 2")),
    "csv, a quote in a cell": ((HEADER + 'q1,"Where" was,Bern,Bern,0\n').encode(), Either(ONE, ("data.csv", "row 1"))),
    "csv, NUL": ((HEADER + LINE.replace("Ana", "A\0na")).encode(), Either(anything, ("offset",))),
    "csv, a line break in quotes": ((HEADER + 'q1,"Where\nwas she?",Bern,Bern,0\n').encode(), Accepted(ONE)),
    "csv, Latin-1": ((HEADER + LINE.replace("Ana", "Anä")).encode("latin-1"), Refused("data.csv", "UTF-8")),
    "csv, UTF-16": ((HEADER + LINE).encode("utf-16"), None),
    "csv, semicolons": ((HEADER + LINE).replace(",", ";").encode(), Accepted(both(ONE, says("semicolons")))),
    "csv, tabs": ((HEADER + LINE).replace(",", "\t").encode(), Accepted(both(ONE, says("tab")))),
    "csv, bars": ((HEADER + LINE).replace(",", "|").encode(), Either(ONE, ("data.csv", "|"))),
    "csv, semicolons and commas in the text": (
        (HEADER.replace(",", ";") + "q1;Where, in all, was Ana born?;Ana was born in Bern, by a lake.;Bern;16\n").encode(),
        Accepted(ONE),
    ),
    "csv, a cell of 300,000 characters": ((HEADER + LINE.replace(CONTEXT, CONTEXT + " A" * 150_000)).encode(), Accepted(report_has(questions=1))),
    "csv, offset 16.0": ((HEADER + LINE.replace("16", "16.0")).encode(), Either(ONE, ("data.csv", "row 1", "answer_start"))),
    "csv, offset a word": ((HEADER + LINE.replace("16", "early")).encode(), Refused("data.csv", "row 1", "answer_start")),
    "csv, offset empty": ((HEADER + LINE.replace(",16", ",")).encode(), Refused("data.csv", "row 1", "answer_start")),
    "csv, offset of 5,000 digits": ((HEADER + LINE.replace("16", "1" * 5000)).encode(), Refused("data.csv", "row 1", "answer_start")),
    "csv, text empty, offset given": ((HEADER + LINE + "q2,Where?,Bern,,0\n").encode(), Either(report_has(without_answer=1), ("data.csv", "row 2"))),
    "csv, answers as Python writes them": (
        (b'id,question,context,answers\nq1,Where?,Bern,"{\'text\': [\'Bern\'], \'answer_start\': [0]}"\n'),
        Either(ONE, ("data.csv", "row 1", "answers")),
    ),
    "csv, answers as numpy writes them": (
        b'id,question,context,answers\nq1,Where?,Bern,"{\'text\': array([\'Bern\'], dtype=object)}"\n',
        Refused("data.csv", "row 1", "answers"),
    ),
    "csv, is_impossible neither": ((HEADER[:-1] + ",is_impossible\n" + LINE[:-1] + ",perhaps\n").encode(), Refused("row 1", "is_impossible", "perhaps")),
}  # fmt: skip

SIZES: dict[str, tuple[Content, Expected | None]] = {
    "id of a million letters": (lambda: as_json([ROW | {"id": "a" * 10**6}]), Accepted(ONE)),
    "id of a million letters, twice": (lambda: as_json([ROW | {"id": "a" * 10**6}] * 2), Refused("data.json", "row 2")),
    "id of a million letters, bad row": (
        lambda: as_json([ROW | {"id": "a" * 10**6, "context": 3}]),
        Refused("data.json", "row 1", "context"),
    ),
    "question of a million letters": (
        lambda: as_json([ROW | {"question": "Ana " * 250_000}]),
        Accepted(report_has(questions=1)),
    ),
    "context of one word of a million letters": (
        lambda: as_json([ROW | {"context": "a" * 10**6, "answers": {"text": ["a"], "answer_start": [0]}}]),
        Accepted(report_has(questions=1)),
    ),
    "answer of a million letters, misplaced": (
        lambda: as_json([ROW | {"answers": {"text": ["a" * 10**6], "answer_start": [0]}}]),
        Refused("offset"),
    ),
    "title of a million letters": (lambda: as_json([ROW | {"title": "a" * 10**6}]), Accepted(ONE)),
    "a text of a million letters where an offset is expected": (
        lambda: as_json([ROW | {"answers": {"text": ["Bern"], "answer_start": ["1" * 10**6]}}]),
        Refused("data.json", "row 1", "answer_start"),
    ),
    "10,000 unknown columns": (
        lambda: as_json([{f"column_{n}": n for n in range(10_000)}]),
        Refused("data.json", "row 1", "'id'"),
    ),
    "column names of a million letters": (lambda: as_json([{"a" * 10**6: 1}]), Refused("data.json", "row 1", "'id'")),
    "10,000 answers": (
        lambda: as_json([ROW | {"answers": {"text": ["Bern"] * 10_000, "answer_start": [16] * 10_000}}]),
        Accepted(report_has(questions=1, misplaced_answers=0)),
    ),
    "csv, header of 10,000 columns": (
        lambda: ",".join(f"c{n}" for n in range(10_000)).encode() + b"\n",
        Refused("data.csv"),
    ),
    "csv, row of 10,000 cells": (lambda: (HEADER + "," * 10_000 + "\n").encode(), Refused("data.csv", "row 1")),
}


def cases() -> list[Case]:
    made = []
    made += [file_case(name, content, expected, file="data.csv") for name, (content, expected) in CSV.items()]
    made += [
        file_case("csv under the name .txt", (HEADER + LINE).encode(), Refused("data.txt", ".csv"), file="data.txt")
    ]
    made += [file_case("tsv", (HEADER + LINE).replace(",", "\t").encode(), Either(ONE, ("data.tsv",)), file="data.tsv")]
    for name, (content, expected) in SIZES.items():
        made.append(file_case(name, content, expected, file="data.csv" if name.startswith("csv") else "data.json"))
    return made
