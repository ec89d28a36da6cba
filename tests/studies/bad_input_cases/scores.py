"""Files that `score` and `summary` get."""

import json
import os
from pathlib import Path
from typing import Any

from bad_input_cases.case import Accepted, Case, Either, Expected, Place, Refused, Run, anything, scores_are

CONTEXT = "Ana was born in Bern. Ana keeps a goat."
GOLD = [
    {"id": "q1", "question": "Where?", "context": CONTEXT, "answers": {"text": ["Bern"], "answer_start": [16]}},
    {"id": "q2", "question": "Who?", "context": CONTEXT, "answers": {"text": [], "answer_start": []}},
]
PERFECT = {"q1": "Bern", "q2": ""}
ODDS = {"q1": -3.0, "q2": 4.0}
HUGE = b'{"q1": ' + b"1" * 400 + b', "q2": 4}'
FULL = scores_are(exact=100.0, total=2, NoAns_total=1)
AS_OFFICIAL = scores_are(exact=50.0, total=2, HasAns_total=2)
"""The official scorer goes by the answers alone, so that "" is wrong where one is given."""


def dump(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def score(
    name: str,
    expected: Expected,
    *,
    gold: Any = GOLD,
    predictions: Any = PERFECT,
    odds: Any = None,
    probabilities: Any = None,
    made: Any = None,
    **settings: Any,
) -> Case:
    """Files with these contents; `made(folder)` changes them afterwards."""

    def make(place: Place):
        files = {
            "gold.json": gold,
            "predictions.json": predictions,
            "odds.json": odds,
            "probabilities.json": probabilities,
        }
        for file, content in files.items():
            if content is not None:
                place.path(file).write_bytes(dump(content))
        if made:
            made(place.folder)
        given: dict[str, Any] = dict(validation_file="gold.json", predictions_file="predictions.json")
        given |= {} if odds is None else {"null_odds_file": "odds.json"}
        given |= {} if probabilities is None else {"no_answer_probability_file": "probabilities.json"}
        return place.score(**given | settings)

    return Case("score", name, make, expected)


def fifo(name: str):
    def made(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return made


def folder_at(name: str):
    def made(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return made


def of_predictions() -> list[Case]:
    file = Refused("predictions.json")
    contents: dict[str, tuple[Any, Expected]] = {
        "empty": (b"", file),
        "an empty object": ({}, Refused("q1")),
        "a list": ([PERFECT], file),
        "null": (b"null", file),
        "cut": (dump(PERFECT)[:-5], file),
        "random": (bytes(range(256)), file),
        "UTF-16": (json.dumps(PERFECT).encode("utf-16"), Either(FULL, ("predictions.json",))),
        "Latin-1": ('{"q1": "B\xe4rn", "q2": ""}'.encode("latin-1"), file),
        "a byte order mark": (b"\xef\xbb\xbf" + dump(PERFECT), Either(FULL, ("predictions.json",))),
        "deep": (b"[" * 100_000, file),
        "deep, closed": (b"[" * 100_000 + b"]" * 100_000, file),
        "deep value": (b'{"q1": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", file),
        "integer of 5,000 digits": (b'{"q1": ' + b"1" * 5000 + b', "q2": ""}', Refused("predictions.json")),
        "one missing": ({"q1": "Bern"}, Refused("q2")),
        "a text null": ({"q1": None, "q2": ""}, Refused("q1")),
        "a text a number": ({"q1": 3, "q2": ""}, Refused("q1")),
        "a text nan": ({"q1": float("nan"), "q2": ""}, Refused("q1")),
        "a text a list": ({"q1": ["Bern"], "q2": ""}, Refused("q1")),
        "an n-best list": ({"q1": [{"text": "Bern"}], "q2": [{"text": ""}]}, Refused("q1")),
        "one too many": (PERFECT | {"q3": "x"}, Accepted(FULL)),
        "ids of markup": (PERFECT | {"[/]": "x"}, Accepted(FULL)),
        "half a surrogate": (b'{"q1": "\\ud83d", "q2": ""}', Either(scores_are(exact=50.0, total=2), ("q1",))),
        "a text of a million letters": ({"q1": "Bern " * 200_000, "q2": ""}, Accepted(scores_are(exact=50.0, total=2))),
    }
    made = [
        score(f"predictions {name}", expected, predictions=content) for name, (content, expected) in contents.items()
    ]
    return [
        *made,
        score("predictions a FIFO", file, made=fifo("predictions.json")),
        score("predictions a folder", file, made=folder_at("predictions.json")),
        score("predictions missing", Refused("nowhere.json"), predictions_file="nowhere.json"),
        score("predictions /dev/zero", Refused("/dev/zero"), predictions_file="/dev/zero"),
        score("predictions of markup, missing", Refused("[/]x.json"), predictions_file="[/]x.json"),
    ]


def of_gold() -> list[Case]:
    file = Refused("gold.json")
    alone = [{"id": row["id"], "answers": row["answers"]} for row in GOLD]
    beside = [GOLD[0], GOLD[1] | {"is_impossible": True, "answers": {"text": ["goat"], "answer_start": [34]}}]
    nested = {
        "data": [
            {
                "paragraphs": [
                    {
                        "qas": [
                            {"id": row["id"], "answers": [{"text": text} for text in row["answers"]["text"]]}
                            for row in GOLD
                        ]
                    }
                ]
            }
        ]
    }
    without = [{key: value for key, value in row.items() if key != "answers"} for row in GOLD]
    unplaced = [GOLD[0] | {"answers": [{"text": "Bern"}]}, GOLD[1] | {"answers": []}]
    return [
        score("gold empty", file, gold=b""),
        score("gold random", file, gold=bytes(range(256))),
        score("gold deep", file, gold=b"[" * 100_000),
        score("gold a FIFO", file, made=fifo("gold.json")),
        score("gold a folder", file, made=folder_at("gold.json")),
        score("gold missing", Refused("nowhere.json"), validation_file="nowhere.json"),
        score("gold without answers", Refused("gold.json", "answers"), gold=without),
        score("gold of ids and answers alone", Accepted(FULL), gold=alone),
        score("gold nested, of ids and texts alone", Accepted(FULL), gold=nested),
        score("gold without offsets", Accepted(FULL), gold=unplaced),
        score("gold with is_impossible beside an answer", Accepted(AS_OFFICIAL), gold=beside),
        score("gold with an offset of 400 digits", Either(FULL, ("gold.json",)), gold=[GOLD[0] | {"answers": {"text": ["Bern"], "answer_start": [10**400]}}, GOLD[1]]),
        score("gold with an id twice", Either(anything, ("gold.json", "'q1'")), gold=[GOLD[0], GOLD[0], GOLD[1]]),
        score("gold with half a surrogate", Either(anything, ("gold.json",)), gold=dump(GOLD).replace(b"Bern", b"\\ud83d")),
        score("gold of the predictions' form", Refused("gold.json"), gold=PERFECT),
        score("predictions and gold exchanged", Refused("gold.json"), validation_file="predictions.json", predictions_file="gold.json"),
    ]  # fmt: skip


def of_odds() -> list[Case]:
    file = Refused("odds.json")
    named = Refused("q1")
    with_best = scores_are(exact=100.0, total=2, best_exact=100.0)
    made: dict[str, tuple[Any, Expected]] = {
        "sound": (ODDS, Accepted(with_best)),
        "one missing": ({"q2": 1.0}, named),
        "null": (ODDS | {"q1": None}, named),
        "text": (ODDS | {"q1": "low"}, named),
        "a number as text": (ODDS | {"q1": "3"}, named),
        "true": (ODDS | {"q1": True}, Either(anything, ("q1",))),
        "nan": (ODDS | {"q1": float("nan")}, Either(anything, ("q1",))),
        "infinite": (ODDS | {"q2": float("inf")}, Accepted(with_best)),
        "minus infinite": (ODDS | {"q1": float("-inf")}, Accepted(with_best)),
        "an integer of 400 digits": (HUGE, Either(anything, ("q1",))),
        "an integer of 5,000 digits": (b'{"q1": ' + b"1" * 5000 + b', "q2": 4}', Either(anything, ("odds.json",))),
        "a list": ([1.0, 2.0], file),
        "deep": (b"[" * 100_000, file),
        "cut": (b'{"q1": 1', file),
    }
    cases = [score(f"odds {name}", expected, odds=content) for name, (content, expected) in made.items()]
    threshold = Refused("no_answer_threshold")
    return [
        *cases,
        score("odds a FIFO", file, odds=ODDS, made=fifo("odds.json")),
        score("threshold nan", threshold, odds=ODDS, no_answer_threshold="nan"),
        score("threshold inf", Accepted(with_best), odds=ODDS, no_answer_threshold="inf"),
        score("threshold a word", threshold, odds=ODDS, no_answer_threshold="high"),
        score("threshold without scores", threshold, no_answer_threshold=0.5),
        score("odds as probabilities", Refused("probabilities.json", "q"), probabilities=ODDS),
        score("a probability of 1.5", Refused("probabilities.json", "q1"), probabilities={"q1": 1.5, "q2": 0}),
        score("a probability of 400 digits", Refused("probabilities.json", "q1"), probabilities=HUGE),
        score("a probability nan", Either(anything, ("q1",)), probabilities={"q1": float("nan"), "q2": 0}),
        score("odds and probabilities", Refused("null_odds_file"), odds=ODDS, probabilities={"q1": 0.1, "q2": 0.9}),
    ]


def summary(
    name: str, expected: Expected, content: Any = None, *words: str, made: Any = None, folder: str = "run"
) -> Case:
    """`summary` of one sound run and one with this all_results.json."""

    def make(place: Place):
        for run, scores in ((folder, content), ("sound", {"exact": 70.0, "f1": 80.0})):
            place.path(run).mkdir(parents=True)
            if scores is not None:
                (place.path(run) / "all_results.json").write_bytes(dump(scores))
        if made:
            made(place.folder)
        return Run("summary", [f"{folder}/all_results.json", "sound/all_results.json", *words])

    return Case("summary", name, make, expected)


def of_runs() -> list[Case]:
    file = Refused("run/all_results.json")
    sound = {"exact": 71.0, "f1": 81.0}
    contents: dict[str, Any] = {
        "missing": None,
        "empty": b"",
        "cut": dump(sound)[:-4],
        "a list": [sound],
        "null": b"null",
        "deep": b"[" * 100_000,
        "deep, closed": b"[" * 100_000 + b"]" * 100_000,
        "UTF-16": json.dumps(sound).encode("utf-16"),
        "without f1": {"exact": 71.0},
        "f1 a string": sound | {"f1": "x"},
        "f1 null": sound | {"f1": None},
        "f1 true": sound | {"f1": True},
        "f1 nan": sound | {"f1": float("nan")},
        "f1 infinite": sound | {"f1": float("inf")},
        "f1 of 400 digits": sound | {"f1": 10**400},
        "exact a string": sound | {"exact": "x"},
        "exact null": sound | {"exact": None},
        "exact a list": sound | {"exact": [1]},
        "integer of 5,000 digits": b'{"f1": ' + b"1" * 5000 + b"}",
    }
    made = [summary(name, file, content) for name, content in contents.items()]
    return [
        *made,
        summary("a folder of markup", Accepted(), sound, folder="[/]"),
        summary("a FIFO", file, sound, made=fifo("run/all_results.json")),
        summary("a folder in place of the file", file, sound, made=folder_at("run/all_results.json")),
        summary("output_file a folder", Refused("sound"), sound, "--output_file", "sound"),
        summary("output_file below a file", Refused("x.json"), sound, "--output_file", "sound/all_results.json/x.json"),
        summary("output_file in a missing folder", Accepted(), sound, "--output_file", "new/x.json"),
        summary("output_file empty", Refused("output_file"), sound, "--output_file", ""),
    ]


def cases() -> list[Case]:
    return of_predictions() + of_gold() + of_odds() + of_runs()
