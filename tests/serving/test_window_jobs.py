"""Windows of several requests in one batch -> the candidates that each would have had alone."""

from dataclasses import fields, replace

import numpy as np

from qa_accel.data.window_selection import joined
from qa_accel.inference.postprocess import Candidates
from qa_accel.serving.jobs import Job

LONG = "It rains there in spring, and the market is closed. " * 30


def test_joined_windows_are_those_that_were_chosen(reader):
    model = reader.members[0]
    first = model.prepare([("Where was Ana born?", LONG)])
    second = model.prepare([("Which animal does Ben keep?", "Ben keeps a goat."), ("Where?", LONG)])
    assert len(first) > 3 and len(second) > 3
    index = [np.array([2, 0]), np.array([1, 3])]
    both = joined([(first, index[0]), (second, index[1])])
    expected = [first, first, second, second]
    for row, (windows, place) in enumerate(zip(expected, [2, 0, 1, 3])):
        own, there = (slice(*one.begin_W[at : at + 2]) for one, at in ((both, row), (windows, place)))
        for name in ("input_ids_N", "token_type_ids_N", "offset_start_N", "offset_end_N"):
            assert np.array_equal(getattr(both, name)[own], getattr(windows, name)[there])
        for name in ("context_begin_W", "context_end_W", "null_W", "start_W", "end_W"):
            assert getattr(both, name)[row] == getattr(windows, name)[place]
    assert both.question_W.tolist() == [0, 1, 2, 3]


def test_candidates_come_together_from_batches_of_any_cut_and_of_more_spans(reader):
    model = reader.members[0]
    """Breaks if a row goes to another window, or if the best 20 of 40 spans are not the best 20."""
    made = model.prepare([("Where was Ana born?", LONG)])
    job = Job(model, [("Where was Ana born?", LONG)], made, reader.spans)
    other = model.prepare([("Which animal does Ben keep?", "Ben keeps a goat.")])
    more = replace(reader.spans, n_best_size=40)
    order = np.random.default_rng(0).permutation(len(made))
    for index_W in np.array_split(order, 3):
        batch = joined([(other, np.array([0])), (made, index_W)])
        job.put(index_W, model.candidates(batch, more, len(batch)), 1 + np.arange(len(index_W)))
    assert job.missing == 0
    alone = model.candidates(made, reader.spans, len(made))
    for column in fields(Candidates):
        np.testing.assert_allclose(getattr(job.found, column.name), getattr(alone, column.name), rtol=0, atol=1e-5)
