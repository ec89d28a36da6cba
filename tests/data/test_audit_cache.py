"""The audit that is kept beside the windows is the one that was made; a start on prepared data reads no question."""

import json
from pathlib import Path

import pytest
from damages import DAMAGES
from toy import make_tokenizer

from qa_accel.data import audit, splits, window_cache
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.splits import Split, prepare_split

CONTEXT = "Ana was born in Lima . Ben was born in Rome ."
ROWS = [
    {"id": "ana", "answers": {"text": ["Lima"], "answer_start": [16]}},
    {"id": "misplaced", "answers": {"text": ["Lima"], "answer_start": [17]}},
    {"id": "two", "answers": {"text": ["Lima", "Rome"], "answer_start": [16, 39]}},
    {"id": "none", "answers": {"text": [], "answer_start": []}},
]


@pytest.fixture
def data(tmp_path) -> DataConfig:
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps({**row, "question": "Where?", "context": CONTEXT}) + "\n" for row in ROWS))
    return DataConfig(train_file=(str(file),), validation_file=(str(file),), cache_dir=str(tmp_path / "cache"))


def prepared(data: DataConfig, split="train", longest: int | None = 30) -> Split:
    return prepare_split(data, WindowConfig(48, 4, 16), make_tokenizer(), split, max_answer_length=longest)


def kept_audits(data: DataConfig) -> list[Path]:
    assert data.cache_dir is not None
    return sorted(Path(data.cache_dir).glob("audit-*"))


def test_a_prepared_split_has_the_same_report_and_questions_and_is_not_audited(data, monkeypatch):
    """Breaks if a kept report differs in a type or a number, a dropped row comes back, or questions are read one by one again."""
    first = {split: prepared(data, split) for split in ("train", "validation")}
    assert first["train"].report is not None and first["train"].report.questions.dropped_ids == ("misplaced",)
    monkeypatch.setattr(audit, "audit_rows", None)
    monkeypatch.setattr(audit, "audit_windows", None)
    for split, made in first.items():
        again = prepared(data, split)
        assert again.report == made.report and splits.audit_as_dict({"": again}) == splits.audit_as_dict({"": made})
        assert again.questions["id"][:] == made.questions["id"][:]
        assert again.questions._fingerprint == made.questions._fingerprint


def test_a_tokenizer_is_named_once_where_no_question_is_dropped(data, monkeypatch):
    """Training drops one question here, validation none. Breaks if a large vocabulary is written as text twice at each start, or if
    the windows of fewer questions get the name of all."""
    named = []
    windows_file = window_cache.windows_file
    for module in (splits, window_cache):
        monkeypatch.setattr(module, "windows_file", lambda *a, **o: named.append(windows_file(*a, **o)) or named[-1])
    for split, times in (("train", 2), ("validation", 1)):
        named.clear()
        made = prepared(data, split)
        assert len(named) == times and named[-1].is_file() and len(set(named)) == times
        assert len(made.windows.question_tokens_Q) == len(made.questions)


def test_another_longest_answer_or_split_has_an_audit_of_its_own(data):
    """Breaks if training takes the report of a split that keeps every question, or a limit that is not its own."""
    longest = {}
    for limit in (30, 0):
        report = prepared(data, longest=limit).report
        assert report is not None and report.windows is not None and report.windows.labels is not None
        longest[limit] = report.windows.labels.long_answer_ids
    assert longest == {30: (), 0: ("ana", "two")}
    assert prepared(data, "validation").questions["id"][:] == [row["id"] for row in ROWS]
    assert len(kept_audits(data)) == 3


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_audit_is_made_again(damage, data, caplog):
    first = prepared(data)
    [file] = kept_audits(data)
    written = file.read_bytes()
    file.write_bytes(DAMAGES[damage](written))
    again = prepared(data)
    assert again.report == first.report and file.read_bytes() == written
    assert "computed again" in caplog.text


def test_a_cache_that_cannot_be_written_costs_the_audit_alone(data, monkeypatch):
    """Windows that others prepared are read where nothing can be written. Breaks if a start then ends with an error."""
    first = prepared(data)
    for file in kept_audits(data):
        file.unlink()

    def full(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("qa_accel.data.audit_cache.files.replacing", full)
    assert prepared(data).report == first.report and not kept_audits(data)
