"""Which gold answers are labels under `--answers first`, `any` and `all`, by hand; and what the audit says about them."""

import json
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from toy_questions import assert_equal, questions_of
from toy_tokenizers import word_tokenizer

from qa_accel.data import cache_file
from qa_accel.data.audit import SplitReport, audit_questions, audit_windows
from qa_accel.data.audit_table import counts, remarks
from qa_accel.data.label_audit import SeveralAnswers
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.settings import DataConfig, LabelledAnswers, WindowConfig
from qa_accel.data.splits import Split, prepare_split
from qa_accel.data.window_cache import gold_answers, prepare_windows, windows_file
from qa_accel.data.windows import Windows

FOUR = WindowConfig(max_seq_length=9, doc_stride=1, max_query_length=2)
"""Four words of context beside two of a question."""
LETTERS = "a b c d e f g h"
"""Three windows: "a b c d", "d e f g", "g h"."""
GOLDS: list[tuple[str, ...]] = [
    ("c", "f"),
    ("f", "c"),
    ("b", "d"),
    ("b c", "b c", "c d"),
    ("c d e",),
    (),
    ("d", "c d e"),
]
MODES: list[LabelledAnswers] = ["first", "any", "all"]
X = "left out"
READ: dict[str, list[list]] = {
    "first": [["c", X, ""], [X, "f", ""], ["b", X, ""], ["b c", "", ""], ["", "", ""], ["", "", ""], ["d", "d", ""]],
    "any": [
        ["c", "f", ""],
        ["c", "f", ""],
        ["b", "d", ""],
        ["b c", "", ""],
        ["", "", ""],
        ["", "", ""],
        ["d", "d", ""],
    ],
    "all": [
        [["c"], ["f"], []],
        [["c"], ["f"], []],
        [["b", "d"], ["d"], []],
        [["b c", "c d"], [], []],
        [[], [], []],
        [[], [], []],
        [["d"], ["d"], []],
    ],
}
"""Of each question the label of each window; "" is "no answer". A part of "c d e" is none."""


def letters(*golds: tuple[str, ...]) -> datasets.Dataset:
    count = len(golds)
    answers = [{"text": list(texts), "answer_start": [LETTERS.index(text) for text in texts]} for texts in golds]
    ids = [f"q{number}" for number in range(count)]
    return questions_of({"id": ids, "question": ["who who"] * count, "context": [LETTERS] * count, "answers": answers})


def table_of(questions: datasets.Dataset) -> pa.Table:
    table = questions.with_format("arrow")[:]
    assert isinstance(table, pa.Table)
    return table.combine_chunks()


def tokenized(questions: datasets.Dataset, labelled: LabelledAnswers, *, composed: bool) -> Windows:
    pairs = PairTokenizer(word_tokenizer(), FOUR)
    if composed:
        assert pairs.compose_if_equal([], []) is None
    return pairs.windows(questions["question"][:], questions["context"][:], gold_answers(table_of(questions), labelled))


def read(windows: Windows, contexts: list[str], w: int, start: int, end: int) -> str:
    begin = windows.begin_W[w]
    context = contexts[windows.question_W[w]]
    return context[windows.offset_start_N[begin + start] : windows.offset_end_N[begin + end]]


def labels_read(windows: Windows, contexts: list[str]) -> list:
    """What the label of each window reads, or its labels."""
    found: list = []
    for w in range(len(windows)):
        if windows.gold_begin_W is not None:
            assert windows.gold_start_G is not None and windows.gold_end_G is not None
            own = slice(windows.gold_begin_W[w], windows.gold_begin_W[w + 1])
            spans = zip(windows.gold_start_G[own], windows.gold_end_G[own])
            found.append([read(windows, contexts, w, start, end) for start, end in spans])
        elif windows.left_out_W is not None and windows.left_out_W[w]:
            assert windows.start_W[w] == windows.end_W[w] == windows.null_W[w]
            found.append(X)
        else:
            found.append(read(windows, contexts, w, windows.start_W[w], windows.end_W[w]))
    return found


@pytest.mark.parametrize("composed", [True, False])
@pytest.mark.parametrize("labelled", MODES)
def test_the_labels_of_each_window_by_hand(labelled, composed):
    """Breaks if a later answer is a label under `first`, if its window is taught "no answer", if equal answers count twice
    under `all`, if a part of an answer is a label, or if one of the two ways to tokenize labels otherwise."""
    questions = letters(*GOLDS)
    windows = tokenized(questions, labelled, composed=composed)
    found = labels_read(windows, questions["context"][:])
    assert [found[3 * q : 3 * q + 3] for q in range(len(GOLDS))] == READ[labelled]


def test_all_answers_leave_the_first_one_where_any_has_it():
    """Whatever reads start_W finds one of the labels. Breaks if `all` puts the leftmost answer there, or null."""
    questions = letters(*GOLDS)
    one, other = (tokenized(questions, labelled, composed=True) for labelled in ("any", "all"))
    assert_equal(one, replace(other, gold_begin_W=None, gold_start_G=None, gold_end_G=None))


@pytest.mark.parametrize("labelled", MODES)
def test_labels_come_back_from_the_cache_in_the_order_of_the_questions(labelled, tmp_path):
    """Questions on two contexts in turn are tokenized context by context. Breaks if the labels stay in that order."""
    columns = {name: [value for value in letters(*GOLDS)[name] for _ in range(2)] for name in letters().features}
    columns["context"] = [LETTERS, LETTERS + " i j k"] * len(GOLDS)
    mixed = questions_of(columns)
    found = prepare_windows(mixed, word_tokenizer(), FOUR, cache_dir=tmp_path, labelled=labelled)
    assert_equal(tokenized(mixed, labelled, composed=True), found)
    assert labels_read(found, mixed["context"][:])[:3] == READ[labelled][0]


def test_windows_of_a_mode_have_a_file_of_their_own_and_those_of_any_have_no_new_column(tmp_path):
    """Breaks if another mode reads the cached labels of the last run, or if caches of former versions are not found."""
    questions, tokenizer = letters(*GOLDS), word_tokenizer()
    paths = [windows_file(questions, tokenizer, FOUR, cache_dir=tmp_path, labelled=labelled) for labelled in MODES]
    assert len(set(paths)) == 3
    assert paths[1] == windows_file(questions, tokenizer, FOUR, cache_dir=tmp_path)
    prepare_windows(questions, tokenizer, FOUR, cache_dir=tmp_path)
    columns = pa.ipc.open_file(cache_file.content(paths[1])).schema.names
    expected = "input_ids offset_start offset_end question context_begin context_end null start end question_cut question_tokens"
    assert columns == expected.split()


# ------------------------------------------------------------------------------------------------------------- contract


def contract(path: Path) -> Path:
    """Of 78 words, 26 and 27 name one fee, 62 and 63 another."""
    words = ["Silence."] * 78
    words[26:28], words[62:64] = ["90", "pounds"], ["7", "pounds"]
    context = " ".join(words)
    answers = [{"text": text, "answer_start": context.index(text)} for text in ("90 pounds", "7 pounds")]
    question = {"id": "fee", "question": "Which fee?", "answers": answers}
    paragraphs = [{"context": context, "qas": [question]}]
    path.write_text(json.dumps({"data": [{"title": "contract", "paragraphs": paragraphs}]}))
    return path


def prepared(file: Path, answers: LabelledAnswers, split="train") -> Split:
    data = DataConfig(
        train_file=(str(file),), validation_file=(str(file),), cache_dir=str(file.parent), answers=answers
    )
    return prepare_split(data, WindowConfig(23, 6, 2), word_tokenizer(), split)


def test_two_clauses_that_are_far_apart(tmp_path):
    """Windows of 18 words begin every 12 words: the first fee is whole in windows 1 and 2, the second one in 4 and 5. Breaks if
    the setting does not reach the training windows, or if it reaches those of validation, which tell how good a model is."""
    file = contract(tmp_path / "contract.json")
    found = {}
    for answers in MODES:
        split = prepared(file, answers)
        found[answers] = labels_read(split.windows, split.questions["context"][:])
    first, second = "90 pounds", "7 pounds"
    assert found["first"] == ["", first, first, "", X, X]
    assert found["any"] == ["", first, first, "", second, second]
    assert found["all"] == [[], [first], [first], [], [second], [second]]
    validation = prepared(file, "first", "validation")
    assert labels_read(validation.windows, validation.questions["context"][:]) == found["any"]


# ---------------------------------------------------------------------------------------------------------------- audit


def report_of(questions: datasets.Dataset, labelled: LabelledAnswers) -> SplitReport:
    windows = tokenized(questions, labelled, composed=True)
    return SplitReport(audit_questions(questions, training=True)[1], audit_windows(windows, questions, None, labelled))


def several(report: SplitReport) -> SeveralAnswers:
    assert (
        report.windows is not None and report.windows.labels is not None and report.windows.labels.several is not None
    )
    return report.windows.labels.several


def test_the_audit_counts_what_each_mode_does_with_several_answers():
    """q0, q1, q2, q3 and q6 have several answers, of which q0, q1 and q2 have some that share no character. Parts alone are in
    the second window of q3 (d) and in the first two of q4; under `all`, "c d e" of q6 is whole in no window."""
    found = {labelled: several(report_of(letters(*GOLDS), labelled)) for labelled in MODES}
    assert found["first"] == SeveralAnswers(5, 3, 3, windows_left_out=3)
    assert found["any"] == SeveralAnswers(5, 3, 3)
    assert found["all"] == SeveralAnswers(5, 3, 3, None, 2, 2, ("q6",))


def test_windows_labelled_by_a_later_answer_are_those_with_a_label_apart_from_the_first():
    """any: q0 and q1 have one such window each, and q2 its second; all: the first window of q2 has the label "d" too. Breaks if
    `all` is judged by one label of each window."""
    later = {}
    for labelled in MODES:
        windows = report_of(letters(*GOLDS), labelled).windows
        assert windows is not None and windows.labels is not None
        later[labelled] = windows.labels.windows_with_later_answer
    assert later == {"first": 0, "any": 3, "all": 4}


def test_the_table_has_a_row_for_each_count_and_names_what_is_lost():
    rows = {labelled: counts(report_of(letters(*GOLDS), labelled)) for labelled in MODES}
    assert rows["any"]["questions with several answers"] == "5 (3 with answers apart)"
    assert rows["any"]["windows with a part of an answer"] == "3" and "windows left out" not in rows["any"]
    assert rows["first"]["windows left out"] == "3"
    assert rows["all"]["windows with several labels"] == "2 (most 2)"
    assert rows["all"]["questions with some answers lost"] == "1"
    lines = list(remarks(report_of(letters(*GOLDS), "all")))
    assert "no window holds some of the answers of id 'q6' whole" in lines


@pytest.mark.parametrize("labelled", MODES)
def test_the_report_is_read_back_from_its_file(labelled):
    report = report_of(letters(*GOLDS), labelled)
    content = json.loads(json.dumps(report.as_dict()))
    assert json.loads(json.dumps(SplitReport.from_dict(content).as_dict())) == content
    assert isinstance(several(SplitReport.from_dict(content)), SeveralAnswers)


def test_data_with_one_answer_each_have_nothing_new_in_their_report():
    """Breaks if data_report.json of SQuAD is another one than before."""
    report = report_of(letters(("c",), (), ("b", "b")), "any")
    labels = report.as_dict()["windows"]["labels"]
    assert labels.keys() == {"windows_with_later_answer", "unlike_labels", "long_answer_ids"}
    assert "questions with several answers" not in counts(report)


def test_marks_and_blanks_at_an_answers_ends_do_not_make_it_a_lost_one():
    """The token of "cafe\u0301" covers "cafe" alone, and none covers a blank. Breaks if characters are compared as they are."""
    context = "a cafe\u0301 b"
    golds = {"text": ["a", "cafe\u0301", " b"], "answer_start": [0, 2, 7]}
    columns = {"id": ["q0"], "question": ["who who"], "context": [context], "answers": [golds]}
    report = several(report_of(questions_of(columns), "all"))
    assert report.most_labels == 3 and report.partly_lost_ids == ()


def test_many_answers_of_many_windows_are_those_of_a_loop():
    """Random answers against a loop over windows and answers. Breaks if pairs of windows and answers are mixed up where
    questions have other numbers of answers."""
    random = np.random.default_rng(0)
    words = LETTERS.split()
    golds = []
    for _ in range(40):
        begins = random.integers(0, 8, random.integers(0, 6))
        golds.append(tuple(" ".join(words[b : b + 1 + random.integers(0, 3)]) for b in begins))
    questions = letters(*golds)
    held = [[words[s : s + 4] for s in (0, 3, 6)] for _ in golds]
    found = labels_read(tokenized(questions, "all", composed=True), questions["context"][:])
    for q, texts in enumerate(golds):
        for w in range(3):
            window = " ".join(held[q][w])
            expected = {text for text in texts if text in window}
            assert set(found[3 * q + w]) == expected and len(found[3 * q + w]) == len(expected)
