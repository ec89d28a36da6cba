"""scripts/score.py as its users run it: one JSON object on stdout, or one message on stderr and exit code 2."""

import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qa_accel.commands import score as score_command
from qa_accel.commands.settings.score import ScoreConfig

QUESTIONS = [
    ("capital", "Paris is the capital of France.", [("Paris", 0)]),
    ("river", "The Seine flows there.", [("The Seine", 0), ("Seine", 4)]),
    ("king", "There is no king.", []),
]
PREDICTIONS = {"capital": "Paris", "river": "Seine there", "king": "no king"}


@pytest.fixture
def dev(tmp_path) -> Path:
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": key,
                    "question": f"Which {key}?",
                    "answers": [{"text": text, "answer_start": start} for text, start in golds],
                    "is_impossible": not golds,
                }
            ],
        }
        for key, context, golds in QUESTIONS
    ]
    return write(tmp_path / "dev.json", {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]})


@pytest.fixture
def predictions(tmp_path) -> Path:
    return write(tmp_path / "predictions.json", PREDICTIONS)


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def score(repository: Path, *arguments, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, repository / "scripts" / "score.py", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )


def figures(repository: Path, *arguments) -> dict:
    run = score(repository, *arguments)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    return json.loads(run.stdout)


def message(repository: Path, *arguments) -> str:
    run = score(repository, *arguments)
    assert run.returncode == 2 and run.stdout == "" and "Traceback" not in run.stderr, run.stderr
    return run.stderr


def test_published_predictions_score_what_the_official_scorer_printed(shared, repository, tmp_path):
    """Breaks if the script reads other gold answers, or another default, than the official scorer. (All three systems are
    in test_squad_scores; a run of the script takes two seconds.)"""
    dev, published = shared / "data" / "squad_v2" / "dev.json", shared / "data" / "published_predictions"
    system = published / "nlnet_single.json"
    official = json.loads((published / "official_scores.json").read_text())[system.name]
    given = ("--validation_file", dev, "--predictions_file", system)
    assert figures(repository, *given) == pytest.approx(official["no_threshold"], rel=0, abs=1e-9)
    probability = {
        key: int(hashlib.md5(key.encode()).hexdigest()[:8], 16) / 2**32 for key in json.loads(system.read_text())
    }
    file = write(tmp_path / "probability.json", probability)
    found = figures(repository, *given, "--no_answer_probability_file", file, "--no_answer_threshold", "0.5")
    assert found == pytest.approx(official["md5_no_answer_probability"], rel=0, abs=1e-9)


def test_it_imports_no_torch_and_prints_one_object(dev, predictions, repository):
    """Breaks if a module that it needs comes to import torch (8 s), or says something on stdout."""
    given = ("--validation_file", dev, "--predictions_file", predictions)
    run = score(repository, *given, options=("-X", "importtime"))
    assert run.returncode == 0
    imported = {line.rsplit("|", 1)[1].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert "qa_accel.evaluation.squad_scores" in imported, "the list of imports is what it is taken for"
    assert not {name for name in imported if name.split(".")[0] in ("torch", "transformers", "evaluate")}
    found = json.loads(run.stdout)
    assert found["exact"] == pytest.approx(100 / 3) and found["total"] == 3


def test_null_odds_give_best_thresholds_and_leave_the_texts_as_they_are(dev, predictions, repository, tmp_path):
    """Breaks if null odds without a threshold are compared with 1, or with 0: the right answer's odds are above both."""
    odds = write(tmp_path / "null_odds.json", {"capital": 2.5, "river": 9.0, "king": 4.0})
    given = ("--validation_file", dev, "--predictions_file", predictions, "--null_odds_file", odds)
    untouched = figures(repository, *given)
    assert (untouched["HasAns_exact"], untouched["NoAns_exact"]) == (50.0, 0.0)
    assert (untouched["best_exact"], untouched["best_exact_thresh"]) == (pytest.approx(200 / 3), 2.5)
    at_three = figures(repository, *given, "--no_answer_threshold", "3")
    assert (at_three["HasAns_exact"], at_three["NoAns_exact"]) == (50.0, 100.0)


def test_it_reads_the_gold_answers_in_any_form_that_training_reads(predictions, repository, tmp_path):
    """Breaks if scoring had a separate reader. Rows, gzipped, in two files, with a column of another name."""
    rows = [
        {
            "key": key,
            "question": "?",
            "context": context,
            "answers": {"text": [text for text, _ in golds], "answer_start": [start for _, start in golds]},
        }
        for key, context, golds in QUESTIONS
    ]
    files = [tmp_path / "first.jsonl.gz", tmp_path / "second.jsonl"]
    files[0].write_bytes(gzip.compress((json.dumps(rows[0]) + "\n").encode()))
    write(files[1], "".join(json.dumps(row) + "\n" for row in rows[1:]))
    given = ("--validation_file", *files, "--predictions_file", predictions, "--id_column", "key")
    assert figures(repository, *given)["HasAns_total"] == 2


def test_predictions_for_other_questions_do_not_count_and_are_mentioned(dev, repository, tmp_path):
    """Breaks if a part of a data set could not be scored with the predictions for all of it, or no line mentions it."""
    more = write(tmp_path / "more.json", {**PREDICTIONS, "moon": "cheese"})
    run = score(repository, "--validation_file", dev, "--predictions_file", more)
    assert run.returncode == 0 and json.loads(run.stdout)["total"] == 3
    assert len(run.stderr.splitlines()) == 1 and "1 predictions do not count" in run.stderr and "'moon'" in run.stderr


def of_files(folder: Path, gold, predictions, **other) -> dict:
    """The figures for these contents, without a process of its own."""
    dev, given = write(folder / "gold.json", gold), write(folder / "given.json", predictions)
    return score_command.scores(ScoreConfig(validation_file=(str(dev),), predictions_file=str(given), **other))


def nested_gold(*questions: dict) -> dict:
    return {"data": [{"paragraphs": [{"qas": list(questions)}]}]}


def test_ids_and_answers_are_all_that_a_gold_file_needs(tmp_path):
    """The official scorer reads neither title, context, question nor answer_start. Breaks if they are required."""
    nested = nested_gold({"id": "a", "answers": [{"text": "Paris"}]}, {"id": "b", "answers": []})
    rows = [{"id": "a", "answers": ["Rome", "Paris"]}, {"id": "b", "answers": {"text": []}}]
    for gold in (nested, rows):
        found = of_files(tmp_path, gold, {"a": "Paris", "b": "x"})
        assert (found["exact"], found["HasAns_total"], found["NoAns_exact"]) == (50.0, 1, 0.0)


def test_answers_count_whatever_is_impossible_says_as_in_the_official_scorer(tmp_path):
    """It takes a question for answerable if its list of answers is not empty. Breaks if the list is refused or ignored."""
    gold = nested_gold(
        {"id": "a", "is_impossible": True, "answers": [{"text": "Paris", "answer_start": 0}]},
        {"id": "b", "is_impossible": "perhaps", "answers": [{"text": "Rome", "answer_start": 0}]},
        {"id": "c", "is_impossible": False, "answers": []},
    )
    found = of_files(tmp_path, gold, {"a": "Paris", "b": "", "c": ""})
    assert (found["exact"], found["HasAns_exact"], found["HasAns_total"]) == (pytest.approx(200 / 3), 50.0, 2)
    assert (found["NoAns_exact"], found["NoAns_total"]) == (100.0, 1)


def test_blank_and_odd_gold_texts_count_as_in_the_official_scorer(tmp_path):
    """A blank text is an answer that "" matches, and is passed over beside another one; half a surrogate is a text."""
    gold = nested_gold(
        {"id": "a", "answers": [{"text": ""}]},
        {"id": "b", "answers": [{"text": ""}, {"text": "Rome"}]},
        {"id": "c", "answers": [{"text": "half \ud83d"}]},
    )
    found = of_files(tmp_path, gold, {"a": "", "b": "", "c": "half \ud83d"})
    assert (found["exact"], found["HasAns_total"]) == (pytest.approx(200 / 3), 3)
    assert "NoAns_total" not in found


def test_text_without_blanks_is_scored_by_whole_answers_as_in_the_official_scorer(tmp_path):
    """The official definitions know words between blanks: one character more, or a full stop of another script, is wrong."""
    gold = [
        {"id": "1", "answers": {"text": ["霍爾特"], "answer_start": [10]}},
        {"id": "2", "answers": {"text": ["一九三一年"], "answer_start": [4]}},
    ]
    found = of_files(tmp_path, gold, {"1": "由霍爾特", "2": "一九三一年。"})
    assert (found["exact"], found["f1"]) == (0.0, 0.0)


def test_a_repeated_id_is_refused_and_not_counted_once(tmp_path):
    """The official scorer takes the last of the two in silence, so that its total is not the number of questions."""
    gold = nested_gold({"id": "a", "answers": [{"text": "Paris"}]}, {"id": "a", "answers": []})
    with pytest.raises(ValueError, match=r"row 2 .*: id 'a' is a duplicate of .*row 1; ids must differ"):
        of_files(tmp_path, gold, {"a": ""})


def test_null_odds_may_be_infinite_and_nothing_else_that_is_no_number(tmp_path):
    """Infinity is what others write for "no span", and JSON of Python reads it. Above 0, it empties the answer."""
    gold = nested_gold({"id": "a", "answers": [{"text": "Paris"}]}, {"id": "b", "answers": []})
    odds = tmp_path / "odds.json"
    given: dict[str, Any] = {"null_odds_file": str(odds), "no_answer_threshold": 0.0}
    write(odds, '{"a": -Infinity, "b": Infinity}')
    found = of_files(tmp_path, gold, {"a": "Paris", "b": "x"}, **given)
    assert (found["exact"], found["best_exact"], found["best_exact_thresh"]) == (100.0, 100.0, -math.inf)
    for wrong, shown in (("NaN", "'nan'"), ("1" * 400, "'1111"), ('"1"', "'1'"), ("true", "'True'"), ("null", "null")):
        write(odds, f'{{"a": 1, "b": {wrong}}}')
        with pytest.raises(ValueError, match=f"'b': a no-answer score is a number .*found {shown}") as caught:
            of_files(tmp_path, gold, {"a": "Paris", "b": "x"}, **given)
        assert len(str(caught.value)) < 200
    given["no_answer_threshold"] = math.nan
    with pytest.raises(ValueError, match="--no_answer_threshold must be a number, got nan"):
        of_files(tmp_path, gold, {"a": "Paris", "b": "x"}, **given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "given.json: is not JSON .nested too deep"),
        ('{"a": ' + "7" * 5000 + "}", "given.json: is not JSON .an integer has thousands of digits"),
        ('{"a": ' + "7" * 4000 + "}", "'a': a prediction is a text .*found '7{40}'"),
        ('{"' + "x" * 1_000_000 + '": "y", "a": []}', "'a': a prediction is a text"),
        ("{}", "1 question .'a'. has no prediction"),
    ],
)
def test_odd_predictions_end_in_a_short_message(content, message, tmp_path):
    """Breaks with a RecursionError, or a plain ValueError out of json that names no file."""
    with pytest.raises(ValueError, match=message) as caught:
        of_files(tmp_path, nested_gold({"id": "a", "answers": [{"text": "Paris"}]}), content)
    assert len(str(caught.value)) < 400


def test_pipes_and_devices_are_refused(dev, predictions, tmp_path):
    """Breaks if one is opened: /dev/zero never ends, and a pipe may have no writer."""
    os.mkfifo(tmp_path / "pipe")
    for special in ("/dev/zero", str(tmp_path / "pipe")):
        good = {"validation_file": (str(dev),), "predictions_file": str(predictions)}
        for name in ("validation_file", "predictions_file", "null_odds_file", "no_answer_probability_file"):
            value = (special,) if name == "validation_file" else special
            with pytest.raises(ValueError, match=f"{special}: is a (device|pipe), not a regular file"):
                score_command.scores(ScoreConfig(**(good | {name: value})))


def test_mistakes_end_in_one_message_and_exit_code_2(dev, predictions, repository, tmp_path):
    """Breaks if a mistake gives a traceback, half an output, or figures over fewer questions than there are."""
    few = write(tmp_path / "few.json", {"capital": "Paris"})
    broken = write(tmp_path / "broken.json", '{"capital": ')
    rows = write(tmp_path / "rows.json", [{"id": "capital", "prediction_text": "Paris"}])
    odds = write(tmp_path / "odds.json", {"capital": 2.5, "river": 0.5, "king": -4})
    no_gold = write(tmp_path / "no_gold.json", [{"id": "capital", "question": "?", "context": "Paris"}])
    good = ("--validation_file", dev, "--predictions_file", predictions)
    for arguments, expected in (
        (("--validation_file", dev, "--predictions_file", few), "2 questions ('river', 'king') have no prediction"),
        (("--validation_file", dev, "--predictions_file", broken), "broken.json: is not JSON"),
        (("--validation_file", dev, "--predictions_file", rows), "expected one JSON object"),
        (("--validation_file", dev, "--predictions_file", tmp_path / "absent.json"), "absent.json: cannot be read"),
        (("--validation_file", tmp_path / "absent.json", "--predictions_file", predictions), "absent.json"),
        (("--validation_file", no_gold, "--predictions_file", few), "nothing to score against"),
        ((*good, "--no_answer_probability_file", odds), "'capital': 2.5 is not a probability"),
        ((*good, "--no_answer_threshold", "0.5"), "--no_answer_threshold has nothing to compare with"),
    ):
        said = message(repository, *arguments)
        assert expected in said and len(said.splitlines()) == 1, said
