"""prepare_windows makes the right windows, in the order of the questions; what cannot be windowed is refused or said."""

import copy
import os

import datasets
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from toy_questions import TINY, assert_equal, questions_of, rows
from toy_tokenizers import FAMILIES, not_composable
from transformers import PreTrainedTokenizerFast

from qa_accel.data import window_cache
from qa_accel.data.pair_tokenizer import PairTokenizer, one_thread
from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_cache import CODE_VERSION, prepare_windows
from qa_accel.data.windows import GoldSpans, Windows, check_tokenizer


def row_by_row(questions: datasets.Dataset, tokenizer, config: WindowConfig) -> list[dict]:
    """Every window as a plain dict, each question for itself, the tokenizer's own pairs."""
    pairs, made = PairTokenizer(tokenizer, config), []
    for row in questions:
        text, start = row["answers"]["text"], row["answers"]["answer_start"]
        gold = GoldSpans.one_each(start, [begin + len(answer) for begin, answer in zip(start, text)])
        made += as_dicts(pairs.tokenize_pairs([row["question"]], [row["context"]], gold), row["id"])
    return made


def as_dicts(windows: Windows, *ids: str) -> list[dict]:
    names = [name for name in vars(windows) if name not in ("begin_W", "question_W") and not name.endswith("_Q")]
    begin_W = windows.begin_W
    return [
        {"id": ids[windows.question_W[w]]}
        | {
            name: getattr(windows, name)[begin_W[w] : begin_W[w + 1]].tolist()
            if name.endswith("_N")
            else int(getattr(windows, name)[w])
            for name in names
            if getattr(windows, name) is not None
        }
        for w in range(len(windows))
    ]


@pytest.fixture
def tokenizer():
    return FAMILIES["wordpiece"]()


def letters() -> PreTrainedTokenizerFast:
    """Knows eleven words, each a token: ids can be read off."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "who", *"abcdef"]
    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))  # pyright: ignore
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
    )


def test_two_windows_worked_out_by_hand(tmp_path):
    # Where this has to change, CODE_VERSION has to be raised as well: caches hold windows of the old kind.
    assert CODE_VERSION == 3
    answers = {"text": ["e f"], "answer_start": [8]}
    questions = questions_of(
        {"id": ["x"], "question": ["who who who"], "context": ["a b c d e f"], "answers": [answers]}
    )
    windows = prepare_windows(
        questions,
        letters(),
        WindowConfig(max_seq_length=9, doc_stride=1, max_query_length=2),
        cache_dir=tmp_path,
    )
    # Room for the context: 9 - 2 words of the question - 3 special tokens = 4; the next window begins 4 - 1 = 3 on.
    cls, sep, who, a, b, c, d, e, f = 2, 3, 4, 5, 6, 7, 8, 9, 10
    assert windows.input_ids_N.tolist() == [*(cls, who, who, sep, a, b, c, d, sep), *(cls, who, who, sep, d, e, f, sep)]
    assert windows.token_type_ids_N.tolist() == [*(0, 0, 0, 0, 1, 1, 1, 1, 1), *(0, 0, 0, 0, 1, 1, 1, 1)]
    assert windows.offset_start_N.tolist() == [*(0, 0, 0, 0, 0, 2, 4, 6, 0), *(0, 0, 0, 0, 6, 8, 10, 0)]
    assert windows.offset_end_N.tolist() == [*(0, 0, 0, 0, 1, 3, 5, 7, 0), *(0, 0, 0, 0, 7, 9, 11, 0)]
    assert windows.begin_W.tolist() == [0, 9, 17] and windows.lengths_W.tolist() == [9, 8] and len(windows) == 2
    assert windows.question_W.tolist() == [0, 0]
    assert windows.context_begin_W.tolist() == [4, 4] and windows.context_end_W.tolist() == [8, 7]
    assert windows.null_W.tolist() == [0, 0]
    assert windows.start_W.tolist() == [0, 5] and windows.end_W.tolist() == [0, 6]  # "e f" is whole in the second only
    assert windows.question_cut_Q.tolist() == [True]
    assert windows.question_tokens_Q.tolist() == [3]


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("order", ["grouped", "shuffled"])
def test_windows_stand_in_question_order_whatever_order_they_were_made_in(tmp_path, monkeypatch, family, order):
    # Small batches, so that contexts cross batch borders, and rows are gathered by context behind the scenes.
    monkeypatch.setattr(window_cache, "BATCH_ROWS", 7)
    tokenizer, questions = FAMILIES[family](), questions_of(rows())
    if order == "shuffled":
        questions = questions.shuffle(seed=3)
    windows = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    assert len(windows) > 2 * len(questions) and (np.diff(windows.question_W) >= 0).all()
    assert (windows.start_W != windows.null_W).any()
    with one_thread():
        assert as_dicts(windows, *questions["id"]) == row_by_row(questions, tokenizer, TINY)


def test_two_processes_make_what_one_makes(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(window_cache, "BATCH_ROWS", 7)
    questions = questions_of(rows()).shuffle(seed=3)
    one = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "one", num_proc=1)
    two = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "two", num_proc=2)
    assert_equal(one, two)
    names = [[file.name for file in (tmp_path / each).iterdir()] for each in ("one", "two")]
    assert names[0] == names[1] and len(names[0]) == 1


def test_each_context_is_tokenized_once_even_when_the_data_is_shuffled(tmp_path, monkeypatch, tokenizer):
    # Broken by grouping within batches only: shuffled, each of the batches would see nearly every context.
    monkeypatch.setattr(window_cache, "BATCH_ROWS", 10)
    tokenized = []
    tokens = PairTokenizer._tokens

    def counting(self, texts, offsets):
        tokenized.extend(texts if offsets else [])
        return tokens(self, texts, offsets)

    monkeypatch.setattr(PairTokenizer, "_tokens", counting)
    monkeypatch.setattr(PairTokenizer, "compose_if_equal", lambda self, *_: setattr(self, "form", self._form()))
    questions = questions_of(rows(questions=60, contexts=12)).shuffle(seed=1)
    prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    assert set(tokenized) == set(questions["context"])
    assert len(tokenized) <= 12 + 60 // 10  # a batch may end amid a context's questions


def test_the_side_that_is_cut_or_padded_does_not_change_windows(tmp_path, tokenizer):
    # transformers would cut windows from the right end; the collator alone looks at sides, and the cache's name has none.
    questions, left = questions_of(rows()), copy.deepcopy(tokenizer)
    left.padding_side = left.truncation_side = "left"
    one = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "one")
    assert_equal(one, prepare_windows(questions, left, TINY, cache_dir=tmp_path / "two"))
    assert left.padding_side == left.truncation_side == "left"


def test_a_tokenizer_that_cannot_be_composed_is_said_and_done_the_plain_way(tmp_path, caplog):
    questions, tokenizer = questions_of(rows()), not_composable()
    windows = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "qa_accel.data.window_cache"]
    assert "PairsOfTheirOwn" in warning and "slower" in warning and "\n" not in warning
    with one_thread():
        assert as_dicts(windows, *questions["id"]) == row_by_row(questions, tokenizer, TINY)


def test_the_way_is_settled_by_the_data_too(tmp_path, monkeypatch, caplog):
    # A tokenizer that is odd only about a word of the data: the probes alone would not see it.
    class OddAboutMüller(PreTrainedTokenizerFast):
        def _encode_plus(self, text, text_pair=None, **settings):
            if text_pair is not None:
                text_pair = [each.replace("Müller", "MÜLLER") for each in text_pair]
            return super()._encode_plus(text, text_pair, **settings)

    toy = not_composable()
    odd = OddAboutMüller(tokenizer_object=toy.backend_tokenizer, **toy.special_tokens_map)
    monkeypatch.setattr("qa_accel.data.pair_tokenizer.PROBES", ("Who?", "Ana wrote it."))
    prepare_windows(questions_of(rows()), odd, TINY, cache_dir=tmp_path)
    assert "OddAboutMüller" in caplog.text


def test_threads_of_tokenizers_are_off_while_windows_are_made_and_as_before_afterwards(
    tmp_path, monkeypatch, tokenizer
):
    # A process that forks after a tokenizer has started threads can hang.
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    seen = []
    called = PairTokenizer.windows
    monkeypatch.setattr(
        PairTokenizer,
        "windows",
        lambda self, *texts: seen.append(os.environ["TOKENIZERS_PARALLELISM"]) or called(self, *texts),
    )
    prepare_windows(questions_of(rows()), tokenizer, TINY, cache_dir=tmp_path)
    assert set(seen) == {"false"}
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


@pytest.mark.parametrize(("stride", "fits"), [(49, False), (48, True)])
def test_a_stride_without_room_is_refused_with_the_arithmetic(tmp_path, tokenizer, stride, fits):
    # The tokenizer itself panics, with no Exception to catch. The longest question counts, not the ones at hand.
    config = WindowConfig(max_seq_length=62, doc_stride=stride, max_query_length=10)
    if fits:
        check_tokenizer(tokenizer, config)
        assert len(prepare_windows(questions_of(rows()), tokenizer, config, cache_dir=tmp_path)) >= 60
    else:
        with pytest.raises(ValueError, match=r"doc_stride=49 .* 62 - max_query_length 10 - 3 special tokens .* = 49"):
            check_tokenizer(tokenizer, config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_query_length": 0}, "max_query_length must be at least 1, got 0"),
        ({"doc_stride": -1}, "doc_stride must be at least 0, got -1"),
        ({"max_seq_length": 64}, r"max_seq_length must be more than max_query_length \(64\), got 64"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        WindowConfig(**settings)


def test_a_length_beyond_the_models_is_warned_of(tokenizer, caplog):
    check_tokenizer(tokenizer, WindowConfig(max_seq_length=513))
    assert "max_seq_length=513" in caplog.text and "512" in caplog.text


def test_a_row_that_gives_no_token_at_all_is_named(tmp_path):
    # GPT-2 adds no special tokens: an empty window would end as NaN, far from its cause.
    columns = rows() | {"question": ["", *["Who?"] * 59], "context": ["", *["Ana."] * 59]}
    with pytest.raises(ValueError, match=r"row 0 \(id 'id0'\).*nothing to give to a model"):
        prepare_windows(questions_of(columns), FAMILIES["gpt2"](), TINY, cache_dir=tmp_path)


def test_without_answers_every_label_is_null(tmp_path, tokenizer):
    columns = rows()
    del columns["answers"]
    windows = prepare_windows(questions_of(columns), tokenizer, TINY, cache_dir=tmp_path)
    assert len(windows) > 60
    assert (windows.start_W == windows.null_W).all() and (windows.end_W == windows.null_W).all()


def test_no_questions_make_no_windows(tmp_path, tokenizer):
    windows = prepare_windows(questions_of(rows()).select([]), tokenizer, TINY, cache_dir=tmp_path)
    assert len(windows) == 0 and windows.begin_W.tolist() == [0] and windows.lengths_W.tolist() == []
