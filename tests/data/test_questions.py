"""Questions are read once, found again by their content alone, and selected as `datasets` would select them."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import pytest
from damages import DAMAGES
from question_files import QUESTIONS, as_lines, file_of, row
from speed import scaled

from qa_accel.data import questions as questions_module
from qa_accel.data import sources, squad_format
from qa_accel.data.questions import has_split, has_unanswerable, load_questions
from qa_accel.data.settings import DataConfig

# The cache and the fingerprint


def fingerprint(path, cache, **settings):
    return load_questions(DataConfig(train_file=(str(path),), cache_dir=str(cache), **settings), "train")._fingerprint


def test_fingerprint_follows_content_and_selection_alone(tmp_path):
    """Windows are cached by it: a fingerprint from paths or times would tokenize again, one too coarse would mix data."""
    here, there, changed = tmp_path / "here.jsonl", tmp_path / "elsewhere" / "there.jsonl", tmp_path / "changed.jsonl"
    there.parent.mkdir()
    rows = [row(number) for number in range(10)]
    as_lines(rows)(here)
    as_lines(rows)(there)
    os.utime(there, (1, 1))
    changed.write_text(here.read_text().replace("Rome", "Roma", 1))
    base = fingerprint(here, tmp_path / "cache")
    assert fingerprint(there, tmp_path / "another_cache") == base
    others = [
        fingerprint(changed, tmp_path / "cache"),
        fingerprint(here, tmp_path / "cache", max_train_samples=9),
        fingerprint(here, tmp_path / "cache", train_shuffle_seed=1),
        fingerprint(here, tmp_path / "cache", train_shuffle_seed=2),
        fingerprint(here, tmp_path / "cache", train_num_shards=2),
        fingerprint(here, tmp_path / "cache", train_num_shards=2, train_shard=1),
    ]
    assert len({base, *others}) == 7
    assert fingerprint(there, tmp_path / "another_cache", train_shuffle_seed=2) == others[3]
    assert fingerprint(here, tmp_path / "cache", max_train_samples=10) == base  # a limit that cuts nothing


def test_fingerprint_is_the_same_in_another_process(tmp_path):
    """Python's own hash() differs from process to process."""
    config = file_of(tmp_path, [row(number) for number in range(5)])
    path = config.train_file[0]
    program = (
        "from qa_accel.data.questions import *;"
        f"config = DataConfig(train_file=({path!r},), cache_dir={str(tmp_path / 'other')!r}, train_shuffle_seed=3);"
        "print(load_questions(config, 'train')._fingerprint)"
    )
    repository = Path(questions_module.__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == fingerprint(path, tmp_path / "cache", train_shuffle_seed=3)


def test_reader_version_and_column_mapping_enter_the_fingerprint(tmp_path, monkeypatch):
    path = tmp_path / "q.jsonl"
    as_lines([row(1, other="Where else?")])(path)
    base, mapped = fingerprint(path, tmp_path), fingerprint(path, tmp_path, question_column="other")
    monkeypatch.setattr(squad_format, "VERSION", squad_format.VERSION + 1)
    assert len({base, mapped, fingerprint(path, tmp_path)}) == 3


def test_second_load_parses_nothing_even_under_another_path_or_selection(tmp_path, monkeypatch):
    config = file_of(tmp_path, QUESTIONS)
    parsed = []
    file_rows = sources.file_rows
    monkeypatch.setattr(sources, "file_rows", lambda path, *split: parsed.append(path) or file_rows(path, *split))
    first = load_questions(config, "train")
    assert len(parsed) == 1
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(Path(config.train_file[0]).read_bytes())
    second = load_questions(
        DataConfig(test_file=(str(moved),), cache_dir=config.cache_dir, max_predict_samples=2), "test"
    )
    assert len(parsed) == 1
    assert list(second) == list(first)[:2]


def test_broken_source_leaves_nothing_in_the_cache(tmp_path):
    """A half-written file under its final name would be believed at the next start."""
    config = file_of(tmp_path, [row(1), row(2, context=5)])
    with pytest.raises(ValueError, match="row 2"):
        load_questions(config, "train")
    assert list((tmp_path / "cache").iterdir()) == []


def test_process_killed_while_it_fills_the_cache_leaves_no_cached_questions(tmp_path):
    config = file_of(tmp_path, [row(number) for number in range(3000)])
    program = f"""
import os
from qa_accel.data import questions, sources
file_rows = sources.file_rows
def die_midway(path, split):
    for row in file_rows(path, split):
        if row.number == 2500:
            os._exit(9)
        yield row
sources.file_rows = die_midway
questions.load_questions(questions.DataConfig(train_file={config.train_file!r}, cache_dir={config.cache_dir!r}), "train")
"""
    assert (
        subprocess.run([sys.executable, "-c", program], cwd=Path(questions_module.__file__).parents[2]).returncode == 9
    )
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".partial"]
    assert len(load_questions(config, "train")) == 3000


def test_several_that_fill_the_cache_at_once_all_get_whole_questions(tmp_path, monkeypatch):
    """All threads find no file, so all write; the names they write aside must not meet."""
    config = file_of(tmp_path, [row(number) for number in range(1500)])
    together = threading.Barrier(4)
    fill = questions_module._fill
    monkeypatch.setattr(
        questions_module, "_fill", lambda *arguments: (together.wait(timeout=scaled(30)) and None) or fill(*arguments)
    )
    results = []
    threads = [threading.Thread(target=lambda: results.append(load_questions(config, "train"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(result) for result in results] == [1500] * 4
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_full_disk_names_the_folder_and_leaves_nothing(tmp_path, monkeypatch):
    config = file_of(tmp_path, [row(1)])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device\. .*--cache_dir"):
        load_questions(config, "train")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_file_is_computed_again(damage, tmp_path, caplog):
    """Breaks if bytes that Arrow accepts are taken for what was written: predictions were other ones, with exit code 0."""
    config = file_of(tmp_path, [row(number) for number in range(300)])
    whole = list(load_questions(config, "train"))
    (cached,) = (tmp_path / "cache").iterdir()
    written = cached.read_bytes()
    cached.write_bytes(DAMAGES[damage](written))
    assert list(load_questions(config, "train")) == whole
    assert "computed again" in caplog.text and str(cached) in caplog.text
    assert cached.read_bytes() == written


def test_a_cache_that_another_process_checked_is_not_read_again(tmp_path):
    """Breaks if each process of a node hashes all files: the damage here is in a byte that nothing else looks at."""
    config = file_of(tmp_path, [row(1)])
    load_questions(config, "train")
    (cached,) = (tmp_path / "cache").iterdir()
    damaged = cached.read_bytes()[:-1] + b"?"
    cached.write_bytes(damaged)
    load_questions(config, "train", check_cache=False)
    assert cached.read_bytes() == damaged


def test_contexts_are_stored_once(tmp_path):
    """Breaks if each question has its own copy: 2,200 questions on two long reports took 2.2 GB of cache."""
    context = "The river Lume is long. " * 4000
    config = file_of(tmp_path, [row(number) | {"context": context + str(number % 2)} for number in range(1200)])
    questions = load_questions(config, "train")
    (cached,) = (tmp_path / "cache").iterdir()
    assert cached.stat().st_size < 2.5 * len(context) + 1200 * 200, "each of the two texts once"
    assert [questions[n]["context"] == context + str(n % 2) for n in (0, 1, 998, 999, 1000, 1199)] == [True] * 6


def test_the_cache_is_in_the_cache_of_datasets_unless_set_otherwise(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    assert questions_module.cache_folder(DataConfig()) == tmp_path / "qa_accel"
    assert questions_module.cache_folder(DataConfig(cache_dir="mine")) == Path("mine")


# Selection


def test_limits_count_questions_of_their_own_split(tmp_path):
    path = str(tmp_path / "q.jsonl")
    as_lines([row(number) for number in range(10)])(tmp_path / "q.jsonl")
    config = DataConfig(
        train_file=(path,),
        validation_file=(path,),
        test_file=(path,),
        max_train_samples=3,
        max_eval_samples=4,
        max_predict_samples=20,
        cache_dir=str(tmp_path),
    )
    lengths = [len(load_questions(config, split)) for split in ("train", "validation", "test")]
    assert lengths == [3, 4, 10]


def test_shuffle_then_shard_then_limit_is_what_datasets_does(tmp_path):
    """The classic notebook's selection; another generator or order would train on other questions."""
    rows = [row(number) for number in range(103)]
    as_lines(rows)(tmp_path / "q.jsonl")
    files = (str(tmp_path / "q.jsonl"),)
    selection = {"shuffle_seed": 1, "num_shards": 25, "shard": 2}
    config = DataConfig(
        train_file=files,
        validation_file=files,
        cache_dir=str(tmp_path / "cache"),
        **{f"train_{key}": value for key, value in selection.items()},
        validation_shuffle_seed=7,
        validation_num_shards=2,
        max_eval_samples=10,
    )
    theirs = datasets.Dataset.from_list(rows)
    expected = theirs.shuffle(seed=1).shard(num_shards=25, index=2)["id"][:]
    assert load_questions(config, "train")["id"][:] == expected
    assert len(expected) == 5  # 103 = 3 * 5 + 22 * 4
    assert load_questions(config, "validation")["id"][:] == theirs.shuffle(seed=7).shard(2, 0)["id"][:10]
    assert len(list((tmp_path / "cache").iterdir())) == 1  # selections write no files of indices


def test_more_shards_than_questions_are_an_error(tmp_path):
    as_lines([row(1)])(tmp_path / "q.jsonl")
    config = DataConfig(train_file=(str(tmp_path / "q.jsonl"),), cache_dir=str(tmp_path), train_num_shards=3)
    with pytest.raises(ValueError, match="train_num_shards is 3, but there are only 1 questions"):
        load_questions(config, "train")


# With and without answers


def test_data_without_answers_has_no_answers_column_and_serves_only_test(tmp_path):
    config = file_of(tmp_path, [{"id": "q1", "question": "Where?", "context": "Rome", "anwsers": []}])
    questions = load_questions(config, "test")
    assert questions.column_names == ["id", "question", "context"]
    assert not has_unanswerable(questions)
    with pytest.raises(
        ValueError, match=r"no column 'answers'; found .*anwsers; name it: --answers_column anwsers.*train needs"
    ):
        load_questions(config, "train")


def test_unanswerable_is_found_whatever_is_selected_around_it(tmp_path):
    none = {"text": [], "answer_start": []}
    config = file_of(tmp_path, [row(1), row(2), row(3, answers=none), row(4)])
    questions = load_questions(config, "train")
    assert has_unanswerable(questions)
    assert not has_unanswerable(questions.select([0, 1]))  # a slice, which Arrow keeps with an offset
    assert not has_unanswerable(questions.select([3, 0]))  # a mapping of indices
    assert has_unanswerable(questions.select([3, 2]))


def test_version_1_with_unanswerable_questions_is_an_error(tmp_path):
    """SQuAD v1.1 has no way to score them: the official scorer takes a maximum over no answers."""
    path = str(tmp_path / "q.jsonl")
    as_lines(QUESTIONS)(tmp_path / "q.jsonl")
    config = DataConfig(train_file=(path,), version_2_with_negative=False, max_train_samples=1, cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="id 'a2' has no answer, but version_2_with_negative is false"):
        load_questions(config, "train")
    as_lines(QUESTIONS[2:])(tmp_path / "q.jsonl")
    assert len(load_questions(config, "train")) == 1


# Settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train_file": "a.json"}, "train_file must be a tuple of paths"),
        ({"validation_file": ()}, "validation_file must be a tuple of paths"),
        ({"dataset_config_name": "plain_text"}, "needs a dataset_name"),
        ({"question_column": "context"}, "four different column names"),
        ({"max_eval_samples": 0}, "max_eval_samples must be at least 1"),
        ({"train_num_shards": 25, "train_shard": 25}, r"train_shard must be in \[0, train_num_shards\), got 25 of 25"),
        ({"validation_shuffle_seed": -1}, "--validation_shuffle_seed must be at least 0"),
    ],
)
def test_impossible_settings_are_refused_at_once(wrong, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**wrong)


def test_files_win_over_a_recipes_dataset_name_and_say_so(tmp_path, caplog):
    """A recipe names hub data; the same recipe must run offline on files."""
    as_lines(QUESTIONS)(tmp_path / "q.jsonl")
    config = DataConfig(dataset_name="squad_v2", train_file=(str(tmp_path / "q.jsonl"),), cache_dir=str(tmp_path))
    assert len(load_questions(config, "train")) == 4
    assert "dataset_name squad_v2 is ignored, since train_file is given" in caplog.text
    assert not has_split(config, "validation")
    with pytest.raises(ValueError, match="no validation questions: give --validation_file"):
        load_questions(config, "validation")
