"""Questions on documents so long that their contexts together pass 2**31 bytes, the limit of Arrow's 32-bit offsets."""

import json
import tracemalloc

import numpy as np
import pytest
from toy_questions import TINY, assert_equal, questions_of
from toy_tokenizers import FAMILIES

from qa_accel.data import squad_format, window_cache
from qa_accel.data.audit import audit_questions
from qa_accel.data.file_rows import Row
from qa_accel.data.pair_tokenizer import PairTokenizer, one_thread
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig
from qa_accel.data.window_cache import prepare_windows
from qa_accel.data.windows import GoldSpans


def test_many_questions_on_long_documents_are_read_audited_and_windowed(tmp_path):
    """2,200 questions on two reports of a million characters, a file of 2.3 MB. Breaks if contexts are copied for each
    question (2.3 GB of cache), or put in one Arrow array of 32-bit offsets (a traceback)."""
    lines = "".join(f"Item {number} cost {7 * number} crowns. " for number in range(36_000))
    articles = []
    for name in ("east", "west"):
        context = f"Report of the {name}. {lines}"
        questions = [
            {
                "id": f"{name} {number}",
                "question": f"What did item {number} cost?",
                "answers": [
                    {
                        "text": f"{7 * number} crowns",
                        "answer_start": context.index(f"Item {number} cost ") + len(f"Item {number} cost "),
                    }
                ],
            }
            for number in range(1100)
        ]
        articles.append({"title": name, "paragraphs": [{"context": context, "qas": questions}]})
    assert 2200 * len(lines) > 2**31
    (tmp_path / "reports.json").write_text(json.dumps({"data": articles}))

    config = DataConfig(train_file=(str(tmp_path / "reports.json"),), cache_dir=str(tmp_path / "cache"))
    questions, report = audit_questions(load_questions(config, "train"), training=True)
    assert (len(questions), report.contexts, report.misplaced_answers) == (2200, 2, ())
    (cached,) = (tmp_path / "cache").iterdir()
    assert cached.stat().st_size < 2.5 * len(lines), "each report is stored once, although its rows are more than 1,000"

    short = questions.select([0, 1, 2199])
    windows = prepare_windows(short, FAMILIES["wordpiece"](), TINY, cache_dir=tmp_path / "cache")
    labels = windows.start_W != windows.null_W
    assert sorted(set(windows.question_W[labels])) == [0, 1, 2]


def lines(documents):
    """Rows of JSON lines from pairs of a text and its number of questions: each row has a string of its own."""
    number = 0
    for text, each in documents:
        for _ in range(each):
            values = {"id": str(number), "question": "Who?", "context": text[:1] + text[1:], "answers": []}
            number += 1
            yield Row("lines.jsonl", number, "", values)


@pytest.mark.parametrize(("documents", "each"), [(200, 1), (2, 300)])
def test_reading_long_documents_takes_memory_for_a_few_of_them(documents, each):
    """200 or 600 rows whose contexts have 200,000 characters, 40 or 120 MB. Breaks if a batch holds as many rows as it does
    of short contexts, or a string of each row."""
    tracemalloc.start()
    rows = lines((f"{number} " + "x" * 200_000, each) for number in range(documents))
    batches = [(len(batch), batch.nbytes) for batch in squad_format.question_batches(rows, squad_format.Columns())]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(count for count, _ in batches) == documents * each
    assert peak < 15_000_000
    if each > 1:
        assert len(batches) == 1


def test_a_batch_ends_between_two_documents_if_it_can(monkeypatch):
    """Three rows a batch at least, twenty times as many at most. Breaks if a document's rows are divided, so that it is
    stored twice, or if a document of very many rows takes a batch without a limit."""
    monkeypatch.setattr(squad_format, "ROWS", 3)
    monkeypatch.setattr(squad_format, "MOST_ROWS", 60)
    rows = lines([("aa", 2), ("bb", 4), ("cc", 3), ("dd", 70)])
    batches = list(squad_format.question_batches(rows, squad_format.Columns()))
    assert [len(batch) for batch in batches] == [6, 3, 60, 10]
    assert [key for batch in batches for key in batch["id"].to_pylist()] == list(map(str, range(79)))


def test_long_documents_among_short_texts_are_tokenized_in_batches_of_fewer_rows(tmp_path, monkeypatch):
    """Questions on texts of 30 to 60,000 characters, in no order. The windows are those of each pair alone. Breaks if the
    rows of a long document are batched by the average of all, or if windows lose their questions on the way back."""
    context = {
        size: " ".join(f"In {1000 + n % 900} Ana Müller sold novel {n}." for n in range(size))
        for size in (1, 40, 300, 2000)
    }
    sizes = [1] * 40 + [2000, 300, 40] * 5
    np.random.default_rng(0).shuffle(sizes)
    golds = [context[size].index(f"novel {size - 1}.") for size in sizes]
    questions = questions_of(
        {
            "id": [str(n) for n in range(len(sizes))],
            "question": [f"Who sold novel {n}?" for n in range(len(sizes))],
            "context": [context[size] for size in sizes],
            "answers": [{"text": [f"novel {size - 1}."], "answer_start": [start]} for size, start in zip(sizes, golds)],
        }
    )
    batches = []
    tokenize = window_cache._TokenizeBatch.__call__

    def noted(self, table, places):
        batches.append([len(text) for text in table["context"].to_pylist()])
        return tokenize(self, table, places)

    monkeypatch.setattr(window_cache._TokenizeBatch, "__call__", noted)
    monkeypatch.setattr(window_cache, "BATCH_CHARACTERS", 100_000)
    tokenizer = FAMILIES["wordpiece"]()
    windows = prepare_windows(questions, tokenizer, TINY, cache_dir=tmp_path)
    assert max(map(sum, batches)) < 150_000 and len(batches[0]) == 45
    with one_thread():
        pairs = PairTokenizer(tokenizer, TINY)
        gold = GoldSpans.one_each(golds, [start + len(f"novel {size - 1}.") for size, start in zip(sizes, golds)])
        assert_equal(windows, pairs.tokenize_pairs(questions["question"][:], questions["context"][:], gold))
