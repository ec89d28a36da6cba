"""A `Reader` inside of a program: threads, device, type, silence, compiled."""

import math
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import datasets
import numpy as np
import pandas
import pytest
import torch
from toy import LONGEST, NAMES, WINDOWS, context_about

from qa_accel import Reader
from qa_accel.data.settings import WindowConfig
from qa_accel.distributed import precision
from qa_accel.inference.settings import SpanConfig

PAIRS = [(f"Where was {name} born?", context_about(name)) for name in NAMES]


@pytest.fixture(scope="module")
def reader(toy) -> Reader:
    return Reader(toy.model, windows=WindowConfig(**WINDOWS))


def test_threads_get_the_answers_that_one_thread_gets(reader):
    """24 calls of several kinds from 8 threads. Breaks if tokenizer or model keep a state of the call before."""
    rng = random.Random(0)
    chosen = [rng.sample(PAIRS, 3) for _ in range(24)]

    def one(number: int) -> object:
        pairs = chosen[number]
        if number % 3 == 0:
            return reader.answer_all(pairs)
        if number % 3 == 1:
            return reader([*pairs], max_seq_len=40 + number, top_k=2)
        return reader.rank(pairs[0][0], [context for _, context in pairs])

    expected = [one(number) for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(24))) == expected


def test_a_reader_is_loaded_and_asked_without_a_word(toy):
    """Breaks if a progress bar, a report on weights or a library's warning reaches the user's terminal."""
    code = f"""
from qa_accel import Reader
reader = Reader({str(toy.model)!r})
reader(question="Where was Ana born?", context="Ana was born in Bern.")
reader.rank("Where was Ana born?", ["Ana was born in Bern.", "", "x " * 3000])
"""
    environment = os.environ | {"PYTHONWARNINGS": "default"}
    for name in ("TOKENIZERS_PARALLELISM", "TRANSFORMERS_VERBOSITY"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
    own = [line for line in done.stderr.splitlines() if "site-packages" not in line and line.strip()]
    assert not own and "oading" not in done.stderr, done.stderr


def test_reading_needs_neither_datasets_nor_a_launcher(toy):
    """Breaks if a second of imports comes back, or if WORLD_SIZE of a surrounding job is taken for one's own."""
    code = f"""
import sys
from qa_accel import Reader
assert Reader({str(toy.model)!r}).answer("Where was Ana born?", "Ana was born in Bern.")["nbest"]
print([name for name in ("datasets", "deepspeed", "evaluate", "pandas") if name in sys.modules])
"""
    environment = os.environ | {"WORLD_SIZE": "4", "RANK": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_model_of_few_positions_gets_windows_that_it_takes(toy):
    """The toy has 128 positions; the pipeline took what the model takes as well. Breaks if the default of 384 is an error."""
    reader = Reader(toy.model)
    assert reader.windows == WindowConfig(128, 31, 62)
    assert reader(question=f"Where was {LONGEST} born?", context=context_about(LONGEST) * 5)["answer"]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:99", "device 'cuda:99' cannot be used"),
        (99, "device 'cuda:99' cannot be used"),
        ("gpu", "device 'gpu' cannot be used"),
        ("meta", "device 'meta' cannot be used: it computes nothing"),
        (1.5, r"device is '1.5' \(float\); expected a name"),
        (True, r"device is 'True' \(bool\); expected a name"),
    ],
)
def test_a_device_that_is_not_there_is_refused(toy, device, message):
    with pytest.raises(ValueError, match=message):
        Reader(toy.model, device=device)


@pytest.mark.parametrize("device", [None, "cpu", -1, torch.device("cpu")])
def test_a_device_has_the_names_that_it_had(toy, device):
    if device is None and torch.accelerator.is_available():
        pytest.skip("the best device is not the CPU here")
    assert Reader(toy.model, device=device).device.type == "cpu"


@pytest.mark.parametrize("dtype", ["float64", "half", torch.int8, None, "auto"])
def test_an_unknown_type_is_refused(toy, dtype):
    with pytest.raises(ValueError, match=r"dtype is .*; expected float32, bfloat16, float16"):
        Reader(toy.model, dtype=dtype)


def test_half_precision_needs_hardware(toy, monkeypatch):
    """Breaks if a reader on a plain CPU is 50 times slower in silence."""
    monkeypatch.setenv(precision.PRETENDED_UNITS, "0")
    with pytest.raises(
        ValueError, match=r"dtype bfloat16: this CPU has no hardware for it: .*QA_ACCEL_ALLOW_SLOW_BF16=1"
    ):
        Reader(toy.model, dtype="bfloat16", device="cpu")
    monkeypatch.setenv(precision.ALLOW_SLOW, "1")
    for dtype in ("bfloat16", torch.bfloat16, "float16"):
        reader = Reader(toy.model, dtype=dtype, device="cpu")
        assert next(reader.qa.model.parameters()).dtype == (torch.float16 if dtype == "float16" else torch.bfloat16)
        odds = [found["null_odds"] for found in reader.answer_all(PAIRS)]
        plain = [found["null_odds"] for found in Reader(toy.model, device="cpu").answer_all(PAIRS)]
        assert odds == pytest.approx(plain, abs=0.15) and odds != plain


def test_a_compiled_reader_gives_the_same_answers(toy):
    """Breaks if a batch of another length compiles again: these have nine lengths, and torch's first guess is that lengths
    do not change."""
    plain, compiled = Reader(toy.model, device="cpu"), Reader(toy.model, device="cpu", compile=True)
    torch._dynamo.utils.counters.clear()
    for end in range(40, 121, 10):
        pairs = [(question, " ".join([context] * 9)[:end]) for question, context in PAIRS[:3]]
        expected = [found["null_odds"] for found in plain.answer_all(pairs)]
        assert [found["null_odds"] for found in compiled.answer_all(pairs)] == pytest.approx(expected, abs=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_attention_can_be_requested(toy):
    answers = [Reader(toy.model, device="cpu", attn_implementation=name)(PAIRS) for name in ("auto", "eager", "sdpa")]
    for other in answers[1:]:
        assert [found["answer"] for found in other] == [found["answer"] for found in answers[0]]
    with pytest.raises(ValueError, match="flash_attention_2: it needs a CUDA device"):
        Reader(toy.model, device="cpu", attn_implementation="flash_attention_2")
    with pytest.raises(ValueError, match=r"attn_implementation flash: bert does not offer it .* it has eager, sdpa"):
        Reader(toy.model, device="cpu", attn_implementation="flash")  # type: ignore[arg-type]


def test_texts_come_in_every_kind_of_sequence(reader):
    """A column of a data set, an array, a series. Breaks if only lists and tuples are taken for several texts."""
    questions, contexts = [question for question, _ in PAIRS[:3]], [context for _, context in PAIRS[:3]]
    expected, one_context = reader(PAIRS[:3]), reader(question=questions, context=contexts[0])
    ranked = reader.rank(questions, contexts)
    rows = datasets.Dataset.from_dict({"question": questions, "context": contexts, "number": [1, 2, 3]})
    for kind in (
        lambda name: rows[name],
        lambda name: np.array(rows[name][:]),
        lambda name: pandas.Series(rows[name][:]),
    ):
        assert reader(question=kind("question"), context=kind("context")) == expected
        assert reader(question=kind("question"), context=contexts[0]) == one_context
        assert reader.rank(kind("question"), kind("context")) == ranked
    assert list(reader(rows)) == expected
    for given in (np.array([questions]), np.array("Where?"), set(questions), iter(questions)):
        with pytest.raises(ValueError, match=r"the question is .*; expected text, or a list of texts"):
            reader(question=given, context=contexts[0])


def test_what_a_source_gave_before_its_error_is_answered(reader):
    """Breaks if up to a chunk of questions is lost to a broken row that comes after them."""

    def source():
        yield from PAIRS[:3]
        raise OSError("the disk is gone")

    bad_row = iter([*PAIRS[:3], None, PAIRS[3]])
    for rows, error, message in ((source(), OSError, "disk is gone"), (bad_row, ValueError, "row 3: null or missing")):
        found = reader(rows, batch_size=1)
        assert [next(found)["answer"] for _ in range(3)] == [result["answer"] for result in reader(PAIRS[:3])]
        with pytest.raises(error, match=message):
            next(found)


def test_no_answer_comes_first_where_answer_says_so_at_the_threshold_itself(toy):
    """A tuned threshold is the null odds of one of the questions. Breaks if scores are added in float64 here and in float32
    there: then the last bit decides."""
    usual = SpanConfig(max_answer_length=15)
    reader = Reader(toy.model, windows=WindowConfig(**WINDOWS), spans=usual)
    for pair in PAIRS:
        reader.spans = usual
        odds = reader.answer(*pair)["null_odds"]
        for threshold in (odds, math.nextafter(odds, -math.inf)):
            reader.spans = replace(usual, null_score_diff_threshold=threshold)
            found = reader(*pair, handle_impossible_answer=True, align_to_words=False)["answer"]
            assert found == reader.answer(*pair)["text"]
            assert (found == "") == (threshold < odds)
