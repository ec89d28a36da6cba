"""prepare_windows: right windows, made once, kept in one file, read without a copy; labels on real SQuAD."""

import copy
import gzip
import json
import logging
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from toy_tokenizers import FAMILIES, not_composable
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from qa_accel import windows as windows_module
from qa_accel.assemble import Gold
from qa_accel.pairs import PairTokenizer, one_thread
from qa_accel.windows import CODE_VERSION, WindowConfig, Windows, prepare_windows, windows_file

TINY = WindowConfig(max_seq_length=32, doc_stride=6, max_query_length=10)


def rows(questions: int = 60, contexts: int = 12) -> dict[str, list]:
    """Questions on a few contexts, every third without an answer; contexts of one to some ten windows."""
    context = [" ".join(f"In {1800 + c} Ana Müller sold novel {n}." for n in range(1 + 3 * c)) for c in range(contexts)]
    of = [q * contexts // questions for q in range(questions)]
    gold = [f"novel {of[q]}" if q % 3 and f"novel {of[q]}" in context[of[q]] else None for q in range(questions)]
    return {
        "id": [f"id{q}" for q in range(questions)],
        "question": [f"Who sold novel {q} in {1800 + of[q]}?" for q in range(questions)],
        "context": [context[c] for c in of],
        "answers": [
            {"text": [text], "answer_start": [context[of[q]].index(text)]} if text else {"text": [], "answer_start": []}
            for q, text in enumerate(gold)
        ],
    }


def questions_of(columns: dict[str, list]) -> datasets.Dataset:
    answers = {"text": datasets.List(datasets.Value("string")), "answer_start": datasets.List(datasets.Value("int32"))}
    strings = {name: datasets.Value("string") for name in ("id", "question", "context")}
    features = {name: kind for name, kind in {**strings, "answers": answers}.items() if name in columns}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def assert_equal(one: Windows, other: Windows):
    for name, array in vars(one).items():
        if array is None:
            assert getattr(other, name) is None
        else:
            assert array.dtype == getattr(other, name).dtype, name
            np.testing.assert_array_equal(array, getattr(other, name), err_msg=name)


def row_by_row(questions: datasets.Dataset, tokenizer, config: WindowConfig) -> list[dict]:
    """Every window as a plain dict, each question for itself, the tokenizer's own pairs."""
    pairs, made = PairTokenizer(tokenizer, config), []
    for row in questions:
        text, start = row["answers"]["text"], row["answers"]["answer_start"]
        gold = Gold(np.array(start[:1] or [0]), np.array([start[0] + len(text[0])] if start else [0]))
        made += as_dicts(pairs.plain([row["question"]], [row["context"]], gold), row["id"])
    return made


def as_dicts(windows: Windows, *ids: str) -> list[dict]:
    names = [name for name in vars(windows) if name not in ("begin_W", "question_W", "question_cut_Q")]
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
    assert CODE_VERSION == 1
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


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("order", ["grouped", "shuffled"])
def test_windows_stand_in_question_order_whatever_order_they_were_made_in(tmp_path, monkeypatch, family, order):
    # Small batches, so that contexts lie across their borders, and rows are gathered by context behind the scenes.
    monkeypatch.setattr(windows_module, "BATCH_ROWS", 7)
    tokenizer, questions = FAMILIES[family](), questions_of(rows())
    if order == "shuffled":
        questions = questions.shuffle(seed=3)
    windows = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    assert len(windows) > 2 * len(questions) and (np.diff(windows.question_W) >= 0).all()
    assert (windows.start_W != windows.null_W).any()
    with one_thread():
        assert as_dicts(windows, *questions["id"]) == row_by_row(questions, tokenizer, TINY)


def test_two_processes_make_what_one_makes(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(windows_module, "BATCH_ROWS", 7)
    questions = questions_of(rows()).shuffle(seed=3)
    one = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "one", num_proc=1)
    two = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "two", num_proc=2)
    assert_equal(one, two)
    names = [[file.name for file in (tmp_path / each).iterdir()] for each in ("one", "two")]
    assert names[0] == names[1] and len(names[0]) == 1


def test_each_context_is_tokenized_once_even_when_the_data_is_shuffled(tmp_path, monkeypatch, tokenizer):
    # Broken by grouping within batches only: shuffled, each of the batches would see nearly every context.
    monkeypatch.setattr(windows_module, "BATCH_ROWS", 10)
    told = []
    tokens = PairTokenizer._tokens

    def counting(self, texts, offsets):
        told.extend(texts if offsets else [])
        return tokens(self, texts, offsets)

    monkeypatch.setattr(PairTokenizer, "_tokens", counting)
    monkeypatch.setattr(PairTokenizer, "compose_if_equal", lambda self, *_: setattr(self, "form", self._form()))
    questions = questions_of(rows(questions=60, contexts=12)).shuffle(seed=1)
    prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    assert set(told) == set(questions["context"])
    assert len(told) <= 12 + 60 // 10  # a batch may end amid a context's questions


def test_a_second_prepare_tokenizes_nothing(tmp_path, monkeypatch, tokenizer, caplog):
    questions = questions_of(rows())
    first = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns

    def refuse(*_):
        raise AssertionError("tokenizes")

    monkeypatch.setattr(PairTokenizer, "__init__", refuse)
    with caplog.at_level(logging.INFO, logger="qa_accel.windows"):
        again = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path, num_proc=2)
    assert_equal(first, again)
    assert "nothing to tokenize" in caplog.text
    assert file.stat().st_mtime_ns == written
    with pytest.raises(AssertionError, match="tokenizes"):  # else this test would pass whatever happened
        prepare_windows(questions, tokenizer, WindowConfig(32, 5, 10), cache_dir=tmp_path)


def test_the_cache_file_depends_on_questions_tokenizer_and_settings_and_on_nothing_else(tmp_path, tokenizer):
    questions = questions_of(rows())

    def name(questions=questions, tokenizer=tokenizer, config=TINY, cache_dir=tmp_path):
        return windows_file(questions, tokenizer, config, cache_dir=cache_dir).name

    tokenizer.save_pretrained(tmp_path / "elsewhere")
    elsewhere = AutoTokenizer.from_pretrained(tmp_path / "elsewhere")
    used_before = copy.deepcopy(tokenizer)  # trained anew it would differ: the trainer breaks ties by chance
    used_before(["a"], ["b"], truncation="only_second", max_length=8, stride=1, padding="max_length")
    left = copy.deepcopy(tokenizer)
    left.padding_side = left.truncation_side = "left"
    for same in (elsewhere, used_before, left):
        assert name(tokenizer=same) == name()
    assert name(cache_dir=tmp_path / "other") == name()
    assert name(questions=questions_of(rows())) == name()  # the same content, built again

    longer = copy.deepcopy(tokenizer)
    longer.add_tokens(["Müller"])
    other_names = [
        name(questions=questions.select(range(10))),
        name(questions=questions_of(rows() | {"question": ["?"] * 60})),
        name(tokenizer=longer),
        name(tokenizer=FAMILIES["roberta"]()),
        name(config=WindowConfig(32, 5, 10)),
        name(config=WindowConfig(31, 6, 10)),
        name(config=WindowConfig(32, 6, 9)),
    ]
    assert len({name(), *other_names}) == 1 + len(other_names)


def test_the_side_that_is_cut_or_padded_does_not_change_windows(tmp_path, tokenizer):
    # transformers would cut windows from the right end; the collator alone looks at sides, and the cache's name has none.
    questions, left = questions_of(rows()), copy.deepcopy(tokenizer)
    left.padding_side = left.truncation_side = "left"
    one = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "one")
    assert_equal(one, prepare_windows(questions, left, TINY, cache_dir=tmp_path / "two"))
    assert left.padding_side == left.truncation_side == "left"


def test_arrays_are_the_mapped_file_itself(tmp_path, tokenizer):
    # Broken by a column of another type or a chunk more: to_numpy would copy, and each process would hold all windows.
    windows = prepare_windows(questions_of(rows()), tokenizer, TINY, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("what is mapped where is read from /proc")
    lines = [line.split() for line in maps.read_text().splitlines() if line.endswith(str(file))]
    ranges = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    for name, array in vars(windows).items():
        if name != "question_cut_Q":
            assert not array.flags.owndata and not array.flags.writeable, name
            assert any(begin <= array.ctypes.data < end for begin, end in ranges), name


def test_nothing_half_written_stays_behind(tmp_path, monkeypatch, tokenizer):
    questions = questions_of(rows())
    write = windows_module.write_in_question_order

    def full(made, row_of_place, path):
        write(made, row_of_place, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(windows_module, "write_in_question_order", full)
    with pytest.raises(OSError, match=r"(?s)could not be kept in .*No space left on device.*cache_dir"):
        prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []

    monkeypatch.undo()
    prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path / "cache")
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".arrow"]


def test_a_damaged_cache_file_is_named(tmp_path, tokenizer):
    questions = questions_of(rows())
    prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{file.name} is damaged.*delete it"):
        prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)


def test_a_tokenizer_that_cannot_be_composed_is_said_and_done_the_plain_way(tmp_path, caplog):
    questions, tokenizer = questions_of(rows()), not_composable()
    windows = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "qa_accel.windows"]
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
    monkeypatch.setattr("qa_accel.pairs.PROBES", ("Who?", "Ana wrote it."))
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


def test_a_slow_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ByT5Tokenizer is a slow tokenizer.*use_fast=True"):
        prepare_windows(questions_of(rows()), ByT5Tokenizer(), TINY, cache_dir=tmp_path)


@pytest.mark.parametrize(("stride", "fits"), [(49, False), (48, True)])
def test_a_stride_without_room_is_refused_with_the_arithmetic(tmp_path, tokenizer, stride, fits):
    # The tokenizer itself panics, with no Exception to catch. The longest question counts, not the ones at hand.
    config = WindowConfig(max_seq_length=62, doc_stride=stride, max_query_length=10)
    if fits:
        assert len(prepare_windows(questions_of(rows()), tokenizer, config, cache_dir=tmp_path)) >= 60
    else:
        with pytest.raises(ValueError, match=r"doc_stride=49 .* 62 - max_query_length 10 - 3 special tokens .* = 49"):
            prepare_windows(questions_of(rows()), tokenizer, config, cache_dir=tmp_path)
        assert list(tmp_path.iterdir()) == []


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


def test_a_length_beyond_the_models_is_warned_of(tmp_path, tokenizer, caplog):
    prepare_windows(questions_of(rows()), tokenizer, WindowConfig(max_seq_length=513), cache_dir=tmp_path)
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


# From here on: real questions and a real tokenizer.


def squad(path: Path) -> datasets.Dataset:
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        articles = json.load(file)["data"]
    asked = [(p["context"], qa) for article in articles for p in article["paragraphs"] for qa in p["qas"]]
    return questions_of(
        {
            "id": [qa["id"] for _, qa in asked],
            "question": [qa["question"] for _, qa in asked],
            "context": [context for context, _ in asked],
            "answers": [
                {key: [answer[key] for answer in qa["answers"]] for key in ("text", "answer_start")} for _, qa in asked
            ],
        }
    )


@pytest.fixture(scope="module")
def minilm(shared):
    return AutoTokenizer.from_pretrained(shared / "models" / "minilm")


@pytest.fixture(scope="module", params=["train-5k.json", "dev.json"])
def real(request, shared, minilm, tmp_path_factory) -> tuple[datasets.Dataset, Windows]:
    questions = squad(shared / "data" / "squad_v2" / request.param)
    return questions, prepare_windows(questions, minilm, WindowConfig(), cache_dir=tmp_path_factory.mktemp("cache"))


def test_real_windows_are_those_of_the_plain_way(real, minilm):
    # All 5,000 and 6,078 questions, whatever they hold of scripts, blanks and signs.
    questions, windows = real
    pairs = PairTokenizer(minilm, WindowConfig())
    begin, checked = 0, 0
    with one_thread():
        for table in questions.with_format("arrow").iter(batch_size=1000):
            gold = windows_module.gold_answers(table)
            plain = pairs.plain(table["question"].to_pylist(), table["context"].to_pylist(), gold, WindowConfig())
            part = slice(checked, checked + len(plain))
            tokens = slice(windows.begin_W[part.start], windows.begin_W[part.stop])
            for name, array in vars(plain).items():
                ours = getattr(windows, name)
                if name == "question_W":
                    array = array + begin
                elif name == "begin_W":
                    array, ours = np.diff(array), np.diff(ours)
                elif name == "question_cut_Q":
                    ours = ours[begin : begin + table.num_rows]
                if name != "question_cut_Q":
                    ours = ours[tokens if name.endswith("_N") else part]
                np.testing.assert_array_equal(ours, array, err_msg=name)
            begin, checked = begin + table.num_rows, checked + len(plain)
    assert checked == len(windows) and begin == len(questions)


def test_real_labels_cover_the_gold_answer_in_every_window_that_holds_it(real):
    # An answer may begin or end within a token ("1990s" is one token, "1990" the answer): covered, but not exact.
    questions, windows = real
    contexts, answers = questions["context"][:], questions["answers"][:]
    start_N, end_N = windows.offset_start_N, windows.offset_end_N
    holding, exact = 0, 0
    for w in range(len(windows)):
        question, first = windows.question_W[w], windows.begin_W[w]
        context, gold = contexts[question], answers[question]
        labelled = windows.start_W[w] != windows.null_W[w]
        holds = False
        if gold["text"] and windows.context_begin_W[w] < windows.context_end_W[w]:
            text, begin = gold["text"][0], gold["answer_start"][0]
            told_from = start_N[first + windows.context_begin_W[w]]
            told_to = end_N[first + windows.context_end_W[w] - 1]
            holds = told_from <= begin and begin + len(text) <= told_to
        assert labelled == holds
        if holds:
            said = slice(start_N[first + windows.start_W[w]], end_N[first + windows.end_W[w]])
            assert said.start <= begin and begin + len(text) <= said.stop
            assert windows.context_begin_W[w] <= windows.start_W[w] <= windows.end_W[w] < windows.context_end_W[w]
            holding += 1
            exact += context[said] == text
    print(f"{len(questions)} questions, {len(windows)} windows, {holding} with an answer, exact {exact / holding:.2%}")
    assert holding > 2000
    assert exact / holding > 0.98
