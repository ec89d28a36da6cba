"""export.py writes a folder only if its logits, and for int8 its F1, are those of the model, and says what it found."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from processes import Left, run
from toy import WINDOWS, flags

from qa_accel import Reader, config
from qa_accel.batching.settings import BatchingConfig
from qa_accel.commands import export
from qa_accel.commands.answering import load_task
from qa_accel.data.settings import WindowConfig
from qa_accel.distributed import entry
from qa_accel.inference.answer_policy import CONFIG_KEY
from qa_accel.models.settings import ModelConfig

POLICY = {"null_score_diff_threshold": 0.125, "temperature": 1.5, "null_odds_weight": 0.2, "null_odds_bias": 0.1}


def script(words: list[str], allowed_loss: float | None = None) -> None:
    if allowed_loss is not None:
        export.F1_LOSS = allowed_loss  # type: ignore[misc]
    entry.main(lambda: export.run(config.parse(export.Config, words)))


def started(cache: Path, *, allowed_loss: float | None = None, processes: int = 1, **settings: Any) -> Left:
    """Answers of one token, so that the untrained model is right now and then."""
    usual = dict(cache_dir=cache, per_device_eval_batch_size=8, max_answer_length=1, **WINDOWS)
    words = [word for word in flags(**usual | settings) if word != "True"]
    return run(script, words, allowed_loss, processes=processes)[0]


def message(left: Left) -> str:
    assert left.code == 2 and "Traceback" not in left.output, left.output
    return " ".join(left.output.replace("│", " ").split())


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model(toy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    shutil.copytree(toy.model, folder)
    (folder / "config.json").write_text(json.dumps(read(folder / "config.json") | {CONFIG_KEY: POLICY}))
    return folder


def test_a_graph_in_fp32_keeps_policy_and_answers_and_says_so(toy, model, cache, tmp_path):
    """With figures on the dev file, where a former export was. Breaks if F1 is another than torch's, the policy is changed, or a
    former export is in the way or stays in part."""
    output = tmp_path / "graph"
    output.mkdir()
    for name in ("export.json", "model.onnx", "model.onnx.data"):
        (output / name).write_text("former")
    left = started(cache, validation_file=toy.dev, model_name_or_path=model, output_dir=output)
    assert left.code == 0, left.output
    figures = read(output / "export.json")
    assert figures["scores"]["onnx_float32"] == figures["scores"]["torch_float32"]
    assert figures["equal_answers"] == {"onnx_float32": 1.0} and figures["questions"] == 30
    assert 0 < figures["logits"]["largest_difference"] < 1e-4 and figures["logits"]["windows"] > 20
    assert figures["nodes"] == {"Attention": 2, "LayerNormalization": 5, "Gelu": 2}
    assert figures["versions"].keys() == {"qa_accel", "torch", "transformers", "onnx", "onnxscript", "onnxruntime"}
    assert read(output / "config.json")[CONFIG_KEY] == POLICY
    assert sorted(path.name for path in output.iterdir()) == [
        "config.json",
        "export.json",
        "model.onnx",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert not [path for path in tmp_path.iterdir() if path != output]


def test_an_int8_graph_has_a_policy_of_its_own(toy, model, cache, tmp_path):
    """As if any loss were allowed: the random model is no measure. Breaks if threshold and calibration of other logits are
    kept, the graph is still in fp32, or cannot be read."""
    output = tmp_path / "graph"
    left = started(
        cache, allowed_loss=100.0, model_name_or_path=model, int8="True", validation_file=toy.train, output_dir=output
    )
    assert left.code == 0, left.output
    figures, policy = read(output / "export.json"), read(output / "config.json")[CONFIG_KEY]
    assert figures["scores"].keys() == figures["equal_answers"].keys() | {"torch_float32"}
    assert figures["equal_answers"].keys() == {"onnx_float32", "onnx_int8"}
    assert figures["int8"]["products"] == 12, (
        "of two layers: query, key, value, output, and two of the feed-forward part"
    )
    assert policy["null_score_diff_threshold"] == figures["null_score_diff_threshold"]
    assert policy.keys() == POLICY.keys() and policy != POLICY
    assert not (output / "float32.onnx").exists() and figures["bytes"] == (output / "model.onnx").stat().st_size
    reader = Reader(output, backend="onnx", windows=WindowConfig(**WINDOWS))
    assert reader.qa.session.facts.precision == "int8"
    assert reader.answer("Where was Ada born?", "Ada was born in Lima .")["confidence"] > 0


def test_an_int8_graph_that_loses_too_much_is_refused_with_its_figures(toy, model, cache, tmp_path):
    """No loss is allowed, not even none. Breaks if the folder is written all the same, or a former one is gone."""
    words: dict[str, Any] = dict(model_name_or_path=model, int8="True", validation_file=toy.dev)
    found = message(started(cache, allowed_loss=-100.0, output_dir=tmp_path / "graph", **words))
    assert "F1 with 8 bits, more than" in found and "on 30 questions" in found
    assert "torch_float32 exact" in found and "onnx_int8 exact" in found and "answers equal to torch's" in found
    assert "Nothing was written" in found
    assert list(tmp_path.iterdir()) == []


def test_int8_of_a_model_with_a_threshold_needs_questions_without_an_answer(toy, model, cache, tmp_path):
    """Breaks if the threshold of other logits is kept, and no decision of "no answer" is judged."""
    data = read(toy.dev)
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [question for question in paragraph["qas"] if question["answers"]]
    (tmp_path / "answered.json").write_text(json.dumps(data))
    words: dict[str, Any] = dict(model_name_or_path=model, output_dir=tmp_path / "graph", int8="True")
    found = message(started(cache, validation_file=tmp_path / "answered.json", **words))
    assert "has a no-answer threshold, and every question of --validation_file has an answer" in found


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ((ModelConfig("m", dtype="bfloat16"), BatchingConfig()), "--dtype bfloat16"),
        ((ModelConfig("m"), BatchingConfig(batching="packed")), "--batching packed"),
        ((ModelConfig("m"), BatchingConfig(attn_implementation="sdpa")), "--attn_implementation sdpa"),
    ],
)
def test_what_only_torch_has_is_refused_of_an_exported_model(settings, flag):
    """Breaks if a flag has no effect without a word."""
    model, batching = settings
    with pytest.raises(ValueError, match=f"{flag} is for the backend torch"):
        load_task("onnx", None, model, WindowConfig(), batching)  # type: ignore[arg-type]


def test_int8_needs_gold_answers(toy, model, cache, tmp_path):
    words: dict[str, Any] = dict(model_name_or_path=model, output_dir=tmp_path / "graph")
    assert "--int8 needs --validation_file" in message(started(cache, int8="True", **words))
    found = message(started(cache, dtype="bfloat16", **words))
    assert "--dtype bfloat16: a graph is exported in float32" in found


def test_what_is_not_an_export_is_not_replaced(toy, model, cache, tmp_path):
    """A folder with a file of somebody's, the model's own folder, a link. Breaks if it is deleted."""
    other = tmp_path / "notes"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(other)
    for output, expected in (
        (other, "is not empty and not a former export"),
        (model, "is not empty and not a former export"),
        (link, "expected the name of a folder, not a link"),
    ):
        assert expected in message(started(cache, model_name_or_path=model, output_dir=output))
    assert (other / "notes.txt").read_text() == "mine" and (model / "model.safetensors").is_file()


def test_a_model_without_a_head_is_refused(toy, cache, tmp_path):
    found = message(started(cache, model_name_or_path=toy.untrained, output_dir=tmp_path / "graph"))
    assert "qa_outputs" in found and list(tmp_path.iterdir()) == []
    found = message(started(cache, model_name_or_path=tmp_path / "nowhere", output_dir=tmp_path / "graph"))
    assert "there is no such folder" in found


def test_several_processes_are_refused(toy, model, cache, tmp_path):
    found = started(cache, processes=2, model_name_or_path=model, output_dir=tmp_path / "graph")
    assert "an export is made by one process" in message(found)


@pytest.mark.slow
def test_a_folder_with_an_adapter_is_exported_with_it(trainer, cache, tmp_path):
    """Breaks if the graph is that of the base model."""
    trainer.whole(tmp_path / "run", lora_r=2, max_train_steps=2)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    left = started(cache, model_name_or_path=tmp_path / "run", output_dir=tmp_path / "graph")
    assert left.code == 0, left.output
    windows = WindowConfig(**WINDOWS)
    pair = ("Where was Ada born?", "Ada was born in Lima .")
    merged, graph = (
        Reader(tmp_path / "run", windows=windows),
        Reader(tmp_path / "graph", backend="onnx", windows=windows),
    )
    base = Reader(trainer.toy.model, windows=windows)
    logits = [reader.answer(*pair)["nbest"][0]["start_logit"] for reader in (merged, graph, base)]
    assert logits[1] == pytest.approx(logits[0], abs=1e-4) and abs(logits[0] - logits[2]) > 1e-3


def large_script(words: list[str]) -> None:
    """As if a file of ONNX could hold 10 kB and not 2 GB."""
    from torch.onnx._internal.exporter import _onnx_program

    _onnx_program._LARGE_MODEL_THRESHOLD = 10_000
    script(words, 100.0)


@pytest.mark.slow
@pytest.mark.parametrize("int8", [(), ("--int8",)])
def test_weights_that_one_file_cannot_hold_are_in_a_second_one(toy, model, cache, tmp_path, int8):
    """Breaks if the second file is not found beside the graph, or one of the graph in fp32 is left behind."""
    output = tmp_path / "graph"
    words = flags(model_name_or_path=model, validation_file=toy.train, output_dir=output, cache_dir=cache, **WINDOWS)
    [left] = run(large_script, [*words, *int8])
    assert left.code == 0, left.output
    data = [path.name for path in output.iterdir() if path.name.endswith(".data")]
    assert data == ["model.onnx.data"] and not (output / "float32.onnx").exists()
    moved = output.rename(tmp_path / "elsewhere")
    reader = Reader(moved, backend="onnx", windows=WindowConfig(**WINDOWS))
    assert reader.answer("Where was Ada born?", "Ada was born in Lima .")["nbest"]
    assert len(reader.qa.session.files) == 2
    (moved / "model.onnx.data").unlink()
    with pytest.raises(ValueError, match="cannot be loaded by onnxruntime"):
        Reader(moved, backend="onnx")
