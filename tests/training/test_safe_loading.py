"""No pickle of a checkpoint runs code: neither when the files are looked through, nor when the libraries load them."""

import contextlib
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hostile import PICKLES, as_former_format, as_zip
from processes import call
from torch.distributed.checkpoint import FileSystemReader, metadata

from qa_accel.training import safe_loading

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")

FORMATS = {"plain": bytes, "zip": as_zip, "former": as_former_format}
CASES = [(kind, form) for kind in PICKLES for form in FORMATS]


def write(kind: str, form: str, mark: Path, path: Path) -> Path:
    path.write_bytes(FORMATS[form](PICKLES[kind](mark)))
    return path


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_each_payload_works_if_nothing_stops_it(kind, form, tmp_path):
    """Otherwise the tests below would pass over payloads that do nothing."""
    path, mark = tmp_path / "file.pt", tmp_path / "ran"
    write(kind, form, mark, path)
    with contextlib.suppress(Exception):  # after it ran
        if form == "plain":
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
    assert mark.is_dir()


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_a_payload_in_a_file_of_torch_is_refused_and_not_run(kind, form, tmp_path):
    """Breaks if a way to name a function is overlooked, or if a caller that asks for any object gets it."""
    path, mark = tmp_path / "pytorch_model" / "mp_rank_00_model_states.pt", tmp_path / "ran"
    path.parent.mkdir()
    write(kind, form, mark, path)
    problem = safe_loading.problem_of(tmp_path)
    assert problem is not None and problem.startswith("pytorch_model/mp_rank_00_model_states.pt: ")
    with safe_loading.restricted(), pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=False)
    assert not mark.exists()


@pytest.mark.parametrize("place", range(5))
def test_a_payload_anywhere_in_the_former_format_is_not_run(place, tmp_path):
    """It is five pickles in a row; breaks if only one of them is read with care."""
    path, mark = tmp_path / "optimizer.bin", tmp_path / "ran"
    path.write_bytes(as_former_format(PICKLES["GLOBAL"](mark), place))
    problem = safe_loading.problem_of(tmp_path)
    assert problem is not None and problem.startswith("optimizer.bin: ")
    with safe_loading.restricted(), pytest.raises((pickle.UnpicklingError, RuntimeError)):
        torch.load(path, weights_only=False)
    assert not mark.exists()


@pytest.mark.parametrize("kind", PICKLES)
def test_a_payload_in_the_index_of_fsdp2_is_refused_and_not_run(kind, tmp_path):
    """torch reads it with pickle itself. Breaks if that read is not replaced."""
    path, mark = tmp_path / ".metadata", tmp_path / "ran"
    write(kind, "plain", mark, path)
    problem = safe_loading.problem_of(tmp_path)
    assert problem is not None and problem.startswith(".metadata: ")
    with safe_loading.restricted(), pytest.raises(pickle.UnpicklingError):
        FileSystemReader(tmp_path).read_metadata()
    assert not mark.exists()
    with contextlib.suppress(Exception):  # what it reads is no index
        FileSystemReader(tmp_path).read_metadata()
    assert mark.exists(), "outside of the restriction the reader is torch's own"


def test_a_pickle_behind_the_index_is_not_read(tmp_path):
    index = metadata.Metadata({}, storage_meta=metadata.StorageMeta())
    (tmp_path / ".metadata").write_bytes(pickle.dumps(index) + PICKLES["GLOBAL"](tmp_path / "ran"))
    assert safe_loading.problem_of(tmp_path) is None
    with safe_loading.restricted():
        assert FileSystemReader(tmp_path).read_metadata().state_dict_metadata == {}
    assert not (tmp_path / "ran").exists()


CHANGED = {
    "a class": "torch.distributed.checkpoint.metadata\nMetadata",
    "a function": "torch.serialization\n_get_layout",
}


@pytest.mark.parametrize("what", CHANGED)
def test_an_index_changes_neither_classes_nor_functions(what, tmp_path):
    """The names are allowed, but their attributes are code: annotations are evaluated by some, for example."""
    build = pickle.NONE + b"}X\x01\x00\x00\x00xK\x01s" + pickle.TUPLE2 + pickle.BUILD + pickle.STOP
    (tmp_path / ".metadata").write_bytes(b"c" + CHANGED[what].encode() + b"\n" + build)
    problem = safe_loading.problem_of(tmp_path)
    assert problem is not None and "the state of a" in problem
    assert not hasattr(metadata.Metadata, "x") and not hasattr(torch.serialization._get_layout, "x")


@pytest.mark.parametrize(
    "name", ["torch.hub\nload", "torch\nload", "builtins\ngetattr", "torch.serialization\nload", "pickle\nloads"]
)
@pytest.mark.parametrize("file", [".metadata", "optimizer.bin"])
def test_harmless_modules_do_not_make_their_other_functions_harmless(name, file, tmp_path):
    """Breaks if modules are allowed instead of names."""
    (tmp_path / file).write_bytes(b"c" + name.encode() + b"\n)R.")
    problem = safe_loading.problem_of(tmp_path)
    assert problem is not None and name.replace("\n", ".").removeprefix("builtins.") in problem


def test_a_fifo_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "optimizer.bin")
    assert safe_loading.problem_of(tmp_path) == "optimizer.bin is neither a file nor a folder"


def test_damaged_random_states_are_no_problem_but_foreign_ones_are(tmp_path):
    path = tmp_path / "random_states_0.pkl"
    path.write_bytes(b"garbage")
    assert safe_loading.problem_of(tmp_path) is None
    path.write_bytes(as_zip(PICKLES["GLOBAL"](tmp_path / "ran")))
    problem = safe_loading.problem_of(tmp_path)
    assert problem is not None and problem.startswith("random_states_0.pkl: contains the object")
    assert not (tmp_path / "ran").exists()


def test_the_restriction_ends_with_its_block(monkeypatch):
    """Breaks if later loads of the program, or its children, stay restricted, or a setting of the user is lost."""
    monkeypatch.setenv(safe_loading.WITH_OBJECTS, "1")
    before = set(torch.serialization.get_safe_globals())
    with safe_loading.restricted([Path]):
        assert os.environ[safe_loading.WITHOUT_OBJECTS] == "1" and safe_loading.WITH_OBJECTS not in os.environ
        assert Path in torch.serialization.get_safe_globals()
    assert safe_loading.WITHOUT_OBJECTS not in os.environ and os.environ[safe_loading.WITH_OBJECTS] == "1"
    assert set(torch.serialization.get_safe_globals()) == before


DRAW = {
    "none": lambda: None,
    "torch": lambda: torch.rand(1),
    "numpy": lambda: np.random.rand(),
    "python": random.random,
}


def compare_states(folder: Path, draw: str) -> str | None:
    """Save random states, draw from one generator, compare."""
    Accelerator(cpu=True).save_state(str(folder))
    DRAW[draw]()
    return safe_loading.unrestored_random_states(folder, 0)


@pytest.mark.parametrize("draw", DRAW)
def test_a_generator_that_has_another_state_is_noticed(draw, tmp_path):
    expected = None if draw == "none" else "accelerate could not set them"
    assert call(compare_states, tmp_path, draw) == [expected]


def test_missing_random_states_are_named(tmp_path):
    assert safe_loading.unrestored_random_states(tmp_path, 3) == "random_states_3.pkl is missing"
