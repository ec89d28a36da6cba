"""Folders of answers made by hand, as predict.py or train.py would have left them: no model is needed to test what reads them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

NAMES = ("Ada", "Ben", "Cleo", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jule")


def context_of(place: int) -> str:
    return f"{NAMES[place % 10]} number {place} was born in Lima in 1903 and died in Oslo in 1970."


def question_rows(contexts: int = 10) -> list[dict[str, Any]]:
    """Of each context four questions, the last one without answer."""
    rows = []
    for place in range(contexts):
        context = context_of(place)
        for number, (question, answer) in enumerate(
            (
                ("Where was {} born?", "Lima"),
                ("When did {} die?", "1970"),
                ("Where did {} die?", "Oslo"),
                ("Who is {}?", None),
            )
        ):
            starts = [] if answer is None else [context.index(answer)]
            rows.append(
                {
                    "id": f"{place}-{number}",
                    "title": f"title {place % 2}",
                    "question": question.format(NAMES[place % 10]),
                    "context": context,
                    "answers": {"text": [] if answer is None else [answer], "answer_start": starts},
                }
            )
    return rows


def write_questions(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text(json.dumps({"data": list(rows)}), encoding="utf-8")
    return path


def entry(context: str, text: str, score: float) -> dict[str, Any]:
    start = context.index(text) if text else 0
    logits = {"start_logit": score / 2, "end_logit": score / 2}
    return {"text": text, "probability": 0.0, "score": 0.5, **logits, "start": start, "end": start + len(text)}


def write_answers(
    folder: Path,
    questions: Path,
    answers: Mapping[str, tuple[str, float]],
    *,
    threshold: float = 0.0,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """`answers`: id -> best span and null odds. The n-best lists hold the span and the empty answer, the predictions what
    the threshold leaves of it."""
    rows = {row["id"]: row for row in json.loads(questions.read_text(encoding="utf-8"))["data"]}
    nbest = {}
    for key, (text, odds) in answers.items():
        entries = [entry(rows[key]["context"], text, -odds), entry("", "", 0.0)]
        entries.sort(key=lambda each: -each["start_logit"])
        of_span = 1 / (1 + 2.718281828459045**odds)
        for each in entries:
            each["probability"] = of_span if each["text"] else 1 - of_span
        nbest[key] = entries
    predictions = {key: text if odds <= threshold else "" for key, (text, odds) in answers.items()}
    folder.mkdir(parents=True, exist_ok=True)
    known = {"validation_file": [str(questions)], "cache_dir": str(questions.parent / "cache"), "max_answer_length": 30}
    known |= {"model_name_or_path": "no-such-model", "null_score_diff_threshold": threshold, **(settings or {})}
    for name, content in (
        ("predictions", predictions),
        ("nbest_predictions", nbest),
        ("null_odds", {key: odds for key, (_, odds) in answers.items()}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(known), encoding="utf-8")
    return folder


def right_answers(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    """Right where threshold 0 decides: -4 for a question with an answer, 4 for one without."""
    return {row["id"]: (row["answers"]["text"][0], -4.0) if row["answers"]["text"] else ("1903", 4.0) for row in rows}
