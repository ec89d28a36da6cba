"""Whatever a source's format, the same questions come out, text and offsets untouched; or one error that says where."""

import csv
import errno
import gzip
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_accel import canonical, data, json_pieces, sources
from qa_accel.data import DataConfig, has_split, has_unanswerable, load_questions

# Offsets by hand, in characters: the rocket is one (four bytes, two UTF-16 units), the combining tilde one of its own.
ADA = "🚀 Ada is in Sa\u0303o Paulo.  "
SODIUM = "Line one\r\nNA\u00a0is sodium."
DATE = "On 2008-01-01 it began."
QUESTIONS = [
    {
        "id": "a1",
        "question": "Where is Ada?",
        "context": ADA,
        "answers": {"text": ["Sa\u0303o Paulo"], "answer_start": [12]},
    },
    {"id": "a2", "question": "  Who rules\u00a0there? ", "context": ADA, "answers": {"text": [], "answer_start": []}},
    # "NA" and a date are what table readers like to turn into a missing value and a time.
    {
        "id": "003",
        "question": "NA",
        "context": SODIUM,
        "answers": {"text": ["NA", "NA\u00a0is"], "answer_start": [10, 10]},
    },
    {"id": "4", "question": "2008-01-01", "context": DATE, "answers": {"text": ["2008-01-01"], "answer_start": [3]}},
]
GROUPS = [("Ada", QUESTIONS[:2]), ("Salt", QUESTIONS[2:3]), ("Dates", QUESTIONS[3:])]


def pairs(answers):
    return [{"text": text, "answer_start": start} for text, start in zip(answers["text"], answers["answer_start"])]


def nested(groups=GROUPS):
    def qa(row):
        impossible = not row["answers"]["text"]
        extra = (
            {"is_impossible": impossible, "plausible_answers": [{"text": "Ada", "answer_start": 2}]}
            if impossible
            else {}
        )
        return {"id": row["id"], "question": row["question"], "answers": pairs(row["answers"]), **extra}

    articles = [
        {"title": title, "paragraphs": [{"context": rows[0]["context"], "id": "p", "qas": [qa(row) for row in rows]}]}
        for title, rows in groups
    ]
    return {"version": "v2.0", "data": articles}


def as_json(content, **options):
    return lambda path: path.write_text(json.dumps(content, **options), encoding="utf-8")


def as_lines(rows):
    return lambda path: path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )


def as_csv(rows):
    def write(path):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    return write


def as_parquet(rows):
    return lambda path: datasets.Dataset.from_list(rows).to_parquet(path)


def packed(write):
    def write_packed(path):
        write(path)
        path.write_bytes(gzip.compress(path.read_bytes()))

    return write_packed


WITH_PAIRS = [row | {"answers": pairs(row["answers"])} for row in QUESTIONS]
WITH_JSON = [row | {"answers": json.dumps(row["answers"])} for row in QUESTIONS]
FORMATS = {
    "nested.json": as_json(nested()),
    "nested_pretty.json": as_json(nested(), indent=2, ensure_ascii=False),
    "nested_list.json": as_json(nested()["data"]),
    "nested_lines.jsonl": as_lines(nested()["data"]),
    "nested.json.gz": packed(as_json(nested())),
    "nested_by_another_name.txt": as_json(nested()),
    "list.json": as_json(QUESTIONS),
    "under_data.json": as_json({"data": WITH_PAIRS, "version": 1.25}),
    "lines.jsonl": as_lines(QUESTIONS),
    "lines_with_pairs.json": as_lines(WITH_PAIRS),
    "lines.jsonl.gz": packed(as_lines(QUESTIONS)),
    "json_in_cells.csv": as_csv(WITH_JSON),
    "json_in_cells.csv.gz": packed(as_csv(WITH_JSON)),
    "table.parquet": as_parquet(QUESTIONS),
    "table_with_pairs.parquet": as_parquet(WITH_PAIRS),
}


def bare(rows):
    return [{key: row[key] for key in ("id", "question", "context", "answers")} for row in rows]


def file_of(folder, content, name="questions.jsonl"):
    """A file of rows or of text, and the settings that train on it with a cache of its own."""
    path = folder / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        as_lines(content)(path)
    return DataConfig(train_file=(str(path),), test_file=(str(path),), cache_dir=str(folder / "cache"))


def row(number, **other):
    answers = {"text": ["Paris"], "answer_start": [0]}
    return {"id": f"q{number}", "question": "Where?", "context": "Paris or Rome", "answers": answers} | other


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_questions(name, tmp_path):
    """Broken by any reader that guesses types, strips, normalizes line ends or counts other units than characters."""
    FORMATS[name](tmp_path / name)
    questions = load_questions(DataConfig(train_file=(str(tmp_path / name),), cache_dir=str(tmp_path)), "train")
    assert bare(questions) == QUESTIONS
    for question in questions:
        for text, start in zip(question["answers"]["text"], question["answers"]["answer_start"]):
            assert question["context"][start : start + len(text)] == text
    assert questions.features["answers"] == {
        "text": datasets.List(datasets.Value("string")),
        "answer_start": datasets.List(datasets.Value("int32")),
    }


def test_title_is_kept_where_there_is_one_and_other_columns_are_not(tmp_path):
    config = file_of(tmp_path, json.dumps(nested()), "titled.json")
    assert load_questions(config, "train")["title"][:] == ["Ada", "Ada", "Salt", "Dates"]
    config = file_of(tmp_path, [row(1, score=0.5, title=None), row(2, score=0.25)])
    assert load_questions(config, "train").column_names == ["id", "question", "context", "answers"]


def test_csv_with_one_answer_in_two_columns(tmp_path):
    """Both cells empty say that there is no answer; this form has no other way to say it."""
    rows = [
        {"id": 7, "question": "Where?", "context": "In Rome, yes.", "answer_text": "Rome", "answer_start": 3},
        {"id": 8, "question": "When?", "context": "In Rome, yes.", "answer_text": "", "answer_start": ""},
    ]
    as_csv(rows)(tmp_path / "two.csv")
    questions = load_questions(DataConfig(train_file=(str(tmp_path / "two.csv"),), cache_dir=str(tmp_path)), "train")
    assert questions["id"][:] == ["7", "8"]  # numbers as ids become text
    assert questions["answers"][:] == [{"text": ["Rome"], "answer_start": [3]}, {"text": [], "answer_start": []}]


def test_csv_cell_longer_than_pythons_limit(tmp_path):
    """Python's csv refuses cells beyond 131,072 characters unless told otherwise."""
    rows = [
        {
            "id": "long",
            "question": "?",
            "context": "x" * 200_000 + "Rome",
            "answer_text": "Rome",
            "answer_start": 200_000,
        }
    ]
    as_csv(rows)(tmp_path / "long.csv")
    questions = load_questions(DataConfig(train_file=(str(tmp_path / "long.csv"),), cache_dir=str(tmp_path)), "train")
    assert len(questions[0]["context"]) == 200_004


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


def test_files_and_globs_are_read_in_the_order_of_the_setting_and_then_of_names(tmp_path):
    for name, number in {"part-2": 2, "part-1": 1, "first": 0}.items():
        as_lines([row(number)])(tmp_path / f"{name}.jsonl")
    patterns = (str(tmp_path / "first.jsonl"), str(tmp_path / "part-*.jsonl"))
    questions = load_questions(DataConfig(train_file=patterns, cache_dir=str(tmp_path / "cache")), "train")
    assert questions["id"][:] == ["q0", "q1", "q2"]


def test_saved_dataset_dict_is_read_by_split(tmp_path):
    saved = datasets.DatasetDict(
        train=datasets.Dataset.from_list(QUESTIONS), validation=datasets.Dataset.from_list(QUESTIONS[:1])
    )
    saved.save_to_disk(tmp_path / "saved")
    config = DataConfig(dataset_name=str(tmp_path / "saved"), cache_dir=str(tmp_path))
    assert list(load_questions(config, "train")) == QUESTIONS
    assert list(load_questions(config, "validation")) == QUESTIONS[:1]
    assert has_split(config, "validation") and not has_split(config, "test")
    with pytest.raises(ValueError, match=r"no split 'test'; it has train, validation"):
        load_questions(config, "test")


def test_saved_dataset_without_a_split_is_never_evaluated_on(tmp_path):
    """Else training and evaluation would be on the same questions without a word."""
    datasets.Dataset.from_list(QUESTIONS).save_to_disk(tmp_path / "saved")
    config = DataConfig(dataset_name=str(tmp_path / "saved"), cache_dir=str(tmp_path))
    assert len(load_questions(config, "train")) == len(load_questions(config, "test")) == 4
    with pytest.raises(ValueError, match=r"no split 'validation'; it has train, test"):
        load_questions(config, "validation")


def test_unreachable_hub_is_one_clear_error(tmp_path):
    config = DataConfig(dataset_name="nobody/has-this-set", cache_dir=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"--dataset_name nobody/has-this-set: cannot be loaded .*--train_file"
    ) as caught:
        load_questions(config, "train")
    assert "\n" not in str(caught.value)


def test_files_win_over_a_recipes_dataset_name_and_say_so(tmp_path, caplog):
    """A recipe names hub data; the same recipe must run offline on files."""
    as_lines(QUESTIONS)(tmp_path / "q.jsonl")
    config = DataConfig(dataset_name="squad_v2", train_file=(str(tmp_path / "q.jsonl"),), cache_dir=str(tmp_path))
    assert len(load_questions(config, "train")) == 4
    assert "dataset_name squad_v2 is left aside, since train_file is given" in caplog.text
    assert not has_split(config, "validation")
    with pytest.raises(ValueError, match="no validation questions: give --validation_file"):
        load_questions(config, "validation")


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
        "from qa_accel.data import *;"
        f"config = DataConfig(train_file=({path!r},), cache_dir={str(tmp_path / 'other')!r}, train_shuffle_seed=3);"
        "print(load_questions(config, 'train')._fingerprint)"
    )
    repository = Path(data.__file__).parents[1]
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == fingerprint(path, tmp_path / "cache", train_shuffle_seed=3)


def test_reader_version_and_column_mapping_enter_the_fingerprint(tmp_path, monkeypatch):
    path = tmp_path / "q.jsonl"
    as_lines([row(1, other="Where else?")])(path)
    base, mapped = fingerprint(path, tmp_path), fingerprint(path, tmp_path, question_column="other")
    monkeypatch.setattr(canonical, "VERSION", canonical.VERSION + 1)
    assert len({base, mapped, fingerprint(path, tmp_path)}) == 3


def test_second_load_parses_nothing_even_under_another_path_or_selection(tmp_path, monkeypatch):
    config = file_of(tmp_path, QUESTIONS)
    parsed = []
    file_rows = sources.file_rows
    monkeypatch.setattr(sources, "file_rows", lambda path: parsed.append(path) or file_rows(path))
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
from qa_accel import data, sources
file_rows = sources.file_rows
def die_midway(path):
    for row in file_rows(path):
        if row.number == 2500:
            os._exit(9)
        yield row
sources.file_rows = die_midway
data.load_questions(data.DataConfig(train_file={config.train_file!r}, cache_dir={config.cache_dir!r}), "train")
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(data.__file__).parents[1]).returncode == 9
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".partial"]
    assert len(load_questions(config, "train")) == 3000


def test_several_that_fill_the_cache_at_once_all_get_whole_questions(tmp_path, monkeypatch):
    """All threads find no file, so all write; the names they write aside must not meet."""
    config = file_of(tmp_path, [row(number) for number in range(1500)])
    together = threading.Barrier(4)
    fill = data._fill
    monkeypatch.setattr(data, "_fill", lambda *arguments: (together.wait(timeout=30) and None) or fill(*arguments))
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

    monkeypatch.setattr(data.os, "fsync", full)
    with pytest.raises(ValueError, match=r"cannot be written \(No space left on device\).*--cache_dir"):
        load_questions(config, "train")
    assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_cache_file_is_named(tmp_path):
    config = file_of(tmp_path, [row(1)])
    load_questions(config, "train")
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(cached.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"damaged .*delete it"):
        load_questions(config, "train")


def test_cache_lies_in_the_cache_of_datasets_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    assert data.cache_folder(DataConfig()) == tmp_path / "qa_accel"
    assert data.cache_folder(DataConfig(cache_dir="mine")) == Path("mine")


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


# One clear error each


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(1), row(2), row(1)], r"row 3: id 'q1' stands already in \S+q.jsonl: row 1; ids must differ"),
        ([row(1, id=1), row(2, id="1")], r"row 2: id '1' stands already"),
        ([row(1), {"ID": "x"}], r"row 2: no column 'id'; found ID; name it: --id_column ID"),
        (
            [{"id": "x", "query": "", "context": ""}],
            r"no column 'question'; found id, query, context; add it, or .*--question_column",
        ),
        ([row(1, question=None)], r"row 1: id 'q1': 'question' is null or missing; text is expected"),
        ([row(1, context=["a"])], r"'context' is \"\['a'\]\" \(list\); text is expected"),
        ([row(1, id=1.5)], r"'id' is '1.5' \(float\); text is expected"),
        ([row(1, id="")], r"'id' is empty; every question needs an id"),
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
        ([row(1, answers="Paris")], r"'answers' is 'Paris' \(str\), which is no JSON"),
        ([row(1, is_impossible=True)], r"is_impossible is true, but the answer 'Paris' is given"),
        (
            [row(1), row(2, answers=None)],
            r"row 2: id 'q2' has no 'answers', but others have \(\S+ row 1\); give empty lists",
        ),
        ([row(1, answers=None), row(2)], r"row 1: id 'q1' has no 'answers', but others have \(\S+ row 2\)"),
        ([row(1, question="half \ud83d")], r"row 1: character 5 of .* is half of a surrogate pair"),
    ],
)
def test_wrong_row_is_named_with_what_was_found(rows, message, tmp_path):
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
    with pytest.raises(ValueError, match=r"b.jsonl: row 2: id 'q2' stands already in \S+a.jsonl: row 2"):
        load_questions(config, "train")


def test_nested_errors_name_article_and_paragraph(tmp_path):
    content = nested()
    del content["data"][1]["paragraphs"][0]["qas"][0]["id"]  # the paragraph's own "id" must not stand in for it
    config = file_of(tmp_path, json.dumps(content), "nested.json")
    with pytest.raises(ValueError, match=r"row 3 \(article 2 'Salt', paragraph 1\): no column 'id'"):
        load_questions(config, "train")
    content["data"][1]["paragraphs"][0] = {"context": "Rome"}
    config = file_of(tmp_path, json.dumps(content), "nested.json")
    with pytest.raises(ValueError, match=r"article 2 'Salt', paragraph 1: 'qas' is null or missing"):
        load_questions(config, "train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.json", b"", r"is empty"),
        ("q.json", b'{"data": []}', r"holds no question"),
        ("q.csv", b"id,question,context\n", r"holds no question"),
        (
            "q.json",
            b'[\n {"id" "b"}]',
            r"broken JSON at line 2 \(character 10 of the file\): Expecting ':' delimiter",
        ),
        ("q.json", b'[{"id": "a"', r"broken JSON at line 1"),
        ("q.json", b'[{"id": "a", "question": "", "context": ""}] x', r"text behind the end"),
        ("q.json", b'[{"id": "a", "question": "", "context": ""} 5]', r"expected ',' or '\]', found '5'"),
        ("q.json", b'["a"]', r"row 1 is 'a' \(str\); an object with columns"),
        ("q.json", b'["\xff"]', r"is not UTF-8 \(invalid start byte b'\\xff'\)"),
        ("q.json.gz", gzip.compress(b'[{"id": "a"}]')[:-9], r"broken or cannot be read"),
        ("q.parquet", b"PAR1 and no more", r"broken or cannot be read"),
        ("q.parquet.gz", gzip.compress(b"PAR1"), r"Parquet inside gzip; unpack it"),
        ("q.zip", b"PK\x03\x04", r"begins with b'PK.*neither JSON, JSONL nor Parquet"),
        ("q.csv", b'id,question,context\na,b,"c', r"row 1 \(up to line 2\): unexpected end of data"),
        ("q.csv", b"id,question,context\na,b,c\na,b,c,d\n", r"row 2 has 4 cells, the header 3"),
        ("q.csv", b"id,question,context\na,b\n", r"row 1 has 2 cells, the header 3"),
        ("q.csv", b"id,id\na,b\n", r"the header names a column twice"),
        ("q.csv", b"id,question,context,answer_text\na,b,c,c\n", r"no column 'answer_start'"),
        ("q.csv", b"id,question,context,answer_text,answer_start\na,b,c,c,0.0\n", r"answer_start is '0.0'.*Int64"),
    ],
)
def test_broken_file_is_named_with_a_remedy(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    config = DataConfig(test_file=(str(tmp_path / name),), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=message) as caught:
        load_questions(config, "test")
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("absent.json", "there is no such file"), ("absent-*.json", "the glob matches no file"), (".", "is a folder")],
)
def test_setting_that_names_no_file_is_an_error(pattern, message, tmp_path):
    config = DataConfig(train_file=(str(tmp_path / pattern),), cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=f"--train_file .*{message}"):
        load_questions(config, "train")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train_file": "a.json"}, "train_file must be a tuple of paths"),
        ({"validation_file": ()}, "validation_file must be a tuple of paths"),
        ({"dataset_config_name": "plain_text"}, "needs a dataset_name"),
        ({"question_column": "context"}, "four different column names"),
        ({"max_eval_samples": 0}, "max_eval_samples must be at least 1"),
        ({"train_num_shards": 25, "train_shard": 25}, r"train_shard must be in \[0, train_num_shards\), got 25 of 25"),
        ({"validation_shuffle_seed": -1}, "validation_shuffle_seed must be 0 or more"),
    ],
)
def test_impossible_settings_are_refused_at_once(wrong, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**wrong)


# The JSON reader


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def elements(text, piece):
    former, json_pieces.PIECE = json_pieces.PIECE, piece
    try:
        return list(json_pieces.JsonPieces(io.StringIO(text), Path("x.json")).elements())
    finally:
        json_pieces.PIECE = former


@settings(max_examples=80, deadline=None)
@given(st.lists(json_values, max_size=5), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_json_in_pieces_equals_json_at_once(values, piece, indent, ascii_only):
    """Pieces of a few characters cut numbers, escapes and surrogate pairs everywhere they can be cut."""
    options = {"indent": indent, "ensure_ascii": ascii_only}
    assert elements(json.dumps(values, **options), piece) == values
    assert elements(json.dumps({"version": 12.5e10, "data": values, "end": None}, **options), piece) == values
    lines = [{"first": 1}, *values]
    assert elements("\n".join(json.dumps(value, ensure_ascii=ascii_only) for value in lines), piece) == lines


# Real data


def test_real_dev_set_is_read_as_it_stands(shared, tmp_path):
    config = DataConfig(validation_file=(str(shared / "data/squad_v2/dev.json"),), cache_dir=str(tmp_path))
    questions = load_questions(config, "validation")
    texts = questions["question"][:]
    assert len(questions) == 6078
    assert sum(text != text.strip() for text in texts) == 608  # kept: text is never stripped
    unanswerable = sum(not answers["text"] for answers in questions["answers"])
    assert round(100 * unanswerable / 6078, 1) == 52.1
    by_id = {
        qa["id"]: (qa["question"], paragraph["context"], qa["answers"])
        for article in json.loads((shared / "data/squad_v2/dev.json").read_text("utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
    assert {q["id"]: (q["question"], q["context"], pairs(q["answers"])) for q in questions} == by_id
