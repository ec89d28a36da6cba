"""Questions on a few contexts, a third without an answer, and windows so short that most contexts have several."""

import datasets
import numpy as np

from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import Windows

TINY = WindowConfig(max_seq_length=32, doc_stride=6, max_query_length=10)


def rows(questions: int = 60, contexts: int = 12) -> dict[str, list]:
    """Questions on a few contexts, every third without an answer; contexts of one to some ten windows."""
    context = [" ".join(f"In {1800 + c} Ana Müller sold novel {n}." for n in range(1 + 3 * c)) for c in range(contexts)]
    of = [q * contexts // questions for q in range(questions)]
    gold = [f"novel {of[q]}" if q % 3 and f"novel {of[q]}" in context[of[q]] else None for q in range(questions)]
    return {
        "id": [f"id{q}" for q in range(questions)],
        "question": [f"Who sold novel {q} in {1800 + of[q]}?" for q in range(questions)],
        "context": [context[c] for c in of],
        "answers": [
            {"text": [text], "answer_start": [context[of[q]].index(text)]} if text else {"text": [], "answer_start": []}
            for q, text in enumerate(gold)
        ],
    }


def questions_of(columns: dict[str, list]) -> datasets.Dataset:
    answers = {"text": datasets.List(datasets.Value("string")), "answer_start": datasets.List(datasets.Value("int32"))}
    strings = {name: datasets.Value("string") for name in ("id", "question", "context")}
    features = {name: kind for name, kind in {**strings, "answers": answers}.items() if name in columns}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def assert_equal(one: Windows, other: Windows):
    for name, array in vars(one).items():
        if array is None:
            assert getattr(other, name) is None
        else:
            assert array.dtype == getattr(other, name).dtype, name
            np.testing.assert_array_equal(array, getattr(other, name), err_msg=name)
