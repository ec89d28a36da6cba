"""Values of a row: ids, texts, answers, is_impossible, nesting; text that a console or a card may take for commands."""

from typing import Any

from bad_input_cases.case import Accepted, Case, Either, Expected, Place, Refused, both, predicts, report_has, trains
from bad_input_cases.data_files import CONTEXT, ONE, ROW, SECOND, TWO, as_json, as_lines, file_case

SURROGATE = "\ud83d"
NONE = report_has(questions=2, without_answer=1, misplaced_answers=0, windows_with_answer=1)
"""The first row is answered, the second is not."""
MISPLACED = report_has(questions=2, dropped_ids=1)
READ_EITHER_WAY = ("data.json", "row 2")
REFUSED = Refused("data.json", "row 2")


def second(name: str, expected: Expected = REFUSED, *, without: str = "", **changes: Any) -> Case:
    """A sound row and one with these changes."""
    changed = {key: value for key, value in (SECOND | changes).items() if key != without}
    return file_case(name, as_json([ROW, changed]), expected)


def answers(name: str, value: Any, expected: Expected = REFUSED) -> Case:
    return second(f"answers {name}", expected, answers=value)


def impossible(name: str, value: Any, expected: Expected, given: Any = None) -> Case:
    return second(
        f"is_impossible {name}", expected, is_impossible=value, answers=given or {"text": [], "answer_start": []}
    )


def texts() -> list[Case]:
    surrogates = {
        "question": f"Who {SURROGATE}?",
        "context": CONTEXT + SURROGATE,
        "id": f"q{SURROGATE}",
        "title": SURROGATE,
    }
    made = []
    for key in ("id", "question", "context"):
        made += [second(f"{key} missing", Refused("data.json", "row 2", key), without=key)]
        values = {
            "null": None,
            "a list": ["a"],
            "an object": {"a": 1},
            "true": True,
            "a float": 1.5,
            "nan": float("nan"),
        }
        values |= {"infinite": float("inf")} | ({} if key == "id" else {"a number": 3})
        made += [
            second(f"{key} {name}", Refused("data.json", "row 2", key), **{key: value})
            for name, value in values.items()
        ]
    made += [second(f"half a surrogate in the {key}", **{key: value}) for key, value in surrogates.items()]
    made += [second("half a surrogate in an answer", answers={"text": [SURROGATE], "answer_start": [0]})]
    made += [
        second("id empty", Refused("data.json", "row 2", "id"), id=""),
        second("id blank", Either(TWO, READ_EITHER_WAY), id="  "),
        second("id a number", Accepted(TWO), id=2),
        second("id a number of 400 digits", Either(TWO, READ_EITHER_WAY), id=10**400),
        second("id twice", Refused("data.json", "row 2", "'q1'"), id="q1"),
        file_case("id twice, as number and text", as_json([ROW | {"id": 1}, SECOND | {"id": "1"}]), REFUSED),
        second("question empty", Accepted(report_has(questions=2, empty_question_ids=1)), question=""),
        second("question blank", Accepted(report_has(questions=2, empty_question_ids=1)), question=" \t\n"),
        second("context empty", Accepted(report_has(questions=2, empty_context_ids=1, dropped_ids=1)), context=""),
        second("context blank", Accepted(report_has(questions=2, empty_context_ids=1, dropped_ids=1)), context="   "),
        second("all texts empty, no answer", Accepted(report_has(questions=2, empty_context_ids=1)), question="", context="", answers=[]),
        second("title a number", Accepted(TWO), title=3),
        second("title an object", Accepted(TWO), title={"a": [1]}),
    ]  # fmt: skip
    return made


def answer_values() -> list[Case]:
    def starts(value: Any) -> dict[str, Any]:
        return {"text": ["goat"], "answer_start": [value]}

    def text(value: Any) -> dict[str, Any]:
        return {"text": [value], "answer_start": [34]}

    offset = Refused("data.json", "row 2", "answer_start")
    misplaced = Accepted(MISPLACED)
    return [
        second("answers missing", Refused("data.json", "answers"), without="answers"),
        answers("null", None, Refused("data.json", "answers")),
        answers("a number", 3),
        answers("true", True),
        answers("a string", "goat"),
        answers("a string of null", "null", Refused("data.json", "answers")),
        answers("a string of a number", "3"),
        answers("an empty string", "", Either(NONE, READ_EITHER_WAY)),
        answers("an empty object", {}),
        answers("an empty list", [], Accepted(NONE)),
        answers("a list of strings", ["goat"]),
        answers("a list of numbers", [34]),
        answers("a list of null", [None]),
        answers("a list of lists", [["goat", 34]]),
        answers("without texts", {"answer_start": [34]}),
        answers("without offsets", {"text": ["goat"]}),
        answers("an object without text", [{"answer_start": 34}]),
        answers("an object without offset", [{"text": "goat"}]),
        answers("one text, no list", {"text": "goat", "answer_start": 34}, Either(TWO, READ_EITHER_WAY)),
        answers("texts null", {"text": None, "answer_start": None}, Either(NONE, READ_EITHER_WAY)),
        answers("offsets null", {"text": ["goat"], "answer_start": None}),
        answers("two texts, one offset", {"text": ["goat", "Ana"], "answer_start": [34]}),
        answers("one text, two offsets", {"text": ["goat"], "answer_start": [34, 0]}),
        answers("text null", text(None)),
        answers("text a number", text(3)),
        answers("text a list", text(["goat"])),
        answers("text empty", text(""), Accepted(NONE)),
        answers("text blank", text("  "), Accepted(NONE)),
        answers("all texts blank", {"text": ["", " "], "answer_start": [0, 3]}, Accepted(NONE)),
        answers("a blank text beside a sound one", {"text": ["", "goat"], "answer_start": [0, 34]}, Either(TWO, READ_EITHER_WAY)),
        answers("offset null", starts(None), offset),
        answers("offset a word", starts("early"), offset),
        answers("offset 34.0", starts(34.0), Either(TWO, READ_EITHER_WAY)),
        answers("offset 34.5", starts(34.5), offset),
        answers("offset nan", starts(float("nan")), offset),
        answers("offset infinite", starts(float("inf")), offset),
        answers("offset as text", starts("34"), Either(TWO, READ_EITHER_WAY)),
        answers("offset true", starts(True), offset),
        answers("offset a list", starts([34]), offset),
        answers("offset -1", starts(-1), Either(MISPLACED, READ_EITHER_WAY)),
        answers("offset of the end", starts(len(CONTEXT)), misplaced),
        answers("offset behind the end", starts(10**6), misplaced),
        answers("offset 2**31", starts(2**31), Either(MISPLACED, READ_EITHER_WAY)),
        answers("offset 2**63", starts(2**63), Either(MISPLACED, READ_EITHER_WAY)),
        answers("offset -2**63", starts(-(2**63)), Either(MISPLACED, READ_EITHER_WAY)),
        answers("offset of 400 digits", starts(10**400), Either(MISPLACED, READ_EITHER_WAY)),
        answers("offset one too early", starts(33), misplaced),
        answers("in another case", {"text": ["Goat"], "answer_start": [34]}, misplaced),
        answers("beyond the end of the context", {"text": ["goat. And"], "answer_start": [34]}, misplaced),
        file_case("no answer at its offset", as_json([ROW | {"answers": {"text": ["Bern"], "answer_start": [3]}}]), Refused("offset")),
        file_case("answers null in all rows", as_json([ROW | {"answers": None}]), Refused("data.json", "answers")),
        file_case("no row has answers", as_json([{k: v for k, v in ROW.items() if k != "answers"}]), Refused("data.json", "answers")),
    ]  # fmt: skip


def impossibles() -> list[Case]:
    given = SECOND["answers"]
    contradiction = Either(NONE, ("data.json", "row 2", "is_impossible"))
    neither = Refused("data.json", "row 2", "is_impossible")
    made = [
        impossible(f"{value!r}, no answer", value, Accepted(NONE)) for value in (True, "true", "True", "TRUE", 1, "1")
    ]
    made += [
        impossible(f"{value!r}, an answer", value, contradiction, given) for value in (True, "true", "True", 1, "1")
    ]
    for value in (False, "false", "False", 0, "0", None, ""):
        made += [impossible(f"{value!r}, an answer", value, Accepted(TWO), given)]
    made += [impossible(f"{value!r}", value, neither, given) for value in ("maybe", 2, -1, 0.5, [], {})]
    made += [impossible("nan, as pandas fills gaps", float("nan"), Accepted(TWO), given)]
    made += [
        impossible("false, no answer", False, Either(NONE, ("data.json", "row 2"))),
        second("is_impossible true, answers missing", Accepted(NONE), is_impossible=True, without="answers"),
        file_case("all impossible", as_json([ROW | {"answers": []}]), Accepted(report_has(questions=1, without_answer=1))),
        file_case("no negatives allowed, one there", as_json([ROW, SECOND | {"answers": []}]), Refused("'q2'", "version_2_with_negative"), version_2_with_negative="false"),
    ]  # fmt: skip
    return made


def nested() -> list[Case]:
    question = {key: ROW[key] for key in ("id", "question")} | {"answers": [{"text": "Bern", "answer_start": 16}]}
    paragraph = {"context": CONTEXT, "qas": [question]}

    def article(name: str, expected: Expected, **changes: Any) -> Case:
        return file_case(
            f"nested: {name}", as_json({"data": [{"title": "People", "paragraphs": [paragraph]} | changes]}), expected
        )

    file = Refused("data.json", "article 1")
    return [
        article("sound", Accepted(ONE)),
        article("paragraphs null", file, paragraphs=None),
        article("paragraphs an object", file, paragraphs={}),
        article("paragraphs a string", file, paragraphs="x"),
        article("no paragraph", Refused("data.json"), paragraphs=[]),
        article("a paragraph null", file, paragraphs=[None]),
        article("a paragraph a number", file, paragraphs=[3]),
        article("a paragraph without qas", file, paragraphs=[{"context": CONTEXT}]),
        article("qas null", file, paragraphs=[paragraph | {"qas": None}]),
        article("qas an object", file, paragraphs=[paragraph | {"qas": {}}]),
        article("qas empty", Refused("data.json"), paragraphs=[paragraph | {"qas": []}]),
        article("a question a number", file, paragraphs=[paragraph | {"qas": [3]}]),
        article("a question null", file, paragraphs=[paragraph | {"qas": [None]}]),
        article("no context", Refused("data.json", "context"), paragraphs=[{"qas": [question]}]),
        article("context null", Refused("data.json", "context"), paragraphs=[paragraph | {"context": None}]),
        article("a question without id", Refused("data.json", "'id'"), paragraphs=[paragraph | {"id": "p", "qas": [{"question": "Who?", "answers": []}]}]),
        article("title a number", Accepted(ONE), title=3),
        article("title null", Accepted(ONE), title=None),
        article("title of markup, broken paragraph", file, title="[/] [bold]", paragraphs=[3]),
    ]  # fmt: skip


HOSTILE = {
    "markup that closes nothing": "[/] who?",
    "markup of a colour": "[red]who?[/red] [link=file:///etc/passwd]x[/link]",
    "markup behind a backslash": "\\[red]who\\[/red]",
    "escape sequences": "who? \x1b]0;owned\x07\x1b[2J\x1b[31m",
    "C1 controls": "who? \x9b31m \x85 \x90",
    "text that turns direction": "who? \u202egnp.exe\u202c \u2066\u2069",
    "NUL": "who\0?",
    "line breaks": "who?\r\nerror: all is lost\n\n| a | b |",
    "zero width": "who\u200b\u200d\ufeff?",
    "combining marks": "w" + "\u0301" * 300,
    "emoji": "who? 🚀👩‍👩‍👧‍👦🇨🇭",
    "Markdown": "](javascript:alert(1)) <script>x</script> `$(touch PWNED)` | # who",
    "braces": "{question} {0} %s %(a)s ${HOME} $(touch PWNED)",
}
"""Text that a question, an answer, an id, a title may be."""


def shown_safely(place: Place, output: str) -> str | None:
    """Nothing of the data may reach the terminal as a command."""
    raw = sorted(
        {
            character
            for character in output
            if (ord(character) < 32 and character not in "\n\r\t") or 127 <= ord(character) < 160
        }
    )
    return f"the characters {raw} reach the terminal" if raw else None


def hostile() -> list[Case]:
    made = []
    for name, text in HOSTILE.items():
        context = f"Ana was born in Bern. {text} Ana keeps a goat."
        plain = {"id": text, "question": text, "context": context, "title": text}
        answered = plain | {"answers": {"text": [text], "answer_start": [22]}}
        misplaced = plain | {"id": f"{text} 2", "answers": {"text": [text], "answer_start": [1]}}
        ids = (text, f"{text} 2")

        def train(place: Place, rows=(answered, misplaced)):
            place.path("data.json").write_bytes(as_json(rows))
            return place.train(train_file="data.json", validation_file="data.json", cache_dir=place.cache)

        def predict(place: Place, rows=(answered, misplaced)):
            place.path("data.json").write_bytes(as_json(rows))
            return place.predict(test_file="data.json", cache_dir=place.cache)

        made += [Case("data", f"{name} in all texts (train)", train, Accepted(both(trains, shown_safely)))]
        made += [Case("data", f"{name} in all texts (predict)", predict, Accepted(both(predicts(*ids), shown_safely)))]
        twice = file_case(
            f"{name} in a refused row",
            as_lines(plain | {"answers": []}, plain | {"answers": []}),
            Refused("data.json", "row 2"),
        )
        made += [twice]
    return made


def cases() -> list[Case]:
    return texts() + answer_values() + impossibles() + nested() + hostile()
