"""`Reader` against a slow restatement of what the removed pipeline computed: on random logits, and on questions of SQuAD.

Spans of one window have one softmax, so ranking by the score and by the sum of logits is the same. Spans of two windows do
not: the pipeline compared their scores all the same, ours compares sums of logits.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import reference_pipeline as reference
import toy as toy_task
import zoo
from given_logits import given, of_window, random_logits
from reference_pipeline import Span, Window

from qa_accel import Reader

SETTINGS: list[dict[str, Any]] = [
    {"top_k": 1},
    {"top_k": 1, "align_to_words": False},
    {"top_k": 7, "max_answer_len": 4},
    {"top_k": 40, "align_to_words": False, "max_answer_len": 3},
    {"top_k": 40, "handle_impossible_answer": True},
    {"top_k": 1, "handle_impossible_answer": True, "max_answer_len": 1},
]


def comparable(span: Span) -> float:
    """What ranks spans of different windows in `Reader`: start logit + end logit."""
    return span.logit


@pytest.fixture(scope="module", params=["bert", "roberta", "xlnet", "gpt2"])
def reader(request, tmp_path_factory) -> Reader:
    """Special tokens of four kinds: CLS first and last, padding on the left, none at all; words with and without their blank."""
    return Reader(zoo.make(request.param, tmp_path_factory.mktemp(request.param)))


def windows_of(reader: Reader, question: str, context: str, **sizes: int) -> list[Window]:
    sizes = {"max_seq_len": 128, "doc_stride": 64, **sizes}
    return reference.windows_of(reader.qa.tokenizer, question, context, **sizes)


def expected(
    windows: list[Window], logits: list[reference.Logits], context: str, settings: dict[str, Any]
) -> list[Span]:
    """The best k, each place once, "no answer" among them if asked for; best by what compares windows."""
    spans = reference.all_spans(
        windows,
        logits,
        context,
        max_answer_len=settings.get("max_answer_len", 15),
        align_to_words=settings.get("align_to_words", True),
    )
    found = reference.ranked(spans, by=comparable)
    if settings.get("handle_impossible_answer"):
        null = reference.null_of(windows, logits)
        found.insert(sum(comparable(span) >= comparable(null) for span in found), null)
    return found[: settings["top_k"]]


def assert_same(found: Any, spans: list[Span], top_k: int) -> None:
    answers = [found] if top_k == 1 else found
    places = [(answer["start"], answer["end"], answer["answer"]) for answer in answers]
    assert places == [(span.start, span.end, span.text) for span in spans]
    scores = [answer["score"] for answer in answers]
    assert scores == pytest.approx([span.score for span in spans], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_random_logits_of_one_window_give_the_defined_answers_and_scores(reader, settings):
    """Breaks if the softmax has one place too many or too few (question, separators, padding, the null position), if the
    scores of one word's tokens are added, or if widening to words uses up the k places."""
    context = toy_task.context_about("Dora")
    for seed in range(4):
        table = random_logits(seed)
        windows = windows_of(reader, "Where was Dora born?", context)
        assert len(windows) == 1
        logits = [of_window(table, window.ids) for window in windows]
        spans = expected(windows, logits, context, settings)
        assert len(spans) == settings["top_k"] or settings.get("max_answer_len") == 3
        with given(reader.qa.model, table):
            assert_same(reader("Where was Dora born?", context, **settings), spans, settings["top_k"])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_random_logits_of_several_windows_give_the_defined_scores(reader, settings):
    """Each span's score is that of its own window. Breaks if the normaliser of another window is taken, if a span that two
    windows hold comes twice, or if "no answer" is not the lowest of the windows."""
    context, sizes = toy_task.context_about(toy_task.LONGEST), {"max_seq_len": 48, "doc_stride": 12}
    question = "Where was Tess born?"
    for seed in range(4):
        table = random_logits(seed)
        windows = windows_of(reader, question, context, **sizes)
        assert len(windows) > 2
        logits = [of_window(table, window.ids) for window in windows]
        spans = expected(windows, logits, context, settings)
        with given(reader.qa.model, table):
            assert_same(reader(question, context, **settings, **sizes), spans, settings["top_k"])


def test_many_questions_in_one_batch_have_the_scores_of_each(reader):
    """Breaks if a row's softmax reaches into its padding, or a question gets another one's normaliser."""
    rows = [(f"Where was {name} born?", toy_task.context_about(name)) for name in toy_task.NAMES]
    table = random_logits(9)
    with given(reader.qa.model, table):
        found = reader(rows, top_k=3, max_seq_len=64, doc_stride=16)
    for (question, context), answers in zip(rows, found, strict=True):
        windows = windows_of(reader, question, context, max_seq_len=64, doc_stride=16)
        logits = [of_window(table, window.ids) for window in windows]
        assert_same(answers, expected(windows, logits, context, {"top_k": 3}), 3)


# ------------------------------------------------------------------------------------------------------ real questions


@pytest.fixture(scope="module")
def trained(shared: Path) -> Reader:
    folder = shared / "models" / "minilm-squad2"
    if not folder.is_dir():
        pytest.skip("the fine-tuned MiniLM is not next to this checkout (../shared/models/minilm-squad2)")
    return Reader(folder)


def questions(shared: Path) -> list[tuple[str, str]]:
    """Of SQuAD v2's validation file, those with the shortest contexts first."""
    content = json.loads((shared / "data" / "squad_v2" / "dev.json").read_text(encoding="utf-8"))
    rows = [
        (question["question"], paragraph["context"])
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    return sorted(rows, key=lambda row: len(row[1]))


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_questions_on_one_window_have_the_pipelines_answers(trained, shared, every):
    """80 questions, or all 400 of them. Place and text, and the score to 1e-5. Breaks if anything of the way differs: tokens, null position, softmax, words.

    Logits of a batch and of a window alone differ in the last bits: where two spans are as close as that, either is right.
    """
    rows = questions(shared)[:400:every]
    found = trained(rows, handle_impossible_answer=True)
    answered = 0
    for (question, context), answer in zip(rows, found, strict=True):
        windows = windows_of(trained, question, context, max_seq_len=384, doc_stride=128)
        assert len(windows) == 1
        logits = [reference.logits_of(trained.qa.model, window) for window in windows]
        settings = {"top_k": 2, "handle_impossible_answer": True}
        best, second = expected(windows, logits, context, settings)
        if best.score - second.score < 1e-5 and answer["start"] != best.start:
            best = second
        assert (answer["start"], answer["end"], answer["answer"]) == (best.start, best.end, best.text), question
        assert answer["score"] == pytest.approx(best.score, abs=1e-5)
        answered += answer["answer"] != ""
    assert 100 < answered * every < 350, "both kinds of questions are among them"


def test_where_windows_disagree_ours_is_best_by_what_compares_them(trained, shared):
    """Small windows, so that most contexts have several. Every difference from the pipeline has one of its faults as its
    reason: it compared scores of different softmaxes, or added the scores of equal texts. Breaks if ours differs for another."""
    rows = questions(shared)[1500:5500:110]
    sizes = {"max_seq_len": 96, "doc_stride": 32}
    found = trained(rows, **sizes)
    reasons = {"same": 0, "softmax per window": 0, "equal texts": 0}
    for (question, context), answer in zip(rows, found, strict=True):
        windows = windows_of(trained, question, context, **sizes)
        logits = [reference.logits_of(trained.qa.model, window) for window in windows]
        per_window = [
            reference.spans_of(number, window, own, context, max_answer_len=15, align_to_words=True)
            for number, (window, own) in enumerate(zip(windows, logits))
        ]
        spans = [span for own in per_window for span in own]
        mine = max((s for s in spans if (s.start, s.end) == (answer["start"], answer["end"])), key=comparable)
        assert comparable(mine) > max(map(comparable, spans)) - 1e-4
        [theirs] = reference.merged_by_text(per_window, 1, fetched=12)
        by_score = reference.ranked(spans)[0]
        if mine.text.lower() == theirs.text.lower():
            reasons["same"] += 1
        elif theirs.text.lower() == by_score.text.lower():
            assert by_score.score > mine.score - 1e-6 and by_score.window != mine.window and len(windows) > 1
            reasons["softmax per window"] += 1
        else:
            parts = [s for own in per_window for s in own[:12] if s.text.lower() == theirs.text.lower()]
            assert len(parts) > 1 and sum(part.score for part in parts) == pytest.approx(theirs.score)
            assert all(part.score <= by_score.score for part in parts), "none of them alone is the best"
            reasons["equal texts"] += 1
    assert reasons["same"] > 15 and reasons["softmax per window"] > 0, reasons
