"""Windows made for one call: those of the tokenizer's own pair encoding, whatever was asked before and from which thread."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest
from toy_questions import TINY
from toy_tokenizers import FAMILIES, not_composable

from qa_accel.data.pair_tokenizer import PairTokenizer, same
from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_maker import WindowMaker
from qa_accel.data.windows import GoldSpans, Windows

CONTEXTS = [
    "Ana Müller wrote the first of seven novels in Zürich in 1862, and sold 3,000 copies of it within a year.",
    "",
    "Le café de l'école est fermé. " * 12,
    "東京はどこですか？ 京都は古い都です。",
]
QUESTIONS = ["Who wrote the novel?", "Où?", "What was sold in the old town, and where was it printed, and by whom?"]
PAIRS = [(question, context) for question in QUESTIONS for context in CONTEXTS]


def assert_same(found: Windows, expected: Windows) -> None:
    for field in fields(Windows):
        assert same(getattr(found, field.name), getattr(expected, field.name)), field.name


@pytest.mark.parametrize("make", [*FAMILIES.values(), not_composable])
def test_windows_are_those_of_the_tokenizers_own_pairs_under_changing_settings(make):
    """Breaks if a setting, a truncation or a remembered document of one call reaches the next."""
    tokenizer = make()
    maker, plain = WindowMaker(tokenizer), PairTokenizer(tokenizer, TINY)
    special = tokenizer.num_special_tokens_to_add(pair=True)
    for config in (TINY, WindowConfig(special + 40, 7, 12), WindowConfig(), TINY):
        for pairs in (PAIRS, PAIRS[3:5], PAIRS[::-1]):
            questions, contexts = zip(*pairs)
            expected = plain.tokenize_pairs(questions, contexts, GoldSpans.none(), config)
            assert_same(maker.windows(questions, contexts, config), expected)


def test_threads_do_not_disturb_each_other():
    """A tokenizer that is not composable sets truncation in each call. Breaks without the lock: windows of another's
    length, or an error that the tokenizer is borrowed."""
    tokenizer = not_composable()
    maker = WindowMaker(tokenizer)
    special = tokenizer.num_special_tokens_to_add(pair=True)
    configs = [WindowConfig(special + length, 3, 8) for length in (20, 30, 40, 50)] * 10

    def lengths(config: WindowConfig) -> list[int]:
        return maker.windows(*map(list, zip(*PAIRS)), config).lengths_W.tolist()

    expected = [lengths(config) for config in configs[:4]] * 10
    assert len({max(found) for found in expected}) == 4
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lengths, configs)) == expected


def test_windows_of_any_length_have_room_for_a_context():
    """For every length that is possible with three special tokens. Breaks if a short window is all question, or all overlap."""
    for length in range(5, 600):
        config = WindowConfig.of_length(length, 3)
        room = config.max_seq_length - config.max_query_length - 3
        assert config.max_seq_length == length and room >= 1 and 0 <= config.doc_stride < room, length
    assert WindowConfig.of_length(384, 3) == WindowConfig()
    assert np.array_equal([WindowConfig.of_length(length, 3).doc_stride for length in (96, 128, 256)], [23, 31, 94])
