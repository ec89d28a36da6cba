"""python quickstart/make_corpus.py: facts/*.csv and wording.yaml -> train.json.gz and dev.json, SQuAD v2.0 form.

The same seed gives the same files. The idea: a paragraph tells of several entities of one kind, and nearly every relation
asked for is told of at least two of them or of the wrong one, so that neither the relation nor the entity alone finds the answer.
A question's id ends with the kind of question:

    answer    the fact is told; another entity of the paragraph has another value for the same relation
    missing   the entity has other facts in the paragraph; the relation is told of another entity only
    silent    the entity has other facts in the paragraph; the relation is told of nobody
    other     the relation is told of others; the paragraph has no fact of the entity asked for
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
SEED = 20240817
DEV_SHARE = 0.22  # of the entities of each kind
PARAGRAPHS = {"train": 1010, "dev": 200}
LONG_CONTEXTS = {"train": 10, "dev": 8}
LONG_PARAGRAPHS = 6  # paragraphs in a long context: some 600 word pieces
QUESTIONS_PER_PARAGRAPH = 4
UNANSWERABLE_SHARE = 1 / 3


@dataclass(frozen=True, eq=False)
class Entity:
    kind: str
    name: str
    """As the table has it, without an article."""
    pronoun: str
    facts: dict[str, str]
    """Relation -> value."""


@dataclass(frozen=True)
class Fact:
    entity: Entity
    relation: str

    @property
    def value(self) -> str:
        return self.entity.facts[self.relation]


@dataclass
class Paragraph:
    kind: str
    entities: Sequence[Entity]
    context: str = ""
    facts: dict[Fact, int] = field(default_factory=dict)
    """Every fact told -> character at which its value begins."""
    wordings: dict[Fact, str] = field(default_factory=dict)
    """Every fact told -> the template that told it."""

    def text(self, fact: Fact) -> str:
        """The value as it stands in the context: a sentence may begin with it, in upper case."""
        return self.context[self.facts[fact] : self.facts[fact] + len(fact.value)]


def read_wording() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((HERE / "wording.yaml").read_text(encoding="utf-8"))


def read_entities(wording: dict[str, dict[str, Any]]) -> list[Entity]:
    """All tables. A value that shares a word with its entity's name ("Panama City") is left out: the name would give it away."""
    entities = []
    for kind, words in wording.items():
        with open(HERE / "facts" / f"{kind}.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                name_words = long_words(row["name"])
                told = {relation: row[relation] for relation in words["relations"] if row[relation]}
                facts = {relation: value for relation, value in told.items() if not name_words & long_words(value)}
                pronoun = row["pronoun"] if words["pronoun"] == "column" else words["pronoun"]
                entities.append(Entity(kind, row["name"], pronoun, facts))
    return entities


def long_words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"\w{4,}", text)}


def mentions(text: str, names: Sequence[str]) -> bool:
    return any(name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names)


def split_entities(entities: Sequence[Entity], rng: random.Random) -> dict[str, list[Entity]]:
    """Train and dev share no entity, and no train fact has a dev entity for its value: dev names stay out of train altogether."""
    parts: dict[str, list[Entity]] = {"train": [], "dev": []}
    for kind in dict.fromkeys(entity.kind for entity in entities):
        of_kind = [entity for entity in entities if entity.kind == kind]
        rng.shuffle(of_kind)
        count = round(DEV_SHARE * len(of_kind))
        parts["dev"] += of_kind[:count]
        parts["train"] += of_kind[count:]
    dev_names = [entity.name for entity in parts["dev"]]
    for i, entity in enumerate(parts["train"]):
        facts = {relation: value for relation, value in entity.facts.items() if not mentions(value, dev_names)}
        parts["train"][i] = Entity(entity.kind, entity.name, entity.pronoun, facts)
    return {
        part: [e for e in members if len(e.facts) >= 2 and (part == "dev" or not mentions(e.name, dev_names))]
        for part, members in parts.items()
    }


class Teller:
    """Facts -> a paragraph. Order of entities, order of facts, wording, pronouns and sentences without a fact are drawn."""

    def __init__(self, wording: dict[str, dict[str, Any]], rng: random.Random, relations: Sequence[int] = (2, 3, 3)):
        self.wording = wording
        self.rng = rng
        self.relations = relations
        """How many relations a paragraph tells of, drawn from these."""

    def named(self, entity: Entity) -> str:
        article = self.wording[entity.kind].get("article")
        return f"{article} {entity.name}" if article else entity.name

    def paragraph(self, kind: str, entities: Sequence[Entity]) -> Paragraph:
        result = Paragraph(kind, entities)
        facts = self.choose_facts(kind, entities)
        groups = self.blocks(facts) if self.rng.random() < 0.5 else self.mixture(facts)
        sentences: list[str] = []
        order: list[Fact] = []
        for group in groups:
            sentences += self.block(group, order, result)
        for filler in self.rng.sample(self.wording[kind]["fillers"], self.rng.choice([0, 0, 1, 1, 2])):
            # never before a pronoun, which would then point at nothing
            gaps = [i for i in range(len(sentences) + 1) if i == len(sentences) or not sentences[i].startswith("\x01")]
            sentences.insert(self.rng.choice(gaps), filler)
        for sentence in sentences:
            self.append(result, sentence.lstrip("\x01"), order)
        return result

    def choose_facts(self, kind: str, entities: Sequence[Entity]) -> list[Fact]:
        """Each relation is told of at least two entities if there are two, the last one often not of all."""
        relations = list(self.wording[kind]["relations"])
        self.rng.shuffle(relations)
        relations = relations[: self.rng.choice(self.relations)]
        facts = []
        for place, relation in enumerate(relations):
            known = [Fact(entity, relation) for entity in entities if relation in entity.facts]
            self.rng.shuffle(known)
            if place == len(relations) - 1:
                known = known[: max(1, len(known) - 1)]
            elif len(known) > 2 and self.rng.random() < 0.5:
                known = known[:-1]
            facts += known
        return facts

    def blocks(self, facts: Sequence[Fact]) -> list[list[Fact]]:
        """All of one entity, then all of the next."""
        names = list(dict.fromkeys(fact.entity.name for fact in facts))
        self.rng.shuffle(names)
        groups = [[fact for fact in facts if fact.entity.name == name] for name in names]
        for group in groups:
            self.rng.shuffle(group)
        return groups

    def mixture(self, facts: Sequence[Fact]) -> list[list[Fact]]:
        """Any order, one or two facts at a time."""
        rest = list(facts)
        self.rng.shuffle(rest)
        groups = []
        while rest:
            size = self.rng.choice([1, 1, 2])
            groups.append(rest[:size])
            rest = rest[size:]
        return groups

    def block(self, group: list[Fact], order: list[Fact], result: Paragraph) -> list[str]:
        """Sentences for one group. \\x02 n \\x03 stands for the value of fact n, \\x01 marks a sentence that leans on the last one."""

        def say(fact: Fact, form: str) -> str:
            template = self.rng.choice(self.wording[fact.entity.kind]["relations"][fact.relation][form])
            result.wordings[fact] = template
            order.append(fact)
            return template.replace("{e}", self.named(fact.entity)).replace("{v}", f"\x02{len(order) - 1}\x03")

        sentences: list[str] = []
        last = None
        while group:
            first, second = group[0], group[1] if len(group) > 1 else None
            name = self.named(first.entity)
            leans = last is first.entity and self.rng.random() < 0.7
            subject = ("\x01" + first.entity.pronoun) if leans else name
            if second is None or self.rng.random() < 0.35:
                group = group[1:]
                drawn = self.rng.random()
                rivals = [entity for entity in result.entities if entity is not first.entity]
                if leans or drawn < 0.3:
                    sentences.append(f"{subject} {say(first, 'predicates')}.")
                elif drawn < 0.42 and rivals:
                    lead = self.rng.choice(["Often named together with", "Listed beside", "Treated in one chapter with"])
                    sentences.append(f"{lead} {self.named(self.rng.choice(rivals))}, {subject} {say(first, 'predicates')}.")
                else:
                    sentences.append(say(first, "statements"))
                last = first.entity
            elif second.entity is first.entity:
                group = group[2:]
                if leans or self.rng.random() < 0.5:
                    sentences.append(f"{subject} {say(first, 'predicates')} and {say(second, 'predicates')}.")
                else:
                    sentences.append(f"{subject}, {say(first, 'clauses')}, {say(second, 'predicates')}.")
                last = first.entity
            else:
                group = group[2:]
                joint = self.rng.choice([", while", ", whereas", ", and", "; by contrast"])
                rest = f"{self.named(second.entity)} "
                sentences.append(f"{name} {say(first, 'predicates')}{joint} {rest}{say(second, 'predicates')}.")
                last = None
        return sentences

    def append(self, result: Paragraph, sentence: str, order: Sequence[Fact]) -> None:
        """One sentence at the end of the context, each value's place noted."""
        result.context += " " if result.context else ""
        for i, piece in enumerate(re.split("\x02(\\d+)\x03", sentence)):
            at_start = result.context == "" or result.context.endswith(". ")
            text = order[int(piece)].value if i % 2 else piece
            if text and at_start:
                text = text[0].upper() + text[1:]
            if i % 2:
                result.facts[order[int(piece)]] = len(result.context)
            result.context += text


def possible_questions(paragraph: Paragraph, others: Sequence[Entity]) -> dict[str, list[Fact]]:
    """Kind of question -> facts that can be asked for. A fact of "missing", "silent" or "other" is one that the context does not tell."""
    told: dict[str, set[str]] = {}
    for fact in paragraph.facts:
        told.setdefault(fact.relation, set()).add(fact.value)
    present = list(dict.fromkeys(fact.entity for fact in paragraph.facts))
    untold = [Fact(e, r) for e in present for r in e.facts if Fact(e, r) not in paragraph.facts]
    absent = [e for e in others if not mentions(paragraph.context, [e.name])]
    return {
        "answer": [fact for fact in paragraph.facts if len(told[fact.relation]) > 1],
        "missing": [fact for fact in untold if fact.relation in told],
        "silent": [fact for fact in untold if fact.relation not in told],
        "other": [Fact(e, r) for e in absent for r in e.facts if r in told],
    }


class Asker:
    """Paragraph -> its qas. The kinds of question are kept at their shares over the whole corpus, not paragraph by paragraph."""

    shares = {
        "answer": 1 - UNANSWERABLE_SHARE,
        "missing": UNANSWERABLE_SHARE * 0.6,
        "silent": UNANSWERABLE_SHARE * 0.15,
        "other": UNANSWERABLE_SHARE * 0.25,
    }

    def __init__(self, part: str, teller: Teller, rng: random.Random):
        self.part, self.teller, self.rng = part, teller, rng
        self.asked: Counter[str] = Counter()

    def qas(self, paragraph: Paragraph, others: Sequence[Entity], number: int, count: int, context: str, shift: int):
        possible = possible_questions(paragraph, others)
        result = []
        for _ in range(count):
            total = sum(self.asked.values()) + 1
            lacking = {kind: share * total - self.asked[kind] for kind, share in self.shares.items() if possible[kind]}
            if not lacking:
                break
            kind = max(lacking, key=lambda name: (lacking[name], name))
            fact = possible[kind].pop(self.rng.randrange(len(possible[kind])))
            self.asked[kind] += 1
            result.append(self.question(kind, fact, paragraph, f"{self.part}-{number}-{len(result)}", context, shift))
        self.rng.shuffle(result)
        return result

    def question(self, kind: str, fact: Fact, paragraph: Paragraph, number: str, context: str, shift: int) -> dict[str, Any]:
        template = self.rng.choice(self.teller.wording[fact.entity.kind]["relations"][fact.relation]["questions"])
        text = template.replace("{e}", self.teller.named(fact.entity))
        row: dict[str, Any] = {
            "id": f"{number}-{fact.entity.kind}-{fact.relation}-{kind}",
            "question": text[0].upper() + text[1:],
            "is_impossible": kind != "answer",
        }
        shown = [fact] if kind == "answer" else [other for other in paragraph.facts if other.relation == fact.relation]
        spans = [{"text": paragraph.text(f), "answer_start": paragraph.facts[f] + shift} for f in shown]
        for span in spans:
            found = context[span["answer_start"] : span["answer_start"] + len(span["text"])]
            assert found == span["text"], f"{row['id']}: the context reads {found!r}, the answer is {span['text']!r}"
        row["answers"] = spans if kind == "answer" else []
        if spans and kind != "answer":
            row["plausible_answers"] = spans[:1]
        return row


def make_part(part: str, entities: Sequence[Entity], wording: dict[str, dict[str, Any]], rng: random.Random) -> dict[str, Any]:
    teller = Teller(wording, rng)
    asker = Asker(part, teller, rng)
    by_kind = {kind: [entity for entity in entities if entity.kind == kind] for kind in wording}
    kinds, weights = list(by_kind), [len(members) ** 0.75 for members in by_kind.values()]
    articles: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds} | {"miscellany": []}

    def draw(without: Sequence[str] = ()) -> tuple[Paragraph, list[Entity]]:
        while True:
            kind = rng.choices(kinds, weights)[0]
            if kind in without:
                continue
            chosen = rng.sample(by_kind[kind], rng.choice([2, 3, 3, 4]))
            paragraph = teller.paragraph(kind, chosen)
            if possible_questions(paragraph, [])["answer"]:
                return paragraph, rng.sample(by_kind[kind], 4)

    for number in range(PARAGRAPHS[part]):
        paragraph, others = draw()
        qas = asker.qas(paragraph, others, number, QUESTIONS_PER_PARAGRAPH, paragraph.context, 0)
        articles[paragraph.kind].append({"qas": qas, "context": paragraph.context})
    for number in range(LONG_CONTEXTS[part]):
        # each kind once, else a later paragraph could tell what an earlier one is silent about
        drawn: list[tuple[Paragraph, list[Entity]]] = []
        while len(drawn) < LONG_PARAGRAPHS:
            drawn.append(draw([paragraph.kind for paragraph, _ in drawn]))
        context = "\n".join(paragraph.context for paragraph, _ in drawn)
        qas, shift = [], 0
        for place, (paragraph, _) in enumerate(drawn):
            if place in (1, LONG_PARAGRAPHS - 2):
                # nobody from outside of its own paragraph: the other paragraphs may tell of it
                qas += asker.qas(paragraph, [], f"long{number}-{place}", 2, context, shift)
            shift += len(paragraph.context) + 1
        articles["miscellany"].append({"qas": qas, "context": context})
    data = [{"title": kind, "paragraphs": paragraphs} for kind, paragraphs in articles.items() if paragraphs]
    return {"version": "v2.0", "data": data}


def make_corpus() -> dict[str, dict[str, Any]]:
    rng = random.Random(SEED)
    wording = read_wording()
    parts = split_entities(read_entities(wording), rng)
    return {part: make_part(part, entities, wording, rng) for part, entities in parts.items()}


def as_bytes(corpus: dict[str, Any]) -> bytes:
    return (json.dumps(corpus, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def main(output_dir: Path) -> None:
    corpus = make_corpus()
    # no file name and no time in the gzip header: the same corpus is the same file
    (output_dir / "train.json.gz").write_bytes(gzip.compress(as_bytes(corpus["train"]), 9, mtime=0))
    (output_dir / "dev.json").write_bytes(as_bytes(corpus["dev"]))
    for part, content in corpus.items():
        paragraphs = [paragraph for article in content["data"] for paragraph in article["paragraphs"]]
        kinds = Counter(row["id"].rsplit("-", 1)[1] for paragraph in paragraphs for row in paragraph["qas"])
        print(f"{part}: {len(paragraphs)} contexts, {sum(kinds.values())} questions: {dict(kinds)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=HERE)
    main(parser.parse_args().output_dir)
