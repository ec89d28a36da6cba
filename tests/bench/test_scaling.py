"""Efficiency of many GPUs, by arithmetic: counts of two real processes, and formulas against numbers worked out by hand."""

import json
import shlex

import numpy as np
import pytest
from processes import run, script

from qa_accel.bench import scaling
from qa_accel.bench.collectives import Call, Counted, count_collectives
from qa_accel.bench.scaling import Measured
from qa_accel.bench.settings import ScalingConfig
from qa_accel.bench.synthetic import make_model, model_config

LINKS = ScalingConfig(node_gb_s=100, network_gb_s=10, node_latency_us=10, network_latency_us=30, memory_gb_s=1000)
EVEN = Measured(spread=1.0, padded_spread=1.0, host_ms=0.0, plan_seconds=0.0)


def counted(*bucket_bytes: int, embedded: int = 0, words: tuple[int, int] = (0, 0)) -> Counted:
    """`embedded`: beside the table of words."""
    buckets, table = [Call("allreduce_", size) for size in bucket_bytes], words[0] * words[1]
    return Counted([], buckets, [], [], [], sum(bucket_bytes) // 4 + table, embedded + table, words)


def test_a_step_sums_its_gradients_and_four_bytes_more():
    """On two real processes. Breaks if a bucket is missed, as DDP's C++ reducer hides them from torch.distributed's functions,
    if a rank sends its loss or its norm in every step, if a forward pass sends buffers, or if words go over the wire that no
    batch has."""
    found = count_collectives("minilm")
    model = make_model(model_config("minilm"))
    trained = sum(parameter.numel() for parameter in model.parameters())
    words, width = model.get_input_embeddings().weight.shape
    assert found.trained == trained and sum(found.bucket_bytes) == 4 * (trained - words * width) == 4 * found.in_buckets
    assert found.tokens == [Call("allreduce_", words)] and found.words == (words, width)
    (rows,) = found.rows
    assert rows.name == "allreduce_" and rows.bytes % (4 * width) == 0
    assert 0 < rows.bytes // (4 * width) <= 2 * 384 + 3, "of two windows"
    assert {call.name for call in found.gradients} == {"allreduce_"}
    assert len(found.gradients) > 1, "one bucket could not be summed beside the backward pass"
    assert found.others == [Call("allreduce_", 4)], "of the stop requests"
    assert found.log == [Call("allreduce_", 4 * 3)], "a sum of the loss for each of the three steps"


def test_the_time_of_a_sum_by_hand():
    """80 MB over 8 GPUs: 2 * 7/8 * 80e6 / 100e9 = 1.4 ms and 10 us. Over 16 also 2 * 1/2 * 10e6 / 10e9 = 1 ms and 30 us."""
    assert scaling.sum_ms(80e6, 8, LINKS) == pytest.approx(1.41)
    assert scaling.sum_ms(80e6, 16, LINKS) == pytest.approx(2.44)
    assert scaling.sum_ms(80e6, 2, LINKS) == pytest.approx(0.81)  # 2 * 1/2 * 80e6 / 100e9
    assert scaling.sum_ms(80e6, 1, LINKS) == 0


def test_only_what_the_backward_pass_does_not_cover_is_exposed():
    """Two buckets of 40 MB, each summed in 0.71 ms on 8 GPUs, in a backward pass of 4 ms. All of the embeddings are in the
    second: it is ready at the end, and exposed whole; without embeddings too. If the first is ready at the end as well, both are."""
    one = scaling.sum_ms(40e6, 8, LINKS)
    assert one == pytest.approx(0.71)
    assert scaling.exposed_ms(counted(40_000_000, 40_000_000), 8, LINKS, 4.0, 0) == pytest.approx(one)
    embedded = counted(40_000_000, 40_000_000, embedded=10_000_000)
    assert scaling.exposed_ms(embedded, 8, LINKS, 4.0, 0) == pytest.approx(2 * one)
    # of 12 MB and 4 MB, ready at 3 and 4 ms: the second waits for nothing, 2 * 7/8 * 4e6 / 100e9 = 0.07 ms and 10 us
    assert scaling.exposed_ms(counted(12_000_000, 4_000_000), 8, LINKS, 4.0, 0) == pytest.approx(0.08)
    # the first takes 2.11 ms from 1.5 of 2 ms on: the second, of 0.71, ends 2.32 ms after the backward pass
    assert scaling.exposed_ms(counted(120_000_000, 40_000_000), 8, LINKS, 2.0, 0) == pytest.approx(2.32)
    # the rows of words come after all of it, whatever the other embeddings are
    assert scaling.exposed_ms(embedded, 8, LINKS, 4.0, 40e6) == pytest.approx(3 * one)
    table = counted(12_000_000, 4_000_000, words=(1000, 10_000))
    assert scaling.exposed_ms(table, 8, LINKS, 4.0, 4e6) == pytest.approx(0.16)


def test_rows_of_words_are_those_of_squad_in_the_models_table():
    """Counted for 256 windows: 7,793 of 30,522; between counts along the logarithm of the windows; of a larger table the same share."""
    assert scaling.rows_of_words(counted(4, words=(30_522, 768)), 256) == 7793
    between = (7793 + 11_126) / 2
    assert scaling.rows_of_words(counted(4, words=(30_522, 768)), 362) == pytest.approx(between, abs=5)
    assert scaling.rows_of_words(counted(4, words=(61_044, 768)), 256) == 2 * 7793


def test_a_steps_parts_add_up_by_hand():
    """One bucket of 80 MB on 8 GPUs: exposed 1.41 ms, 20 M numbers of 8 bytes copied at 1000 GB/s 0.16 ms, the fullest rank 5 %
    behind: 0.5 of 10 ms, and 2 ms because nothing is captured; a host of 20 ms hides none of its own time."""
    settings = dict(step_ms=10.0, node_gb_s=100, node_latency_us=10, memory_gb_s=1000)
    config = ScalingConfig(**settings, ddp_step_ms=12.0)  # type: ignore[arg-type]
    slow = Measured(spread=1.05, padded_spread=1.0, host_ms=1.0, plan_seconds=0.0)
    found = scaling.estimate(counted(80_000_000), "no", 8, 32, config, slow)
    assert found["step_ms"] == pytest.approx(12 + 1.41 + 0.16 + 0.5)
    assert found["efficiency"] == pytest.approx(10 / 14.07)
    host = Measured(spread=1.05, padded_spread=1.0, host_ms=20.0, plan_seconds=0.0)
    assert scaling.estimate(counted(80_000_000), "no", 8, 32, config, host)["step_ms"] == pytest.approx(20)
    assert scaling.estimate(counted(80_000_000), "no", 1, 32, config, EVEN)["efficiency"] == 1
    half = scaling.estimate(counted(40_000_000), "bf16", 8, 32, config, slow)
    assert half["exposed_ms"] == pytest.approx(0.71)
    # 7,793 rows of 1,000 numbers: 2 * 7/8 * 31.172e6 / 100e9 and 10 us, and 24 bytes of each; half of it and 32 bytes in bf16
    table = counted(80_000_000, words=(30_522, 1000))
    found = scaling.estimate(table, "no", 8, 32, config, slow)
    assert found["exposed_ms"] == pytest.approx(1.41 + 0.545510 + 0.01) and found["copies_ms"] == pytest.approx(
        0.16 + 0.187032
    )
    half_table = scaling.estimate(counted(40_000_000, words=(30_522, 1000)), "bf16", 8, 32, config, slow)
    assert half_table["exposed_ms"] == pytest.approx(0.71 + 0.272755 + 0.01)
    assert half_table["copies_ms"] == pytest.approx(0.24 + 0.249376)
    assert half["copies_ms"] == pytest.approx(0.24)  # 24 bytes for each of the numbers, of which this count has 10 M


def test_the_wait_of_a_step_is_that_for_its_fullest_rank():
    assert scaling.spread_of(np.array([[10, 10], [5, 15]])) == pytest.approx((1 + 1.5) / 2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(world_size=(8, 0)), "--world_size must be from 1 to"),
        (dict(step_ms=0.0), "--step_ms must be more than 0"),
        (dict(memory_gb_s=float("nan")), "--memory_gb_s must be a number"),
    ],
)
def test_numbers_that_divide_are_more_than_zero(settings, said):
    with pytest.raises(ValueError, match=said):
        ScalingConfig(**settings)


def test_the_part_prints_its_counts_and_a_table(repository):
    """Breaks if an efficiency is not that of the milliseconds beside it, if more GPUs are given the plan of fewer, or if a hook
    leaves the gradients as they are."""
    words = "--model minilm --parts scaling --world_size 1 8 64 --windows 64 --per_device_train_batch_size 4"
    (left,) = run(script, repository / "scripts" / "bench.py", shlex.split(words))
    assert left.code == 0, left.output
    lines = [json.loads(line) for line in left.output.splitlines() if line.startswith("{")]
    estimates = [line for line in lines if line["found"] == "estimate"]
    assert [(line["gpus"], line["hook"]) for line in estimates] == [
        (n, hook) for n in (1, 8, 64) for hook in ("no", "bf16")
    ]
    plain, half = (line for line in lines if line["found"] == "collectives")
    assert plain["gradient_bytes"] == 2 * half["gradient_bytes"] and plain["row_bytes"][0] == 2 * half["row_bytes"][0]
    assert plain["token_bytes"] == half["token_bytes"] == [30_522]
    assert plain["other_bytes"] == half["other_bytes"] == [4] and plain["log_bytes"] == half["log_bytes"] == [4 * 3]
    for line in estimates:
        assert line["efficiency"] == pytest.approx(11.31 / line["step_ms"], abs=0.001)
    assert estimates[0]["efficiency"] == 1 and estimates[0]["exposed_ms"] == 0
    assert estimates[2]["efficiency"] > estimates[4]["efficiency"]
    ranks = [line for line in lines if line["found"] == "ranks"]
    assert 1 == ranks[0]["spread"] < ranks[1]["spread"] < ranks[2]["spread"] < 1.2
    assert left.output.rstrip().splitlines()[-7].split()[:2] == ["gpus", "hook"]
