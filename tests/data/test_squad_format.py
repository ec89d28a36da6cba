"""Every row becomes a question with the standard column names, or an error names the row and what was found."""

import json

import pytest
from question_files import QUESTIONS, as_csv, as_lines, file_of, nested, row

from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig


def test_a_title_is_kept_and_other_columns_are_dropped(tmp_path):
    config = file_of(tmp_path, json.dumps(nested()), "titled.json")
    assert load_questions(config, "train")["title"][:] == ["Ada", "Ada", "Salt", "Dates"]
    config = file_of(tmp_path, [row(1, score=0.5, title=None), row(2, score=0.25)])
    assert load_questions(config, "train").column_names == ["id", "question", "context", "answers"]


def test_csv_with_one_answer_in_two_columns(tmp_path):
    """Two empty cells mean that there is no answer; this form has no other notation for it."""
    rows = [
        {"id": 7, "question": "Where?", "context": "In Rome, yes.", "answer_text": "Rome", "answer_start": 3},
        {"id": 8, "question": "When?", "context": "In Rome, yes.", "answer_text": "", "answer_start": ""},
    ]
    as_csv(rows)(tmp_path / "two.csv")
    questions = load_questions(DataConfig(train_file=(str(tmp_path / "two.csv"),), cache_dir=str(tmp_path)), "train")
    assert questions["id"][:] == ["7", "8"]  # numbers as ids become text
    assert questions["answers"][:] == [{"text": ["Rome"], "answer_start": [3]}, {"text": [], "answer_start": []}]


def test_columns_are_mapped_by_settings(tmp_path):
    names = {"id": "qid", "question": "ask", "context": "passage", "answers": "gold"}
    rows = [{names[key]: value for key, value in question.items()} for question in QUESTIONS]
    config = DataConfig(
        train_file=(str(tmp_path / "mapped.jsonl"),),
        cache_dir=str(tmp_path),
        id_column="qid",
        question_column="ask",
        context_column="passage",
        answers_column="gold",
    )
    as_lines(rows)(tmp_path / "mapped.jsonl")
    assert list(load_questions(config, "train")) == QUESTIONS


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(1), row(2), row(1)], r"row 3: id 'q1' is a duplicate of \S+q.jsonl: row 1; ids must differ"),
        ([row(1, id=1), row(2, id="1")], r"row 2: id '1' is a duplicate of"),
        ([row(1), {"ID": "x"}], r"row 2: no column 'id'; found ID; name it: --id_column ID"),
        (
            [{"id": "x", "query": "", "context": ""}],
            r"no column 'question'; found id, query, context; add it, or .*--question_column",
        ),
        ([row(1, question=None)], r"row 1: id 'q1': 'question' is null or missing; text is expected"),
        ([row(1, context=["a"])], r"'context' is \"\['a'\]\" \(list\); text is expected"),
        ([row(1, id=1.5)], r"'id' is '1.5' \(float\); text is expected"),
        ([row(1, id="")], r"'id' is empty; every question needs its own id"),
        (
            [row(1, answers={"text": ["Paris"], "answer_start": ["0"]})],
            r"id 'q1': answer_start is '0' \(str\); an integer",
        ),
        ([row(1, answers={"text": ["Paris"], "answer_start": [0.0]})], r"answer_start is '0.0' \(float\)"),
        ([row(1, answers={"text": ["Paris"], "answer_start": [2**31]})], r"answer_start is '2147483648'"),
        ([row(1, answers={"text": ["Paris", "Rome"], "answer_start": [0]})], r"2 answer texts but 1 answer_start"),
        ([row(1, answers={"text": [5], "answer_start": [0]})], r"'answer text' is '5' \(int\)"),
        ([row(1, answers={"text": "Paris", "answer_start": 0})], r"'answers' is .*expected \{\"text\": \[...\]"),
        ([row(1, answers=[{"text": "Paris"}])], r"among the answers; each needs text and answer_start"),
        ([row(1, answers="Paris")], r"'answers' is 'Paris' \(str\), which is not JSON"),
        ([row(1, is_impossible=True)], r"is_impossible is true, but the answer 'Paris' is given"),
        (
            [row(1), row(2, answers=None)],
            r"row 2: id 'q2' has no 'answers', but others have \(\S+ row 1\); give empty lists",
        ),
        ([row(1, answers=None), row(2)], r"row 1: id 'q1' has no 'answers', but others have \(\S+ row 2\)"),
        ([row(1, question="half \ud83d")], r"row 1: character 5 of .* is half of a surrogate pair"),
    ],
)
def test_the_error_names_the_row_and_what_was_found(rows, message, tmp_path):
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DataConfig(test_file=(str(tmp_path / "q.jsonl"),), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=message) as caught:
        load_questions(config, "test")
    assert str(tmp_path / "q.jsonl") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_repeated_ids_in_two_files_name_both(tmp_path):
    as_lines([row(1), row(2)])(tmp_path / "a.jsonl")
    as_lines([row(3), row(2)])(tmp_path / "b.jsonl")
    config = DataConfig(train_file=(str(tmp_path / "*.jsonl"),), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"b.jsonl: row 2: id 'q2' is a duplicate of \S+a.jsonl: row 2"):
        load_questions(config, "train")
