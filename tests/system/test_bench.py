"""scripts/bench.py runs to its end and says what its readers count on."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import reference_pipeline
from processes import run, script
from toy import NAMES, context_about

from qa_accel import Reader
from qa_accel.bench.engines import Engines, cpu_engines, table
from qa_accel.bench.reader import PipelineWay
from qa_accel.bench.settings import BenchConfig

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


def test_the_reader_is_compared_with_its_forward_pass_and_with_the_removed_pipeline():
    """On 16 questions of the quickstart, as many as --windows says. Breaks if a ratio is not that of the figures beside it."""
    (left,) = run(script, BENCH, [*SMALL, "--parts", "reader", "--windows", "16"])
    assert left.code == 0, left.output
    one, many = [json.loads(line) for line in left.output.splitlines() if line.startswith("{")]
    assert one["part"] == many["part"] == "reader" and one["model"] == "minilm"
    assert one["questions"] == 1 and 20 < one["tokens"] < 120
    assert one["ratio"] == pytest.approx(one["reader_ms"] / one["forward_ms"], abs=0.01) and one["cpu_ratio"] > 0.8
    assert many["questions"] == 16
    for name, pipeline in (("one_at_a_time", "pipeline"), ("at_once", "pipeline_in_batches"), ("at_once", "pipeline")):
        ratio = many[f"{name}_per_second"] / many[f"{pipeline}_per_second"]
        assert many[f"{name}_to_{pipeline}"] == pytest.approx(ratio, abs=0.02, rel=0.01)
        assert many[f"{name}_to_{pipeline}_cpu"] > 0


def test_the_pipelines_way_that_is_timed_gives_the_pipelines_answers(toy):
    """Breaks if what ours is compared with does less, or something else, than the removed pipeline."""
    reader = Reader(toy.model)
    way = PipelineWay(reader)
    pairs = [(f"Where was {name} born?", context_about(name)) for name in NAMES]
    answers = way.answer_all(pairs, 4)
    for (question, context), answer in zip(pairs, answers, strict=True):
        windows = reference_pipeline.windows_of(reader.qa.tokenizer, question, context, max_seq_len=128, doc_stride=64)
        assert len(windows) == 1
        logits = [reference_pipeline.logits_of(reader.qa.model, window) for window in windows]
        spans = reference_pipeline.all_spans(windows, logits, context, max_answer_len=15, align_to_words=False)
        best = reference_pipeline.ranked(spans)[0]
        assert (answer["start"], answer["end"], answer["answer"]) == (best.start, best.end, best.text)
        assert answer["score"] == pytest.approx(best.score, rel=1e-4)
        assert way.answer(question, context)["start"] == best.start


def test_engines_are_compared_on_the_same_windows_with_the_cores_own_rate(toy):
    """The same model twice, so ratios are near 1. Breaks if times are per batch or per question: the longest contexts have
    two windows. Breaks too if a share is not operations a second over the rate of a product."""
    load = cpu_engines(str(toy.model), [])["torch fp32"]
    pairs = [(f"Where was {name} born?", 3 * context_about(name)) for name in NAMES]
    engines = Engines(pairs, rounds=5)
    for name in ("first", "second"):
        engines.add(name, load())
    qa: Any = engines.models["first"].qa
    config, figures = qa.inputs.config, engines.figures()
    first, second, pipeline = figures["engines"]
    assert (first["engine"], second["engine"], pipeline["engine"]) == ("first", "second", "removed pipeline")
    assert figures["windows"] == len(engines.windows) > len(pairs)
    weights = config.num_hidden_layers * (4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size)
    pairs_of_tokens = sum(int(length) ** 2 for length in engines.windows.lengths_W)
    operations = 2 * weights * int(engines.windows.lengths_W.sum())
    operations += 4 * config.num_hidden_layers * config.hidden_size * pairs_of_tokens
    assert figures["gflop_per_window"] == pytest.approx(operations / len(engines.windows) / 1e9, abs=0.001)
    for own in figures["engines"]:
        for way in ("alone", "in_batches"):
            ratio = first[f"cpu_ms_{way}"] / own[f"cpu_ms_{way}"]
            assert own[f"ratio_{way}"] == pytest.approx(ratio, rel=0.1, abs=0.02)
            rate = operations / len(engines.windows) / (own[f"cpu_ms_{way}"] / 1000)
            share = rate / (figures["matmul_gflops"] * 1e9)
            assert own[f"share_of_matmul_rate_{way}"] == pytest.approx(share, rel=0.1, abs=0.02)
    assert second["graphs_compiled"] == 0
    assert [line.split()[0] for line in table(figures).splitlines()[2:]] == ["first", "second", "removed"]


def test_exported_folders_need_the_model_that_they_came_from():
    with pytest.raises(ValueError, match="--onnx_model needs --reader_model"):
        BenchConfig(onnx_model=("exported",))


@pytest.mark.slow
def test_all_engines_of_this_cpu_are_measured_in_one_run(toy, tmp_path):
    """With a compiler and an exported model. Breaks if the compiled model is compiled again for a length or batch size."""
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    exported = tmp_path / "onnx"
    (left,) = run(
        script, BENCH.with_name("export.py"), ["--model_name_or_path", str(toy.model), "--output_dir", str(exported)]
    )
    assert left.code == 0, left.output
    words = [*SMALL, "--parts", "reader", "--windows", "16", "--reader_model", str(toy.model)]
    (left,) = run(script, BENCH, [*words, "--onnx_model", str(exported)])
    assert left.code == 0, left.output
    *_, figures = [json.loads(line) for line in left.output.splitlines() if line.startswith("{")]
    engines = {own["engine"]: own for own in figures["engines"]}
    assert {"torch fp32", "torch fp32 compiled", "onnx float32", "removed pipeline"} <= engines.keys()
    assert 1 <= engines["torch fp32 compiled"]["graphs_compiled"] <= 3
