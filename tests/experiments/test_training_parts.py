"""Parts of the training data: whole contexts, nested, drawn from the seed, and the same questions when they are read again."""

import json
from itertools import pairwise

import datasets
import numpy as np
import pytest

from qa_accel.data.questions import load_questions
from qa_accel.data.settings import Columns, DataConfig
from qa_accel.experiments.training_parts import nested_parts, paragraphs_of, write_questions


def questions(contexts: int = 16) -> datasets.Dataset:
    """Of each context two questions, not beside each other; every second question has no answer."""
    rows = [
        {
            "id": f"{number}-{place}",
            "title": "t",
            "question": "Where?",
            "context": f"Number {place} is in Lima.",
            "answers": {"text": ["Lima"], "answer_start": [f"Number {place} is in Lima.".index("Lima")]}
            if number
            else {"text": [], "answer_start": []},
        }
        for number in range(2)
        for place in range(contexts)
    ]
    return datasets.Dataset.from_list(rows)


def test_each_part_has_whole_contexts_and_all_of_the_smaller_ones():
    """16 contexts: 1, 2, 4, 8 and 16 of them. Breaks if questions are drawn instead of contexts, or each part by itself."""
    paragraph_Q = paragraphs_of(questions())
    assert paragraph_Q.tolist() == [*range(16), *range(16)]
    parts = nested_parts(paragraph_Q, [1, 2, 4, 8, 16], seed=3)
    assert [(part.fraction, part.contexts, len(part.rows_Q)) for part in parts] == [
        *((16, 1, 2), (8, 2, 4), (4, 4, 8), (2, 8, 16), (1, 16, 32)),
    ]
    for smaller, larger in pairwise(parts):
        assert set(smaller.rows_Q) < set(larger.rows_Q)
    for part in parts:
        of_part = set(paragraph_Q[part.rows_Q])
        assert len(of_part) == part.contexts
        assert set(part.rows_Q) == {row for row in range(32) if paragraph_Q[row] in of_part}
    assert parts[-1].rows_Q.tolist() == list(range(32)), "the largest part is the data as it is"


def test_parts_depend_on_the_seed_and_on_nothing_else():
    paragraph_Q = paragraphs_of(questions())
    one, again, other = (nested_parts(paragraph_Q, [4, 1], seed)[0].rows_Q for seed in (3, 3, 4))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_too_few_contexts_for_a_part_are_refused():
    """Three contexts have no sixteenth; 1/3 and 1/4 of them are both one. Breaks if an empty part is trained on."""
    paragraph_Q = paragraphs_of(questions(3))
    with pytest.raises(
        ValueError, match="3 contexts, which is too few for a part of 1/16; leave it out of --fractions"
    ):
        nested_parts(paragraph_Q, [16, 1], seed=0)
    with pytest.raises(ValueError, match="too few for a part of 1/3"):
        nested_parts(paragraph_Q, [4, 3, 1], seed=0)


def test_a_part_is_read_as_the_questions_that_it_was_written_from(tmp_path):
    """With columns of other names and hostile texts. Breaks if an answer's offset, a line separator or a title is lost."""
    columns = Columns("key", "asked", "passage", "golds")
    rows = [dict(row) for row in questions(4)]  # type: ignore[call-overload]
    rows[0] |= {"question": 'a\u2028b "\\ <script>\x1b', "title": None}
    written = datasets.Dataset.from_list(rows)
    write_questions(tmp_path / "part.jsonl", written, columns)
    lines = (tmp_path / "part.jsonl").read_text(encoding="utf-8").split("\n")
    assert len(lines) == 9 and set(json.loads(lines[1])) == {*columns, "title"}
    config = DataConfig(
        train_file=(str(tmp_path / "part.jsonl"),),
        id_column="key",
        question_column="asked",
        context_column="passage",
        answers_column="golds",
        cache_dir=str(tmp_path / "cache"),
    )
    found = load_questions(config, "train")
    for name in ("id", "title", "question", "context", "answers"):
        assert found[name][:] == written[name][:]
