"""When a run says that the rules of English compare answers of another script, and what it suggests."""

import json

import pytest

from qa_accel.data import answer_scripts
from qa_accel.data.answer_scripts import likely_language, some_answers, warning_of
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig


@pytest.mark.parametrize(
    ("texts", "suggested"),
    [
        (["霍爾特", "一九三一年"], "zh"),
        (["東京タワー", "京都"], "ja"),  # kana are a quarter; the second has none
        (["서울 대학교"], "ko"),
        (["กรุงเทพ"], "th"),
        (["Волга"], "ru"),
        (["في لندن"], "ar"),
        (["नदी"], "hi"),
        (["নদী"], "bn"),
        (["నది"], "te"),
        (["Ωμέγα"], "el"),
        (["霍爾特", "서울 대학교의"], "ko"),  # six characters against three
    ],
)
def test_the_script_suggests_the_language(texts, suggested):
    """Breaks if a range of characters is another script's, or if Japanese is taken for Chinese."""
    found = likely_language(texts)
    assert found is not None and found.split()[0] == suggested
    warning = warning_of(texts, "en")
    assert warning is not None and f"give --answer_language {suggested}" in warning


def test_it_speaks_where_more_than_half_of_the_answers_are_foreign_and_english_compares_them():
    """Breaks if half is enough, if blanks count as answers, or if a run that names its language is warned."""
    assert warning_of(["霍爾特", "Holt"], "en") is None
    assert warning_of(["霍爾特", "Holt", "", " "], "en") is None
    assert warning_of(["霍爾特", "一九三一年", "Holt"], "en") == (
        "2 of 3 gold answers hold no ASCII letter or digit, and --answer_language is en: scores compare them by the rules of "
        "English; give --answer_language zh"
    )
    assert warning_of(["霍爾特"], "zh") is None
    assert warning_of([], "en") is None
    found = warning_of(["«»"], "en")
    assert found is not None and found.endswith("give the language of the answers with --answer_language")


def file_of(path, answers):
    rows = [
        {"id": str(n), "question": "?", "context": text, "answers": {"text": [text], "answer_start": [0]}}
        for n, text in enumerate(answers)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return (str(path),)


def test_loading_questions_says_it_of_those_that_are_scored(tmp_path, caplog):
    """Breaks if it is said twice of a run with training and validation questions, or not at all."""
    files = file_of(tmp_path / "dev.json", ["霍爾特", "盧梅河"])
    known = {"train_file": files, "validation_file": files, "test_file": files, "cache_dir": str(tmp_path / "cache")}
    for split, language, times in (
        ("train", "en", 0),
        ("validation", "zh", 0),
        ("validation", "en", 1),
        ("test", "en", 1),
    ):
        caplog.clear()
        load_questions(DataConfig(**known, answer_language=(language,)), split)  # type: ignore[arg-type]
        said = [record.getMessage() for record in caplog.records if "answer_language" in record.getMessage()]
        assert len(said) == times and all("--answer_language zh" in line for line in said), (split, language)


def test_a_bounded_part_of_large_data_is_looked_at(tmp_path, monkeypatch):
    """English in front and Chinese behind. Breaks if all are read, which costs as long as they are, or the first ones alone."""
    monkeypatch.setattr(answer_scripts, "MOST_QUESTIONS", 60)
    files = file_of(tmp_path / "dev.json", ["Holt"] * 40 + ["霍爾特"] * 80)
    questions = load_questions(DataConfig(test_file=files, cache_dir=str(tmp_path / "cache")), "test")
    answers = list(some_answers(questions))
    assert len(answers) == 60 and answers.count("霍爾特") == pytest.approx(40, abs=1)
    assert list(some_answers(questions.remove_columns("answers"))) == []
