"""A checkpoint's folder -> its states, without running code that its files name.

FSDP2 and DeepSpeed write pickled objects, and a pickle may call any function when it is read. `problem_of` reads every
pickle beforehand, restricted to what a run saves, for one message on all ranks. `restricted` restricts the reads of
accelerate, torch and DeepSpeed themselves, so that a file that is exchanged in between runs nothing either.
"""

import os
import pickle
import random
import re
import types
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
import torch
from accelerate.utils import other as accelerate_files

from qa_accel.messages import short

WITHOUT_OBJECTS, WITH_OBJECTS = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""Variables by which torch.load overrides what its caller asks for."""
METADATA = ".metadata"
"""Index of a folder of torch.distributed.checkpoint (FSDP2), a plain pickle."""
RANDOM_STATES = "random_states_{rank}.pkl"
"""accelerate's name for the states of one rank's random generators."""
_GLOBAL = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")
_DATA_CLASSES = {
    f"torch.distributed.checkpoint.{name}"
    for name in (
        "filesystem._StorageInfo",
        "metadata.BytesStorageMetadata",
        "metadata.ChunkStorageMetadata",
        "metadata.Metadata",
        "metadata.MetadataIndex",
        "metadata.StorageMeta",
        "metadata.TensorProperties",
        "metadata.TensorStorageMetadata",
    )
}
_IN_METADATA = _DATA_CLASSES | {
    "collections.OrderedDict",
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",  # its name in Python 3.13
    "torch.Size",
    "torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING",
    "torch.serialization._get_layout",
    *(f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
}
"""Exact names: a module has functions that load or run other things (torch.hub.load)."""


class ForeignObject(pickle.UnpicklingError):
    """A pickle names an object that no checkpoint of a run contains."""


class _MetadataUnpickler(pickle._Unpickler):
    """Builds an index out of its own classes only. In Python, as the one in C has no place for the second check."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _IN_METADATA:
            raise ForeignObject(f"GLOBAL {module}.{name} was not an allowed global")
        return super().find_class(module, name)

    def load_build(self) -> None:
        made = type(self.stack[-2])  # type: ignore[attr-defined]
        if f"{made.__module__}.{made.__qualname__}" not in _DATA_CLASSES:  # it would change a class or a function
            raise ForeignObject(f"the state of a {made.__qualname__} is set")
        super().load_build()  # type: ignore[misc]

    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}  # type: ignore[attr-defined]


def _load_metadata(file: IO[bytes]) -> Any:
    return _MetadataUnpickler(file).load()


@contextmanager
def restricted(classes: Sequence[type] = ()) -> Iterator[None]:
    """While this is open, every torch.load builds tensors, plain values and `classes` only, whatever its caller asks for.

    So does FSDP2's reader of `.metadata`, which calls pickle itself. Anything else raises pickle.UnpicklingError.
    """
    from torch.distributed.checkpoint import filesystem

    former = {name: os.environ.pop(name) for name in (WITH_OBJECTS, WITHOUT_OBJECTS) if name in os.environ}
    os.environ[WITHOUT_OBJECTS] = "1"
    reader: Any = filesystem
    reader.pickle = types.SimpleNamespace(**vars(pickle) | {"load": _load_metadata})
    try:
        with torch.serialization.safe_globals(list(classes)):
            yield
    finally:
        reader.pickle = pickle
        del os.environ[WITHOUT_OBJECTS]
        os.environ.update(former)


def problem_of(folder: Path, classes: Sequence[type] = ()) -> str | None:
    """Why a checkpoint is not to be loaded, or None. Reads no tensors, and every pickle within `restricted`.

    Random states that are only damaged are none: a run can go on without them.
    """
    with restricted(classes), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a pickle that torch did not write
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if not path.is_file():
                if not path.is_dir():
                    return f"{name} is neither a file nor a folder"
                continue
            try:
                _load_file(path)
            except Exception as error:
                foreign = isinstance(error, ForeignObject) or _GLOBAL.search(str(error))
                if foreign or not _holds_random_states(path):
                    return f"{name}: {reason_of(error)}"
    return None


def _load_file(path: Path) -> None:
    if path.name == METADATA:
        with path.open("rb") as file:
            _load_metadata(file)
    elif _holds_random_states(path):
        load_random_states(path)
    elif path.suffix in (".bin", ".pt", ".pkl"):
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"  # else torch's former format, which cannot be mapped
        torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _holds_random_states(path: Path) -> bool:
    return fnmatch(path.name, RANDOM_STATES.format(rank="*"))


def load_random_states(path: Path) -> dict[str, Any]:
    """What accelerate wrote for one rank; its way of loading it allows NumPy's arrays too."""
    return accelerate_files.load(path)


def unrestored_random_states(folder: Path, rank: int) -> str | None:
    """Why this process's generators do not have the states that the checkpoint holds for this rank; None if they do."""
    try:
        saved = load_random_states(folder / RANDOM_STATES.format(rank=rank))
        name, key, *rest = np.random.get_state()
        saved_name, saved_key, *saved_rest = saved["numpy_random_seed"]
        same = random.getstate() == saved["random_state"] and torch.equal(
            torch.get_rng_state(), saved["torch_manual_seed"]
        )
        same = same and (name, rest) == (saved_name, saved_rest) and np.array_equal(key, saved_key)
        if torch.cuda.is_available():
            saved_states, states = saved["torch_cuda_manual_seed"], torch.cuda.get_rng_state_all()
            if len(saved_states) != len(states):
                return f"they are of {len(saved_states)} GPUs, and this process has {len(states)}"
            same = same and all(map(torch.equal, states, saved_states))
    except Exception as error:
        return reason_of(error)
    return None if same else "accelerate could not set them"


def reason_of(error: BaseException) -> str:
    """The part of an error of torch, DeepSpeed or the disk that says what is wrong, in one line."""
    text = str(error)
    if found := _GLOBAL.search(text):
        return f"contains the object {short(found[1])}, which could run code"
    if found := re.search(r"WeightsUnpickler error:\s*(.+)", text):
        return f"is not what a run saves ({short(found[1])})"
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"{short(Path(os.fsdecode(error.filename)).name)} is missing"
    return short(f"{type(error).__name__}: {text}".partition("\n")[0])
