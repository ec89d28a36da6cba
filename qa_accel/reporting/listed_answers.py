"""A run's n-best lists -> `Answers` that can be judged or joined, checked against the questions that they are said to answer."""

from collections.abc import Mapping
from typing import Any

from qa_accel.inference.answer_lists import NULL_ODDS_WITHOUT_SPAN, Answers, logit_score
from qa_accel.messages import quoted, shown
from qa_accel.reporting.run_files import RunFiles
from qa_accel.run_layout import NBEST, NULL_ODDS, PREDICTIONS


def has_negative(run: RunFiles) -> bool:
    """Whether the run's lists rank "no answer" for every question, as those of SQuAD v2 do."""
    return all(any(not entry["text"] for entry in entries) for entries in (run.nbest or {}).values())


def listed_answers(run: RunFiles, contexts: Mapping[str, str]) -> Answers:
    """The run's answers in the order of `contexts`, which are by id.

    Raises ValueError, with run and question, where lists are missing, are of other questions or of other contexts.
    """
    nbest = run.nbest
    if nbest is None:
        raise ValueError(
            f"{run.path}: holds no {NBEST}; an ensemble joins the n-best lists, which train.py and predict.py write beside "
            "predictions.json"
        )
    for name, found in ((PREDICTIONS, run.predictions), (NBEST, nbest), (NULL_ODDS, run.null_odds or nbest)):
        _check_ids(run, name, found, contexts)
    negative = has_negative(run)
    if run.null_odds is None and not negative:
        raise ValueError(f"{run.path}: holds no {NULL_ODDS}; give the folder that train.py or predict.py wrote")
    lists: dict[str, Any] = {}
    answers = Answers({}, {}, {}, lists)
    for key, context in contexts.items():
        entries: Any = [_checked(run, key, context, entry) for entry in nbest[key]]
        spans = [entry for entry in entries if entry["text"]]
        answers.predictions[key] = run.predictions[key]
        answers.best_texts[key] = spans[0]["text"] if spans else ""
        lists[key] = entries
        if not spans:
            answers.null_odds[key] = NULL_ODDS_WITHOUT_SPAN
        elif negative:
            empty = next(entry for entry in entries if not entry["text"])
            answers.null_odds[key] = logit_score(empty) - logit_score(spans[0])
        else:
            answers.null_odds[key] = (run.null_odds or {})[key]
    return answers


def _check_ids(run: RunFiles, name: str, found: Mapping[str, Any], contexts: Mapping[str, str]) -> None:
    missing = [key for key in contexts if key not in found]
    other = [key for key in found if key not in contexts]
    if missing or other:
        what, keys = ("no answer for", missing) if missing else ("an answer for", other)
        where = "" if missing else ", which the others do not have"
        raise ValueError(
            f"{run.path}: {name} has {what} {len(keys):,} questions{where}, the first is {quoted(keys[0])}; only answers to the same "
            "questions can be joined: answer one file with all models, and give that file with --validation_file if it was moved"
        )


def _checked(run: RunFiles, key: str, context: str, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry, with a score; lists of other programs may have none."""
    place = f"{run.path}: {NBEST}: {quoted(key)}"
    start, end = entry["start"], entry["end"]
    if entry["text"] and not (0 <= start < end and context[start:end] == entry["text"]):
        raise ValueError(
            f"{place}: {quoted(entry['text'])} is not at {shown(start)} to {shown(end)} of the context; the lists are damaged, or of "
            "questions with other contexts"
        )
    score = entry.get("score", entry["probability"])
    numbers = (entry["start_logit"], entry["end_logit"], score)
    if not all(type(number) in (int, float) and abs(number) <= 1e30 for number in numbers):
        wrong = next(number for number in numbers if type(number) not in (int, float) or not abs(number) <= 1e30)
        raise ValueError(
            f"{place}: {quoted(entry['text'])} has {shown(wrong)}, which is no logit; the lists are damaged"
        )
    return entry | {"score": score, "start_logit": float(entry["start_logit"]), "end_logit": float(entry["end_logit"])}
