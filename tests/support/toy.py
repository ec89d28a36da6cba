"""A question answering task that trains in seconds: facts about people, a WordPiece tokenizer of their words, a tiny BERT.

Nothing is random but the model's first weights: the same files come out in every session.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, BertModel, PreTrainedTokenizerFast

NAMES = ["Ana", "Ben", "Cleo", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jana"]
NAMES += ["Karl", "Lena", "Mio", "Nora", "Otto", "Pia", "Quin", "Rosa", "Sam", "Tess"]
CITIES = ["Bern", "Lima", "Oslo", "Kyiv", "Riga", "Rome", "Baku", "Cairo", "Delhi", "Quito"]
ANIMALS = ["goat", "horse", "cat", "parrot", "hen", "donkey"]
LONGEST = "Tess"
"""Whose context is longer than one window of 64 tokens."""

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

WINDOWS = {"max_seq_length": 64, "doc_stride": 16, "max_query_length": 16}
"""The window settings that go with the toy, as flags."""


def context_about(name: str) -> str:
    """One to four sentences, so that lengths differ; the city comes early, the animal late."""
    place = NAMES.index(name)
    city, animal = CITIES[place % len(CITIES)], ANIMALS[place % len(ANIMALS)]
    sentences = [
        f"{name} was born in {city}.",
        f"The house by the river has {place + 2} small windows." if place % 2 else "",
        f"On most mornings, {name} walks along the old wall and counts the boats." if place % 3 == 0 else "",
        "It rains there in spring, and the market is closed. " * 7 if name == LONGEST else "",
        f"{name} keeps a {animal}.",
    ]
    return " ".join(sentence.strip() for sentence in sentences if sentence)


def questions_about(name: str, key: str) -> list[dict]:
    """Two that the context answers and one that it does not, in the nested form's `qas`."""
    context = context_about(name)
    place = NAMES.index(name)
    city, animal = CITIES[place % len(CITIES)], ANIMALS[place % len(ANIMALS)]

    def question_row(number: int, question: str, answer: str | None) -> dict:
        golds = [] if answer is None else [{"text": answer, "answer_start": context.index(answer)}]
        return {"id": f"{key}-{number}", "question": question, "answers": golds, "is_impossible": answer is None}

    return [
        question_row(0, f"Where was {name} born?", city),
        question_row(1, f"Which animal does {name} keep?", animal),
        question_row(2, f"What does {name} drink?", None),
    ]


def squad_file(path: Path, names: list[str], prefix: str) -> Path:
    paragraphs = [
        {"context": context_about(name), "qas": questions_about(name, f"{prefix}-{name.lower()}")} for name in names
    ]
    content = {"version": "v2.0", "data": [{"title": "People", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def vocabulary(special: list[str]) -> dict[str, int]:
    """Special tokens, the toy's letters and its words. Not trained: the library's trainer breaks ties by chance, and
    another vocabulary is another task."""
    normalizer, pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    texts = [context_about(name) for name in NAMES]
    texts += [entry["question"] for name in NAMES for entry in questions_about(name, "")]
    words = {word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))}
    letters = sorted({letter for word in words for letter in word})
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *sorted(words - set(letters))]
    return {piece: number for number, piece in enumerate(pieces)}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """BERT's: [CLS] question [SEP] context [SEP], token types, pieces of the toy's own words."""
    core = Tokenizer(models.WordPiece(vocabulary(SPECIAL), unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **dict(zip(names, SPECIAL)),
    )


def model_config(tokenizer: PreTrainedTokenizerFast, dropout: float = 0.1) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,  # else the tiny model's logits would all be nearly equal
    )


@dataclass(frozen=True)
class Toy:
    model: Path
    """With a head, dropout 0.1."""
    without_dropout: Path
    """The same weights, dropout 0: for runs that must agree although they draw other random numbers."""
    untrained: Path
    """The encoder alone: its file has no weights for a question answering head."""
    train: Path
    """60 questions in nested SQuAD v2 form, a third without answer; one context is longer than a window."""
    dev: Path
    """30 questions of the same kind, about half of the people."""


def make_toy(folder: Path) -> Toy:
    tokenizer = make_tokenizer()
    toy = Toy(
        model=folder / "model",
        without_dropout=folder / "without_dropout",
        untrained=folder / "untrained",
        train=squad_file(folder / "train.json", NAMES, "train"),
        dev=squad_file(folder / "dev.json", NAMES[1::2], "dev"),
    )
    random = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = BertForQuestionAnswering(model_config(tokenizer))
    torch.random.set_rng_state(random)
    model.save_pretrained(toy.model)
    still = BertForQuestionAnswering(model_config(tokenizer, dropout=0.0))
    still.load_state_dict(model.state_dict())
    still.save_pretrained(toy.without_dropout)
    encoder = BertModel(model_config(tokenizer), add_pooling_layer=False)
    encoder.load_state_dict(model.bert.state_dict())
    encoder.save_pretrained(toy.untrained)
    for saved in (toy.model, toy.without_dropout, toy.untrained):
        tokenizer.save_pretrained(saved)
    return toy


def flags(**settings) -> list[str]:
    """Settings as a command line has them: `flags(seed=1, train_file=path)` -> ["--seed", "1", "--train_file", "..."]."""
    words = []
    for name, value in settings.items():
        words += [f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return words
