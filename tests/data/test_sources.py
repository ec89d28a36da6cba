"""Whatever a source's format, the same questions come out, text and offsets untouched; or one error that says where."""

import gzip
import json
import os

import datasets
import pytest
from question_files import QUESTIONS, as_csv, as_json, as_lines, file_of, nested, pairs, row

from qa_accel.data.questions import has_split, load_questions
from qa_accel.data.settings import DataConfig


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


def test_csv_cell_longer_than_pythons_limit(tmp_path):
    """Python's csv refuses cells beyond 131,072 characters by default."""
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


@pytest.mark.parametrize("name", ["train.csv", "data/train-00000-of-00001.csv", "train/part.csv", "train.tsv"])
def test_a_folder_of_tables_is_read_as_the_same_files_are(name, tmp_path):
    """Breaks if `datasets` reads the table: it guesses types, so that the ids become 7 and 8, and the text NA null."""
    rows = [
        {"id": "007", "question": "NA", "context": "Opened in 1931.", "answer_text": "1931", "answer_start": 10},
        {"id": "008", "question": "1e5", "context": "NA is sodium.", "answer_text": "NA", "answer_start": 0},
    ]
    path = tmp_path / "folder" / name
    path.parent.mkdir(parents=True)
    as_csv(rows)(path)
    questions = load_questions(DataConfig(dataset_name=str(tmp_path / "folder"), cache_dir=str(tmp_path)), "train")
    assert questions["id"][:] == ["007", "008"]
    assert questions["question"][:] == ["NA", "1e5"]
    assert [answers["text"] for answers in questions["answers"]] == [["1931"], ["NA"]]
    by_file = load_questions(DataConfig(train_file=(str(path),), cache_dir=str(tmp_path)), "train")
    assert by_file._fingerprint == questions._fingerprint, "the cache is shared with --train_file"


def test_a_folder_of_json_files_is_read_as_the_same_files_are(tmp_path):
    """Breaks if `datasets` reads them: an id 2008-01-01 becomes a time, and it knows no nested SQuAD."""
    folder = tmp_path / "folder"
    folder.mkdir()
    as_json(nested())(folder / "train.json")
    as_lines([row(1, id="2008-01-01"), row(2, id="2008-01-02")])(folder / "validation.json")
    config = DataConfig(dataset_name=str(folder), cache_dir=str(tmp_path))
    assert bare(load_questions(config, "train")) == QUESTIONS
    assert load_questions(config, "validation")["id"][:] == ["2008-01-01", "2008-01-02"]
    assert has_split(config, "validation") and not has_split(config, "test")
    with pytest.raises(ValueError, match=r"no split 'test'; it has train, validation"):
        load_questions(config, "test")


def test_ids_that_datasets_has_taken_for_numbers_are_mentioned(tmp_path, caplog):
    """What is lost cannot be read from a saved set; a set with ids as text has no such warning."""
    for name, ids in {"numbers": ["007", "008"], "texts": ["a7", "a8"]}.items():
        other = {"question": "Where?", "context": "Rome", "answer_text": "Rome", "answer_start": 0}
        as_csv([{"id": i} | other for i in ids])(tmp_path / f"{name}.csv")
        loaded = datasets.load_dataset("csv", data_files=str(tmp_path / f"{name}.csv"), cache_dir=str(tmp_path / "hf"))
        loaded.save_to_disk(tmp_path / name)
        caplog.clear()
        config = DataConfig(dataset_name=str(tmp_path / name), cache_dir=str(tmp_path / "cache"))
        assert len(load_questions(config, "train")) == 2
        assert ("read the column 'id' of a CSV file as int64" in caplog.text) == (name == "numbers")


def test_a_folder_without_data_is_not_looked_up_on_the_hub(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"cannot be loaded .*the folder holds neither what save_to_disk writes nor"):
        load_questions(DataConfig(dataset_name=str(tmp_path / "empty"), cache_dir=str(tmp_path)), "train")


def test_unreachable_hub_is_one_clear_error(tmp_path):
    config = DataConfig(dataset_name="nobody/has-this-set", cache_dir=str(tmp_path))
    with pytest.raises(
        ValueError, match=r"--dataset_name nobody/has-this-set: cannot be loaded .*--train_file"
    ) as caught:
        load_questions(config, "train")
    assert "\n" not in str(caught.value)


# One clear error each


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
        ("q.json", b'[{"id": "a", "question": "", "context": ""}] x', r"text after the end"),
        ("q.json", b'[{"id": "a", "question": "", "context": ""} 5]', r"expected ',' or '\]', found '5'"),
        ("q.json", b'["a"]', r"row 1 is 'a' \(str\); an object with columns"),
        ("q.json", b'["\xff"]', r"is not UTF-8 \(invalid start byte b'\\xff'\)"),
        ("q.json.gz", gzip.compress(b'[{"id": "a"}]', mtime=0)[:-9], r"broken or cannot be read"),
        ("q.parquet", b"PAR1 and no more", r"broken or cannot be read"),
        ("q.parquet.gz", gzip.compress(b"PAR1", mtime=0), r"Parquet inside gzip; unpack it"),
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


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/random", "/dev/null"])
def test_a_device_is_refused_before_it_is_read(device, tmp_path):
    """Breaks if the content's hash is taken first: /dev/zero never ends."""
    with pytest.raises(ValueError, match=f"{device}: is a device, not a regular file; save its content"):
        load_questions(DataConfig(train_file=(device,), cache_dir=str(tmp_path)), "train")


def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    """Opening a pipe that nobody writes to waits for ever. A glob passes over it, a link to it does not hide it."""
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to(tmp_path / "pipe.json")
    for name in ("pipe.json", "link.json"):
        with pytest.raises(ValueError, match=rf"{name}: is a pipe, not a regular file; .*<\(\.\.\.\) is a pipe too"):
            load_questions(DataConfig(train_file=(str(tmp_path / name),), cache_dir=str(tmp_path)), "train")
    with pytest.raises(ValueError, match="the glob matches no file"):
        load_questions(DataConfig(train_file=(str(tmp_path / "p*.json"),), cache_dir=str(tmp_path)), "train")


# Real data


def test_real_dev_set_is_read_as_it_is(shared, tmp_path):
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
