"""Every window's best spans, on rank 0, whatever the padding, the batches and the number of ranks."""

import tracemalloc
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from processes import call
from reference_decoder import Window, candidates_of
from torch import nn
from toy import WINDOWS
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, PretrainedConfig
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from qa_accel.batching import mode, plan
from qa_accel.batching.collate import PaddedCollator
from qa_accel.data import splits
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.windows import Windows
from qa_accel.inference import predictor
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.settings import PredictorConfig, SpanConfig
from qa_accel.models.loading import ModelInputs


class Case(NamedTuple):
    model: Path
    file: Path
    cache: Path
    padding_side: str = "right"
    batch_size: int = 8
    questions: int | None = None
    by_token: bool = False
    """Logits that depend on nothing but the token: the same to the bit in any batch."""
    dtype: torch.dtype = torch.float32
    """What those logits come in."""
    config: SpanConfig = SpanConfig(n_best_size=5, max_answer_length=4)


class LogitsByToken(nn.Module):
    """A few half-integer values, so that many scores are equal."""

    def __init__(self, config: PretrainedConfig, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.config, self.dtype = config, dtype

    def forward(self, input_ids: torch.Tensor, **_: Any) -> QuestionAnsweringModelOutput:
        table = torch.tensor(logits_by_token(), device=input_ids.device, dtype=self.dtype)
        start, end = table[:, input_ids]
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)


def logits_by_token() -> np.ndarray:
    return np.random.default_rng(3).integers(-6, 7, (2, 220)).astype(np.float32) / 2


def windows_of(case: Case) -> Windows:
    data = DataConfig(test_file=(str(case.file),), max_predict_samples=case.questions, cache_dir=str(case.cache))
    tokenizer = AutoTokenizer.from_pretrained(case.model)
    return splits.prepare_split(data, WindowConfig(**WINDOWS), tokenizer, "test").windows


def predicted(case: Case) -> tuple[Candidates | None, list[int], bool]:
    """What predict_windows gives on this rank, the counts that it reported, and whether the model trains afterwards."""
    accelerator = Accelerator(cpu=True)
    with accelerator.main_process_first():
        windows = windows_of(case)
    model = AutoModelForQuestionAnswering.from_pretrained(case.model)
    if case.by_token:
        model = LogitsByToken(model.config, case.dtype)
    model = accelerator.prepare_model(model, evaluation_mode=True).train()
    tokenizer = AutoTokenizer.from_pretrained(case.model, padding_side=case.padding_side)
    batching_mode = mode.BatchingMode(False, "a test's")
    batches, collate = batching_mode.evaluation(
        windows, tokenizer, ModelInputs.of(model), case.batch_size, WINDOWS["max_seq_length"]
    )
    done: list[int] = []
    found = predictor.predict_windows(accelerator, model, collate, batches, case.config, done.append)
    return found, done, model.training


def one_by_one(case: Case) -> Candidates:
    """The same by the slow decoder, every window for itself, without a batch."""
    windows, (start, end) = windows_of(case), logits_by_token()
    slow = []
    for w in range(len(windows)):
        tokens = slice(windows.begin_W[w], windows.begin_W[w + 1])
        ids = windows.input_ids_N[tokens]
        offsets: list[tuple[int, int] | None] = [None] * len(ids)
        for token in range(windows.context_begin_W[w], windows.context_end_W[w]):
            offsets[token] = (0, 1)
        slow.append(Window(offsets, start[ids].tolist(), end[ids].tolist(), null=int(windows.null_W[w])))
    return candidates_of([slow], count=case.config.n_best_size, max_answer_length=case.config.max_answer_length)


def assert_equal(found: Candidates | None, expected: Candidates | None) -> None:
    assert found is not None and expected is not None
    for name in vars(expected):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        if name.startswith("lse"):  # sums of many terms
            np.testing.assert_allclose(one, other, rtol=1e-6, err_msg=name)
        else:
            assert np.array_equal(one, other), name


def assert_nearly_equal(found: Candidates, expected: Candidates) -> None:
    """The same spans, their logits but for rounding."""
    assert np.array_equal(found.start_WK, expected.start_WK)
    assert np.array_equal(found.end_WK, expected.end_WK)
    for name in vars(expected).keys() - {"start_WK", "end_WK"}:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


@pytest.fixture
def case(toy, tmp_path) -> Case:
    return Case(toy.model, toy.dev, tmp_path / "cache")


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("padding_side", ["right", "left"])
def test_batches_find_what_a_plain_loop_over_single_windows_finds(case, padding_side, processes):
    """Breaks if a row lands in another window's place, if left padding shifts positions, or if the fill of the last
    batch is taken for a window."""
    case = case._replace(by_token=True, padding_side=padding_side, batch_size=7)
    expected = one_by_one(case)
    assert len(expected.null_W) > 30 and len(expected.null_W) % 7 != 0
    found = call(predicted, case, processes=processes)
    assert_equal(found[0][0], expected)
    for other, _, _ in found[1:]:
        assert other is None, "the other ranks keep nothing"


def test_a_model_that_is_compiled_for_training_predicts_as_it_is(case):
    """Breaks if evaluation in training, on several GPUs, gives other last bits than prediction with the model it leaves."""
    accelerator = Accelerator(cpu=True)
    windows = windows_of(case)
    tokenizer, found = AutoTokenizer.from_pretrained(case.model), []
    for compiled in (False, True):
        model = AutoModelForQuestionAnswering.from_pretrained(case.model)
        if compiled:
            model.compile(backend=lambda *_: pytest.fail("evaluation was compiled"))
        batches, collate = mode.BatchingMode(False, "a test's").evaluation(
            windows, tokenizer, ModelInputs.of(model), 8, 64
        )
        found.append(predictor.predict_windows(accelerator, model, collate, batches, case.config))
    assert_equal(*found)


def test_one_two_and_three_processes_give_the_same_bits(case):
    """Breaks if batches depend on the number of ranks: other neighbours, other padding, other last bits of a logit."""
    alone = call(predicted, case)[0][0]
    for processes in (2, 3):
        found = call(predicted, case, processes=processes)
        assert_equal(found[0][0], alone)
        assert np.array_equal(found[0][0].lse_start_W, alone.lse_start_W)
        assert [other for other, _, _ in found[1:]] == [None] * (processes - 1)


def test_left_and_right_padding_find_the_same_spans(case):
    """Breaks if a model counts the padding on the left as positions: logits would depend on a window's neighbours."""
    right, left = (call(predicted, case._replace(padding_side=side))[0][0] for side in ("right", "left"))
    assert_nearly_equal(left, right)


@pytest.mark.parametrize("questions", [1, 2])
def test_fewer_batches_than_ranks_are_predicted(case, questions):
    """Breaks if a rank without a batch does not take part in the gathering: the others would wait forever."""
    case = case._replace(questions=questions, batch_size=1, by_token=True)
    expected = one_by_one(case)
    assert len(expected.null_W) == questions, "one window each"
    found = call(predicted, case, processes=3)
    assert_equal(found[0][0], expected)
    assert found[0][1] == [questions]
    assert [other for other, _, _ in found[1:]] == [None, None]


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_widened_before_they_are_added_or_compared(case, dtype, processes):
    """Values of half steps are exact in all three types, and so must be their sums' order. Breaks if scores are added or
    padding is masked in half precision (float16 has no number as low as float32's lowest)."""
    case = case._replace(by_token=True, dtype=dtype, batch_size=7)
    found = call(predicted, case, processes=processes)
    assert_equal(found[0][0], one_by_one(case))


def test_ranks_whose_batches_have_other_widths_gather_the_same_rows(case):
    """One window in each batch: the two ranks' rows are 16 to 64 tokens wide in the same round. Breaks if anything as wide
    as a row crosses the ranks."""
    case = case._replace(by_token=True, batch_size=1)
    widths = -(-windows_of(case).lengths_W // 8)
    assert len(np.unique(widths)) > 2
    assert_equal(call(predicted, case, processes=2)[0][0], one_by_one(case))


def rows_computed(case: Case) -> list[int]:
    """Rows of each batch that the model computes on this rank."""
    accelerator = Accelerator(cpu=True)
    with accelerator.main_process_first():
        windows = windows_of(case)
    rows: list[int] = []
    model = LogitsByToken(PretrainedConfig())
    model.register_forward_hook(lambda module, arguments, output: rows.append(len(output.start_logits)))
    batches = plan.evaluation_plan(windows.lengths_W, case.batch_size)
    predictor.predict_windows(accelerator, model, PaddedCollator(windows, pad_token_id=0), batches, case.config)
    return rows


@pytest.mark.parametrize(("processes", "expected"), [(1, [8] * 4 + [4]), (2, [8, 8, 4]), (3, [8, 8])])
def test_the_model_computes_windows_and_no_fill(case, processes, expected):
    """36 windows in batches of 8. Breaks if the last batch, or a rank that has no batch in the last round, computes rows
    that nobody reads: for one question alone these were 31 of 32."""
    rows = call(rows_computed, case, processes=processes)
    assert rows[0] == expected
    assert sum(map(sum, rows)) == 36


def test_progress_is_reported_in_batches_of_all_ranks_and_the_model_trains_on(case):
    """36 windows in batches of 8 are 5 batches: 2 ranks have done 2, 4, 5 of them. Breaks if the model is left in
    evaluation mode: training would go on without dropout."""
    for _, done, training in call(predicted, case, processes=2):
        assert done == [2, 4, 5]
        assert training


def test_another_batch_size_finds_the_same_spans(case):
    """Logits may differ in the last bits (another padding, other kernels); the positions of spans may not."""
    small, large = (call(predicted, case._replace(batch_size=size))[0][0] for size in (2, 16))
    assert_nearly_equal(small, large)


def bytes_held(case: Case) -> list[int]:
    """What numpy and Python hold on this rank at the end of each round of batches."""
    accelerator = Accelerator(cpu=True)
    with accelerator.main_process_first():
        windows = windows_of(case)
    collate = PaddedCollator(windows, pad_token_id=0)
    held: list[int] = []
    tracemalloc.start()
    predictor.predict_windows(
        accelerator,
        LogitsByToken(PretrainedConfig()),
        collate,
        plan.evaluation_plan(windows.lengths_W, case.batch_size),
        case.config,
        lambda _: held.append(tracemalloc.get_traced_memory()[0]),
    )
    return held


def test_rank_0_alone_makes_room_for_all_windows(case):
    """36 windows of 2 + 4 x 2000 numbers are 1.15 MB. Breaks if every rank keeps what was gathered."""
    case = case._replace(batch_size=4, config=SpanConfig(n_best_size=2000, max_answer_length=30))
    main, *others = (max(held) for held in call(bytes_held, case, processes=3))
    assert main > 1_150_000
    assert all(other < 500_000 for other in others), others


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="--per_device_eval_batch_size must be at least 1, got 0"):
        PredictorConfig(0)


def test_the_usual_batch_is_that_of_the_engine_and_the_device():
    """Breaks if a number that is given is not taken, or if two of the defaults are exchanged."""
    usual = PredictorConfig()
    assert [usual.batch_size("cpu"), usual.batch_size("cpu", "onnx"), usual.batch_size("cuda")] == [8, 2, 32]
    assert PredictorConfig(5).batch_size("cpu") == PredictorConfig(5).batch_size("cuda") == 5
