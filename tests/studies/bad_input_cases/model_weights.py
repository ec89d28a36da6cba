"""Weights that are cut, of other shapes, not there, or pickles that would run code."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bad_input_cases.case import (
    Accepted,
    Case,
    Either,
    Expected,
    Refused,
    anything,
    predicts_as_usual,
    trains,
)
from bad_input_cases.model_damage import (
    DEEP,
    FOLDER,
    NAMED,
    Damage,
    Payload,
    content,
    gone,
    model_case,
    replaced,
)


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(
            {name: weight.contiguous() for name, weight in weights.items()},
            folder / "model.safetensors",
            {"format": "pt"},
        )

    return damage


def cut(share: float) -> Damage:
    def damage(folder: Path) -> None:
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: int(len(whole) * share)])

    return damage


def flip_header(folder: Path) -> None:
    whole = bytearray((folder / "model.safetensors").read_bytes())
    whole[60] ^= 0xFF
    (folder / "model.safetensors").write_bytes(bytes(whole))


def as_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def index(written: Any) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_bytes(
            written if isinstance(written, bytes) else json.dumps(written).encode()
        )

    return damage


def pickled(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink(missing_ok=True)
        (folder / name).write_bytes(pickle.dumps({"weight": Payload()}))

    return damage


def pickled_in_zip(name: str) -> Damage:
    """As torch.save writes it."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink(missing_ok=True)
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps({"weight": Payload()}, protocol=2))
            file.writestr("archive/version", "3\n")
            file.writestr("archive/byteorder", "little")

    return damage


def remove_head(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if name.startswith("qa_outputs")]:
        del weights[name]


def cases() -> list[Case]:
    file, made = "model.safetensors", []
    head = Refused(FOLDER, "qa_outputs.weight")
    first, key = "bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight"
    damages: dict[str, tuple[Damage, Expected]] = {
        "missing": (gone(file), NAMED),
        "empty": (content(file, b""), NAMED),
        "cut": (cut(0.6), NAMED),
        "cut by a byte": (lambda folder: content(file, (folder / file).read_bytes()[:-1])(folder), NAMED),
        "cut in header": (cut(0.003), NAMED),
        "eight bytes": (content(file, bytes(8)), NAMED),
        "wrong shapes": (tensors(lambda w: w.update({first: w[first][:, :16]})), Refused(FOLDER, first, "16", "32")),
        "head of wrong shape": (tensors(lambda w: w.update({"qa_outputs.weight": torch.zeros(3, 32)})), Refused(FOLDER, "qa_outputs.weight", "3", "2")),
    }  # fmt: skip
    for what, (damage, expected) in damages.items():
        trained = Accepted(trains) if what == "head of wrong shape" else None  # a new head is made
        made += model_case(f"weights {what}", damage, expected, train=trained, also_train=True)
    others: dict[str, tuple[Damage, Expected]] = {
        "header flipped": (flip_header, NAMED),
        "huge header": (content(file, struct.pack("<Q", 2**62) + b"{}" + bytes(99)), NAMED),
        "random": (content(file, bytes(range(256)) * 99), NAMED),
        "a pointer of Git LFS": (content(file, b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"), NAMED),
        "a web page": (content(file, b"<!DOCTYPE html><html><body>404 Not Found</body></html>"), NAMED),
        "deep header": (content(file, struct.pack("<Q", len(DEEP)) + DEEP), NAMED),
        "a folder": (replaced(file, lambda path: path.mkdir()), NAMED),
        "a FIFO": (replaced(file, os.mkfifo), NAMED),
        "a link to nothing": (replaced(file, lambda path: path.symlink_to("nowhere")), NAMED),
        "without one tensor": (tensors(lambda w: w.pop(key)), Refused(FOLDER, key)),
        "without any tensor": (tensors(lambda w: w.clear()), NAMED),
        "with one tensor more": (tensors(lambda w: w.update(more=torch.zeros(2))), Accepted(predicts_as_usual)),
        "a tensor of integers": (tensors(lambda w: w.update({key: w[key].long()})), Either(anything, (FOLDER,))),
        "a tensor of nan": (tensors(lambda w: w.update({key: w[key] * float("nan")})), Refused(key, "nan")),
        "an infinite tensor": (tensors(lambda w: w.update({"qa_outputs.bias": w["qa_outputs.bias"] + float("inf")})), Refused("qa_outputs.bias", "infinity")),
        "a tensor of other axes": (tensors(lambda w: w.update({key: w[key].reshape(-1)})), Refused(FOLDER, key)),
        "as a pickle of torch": (as_bin, Accepted(predicts_as_usual)),
        "shard index broken": (index(b"{"), NAMED),
        "shard index a list": (index([1]), NAMED),
        "shard index deep": (index(DEEP), NAMED),
        "shard index empty object": (index({}), NAMED),
        "shard missing": (index({"metadata": {}, "weight_map": {key: "model-00001-of-00002.safetensors"}}), NAMED),
        "shard outside of the folder": (index({"metadata": {}, "weight_map": {key: "../../../etc/passwd"}}), NAMED),
        "pickle garbage": (lambda folder: (gone(file)(folder), content("pytorch_model.bin", b"\x80\x04garbage")(folder)), NAMED),
    }  # fmt: skip
    for what, (damage, expected) in others.items():
        made += model_case(f"weights {what}", damage, expected)
    made += model_case("head missing", tensors(remove_head), head, train=Accepted(trains))
    made += model_case("pickle bomb", pickled("pytorch_model.bin"), also_train=True)
    made += model_case("pickle bomb in torch's zip", pickled_in_zip("pytorch_model.bin"), also_train=True)
    made += model_case("a pickle under the name of safetensors", pickled(file))
    return made
