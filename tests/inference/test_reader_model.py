"""What a `Reader` is made from: a name that is no model is refused with the way out, and so are logits that are no numbers."""

import os
import shutil
from pathlib import Path

import pytest
from model_damages import WINDOWS, load, one_message

from qa_accel import Reader


@pytest.fixture
def folder(toy, tmp_path) -> Path:
    return shutil.copytree(toy.model, tmp_path / "model")


def a_file(folder: Path) -> str:
    return str(folder / "config.json")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (lambda folder: "", "--model_name_or_path '': expected the folder of a model, or its name"),
        (lambda folder: None, "--model_name_or_path None: expected the folder of a model"),
        (lambda folder: 3, "--model_name_or_path 3: expected the folder"),
        (lambda folder: b"model", "--model_name_or_path b'model': expected"),
        (a_file, "config.json': this is a file; expected the folder that holds config.json"),
        (lambda folder: str(folder / "not there"), "not there': there is no such folder"),
        (lambda folder: "./not there", "'./not there': there is no such folder"),
        (lambda folder: "a\0b", r"'a\\x00b': no path has such a character"),
        (lambda folder: "x" * 300, "File name too long"),
        (lambda folder: str(folder) + "\udcff", r"\\udcff': this name is not UTF-8.*rename the folder"),
        (
            lambda folder: "runs/quickstat",
            "model 'runs/quickstat' cannot be loaded: .*no folder of this name here, so it",
        ),
        (lambda folder: "a b", "model 'a b' cannot be loaded: .*check the spelling and the network, or give a folder"),
    ],
)
def test_a_name_that_is_no_model_is_refused(folder, name, message):
    with pytest.raises(ValueError, match=message):
        Reader(name(folder), windows=WINDOWS)


def test_a_folder_whose_name_is_not_utf8_is_refused_with_the_way_out(folder):
    target = os.fsencode(folder.parent) + b"/caf\xe9"
    os.rename(folder, target)
    with pytest.raises(ValueError, match=r"caf\\udce9': this name is not UTF-8.*rename the folder"):
        Reader(os.fsdecode(target), windows=WINDOWS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_of_another_user_is_named(folder):
    (folder / "model.safetensors").chmod(0)
    one_message(lambda: load(folder), folder, "model.safetensors")


def test_a_reader_takes_a_path_and_answers(folder):
    assert Reader(folder, windows=WINDOWS).answer("Where was Ana born?", "Ana was born in Bern.")["nbest"]


@pytest.mark.parametrize("size", [0, -1, "3", 2.5, True])
def test_a_reader_refuses_a_batch_size_that_is_no_count(folder, size):
    with pytest.raises(ValueError, match=f"batch_size must be a whole number of at least 1, got {size!r}"):
        Reader(folder, windows=WINDOWS, batch_size=size)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_no_answers(folder, value):
    """Weights that are finite but overflow. Breaks if the answer of such a model is returned as if it was one."""
    reader = Reader(folder, windows=WINDOWS)

    def overflow(module, inputs, output):
        output.start_logits[:] = value
        return output

    reader.qa.model.register_forward_hook(overflow)
    with pytest.raises(ValueError, match="scores are not finite, the first in question '0'"):
        reader.answer("Where was Ana born?", "Ana was born in Bern.")
