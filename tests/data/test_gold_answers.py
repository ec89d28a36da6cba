"""Which answers of a row are gold: spellings of is_impossible, blank texts, answers in cells of their own."""

import json
import math

import datasets
import pytest
from question_files import as_csv, as_json, as_lines, file_of, row

from qa_accel.data.audit import audit_questions
from qa_accel.data.gold_answers import NO_ANSWER, gold_answers, gold_texts, is_impossible
from qa_accel.data.questions import has_unanswerable, load_questions
from qa_accel.data.settings import DataConfig
from qa_accel.data.splits import Split, version_2_with_negative

PARIS = {"text": ["Paris"], "answer_start": [0]}


def cells(number, text, start, **other):
    return {
        "id": str(number),
        "question": "Where?",
        "context": "Paris or Rome",
        "answer_text": text,
        "answer_start": start,
    } | other


# is_impossible


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "1.0", "true", "True", "TRUE", " true ", "yes", "Yes"])
def test_every_usual_spelling_of_true_counts(value):
    """Breaks if only JSON's true does: in a CSV file, which has no such value, plausible answers became gold."""
    assert is_impossible({"is_impossible": value}) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "0", "0.0", "false", "False", "FALSE", "no"])
def test_every_usual_spelling_of_false_counts(value):
    assert is_impossible({"is_impossible": value}) is False


@pytest.mark.parametrize("values", [{}, {"is_impossible": None}, {"is_impossible": " "}, {"is_impossible": math.nan}])
def test_an_empty_flag_says_nothing(values):
    assert is_impossible(values) is None


@pytest.mark.parametrize("value", ["maybe", 2, -1, 0.5, "nan", ["true"], {}, "x" * 1_000_000])
def test_any_other_flag_is_refused_with_its_row_and_value(value, tmp_path):
    """Breaks if what cannot be read counts as false: then its plausible answer is taught as gold."""
    config = file_of(tmp_path, [cells(1, "Paris", 0, is_impossible=False), cells(2, "Rome", 9, is_impossible=value)])
    with pytest.raises(ValueError, match=r"row 2: id '2': is_impossible is .*; expected one of true, 1") as caught:
        load_questions(config, "train")
    assert str(value)[:3] in str(caught.value) and len(str(caught.value)) < 500


def rows_with_plausible_answers(true, false):
    return [
        cells(1, "Paris", 0, is_impossible=false),
        cells(2, "Rome", 9, is_impossible=true),
        cells(3, "or", 6, is_impossible=true),
    ]


@pytest.mark.parametrize(("true", "false"), [(True, False), (1, 0), ("True", "False")])
@pytest.mark.parametrize("form", ["csv", "json", "parquet", "saved"])
def test_a_plausible_answer_is_not_gold_in_any_format(form, true, false, tmp_path, caplog):
    """Breaks if a format loses the flag. It is said how many there are, at every start and not only at the first."""
    rows, file = rows_with_plausible_answers(true, false), tmp_path / f"train.{form}"
    config = DataConfig(train_file=(str(file),), cache_dir=str(tmp_path / "cache"))
    if form == "csv":
        as_csv(rows)(file)
    elif form == "json":
        as_json(rows)(file)
    elif form == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(file)
    else:
        datasets.Dataset.from_list(rows).save_to_disk(file)
        config = DataConfig(dataset_name=str(file), cache_dir=str(tmp_path / "cache"))
    for _ in range(2):
        caplog.clear()
        questions = load_questions(config, "train")
        assert questions["answers"][:] == [PARIS, NO_ANSWER, NO_ANSWER]
        assert "is_impossible is true beside an answer in 2 of 3 questions, the first id '2'" in caplog.text
    _, report = audit_questions(questions, training=True)
    assert report.without_answer == 2 and report.impossible_with_answer_ids == ("2", "3")


@pytest.mark.parametrize("true", [True, 1, "True"])
def test_true_beside_a_list_of_answers_is_refused_in_every_spelling(true, tmp_path):
    """The list is for gold answers, so one of the two is wrong; the cells are the only place for a plausible one."""
    with pytest.raises(ValueError, match="is_impossible is true, but the answer 'Paris' is given; take out one"):
        load_questions(file_of(tmp_path, [row(1, is_impossible=true)]), "train")
    in_a_cell = row(1, is_impossible=true, answers=json.dumps(PARIS))
    with pytest.raises(ValueError, match="is_impossible is true, but the answer 'Paris' is given; take out one"):
        load_questions(file_of(tmp_path, [in_a_cell]), "train")


def test_false_without_an_answer_counts_as_no_answer_and_is_said(tmp_path, caplog):
    """It may be a question that nobody has annotated yet. The opposite contradiction is refused."""
    rows = [row(1, is_impossible=False), *(row(n, is_impossible=False, answers=[]) for n in (2, 3)), row(4, answers=[])]
    questions = load_questions(file_of(tmp_path, rows), "train")
    assert "is_impossible is false, but there is no answer in 2 of 4 questions, the first id 'q2'" in caplog.text
    _, report = audit_questions(questions, training=True)
    assert report.without_answer == 3 and report.possible_without_answer_ids == ("q2", "q3")


def test_a_flag_that_agrees_with_the_answers_is_not_mentioned(tmp_path, caplog):
    questions = load_questions(
        file_of(tmp_path, [row(1, is_impossible=False), row(2, is_impossible=1, answers=[])]), "train"
    )
    assert "is_impossible" not in caplog.text and "contradiction" not in questions.column_names


# Blank answers


@pytest.mark.parametrize(
    "blank",
    [
        [{"text": "", "answer_start": 0}],
        [{"text": "", "answer_start": -1}, {"text": " \n", "answer_start": None}],
        {"text": [""], "answer_start": [0]},
        json.dumps({"text": [""], "answer_start": [0]}),
    ],
)
def test_blank_answers_alone_mean_no_answer(blank, tmp_path):
    """Breaks if predict.py takes such data for SQuAD v1.1, which never answers "", or training drops the question."""
    config = file_of(tmp_path, [row(1), row(2, answers=blank)])
    questions = load_questions(config, "test")
    assert questions["answers"][:] == [PARIS, NO_ANSWER]
    assert has_unanswerable(questions)
    assert version_2_with_negative(config, Split(questions, windows=None))  # type: ignore[arg-type]
    kept, report = audit_questions(load_questions(config, "train"), training=True)
    assert len(kept) == 2 and report.dropped_ids == ()


def test_a_blank_cell_means_no_answer_whatever_is_beside_it(tmp_path):
    rows = [cells(1, "Paris", 0), cells(2, "", 0), cells(3, " ", -1), cells(4, "", "")]
    as_csv(rows)(tmp_path / "cells.csv")
    config = DataConfig(train_file=(str(tmp_path / "cells.csv"),), cache_dir=str(tmp_path))
    assert load_questions(config, "train")["answers"][:] == [PARIS, NO_ANSWER, NO_ANSWER, NO_ANSWER]


def test_a_blank_among_real_answers_does_not_count():
    """As in the official scorer, which passes over gold answers without a word if another one has some."""
    answers = {"text": ["", "Rome", "Rome or"], "answer_start": [0, 9, 9]}
    assert gold_answers({"answers": answers}, "answers").answers == {
        "text": ["Rome", "Rome or"],
        "answer_start": [9, 9],
    }


def test_an_answer_of_punctuation_is_not_blank():
    """Breaks if text is judged by the words that count: "?" may be the answer in a text on punctuation."""
    assert gold_answers({"answers": {"text": ["?"], "answer_start": [3]}}, "answers").answers == {
        "text": ["?"],
        "answer_start": [3],
    }


def test_version_1_refuses_a_blank_answer_like_an_empty_list(tmp_path):
    path = file_of(tmp_path, [row(1), row(2, answers=[{"text": "", "answer_start": 0}])]).train_file
    config = DataConfig(train_file=path, cache_dir=str(tmp_path), version_2_with_negative=False)
    with pytest.raises(ValueError, match="id 'q2' has no answer, but version_2_with_negative is false"):
        load_questions(config, "train")


# Cells of their own


def test_the_cells_may_be_called_answer_and_answer_start(tmp_path):
    rows = [{"id": 1, "question": "Where?", "context": "Paris or Rome", "answer": "Rome", "answer_start": 9}]
    as_csv(rows)(tmp_path / "cells.csv")
    config = DataConfig(train_file=(str(tmp_path / "cells.csv"),), cache_dir=str(tmp_path))
    assert load_questions(config, "train")["answers"][:] == [{"text": ["Rome"], "answer_start": [9]}]


def test_texts_without_offsets_lead_to_the_column_that_is_missing(tmp_path):
    """Breaks if the advice is a flag that leads to the next error. For prediction such a column is not needed."""
    config = file_of(tmp_path, [{"id": 1, "question": "Where?", "context": "Paris or Rome", "answer": "Rome"}])
    assert "answers" not in load_questions(config, "test").column_names
    with pytest.raises(ValueError, match=r"no column 'answer_start' beside 'answer'; found id, .*add it") as caught:
        load_questions(config, "train")
    assert "--" not in str(caught.value)


def test_a_missing_text_with_an_offset_is_refused():
    """A table reader turns the answer "NA" into null: it must not become "no answer" in silence."""
    with pytest.raises(ValueError, match="'answer text' is null or missing"):
        gold_answers(cells(1, None, 10), "answers")
    assert gold_answers(cells(1, None, None), "answers").answers == NO_ANSWER


def test_answers_that_are_null_everywhere_are_not_called_missing(tmp_path):
    config = file_of(tmp_path, [row(1, answers=None), row(2, answers=None)])
    with pytest.raises(
        ValueError, match="the column 'answers' is there, but it is null or empty in every row"
    ) as caught:
        load_questions(config, "train")
    assert "--answers_column" not in str(caught.value)
    rows = [{"id": 1, "question": "Where?", "context": "Paris", "answers": "", "is_impossible": ""}]
    as_csv(rows)(tmp_path / "empty.csv")
    config = DataConfig(train_file=(str(tmp_path / "empty.csv"),), cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="null or empty in every row"):
        load_questions(config, "train")


# What a scorer compares with


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ({"answers": [{"text": "Paris"}, {"text": "Rome", "answer_start": 9}]}, ["Paris", "Rome"]),
        ({"answers": ["Paris"]}, ["Paris"]),
        ({"answers": {"text": ["Paris"]}}, ["Paris"]),
        ({"answers": '["Paris"]'}, ["Paris"]),
        ({"answer": "Paris"}, ["Paris"]),
        ({"answer_text": "Paris"}, ["Paris"]),
        ({"answers": [{"text": "Paris"}], "is_impossible": True}, ["Paris"]),  # the official scorer asks the list alone
        ({"answers": [{"text": ""}]}, [""]),  # answerable by "", as there
        ({"answers": [], "is_impossible": False}, []),
        ({"is_impossible": "True"}, []),
        ({"answer_text": "Paris", "is_impossible": 1}, []),
        ({"answer_text": ""}, []),
        ({"answers": [{"text": "half \ud83d"}]}, ["half \ud83d"]),
        ({"answers": None}, None),
        ({"question": "Where?"}, None),
    ],
)
def test_a_scorer_needs_texts_alone(values, texts):
    assert gold_texts(values, "answers") == texts


def test_training_needs_offsets(tmp_path):
    as_lines([row(1, answers=["Paris"])])(tmp_path / "q.jsonl")
    config = DataConfig(train_file=(str(tmp_path / "q.jsonl"),), cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="found 'Paris' among the answers; each needs text and answer_start"):
        load_questions(config, "train")


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_a_column_of_accepted_answers_that_a_row_leaves_empty_hides_nothing(nothing):
    """Parquet fills in null, CSV an empty cell. Breaks if such a row cannot be scored, or loses its is_impossible."""
    answers = {"text": ["Ada"], "answer_start": [0]}
    assert gold_texts({"answers": answers, "accepted_answers": nothing}, "answers") == ["Ada"]
    assert gold_texts({"answers": None, "is_impossible": True, "accepted_answers": nothing}, "answers") == []
