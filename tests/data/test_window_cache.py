"""Windows are made once, kept in one file whose name is what they depend on, and read without a copy."""

import copy
import logging
from pathlib import Path

import pytest
from damages import DAMAGES
from toy_questions import TINY, assert_equal, questions_of, rows
from toy_tokenizers import FAMILIES
from transformers import AutoTokenizer

from qa_accel.data import window_cache
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_cache import prepare_windows, windows_file


@pytest.fixture
def tokenizer():
    return FAMILIES["wordpiece"]()


def test_a_second_prepare_tokenizes_nothing(tmp_path, monkeypatch, tokenizer, caplog):
    questions = questions_of(rows())
    first = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns

    def refuse(*_):
        raise AssertionError("tokenizes")

    monkeypatch.setattr(PairTokenizer, "__init__", refuse)
    with caplog.at_level(logging.INFO, logger="qa_accel.data.window_cache"):
        again = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path, num_proc=2)
    assert_equal(first, again)
    assert "nothing to tokenize" in caplog.text
    assert file.stat().st_mtime_ns == written
    with pytest.raises(AssertionError, match="tokenizes"):  # else this test would pass whatever happened
        prepare_windows(questions, tokenizer, WindowConfig(32, 5, 10), cache_dir=tmp_path)


def test_the_cache_file_depends_on_questions_tokenizer_and_settings_and_on_nothing_else(tmp_path, tokenizer):
    questions = questions_of(rows())

    def name(questions=questions, tokenizer=tokenizer, config=TINY, cache_dir=tmp_path):
        return windows_file(questions, tokenizer, config, cache_dir=cache_dir).name

    tokenizer.save_pretrained(tmp_path / "elsewhere")
    elsewhere = AutoTokenizer.from_pretrained(tmp_path / "elsewhere")
    used_before = copy.deepcopy(tokenizer)  # trained again it would differ: the trainer breaks ties by chance
    used_before(["a"], ["b"], truncation="only_second", max_length=8, stride=1, padding="max_length")
    left = copy.deepcopy(tokenizer)
    left.padding_side = left.truncation_side = "left"
    for same in (elsewhere, used_before, left):
        assert name(tokenizer=same) == name()
    assert name(cache_dir=tmp_path / "other") == name()
    assert name(questions=questions_of(rows())) == name()  # the same content, built again

    longer = copy.deepcopy(tokenizer)
    longer.add_tokens(["Müller"])
    other_names = [
        name(questions=questions.select(range(10))),
        name(questions=questions_of(rows() | {"question": ["?"] * 60})),
        name(tokenizer=longer),
        name(tokenizer=FAMILIES["roberta"]()),
        name(config=WindowConfig(32, 5, 10)),
        name(config=WindowConfig(31, 6, 10)),
        name(config=WindowConfig(32, 6, 9)),
    ]
    assert len({name(), *other_names}) == 1 + len(other_names)


def test_arrays_are_the_mapped_file_itself(tmp_path, tokenizer):
    # Broken by a column of another type or a chunk more: to_numpy would copy, and each process would hold all windows.
    windows = prepare_windows(questions_of(rows()), tokenizer, TINY, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("what is mapped where is read from /proc")
    lines = [line.split() for line in maps.read_text().splitlines() if line.endswith(str(file))]
    ranges = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    for name, array in vars(windows).items():
        if array is not None and not name.endswith("_Q"):
            assert not array.flags.owndata and not array.flags.writeable, name
            assert any(begin <= array.ctypes.data < end for begin, end in ranges), name


def test_nothing_half_written_stays_behind(tmp_path, monkeypatch, tokenizer):
    questions = questions_of(rows())
    write = window_cache.write_in_question_order

    def full(made, row_of_place, path):
        write(made, row_of_place, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(window_cache, "write_in_question_order", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device\. .*--cache_dir"):
        prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []

    def closed(made, row_of_place, path):
        raise ValueError("I/O operation on closed file")  # datasets' writer, when it is closed after a full disk

    monkeypatch.setattr(window_cache, "write_in_question_order", closed)
    with pytest.raises(OSError, match=r"cannot be written: the disk seems to be full .*--cache_dir"):
        prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []

    monkeypatch.undo()
    prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "cache")
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".arrow"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_file_is_computed_again(damage, tmp_path, tokenizer, caplog):
    """Breaks if bytes that Arrow accepts are taken for what was written: predictions were other ones, with exit code 0."""
    questions = questions_of(rows())
    whole = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "whole")
    prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    written = file.read_bytes()
    file.write_bytes(DAMAGES[damage](written))
    assert_equal(prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "cache"), whole)
    assert "computed again" in caplog.text and str(file) in caplog.text
    assert file.read_bytes() == written
