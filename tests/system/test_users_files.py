"""Files as practitioners have them, in small copies, through `prepare`, `score` and `predict`: the figures are right."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from processes import run
from question_files import as_csv, as_json, as_lines
from toy import WINDOWS, Toy, flags

from qa_accel import config
from qa_accel.commands import predict, prepare, score
from qa_accel.distributed import entry

BRIDGE = "The Orrin bridge was opened in 1931 by Dana Holt. It crosses the river Lume near Tarrow."
OPENER = {"text": "Dana Holt", "answer_start": 39}


def cells(number: Any, question: str, text: str, start: int, **other: Any) -> dict[str, Any]:
    row = {"id": number, "question": question, "context": BRIDGE, "answer_text": text, "answer_start": start}
    return row | other


def nested(*questions: dict[str, Any]) -> dict[str, Any]:
    return {"data": [{"paragraphs": [{"context": BRIDGE, "qas": list(questions)}]}]}


def impossible(true: Any, false: Any) -> list[dict[str, Any]]:
    return [
        cells("1", "When was it opened?", "1931", 31, is_impossible=false),
        cells("2", "Who designed it?", "Dana Holt", 39, is_impossible=true),
        cells("3", "Which lake does it cross?", "Lume", 71, is_impossible=true),
    ]


ONE_ANSWER = {"id": "11", "question": "Who opened it?", "is_impossible": False, "answers": [OPENER]}
BLANK_GOLD = nested(
    ONE_ANSWER,
    {"id": "12", "question": "What did it cost?", "is_impossible": False, "answers": [{"text": "", "answer_start": 0}]},
)
FALSE_BUT_EMPTY = nested(
    ONE_ANSWER,
    {"id": "2", "question": "Who designed it?", "is_impossible": False, "answers": []},
    {"id": "3", "question": "Near which town is it?", "is_impossible": False, "answers": []},
)
MRQA = [
    {"header": {"dataset": "X", "split": "train"}},
    {
        "context": BRIDGE,
        "qas": [
            {
                "qid": "q1",
                "question": "When?",
                "answers": ["1931"],
                "detected_answers": [{"text": "1931", "char_spans": [[31, 34]]}],
            }
        ],
    },
]
SEPARATED = "\n".join(
    [";".join(cells("1", "Who?", "Dana Holt", 39)), ";".join(map(str, cells("1", "Who?", "Dana Holt", 39).values()))]
)

READABLE = {
    # name: (file, predictions that are all right, questions without answer)
    "impossible_as_text.csv": (as_csv(impossible("True", "False")), {"1": "1931", "2": "", "3": ""}, 2),
    "impossible_as_int.json": (as_json(impossible(1, 0)), {"1": "1931", "2": "", "3": ""}, 2),
    "blank_gold.json": (as_json(BLANK_GOLD), {"11": "Dana Holt", "12": ""}, 1),
    "false_but_empty.json": (as_json(FALSE_BUT_EMPTY), {"11": "Dana Holt", "2": "", "3": ""}, 2),
    "answer_column.csv": (
        as_csv([{"id": 1, "context": BRIDGE, "question": "Who?", "answer": "Dana Holt", "answer_start": 39}]),
        {"1": "Dana Holt"},
        0,
    ),
    "paragraph_list.json": (as_json([{"context": BRIDGE, "qas": [ONE_ANSWER]}]), {"11": "Dana Holt"}, 0),
    "mrqa.jsonl": (as_lines(MRQA), {"q1": "1931"}, 0),
    "semicolon.csv": (lambda path: path.write_text(SEPARATED), {"1": "Dana Holt"}, 0),
    "tab.csv": (lambda path: path.write_text(SEPARATED.replace(";", "\t")), {"1": "Dana Holt"}, 0),
    "tab.tsv": (lambda path: path.write_text(SEPARATED.replace(";", "\t")), {"1": "Dana Holt"}, 0),
}


def prepared(toy: Toy, folder: Path, **data: Any) -> dict[str, Any]:
    """The counts in data_report.json."""
    words = flags(model_name_or_path=toy.model, output_dir=folder / "prepared", cache_dir=folder / "cache", **data)
    words += flags(**WINDOWS)
    prepare.run(config.parse(prepare.Config, words))
    return json.loads((folder / "prepared" / "data_report.json").read_text())


@pytest.mark.parametrize("name", READABLE)
def test_the_file_is_prepared_and_perfect_predictions_score_100(name, toy, tmp_path):
    """Breaks if a plausible or blank answer becomes gold, a question is lost, or `score` reads what training does not."""
    write, predictions, without_answer = READABLE[name]
    write(tmp_path / name)
    counts = prepared(toy, tmp_path, train_file=tmp_path / name)["train"]["questions"]
    assert (counts["questions"], counts["without_answer"]) == (len(predictions), without_answer)
    assert counts["dropped_ids"] == counts["misplaced_answers"] == []
    as_json(predictions)(tmp_path / "predictions.json")
    figures = score.scores(
        score.ScoreConfig(validation_file=(str(tmp_path / name),), predictions_file=str(tmp_path / "predictions.json"))
    )
    assert (figures["exact"], figures["f1"], figures["total"]) == (100.0, 100.0, len(predictions))
    # the official scorer takes a blank text for an answer, which "" matches
    assert figures.get("NoAns_total", 0) == (0 if name == "blank_gold.json" else without_answer)


def test_what_contradicts_itself_is_said_and_listed(toy, tmp_path, caplog):
    """Breaks if nobody hears that two questions may only wait for their annotation."""
    as_json(FALSE_BUT_EMPTY)(tmp_path / "false_but_empty.json")
    with caplog.at_level(logging.WARNING):
        report = prepared(toy, tmp_path, train_file=tmp_path / "false_but_empty.json")
    assert "is_impossible is false, but there is no answer in 2 of 3 questions, the first id '2'" in caplog.text
    assert report["train"]["questions"]["possible_without_answer_ids"] == ["2", "3"]


def test_a_folder_keeps_the_ids_of_its_table(toy, tmp_path):
    """Breaks if `datasets` reads the table: predictions would be kept under 7 and 8."""
    folder = tmp_path / "folder"
    folder.mkdir()
    as_csv([cells("007", "Who opened it?", "Dana Holt", 39), cells("008", "Who?", "1932", 31)])(folder / "train.csv")
    report = prepared(toy, tmp_path, dataset_name=folder)["train"]["questions"]
    assert (report["questions"], report["dropped_ids"]) == (2, ["008"])


def drop(number: int) -> dict[str, Any]:
    answer = {"number": "1931", "date": {}, "spans": []}
    return {"passage": BRIDGE, "qa_pairs": [{"question": "When?", "query_id": f"x{number}", "answer": answer}]}


NULL_ANSWERS = [{"id": "1", "question": "Who?", "context": BRIDGE, "answers": None}]
REFUSED = {
    "answers_all_null.json": (NULL_ANSWERS, "'answers' is there, but it is null or empty in every row"),
    "keyed_by_document.json": ({f"doc_{i}": drop(i) for i in range(30)}, "doc_9 and 20 more, .*DROP's layout"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_file_is_refused_with_what_is_wrong_and_what_to_do(name, toy, tmp_path):
    content, message = REFUSED[name]
    as_json(content)(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        prepared(toy, tmp_path, train_file=tmp_path / name)


def predict_script(words: list[str]) -> None:
    entry.main(lambda: predict.run(config.parse(predict.PredictConfig, words)))


def test_a_model_that_says_no_answer_is_right_about_a_blank_gold(shared, tmp_path):
    """Breaks if the data is taken for SQuAD v1.1: then "What did it cost?" is answered with a whole sentence."""
    as_json(BLANK_GOLD)(tmp_path / "blank_gold.json")
    words = flags(
        model_name_or_path=shared / "models" / "minilm-squad2",
        test_file=tmp_path / "blank_gold.json",
        cache_dir=tmp_path / "cache",
        output_dir=tmp_path / "answers",
    )
    [left] = run(predict_script, words)
    assert left.code == 0, left.output
    assert json.loads((tmp_path / "answers" / "predictions.json").read_text()) == {"11": "Dana Holt", "12": ""}
    figures = json.loads((tmp_path / "answers" / "all_results.json").read_text())
    assert (figures["exact"], figures["NoAns_total"]) == (100.0, 1)
