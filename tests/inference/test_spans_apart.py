"""Several answers of a question against a decoder that tries every span: the search on the device, that on arrays, the lists."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import Window, candidates_of, normalisers, token_spans, windows_of

from qa_accel.data.windows import Windows
from qa_accel.inference import spans_apart, topk_spans, window_rows
from qa_accel.inference.postprocess import Candidates, SeveralCandidates, best_answers
from qa_accel.inference.settings import SpanConfig
from qa_accel.inference.several_answers import several_answers

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def apart(window: Window, max_answer_length: int, n_best: int) -> list[tuple[float, int, int]]:
    """(score, first, last), best first: of all spans in their order those that share no token with one before."""
    chosen: list[tuple[float, int, int]] = []
    for score, first, last in token_spans(window, max_answer_length):
        if all(last < other_first or first > other_last for _, other_first, other_last in chosen):
            chosen.append((score, first, last))
    return chosen[:n_best]


@st.composite
def batches(draw) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(B, L) start and end logits and the context's tokens. In steps of a half many scores are equal, 0.0 and -0.0 among them."""
    B, L = draw(st.integers(1, 3)), draw(st.integers(1, 24))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = generator.normal(size=(2, B, L)).astype(np.float32) * 2
    if draw(st.booleans()):
        logits = np.round(logits * 2).astype(np.float32) / np.float32(2)
    context_BL = torch.from_numpy(generator.random((B, L)) < draw(st.sampled_from([0.0, 0.2, 0.9, 1.0])))
    return torch.from_numpy(logits[0]), torch.from_numpy(logits[1]), context_BL


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=200)
@given(batches(), st.integers(1, 30), st.integers(1, 3) | st.integers(1, 40))
def test_both_searches_find_what_trying_every_span_finds(device, batch, max_answer_length, n_best):
    """Breaks if a span reaches over a chosen one, one beside it is lost, equal scores come in another order, or the arrays' search
    differs from the device's."""
    spans = spans_apart.best_spans_apart(*(tensor.to(device) for tensor in batch), max_answer_length, n_best)
    assert [tuple(tensor.shape) for tensor in spans] == [(len(batch[0]), n_best)] * 4
    assert [tensor.dtype for tensor in spans] == [torch.int32, torch.int32, torch.float32, torch.float32]
    first_BK, last_BK, start_logit_BK, end_logit_BK = (tensor.cpu().numpy() for tensor in spans)
    for b, (start_L, end_L, context_L) in enumerate(zip(*(tensor.numpy() for tensor in batch))):
        window = Window([(0, 1) if inside else None for inside in context_L], start_L.tolist(), end_L.tolist())
        expected = apart(window, max_answer_length, n_best)
        count = len(expected)
        assert list(zip(first_BK[b].tolist(), last_BK[b].tolist()))[:count] == [span[1:] for span in expected]
        assert (start_logit_BK[b] + end_logit_BK[b]).tolist()[:count] == [span[0] for span in expected]
        assert (first_BK[b, count:] == -1).all() and (last_BK[b, count:] == -1).all()
        assert (start_logit_BK[b, count:] == -np.inf).all() and (end_logit_BK[b, count:] == -np.inf).all()
        of_arrays = window_rows.best_spans_apart(start_L, end_L, context_L, max_answer_length, n_best)
        assert list(zip(*(side.tolist() for side in of_arrays))) == [span[1:] for span in expected]


@pytest.mark.parametrize("nan", [float("nan"), -float("nan")])
def test_a_score_that_is_not_a_number_comes_first(nan):
    """Breaks if a damaged model's nan sank to the end of the list, unseen, or if the padding's counted."""
    start_BL, end_BL = torch.zeros(1, 6), torch.zeros(1, 6)
    context_BL = torch.tensor([[False, True, True, True, False, False]])
    start_BL[0, 5] = end_BL[0, 4] = nan
    of_padding = spans_apart.best_spans_apart(start_BL, end_BL, context_BL, 3, 6)
    assert not any(tensor.float().isnan().any() for tensor in of_padding)
    end_BL[0, 2] = nan
    first_BK, last_BK, _, end_logit_BK = spans_apart.best_spans_apart(start_BL, end_BL, context_BL, 3, 6)
    assert (first_BK[0, 0], last_BK[0, 0]) == (1, 2) and end_logit_BK[0, 0].isnan()
    found = window_rows.best_spans_apart(start_BL[0].numpy(), end_BL[0].numpy(), context_BL[0].numpy(), 3, 6)
    assert [side.tolist() for side in found] == [first_BK[0, :2].tolist(), last_BK[0, :2].tolist()]


def test_ten_places_of_one_window_are_found_where_the_best_spans_see_three():
    """A list question: ten items, eight words apart, each the best with its neighbours close behind. Breaks if several answers are
    taken from the n best spans, which crowd around the best places; that they do is asserted too."""
    length, items = 100, range(5, 85, 8)
    start_BL, end_BL = torch.full((1, length), -9.0), torch.full((1, length), -9.0)
    for rank, item in enumerate(items):
        for distance in (-1, 0, 1):
            start_BL[0, item + distance] = 5 - 0.3 * rank - 0.1 * abs(distance)
            end_BL[0, item + 1 + distance] = 5 - 0.3 * rank - 0.1 * abs(distance)
    context_BL = torch.ones(1, length, dtype=torch.bool)
    first_BK, last_BK, *_ = spans_apart.best_spans_apart(start_BL, end_BL, context_BL, 7, 20)
    assert list(zip(first_BK[0, :10].tolist(), last_BK[0, :10].tolist())) == [(item, item + 1) for item in items]
    crowded_BK = topk_spans.best_spans(start_BL, end_BL, context_BL, 7, 20)[0]
    assert len({(int(first) + 2) // 8 for first in crowded_BK[0]}) == 3


def test_the_order_of_work_does_not_grow_with_the_spans_that_are_dropped():
    """Breaks if spans are dropped one by one: all 150,000 of this window are in the way of the first, which is the whole."""
    length = 600
    start_L, end_L = np.zeros(length, np.float32), np.zeros(length, np.float32)
    start_L[0] = end_L[-1] = 5
    found = window_rows.best_spans_apart(start_L, end_L, np.ones(length, bool), length, 20)
    assert [side.tolist() for side in found] == [[0], [length - 1]]


# -- lists of questions ------------------------------------------------------------------------------------------------

WORDS = "Ana Ben Cleo Dora Emil Fay Gus Hana Ivo Jana".split()
CONTEXT = " ".join(WORDS)
OFFSETS = [(CONTEXT.index(word), CONTEXT.index(word) + len(word)) for word in WORDS]


def window_over(first: int, last: int, generator: np.random.Generator, step: float | None) -> Window:
    """A null position and the words of CONTEXT from first to last, exclusive."""
    logits = generator.normal(size=(2, 1 + last - first)) * 2
    if step:
        logits = np.round(logits / step) * step
    start, end = logits.astype(np.float32).tolist()
    return Window([None, *OFFSETS[first:last]], start, end)


def decoded(windows: list[Window], *, n_best: int, max_answer_length: int) -> list[tuple[str, int, int, float]]:
    """(text, start, end, score) of one question: of each window the spans that are apart, by probability, then those apart."""
    everywhere = []
    for place, window in enumerate(windows):
        lse = sum(np.float32(each) for each in normalisers(window))
        for score, first, last in apart(window, max_answer_length, n_best):
            start, end = window.offsets[first][0], window.offsets[last][1]  # type: ignore[index]
            everywhere.append((float(lse) - score, start, end, place))
    chosen: list[tuple[str, int, int, float]] = []
    for negative, start, end, _ in sorted(everywhere):
        if all(end <= other_start or start >= other_end for _, other_start, other_end, _ in chosen):
            chosen.append((CONTEXT[start:end], start, end, math.exp(-negative)))
    return chosen[:n_best]


def made(questions: list[list[Window]], *, n_best: int, max_answer_length: int) -> tuple[Windows, SeveralCandidates]:
    """Windows, and candidates with the spans that are apart, from the obvious decoder."""
    whole = candidates_of(questions, count=n_best, max_answer_length=max_answer_length)
    flat = [window for windows in questions for window in windows]
    columns = [
        np.full((len(flat), n_best), fill, kind) for fill, kind in ((-1, np.int32),) * 2 + ((-np.inf, np.float32),) * 2
    ]
    for row, window in enumerate(flat):
        for place, (_, first, last) in enumerate(apart(window, max_answer_length, n_best)):
            values = (first, last, window.start_logits[first], window.end_logits[last])
            for column, value in zip(columns, values, strict=True):
                column[row, place] = value
    nulls = (whole.null_start_W, whole.null_end_W, whole.lse_start_W, whole.lse_end_W)
    spans = (whole.start_WK, whole.end_WK, whole.start_logit_WK, whole.end_logit_WK)
    return windows_of(questions), SeveralCandidates(*nulls, *spans, apart=Candidates(*nulls, *columns))


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from([0.5, None]), st.integers(1, 12), st.integers(1, 5))
def test_the_lists_are_those_of_the_obvious_decoder(seed, step, n_best, max_answer_length):
    """Windows that share words, two questions. Breaks if windows are compared by logits and not by probability, a span that shares
    characters with a better one of another window is kept, or a question gets another's spans."""
    generator = np.random.default_rng(seed)
    questions = [
        [window_over(first, last, generator, step) for first, last in ((0, 6), (4, 10))],
        [window_over(2, 9, generator, step)],
    ]
    windows, candidates = made(questions, n_best=n_best, max_answer_length=max_answer_length)
    config = SpanConfig(n_best, max_answer_length, min_answer_score=0.05)
    table = {"id": ["a", "b"], "context": [CONTEXT, CONTEXT]}
    answers = best_answers(table, windows, candidates, config, version_2_with_negative=True)
    for key, of_question in zip("ab", questions):
        expected = decoded(of_question, n_best=n_best, max_answer_length=max_answer_length)
        found = [(each["text"], each["start"], each["end"]) for each in answers.candidates[key]]
        assert found == [(text, start, end) for text, start, end, _ in expected]
        scores = [each["score"] for each in answers.candidates[key]]
        assert scores == pytest.approx([score for *_, score in expected], rel=1e-5)
        listed = [each for each in answers.candidates[key] if each["score"] >= 0.05]
        assert answers.several[key] == listed
    single = best_answers(
        table, windows, candidates, SpanConfig(n_best, max_answer_length), version_2_with_negative=True
    )
    assert (single.predictions, single.nbest, single.null_odds) == (
        answers.predictions,
        answers.nbest,
        answers.null_odds,
    )
    assert not single.candidates and not single.several


def test_a_window_without_an_answer_gives_none_whatever_its_logits_are():
    """Worked out by hand. The second window's span has higher logits, but its null position takes nearly all of its probability:
    exp(6 + 6) of (exp 6 + exp 10)^2, about 0.0003. In the first it is exp(4 + 4) of (exp 4 + exp 0)^2, 0.964. Breaks if spans are
    ranked by their logits, or against the lowest null score of the question."""
    first = Window([None, OFFSETS[0]], [0.0, 4.0], [0.0, 4.0])
    second = Window([None, OFFSETS[5]], [10.0, 6.0], [10.0, 6.0])
    windows, candidates = made([[first, second]], n_best=2, max_answer_length=1)
    table = {"id": ["q"], "context": [CONTEXT]}
    config = SpanConfig(2, 1, min_answer_score=0.1)
    answers = best_answers(table, windows, candidates, config, version_2_with_negative=True)
    assert [(each["text"], round(each["score"], 4)) for each in answers.candidates["q"]] == [
        ("Ana", 0.9644),
        ("Fay", 0.0003),
    ]
    assert [each["text"] for each in answers.several["q"]] == ["Ana"]
    assert answers.nbest["q"][0]["text"] == "Fay", "the n-best list stays as it was"


def test_the_least_score_counts_itself_and_an_answerable_question_keeps_its_best():
    """Breaks if a tuned least score, which is some candidate's own, loses that candidate."""
    entries = [{"text": "a", "start": 0, "end": 1, "score": 0.5}, {"text": "b", "start": 2, "end": 3, "score": 0.25}]

    def listed(least: float, negative: bool) -> str:
        assert several_answers([], least, version_2_with_negative=negative) == []
        found = several_answers(entries, least, version_2_with_negative=negative)  # type: ignore[arg-type]
        return "".join(entry["text"] for entry in found)

    assert [listed(least, True) for least in (0.25, 0.26, 0.5, 0.51)] == ["ab", "a", "a", ""]
    assert [listed(least, False) for least in (0.25, 0.26, 0.5, 0.51)] == ["ab", "a", "a", "a"]
