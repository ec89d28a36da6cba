"""predict.py --compile: the answers of the model as it is, and what it cannot be combined with."""

import json
from pathlib import Path
from typing import Any

import pytest
from processes import run
from toy import WINDOWS, flags

from qa_accel import config
from qa_accel.commands import predict
from qa_accel.distributed import entry
from qa_accel.training.compile import graphs_compiled


def script(words: list[str]) -> None:
    def work() -> None:
        predict.run(config.parse(predict.PredictConfig, words))
        print(f"graphs: {graphs_compiled()}", flush=True)

    entry.main(work)


def predicted(toy: Any, folder: Path, **settings: Any) -> tuple[dict[str, str], dict[str, float], int]:
    """Predictions, null odds, graphs that were compiled."""
    usual = dict(model_name_or_path=toy.model, validation_file=toy.dev, cache_dir=folder.parent / "cache")
    words = flags(**usual, output_dir=folder, per_device_eval_batch_size=8, **WINDOWS, **settings)
    (left,) = run(script, words)
    assert left.code == 0, left.output
    texts, odds = (json.loads((folder / name).read_text()) for name in ("predictions.json", "null_odds.json"))
    return texts, odds, int(left.output.split("graphs: ")[1].split()[0])


@pytest.mark.parametrize("batching", ["padded", pytest.param("packed", marks=pytest.mark.slow)])
def test_a_compiled_model_gives_the_answers_of_the_model_as_it_is(toy, tmp_path, batching):
    """Breaks if what is compiled drops tokens or keeps dropout, and if each length of a batch is compiled again: padded, one
    graph for batches and one for a window alone; packed, one for full batches and one for those with a window less."""
    texts, odds, graphs = predicted(toy, tmp_path / "plain", batching=batching)
    assert graphs == 0
    compiled_texts, compiled_odds, graphs = predicted(toy, tmp_path / "compiled", batching=batching, compile=True)
    assert 1 <= graphs <= 2
    assert compiled_texts == texts
    assert compiled_odds == pytest.approx(odds, abs=1e-3)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"backend": "onnx"}, "--backend onnx"),
        ({"save_logits": True}, "--save_logits keeps"),
        ({"shard_output": True}, "--compile is for one file"),
    ],
)
def test_what_does_not_go_with_it_is_refused(other, message, capsys):
    words = flags(model_name_or_path="m", test_file="f.json", output_dir="o", compile=True, **other)
    with pytest.raises(SystemExit):
        config.parse(predict.PredictConfig, words)
    assert message in capsys.readouterr().err
