"""Small fast tokenizers of the families that QA models use, trained here on a few lines; every call makes a new one."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = """Ana Müller wrote the first of seven novels in Zürich in 1862, and sold 3,000 copies of it within a year.
Who wrote the novel? What was sold in the old town? When did the second one appear, and where was it printed?
The river Aare flows through Bern; its water is cold in spring, and the bridge over it was built by Niklaus Gross.
Le café de l'école est fermé: c'était en août. Der größte Bär heißt Björk. Ísland er eyja í Atlantshafi.
東京はどこですか？ 京都は古い都です。 من كتب الكتاب؟ שלום עולם. Кто написал эту книгу? Ποιος έγραψε το βιβλίο;
"Nobody knows," she said (twice) -- but the U.S. Senate voted 51-49 on Jan. 6th; unbelievable, isn't it?
"""


def _trained(model, trainer, normalizer=None, pre_tokenizer=None, decoder=None) -> Tokenizer:
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(TEXT.splitlines() * 3, trainer)
    return tokenizer


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A token per word, [CLS] question [SEP] context [SEP]; accents are stripped, as BERT's uncased tokenizers do."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # pyright: ignore
    core.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=["input_ids"], **names)


def wordpiece() -> PreTrainedTokenizerFast:
    """BERT's: [CLS] question [SEP] context [SEP], token types."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core = _trained(
        models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100),  # pyright: ignore
        trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False),
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, special)),
    )


def roberta() -> PreTrainedTokenizerFast:
    """RoBERTa's: <s> question </s></s> context </s>, byte-level, offsets without the leading blank, no token types."""
    core = _trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
    )
    core.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def gpt2() -> PreTrainedTokenizerFast:
    """GPT-2's: question and context end to end, no special token between them, offsets with the leading blank."""
    core = _trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=350,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
    )
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        bos_token=end,
        eos_token=end,
        unk_token=end,
        pad_token=end,
    )


def xlnet() -> PreTrainedTokenizerFast:
    """XLNet's: context <sep> question <sep> <cls>, Unigram, left padding, token types 0, 1 and 2."""
    core = _trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=250,
            special_tokens=["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>"],
            unk_token="<unk>",
            show_progress=False,
        ),
        normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Replace("``", '"')]),
        pre_tokenizers.Metaspace(),
        decoders.Metaspace(),
    )
    core.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2",
        pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2",
        special_tokens=[("<sep>", 4), ("<cls>", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        padding_side="left",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<cls>",
        sep_token="<sep>",
        pad_token="<pad>",
        mask_token="<mask>",
    )


def t5() -> PreTrainedTokenizerFast:
    """T5's: question </s> context </s>, Unigram, neither CLS nor BOS."""
    core = _trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=250, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
        ),
        normalizers.NFKC(),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
        decoders.Metaspace(),
    )
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def llama() -> PreTrainedTokenizerFast:
    """Llama's: <s> question <s> context, BPE over text whose blanks are marks, bytes for what it does not know."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    core = _trained(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True),
        trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


class PairsOfTheirOwn(PreTrainedTokenizerFast):
    """Writes contexts in capitals where there is a question: the tokens of a context depend on its question."""

    def _encode_plus(self, text, text_pair=None, **settings):
        if text_pair is not None:
            text_pair = [each.upper() for each in text_pair] if isinstance(text_pair, list) else text_pair.upper()
        return super()._encode_plus(text, text_pair, **settings)


def not_composable() -> PairsOfTheirOwn:
    core = _trained(
        models.WordPiece(unk_token="[UNK]"),  # pyright: ignore
        trainers.WordPieceTrainer(
            vocab_size=400, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
        ),
        pre_tokenizer=pre_tokenizers.Whitespace(),
    )
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]))
    return PairsOfTheirOwn(tokenizer_object=core, model_max_length=512, **names)


FAMILIES = {make.__name__: make for make in (wordpiece, roberta, gpt2, xlnet, t5, llama)}
