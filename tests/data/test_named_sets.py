"""Files with names of sets: NAME=FILE:WEIGHT is read as such, ids of several sets never meet, and each set is selected by itself."""

import pytest
from question_files import as_lines, row

from qa_accel.data.named_sets import NamedFiles, SetRows, name_and_path, named_files, named_sources
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a.jsonl with the questions 0 to 4, b.jsonl with 3 to 9, and no.jsonl, whose answers are not known."""
    as_lines([row(number) for number in range(5)])(tmp_path / "a.jsonl")
    as_lines([row(number) for number in range(3, 10)])(tmp_path / "b.jsonl")
    without = [{key: value for key, value in row(number).items() if key != "answers"} for number in range(2)]
    as_lines(without)(tmp_path / "no.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(*files, split="train", **settings):
    return load_questions(DataConfig(**{f"{split}_file": files}, cache_dir="cache", **settings), split)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("a.jsonl", "b.jsonl"), None),
        (("x=a.jsonl",), (NamedFiles("x", ("a.jsonl",), None),)),
        (("x=a.jsonl:2", "y=b.jsonl:0.5"), (NamedFiles("x", ("a.jsonl",), 2.0), NamedFiles("y", ("b.jsonl",), 0.5))),
        (("x=a.jsonl", "y=no.jsonl", "x=b.jsonl:3e-1"), None),  # below
        (("x=*.jsonl",), (NamedFiles("x", ("*.jsonl",), None),)),
        (("./x=a.jsonl",), None),  # a path: a name has no slash
    ],
)
def test_named_files(folder, patterns, expected):
    """Breaks if a colon or an equals sign is cut at another place, or files of one name become two sets."""
    if patterns[0] == "x=a.jsonl" and len(patterns) == 3:
        expected = (NamedFiles("x", ("a.jsonl", "b.jsonl"), 0.3), NamedFiles("y", ("no.jsonl",), None))
    assert named_files(patterns, "train_file") == expected


def test_path_that_exists_is_a_path(folder):
    """Folders of partitions are called lang=en; a name of such a path would send it to another file."""
    (folder / "lang=en").mkdir()
    (folder / "a.jsonl").rename(folder / "lang=en" / "a.jsonl")
    (folder / "b.jsonl").rename(folder / "b.jsonl:2")
    assert named_files(("lang=en/a.jsonl",), "train_file") is None
    assert (
        named_files(("lang=en/*.jsonl",), "train_file") is None
        and named_files(("lang=*/a.jsonl",), "train_file") is None
    )
    assert named_files(("x=b.jsonl:2",), "train_file") == (NamedFiles("x", ("b.jsonl:2",), None),)
    assert name_and_path("lang=en/a.jsonl") == ("", "lang=en/a.jsonl")
    assert name_and_path("x=data/a.jsonl:2") == ("x=", "data/a.jsonl:2")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("x=a.jsonl", "b.jsonl"), "b.jsonl: has no name, but others have"),
        (("mean=a.jsonl",), "a set cannot be called mean"),
        (("x=a.jsonl", "x_best=b.jsonl"), "a set cannot be called x_best: best is a part of other scores' names"),
        (("multi_exact=a.jsonl",), "multi is a part of other scores' names"),
        (("x_HasAns=a.jsonl",), "HasAns is a part of other scores' names"),
        (("x=a.jsonl:0",), "a weight is a number above 0, found '0'"),
        (("x=a.jsonl:1e999",), "a weight is a number above 0"),
        (("x=a.jsonl:1", "x=b.jsonl:2"), "the set x has the weights 1 and 2"),
        (("x=a.jsonl", "X=b.jsonl"), "differ in upper and lower case alone"),
        (("x=c.jsonl",), "--train_file c.jsonl: there is no such file"),
        (("x=a.jsonl", "y=no.jsonl"), "the set y has no 'answers', but the set x has"),
    ],
)
def test_refused(folder, files, said):
    with pytest.raises(ValueError, match=said):
        load(*files)


def test_weight_of_a_validation_set_is_refused(folder):
    with pytest.raises(ValueError, match="the set x has a weight, which only training files can have"):
        load("x=a.jsonl:2", split="validation")


def test_ids_of_two_sets_do_not_meet(folder):
    """3 and 4 are in both files, as in translations of one set. Breaks if a set's name is not part of its ids."""
    questions = load("x=a.jsonl", "y=b.jsonl")
    own = load("a.jsonl")
    assert questions["id"][:] == [f"x/{id}" for id in own["id"][:]] + [f"y/{id}" for id in load("b.jsonl")["id"][:]]
    assert questions["context"][:5] == own["context"][:] and questions["answers"][:5] == own["answers"][:]
    sets = SetRows.of(questions)
    assert sets is not None and sets.names == ("x", "y") and sets.set_Q.tolist() == [0] * 5 + [1] * 7
    assert sets.by_id(questions["id"][:])["y/" + own["id"][4]] == "y"
    assert SetRows.of(own) is None


def test_each_set_is_selected_as_it_would_be_alone(folder):
    """Breaks if a limit is of all sets together: the first set would take all of it."""
    settings = dict(train_shuffle_seed=3, train_num_shards=2, train_shard=1, max_train_samples=2)
    both = load("x=a.jsonl", "y=b.jsonl", **settings)
    alone = [f"x/{id}" for id in load("a.jsonl", **settings)["id"][:]] + [
        f"y/{id}" for id in load("b.jsonl", **settings)["id"][:]
    ]
    assert both["id"][:] == alone and len(alone) == 4


def test_fingerprint_follows_names_not_weights(folder):
    """Windows are cached by it. Weights choose among windows: with them in it, trying three weights would tokenize thrice."""
    base = load("x=a.jsonl", "y=b.jsonl")._fingerprint
    assert load("x=a.jsonl:3", "y=b.jsonl")._fingerprint == base
    others = [load("z=a.jsonl", "y=b.jsonl"), load("y=b.jsonl", "x=a.jsonl"), load("a.jsonl"), load("x=a.jsonl")]
    assert len({base, *(each._fingerprint for each in others)}) == 5


def test_gold_texts_are_those_of_the_questions(folder):
    sets = named_sources(("x=a.jsonl", "y=b.jsonl"), "validation_file")
    assert sets is not None
    questions = load("x=a.jsonl", "y=b.jsonl", split="validation")
    golds = sets.gold_texts_by_id(DataConfig().columns)
    assert golds == {key: answers["text"] for key, answers in zip(questions["id"][:], questions["answers"][:])}
