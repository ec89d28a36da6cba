"""Made-up entities -> examples of one task: point at the value that a blanked statement lacks.

Names are chains of letters drawn from the spelling of the train names; values are drawn from the train values or made up the same
way. No complete real name is used, neither of train nor of dev (a made-up word can be a real one by chance).
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from make_corpus import possible_questions
from templates import Entity, Fact, Paragraph, Verbalizer

HINTS = ("name", "entity", "relation")
LITTLE_WORDS = {"the", "of", "and", "in", "a", "with", "for", "on", "to"}


class Spelling:
    """Made-up words: each letter is drawn given the three before it, with the frequencies of the given words."""

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
    """Made-up entities, of the kinds and with the relations of the corpus."""

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
        texts = [name for names in self.names.values() for name in names] + [
            v for vs in self.values.values() for v in vs
        ]
        words = {word for text in texts for word in re.findall(r"[^\W\d_]{3,}", text)} - LITTLE_WORDS
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


@dataclass(frozen=True)
class Example:
    statement: str
    """With [MASK] in place of the value."""
    context: str
    answer: tuple[int, int] | None
    """First and last + 1 character of the value in the context; None if the paragraph does not state it."""
    marks: tuple[list[tuple[int, int]], ...]
    """A list of character spans per hint: the entity's name, all stated values of the entity, all stated values of the relation."""


def pointing_examples(
    world: MadeUpWorld, verbalizer: Verbalizer, sizes: Sequence[int], same_words: float
) -> Iterator[Example]:
    """Endless examples of paragraphs with so many entities; a share of the statements keeps the paragraph's own words."""
    rng = world.rng
    while True:
        kind, entities = world.entities(rng.choice(sizes) + 1)
        paragraph = verbalizer.paragraph(kind, entities[:-1])
        possible = possible_questions(paragraph, entities[-1:])
        unanswerable = possible["missing"] + possible["silent"][:1] + possible["other"]
        for _ in range(2):
            if rng.random() < 2 / 3 or not unanswerable:
                fact = rng.choice(list(paragraph.facts))
                template = paragraph.wordings[fact]
                yield example_of(paragraph, fact, blanked(fact, template, verbalizer, rng.random() < same_words))
            else:
                fact = rng.choice(unanswerable)
                yield example_of(paragraph, fact, blanked(fact, "", verbalizer))


def example_of(paragraph: Paragraph, target: Fact, statement: str) -> Example:
    spans = {fact: (begin, begin + len(fact.value)) for fact, begin in paragraph.facts.items()}
    names = re.finditer(rf"(?<!\w){re.escape(target.entity.name)}(?!\w)", paragraph.context, re.IGNORECASE)
    of_entity = [span for fact, span in spans.items() if fact.entity is target.entity]
    of_relation = [span for fact, span in spans.items() if fact.relation == target.relation]
    return Example(
        statement, paragraph.context, spans.get(target), ([match.span() for match in names], of_entity, of_relation)
    )


def blanked(fact: Fact, template: str, verbalizer: Verbalizer, same_words: bool = False) -> str:
    """The fact with [MASK] for its value, in the wording of the paragraph (`template`) or in another."""
    relation = verbalizer.wording[fact.entity.kind]["relations"][fact.relation]
    forms = relation["statements"] + ["{e} " + predicate for predicate in relation["predicates"]]
    used = [form for form in forms if form in (template, "{e} " + template)]
    form = verbalizer.rng.choice(used if used and same_words else [form for form in forms if form not in used])
    text = form.replace("{e}", verbalizer.named(fact.entity)).replace("{v}", "[MASK]")
    return text.rstrip(".")
