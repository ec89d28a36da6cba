"""What users give to `Reader` in place of pairs of texts."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from bad_input_cases.case import Accepted, Case, Either, Expected, Place, Refused, Run

QUESTION, CONTEXT = (
    "Where was Ben born?",
    "Ben was born in Lima. The house by the river has 3 small windows. Ben keeps a horse.",
)
PAIR = (QUESTION, CONTEXT)
ROW = {"question": QUESTION, "context": CONTEXT}
OTHER = ("Which animal does Ben keep?", CONTEXT)


def as_pairs(*pairs: tuple[str, str]) -> Accepted:
    """The answers are those of these pairs, one at a time."""

    def check(place: Place, output: str) -> str | None:
        found = json.loads(place.path("answers.json").read_text())
        wanted = [found["alone"][json.dumps(pair)] for pair in pairs]
        return None if found["given"] == wanted else f"answers {found['given']} in place of {wanted}"

    return Accepted(check)


def inputs() -> dict[str, tuple[Callable[[], Any], Expected]]:
    """Name -> what answer_all gets (made in the process that has the reader), and what is expected."""
    first, second = Refused("row 0"), Refused("row 1")
    return {
        "a dict": (lambda: [ROW], as_pairs(PAIR)),
        "a dict in another order": (lambda: [dict(reversed(ROW.items()))], as_pairs(PAIR)),
        "a dict of more keys": (lambda: [{"id": 1, **ROW, "answers": {"text": []}}], as_pairs(PAIR)),
        "dicts and pairs": (lambda: [PAIR, ROW], as_pairs(PAIR, PAIR)),
        "a Dataset": (lambda: datasets.Dataset.from_list([ROW, ROW]), as_pairs(PAIR, PAIR)),
        "a zip": (lambda: zip([QUESTION], [CONTEXT]), as_pairs(PAIR)),
        "a generator": (lambda: (pair for pair in [PAIR, OTHER]), as_pairs(PAIR, OTHER)),
        "a list as pair": (lambda: [list(PAIR)], as_pairs(PAIR)),
        "texts of numpy": (lambda: [tuple(np.array(PAIR))], as_pairs(PAIR)),
        "nothing": (list, as_pairs()),
        "an empty question": (lambda: [PAIR, ("", CONTEXT)], Either(as_pairs(PAIR, ("", CONTEXT)).check, ("row 1",))),
        "an empty context": (lambda: [PAIR, (QUESTION, "")], Either(as_pairs(PAIR, (QUESTION, "")).check, ("row 1",))),
        "escape sequences and markup": (lambda: [("[/] \x1b[2J", "[red]Ben\0[/]")], as_pairs(("[/] \x1b[2J", "[red]Ben\0[/]"))),
        "None": (lambda: None, Refused("null", "expected a list")),
        "a number": (lambda: 3, Refused("3")),
        "a string": (lambda: "qc", Refused("'qc'", "expected a list")),
        "a dict in place of a list": (lambda: ROW, Refused("(dict)", "expected a list")),
        "a list of None": (lambda: [PAIR, None], second),
        "a list of strings": (lambda: [QUESTION, CONTEXT], first),
        "strings of two letters": (lambda: ["ab", "cd"], first),
        "a list of numbers": (lambda: [PAIR, 3], second),
        "three texts": (lambda: [PAIR, (*PAIR, CONTEXT)], second),
        "one text": (lambda: [PAIR, (QUESTION,)], second),
        "a dict without context": (lambda: [ROW, {"question": QUESTION}], second),
        "a dict of other keys": (lambda: [ROW, {"q": QUESTION, "c": CONTEXT}], second),
        "question None": (lambda: [PAIR, (None, CONTEXT)], second),
        "context None": (lambda: [PAIR, (QUESTION, None)], second),
        "context nan": (lambda: [PAIR, (QUESTION, math.nan)], second),
        "question a number": (lambda: [PAIR, (3, CONTEXT)], second),
        "question of bytes": (lambda: [PAIR, (QUESTION.encode(), CONTEXT)], second),
        "question a list": (lambda: [PAIR, ([QUESTION], CONTEXT)], second),
        "half a surrogate in the question": (lambda: [PAIR, ("\ud83d", CONTEXT)], second),
        "half a surrogate in the context": (lambda: [PAIR, (QUESTION, CONTEXT + "\udc80")], second),
        "a Dataset of other columns": (lambda: datasets.Dataset.from_dict({"a": ["x"]}), first),
        "a Dataset with null": (lambda: datasets.Dataset.from_dict({"question": ["x", None], "context": ["y", "z"]}), second),
        "a value of a million letters": (lambda: [PAIR, "a" * 10**6], second),
    }  # fmt: skip


def answer(folder: Path, model: str, name: str, settings: dict[str, Any]) -> None:
    """What a child process does: the answers to an input, and those to each pair alone."""
    from qa_accel.data.settings import WindowConfig
    from qa_accel.distributed import entry
    from qa_accel.inference.reader import Reader

    def go() -> None:
        reader = Reader(model, windows=WindowConfig(max_seq_length=64, doc_stride=16, max_query_length=16), **settings)
        given = [found["text"] for found in reader.answer_all(inputs()[name][0]())]
        pairs = [PAIR, OTHER, ("", CONTEXT), (QUESTION, ""), ("[/] \x1b[2J", "[red]Ben\0[/]")]
        alone = {json.dumps(pair): reader.answer(*pair)["text"] for pair in pairs}
        (folder / "answers.json").write_text(json.dumps({"given": given, "alone": alone}))

    entry.main(go)


def reader_case(
    name: str, expected: Expected, given: str = "a list as pair", model: str | None = None, **settings: Any
) -> Case:
    def make(place: Place) -> Run:
        return Run("reader", [str(place.base.toy.model) if model is None else model, given, json.dumps(settings)])

    return Case("reader", name, make, expected)


def cases() -> list[Case]:
    made = [reader_case(name, expected, given=name) for name, (_, expected) in inputs().items()]
    return [
        *made,
        reader_case("batch_size 0", Refused("batch_size"), batch_size=0),
        reader_case("batch_size -1", Refused("batch_size"), batch_size=-1),
        reader_case("batch_size 1.5", Refused("batch_size"), batch_size=1.5),
        reader_case("batch_size a billion", as_pairs(PAIR), batch_size=10**9),
        reader_case("a model that is missing", Refused("nowhere"), model="nowhere"),
        reader_case("a model's name of markup", Refused("[/]"), model="[/]"),
        reader_case("a model's name that is empty", Refused("model"), model=""),
    ]
