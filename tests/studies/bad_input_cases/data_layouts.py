"""Layouts that practitioners have: each is read rightly, in training and by the scorer, or refused with a way out.

A layout that is read is tried twice: `prepare` counts questions and misplaced answers, and `score` gives 100 to the perfect
predictions, so ids, texts and offsets are all checked.
"""

import gzip
import json
from typing import Any

from bad_input_cases.case import (
    Accepted,
    Case,
    Check,
    Either,
    Expected,
    Place,
    Refused,
    both,
    report_has,
    says,
    scores_are,
)
from bad_input_cases.data_files import as_json, as_lines, file_case

BRIDGE = "The Orrin bridge was opened in 1931 by Dana Holt. It crosses the river Lume near Tarrow."
WHO, WHEN = "Who opened the bridge?", "When was the bridge opened?"
IN_1931 = {"text": "1931", "answer_start": 31}
BY_HOLT = {"text": "Dana Holt", "answer_start": 39}
HEADER = "id,question,context,answer_text,answer_start"


def read_case(
    name: str,
    content: bytes,
    gold: dict[str, str],
    *,
    file: str = "data.json",
    also: Check | None = None,
    blanks_are_none: bool = True,
) -> list[Case]:
    """`gold`: id -> the answer that must be read, "" for none.

    blanks_are_none: False for blank texts, which the official scorer counts as answers.
    """
    negative = sum(not text for text in gold.values())
    counts = report_has(
        questions=len(gold), without_answer=negative, misplaced_answers=0, windows_with_answer=len(gold) - negative
    )
    figures: dict[str, float] = {"exact": 100.0, "total": len(gold)} | (
        {"NoAns_total": negative} if negative and blanks_are_none else {}
    )

    def score(place: Place):
        place.path(file).write_bytes(content)
        place.path("predictions.json").write_text(json.dumps(gold))
        return place.score(validation_file=file, predictions_file="predictions.json")

    return [
        file_case(f"{name} (prepare)", content, Accepted(both(counts, also) if also else counts), file=file),
        Case("data", f"{name} (score)", score, Accepted(scores_are(**figures))),
    ]


def question(number: int, text: str, answers: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
    return {"id": number, "question": text, "answers": answers} | other


def squad(*questions: dict[str, Any], context: str = BRIDGE) -> dict[str, Any]:
    return {"data": [{"title": "Bridges", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def row(identifier: Any, text: str, answers: Any, context: str = BRIDGE, **other: Any) -> dict[str, Any]:
    return {"id": identifier, "question": text, "context": context, "answers": answers} | other


MRQA = [
    {"header": {"dataset": "X", "split": "train"}},
    {
        "id": "",
        "context": BRIDGE,
        "qas": [
            {
                "qid": "q1",
                "question": WHEN,
                "answers": ["1931"],
                "detected_answers": [{"text": "1931", "char_spans": [[31, 34]], "token_spans": [[6, 6]]}],
            }
        ],
    },
]
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"text": BRIDGE, "question": WHO},
        "annotations": [
            {"result": [{"value": {"start": 39, "end": 48, "text": "Dana Holt", "labels": ["Answer"]}, "from_name": "answer"}]}
        ],
    }
]  # fmt: skip
CMRC = [
    {
        "context_id": "T0",
        "context_text": BRIDGE,
        "title": "t",
        "qas": [{"query_id": "T0_1", "query_text": WHO, "answers": ["Dana Holt"]}],
    }
]
KORQUAD_2 = {"data": [{"title": "t", "context": BRIDGE, "qas": [{"id": "1", "question": WHO, "answer": BY_HOLT}]}]}
DROP = {
    f"doc_{n}": {
        "passage": BRIDGE,
        "qa_pairs": [{"question": WHEN, "query_id": f"x{n}", "answer": {"number": "1931", "spans": []}}],
    }
    for n in range(60)
}
MULTI_SPAN = {
    "data": [
        {
            "id": "1",
            "question": WHO.split(),
            "context": BRIDGE.split(),
            "label": ["O"] * 6 + ["B"] + ["O"] * 10,
            "num_span": 1,
        }
    ]
}
NEWSQA = {
    "data": [
        {"storyId": "a", "type": "train", "text": BRIDGE, "questions": [{"q": WHO, "consensus": {"s": 39, "e": 49}}]},
        {"storyId": "b", "type": "dev", "text": BRIDGE, "questions": [{"q": WHO, "consensus": {"noAnswer": True}}]},
    ]
}
BIOASQ = {
    "questions": [
        {"id": "1", "type": "factoid", "body": WHO, "exact_answer": ["dana holt"], "snippets": [{"text": BRIDGE}]},
        {"id": "2", "type": "yesno", "body": "Is it?", "exact_answer": "yes", "snippets": [{"text": BRIDGE}]},
    ]
}


def read_layouts() -> list[Case]:
    csv = HEADER + f"\n1,{WHO},{BRIDGE},Dana Holt,39\n"
    people, years = question(11, WHO, [BY_HOLT | {"answer_id": 1}]), question(12, WHEN, [IN_1931])
    blank = question(
        12, "What did it cost?", [{"answer_id": 2, "text": "", "answer_start": 0, "answer_category": "NOT_GIVEN"}]
    )
    emoji = f"🚀 {BRIDGE}"
    made = []
    made += read_case(
        "answer and answer_start as columns",
        csv.replace("answer_text", "answer").encode(),
        {"1": "Dana Holt"},
        file="data.csv",
    )
    made += read_case(
        "semicolons", csv.replace(",", ";").encode(), {"1": "Dana Holt"}, file="data.csv", also=says("semicolons")
    )
    made += read_case("tabs", csv.replace(",", "\t").encode(), {"1": "Dana Holt"}, file="data.csv", also=says("tab"))
    made += read_case("a list of paragraphs", as_json(squad(people)["data"][0]["paragraphs"]), {"11": "Dana Holt"})
    made += read_case("paragraphs as lines", as_lines(*squad(people)["data"][0]["paragraphs"]), {"11": "Dana Holt"})
    made += read_case("MRQA", gzip.compress(as_lines(*MRQA)), {"q1": "1931"}, file="data.jsonl.gz")
    made += read_case(
        "a blank gold answer", as_json(squad(people, blank)), {"11": "Dana Holt", "12": ""}, blanks_are_none=False
    )
    made += read_case(
        "document ids beside question ids", as_json(squad(people, years)), {"11": "Dana Holt", "12": "1931"}
    )
    made += read_case(
        "ids with leading zeros", csv.replace("\n1,", "\n007,").encode(), {"007": "Dana Holt"}, file="data.csv"
    )
    made += read_case(
        "dates, numbers and NA as text",
        as_json([row("NA", "2008-01-01", {"text": ["NA"], "answer_start": [0]}, "NA 1.0 true")]),
        {"NA": "NA"},
    )
    made += read_case(
        "offsets behind an emoji",
        as_json([row("1", WHO, [{"text": "Dana Holt", "answer_start": 41}], emoji)]),
        {"1": "Dana Holt"},
    )
    made += read_case("answers as JSON text", as_json([row("1", WHO, json.dumps([BY_HOLT]))]), {"1": "Dana Holt"})
    made += read_case("both texts of one answer", as_json([row("1", WHO, [BY_HOLT, BY_HOLT])]), {"1": "Dana Holt"})
    made += read_case(
        "an accent of two characters",
        as_json([row("1", WHO, [{"text": "Dan\u0303a", "answer_start": 3}], "By Dan\u0303a Holt.")]),
        {"1": "Dan\u0303a"},
    )
    made += read_case(
        "an answer with a leading blank",
        as_json([row("1", WHO, [{"text": " Dana Holt", "answer_start": 38}])]),
        {"1": "Dana Holt"},
    )
    made += read_case(
        "a line break of Windows in the context",
        as_json([row("1", WHO, [{"text": "Holt", "answer_start": 6}], "Dana\r\nHolt")]),
        {"1": "Holt"},
    )
    return made  # fmt: skip


def impossible_layouts() -> list[Case]:
    """`is_impossible` with the plausible answer in the answer's columns: training refuses or reads it, scoring scores it."""
    rows = [
        ("1", WHEN, IN_1931, False),
        ("2", "Who designed it?", BY_HOLT, True),
        ("3", "Which lake?", {"text": "Lume", "answer_start": 71}, True),
    ]
    made = []
    for name, spell in {
        "text": str,
        "an integer": int,
        "lower-case text": lambda value: str(value).lower(),
        "true": bool,
    }.items():
        listed = [
            {
                "id": i,
                "question": q,
                "context": BRIDGE,
                "answer_text": a["text"],
                "answer_start": a["answer_start"],
                "is_impossible": spell(no),
            }
            for i, q, a, no in rows
        ]
        made += _plausible(f"is_impossible as {name}", as_json(listed), "data.json")
    lines = [f"{i},{q},{BRIDGE},{a['text']},{a['answer_start']},{no}" for i, q, a, no in rows]
    made += _plausible("is_impossible in csv", "\n".join([HEADER + ",is_impossible", *lines, ""]).encode(), "data.csv")
    return made  # fmt: skip


def _plausible(name: str, content: bytes, file: str) -> list[Case]:
    def score(place: Place):
        place.path(file).write_bytes(content)
        place.path("predictions.json").write_text(json.dumps({"1": "1931", "2": "", "3": ""}))
        return place.score(validation_file=file, predictions_file="predictions.json")

    counts = report_has(questions=3, without_answer=2, windows_with_answer=1)
    return [
        file_case(
            f"{name} beside a plausible answer (prepare)",
            content,
            Either(counts, (file, "row 2", "is_impossible")),
            file=file,
        ),
        Case(
            "data",
            f"{name} beside a plausible answer (score)",
            score,
            Accepted(scores_are(exact=100.0, total=3, NoAns_total=2)),
        ),
    ]


def other_layouts() -> list[Case]:
    """Not read, or read with something to say."""
    made: list[tuple[str, bytes, str, Expected]] = [
        ("DROP: keyed by document", as_json(DROP), "data.json", Refused("data.json")),
        ("Label Studio's export", as_json(LABEL_STUDIO), "data.json", Accepted(report_has(questions=1, misplaced_answers=0, windows_with_answer=1))),
        ("CMRC's own layout", as_json(CMRC), "data.json", Accepted(report_has(questions=1, misplaced_answers=0, windows_with_answer=1))),
        ("KorQuAD 2's layout", as_json(KORQUAD_2), "data.json", Accepted(report_has(questions=1, misplaced_answers=0, windows_with_answer=1))),
        ("MultiSpanQA's token lists", as_json(MULTI_SPAN), "data.json", Accepted(report_has(questions=1, misplaced_answers=0, windows_with_answer=1))),
        ("NewsQA's stories", as_json(NEWSQA), "data.json", Accepted(both(report_has(questions=1, misplaced_answers=0, windows_with_answer=1), says("type dev")))),
        ("BioASQ's questions", as_json(BIOASQ), "data.json", Accepted(both(report_has(questions=1, misplaced_answers=0, windows_with_answer=1), says("yesno")))),
        ("a list of texts as answers", as_json([row("1", WHO, ["Dana Holt"])]), "data.json", Refused("data.json", "row 1", "answer_start")),
        ("MRQA without char_spans", as_lines(MRQA[0], {"context": BRIDGE, "qas": [{"qid": "1", "question": WHO, "answers": ["x"]}]}), "data.jsonl", Refused("data.jsonl")),
        ("csv without ids", f"question,context,answer_text,answer_start\n{WHO},{BRIDGE},Dana Holt,39\n".encode(), "data.csv", Refused("data.csv", "'id'", "--id_column")),
        ("csv of pandas, its index first", f",question,context,answer_text,answer_start\n0,{WHO},{BRIDGE},Dana Holt,39\n".encode(), "data.csv", Refused("data.csv", "'id'", "pandas' index")),
        ("offsets in UTF-16 units", as_json([row("1", WHO, [BY_HOLT]), row("2", WHO, [{"text": "Dana Holt", "answer_start": 42}], f"🚀 {BRIDGE}")]), "data.json", Accepted(report_has(questions=2, dropped_ids=1))),
        ("offsets in bytes", as_json([row("1", WHO, [BY_HOLT]), row("2", WHO, [{"text": "Dana Holt", "answer_start": 44}], f"🚀 {BRIDGE}")]), "data.json", Accepted(report_has(questions=2, dropped_ids=1))),
        ("two languages with the same ids", as_json([row("1", WHO, [BY_HOLT]), row("1", "Wer?", [BY_HOLT])]), "data.json", Refused("data.json", "row 2", "'1'")),
        ("half the rows annotated", as_json([row("1", WHO, [BY_HOLT]), {"id": "2", "question": WHEN, "context": BRIDGE}]), "data.json", Refused("data.json", "answers")),
        ("is_impossible false without answers", as_json(squad(question(1, WHEN, [IN_1931], is_impossible=False), question(2, WHO, [], is_impossible=False))), "data.json", Either(both(report_has(questions=2), says("is_impossible is false, but there is no answer")), ("data.json", "row 2"))),
        ("an answer that no window holds", as_json([row("1", WHO, [{"text": ("word " * 120).strip(), "answer_start": 0}], "word " * 120)]), "data.json", Accepted(report_has(questions=1, lost_answer_ids=1))),
        ("answers_column names text", as_json([row("1", WHO, [BY_HOLT])]), "data.json", Refused("data.json", "row 1")),
    ]  # fmt: skip
    found = [file_case(name, content, expected, file=file) for name, content, file, expected in made[:-1]]
    name, content, file, expected = made[-1]
    found.append(file_case(name, content, expected, file=file, answers_column="question", question_column="answers"))
    return [*found, two_clauses(), all_null_validation()]


def two_clauses() -> Case:
    """Each of the two gold answers is in windows of its own; both kinds are to be counted as windows with an answer, or said."""
    filler = "Nothing is said here. " * 12
    text = f"The fee is 500 dollars. {filler}The fine is 70 dollars. {filler}"
    answers = [
        {"text": "500 dollars", "answer_start": text.index("500")},
        {"text": "70 dollars", "answer_start": text.index("70 dollars")},
    ]

    def labelled(place: Place, output: str) -> str | None:
        found = json.loads((place.output / "data_report.json").read_text())["train"]["windows"]
        first = found["windows_with_answer"]
        alone = report_has(windows_with_answer=1)(place, output) is None
        return (
            f"only {first} window is labelled, and no word of the other answer"
            if alone and "other" not in output
            else None
        )

    return file_case("two gold answers far apart", as_json([row("1", WHO, answers, text)]), Accepted(labelled))


def all_null_validation() -> Case:
    def make(place: Place):
        place.path("train.json").write_bytes(as_json([row("1", WHO, [BY_HOLT])]))
        place.path("dev.json").write_bytes(as_json([row("1", WHO, None), row("2", WHEN, None)]))
        return place.prepare(train_file="train.json", validation_file="dev.json")

    return Case("data", "validation file whose answers are all null", make, Refused("dev.json", "null"))


def cases() -> list[Case]:
    return read_layouts() + impossible_layouts() + other_layouts()
