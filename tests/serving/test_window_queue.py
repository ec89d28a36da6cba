"""Which windows a batch gets: full by tokens, of like lengths, and fair to short and to long requests."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qa_accel.inference.settings import SpanConfig
from qa_accel.serving.jobs import Job
from qa_accel.serving.window_queue import LOOKAHEAD, SHARE, WindowQueue


def model(batch_size: int = 8, max_seq_length: int = 100) -> Any:
    return SimpleNamespace(
        device="cuda:0", batch_size=batch_size, windows=SimpleNamespace(max_seq_length=max_seq_length)
    )


def job(reader: Any, *lengths: int) -> Job:
    """A request with windows of so many tokens."""

    class Lengths:
        lengths_W = np.array(lengths)

        def __len__(self) -> int:
            return len(lengths)

    return Job(reader, [("q", "c")], Lengths(), SpanConfig())  # type: ignore[arg-type]


def taken(queue: WindowQueue, max_tokens: int | None = None) -> list[tuple[Job, int]]:
    return [(entry.job, entry.window) for entry in queue.take(max_tokens)]


def test_a_batch_is_full_by_its_longest_window_times_their_number():
    """Breaks if requests are counted, or tokens without padding: 3 x 100 fit into 300, 4 x 100 do not."""
    queue, reader = WindowQueue(), model()
    jobs = [job(reader, 100) for _ in range(4)]
    for one in jobs:
        queue.put([one], now=0.0, seconds_per_token=0.01)
    assert taken(queue, 300) == [(jobs[0], 0), (jobs[1], 0), (jobs[2], 0)]
    assert taken(queue, 300) == [(jobs[3], 0)]
    assert taken(queue) == [] and len(queue) == 0


def test_a_window_that_is_longer_than_a_batch_is_computed_alone():
    queue, reader = WindowQueue(), model()
    large, small = job(reader, 100), job(reader, 10)
    queue.put([large], 0.0, 0.01)
    queue.put([small], 1.0, 0.01)
    assert [taken(queue, 50), taken(queue, 50)] == [[(large, 0)], [(small, 0)]]


def test_a_batch_takes_windows_of_like_lengths_and_the_first_in_the_queue_in_any_case():
    """Breaks if a batch is filled in order of arrival: the 100 would make rows of 100 of all."""
    queue, reader = WindowQueue(), model()
    first, long, near = job(reader, 20), job(reader, 100), job(reader, 24)
    for number, one in enumerate((first, long, near)):
        queue.put([one], float(number), 0.01)
    assert taken(queue, 60) == [(first, 0), (near, 0)]
    assert taken(queue, 60) == [(long, 0)]


def test_a_long_document_does_not_hold_up_a_short_question():
    """The document's window n is due at 0 + n x 100 tokens x 0.001 s / SHARE = 0.4 n; the question comes at 0.5 s, so 0 and 1 are ahead of it.
    Breaks if windows wait in order of arrival: the question would wait for all 200."""
    assert SHARE == 0.25
    queue, reader = WindowQueue(), model()
    document, question = job(reader, *[100] * 200), job(reader, 100)
    queue.put([document], now=0.0, seconds_per_token=0.001)
    assert queue.tokens_due(now=0.5) == 200, "windows 0 and 1 are ahead of the question"
    queue.put([question], now=0.5, seconds_per_token=0.001)
    assert [taken(queue, 100)[0] for _ in range(4)] == [(document, 0), (document, 1), (question, 0), (document, 2)]


def test_a_long_document_is_not_starved_by_short_questions():
    """Twice as many short questions come as can be computed. The document of 40 windows still gets its share of every four.
    Breaks if short requests always go first: it would never end."""
    queue, reader = WindowQueue(), model()
    document = job(reader, *[100] * 40)
    queue.put([document], 0.0, 0.01)
    left, now = 40, 0.0
    while left:
        for half in (0.0, 0.5):
            queue.put([job(reader, 100)], now + half, 0.01)
        [(who, _)] = taken(queue, 100)
        left -= who is document
        now += 1.0
    # window 39 is due at 39 x 4 = 156 s. By then 312 questions came before it, so it is at the most the 352nd
    assert 40 < now <= 352


def test_a_document_alone_gets_all_batches():
    queue, reader = WindowQueue(), model()
    document = job(reader, *[100] * 16)
    queue.put([document], 0.0, 0.01)
    assert [len(taken(queue)), len(taken(queue))] == [8, 8], "8 windows of 100 tokens, the model's own batch"


def test_a_batch_on_a_cpu_is_smaller():
    """1024 tokens, whatever the reader's own batches are: 10 windows of 100."""
    queue, reader = WindowQueue(), model(batch_size=32)
    reader.device = "cpu"
    queue.put([job(reader, *[100] * 16)], 0.0, 0.01)
    assert len(taken(queue)) == 10


def test_the_rows_of_one_request_count_together():
    """Breaks if a batch of 100 questions is due at once: it would hold up others as a document would."""
    queue, reader = WindowQueue(), model()
    rows, other = [job(reader, 100) for _ in range(3)], job(reader, 100)
    queue.put(rows, 0.0, 0.01)
    queue.put([other], 1.0, 0.01)
    assert [taken(queue, 100)[0][0] for _ in range(4)] == [rows[0], other, rows[1], rows[2]]


def test_windows_of_two_models_share_no_batch():
    queue, one, two = WindowQueue(), model(), model()
    jobs = [job(one, 10), job(two, 10), job(one, 10)]
    for number, each in enumerate(jobs):
        queue.put([each], float(number), 0.01)
    assert taken(queue) == [(jobs[0], 0), (jobs[2], 0)]
    assert taken(queue) == [(jobs[1], 0)]


def test_removed_windows_are_not_computed():
    queue, reader = WindowQueue(), model()
    gone, kept = job(reader, 10, 10), job(reader, 10)
    queue.put([gone], 0.0, 0.01)
    queue.put([kept], 0.0, 0.01)
    queue.remove([gone])
    assert len(queue) == 1 and taken(queue) == [(kept, 0)]


@pytest.mark.parametrize("seed", range(5))
def test_every_window_is_taken_once_whatever_comes(seed):
    """Breaks if the part of the queue behind the look-ahead is lost or doubled when a batch is cut out of it."""
    rng = np.random.default_rng(seed)
    queue, readers = WindowQueue(), [model(), model()]
    put, got, now = set(), [], 0.0
    while len(put) < 10 * LOOKAHEAD or len(queue):
        if len(put) < 10 * LOOKAHEAD:
            one = job(readers[rng.integers(2)], *rng.integers(1, 101, rng.integers(1, 150)))
            queue.put([one], now, 0.0001)
            put |= {(one, window) for window in range(len(one))}
        now += rng.random()
        got += taken(queue)
    assert len(got) == len(put) and set(got) == put
