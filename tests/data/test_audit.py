"""What is wrong with questions or lost in windows is counted, named and, for training alone, dropped."""

import io
import json

import datasets
import numpy as np
import pytest
from rich.console import Console

from qa_accel.data.audit import SplitReport, audit_questions, audit_windows, report_as_dict
from qa_accel.data.audit_table import report_table
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig
from qa_accel.data.windows import Windows

# By characters: the rocket is 0, "Ada" 2; the tilde is one of its own, so "Sa\u0303o" is four characters from 12 on.
ADA = "🚀 Ada is in Sa\u0303o.\r\nYes,\u00a0now"


def row(identifier, text=None, start=None, *, question="Where?", context=ADA):
    texts, starts = ([], []) if text is None else ([text], [start])
    return {
        "id": identifier,
        "question": question,
        "context": context,
        "answers": {"text": texts, "answer_start": starts},
    }


def questions_of(*rows):
    return datasets.Dataset.from_list(list(rows))


GOOD = [row("ada", "Ada", 2), row("sao", "Sa\u0303o", 12), row("crlf", ".\r\nYes,\u00a0now", 16), row("none")]
BAD = [
    row("bytes", "Ada", 5),  # as if the rocket's four bytes counted
    row("utf16", "Ada", 3),  # as if it counted as two
    row("composed", "S\u00e3o", 12),  # one character where the context has two
    row("before", "now", -3),  # what Python reads there is the answer, but an offset counts from the front
    row("behind", "now", 99),
    row("cut", "now!", 24),
    row("newline", "\nYes", 17),  # as if CR and LF were one
    row("blank", " ", 1),  # is there, but is not an answer
]


def test_every_character_counts_as_one():
    """Broken by offsets in bytes or UTF-16 units, by normal forms and by line ends that are made alike."""
    kept, report = audit_questions(questions_of(*GOOD), training=True)
    assert len(kept) == report.questions == 4
    assert report.misplaced_answers == report.dropped_ids == ()


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad["id"])
def test_misplaced_answer_is_listed_and_its_training_row_dropped(bad):
    questions = questions_of(GOOD[0], bad, GOOD[1])
    kept, report = audit_questions(questions, training=True)
    assert kept["id"][:] == ["ada", "sao"]
    assert report.questions == 3 and report.dropped_ids == (bad["id"],)
    (found,) = report.misplaced_answers
    assert (found.id, found.answer_start) == (bad["id"], bad["answers"]["answer_start"][0])


def test_misplaced_answer_is_listed_with_what_the_context_reads_there():
    _, report = audit_questions(questions_of(*BAD), training=False)
    reads = {found.id: found.context_reads for found in report.misplaced_answers}
    assert reads["bytes"] == " is" and reads["composed"] == "Sa\u0303" and reads["newline"] == "\r\nYe"
    assert reads["before"] == reads["behind"] == ""


def test_evaluation_row_is_never_dropped():
    """A score counts every question; dropping one would make figures that nobody else gets."""
    questions = questions_of(*GOOD, *BAD)
    kept, report = audit_questions(questions, training=False)
    assert kept is questions
    assert len(report.misplaced_answers) == len(BAD) and report.dropped_ids == ()


def test_one_misplaced_answer_of_several_drops_a_training_row():
    two = row("two", "Ada", 2)
    two["answers"] = {"text": ["Ada", "now"], "answer_start": [2, 0]}
    kept, report = audit_questions(questions_of(two, GOOD[0]), training=True)
    assert kept["id"][:] == ["ada"]
    assert [found.answer for found in report.misplaced_answers] == ["now"]


def test_nothing_dropped_gives_the_same_object_and_something_dropped_a_fingerprint_by_content(tmp_path):
    """Windows are cached by the fingerprint: one from the process or the path would tokenize again at every start."""

    def audited(rows, folder):
        folder.mkdir()
        (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        questions = load_questions(DataConfig(train_file=(str(folder / "q.jsonl"),), cache_dir=str(folder)), "train")
        return questions, audit_questions(questions, training=True)[0]

    questions, kept = audited(GOOD, tmp_path / "good")
    assert kept is questions
    questions, kept = audited([*GOOD, BAD[0]], tmp_path / "one")
    _, again = audited([*GOOD, BAD[0]], tmp_path / "elsewhere")
    _, other = audited([*GOOD, BAD[1]], tmp_path / "other")
    assert kept._fingerprint == again._fingerprint
    assert len({questions._fingerprint, kept._fingerprint, other._fingerprint}) == 3


def test_selected_questions_are_audited_as_selected():
    """Arrow keeps slices and index mappings together with the whole table, which must not be audited in their place."""
    questions = questions_of(BAD[0], *GOOD, BAD[1])
    assert audit_questions(questions.select([1, 2]), training=True)[1].misplaced_answers == ()
    kept, report = audit_questions(questions.select([4, 5, 1]), training=True)
    assert kept["id"][:] == ["none", "ada"] and report.dropped_ids == ("utf16",)
    assert report.without_answer == 1


def test_training_without_a_single_right_offset_is_an_error():
    with pytest.raises(
        ValueError, match=r"none of 2 training questions is left.*id 'bytes': context reads ' is' at 5, answer is 'Ada'"
    ):
        audit_questions(questions_of(*BAD[:2]), training=True)


def test_counts_of_questions():
    rows = [
        row("a", "Ada", 2),
        row("b"),
        row("b", question="\u00a0\n"),  # blank: NBSP and a line end
        row("d", question="", context=" "),
        row("e", context="Rome"),
    ]
    _, report = audit_questions(questions_of(*rows), training=True)
    assert (report.questions, report.contexts) == (5, 3)
    assert (report.without_answer, report.share_without_answer) == (4, 0.8)
    assert report.repeated_ids == ("b",)
    assert report.empty_question_ids == ("b", "d") and report.empty_context_ids == ("d",)


def test_contexts_are_counted_across_the_pieces_that_are_held_at_once():
    questions = questions_of(*[row(str(number), "Ada", 2, context=ADA + "x" * (number % 3)) for number in range(4500)])
    _, report = audit_questions(questions, training=True)
    assert (report.questions, report.contexts) == (4500, 3)


def test_questions_without_answers_have_no_answer_counts():
    kept, report = audit_questions(questions_of(*GOOD).remove_columns("answers"), training=False)
    assert len(kept) == 4 and report.without_answer is None and report.share_without_answer is None


# Windows


def windows_of(*windows, cut=()):
    """Windows from (question, length, answer's first token or None); position 0 is the null position."""
    question_W, length_W, start_W = (np.array(column) for column in zip(*[(q, n, s or 0) for q, n, s in windows]))
    nothing, begin_W = np.zeros(length_W.sum(), np.int32), np.concatenate([[0], np.cumsum(length_W)])
    zeros_W = np.zeros(len(windows), np.int32)
    return Windows(
        input_ids_N=nothing,
        token_type_ids_N=None,
        offset_start_N=nothing,
        offset_end_N=nothing,
        begin_W=begin_W,
        question_W=question_W,
        context_begin_W=zeros_W,
        context_end_W=zeros_W,
        null_W=zeros_W,
        start_W=start_W,
        end_W=start_W,
        question_cut_Q=np.array(cut, dtype=bool),
    )


def test_counts_of_windows():
    """Question "sao" has an answer and no window that holds it; "none" has no answer, so nothing is lost there."""
    windows = windows_of((0, 10, None), (0, 8, 5), (0, 6, 3), (1, 7, None), (2, 9, None), cut=[False, False, True])
    report = audit_windows(windows, questions_of(GOOD[0], GOOD[1], GOOD[3]))
    assert (report.windows, report.tokens, report.longest_window) == (5, 40, 10)
    assert (report.windows_per_question_mean, report.windows_per_question_max) == (5 / 3, 3)
    assert (report.windows_with_answer, report.share_with_answer) == (2, 0.4)
    assert report.lost_answer_ids == ("sao",)
    assert report.cut_question_ids == ("none",)


def test_windows_of_data_without_answers_tell_of_none():
    report = audit_windows(windows_of((0, 10, None), cut=[False]), questions_of(GOOD[0]).remove_columns("answers"))
    assert report.windows_with_answer is None and report.lost_answer_ids is None and report.cut_question_ids == ()


# The report


def printed(reports):
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(report_table(reports))
    return console.export_text()


def test_report_has_every_row_in_json_and_the_first_ones_on_the_console():
    bad = [row(f"bad-{number:02}", "[b]Ada", 0) for number in range(20)]
    questions, report = audit_questions(questions_of(GOOD[0], *bad), training=True)
    reports = {"train": SplitReport(report, audit_windows(windows_of((0, 10, 3), cut=[True]), questions))}
    content = json.loads(json.dumps(report_as_dict(reports)))  # what data_report.json holds
    assert [found["id"] for found in content["train"]["questions"]["misplaced_answers"]] == [row["id"] for row in bad]
    assert content["train"]["windows"]["cut_question_ids"] == ["ada"]
    text = printed(reports)
    assert "train: id 'bad-00': context reads '🚀 Ada ' at 0, answer is '[b]Ada'; dropped" in text
    assert "bad-02" in text and "bad-03" not in text
    assert "... and 17 more of this kind, all in data_report.json" in text


def test_report_has_a_column_for_each_split_and_a_dash_for_what_is_not_known():
    _, train = audit_questions(questions_of(*GOOD), training=True)
    _, test = audit_questions(questions_of(GOOD[0]).remove_columns("answers"), training=False)
    text = printed({"train": SplitReport(train), "test": SplitReport(test)})
    lines = {
        cells[1].strip(): [cell.strip() for cell in cells[2:4]]
        for cells in (line.split("│") for line in text.splitlines())
        if len(cells) > 3
    }
    assert lines["questions"] == ["4", "1"]
    assert lines["without answer"] == ["1 (25.0%)", "-"]
    assert lines["windows"] == ["-", "-"]


# Real data


def test_every_answer_of_the_rebuilt_training_file_is_at_its_offset(shared, tmp_path):
    config = DataConfig(train_file=(str(shared / "data/squad_v2/train.json.gz"),), cache_dir=str(tmp_path))
    questions = load_questions(config, "train")
    kept, report = audit_questions(questions, training=True)
    assert kept is questions and report.questions == 126_098
    assert report.misplaced_answers == report.repeated_ids == ()
    assert round(100 * report.share_without_answer, 1) == 33.5


def test_real_dev_set_has_nothing_wrong(shared, tmp_path):
    config = DataConfig(validation_file=(str(shared / "data/squad_v2/dev.json"),), cache_dir=str(tmp_path))
    _, report = audit_questions(load_questions(config, "validation"), training=False)
    assert (report.questions, report.contexts, report.without_answer) == (6078, 646, 3168)
    assert report.misplaced_answers == report.empty_question_ids == report.empty_context_ids == ()
