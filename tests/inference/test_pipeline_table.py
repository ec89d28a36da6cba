"""What the tests of transformers' removed `pipeline("question-answering")` asked of it, asked of `Reader`.

Each test is a row of that suite; rows that need a checkpoint of the hub are not here. Models are toys with random weights:
what is tested is shapes, errors, offsets, batches and streams. Scores are tested in test_pipeline_definition.py.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import pytest
import zoo
from given_logits import given, peaks, random_logits
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForQuestionAnswering, BertConfig, PreTrainedTokenizerFast

from qa_accel import Reader

Q0, C0 = "Where was HuggingFace founded ?", "HuggingFace was founded in Paris."
ROW = {"question": Q0, "context": C0}
KEYS = {"score": float, "start": int, "end": int, "answer": str}


@pytest.fixture(scope="module")
def reader(toy) -> Reader:
    return Reader(toy.model)


@pytest.fixture(scope="module", autouse=True)
def no_accelerator_is_left() -> Iterator[None]:
    """Later tests of this process choose their own."""
    from qa_accel.distributed import accelerator as runtime

    yield
    runtime.forget_accelerator()


def check(answer: Any, context: str = C0) -> None:
    """The four keys, their types, and that the answer is where it says."""
    assert type(answer) is dict and {key: type(value) for key, value in answer.items()} == KEYS
    assert answer["answer"] == context[answer["start"] : answer["end"]]
    assert 0 < answer["score"] <= 1


# ------------------------------------------------------------------------------------------------------ shapes


def test_one_question_gives_a_dictionary_of_four_keys(reader):
    """Breaks if a figure is numpy's, which json cannot write, or if a fifth key appears for a model without calibration."""
    check(reader(question=Q0, context=C0))
    check(reader(question=Q0, context=C0, handle_impossible_answer=True))


def test_forms_of_one_question_give_the_same_answer(reader):
    """Breaks if one of them is given back in a list, or another is not."""
    expected = reader(question=Q0, context=C0)
    assert reader(Q0, C0) == expected
    assert reader(ROW) == expected
    assert reader(**ROW) == expected
    assert reader([ROW]) == [expected]
    assert reader(question=[Q0], context=C0) == [expected]
    assert reader(question=[Q0], context=[C0]) == [expected]


def test_forms_of_two_questions_give_a_list_in_their_order(reader):
    """Breaks if answers come in the order of computation, by length, or a context goes to the wrong question."""
    other_question, other_context = (
        "What?",
        "Nora was born in Kyiv. The house by the river has 15 small windows. Nora keeps a parrot.",
    )
    one, other = reader(Q0, C0), reader(other_question, other_context)
    shared = reader(other_question, C0)
    assert one != other
    assert reader(question=[Q0, other_question], context=C0) == [one, shared]
    assert reader(question=[Q0, other_question], context=[C0, other_context]) == [one, other]
    assert reader(question=[other_question, Q0], context=[other_context, C0]) == [other, one]
    rows = [ROW, {"question": other_question, "context": other_context}]
    assert reader(rows) == [one, other]
    assert reader([tuple(row.values()) for row in rows]) == [one, other]


def test_top_k_gives_a_list_of_distinct_places_best_first(reader):
    """Breaks if tokens of one word are answers of their own after they were widened to the word, as in 4.53."""
    answers = reader(question=Q0, context=C0, top_k=20)
    assert type(answers) is list and len(answers) > 1
    for answer in answers:
        check(answer)
    places = [(answer["start"], answer["end"]) for answer in answers]
    assert len(set(places)) == len(places)
    scores = [answer["score"] for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert answers[0] == reader(question=Q0, context=C0)
    assert [len(each) for each in reader([ROW, ROW], top_k=3)] == [3, 3]


def test_top_k_gives_as_many_as_there_are(reader):
    """ "a b c" has six spans of words. Breaks if equal ones use up the places of others, or if a list of one is unpacked."""
    answers = reader(question=Q0, context="Ana keeps horse", top_k=50)
    assert {answer["answer"] for answer in answers} == {
        "Ana", "keeps", "horse", "Ana keeps", "keeps horse", "Ana keeps horse"
    }  # fmt: skip
    assert len(answers) == 6
    assert len(reader(question=Q0, context="Ana", top_k=50)) == 1


def test_equal_texts_at_different_places_stay_apart(reader):
    """The pipeline made one answer of them and added their scores, more than 1 in all. Breaks if ours does."""
    answers = reader(question=Q0, context="Ana Ana", top_k=3)
    assert sorted((answer["start"], answer["end"]) for answer in answers) == [(0, 3), (0, 7), (4, 7)]
    assert sum(answer["score"] for answer in answers) <= 1


def test_answers_fit_the_hubs_output_element(reader):
    """Breaks if a key is renamed: clients of the hub's API read these."""
    types = pytest.importorskip("huggingface_hub.inference._generated.types")
    for answer in reader(question=Q0, context=C0, top_k=5):
        element = types.QuestionAnsweringOutputElement.parse_obj_as_instance(answer)
        assert (element.answer, element.score) == (answer["answer"], answer["score"])
        assert (element.start, element.end) == (answer["start"], answer["end"])


@pytest.mark.parametrize(("height", "place"), [(9.0, 0), (3.0, 1), (-9.0, None)])
def test_no_answer_is_ranked_where_it_belongs(reader, height, place):
    """The best span has the logits 4 + 4, the next ones 4 + 0; "no answer" has twice its height. Breaks if it appears unasked, or
    always at one end of the list."""
    start, end = token_id(reader, "born"), token_id(reader, "Bern")
    cls = reader.qa.tokenizer.cls_token_id
    with given(reader.qa.model, peaks({cls: height, start: 4.0}, {cls: height, end: 4.0})):
        answers = reader(Q0, "Ana was born in Bern.", top_k=4, handle_impossible_answer=True)
        plain = reader(Q0, "Ana was born in Bern.", top_k=4)
    assert [answer["answer"] == "" for answer in answers] == [number == place for number in range(4)]
    if place is not None:
        assert answers[place] == {"score": answers[place]["score"], "start": 0, "end": 0, "answer": ""}
    assert all(answer["answer"] for answer in plain) and plain[0]["answer"] == "born in Bern"


def token_id(reader: Reader, token: str) -> int:
    [number] = reader.qa.tokenizer(token, add_special_tokens=False)["input_ids"]
    return number


# ------------------------------------------------------------------------------------------------------ batches and streams


def test_batch_size_changes_nothing(reader):
    """Breaks if padding takes part in a softmax or an answer: a context of several windows, another of one."""
    long = " ".join([C0] * 20)
    alone = [reader(question=Q0, context=context, batch_size=1) for context in (long, C0)]
    for size in (2, 16):
        together = reader(question=[Q0, Q0], context=[long, C0], batch_size=size)
        for found, expected in zip(together, alone):
            assert found == {**expected, "score": pytest.approx(expected["score"], abs=1e-6)}


def test_a_generator_of_ten_gives_ten(reader):
    answers = list(reader((ROW for _ in range(10)), batch_size=16))
    assert len(answers) == 10
    for answer in answers:
        check(answer)
        assert answer == {**reader(ROW), "score": pytest.approx(reader(ROW)["score"], abs=1e-6)}


def test_a_stream_is_not_read_to_its_end_before_the_first_answer(reader):
    """Breaks if the source is made a list: an endless one would never give an answer, a long one would fill memory."""
    read = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal read
        for _ in itertools.count():
            read += 1
            yield ROW

    answers = iter(reader(endless(), batch_size=4))
    assert read <= 1, "nothing is computed before it is asked for"
    check(next(answers))
    assert 1 <= read <= 1000
    before = read
    assert len(list(itertools.islice(answers, before))) == before, "it goes on behind the first chunk"
    assert before < read <= 2 * before + 1


def test_a_stream_gives_each_answer_in_its_turn(reader):
    """Three chunks and a rest. Breaks if a chunk is given back by length, or the last, short one is dropped."""
    contexts = ["Ana keeps a goat.", "Ben was born in Lima. Ben keeps a horse.", "Tess walks."] * 30
    rows = [{"question": "Which animal?", "context": context} for context in contexts]
    expected = [reader(row)["answer"] for row in rows[:3]]
    assert len(set(expected)) == 3
    for source in ((row for row in rows), datasets.Dataset.from_list(rows), map(dict, rows)):
        assert [answer["answer"] for answer in reader(source, batch_size=8)] == expected * 30


def test_an_error_of_a_stream_names_its_row(reader):
    """Breaks if rows are counted within their chunk, or if an error of the source itself is hidden."""
    rows = (row for row in [ROW, ROW, {"question": Q0, "context": ""}])
    with pytest.raises(ValueError, match="row 2"):
        list(reader(rows, batch_size=1))
    with pytest.raises(ZeroDivisionError):
        list(reader({"question": Q0, "context": C0[: 1 // 0]} for _ in range(1)))


def test_questions_on_one_context_may_be_many(reader):
    questions = [f"Which animal does {name} keep?" for name in ("Ana", "Ben", "Cleo")]
    answers = reader(question=questions, context=C0, top_k=2)
    assert [len(each) for each in answers] == [2, 2, 2]


# ------------------------------------------------------------------------------------------------------ errors

EMPTY = [pytest.param("", id="empty"), pytest.param(None, id="none")]


FORMS: dict[str, Callable[[Reader, Any, Any], Any]] = {
    "keywords": lambda reader, question, context: reader(question=question, context=context),
    "positions": lambda reader, question, context: reader(question, context),
    "mapping": lambda reader, question, context: reader({"question": question, "context": context}),
    "mappings": lambda reader, question, context: reader([{"question": question, "context": context}]),
    "second mapping": lambda reader, question, context: reader([ROW, {"question": question, "context": context}]),
    "second pair": lambda reader, question, context: reader([(Q0, C0), (question, context)]),
    "lists": lambda reader, question, context: reader(question=[question], context=[context]),
    "second of lists": lambda reader, question, context: reader(question=[Q0, question], context=[C0, context]),
    "second of a stream": lambda reader, question, context: list(
        reader(row for row in [ROW, {"question": question, "context": context}])
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", EMPTY)
def test_an_empty_or_missing_text_is_refused_in_every_form(reader, form, bad):
    """Breaks if one form reaches the tokenizer, which makes a window of no text."""
    with pytest.raises(ValueError, match="question"):
        FORMS[form](reader, bad, C0)
    with pytest.raises(ValueError, match="context"):
        FORMS[form](reader, Q0, bad)


@pytest.mark.parametrize("bad", EMPTY)
def test_an_empty_or_missing_text_beside_a_shared_one_is_refused(reader, bad):
    for arguments in (
        {"question": [Q0, bad], "context": C0},
        {"question": [Q0, Q0], "context": bad},
        {"question": bad, "context": [C0]},
    ):
        with pytest.raises(ValueError, match=r"question|context"):
            reader(**arguments)


@pytest.mark.parametrize("row", [{"context": C0}, {"question": Q0}], ids=["question", "context"])
def test_a_missing_key_is_a_key_error(reader, row):
    """Breaks if `get` makes a missing key a missing text: callers that catch KeyError are in the field."""
    for form in (
        lambda: reader(row),
        lambda: reader([row]),
        lambda: reader([ROW, row]),
        lambda: list(reader(iter([row]))),
    ):
        with pytest.raises(KeyError, match="question" if "context" in row else "context"):
            form()


@pytest.mark.parametrize(
    "arguments",
    [
        {"question": {"question": Q0, "context": C0}, "context": C0},
        {"question": [Q0, Q0], "context": [C0, C0, C0]},
        {"question": [Q0, Q0, Q0], "context": [C0, C0]},
        {"question": Q0, "context": [C0]},
        {"question": Q0, "context": 5},
        {"question": Q0},
        {"context": C0},
        {},
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_refused(reader, arguments):
    with pytest.raises(ValueError, match=r"question|context"):
        reader(**arguments)


def test_what_is_no_question_at_all_is_refused(reader):
    for form in (lambda: reader(None), lambda: reader(1), lambda: reader(Y=None), lambda: reader(Q0)):
        with pytest.raises(ValueError):
            form()


def test_lists_of_none_give_none(reader):
    """Breaks if an empty list reaches a tokenizer. A generator that ends at once gives nothing."""
    assert reader([]) == []
    assert list(reader(iter([]))) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", 0),
        ("top_k", -1),
        ("max_answer_len", 0),
        ("max_answer_len", -2),
        ("doc_stride", 129),
        ("batch_size", 0),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_name(reader, name, value):
    """The toy's windows have 128 tokens. Breaks if a stride longer than a window loops, or top_k=0 gives []."""
    with pytest.raises(ValueError, match=name):
        reader(question=Q0, context=C0, **{name: value})


def test_an_unknown_argument_is_refused_with_the_nearest_known_one(reader):
    """The pipeline's own test passed max_seq_length, and nobody noticed that it did nothing. Breaks if it is dropped."""
    with pytest.raises(ValueError, match=r"max_seq_length.*max_seq_len\b"):
        reader(question=Q0, context=C0, max_seq_length=64)
    with pytest.raises(ValueError, match=r"topk.*top_k"):
        reader(question=Q0, context=C0, topk=2)


# ------------------------------------------------------------------------------------------------------ offsets and scores


def test_offsets_count_pythons_characters(reader):
    """Emoji are two units in UTF-16 and four bytes in UTF-8. Breaks if offsets count either."""
    context = "🤗🤗 Ana 👩‍👩‍👧 keeps 🤗 a goat."
    goat = token_id(reader, "goat")
    with given(reader.qa.model, peaks({goat: 20.0}, {goat: 20.0})):
        answer = reader(question="Which animal?", context=context)
    assert (answer["answer"], answer["start"]) == ("goat", context.index("goat"))
    for found in reader(question="Which animal?", context=context, top_k=10):
        check(found, context)


def test_huge_logits_do_not_overflow(reader):
    """Logits times a million. Breaks if exp is taken before the highest logit is subtracted."""
    table = random_logits(1)

    def huge(ids: Any, places: Any) -> Any:
        return tuple(1e6 * logits for logits in table(ids, places))

    with given(reader.qa.model, table):
        plain = reader(question=Q0, context=C0)
    with given(reader.qa.model, huge):
        answer = reader(question=Q0, context=C0)
        many = reader(question=Q0, context=C0, top_k=10, handle_impossible_answer=True)
    assert (answer["start"], answer["end"]) == (plain["start"], plain["end"])
    assert all(0 <= found["score"] <= 1 for found in [answer, *many])


def test_max_answer_len_counts_tokens(reader):
    """ "was born in Bern" has four tokens. Breaks if the limit is that of the constructor's spans, or counts words' letters."""
    context = "Ana was born in Bern."
    start, end = token_id(reader, "was"), token_id(reader, "Bern")
    with given(reader.qa.model, peaks({start: 20.0}, {end: 20.0})):
        assert reader(Q0, context, max_answer_len=4)["answer"] == "was born in Bern"
        assert reader(Q0, context, max_answer_len=3)["answer"] != "was born in Bern"
        for found in reader(Q0, context, max_answer_len=1, top_k=20):
            assert " " not in found["answer"]


def test_the_default_answer_has_at_most_fifteen_tokens(reader):
    """A sentence of sixteen tokens. Breaks if the default is that of predict.py, 30."""
    context = "Ana " + "keeps " * 13 + "a goat"
    start, end, before = token_id(reader, "Ana"), token_id(reader, "goat"), token_id(reader, "a")
    assert len(context.split()) == 16
    with given(reader.qa.model, peaks({start: 20.0}, {end: 20.0, before: 10.0})):
        assert reader(Q0, context)["answer"] == context.removesuffix(" goat")
        assert reader(Q0, context, max_answer_len=16)["answer"] == context


# ------------------------------------------------------------------------------------------------------ words and tokens

JAPANESE = "全学年にわたって小学校の国語の教科書に挿し絵が用いられている"


@pytest.fixture(scope="module")
def japanese(tmp_path_factory) -> Reader:
    """A token per character and a word per text without blanks, as tokenizers without a segmentation for Japanese have."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = sorted(set("国語" + JAPANESE))
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters)]
    core = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))  # pyright: ignore
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore
    core.post_processor = processors.TemplateProcessing(  # pyright: ignore
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=64, **names)  # type: ignore[arg-type]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    folder = tmp_path_factory.mktemp("japanese")
    model = AutoModelForQuestionAnswering.from_config(
        BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Reader(folder)


def test_answers_are_widened_to_the_tokenizers_words_unless_asked_not_to_be(japanese):
    """The text has no blanks, so it is one word of 30 characters. Breaks if words are found by blanks in the answer's
    tokens only, or if align_to_words is ignored."""
    vocabulary = japanese.qa.tokenizer.get_vocab()
    table = peaks({vocabulary["##教"]: 40.0}, {vocabulary["##書"]: 40.0})
    with given(japanese.qa.model, table):
        aligned = japanese(question="国語", context=JAPANESE)
        plain = japanese(question="国語", context=JAPANESE, align_to_words=False)
        several = japanese(question="国語", context=JAPANESE, top_k=5)
    assert (aligned["start"], aligned["end"], aligned["answer"]) == (0, 30, JAPANESE)
    assert (plain["start"], plain["end"], plain["answer"]) == (15, 18, "教科書")
    assert plain["score"] == pytest.approx(1.0, abs=1e-3) == aligned["score"]
    assert several == [aligned], "all spans are widened to the same place"


def test_words_end_at_blanks_where_the_tokenizer_has_them(japanese):
    context = "国語 教科書に 挿し絵"
    vocabulary = japanese.qa.tokenizer.get_vocab()
    with given(japanese.qa.model, peaks({vocabulary["##科"]: 30.0}, {vocabulary["##し"]: 30.0})):
        answer = japanese(question="国語", context=context)
        assert (answer["start"], answer["end"], answer["answer"]) == (3, 11, "教科書に 挿し絵")
        plain = japanese(question="国語", context=context, align_to_words=False)
        assert plain["answer"] == "科書に 挿し"


@pytest.mark.parametrize("family", ["roberta", "xlnet", "gpt2"])
def test_a_blank_before_a_word_is_not_part_of_its_answer(family, tmp_path):
    """These tokenizers count it among the word's characters. Breaks if widening brings it back."""
    reader = Reader(zoo.make(family, tmp_path))
    context = "Ana keeps a goat."
    encoded = reader.qa.tokenizer(context)
    goat = encoded["input_ids"][encoded.char_to_token(context.index("goat"))]
    with given(reader.qa.model, peaks({goat: 20.0}, {goat: 20.0})):
        answer = reader("Which animal?", context)
    assert (answer["start"], answer["answer"].removesuffix(".")) == (12, "goat")


def test_a_widened_answer_has_the_marks_of_its_letters(reader):
    """The toy's tokenizer strips accents: no token covers the mark behind a letter. Breaks if a word that ends in one loses it,
    or if a mark within a word stops the widening."""
    context = "Ana keeps a go\u0301at\u0301, a hen."
    tokens = reader.qa.tokenizer(context, add_special_tokens=False)
    for letters in ("go", "goat"):
        start, end = context.index("go"), context.index("go") + len(letters)
        assert reader._maker.whole_words(context, [(start, end)]) == [(start, context.index(","))]
    assert "goat" in reader.qa.tokenizer.convert_ids_to_tokens(tokens["input_ids"])
