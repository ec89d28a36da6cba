"""A model's name or folder -> a refusal in one message, whatever its files hold.

Libraries raise anything on a damaged file: KeyError, RecursionError, SafetensorError, an OSError without a path. `reading`
turns what they raise into one ValueError that names the model, the damaged file if it can be found, and the way out.
"""

import json
import os
import pickle
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from qa_accel.messages import one_line, quoted, short
from qa_accel.run_layout import ENSEMBLE

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHTS = ("model.safetensors", INDEXES[0], "pytorch_model.bin", INDEXES[1])
"""In the order in which transformers looks for them; only the first that is there is read."""
NEEDED_KEY = {"config.json": "model_type", "tokenizer.json": "model"}
JSON_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
)


def check_name(name: Any, setting: str = "--model_name_or_path") -> None:
    """Raises ValueError for what is no name, and for files that would be read without an end."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{setting} {name!r}: expected the folder of a model, or its name on the Hugging Face hub")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{setting} {name!r}: this name is not UTF-8, and the libraries that read tokenizers and weights take no such "
            "path; rename the folder, or make a link to it"
        ) from None
    if "\0" in name:
        raise ValueError(f"{setting} {name!r}: no path has such a character")
    folder = Path(name)
    try:
        folder.exists()
    except OSError as error:  # a name of 300 letters, a parent folder of another user
        raise ValueError(f"{setting} {quoted(name)}: {error.strerror}") from error
    if folder.is_file():
        raise ValueError(
            f"{setting} {name!r}: this is a file; expected the folder that holds config.json and the weights"
        )
    if not folder.is_dir() and (folder.is_absolute() or name.startswith((".", "~"))):
        raise ValueError(f"{setting} {name!r}: there is no such folder")
    if (folder / ENSEMBLE).is_file() and not (folder / "config.json").exists():
        raise ValueError(
            f"{setting} {name!r}: this is an ensemble of models (it holds {ENSEMBLE}), which only Reader, ask and serve load: answer "
            "a file with each member by scripts/predict.py, and join the answers by scripts/ensemble.py"
        )
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.exists() and not (path.is_file() or path.is_dir()):
            kind = "a FIFO" if stat.S_ISFIFO(path.stat().st_mode) else "a device or a socket"
            raise ValueError(f"{name!r}: {path.name!r} is {kind}, not a file; remove it, or save the model again")


@contextmanager
def reading(what: str, name: str) -> Iterator[None]:
    """For the call of a library and nothing else: whatever it raises becomes a ValueError about this model."""
    try:
        yield
    except Exception as error:
        reason, remedy = _explained(error, Path(name))
        raise ValueError(f"{what} {name!r} cannot be loaded: {reason}; {remedy}") from error


def damaged_json(folder: Path) -> str | None:
    """The first JSON file of a model that is not a mapping, or lacks what every reader needs; None if there is none."""
    for name in JSON_FILES:
        if (folder / name).is_file():
            try:
                _mapping(folder / name, NEEDED_KEY.get(name))
            except ValueError as error:
                return str(error)
    return None


def check_not_exported(name: str) -> None:
    """Raises ValueError for a folder that holds a graph of scripts/export.py in place of weights."""
    check_name(name)
    folder = Path(name)
    if (folder / "model.onnx").is_file() and not any((folder / file).is_file() for file in WEIGHTS):
        raise ValueError(
            f"{name!r} holds model.onnx and no weights for torch: give --backend onnx to scripts/predict.py, or backend='onnx' to "
            "a Reader; whatever else is to be done with the model needs the folder that it was exported from"
        )


def check_weights(name: str) -> None:
    """Raises ValueError for a shard index that leads nowhere or out of the folder, and for a file that was cut."""
    folder = Path(name)
    found = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if found is None:  # transformers names what it looked for; or a name on the hub
        return
    try:
        shards = _shards(found) if found.name in INDEXES else [found]
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}; download or save the model again") from error
    for path in shards:
        if path.suffix == ".safetensors":
            with reading(f"{path.name!r} of model", name), safe_open(path, "pt") as file:  # reads the header only
                file.keys()


def mapping(folder: Path | str, name: str) -> dict[str, Any]:
    """A JSON file of a model. Raises ValueError, with the folder, if it is not a mapping."""
    try:
        return _mapping(Path(folder, name))
    except ValueError as error:
        raise ValueError(f"{str(folder)!r}: {error}; download or save the model again") from error


def _explained(error: Exception, folder: Path) -> tuple[str, str]:
    """What is wrong, and the way out."""
    text = one_line(str(error).partition("For details look at")[0]).rstrip(" .;:")  # at a report that is silenced
    if not isinstance(error, OSError | ValueError) or not text:
        text = f"{type(error).__name__}: {text}"
    if "trust_remote_code" in str(error):
        return "it has code of its own", "read that code, then give --trust_remote_code to run it"
    if isinstance(error, pickle.UnpicklingError):  # torch advises to load it all the same
        reason = (
            "its weights are a pickle that is damaged or holds more than tensors, which could run code and is not read"
        )
        return reason, "take the model as model.safetensors"
    if not folder.is_dir():
        return text, (
            "there is no folder of this name here, so it was taken as a name on the Hugging Face hub: check the spelling "
            "and the network, or give a folder"
        )
    remedy = "a file of the folder is damaged or has a wrong value: correct it, or download or save the model again"
    return damaged_json(folder) or text, remedy


def _mapping(path: Path, key: str | None = None) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} is broken JSON at line {error.lineno}: {error.msg}") from None
    except (ValueError, OSError) as error:  # an integer of 5,000 digits; a file of another user
        raise ValueError(f"{path.name} cannot be read: {one_line(str(error))}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} holds {short(repr(found))}; a mapping is expected")
    if key is not None and key not in found:
        raise ValueError(f"{path.name} has no {key!r}")
    return found


def _shards(index: Path) -> list[Path]:
    files = _mapping(index, "weight_map")["weight_map"]
    names = files.values() if isinstance(files, dict) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{index.name} has no mapping from tensors to files under 'weight_map'")
    for name in sorted(set(names)):
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise ValueError(f"{index.name} names {quoted(name)}, which is not in the folder")
        if not (index.parent / name).is_file():
            raise ValueError(f"{quoted(name)}, which {index.name} names, is missing")
    return [index.parent / name for name in sorted(set(names))]
