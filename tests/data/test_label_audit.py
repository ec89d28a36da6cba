"""What labels teach otherwise than the gold answers say is counted and named."""

import datasets
import pytest
from toy_questions import questions_of
from toy_tokenizers import word_tokenizer
from transformers import PreTrainedTokenizerFast

from qa_accel.data.audit import audit_windows
from qa_accel.data.label_audit import LabelReport, UnlikeLabel, audit_labels
from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_cache import prepare_windows

SMALL = WindowConfig(
    max_seq_length=9, doc_stride=1, max_query_length=2
)  # four tokens of context beside two of a question


@pytest.fixture
def words() -> PreTrainedTokenizerFast:
    return word_tokenizer()


def questions_about(context: str, *answers: tuple[str, ...]) -> datasets.Dataset:
    """One question per tuple of gold answers, with the ids q0, q1, ..."""
    golds = [{"text": list(texts), "answer_start": [context.index(text) for text in texts]} for texts in answers]
    columns = {
        "id": [f"q{number}" for number in range(len(answers))],
        "question": ["who who"] * len(answers),
        "context": [context] * len(answers),
        "answers": golds,
    }
    return questions_of(columns)


def audited(questions: datasets.Dataset, tokenizer, folder, max_answer_length: int | None = None) -> LabelReport:
    windows = prepare_windows(questions, tokenizer, SMALL, cache_dir=folder)
    return audit_labels(windows, questions, max_answer_length)


def test_a_window_is_labelled_by_the_first_gold_answer_that_it_holds(words, tmp_path):
    """Windows: "a b c d", "d e f g", "g h". Breaks if a window that holds the second answer is taught "no answer", which
    is what happens with clauses of a contract, or if it is not counted."""
    questions = questions_about("a b c d e f g h", ("c", "f"), ("f", "c"), ("e", "f"), ("c",), ())
    windows = prepare_windows(questions, words, SMALL, cache_dir=tmp_path)
    starts = windows.offset_start_N[windows.begin_W[:-1] + windows.start_W]
    ends = windows.offset_end_N[windows.begin_W[:-1] + windows.end_W]
    read = ["a b c d e f g h"[start:end] for start, end in zip(starts, ends)]  # "" at the null position
    assert [read[q : q + 3] for q in range(0, 15, 3)] == [
        ["c", "f", ""],
        ["c", "f", ""],
        ["", "e", ""],
        ["c", "", ""],
        ["", "", ""],
    ]
    # q0's second window has "f" in place of "c", q1's first one "c" in place of "f"
    assert audit_labels(windows, questions, None).windows_with_later_answer == 2


def test_a_label_that_ends_inside_a_character_reads_with_its_marks(words, tmp_path):
    """The token of "cafe\u0301" covers "cafe" alone. Breaks if marks are left off: every such answer would be listed."""
    questions = questions_about("a cafe\u0301 b", ("cafe\u0301",), ("b",))
    assert audited(questions, words, tmp_path).unlike_labels == ()


def test_labels_that_read_otherwise_than_every_gold_answer_are_listed(words, tmp_path):
    """A token that holds more than the answer teaches another text. "1990s" beside "1990" is reachable."""
    questions = questions_about("in the 1990s (Lima)", ("1990",), ("Lima",), ("1990", "1990s"), ())
    report = audited(questions, words, tmp_path)
    assert report.unlike_labels == (UnlikeLabel("q0", "1990", "1990s"), UnlikeLabel("q1", "Lima", "(Lima)"))


def test_answers_that_prediction_can_never_give_are_listed(words, tmp_path):
    questions = questions_about("a b c d", ("b",), ("b c",), ("b c d",), ())
    assert audited(questions, words, tmp_path, 2).long_answer_ids == ("q2",)
    assert audited(questions, words, tmp_path, 3).long_answer_ids == ()
    assert audited(questions, words, tmp_path).long_answer_ids is None


def test_data_without_answers_have_no_labels_to_audit(words, tmp_path):
    questions = questions_about("a b c d", ("b",)).remove_columns("answers")
    windows = prepare_windows(questions, words, SMALL, cache_dir=tmp_path)
    assert audit_windows(windows, questions).labels is None
