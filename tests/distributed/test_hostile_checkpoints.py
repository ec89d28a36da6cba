"""A checkpoint that somebody else made does not run code at a resume, under any strategy; one that is trusted may."""

import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from equality import arguments
from hostile import PICKLES, as_zip, bomb
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from qa_accel import files
from qa_accel.training import safe_loading

LAYOUTS = ["cpu_ddp", "fsdp2", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3"]


@pytest.fixture(scope="module")
def checkpoints(trainer, tmp_path_factory) -> dict[str, Path]:
    """A whole checkpoint of step 1 under each strategy, on two processes."""
    folder, found = tmp_path_factory.mktemp("checkpoints"), {}
    for name in LAYOUTS:
        trainer.whole(folder / name, **settings(name, save_steps=1))
        found[name] = folder / name / "checkpoint-1"
    return found


def settings(name: str, **more: Any) -> dict[str, Any]:
    return arguments(name, max_train_steps=2, validation_file=None, **more)


def torch_file(path: Path, mark: Path) -> None:
    path.write_bytes(as_zip(PICKLES["GLOBAL"](mark)))


def plain_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(bomb(mark), 4))


def setting_of_the_optimizer(path: Path, mark: Path) -> None:
    """FSDP2 stores what is no tensor (a learning rate) as a file of torch's within another file; this is the index."""
    index = pickle.loads(path.read_bytes())
    name = next(name for name, kind in index.state_dict_metadata.items() if isinstance(kind, BytesStorageMetadata))
    [place] = [place for entry, place in index.storage_data.items() if entry.fqn == name]
    stream = io.BytesIO()
    torch.save(bomb(mark), stream)
    with (path.parent / place.relative_path).open("ab") as file:
        place.offset = file.tell()
        place.length = file.write(stream.getvalue())
    path.write_bytes(pickle.dumps(index))


MODEL, OPTIMIZER = "pytorch_model", "zero_pp_rank_1_mp_rank_00_optim_states.pt"
PLACES: list[tuple[str, str, Callable[[Path, Path], None]]] = [
    ("cpu_ddp", "optimizer.bin", torch_file),
    ("cpu_ddp", "random_states_1.pkl", torch_file),
    ("fsdp2", "pytorch_model_fsdp_0/.metadata", plain_pickle),
    ("fsdp2", "optimizer_0/.metadata", plain_pickle),
    ("deepspeed_zero1", f"{MODEL}/mp_rank_00_model_states.pt", torch_file),
    ("deepspeed_zero2", f"{MODEL}/{OPTIMIZER}", torch_file),
    ("deepspeed_zero3", f"{MODEL}/zero_pp_rank_1_mp_rank_00_model_states.pt", torch_file),
    ("deepspeed_zero3", f"{MODEL}/{OPTIMIZER}", torch_file),
]
INNER = ("fsdp2", "optimizer_0/.metadata", setting_of_the_optimizer)


@pytest.fixture
def plant(checkpoints, tmp_path):
    """Make one file of a copy of a checkpoint hostile; its manifest is right, as its maker makes that too."""

    def planted(layout: str, file: str, write: Callable[[Path, Path], None]) -> Path:
        folder = shutil.copytree(checkpoints[layout], tmp_path / "planted" / "checkpoint-1")
        write(folder / file, tmp_path / "ran")
        (folder / files.MANIFEST).unlink()
        files.write_manifest(folder)
        return folder

    return planted


def slowly(*case: Any) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "layout", ["cpu_ddp", "fsdp2", "deepspeed_zero1", slowly("deepspeed_zero2"), slowly("deepspeed_zero3")]
)
def test_a_checkpoint_of_ours_is_resumed(layout, checkpoints, trainer, tmp_path):
    """Breaks if the restriction refuses what a strategy really writes."""
    resumed = settings(layout, resume_from_checkpoint=checkpoints[layout])
    left = trainer(tmp_path / "run", **resumed)
    assert [one.code for one in left] == [0, 0], left[0].output
    assert "resumed from" in left[0].output and "not to the bit" not in left[0].output


@pytest.mark.parametrize(("layout", "file", "write"), [*PLACES[:7], slowly(*PLACES[7])])
def test_a_hostile_file_is_named_and_nothing_is_loaded(layout, file, write, plant, trainer, tmp_path):
    folder = plant(layout, file, write)
    left = trainer(tmp_path / "run", **settings(layout, resume_from_checkpoint=folder))
    assert left[0].code == 2, left[0].output
    assert f"checkpoint-1 is not loaded: {file}: contains the object posix.mkdir" in left[0].output
    assert "--trust_checkpoint" in left[0].output and "Traceback" not in left[0].output
    assert not (tmp_path / "ran").exists()


def look_away() -> None:
    """As if the files were exchanged after they have been looked through."""
    safe_loading.problem_of = lambda *_: None  # type: ignore


@pytest.mark.parametrize(
    ("layout", "file", "write"), [*PLACES[2:5], INNER, PLACES[7], *map(slowly, *zip(*PLACES[5:7]))]
)
def test_a_file_that_is_exchanged_in_between_runs_nothing_either(layout, file, write, plant, trainer, tmp_path):
    """Breaks if only the first look is restricted and not what accelerate, torch and DeepSpeed do."""
    folder = plant(layout, file, write)
    left = trainer(tmp_path / "run", arrangements=[(look_away,)], **settings(layout, resume_from_checkpoint=folder))
    refused = [one for one in left if "checkpoint-1 cannot be restored: contains the object posix.mkdir" in one.output]
    assert refused and {one.code for one in refused} == {2}, left[0].output + left[1].output
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("layout", "file", "write"), [PLACES[2], PLACES[4], INNER])
def test_a_trusted_checkpoint_is_loaded_as_it_is(layout, file, write, plant, trainer, tmp_path):
    """Breaks if the flag does nothing, or if the payloads above would not have run in any case."""
    folder = plant(layout, file, write)
    trainer(tmp_path / "run", "--trust_checkpoint", **settings(layout, resume_from_checkpoint=folder))
    assert (tmp_path / "ran").is_dir()
