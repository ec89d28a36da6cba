"""python quickstart/make_encoder.py: wording.yaml and the train half of the tables -> encoder/, a small BERT and its WordPiece vocabulary.

The encoder sees no question, no real fact, and no name of a dev entity. Its text tells of made-up entities: names are chains
of letters drawn from the spelling of the train names, values are drawn or made up likewise. Its one task is to point:

    [CLS] the birthplace of korvel dastin was [MASK]. [SEP] korvel dastin, born in 1754, came from ebbenz. ... [SEP]

One sentence about one entity, its value blanked, then a paragraph that tells the same fact in other words (the model points at
the value) or does not (it points at [CLS]). So it learns to match names that it has never seen and to compare statements; what
questions mean, and what the real corpus says, is left to fine-tuning. The pointing head is thrown away.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from make_corpus import HERE, SEED, Entity, Fact, Teller, make_corpus, possible_questions, read_entities, read_wording, split_entities
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizerFast

LITTLE_WORDS = {"the", "of", "and", "in", "a", "with", "for", "on", "to"}


class Spelling:
    """Made-up words: each letter drawn by the three before it, as the given words have them."""

    def __init__(self, words: Sequence[str], rng: random.Random):
        self.rng = rng
        self.next: dict[str, list[str]] = defaultdict(list)
        for word in words:
            letters = f"^^^{word.lower()}$"
            for i in range(3, len(letters)):
                self.next[letters[i - 3 : i]].append(letters[i])
                self.next[letters[i - 2 : i]].append(letters[i])

    def word(self) -> str:
        while True:
            letters = "^^^"
            while letters[-1] != "$" and len(letters) < 16:
                # two letters of memory now and then: more freedom than the names themselves have
                memory = 2 if self.rng.random() < 0.35 and len(letters) > 4 else 3
                letters += self.rng.choice(self.next[letters[-memory:]] or ["$"])
            word = letters[3:].rstrip("$")
            if 3 <= len(word) <= 12:
                return word.capitalize()


class MadeUpWorld:
    """Entities that nobody has heard of, of the kinds and with the relations that the corpus has."""

    def __init__(self, train: Sequence[Entity], real_names: set[str], wording: dict, rng: random.Random):
        self.rng, self.wording, self.real_names = rng, wording, real_names
        self.names: dict[str, list[str]] = defaultdict(list)
        self.values: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.pronouns: dict[str, list[str]] = defaultdict(list)
        for entity in train:
            self.names[entity.kind].append(entity.name)
            self.pronouns[entity.kind].append(entity.pronoun)
            for relation, value in entity.facts.items():
                self.values[entity.kind, relation].append(value)
        told = [name for names in self.names.values() for name in names] + [v for vs in self.values.values() for v in vs]
        words = {word for text in told for word in re.findall(r"[^\W\d_]{3,}", text)} - LITTLE_WORDS
        self.spelling = Spelling(sorted(words), rng)
        self.word_pool = sorted(words)

    def altered(self, text: str, share: float) -> str:
        """The text with most words replaced: digits by digits, words by made-up ones or by words from other names."""

        def other(match: re.Match[str]) -> str:
            word = match.group()
            if word.isdigit():
                if len(word) == 4 and word[0] in "12":
                    return str(self.rng.randint(1200, 2024))
                return str(self.rng.randint(10 ** (len(word) - 1), 10 ** len(word) - 1))
            if len(word) < 3 or word in LITTLE_WORDS or self.rng.random() > share:
                return word
            new = self.spelling.word() if self.rng.random() < 0.75 else self.rng.choice(self.word_pool)
            return new if word[0].isupper() else new.lower()

        return re.sub(r"[^\W_]+", other, text)

    def value(self, kind: str, relation: str) -> str:
        pool = self.values[kind, relation]
        value = self.rng.choice(pool)
        closed = len(set(pool)) < 0.4 * len(pool)
        if re.fullmatch(r"[A-Z][a-z]?", value):
            return self.rng.choice("ABCDEFGHIKLMNOPRSTUVXYZ") + self.rng.choice(["", *"abcdefghiklmnorstuy"])
        if closed and self.rng.random() < 0.6:
            return value
        return self.altered(value, 0.7)

    def entities(self, count: int) -> tuple[str, list[Entity]]:
        kind = self.rng.choice(list(self.names))
        made: dict[str, Entity] = {}
        while len(made) < count:
            name = self.altered(self.rng.choice(self.names[kind]), 0.85)
            if name not in self.real_names:
                facts = {relation: self.value(kind, relation) for relation in self.wording[kind]["relations"]}
                made[name] = Entity(kind, name, self.rng.choice(self.pronouns[kind]), facts)
        return kind, list(made.values())


def pointing_examples(world: MadeUpWorld, teller: Teller, sizes: Sequence[int]) -> Iterator[tuple[str, str, int, int]]:
    """(blanked statement, paragraph, first and last + 1 character of the value; -1, -1 where the paragraph does not tell it)."""
    rng = world.rng
    while True:
        kind, entities = world.entities(rng.choice(sizes) + 1)
        paragraph = teller.paragraph(kind, entities[:-1])
        possible = possible_questions(paragraph, entities[-1:])
        unanswerable = possible["missing"] + possible["silent"][:1] + possible["other"]
        for _ in range(2):
            if rng.random() < 2 / 3 or not unanswerable:
                fact = rng.choice(list(paragraph.facts))
                begin = paragraph.facts[fact]
                yield blanked(fact, paragraph.wordings[fact], teller), paragraph.context, begin, begin + len(fact.value)
            else:
                yield blanked(rng.choice(unanswerable), "", teller), paragraph.context, -1, -1


def blanked(fact: Fact, told_as: str, teller: Teller) -> str:
    """The fact in other words than it was told in, with [MASK] for its value."""
    relation = teller.wording[fact.entity.kind]["relations"][fact.relation]
    forms = relation["statements"] + ["{e} " + predicate for predicate in relation["predicates"]]
    form = teller.rng.choice([form for form in forms if form not in (told_as, "{e} " + told_as)])
    text = form.replace("{e}", teller.named(fact.entity)).replace("{v}", "[MASK]")
    return text.rstrip(".")


def train_tokenizer(world: MadeUpWorld, teller: Teller, vocab_size: int, folder: Path) -> BertTokenizerFast:
    """Vocabulary of the train file (questions included, as text) and of made-up paragraphs."""
    texts: list[str] = []
    for article in make_corpus()["train"]["data"]:
        for paragraph in article["paragraphs"]:
            texts += [paragraph["context"], *(row["question"] for row in paragraph["qas"])]
    examples = pointing_examples(world, teller, [2, 3, 4])
    texts += [next(examples)[1] for _ in range(6000)]
    texts += [str(year) for year in range(1000, 2030)]
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=2, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    trainer.save_model(str(folder))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True, model_max_length=512)
    (folder / "vocab.txt").unlink()
    tokenizer.save_pretrained(folder)
    return tokenizer


def batch_of(examples: Sequence[tuple[str, str, int, int]], tokenizer: BertTokenizerFast) -> dict[str, torch.Tensor]:
    pairs = tokenizer(
        [e[0] for e in examples],
        [e[1] for e in examples],
        padding=True,
        truncation="only_second",
        max_length=384,
        return_tensors="pt",
    )
    starts, ends = [], []
    for row, (_, _, begin, end) in enumerate(examples):
        first = pairs.char_to_token(row, begin, 1) if begin >= 0 else 0
        last = pairs.char_to_token(row, end - 1, 1) if begin >= 0 else 0
        starts.append(first or 0)
        ends.append(last or 0)
    return {**pairs, "start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends)}


def batches(examples, size: int, tokenizer: BertTokenizerFast, rng: random.Random) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of rows of about one length."""
    while True:
        chunk = sorted((next(examples) for _ in range(20 * size)), key=lambda example: len(example[0]) + len(example[1]))
        groups = [chunk[i : i + size] for i in range(0, len(chunk), size)]
        rng.shuffle(groups)
        for group in groups:
            yield batch_of(group, tokenizer)


def new_model(tokenizer: BertTokenizerFast, layers: int, width: int, inner: int, heads: int) -> BertForQuestionAnswering:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=512,
        # dropout costs a CPU a third of its time, and the text never repeats
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForQuestionAnswering(config)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            attention = layer.attention.self
            # queries equal to keys: tokens attend to their like from the first step, which is what matching names needs
            attention.query.weight.normal_(0, width**-0.5)
            attention.key.weight.copy_(attention.query.weight)
        model.bert.embeddings.word_embeddings.weight.mul_(2.0)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=HERE / "encoder")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--inner", type=int, default=768)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--vocab_size", type=int, default=4000)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--easy", type=float, default=0.25)
    parser.add_argument("--steps", type=int, default=3000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    wording = read_wording()
    entities = read_entities(wording)
    parts = split_entities(entities, random.Random(SEED))
    teller = Teller(wording, rng)
    world = MadeUpWorld(parts["train"], {entity.name for entity in entities}, wording, rng)
    tokenizer = train_tokenizer(world, teller, args.vocab_size, args.output_dir)
    model = new_model(tokenizer, args.layers, args.width, args.inner, args.heads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    plain = Teller(wording, rng, relations=(1, 1, 2))
    easy = batches(pointing_examples(world, plain, [2]), args.batch_size, tokenizer, rng)
    full = batches(pointing_examples(world, teller, [2, 3, 3, 4]), args.batch_size, tokenizer, rng)
    began, said, sums = time.process_time(), 0.0, Counter()
    for step in range(args.steps):
        rate = min(1, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * max(rate, 0.01)
        batch = next(easy if step < args.easy * args.steps else full)
        with torch.autocast("cpu", torch.bfloat16):
            output = model(**batch)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        right = (output.start_logits.argmax(-1) == batch["start_positions"]) & (output.end_logits.argmax(-1) == batch["end_positions"])
        has = batch["start_positions"] > 0
        sums.update(n=len(has), right=int(right.sum()), has=int(has.sum()), has_right=int((right & has).sum()))
        sums.update(tokens=int(batch["attention_mask"].sum()), all=batch["input_ids"].numel())
        sums["loss"] += output.loss.item() * len(has)
        if (step + 1) % 50 == 0:
            print(
                f"{step + 1} {time.process_time() - began:.0f}s loss {sums['loss'] / sums['n']:.3f} right {sums['right'] / sums['n']:.3f} "
                f"with answer {sums['has_right'] / sums['has']:.3f} tokens/row {sums['tokens'] / sums['n']:.0f} fill {sums['tokens'] / sums['all']:.2f}",
                flush=True,
            )
            sums = Counter()
    model.half().save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
