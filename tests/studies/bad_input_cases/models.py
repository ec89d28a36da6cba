"""Model folders that are damaged, odd or hostile, given to `predict` and `train`."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bad_input_cases.case import (
    PAYLOAD,
    Accepted,
    Case,
    Either,
    Expected,
    Place,
    Refused,
    anything,
    predicts_as_usual,
    says,
    trains,
)

FOLDER = "broken-model"
"""Of a model in a case's folder: a refusal must name it."""
NAMED = Refused(FOLDER)
Damage = Callable[[Path], Any]


def model_case(
    name: str,
    damage: Damage,
    expected: Expected = NAMED,
    *,
    train: Expected | None = None,
    also_train: bool = False,
    given: str = FOLDER,
    **settings: Any,
) -> list[Case]:
    """`predict` with a copy of the toy's model that `damage` has changed; `train` too where it is asked for."""

    def copied(place: Place) -> None:
        damage(place.copy(place.base.toy.model, FOLDER))

    def predict(place: Place):
        copied(place)
        return place.predict(model_name_or_path=given, **settings)

    def trained(place: Place):
        copied(place)
        return place.train(model_name_or_path=given, **settings)

    made = [Case("model", f"{name} (predict)", predict, expected)]
    if also_train or train:
        made.append(Case("model", f"{name} (train)", trained, train or expected))
    return made


def config(**changes: Any) -> Damage:
    return lambda folder: edit(folder / "config.json", **changes)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


def without(name: str, key: str) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        content.pop(key)
        (folder / name).write_text(json.dumps(content))

    return damage


def content(name: str, written: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(written)


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def replaced(name: str, make: Callable[[Path], Any]) -> Damage:
    """Something else under the file's name."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


DEEP = b"[" * 100_000 + b"]" * 100_000


def configs() -> list[Case]:
    made: list[Case] = []
    name = "config.json"
    contents = {
        "broken": b'{"model_type": "bert"',
        "empty": b"",
        "NULs": bytes(600),
        "a list": b"[]",
        "null": b"null",
        "a string": b'"bert"',
        "an empty object": b"{}",
        "deep": DEEP,
        "not UTF-8": b'{"model_type": "b\xff"}',
        "UTF-16": '{"model_type": "bert"}'.encode("utf-16"),
        "integer of 5,000 digits": b'{"model_type": "bert", "hidden_size": ' + b"1" * 5000 + b"}",
    }
    for what, written in contents.items():
        made += model_case(f"config {what}", content(name, written), also_train=what in ("broken", "empty", "a list"))
    made += model_case("config missing", gone(name), also_train=True)
    made += model_case("config a folder", replaced(name, lambda path: path.mkdir()))
    made += model_case("config a FIFO", replaced(name, os.mkfifo))
    fields: dict[str, dict[str, Any]] = {
        "hidden size text": dict(hidden_size="32"),
        "hidden size negative": dict(hidden_size=-32),
        "hidden size 0": dict(hidden_size=0),
        "hidden size null": dict(hidden_size=None),
        "hidden size 32.5": dict(hidden_size=32.5),
        "layers negative": dict(num_hidden_layers=-1),
        "layers text": dict(num_hidden_layers="2"),
        "layers null": dict(num_hidden_layers=None),
        "heads 0": dict(num_attention_heads=0),
        "heads do not divide": dict(num_attention_heads=3),
        "activation unknown": dict(hidden_act="magic"),
        "activation a number": dict(hidden_act=3),
        "positions 0": dict(max_position_embeddings=0),
        "positions negative": dict(max_position_embeddings=-5),
        "positions text": dict(max_position_embeddings="128"),
        "positions 16": dict(max_position_embeddings=16),
        "vocabulary 0": dict(vocab_size=0),
        "vocabulary text": dict(vocab_size="many"),
        "vocabulary negative": dict(vocab_size=-1),
        "dropout 5": dict(hidden_dropout_prob=5),
        "dropout text": dict(hidden_dropout_prob="much"),
        "epsilon text": dict(layer_norm_eps="small"),
        "pad token huge": dict(pad_token_id=10**12),
        "pad token text": dict(pad_token_id="[PAD]"),
        "token types 0": dict(type_vocab_size=0),
        "model type unknown": dict(model_type="nobodys-model"),
        "model type a number": dict(model_type=3),
        "model type null": dict(model_type=None),
        "model type of a generator": dict(model_type="gemma"),
        "model type of pages": dict(model_type="layoutlm"),
        "model type of another family": dict(model_type="t5"),
        "dtype garbage": dict(dtype="float7"),
        "quantization garbage": dict(quantization_config={"quant_method": "magic"}),
        "quantization a string": dict(quantization_config="4bit"),
        "answer policy a list": dict(answer_policy=[1]),
        "answer policy text": dict(answer_policy={"null_score_diff_threshold": "low"}),
        "threshold text": dict(null_score_diff_threshold="low"),
        "threshold true": dict(null_score_diff_threshold=True),
        "threshold Infinity": dict(null_score_diff_threshold=float("inf")),
        "threshold nan": dict(null_score_diff_threshold=float("nan")),
        "threshold of 400 digits": dict(null_score_diff_threshold=10**400),
        "answer policy Infinity": dict(answer_policy={"null_score_diff_threshold": float("inf")}),
    }
    for what, changes in fields.items():
        made += model_case(f"config {what}", config(**changes), _expected(what))
    shapes = Refused(FOLDER, "bert.embeddings.word_embeddings.weight", "32", "48")
    vocabulary = Refused(FOLDER, "bert.embeddings.word_embeddings.weight")
    made += model_case(
        "config hidden size another", config(hidden_size=48, num_attention_heads=2), shapes, also_train=True
    )
    made += model_case("config vocabulary larger", config(vocab_size=5000), vocabulary, also_train=True)
    made += model_case("config layers one more", config(num_hidden_layers=3), NAMED)
    made += model_case("config layers one less", config(num_hidden_layers=1), Either(anything, (FOLDER,)))
    made += model_case("config intermediate size another", config(intermediate_size=80), NAMED)
    made += model_case(
        "config labels odd", config(id2label={"0": 3}, label2id="x"), Either(predicts_as_usual, (FOLDER,))
    )
    made += model_case("config unknown keys", config(note={"by": [1]}, answers=3), Accepted(predicts_as_usual))
    made += model_case("config architectures odd", config(architectures=[3]), Either(predicts_as_usual, (FOLDER,)))
    made += model_case(
        "config architectures of another head", config(architectures=["BertForMaskedLM"]), Accepted(predicts_as_usual)
    )
    made += model_case(
        "config answer policy of unknown keys", config(answer_policy={"later": 1}), Accepted(says("later"))
    )
    return made


def _expected(what: str) -> Expected:
    """Fields that change nothing of what is computed may be passed over."""
    harmless = (
        "dropout",
        "layers null",
        "dtype",
        "epsilon",
        "pad token",
        "positions 0",
        "positions negative",
        "positions text",
        "model type null",
    )
    if what.startswith(harmless):
        return Either(predicts_as_usual, (FOLDER,))
    if what == "positions 16":
        return Refused(FOLDER, "max_seq_length")
    return NAMED


# --- weights


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


class Payload:
    """Unpickled, it writes a file into the working folder, which is the case's."""

    def __reduce__(self):
        return (os.mkdir, (PAYLOAD,))


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


def weights() -> list[Case]:
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
        made += model_case(f"weights {what}", damage, expected, also_train=True)
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
        "a tensor of nan": (tensors(lambda w: w.update({key: w[key] * float("nan")})), Refused("finite")),
        "an infinite tensor": (tensors(lambda w: w.update({"qa_outputs.bias": w["qa_outputs.bias"] + float("inf")})), Refused("finite")),
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


# --- tokenizers


def tokenizers() -> list[Case]:
    name, made = "tokenizer.json", []
    contents = {
        "empty object": b"{}",
        "empty": b"",
        "broken": b'{"version": "1.0", ',
        "a list": b"[]",
        "null": b"null",
        "deep": DEEP,
        "random": bytes(range(256)),
        "of an unknown model": b'{"version": "1.0", "added_tokens": [], "model": {"type": "Magic"}}',
        "without vocabulary": b'{"version": "1.0", "added_tokens": [], "model": {"type": "WordPiece", "vocab": {}}}',
    }
    for what, written in contents.items():
        made += model_case(
            f"tokenizer.json {what}", content(name, written), also_train=what in ("empty object", "broken")
        )
    made += model_case("tokenizer.json missing", gone(name), Either(anything, (FOLDER,)))
    made += model_case("tokenizer.json a folder", replaced(name, lambda path: path.mkdir()))
    made += model_case("tokenizer.json a FIFO", replaced(name, os.mkfifo))
    settings = "tokenizer_config.json"
    for what, written in {"a list": b"[]", "broken": b"{", "deep": DEEP, "null": b"null"}.items():
        made += model_case(f"tokenizer_config {what}", content(settings, written))
    made += model_case("tokenizer_config missing", gone(settings), Either(anything, (FOLDER,)))
    fields: dict[str, tuple[dict[str, Any], Expected]] = {
        "of an unknown class": (dict(tokenizer_class="MagicTokenizer"), Either(predicts_as_usual, (FOLDER,))),
        "class a number": (dict(tokenizer_class=3), Either(predicts_as_usual, (FOLDER,))),
        "length text": (dict(model_max_length="long"), Either(predicts_as_usual, (FOLDER,))),
        "length negative": (dict(model_max_length=-1), Either(predicts_as_usual, (FOLDER,))),
        "length 0": (dict(model_max_length=0), Either(predicts_as_usual, (FOLDER,))),
        "length huge": (dict(model_max_length=10**30), Accepted(predicts_as_usual)),
        "inputs text": (dict(model_input_names="input_ids"), Either(anything, (FOLDER,))),
        "pad token a number": (dict(pad_token=3), Either(predicts_as_usual, (FOLDER,))),
        "pad token null": (dict(pad_token=None), Either(anything, (FOLDER,))),
        "padding side unknown": (dict(padding_side="above"), Either(anything, (FOLDER,))),
        "special tokens a list": (dict(special_tokens_map=[1], extra_special_tokens=3), Either(predicts_as_usual, (FOLDER,))),
        "code": (dict(auto_map={"AutoTokenizer": ["code.Code", "code.Code"]}), Either(predicts_as_usual, (FOLDER,))),
    }  # fmt: skip
    for what, (changes, expected) in fields.items():
        made += model_case(f"tokenizer_config {what}", lambda folder, c=changes: edit(folder / settings, **c), expected)
    made += model_case(
        "tokenizer of more tokens than the model", more_tokens, Refused("tokenizer_name"), also_train=True
    )
    made += model_case(
        "tokenizer_name missing", lambda folder: None, Refused("nowhere"), also_train=True, tokenizer_name="nowhere"
    )
    made += model_case(
        "tokenizer_name a file", lambda folder: None, Refused("config.json"), tokenizer_name=f"{FOLDER}/config.json"
    )
    return made


def more_tokens(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"##new{number}": len(vocabulary) + number for number in range(500)}
    (folder / "tokenizer.json").write_text(json.dumps(content))


# --- the folder itself, and code in it

CODE = f"import os\nos.mkdir({PAYLOAD!r})\nclass Code:\n    pass\n"


def code(**changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "code.py").write_text(CODE)
        edit(folder / "config.json", **changes)

    return damage


def folders() -> list[Case]:
    made: list[Case] = []

    def emptied(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    def named(name: str) -> Damage:
        return lambda folder: os.rename(folder, os.path.join(os.fsencode(folder.parent), os.fsencode(name)))

    missing: dict[str, tuple[str, str]] = {
        "missing": ("nowhere/at-all", "nowhere/at-all"),
        "a file": (f"{FOLDER}/config.json", "config.json"),
        "a name that the hub cannot have": ("a/b/c/d", "a/b/c/d"),
        "empty name": ("", "model_name_or_path"),
        "blank name": ("  ", "model"),
        "name of markup": ("[/]", "[/]"),
        "name with a line break": ("no\nmodel", "model"),
        "name with escape sequences": ("no\x1b[31mmodel", "model"),
        "name of 5,000 letters": ("a" * 5000, "model"),
        "name not UTF-8": ("no\udcffmodel", "model"),
        "a device": ("/dev/zero", "/dev/zero"),
        "a link to itself": ("loop", "loop"),
    }
    for what, (given, word) in missing.items():
        damage: Damage = (
            (lambda folder: (folder.parent / "loop").symlink_to("loop")) if given == "loop" else (lambda folder: None)
        )
        made += model_case(f"folder {what}", damage, Refused(word), given=given, also_train=what == "missing")
    made += model_case("folder empty", emptied, also_train=True)
    for what, name in {
        "markup": "[/]model[red]",
        "a line break": "mo\ndel",
        "not UTF-8": "mo\udcffdel",
        "blanks and quotes": " m'o\"d ",
    }.items():
        made += model_case(
            f"a sound folder, named with {what}",
            named(name),
            Accepted(predicts_as_usual),
            train=Accepted(trains),
            given=name,
        )
    made += model_case(
        "model_revision garbage",
        lambda folder: None,
        Either(predicts_as_usual, ("model_revision",)),
        model_revision="[/] no",
    )
    heads = {"AutoModelForQuestionAnswering": "code.Code"}
    made += model_case("code in the config", code(auto_map={"AutoConfig": "code.Code"}, model_type="own"))
    made += model_case("code in the head", code(auto_map=heads), Either(predicts_as_usual, (FOLDER,)))
    made += model_case(
        "code in another repository", code(auto_map={"AutoConfig": "nobody/none--code.Code"}, model_type="own")
    )
    made += model_case("code for generation", code(custom_generate="code.py"), Accepted(predicts_as_usual))
    return made


def cases() -> list[Case]:
    return configs() + weights() + tokenizers() + folders()
