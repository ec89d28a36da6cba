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


@pytest.mark.parametrize("manner", ["packed", "padded"])
def test_every_part_is_measured_and_compared(manner):
    """The plain manner runs last, on a model of its own: breaks if it is given the attention of ours, which, packed,
    cannot take its batches."""
    (left,) = run(script, BENCH, [*SMALL, "--compare", "--batching", manner])
    assert left.code == 0, left.output
    lines = [json.loads(line) for line in left.output.splitlines() if line.startswith("{")]
    order = ["matmul", "prepare", "input", "train", "train", "ratio", "predict", "postprocess"]
    assert [line["part"] for line in lines] == order
    ours, plain, ratio = lines[3:6]
    assert (ours["manner"], plain["manner"]) == ("ours", "plain")
    assert ours["batches"] == manner and 0.5 < ours["fill"] <= 1
    for line in (ours, plain):
        assert line["windows_per_second"] > 0 and line["share_of_matmul_rate"] > 0
    assert ratio["windows_per_second"] == pytest.approx(
        ours["windows_per_second"] / plain["windows_per_second"], abs=0.02
    )
