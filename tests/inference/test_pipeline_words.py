"""`align_to_words`: answers widened to the words of the tokenizer, in the rows of the removed pipeline's test table and beyond."""

import pytest
import zoo
from given_logits import given, peaks
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForQuestionAnswering, BertConfig, PreTrainedTokenizerFast

from qa_accel import Reader


@pytest.fixture(scope="module")
def reader(toy) -> Reader:
    return Reader(toy.model)


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
        assert list(reader.whole_words(context, [(start, end)])) == [(start, context.index(","))]
    assert "goat" in reader.qa.tokenizer.convert_ids_to_tokens(tokens["input_ids"])
