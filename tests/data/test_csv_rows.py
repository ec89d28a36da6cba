"""CSV and TSV: the separator is read from the header, and said."""

import csv
import gzip

import pytest

from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig

NAMES = ["id", "question", "context", "answer_text", "answer_start"]
CONTEXT = 'Dana, Ilse; and\tOtto|met "there".'
ROW = ["007", "Who, where?", CONTEXT, "Ilse", "6"]


def written(path, separator, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return DataConfig(train_file=(str(path),), cache_dir=str(path.parent / "cache"))


@pytest.mark.parametrize(
    ("name", "separator", "said"),
    [
        ("q.csv", ",", None),
        ("q.csv", ";", "separated by semicolons"),
        ("q.csv", "\t", "separated by tabs"),
        ("q.tsv", "\t", "separated by tabs"),
        ("q.TSV", ",", None),
        ("q.csv", "|", "separated by bars"),
    ],
)
def test_the_header_shows_the_separator(name, separator, said, tmp_path, caplog):
    """Breaks if a separator within a cell of a later row counts, or the choice is made in silence."""
    questions = load_questions(written(tmp_path / name, separator, [NAMES, ROW]), "train")
    [question] = list(questions)
    assert (question["id"], question["question"], question["context"]) == ("007", "Who, where?", CONTEXT)
    assert question["answers"] == {"text": ["Ilse"], "answer_start": [6]}
    assert (said in caplog.text) if said else not caplog.text


def test_a_gzipped_table_is_read_too(tmp_path):
    config = written(tmp_path / "q.tsv", "\t", [NAMES, ROW])
    (tmp_path / "q.tsv.gz").write_bytes(gzip.compress((tmp_path / "q.tsv").read_bytes()))
    config = DataConfig(train_file=(str(tmp_path / "q.tsv.gz"),), cache_dir=config.cache_dir)
    assert load_questions(config, "train")["id"][:] == ["007"]


def test_the_remedy_for_a_broken_row_names_the_separator(tmp_path):
    config = written(tmp_path / "q.csv", ";", [NAMES, [*ROW, "more"]])
    with pytest.raises(ValueError, match=r"row 1 has 6 cells, the header 5 .*put cells that hold semicolons, quotes"):
        load_questions(config, "train")


def test_a_table_without_ids_is_refused_in_plain_words(tmp_path):
    """pandas writes its index under an empty name. Numbering the rows instead would give ids that nobody chose."""
    config = written(tmp_path / "q.csv", ",", [["", *NAMES[1:]], ROW])
    with pytest.raises(
        ValueError, match=r"no column 'id'; found '', question, context, .*the one without a name \(pandas' index\)"
    ):
        load_questions(config, "train")


def test_of_many_columns_ten_are_listed(tmp_path):
    names = [f"column_{number}" for number in range(10_000)]
    config = written(tmp_path / "q.csv", ",", [names, ["x"]])
    with pytest.raises(
        ValueError, match=r"row 1 has 1 cells, the header 10000 \(column_0, .*column_9 and 9,990 more\)"
    ):
        load_questions(config, "train")
    config = written(tmp_path / "q.csv", ",", [[*names, "column_77"], ["x"]])
    with pytest.raises(ValueError, match="the header names a column twice: column_77; rename one"):
        load_questions(config, "train")
