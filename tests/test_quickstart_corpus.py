"""The quick start's corpus and encoder are what quickstart/README.md says they are."""

import gzip
import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

QUICKSTART = Path(__file__).resolve().parents[1] / "quickstart"
WINDOW = 384


def read(part: str) -> dict:
    if part == "train":
        return json.loads(gzip.decompress((QUICKSTART / "train.json.gz").read_bytes()))
    return json.loads((QUICKSTART / "dev.json").read_bytes())


def paragraphs_of(corpus: dict) -> list[dict]:
    return [paragraph for article in corpus["data"] for paragraph in article["paragraphs"]]


def rows_of(corpus: dict) -> list[tuple[dict, str]]:
    return [(row, paragraph["context"]) for paragraph in paragraphs_of(corpus) for row in paragraph["qas"]]


@pytest.fixture(scope="module")
def corpus() -> dict[str, dict]:
    return {part: read(part) for part in ("train", "dev")}


@pytest.fixture(scope="module")
def make_corpus(pytestconfig) -> ModuleType:
    sys.path.insert(0, str(QUICKSTART))
    try:
        import make_corpus
    finally:
        sys.path.remove(str(QUICKSTART))
    return make_corpus


@pytest.fixture(scope="module")
def parts(make_corpus) -> dict:
    import random

    entities = make_corpus.read_entities(make_corpus.read_wording())
    return make_corpus.split_entities(entities, random.Random(make_corpus.SEED))


def names_in(text: str, names: list[str]) -> list[str]:
    return [name for name in names if name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]


def test_files_are_what_the_script_makes(make_corpus, corpus):
    """A change to the tables, the wording or the script without running it would leave files that nobody can make again."""
    made = make_corpus.make_corpus()
    assert gzip.decompress((QUICKSTART / "train.json.gz").read_bytes()) == make_corpus.as_bytes(made["train"])
    assert (QUICKSTART / "dev.json").read_bytes() == make_corpus.as_bytes(made["dev"])


@pytest.mark.parametrize("part", ["train", "dev"])
def test_every_answer_is_at_its_offset(corpus, part):
    """One shifted offset teaches or scores a wrong span; the audit would drop such a row."""
    rows = rows_of(corpus[part])
    answers = [
        (answer, context) for row, context in rows for answer in row["answers"] + row.get("plausible_answers", [])
    ]
    assert len(answers) > len(rows) / 2
    for answer, context in answers:
        assert answer["text"] and context[answer["answer_start"] :].startswith(answer["text"])
    assert all(row["is_impossible"] == (not row["answers"]) for row, _ in rows)


def test_ids_are_unique_and_counts_are_those_of_the_readme(corpus):
    """Repeated ids would silently overwrite each other's predictions."""
    rows = {part: rows_of(corpus[part]) for part in corpus}
    ids = [row["id"] for part in rows.values() for row, _ in part]
    assert len(set(ids)) == len(ids)
    readme = (QUICKSTART / "README.md").read_text(encoding="utf-8")
    for part in rows.values():
        impossible = sum(row["is_impossible"] for row, _ in part)
        assert f"{len(part):,}" in readme and f"{impossible:,}" in readme
        assert 0.3 < impossible / len(part) < 0.5


def test_train_and_dev_share_no_entity(corpus, parts):
    """A dev entity in the train file could be answered from memory."""
    names = {part: [entity.name for entity in members] for part, members in parts.items()}
    assert len(names["train"]) > 800 and len(names["dev"]) > 200
    assert not set(names["train"]) & set(names["dev"])
    for row, context in rows_of(corpus["train"]):
        assert not names_in(context + " " + row["question"], names["dev"]), row["id"]
    in_questions = Counter(
        name for row, _ in rows_of(corpus["dev"]) for name in names_in(row["question"], names["dev"])
    )
    assert len(in_questions) > 200  # else the line above would hold of empty lists


@pytest.mark.parametrize("part", ["train", "dev"])
def test_both_kinds_of_unanswerable_questions_are_there(corpus, parts, part):
    """Without the second kind a model that only looks for the relation's words would do."""
    names = [entity.name for entity in parts[part]]
    about_a_told_entity = relation_told_of_another = 0
    for row, context in rows_of(corpus[part]):
        if row["is_impossible"]:
            about_a_told_entity += any(name in context for name in names_in(row["question"], names))
            relation_told_of_another += "plausible_answers" in row
    assert about_a_told_entity > 100 and relation_told_of_another > 100


@pytest.mark.parametrize("part", ["train", "dev"])
def test_a_paragraph_tells_of_several_entities(corpus, parts, part):
    """With one entity in a paragraph the relation alone would find the answer."""
    names = [entity.name for entity in parts[part]]
    for paragraph in paragraphs_of(corpus[part]):
        assert len(names_in(paragraph["context"].lower(), [name.lower() for name in names])) >= 2


def test_encoder_is_small_loads_and_splits_some_contexts_into_windows(corpus):
    """The repository may hold 8 MB of it; without a long context the quick start would never join windows."""
    assert sum(file.stat().st_size for file in (QUICKSTART / "encoder").iterdir()) <= 8 * 2**20
    assert sum((QUICKSTART / name).stat().st_size for name in ("train.json.gz", "dev.json")) <= 2**20
    tokenizer = AutoTokenizer.from_pretrained(QUICKSTART / "encoder")
    for part in corpus.values():
        lengths = [len(tokenizer(paragraph["context"])["input_ids"]) for paragraph in paragraphs_of(part)]
        assert 5 <= sum(length > WINDOW for length in lengths) < len(lengths) / 10
    model = AutoModelForQuestionAnswering.from_pretrained(QUICKSTART / "encoder", dtype=torch.float32)
    assert model.config.max_position_embeddings >= WINDOW
    pair = tokenizer("What is the capital of Peru?", "The capital of Peru is Lima.", return_tensors="pt")
    with torch.no_grad():
        logits = model(**pair).start_logits
    assert logits.shape == pair["input_ids"].shape and bool(torch.isfinite(logits).all())
