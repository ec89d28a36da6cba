"""scripts/bench.py runs to its end and says what its readers count on."""

import json
import shlex
from pathlib import Path

import pytest
from processes import run, script

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench.py"
SMALL = shlex.split(
    "--model minilm --per_device_train_batch_size 2 --steps 1 --repeats 1 --warmup_steps 1 --windows 64"
)


@pytest.mark.parametrize("batches", ["packed", "padded"])
def test_every_part_is_measured_and_compared(batches):
    """The baseline runs last, on a separate model: breaks if it is given the attention of ours, which, packed,
    cannot take its batches."""
    (left,) = run(script, BENCH, [*SMALL, "--compare", "--batching", batches])
    assert left.code == 0, left.output
    lines = [json.loads(line) for line in left.output.splitlines() if line.startswith("{")]
    order = ["matmul", "prepare", "input", "train", "train", "ratio", "predict", "postprocess"]
    assert [line["part"] for line in lines] == order
    assert lines[0]["dtype"] == "fp32" and lines[0]["tflops"] > 0
    ours, baseline, ratio = lines[3:6]
    assert (ours["loop"], baseline["loop"]) == ("ours", "baseline")
    assert ours["batches"] == batches and 0.5 < ours["fill"] <= 1
    for line in (ours, baseline):
        assert line["windows_per_second"] > 0 and line["share_of_matmul_rate"] > 0
    assert ratio["windows_per_second"] == pytest.approx(
        ours["windows_per_second"] / baseline["windows_per_second"], abs=0.02
    )


def test_products_are_measured_in_the_precision_of_the_run():
    """Breaks if a CPU without units for bf16 computes products in it: one of 2048 x 2048 takes it 20 seconds."""
    words = [*SMALL, "--parts", "matmul"]
    for units, dtype in (("0", "fp32"), ("1", "bf16")):
        (left,) = run(
            script, BENCH, words, environment={"QA_ACCEL_CPU_BF16": units}, without=["ACCELERATE_MIXED_PRECISION"]
        )
        assert left.code == 0, left.output
        [line] = [json.loads(line) for line in left.output.splitlines() if line.startswith("{")]
        assert (line["part"], line["dtype"]) == ("matmul", dtype) and line["tflops"] > 0
