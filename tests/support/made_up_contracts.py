"""Contracts that nobody made: long documents, a dozen questions of each, few of which a document answers, some of them twice.

For trials of training where nearly all windows hold no answer. Nothing is random but the seed's draw: the same files come
out in every session.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

PARTIES = ["the Mill", "the Baker", "the Carter", "the Owner", "the Miller", "the Lender"]
PLACES = ["Norland", "Eastmark", "Brook Bay", "Lower Hollow", "Fernhill", "Stonebridge"]
GOODS = ["rye", "oats", "barley", "flour", "sacks", "carts", "millstones", "timber"]
MONTHS = ["January", "March", "April", "June", "August", "October", "November"]

CLAUSES: dict[str, tuple[str, list[str]]] = {
    "law": (
        "Which part names the law that applies?",
        ["This agreement is read under the law of {place}.", "The law of {place} applies to all of this agreement."],
    ),
    "court": (
        "Which court hears a dispute?",
        ["The court of {place} alone hears a dispute of the parties.", "Disputes go to the court of {place}."],
    ),
    "end": (
        "On which day does the agreement end?",
        ["The agreement ends on {day} {month} of year {year}.", "It is in force until {day} {month}, year {year}."],
    ),
    "renewal": (
        "How is the agreement renewed?",
        ["It is renewed by itself for {number} months unless {party} objects."],
    ),
    "notice": (
        "How long before does a party give notice?",
        ["{party} gives notice {number} days before it leaves.", "A notice of {number} days ends the agreement."],
    ),
    "price": (
        "What is the price of the goods?",
        ["{party} pays {number} crowns for each load of {goods}.", "The price of {goods} is {number} crowns a load."],
    ),
    "late": (
        "What does a party owe that pays late?",
        ["Whoever pays late owes {number} crowns more for each week."],
    ),
    "exclusive": (
        "Which part forbids sales to others?",
        ["{party} sells {goods} to nobody else in {place}.", "No other buyer in {place} is served with {goods}."],
    ),
    "transfer": (
        "May a party pass on its rights?",
        ["{party} passes on its rights only if the other side agrees in writing."],
    ),
    "limit": (
        "Up to which sum is a party liable?",
        ["{party} is liable for damage up to {number} crowns.", "No claim for damage exceeds {number} crowns."],
    ),
    "insurance": (
        "Which part requires an insurance?",
        ["{party} insures the {goods} against fire for {number} crowns."],
    ),
    "inspection": (
        "May a party look into the books?",
        ["{party} may look into the books once in {number} months.", "The books are open to {party} each {month}."],
    ),
}
"""Kind of a clause -> the question that asks for it, and how it may read."""

FILLER = [
    "The parties met in {place} on {day} {month} and looked at {number} samples of {goods}.",
    "{party} keeps the {goods} dry, and the carts stay in the yard of the mill.",
    "Where this text speaks of days, it means days on which the market of {place} is open.",
    "A heading is there for the reader and has no meaning of its own.",
    "The {goods} are weighed at the gate, and each side writes the weight into its list.",
    "{party} tells the other side if the road to {place} is closed.",
    "In {month} the brook runs low, and the mill works for {number} hours a day.",
    "All earlier letters of the parties about {goods} are without effect.",
    "If one sentence of this text fails, the others remain in force.",
    "The scales are tested in {place} every {number} months by a third person.",
    "{party} marks the sacks of {goods} with its own sign and a number.",
    "Each side bears its own costs for the visit to {place}.",
    "The list of {goods} at the end of this text is a part of it.",
    "Rain, frost and a strike of the carters excuse a delay of {number} days.",
    "{party} sends its letters to the office in {place}, and a copy goes to the mill.",
    "Words in the plural include one thing, and words for one thing include several.",
    "The keys of the barn are with {party}, who writes down each visit.",
    "Samples of {goods} are kept for {number} weeks in a closed box.",
    "Nobody works at the stones alone, and the bell rings before they turn.",
    "A load that was refused goes back to {place} at noon.",
]
HEADINGS = ["Delivery", "Storage", "Letters", "Meaning of words", "Weights", "Roads", "Visits", "Samples", "Safety"]


@dataclass(frozen=True)
class Contracts:
    train: Path
    """Nested SQuAD v2."""
    test: Path
    """The same of other documents."""


def write_contracts(folder: Path, *, train: int = 30, test: int = 5, sentences: int = 300, seed: int = 0) -> Contracts:
    """So many documents of so many sentences each; a sentence has about 16 words."""
    return Contracts(
        contract_file(folder / "train.json", "train", train, sentences, seed),
        contract_file(folder / "test.json", "test", test, sentences, seed + 1_000_000),
    )


def contract_file(path: Path, prefix: str, documents: int, sentences: int, seed: int) -> Path:
    data = []
    for number in range(documents):
        drawn = random.Random(seed + number)
        context, answers = _document(drawn, sentences)
        asked = [
            {"id": f"{prefix}-{number}-{kind}", "question": question, "answers": answers[kind]}
            | {"is_impossible": not answers[kind]}
            for kind, (question, _) in CLAUSES.items()
        ]
        data.append({"title": f"contract {number}", "paragraphs": [{"context": context, "qas": asked}]})
    path.write_text(json.dumps({"version": "v2.0", "data": data}, indent=1), encoding="utf-8")
    return path


def _document(drawn: random.Random, sentences: int) -> tuple[str, dict[str, list[dict]]]:
    """A text, and of each kind of clause the places where it is. A third of the kinds are there, some two or three times."""
    places: dict[int, str] = {}
    for kind in CLAUSES:
        if drawn.random() < 1 / 3:
            for _ in range(drawn.choices([1, 2, 3], [6, 3, 1])[0]):
                places[drawn.randrange(sentences)] = kind
    text = f"Agreement of {drawn.choice(PARTIES)} and {drawn.choice(PARTIES)} of {drawn.choice(PLACES)}.\n"
    answers: dict[str, list[dict]] = {kind: [] for kind in CLAUSES}
    for number in range(sentences):
        if number % 12 == 0:
            text += f"\n{1 + number // 12}. {drawn.choice(HEADINGS)}\n"
        sentence = _filled(drawn, drawn.choice(CLAUSES[places[number]][1] if number in places else FILLER))
        if number in places:
            answers[places[number]].append({"text": sentence, "answer_start": len(text)})
        text += sentence + " "
    return text, answers


def _filled(drawn: random.Random, template: str) -> str:
    filled = template.format(
        party=drawn.choice(PARTIES),
        place=drawn.choice(PLACES),
        goods=drawn.choice(GOODS),
        month=drawn.choice(MONTHS),
        day=drawn.randint(1, 28),
        year=drawn.randint(40, 99),
        number=drawn.randint(2, 900),
    )
    return filled[0].upper() + filled[1:]


def make_small_model(folder: Path, hidden_size: int = 64) -> Path:
    """A BERT of two layers that knows the contracts' words, with random weights."""
    import torch

    tokenizer = _tokenizer()
    random_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = BertForQuestionAnswering(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=2 * hidden_size,
            max_position_embeddings=512,
            initializer_range=0.1,  # else the small model's logits would all be nearly equal
        )
    )
    torch.random.set_rng_state(random_state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    normalizer, pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    texts = [*FILLER, *HEADINGS, *PARTIES, *PLACES, *GOODS, *MONTHS, "Agreement of and"]
    texts += [text for question, forms in CLAUSES.values() for text in (question, *forms)]
    words = {word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))}
    digits = list("0123456789")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *digits, *(f"##{digit}" for digit in digits), *sorted(words - set(digits))]
    core = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizer, pre_tokenizer  # pyright: ignore
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
