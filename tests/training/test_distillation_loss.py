"""The teacher's term of the loss against computations of it by hand, window by window, in every kind of batch."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qa_accel.batching.collate import Batch, PackedCollator, PaddedCollator, window_logits
from qa_accel.data.windows import TaughtWindows
from qa_accel.training.loss import distillation_loss, loss_parts, span_loss, total
from qa_accel.training.part_settings import Distillation

LENGTHS = [7, 12, 5, 9]
INDEX = np.array([2, 0, -1, 3, 1])
"""Of windows in a batch; one entry holds nothing."""
REAL = [0, 1, 3, 4]


def windows_with(*teachers: tuple[np.ndarray, np.ndarray]) -> TaughtWindows:
    """Windows of a null token, two question tokens, a context and a last separator, with the teachers' start and end logits."""
    begin_W = np.concatenate([[0], np.cumsum(LENGTHS)])
    length_W = np.array(LENGTHS)
    nothing_N = np.zeros(begin_W[-1], np.int32)
    return TaughtWindows(
        input_ids_N=np.arange(begin_W[-1], dtype=np.int32),
        token_type_ids_N=None,
        offset_start_N=nothing_N,
        offset_end_N=nothing_N,
        begin_W=begin_W,
        question_W=np.arange(len(LENGTHS)),
        context_begin_W=np.full_like(length_W, 3),
        context_end_W=length_W - 1,
        null_W=np.zeros_like(length_W),
        start_W=np.full_like(length_W, 3),
        end_W=length_W - 2,
        teacher_start_MN=tuple(start_N for start_N, _ in teachers),
        teacher_end_MN=tuple(end_N for _, end_N in teachers),
    )


def logits_N(seed: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    start_N, end_N = np.random.default_rng(seed).normal(scale=3, size=(2, sum(LENGTHS)))
    return start_N.astype(dtype), end_N.astype(dtype)


def batches_of(windows: TaughtWindows) -> dict[str, Batch]:
    return {
        "padded on the right": PaddedCollator(windows, pad_token_id=0)(INDEX),
        "padded on the left": PaddedCollator(windows, pad_token_id=0, padding_side="left")(INDEX),
        "packed": PackedCollator(windows, row_tokens=48, max_length=16, pad_token_id=0)(INDEX),
    }


def student_of(batch: Batch, side: np.ndarray) -> torch.Tensor:
    """The student's logits of each token of the batch, of the shape that the model gives; elsewhere large ones."""
    inputs: dict[str, Any] = batch.inputs
    ids = inputs["input_ids"]
    logits, flat = torch.full(ids.shape, 50.0), torch.from_numpy(side)
    if "cu_seq_lens_q" not in inputs:
        return torch.where(inputs["attention_mask"].bool(), flat[ids], logits)
    boundaries = inputs["cu_seq_lens_q"].tolist()
    for b in REAL:
        own = slice(boundaries[b], boundaries[b + 1])
        logits[0, own] = flat[ids[0, own]]
    return logits


def loss_of(windows: TaughtWindows, student: tuple[np.ndarray, np.ndarray], temperature: float) -> dict[str, float]:
    found = {}
    for name, batch in batches_of(windows).items():
        found[name] = distillation_loss(
            student_of(batch, student[0]), student_of(batch, student[1]), batch, temperature
        ).item()
    return found


def places(window: int) -> list[int]:
    """The null token and the context, as places among all tokens."""
    begin = sum(LENGTHS[:window])
    return [begin, *range(begin + 3, begin + LENGTHS[window] - 1)]


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def divergence_by_hand(teacher_N: np.ndarray, student_N: np.ndarray, window: int, temperature: float) -> float:
    taught = softmax([float(teacher_N[n]) for n in places(window)], temperature)
    learnt = softmax([float(student_N[n]) for n in places(window)], temperature)
    return sum(p * math.log(p / q) for p, q in zip(taught, learnt))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_the_loss_is_the_sum_of_each_windows_divergence_over_context_and_null(temperature):
    """Breaks if padding, the question, a separator or fill has a share, if T or T^2 is left out, if start and end are added and
    not averaged, or if the two distributions change places."""
    teacher, student = logits_N(1), logits_N(2)
    expected = sum(
        temperature**2 * sum(divergence_by_hand(t, s, window, temperature) for t, s in zip(teacher, student)) / 2
        for window in range(4)
    )
    found = loss_of(windows_with(teacher), student, temperature)
    assert found == pytest.approx(dict.fromkeys(found, expected), rel=1e-5)
    assert expected > 1


def test_one_window_cut_out_by_hand_agrees_with_torchs_kl_div():
    """An implementation by others, on the tokens of one window alone."""
    teacher, student, temperature = logits_N(3), logits_N(4), 2.0
    batch = PaddedCollator(windows_with(teacher), pad_token_id=0)(np.array([1]))
    found = distillation_loss(student_of(batch, student[0])[:1], student_of(batch, student[1])[:1], batch, temperature)
    rows = [torch.from_numpy(logits[places(1)]) / temperature for logits in (*student, *teacher)]
    start, end, taught_start, taught_end = (row.log_softmax(0) for row in rows)
    expected = F.kl_div(start, taught_start, reduction="sum", log_target=True)
    expected += F.kl_div(end, taught_end, reduction="sum", log_target=True)
    torch.testing.assert_close(found, temperature**2 * expected / 2)


def test_what_the_teacher_says_of_question_and_separators_does_not_matter():
    """The usual script compares all positions, with the padding, and loses F1 on questions without an answer
    (transformers#1992). Breaks if such a place comes into the loss, of the teacher or of the student."""
    teacher, student = logits_N(5), logits_N(6)
    elsewhere = np.setdiff1d(np.arange(sum(LENGTHS)), np.concatenate([places(window) for window in range(4)]))
    assert len(elsewhere) == 12
    other_teacher, other_student = (tuple(one.copy() for one in pair) for pair in (teacher, student))
    for one in (*other_teacher, *other_student):
        one[elsewhere] += 40
    expected = loss_of(windows_with(teacher), student, 2.0)
    assert loss_of(windows_with(other_teacher), student, 2.0) == expected  # type: ignore[arg-type]
    assert loss_of(windows_with(teacher), other_student, 2.0) == expected  # type: ignore[arg-type]


def test_a_student_that_says_what_the_teacher_says_has_no_loss_and_no_gradient():
    """Adding one number to all logits of a window changes no softmax. Breaks if raw logits are compared."""
    teacher = logits_N(7)
    for batch in batches_of(windows_with(teacher)).values():
        start, end = ((student_of(batch, side) + 5).requires_grad_() for side in teacher)
        loss = distillation_loss(start, end, batch, 2.0)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-5)
        assert start.grad is not None and end.grad is not None
        assert start.grad.abs().max() < 1e-5 and end.grad.abs().max() < 1e-5


def test_several_teachers_are_averaged_as_log_probabilities():
    """Each teacher's log-probabilities over the window's places at temperature 1, their mean divided by T, a softmax of that.

    The second teacher's logits are 30 higher throughout, and three times as far apart. Breaks if probabilities are averaged,
    or if one teacher's constant counts.
    """
    one, other, student = logits_N(8), logits_N(9), logits_N(10)
    other = tuple(3 * side + 30 for side in other)
    expected = 0.0
    for window in range(4):
        for side in range(2):
            means = np.zeros(len(places(window)))
            for teacher in (one, other):
                means += np.log(softmax([float(x) for x in teacher[side][places(window)]], 1.0)) / 2
            taught = softmax([float(x) for x in means], 2.0)
            learnt = softmax([float(x) for x in student[side][places(window)]], 2.0)
            expected += 4 * sum(p * math.log(p / q) for p, q in zip(taught, learnt)) / 2
    found = loss_of(windows_with(one, other), student, 2.0)  # type: ignore[arg-type]
    assert found == pytest.approx(dict.fromkeys(found, expected), rel=1e-4)


def test_the_gradient_ends_at_the_places_of_real_windows_and_scales_with_the_temperature():
    """The gradient of the mean of start and end is T * (student - teacher) / 2 at temperature T. Breaks if fill, padding or the
    question gets one."""
    teacher, student, temperature = logits_N(11), logits_N(12), 3.0
    for name, batch in batches_of(windows_with(teacher)).items():
        start, end = (student_of(batch, side).requires_grad_() for side in student)
        distillation_loss(start, end, batch, temperature).backward()
        assert start.grad is not None
        gradient_BL, _, _ = window_logits(start.grad, end, batch)
        places_BL = batch.context_BL.scatter(1, batch.null_B[:, None], True)
        for b, window in zip(REAL, (2, 0, 3, 1)):
            taught = softmax([float(x) for x in teacher[0][places(window)]], temperature)
            learnt = softmax([float(x) for x in student[0][places(window)]], temperature)
            by_hand = temperature * (torch.tensor(learnt) - torch.tensor(taught)) / 2
            torch.testing.assert_close(gradient_BL[b][places_BL[b]], by_hand.float(), atol=1e-5, rtol=1e-4, msg=name)
        assert (start.grad != 0).sum() == sum(len(places(window)) for window in range(4)), name
        assert torch.isfinite(start.grad).all()


def test_a_batch_of_nothing_but_fill_has_no_loss_and_no_gradient():
    """Breaks if 0 times an infinite difference is computed: the sum over all ranks would not be a number."""
    windows = windows_with(logits_N(13))
    for collate in (
        PaddedCollator(windows, pad_token_id=0),
        PackedCollator(windows, row_tokens=48, max_length=16, pad_token_id=0),
    ):
        batch = collate(np.array([-1, -1]))
        logits = torch.randn(batch.inputs["input_ids"].shape).requires_grad_()  # type: ignore[union-attr]
        loss = distillation_loss(logits, logits, batch, 2.0)
        loss.backward()
        assert loss.item() == 0.0
        assert torch.equal(logits.grad, torch.zeros_like(logits))  # type: ignore[arg-type]


class Student(torch.nn.Module):
    """Gives the logits that it was made with, whatever it is asked."""

    def __init__(self, *sides: torch.Tensor):
        super().__init__()
        self.start_logits, self.end_logits = sides

    def forward(self, **inputs):
        return self


def test_the_terms_are_weighted_and_add_up_to_what_is_trained():
    """Breaks if a term is weighted twice, or if both are named alike in the metrics."""
    batch = batches_of(windows_with(logits_N(14)))["padded on the right"]
    student = Student(*(student_of(batch, side) for side in logits_N(15)))
    span = span_loss(student.start_logits, student.end_logits, batch)
    imitation = distillation_loss(student.start_logits, student.end_logits, batch, 2.0)
    parts = loss_parts(student, batch, Distillation(temperature=2.0, weight=0.75))
    torch.testing.assert_close(parts, {"span": 0.25 * span, "distillation": 0.75 * imitation})
    torch.testing.assert_close(total(parts), 0.25 * span + 0.75 * imitation)
    assert loss_parts(student, batch).keys() == {"span"}
