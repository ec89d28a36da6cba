"""Where a tokenizer makes too many tokens of questions, a run says how many are cut, and which length would not cut them."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from toy_tokenizers import FAMILIES

from qa_accel.data import splits
from qa_accel.data.question_lengths import CutQuestions, cut_questions
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.windows import check_tokenizer

SQUAD = WindowConfig()  # 384, 128, 64


def tokens(**count_of: int) -> np.ndarray:
    """`tokens(t10=3)`: three questions of 10 tokens."""
    return np.repeat([int(name[1:]) for name in count_of], list(count_of.values())).astype(np.int32)


@pytest.mark.parametrize(
    ("tokens_Q", "config", "expected"),
    [
        (tokens(t10=990, t65=10), SQUAD, None),  # 1 %
        (tokens(t64=100), SQUAD, None),
        (tokens(), SQUAD, None),
        # 15 are cut; one in a thousand may be: the longest but one has 70, 72 is the next multiple of 8
        (tokens(t10=985, t70=14, t200=1), SQUAD, CutQuestions(1000, 15, 72, 1)),
        (tokens(t10=985, t72=14, t73=1), SQUAD, CutQuestions(1000, 15, 72, 1)),
        (tokens(t10=97, t73=3), SQUAD, CutQuestions(100, 3, 80, 0)),
        (tokens(t300=50), SQUAD, CutQuestions(50, 50, 192, 50)),  # half of a window
        # 384 - 3 - 250 - 1 = 130: the next slice of the context must begin at least one token later
        (tokens(t300=50), WindowConfig(384, 250, 64), CutQuestions(50, 50, 128, 50)),
        (tokens(t300=50), WindowConfig(384, 128, 192), CutQuestions(50, 50, None, 50)),
    ],
)
def test_counts_and_suggestions_worked_out_by_hand(tokens_Q, config, expected):
    assert cut_questions(tokens_Q, config, special_tokens=3) == expected


@given(st.lists(st.integers(0, 400), min_size=1, max_size=50), st.integers(20, 512), st.data())
def test_a_suggested_length_is_one_that_windows_can_be_made_with(lengths, max_seq_length, data):
    """Breaks if the suggestion is refused by the next run."""
    tokenizer = FAMILIES["wordpiece"]()
    special = tokenizer.num_special_tokens_to_add(pair=True)
    max_query_length = data.draw(st.integers(1, max_seq_length - special - 1))
    doc_stride = data.draw(st.integers(0, max_seq_length - special - max_query_length - 1))
    config = WindowConfig(max_seq_length, doc_stride, max_query_length)
    found = cut_questions(np.array(lengths, np.int32), config, special)
    if found is not None and found.suggested is not None:
        assert found.suggested > max_query_length
        check_tokenizer(tokenizer, dataclasses.replace(config, max_query_length=found.suggested))


def test_the_warning_counts_the_questions_and_names_the_flag():
    said = CutQuestions(1000, 247, 112, 1).described(SQUAD)
    assert "247 of 1,000 questions (24.7%)" in said
    assert "--max_query_length 112 cuts 1" in said and "room" not in said
    assert "which is the most that --max_seq_length 384 leaves room for" in CutQuestions(50, 50, 192, 50).described(
        SQUAD
    )
    assert "--max_seq_length 384 leaves no room for longer ones" in CutQuestions(50, 50, None, 50).described(SQUAD)


@pytest.mark.parametrize("text", ["who made it then? " * 9, "who?"])
def test_preparing_a_split_says_it_once_and_the_report_keeps_it_also_from_the_cache(tmp_path, caplog, text):
    """A third of the questions are longer than 30 tokens, or none. Breaks if lengths are lost in the cache, if questions are
    tokenized again for them, or if a report of usual questions gets another entry than before."""
    rows = [{"id": str(n), "question": text if n % 3 == 0 else "who?", "context": "Ana made it."} for n in range(30)]
    answers = {"text": ["Ana"], "answer_start": [0]}
    (tmp_path / "train.json").write_text(json.dumps([row | {"answers": answers} for row in rows]))
    data = DataConfig(train_file=(str(tmp_path / "train.json"),), cache_dir=str(tmp_path / "cache"))
    long = len(text) > 10
    for _ in range(2):
        caplog.clear()
        config = WindowConfig(max_seq_length=128, doc_stride=16, max_query_length=30)
        split = splits.prepare_split(data, config, FAMILIES["wordpiece"](), "train")
        said = [record.getMessage() for record in caplog.records if "--max_query_length" in record.getMessage()]
        assert len(said) == long
        assert split.report is not None and split.report.windows is not None
        content = splits.audit_as_dict({"train": split})["train"]["windows"]
        assert ("suggested_max_query_length" in content) == long
        if long:
            assert said[0].startswith("train: 10 of 30 questions (33.3%)")
            longest = int(split.windows.question_tokens_Q.max())
            assert content["suggested_max_query_length"] == min(-(-longest // 8) * 8, 64) > 30
            console = Console(width=200, record=True)
            console.print(splits.audit_table({"train": split}))
            assert "suggested: --max_query_length" in console.export_text()
