"""Damages of model folders, and how a damaged folder is loaded and its message judged."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qa_accel.data.settings import WindowConfig
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.qa_model import load_tokenizer_and_config
from qa_accel.models import loading
from qa_accel.models.settings import ModelConfig

WINDOWS = WindowConfig(max_seq_length=64, doc_stride=16, max_query_length=24)


def load(folder: Path | str, *, trained: bool = True) -> Any:
    settings = ModelConfig(str(folder))
    tokenizer, config = load_tokenizer_and_config(settings, WINDOWS)
    AnswerPolicy.of_model(config, settings.model_name_or_path)
    return loading.load_model(settings, config, tokenizer, trained=trained)


Damage = Callable[[Path], object]


def text(name: str, content: str) -> Damage:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def raw(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def keys(name: str, **values: Any) -> Damage:
    """Sets keys of a JSON file; None removes one."""

    def damage(folder: Path) -> None:
        found = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return damage


def config(**values: Any) -> Damage:
    return keys("config.json", **values)


def cut(name: str, size: int | float) -> Damage:
    """Keeps so many bytes, or that share of them."""

    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: size if isinstance(size, int) else int(len(content) * size)])

    return damage


def fifo(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def weights(change: Callable[[dict[str, torch.Tensor]], object], name: str = "model.safetensors") -> Damage:
    def damage(folder: Path) -> None:
        found = load_file(folder / name)
        change(found)
        save_file(found, folder / name, metadata={"format": "pt"})

    return damage


class Payload:
    """Unpickled by a reader that trusts, it leaves a file."""

    def __init__(self, mark: str):
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch '{self.mark}'",))


def payload(name: str, replaced: str, *, zipped: bool = False) -> Damage:
    def damage(folder: Path) -> None:
        (folder / replaced).unlink()
        content = pickle.dumps({"qa_outputs.weight": Payload(f"{folder}/../RAN")})
        if not zipped:
            (folder / name).write_bytes(content)
            return
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3\n")

    return damage


def sharded(index: Any) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        content = index if isinstance(index, str) else json.dumps(index)
        (folder / "model.safetensors.index.json").write_text(content)

    return damage


DEEP = "[" * 100_000 + "]" * 100_000


def one_message(action: Callable[[], object], folder: Path | str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        action()
    shown = str(refused.value)
    assert repr(str(folder)) in shown and len(shown) < 1200, shown
    assert shown.isprintable(), shown
    assert "above report" not in shown and "weights_only" not in shown, shown
