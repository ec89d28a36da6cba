"""python quickstart/make_corpus.py: facts/*.csv and wording.yaml -> train.json.gz and dev.json, SQuAD v2.0 form.

The same seed gives the same files. The idea: a paragraph describes several entities of one kind, and nearly every relation
asked about is stated of at least two of them or of the wrong one, so that neither the relation nor the entity alone finds the
answer. A question's id ends with the kind of question:

    answer    the fact is stated; another entity of the paragraph has another value for the same relation
    missing   the entity has other facts in the paragraph; the relation is stated of another entity only
    silent    the entity has other facts in the paragraph; the relation is stated of no entity
    other     the relation is stated of other entities; the paragraph has no fact about the question's entity
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
from pathlib import Path
from typing import Any

import yaml
from templates import Entity, Fact, Paragraph, Verbalizer

HERE = Path(__file__).resolve().parent
SEED = 20240817
DEV_SHARE = 0.22  # of the entities of each kind
PARAGRAPHS = {"train": 2000, "dev": 200}
LONG_CONTEXTS = {"train": 10, "dev": 8}
LONG_PARAGRAPHS = 6  # paragraphs in a long context: some 600 word pieces
QUESTIONS_PER_PARAGRAPH = 4
UNANSWERABLE_SHARE = 1 / 3
KINDS_OF_QUESTION = {
    "answer": 1 - UNANSWERABLE_SHARE,
    "missing": UNANSWERABLE_SHARE * 0.6,
    "silent": UNANSWERABLE_SHARE * 0.15,
    "other": UNANSWERABLE_SHARE * 0.25,
}


def read_wording() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((HERE / "wording.yaml").read_text(encoding="utf-8"))


def read_entities(wording: dict[str, dict[str, Any]]) -> list[Entity]:
    """All tables. A value that shares a word with its entity's name ("Panama City") is left out: the name would give it away."""
    entities = []
    for kind, words in wording.items():
        with open(HERE / "facts" / f"{kind}.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                name_words = long_words(row["name"])
                known = {relation: row[relation] for relation in words["relations"] if row[relation]}
                facts = {relation: value for relation, value in known.items() if not name_words & long_words(value)}
                pronoun = row["pronoun"] if words["pronoun"] == "column" else words["pronoun"]
                entities.append(Entity(kind, row["name"], pronoun, facts))
    return entities


def long_words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"\w{4,}", text)}


def mentions(text: str, names: Sequence[str]) -> bool:
    return any(name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names)


def split_entities(entities: Sequence[Entity], rng: random.Random) -> dict[str, list[Entity]]:
    """Train and dev share no entity, and no train fact has a dev entity as its value: no dev name occurs in train."""
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


def possible_questions(paragraph: Paragraph, others: Sequence[Entity]) -> dict[str, list[Fact]]:
    """Kind of question -> facts that can be asked about. The context does not state those of "missing", "silent" and "other"."""
    stated: dict[str, set[str]] = {}
    for fact in paragraph.facts:
        stated.setdefault(fact.relation, set()).add(fact.value)
    present = list(dict.fromkeys(fact.entity for fact in paragraph.facts))
    unstated = [Fact(e, r) for e in present for r in e.facts if Fact(e, r) not in paragraph.facts]
    absent = [e for e in others if not mentions(paragraph.context, [e.name])]
    return {
        "answer": [fact for fact in paragraph.facts if len(stated[fact.relation]) > 1],
        "missing": [fact for fact in unstated if fact.relation in stated],
        "silent": [fact for fact in unstated if fact.relation not in stated],
        "other": [Fact(e, r) for e in absent for r in e.facts if r in stated],
    }


class Asker:
    """Paragraph -> its qas. The kinds of question keep their shares over the whole corpus, not in each paragraph."""

    def __init__(self, part: str, verbalizer: Verbalizer, rng: random.Random):
        self.part, self.verbalizer, self.rng = part, verbalizer, rng
        self.asked: Counter[str] = Counter()

    def qas(self, paragraph: Paragraph, others: Sequence[Entity], number: str, count: int, context: str, shift: int):
        possible = possible_questions(paragraph, others)
        result = []
        for _ in range(count):
            total = sum(self.asked.values()) + 1
            lacking = {
                kind: share * total - self.asked[kind] for kind, share in KINDS_OF_QUESTION.items() if possible[kind]
            }
            if not lacking:
                break
            kind = max(lacking, key=lambda name: (lacking[name], name))
            fact = possible[kind].pop(self.rng.randrange(len(possible[kind])))
            self.asked[kind] += 1
            result.append(self.question(kind, fact, paragraph, f"{self.part}-{number}-{len(result)}", context, shift))
        self.rng.shuffle(result)
        return result

    def question(
        self, kind: str, fact: Fact, paragraph: Paragraph, number: str, context: str, shift: int
    ) -> dict[str, Any]:
        template = self.rng.choice(self.verbalizer.wording[fact.entity.kind]["relations"][fact.relation]["questions"])
        text = template.replace("{e}", self.verbalizer.named(fact.entity))
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


def make_part(
    part: str, entities: Sequence[Entity], wording: dict[str, dict[str, Any]], rng: random.Random
) -> dict[str, Any]:
    verbalizer = Verbalizer(wording, rng)
    asker = Asker(part, verbalizer, rng)
    by_kind = {kind: [entity for entity in entities if entity.kind == kind] for kind in wording}
    kinds, weights = list(by_kind), [len(members) ** 0.75 for members in by_kind.values()]
    articles: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds} | {"miscellany": []}

    def draw(without: Sequence[str] = ()) -> tuple[Paragraph, list[Entity]]:
        while True:
            kind = rng.choices(kinds, weights)[0]
            if kind in without:
                continue
            chosen = rng.sample(by_kind[kind], rng.choice([2, 3, 3, 4]))
            paragraph = verbalizer.paragraph(kind, chosen)
            if possible_questions(paragraph, [])["answer"]:
                return paragraph, rng.sample(by_kind[kind], 4)

    for number in range(PARAGRAPHS[part]):
        paragraph, others = draw()
        qas = asker.qas(paragraph, others, str(number), QUESTIONS_PER_PARAGRAPH, paragraph.context, 0)
        articles[paragraph.kind].append({"qas": qas, "context": paragraph.context})
    for number in range(LONG_CONTEXTS[part]):
        # each kind once, otherwise a later paragraph could state what an earlier one does not
        drawn: list[tuple[Paragraph, list[Entity]]] = []
        while len(drawn) < LONG_PARAGRAPHS:
            drawn.append(draw([paragraph.kind for paragraph, _ in drawn]))
        context = "\n".join(paragraph.context for paragraph, _ in drawn)
        qas, shift = [], 0
        for place, (paragraph, _) in enumerate(drawn):
            if place in (1, LONG_PARAGRAPHS - 2):
                # no entity from outside the paragraph: the other paragraphs may describe it
                qas += asker.qas(paragraph, [], f"long{number}-{place}", 2, context, shift)
            shift += len(paragraph.context) + 1
        articles["miscellany"].append({"qas": qas, "context": context})
    data = [{"title": kind, "paragraphs": paragraphs} for kind, paragraphs in articles.items() if paragraphs]
    return {"version": "v2.0", "data": data}


def make_corpus() -> dict[str, dict[str, Any]]:
    wording = read_wording()
    parts = split_entities(read_entities(wording), random.Random(SEED))
    # separate generators: more train paragraphs do not change dev
    return {
        part: make_part(part, entities, wording, random.Random(f"{part} {SEED}")) for part, entities in parts.items()
    }


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
