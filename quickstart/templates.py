"""Facts of several entities of one kind -> a paragraph that states some of them, and the position of each value in it.

Order of entities, order of facts, wording, pronouns and sentences without a fact are drawn, all from one generator.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Entity:
    kind: str
    name: str
    """As in the table, without an article."""
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
    """Every stated fact -> character at which its value begins."""
    wordings: dict[Fact, str] = field(default_factory=dict)
    """Every stated fact -> its template."""

    def text(self, fact: Fact) -> str:
        """The value as written in the context: a sentence may begin with it, in upper case."""
        return self.context[self.facts[fact] : self.facts[fact] + len(fact.value)]


class Verbalizer:
    """Facts -> sentences, by the templates of wording.yaml."""

    def __init__(self, wording: dict[str, dict[str, Any]], rng: random.Random, relations: Sequence[int] = (2, 3, 3)):
        self.wording = wording
        self.rng = rng
        self.relations = relations
        """The number of relations in a paragraph is drawn from these."""

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
            # never before a pronoun, which would then refer to nothing
            gaps = [i for i in range(len(sentences) + 1) if i == len(sentences) or not sentences[i].startswith("\x01")]
            sentences.insert(self.rng.choice(gaps), filler)
        for sentence in sentences:
            self.append(result, sentence.lstrip("\x01"), order)
        return result

    def choose_facts(self, kind: str, entities: Sequence[Entity]) -> list[Fact]:
        """Each relation is stated of at least two entities if there are two, the last one often not of all."""
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
        """Sentences for one group. \\x02 n \\x03 is the place of the value of fact n; \\x01 marks a sentence with a pronoun."""

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
                    lead = self.rng.choice(
                        ["Often named together with", "Listed beside", "Treated in one chapter with"]
                    )
                    sentences.append(
                        f"{lead} {self.named(self.rng.choice(rivals))}, {subject} {say(first, 'predicates')}."
                    )
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
        """Append a sentence to the context and note the position of each value."""
        result.context += " " if result.context else ""
        for i, piece in enumerate(re.split("\x02(\\d+)\x03", sentence)):
            at_start = result.context == "" or result.context.endswith(". ")
            text = order[int(piece)].value if i % 2 else piece
            if text and at_start:
                text = text[0].upper() + text[1:]
            if i % 2:
                result.facts[order[int(piece)]] = len(result.context)
            result.context += text
