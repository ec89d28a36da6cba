"""Recipes, data, models and caches that somebody else made run no code; docs/security.md says so.

Checkpoints have their own tests (training/test_safe_loading.py, distributed/test_hostile_checkpoints.py), run folders too
(distributed/test_run_folder.py, distributed/test_rank_status.py, system/test_jobs.py).
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hostile import PICKLES, as_zip
from processes import run

from qa_accel import config
from qa_accel.commands import train
from qa_accel.data import window_store
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig
from qa_accel.distributed import entry
from qa_accel.models import loading
from qa_accel.models.settings import ModelConfig


def script(mark: Path) -> str:
    return f"import os\nos.mkdir({str(mark)!r})\n"


# --- recipes

RECIPE = "output_dir: !!python/object/apply:os.mkdir ['{}']\n"


def parse(recipe: Path) -> None:
    config.parse(train.Config, ["--config", str(recipe)])


def test_a_recipe_is_plain_data(tmp_path):
    """Breaks if YAML's tags for Python objects are obeyed, as yaml.unsafe_load does."""
    recipe, mark = tmp_path / "recipe.yaml", tmp_path / "ran"
    recipe.write_text(RECIPE.format(mark))
    [left] = run(parse, recipe)
    assert left.code == 2 and not mark.exists(), left.output
    yaml.unsafe_load(recipe.read_text())
    assert mark.exists()


# --- data


def read_data_set(folder: Path, cache: Path) -> None:
    entry.main(lambda: load_questions(DataConfig(dataset_name=str(folder), cache_dir=str(cache)), "train") and None)


def test_a_folder_of_data_runs_no_script(toy, tmp_path):
    """Breaks if a loading script is run, as former versions of datasets did with `FOLDER/FOLDER.py`."""
    folder, mark = tmp_path / "squad", tmp_path / "ran"
    folder.mkdir()
    (folder / "squad.py").write_text(script(mark))
    shutil.copy(toy.train, folder / "train.json")
    run(read_data_set, folder, tmp_path / "cache")
    assert not mark.exists()


# --- models


def load(folder: Path, trust: bool) -> None:
    settings = ModelConfig(str(folder), trust_remote_code=trust)
    tokenizer = loading.load_tokenizer(settings)
    loading.load_model(settings, loading.load_model_config(settings, 64, tokenizer), tokenizer)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def model(toy, tmp_path) -> Path:
    return shutil.copytree(toy.model, tmp_path / "model")


def test_a_model_folder_runs_its_own_code_only_if_asked_to(model, tmp_path):
    mark = tmp_path / "ran"
    (model / "mine.py").write_text(script(mark) + "class Mine: pass\n")
    mine = {name: "mine.Mine" for name in ("AutoConfig", "AutoModelForQuestionAnswering", "AutoModel")}
    change(model / "config.json", auto_map=mine)
    change(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.Mine", "mine.Mine"]})
    run(load, model, False)
    assert not mark.exists()
    run(load, model, True)
    assert mark.exists(), "--trust_remote_code is what runs it"


@pytest.mark.parametrize("form", ["plain", "zip"])
def test_pickled_weights_run_no_code(form, model, tmp_path):
    """Old models have pytorch_model.bin. Breaks if it is loaded as any pickle."""
    mark = tmp_path / "ran"
    (model / "model.safetensors").unlink()
    content = PICKLES["GLOBAL"](mark)
    (model / "pytorch_model.bin").write_bytes(as_zip(content) if form == "zip" else content)
    [left] = run(load, model, False)
    assert left.code != 0 and not mark.exists()


def test_a_pickled_adapter_runs_no_code(toy, tmp_path):
    folder, mark = tmp_path / "adapter", tmp_path / "ran"
    folder.mkdir()
    for path in Path(toy.model).iterdir():
        if path.suffix == ".json":
            shutil.copy(path, folder)
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(toy.model), "r": 4, "target_modules": ["query"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    (folder / "adapter_model.bin").write_bytes(as_zip(PICKLES["GLOBAL"](mark)))
    [left] = run(load, folder, False)
    assert left.code != 0 and not mark.exists()


# --- the cache of windows


def test_a_cached_file_of_windows_runs_no_code(tmp_path):
    """Breaks if a column's type, which Arrow keeps as a pickle for Python's own types, is restored."""
    path, mark = tmp_path / "windows.arrow", tmp_path / "ran"
    pickled = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": PICKLES["GLOBAL"](mark),
    }
    schema = pa.schema([pa.field("input_ids", pa.list_(pa.int32()), metadata=pickled)])
    with path.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array([[1, 2]], pa.list_(pa.int32()))], schema=schema))
    with pytest.raises((KeyError, ValueError)):  # it has none of the other columns
        window_store.read(path)
    assert not mark.exists()
