"""Four questions with text that readers like to change, and files that hold questions in each of the forms."""

import csv
import json

from qa_accel.data.settings import DataConfig

# Offsets by hand, in characters: the rocket is one (four bytes, two UTF-16 units), the combining tilde is another.
ADA = "🚀 Ada is in Sa\u0303o Paulo.  "
SODIUM = "Line one\r\nNA\u00a0is sodium."
DATE = "On 2008-01-01 it began."
QUESTIONS = [
    {
        "id": "a1",
        "question": "Where is Ada?",
        "context": ADA,
        "answers": {"text": ["Sa\u0303o Paulo"], "answer_start": [12]},
    },
    {"id": "a2", "question": "  Who rules\u00a0there? ", "context": ADA, "answers": {"text": [], "answer_start": []}},
    # "NA" and a date are what table readers like to turn into a missing value and a time.
    {
        "id": "003",
        "question": "NA",
        "context": SODIUM,
        "answers": {"text": ["NA", "NA\u00a0is"], "answer_start": [10, 10]},
    },
    {"id": "4", "question": "2008-01-01", "context": DATE, "answers": {"text": ["2008-01-01"], "answer_start": [3]}},
]
GROUPS = [("Ada", QUESTIONS[:2]), ("Salt", QUESTIONS[2:3]), ("Dates", QUESTIONS[3:])]


def pairs(answers):
    return [{"text": text, "answer_start": start} for text, start in zip(answers["text"], answers["answer_start"])]


def nested(groups=GROUPS):
    def qa(row):
        impossible = not row["answers"]["text"]
        extra = (
            {"is_impossible": impossible, "plausible_answers": [{"text": "Ada", "answer_start": 2}]}
            if impossible
            else {}
        )
        return {"id": row["id"], "question": row["question"], "answers": pairs(row["answers"]), **extra}

    articles = [
        {"title": title, "paragraphs": [{"context": rows[0]["context"], "id": "p", "qas": [qa(row) for row in rows]}]}
        for title, rows in groups
    ]
    return {"version": "v2.0", "data": articles}


def as_json(content, **options):
    return lambda path: path.write_text(json.dumps(content, **options), encoding="utf-8")


def as_lines(rows):
    return lambda path: path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def as_csv(rows):
    def write(path):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    return write


def file_of(folder, content, name="questions.jsonl"):
    """A file of rows or of text, and the settings that train on it with a separate cache."""
    path = folder / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        as_lines(content)(path)
    return DataConfig(train_file=(str(path),), test_file=(str(path),), cache_dir=str(folder / "cache"))


def row(number, **other):
    answers = {"text": ["Paris"], "answer_start": [0]}
    return {"id": f"q{number}", "question": "Where?", "context": "Paris or Rome", "answers": answers} | other
