"""Layouts of other projects: read if a few lines do it, else refused with the way to convert them."""

import gzip
import json

import pytest
from question_files import file_of

from qa_accel.data.audit import audit_questions
from qa_accel.data.questions import load_questions

BRIDGE = "The Orrin bridge was opened in 1931 by Dana Holt. It crosses the river Lume near Tarrow."


def only(questions):
    [question] = list(questions)
    assert question["context"] == BRIDGE
    return question["id"], question["question"], question["answers"]


def test_a_list_of_paragraphs_needs_no_articles_around_it(tmp_path):
    """simpletransformers' layout. Breaks if only a list of articles is known: then "no column 'id'" is said."""
    answers = [{"text": "Dana Holt", "answer_start": 39}]
    paragraph = {"context": BRIDGE, "id": "p1", "qas": [{"id": "00001", "question": "Who?", "answers": answers}]}
    config = file_of(tmp_path, json.dumps([paragraph]), "paragraphs.json")
    assert only(load_questions(config, "train")) == ("00001", "Who?", {"text": ["Dana Holt"], "answer_start": [39]})
    paragraph["qas"] = [{"question": "Who?", "answers": answers}]
    config = file_of(tmp_path, json.dumps([paragraph]), "paragraphs.json")
    with pytest.raises(ValueError, match=r"row 1 \(paragraph 1\): no column 'id'"):  # not the paragraph's own
        load_questions(config, "train")


def mrqa_lines(span, text="1931"):
    detected = [{"text": text, "char_spans": [span], "token_spans": [[6, 6]]}]
    question = {"qid": "q1", "id": "x", "question": "When?", "answers": ["1931"], "detected_answers": detected}
    lines = [{"header": {"dataset": "X", "split": "train"}}, {"id": "", "context": BRIDGE, "qas": [question]}]
    return "".join(json.dumps(line) + "\n" for line in lines)


def test_mrqa_spans_include_their_last_character(tmp_path):
    """characters 31 to 34 are "1931". Breaks if the header line is a row, or the id is not MRQA's qid."""
    path = tmp_path / "mrqa.jsonl.gz"
    config = file_of(tmp_path, "", path.name)
    path.write_bytes(gzip.compress(mrqa_lines([31, 34]).encode()))
    assert only(load_questions(config, "train")) == ("q1", "When?", {"text": ["1931"], "answer_start": [31]})


def test_mrqa_answers_read_as_their_context_does(tmp_path):
    """They were matched without regard to case; characters 0 to 2 are "The"."""
    config = file_of(tmp_path, mrqa_lines([0, 2], text="the"))
    assert only(load_questions(config, "train"))[2] == {"text": ["The"], "answer_start": [0]}


def test_mrqa_spans_that_end_elsewhere_are_found_by_the_audit(tmp_path):
    config = file_of(tmp_path, mrqa_lines([30, 33]))
    _, report = audit_questions(load_questions(config, "test"), training=False)
    assert [(found.answer, found.context_reads) for found in report.misplaced_answers] == [("1931", " 193")]


def test_mrqa_without_spans_is_refused_with_the_form_that_is_expected(tmp_path):
    config = file_of(tmp_path, mrqa_lines(31))
    with pytest.raises(ValueError, match=r"paragraph 2: 'detected_answers' is .*MRQA has .*char_spans"):
        load_questions(config, "train")


def test_cmrc_answers_are_looked_up_in_the_context(tmp_path):
    """The layout has no offsets: "Lume" begins at 71; what is not there is dropped from training and listed."""
    qas = [
        {"query_id": "T0", "query_text": "Which river?", "answers": ["Lume", "river Lume"]},
        {"query_id": "T1", "query_text": "Which lake?", "answers": ["Como"]},
    ]
    element = {"context_id": "T", "context_text": BRIDGE, "qas": qas, "title": "bridge"}
    config = file_of(tmp_path, json.dumps([element]), "cmrc.json")
    questions, report = audit_questions(load_questions(config, "train"), training=True)
    assert only(questions) == ("T0", "Which river?", {"text": ["Lume", "river Lume"], "answer_start": [71, 65]})
    assert report.dropped_ids == ("T1",)


def test_korquad_2_has_one_answer_under_answer(tmp_path):
    qas = [
        {"id": "k", "question": "Who?", "answer": {"text": "Dana Holt", "answer_start": 39, "html_answer_start": 90}}
    ]
    element = {"title": "bridge", "context": BRIDGE, "raw_html": "<html>", "url": "", "qas": qas}
    config = file_of(tmp_path, json.dumps({"version": "2.1", "data": [element]}), "korquad.json")
    assert only(load_questions(config, "train")) == ("k", "Who?", {"text": ["Dana Holt"], "answer_start": [39]})


def test_drop_is_refused_with_the_way_to_convert_it_and_ten_names(tmp_path):
    pair = {"question": "When?", "query_id": "x", "answer": {"number": "1931", "date": {}, "spans": []}}
    documents = {f"doc_{number}": {"passage": BRIDGE, "qa_pairs": [pair]} for number in range(60)}
    config = file_of(tmp_path, json.dumps(documents), "drop.json")
    with pytest.raises(
        ValueError, match=r"doc_9 and 50 more, .*DROP's layout: take the questions .*answer_start"
    ) as caught:
        load_questions(config, "train")
    assert "doc_10" not in str(caught.value)


def test_an_object_of_lists_is_refused_with_the_key_that_is_expected(tmp_path):
    config = file_of(tmp_path, json.dumps({"train": [{"id": "1"}], "dev": []}), "splits.json")
    with pytest.raises(ValueError, match=r'row 1 has the keys train, dev, .*in a list or under the key "data"'):
        load_questions(config, "train")


# Values that no reader expects


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, r"broken JSON at line 1 .*nested too deep"),
        ("[" * 100_000 + "]" * 100_000, r"broken JSON at line 1 .*nested too deep"),
        ('{"a":' * 100_000, r"nested too deep"),
        (
            '[\n{"id": "1", "question": "", "context": "", "other": ' + "[" * 5000 + "]" * 5000 + "}]",
            r"line 2 .*too deep",
        ),
        ('[{"id": ' + "7" * 5000 + "}]", r"broken JSON at line 1 .*an integer has thousands of digits"),
        ('[{"id": "1", "other": ' + "7" * 5000 + "}]", r"an integer has thousands of digits"),
        (
            json.dumps([{"id": "1", "question": "", "context": "", "answers": "[" * 5000 + "]" * 5000}]),
            r"row 1: id '1': 'answers' is .*which is not JSON \(nested too deep\)",
        ),
        (
            json.dumps([{"id": "1", "question": "", "context": "", "answers": "[" + "7" * 5000 + "]"}]),
            r"which is not JSON \(an integer has thousands of digits\)",
        ),
        (
            json.dumps([{"x" * 1_000_000 + str(number): 1 for number in range(3)}]),
            r"no column 'id'; found 'x{40}'\.\.\., ",
        ),
        (json.dumps([{f"column_{number}": 1 for number in range(10_000)}]), r"column_9 and 9,990 more; add it"),
        (json.dumps([{"id": "x" * 1_000_000}]), r"row 1: id 'x{40}'\.\.\.: no column 'question'"),
        (
            json.dumps([{"id": "x" * 1_000_000, "question": "", "context": ""}] * 2),
            r"id 'x{40}'\.\.\. is a duplicate of",
        ),
        (json.dumps([{"paragraphs": 5, "title": "t" * 1_000_000}]), r"article 1 't{40}'\.\.\.: 'paragraphs' is '5'"),
    ],
)
def test_whatever_is_in_a_file_the_message_is_short_and_names_the_file(content, message, tmp_path):
    """Breaks with a RecursionError, with a plain ValueError out of json, or with a message of a megabyte."""
    config = file_of(tmp_path, content, "odd.json")
    with pytest.raises(ValueError, match=message) as caught:
        load_questions(config, "test")
    assert str(tmp_path / "odd.json") in str(caught.value)
    assert len(str(caught.value)) < 800 and "\n" not in str(caught.value)
