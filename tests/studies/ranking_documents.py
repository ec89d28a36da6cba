"""A file of SQuAD's nested form -> its questions, and documents in which to look for each one's answer.

Kinds of documents: `own`, the question's paragraph alone, for all questions; for a sample of them also `long4` and
`long10`, it and its neighbours in the article joined into one text; and `same` and `other`, paragraphs of the same and
of other articles that are not its own. What is drawn is drawn from one seed: the same file gives the same documents, and a
larger sample holds a smaller one.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

KINDS = ("own", "long4", "long10", "same", "other")
DISTRACTORS = 20
"""Of each kind, or as many as there are."""


@dataclass(frozen=True)
class Questions:
    """The questions of a file, in its order, and the paragraph that each is asked of."""

    question_Q: list[str]
    golds_Q: list[list[str]]
    """Texts of the gold answers; none where the paragraph does not answer the question."""
    article_Q: list[int]
    paragraph_Q: list[int]
    articles: list[list[str]]
    """Of each article its distinct paragraphs, in order."""


@dataclass(frozen=True)
class Documents:
    """D documents, each with the question that is asked of it. Those of a question follow each other in the order of KINDS."""

    question_D: np.ndarray
    """Row of the question."""
    kind_D: np.ndarray
    """Place in KINDS."""
    number_D: np.ndarray
    """0, 1, ... among the documents of the question and kind: the first 5 distractors are a smaller collection."""
    text_D: list[str]

    def collection(self, **most: int) -> np.ndarray:
        """bool (D,): `collection(own=1, same=5)` are the documents of these kinds whose number is less than the one given."""
        limit_K = np.array([most.get(kind, 0) for kind in KINDS])
        return self.number_D < limit_K[self.kind_D]


def read_questions(path: Path) -> Questions:
    found = Questions([], [], [], [], [])
    for article, content in enumerate(json.loads(path.read_text(encoding="utf-8"))["data"]):
        paragraphs = list(dict.fromkeys(paragraph["context"] for paragraph in content["paragraphs"]))
        found.articles.append(paragraphs)
        for paragraph in content["paragraphs"]:
            for row in paragraph["qas"]:
                found.question_Q.append(row["question"])
                found.golds_Q.append([answer["text"] for answer in row["answers"]])
                found.article_Q.append(article)
                found.paragraph_Q.append(paragraphs.index(paragraph["context"]))
    return found


def make_documents(questions: Questions, samples: int, seed: int = 0) -> Documents:
    """`samples`: questions, drawn from all, that get more than their own paragraph."""
    count = len(questions.question_Q)
    sampled = set(sample_of(count, samples, seed))
    rows: list[tuple[int, int, int, str]] = []
    for question in range(count):
        paragraphs = questions.articles[questions.article_Q[question]]
        own = questions.paragraph_Q[question]
        generator = random.Random(f"{seed} {question}")
        texts: dict[str, list[str]] = {"own": [paragraphs[own]]}
        if question in sampled:
            texts |= {f"long{length}": [_joined(paragraphs, own, length, generator)] for length in (4, 10)}
            texts["same"] = _drawn(paragraphs[:own] + paragraphs[own + 1 :], generator)
            others = [text for article in questions.articles if article is not paragraphs for text in article]
            texts["other"] = _drawn(others, generator)
        for kind, listed in texts.items():
            rows += [(question, KINDS.index(kind), number, text) for number, text in enumerate(listed)]
    question_D, kind_D, number_D, text_D = zip(*rows)
    return Documents(np.array(question_D), np.array(kind_D), np.array(number_D), list(text_D))


def sample_of(count: int, samples: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order[:samples]


def _joined(paragraphs: list[str], own: int, length: int, generator: random.Random) -> str:
    """`length` paragraphs in the article's order, with `own` at any place among them that the article has room for."""
    length = min(length, len(paragraphs))
    first = generator.randint(max(0, own - length + 1), min(own, len(paragraphs) - length))
    return "\n".join(paragraphs[first : first + length])


def _drawn(texts: list[str], generator: random.Random) -> list[str]:
    return generator.sample(texts, min(DISTRACTORS, len(texts)))
