"""A checkpoint that cannot be restored is named, with the reason; what is restored in part is said."""

import json
from pathlib import Path

import pytest
import torch
from processes import call, run
from small_run import save_many, small_training, train_a_little

from qa_accel.training import checkpoint, restoring
from qa_accel.training.part_settings import CheckpointConfig
from qa_accel.training.progress import Progress


def resume_once(folder: Path) -> list[str]:
    """Resume from the folder's checkpoint on each rank; what was said."""
    accelerator, _, _ = small_training()
    said: list[str] = []
    found = checkpoint.find(CheckpointConfig(str(folder)), folder, print)
    assert found is not None
    restoring.load(found, accelerator, Progress(), {}, said.append, allow_changes=False)
    return said


def renew_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    checkpoint.write_manifest(folder)


def edit(folder: Path, **changes) -> None:
    """Change entries of progress.json."""
    state = json.loads((folder / "progress.json").read_text())
    (folder / "progress.json").write_text(json.dumps(state | changes))


def edit_progress(folder: Path, **changes) -> None:
    state = json.loads((folder / "progress.json").read_text())["progress"]
    edit(folder, progress=state | changes)


@pytest.fixture
def saved(tmp_path) -> Path:
    """A checkpoint of one step on one process."""
    call(train_a_little, tmp_path, {}, False, 1)
    return tmp_path / "checkpoint-1"


USELESS = {
    "no optimizer": (lambda folder: (folder / "optimizer.bin").unlink(), "optimizer.bin is missing"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "no progress": (lambda folder: (folder / "progress.json").unlink(), "progress.json is missing or not JSON"),
    "garbage weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "cannot be restored"),
    "garbage optimizer": (
        lambda folder: (folder / "optimizer.bin").write_bytes(b"x" * 99),
        "optimizer.bin: is not what",
    ),
    "a folder as optimizer": (
        lambda folder: ((folder / "optimizer.bin").unlink(), (folder / "optimizer.bin").mkdir()),
        "cannot be restored",
    ),
    "an empty object": (
        lambda folder: (folder / "progress.json").write_text("{}"),
        "no progress and no identity and no",
    ),
    "a list": (lambda folder: (folder / "progress.json").write_text("[]"), "progress.json is missing or not JSON"),
    "deep": (
        lambda folder: (folder / "progress.json").write_text("[" * 100_000),
        "progress.json is missing or not JSON",
    ),
    "not text": (
        lambda folder: (folder / "progress.json").write_bytes(b"\xff\x00"),
        "progress.json is missing or not JSON",
    ),
    "empty progress": (
        lambda folder: edit(folder, progress={}),
        "progress has the entries best_score, best_step, epoch",
    ),
    "more steps of an epoch than of the run": (
        lambda folder: edit_progress(folder, segments=[[2, 1_000_000]]),
        "progress names 1000000 steps of epoch 0, but 1 of the whole run",
    ),
    "a billion processes": (lambda folder: edit_progress(folder, segments=[[10**9, 1]]), "as its segments"),
    "segments that are none": (lambda folder: edit_progress(folder, segments=[[1]]), "as its segments"),
    "more epochs than steps": (lambda folder: edit_progress(folder, epoch=7), "but 1 of the whole run"),
    "a negative step": (lambda folder: edit_progress(folder, step=-1), "cannot have -1 as its step"),
    "a step as text": (lambda folder: edit_progress(folder, step="1"), "cannot have '1' as its step"),
    "a best score that is not a number": (
        lambda folder: edit_progress(folder, best_score=float("nan")),
        "cannot have nan as its best_score",
    ),
    "a layout of control characters": (lambda folder: edit(folder, layout="\x1b[2J" + "x" * 10_000), "were saved as '"),
}


@pytest.mark.parametrize("kind", USELESS)
def test_a_checkpoint_that_cannot_be_restored_is_named(kind, saved):
    """Its manifest is right. Breaks if there is a traceback, or a message that does not say which checkpoint it is about."""
    damage, reason = USELESS[kind]
    damage(saved)
    renew_manifest(saved)
    [left] = run(resume_once, saved.parent)
    assert left.code == 1
    message = left.output.rpartition("ValueError: ")[2]
    assert message.startswith(str(saved)) and reason in message and len(message) < 1000, left.output
    assert "\x1b" not in message
    assert "start over (--overwrite_output_dir)" in message or "--model_name_or_path" in message


def test_settings_of_a_damaged_checkpoint_are_shown_in_short(saved):
    edit(saved, identity={"seed": "\x1b" + "x" * 100_000})
    renew_manifest(saved)
    [left] = run(train_a_little, saved.parent, {"seed": 1}, False, 1)
    message = left.output.rpartition("ValueError: ")[2]
    assert "then, 1 now" in message and len(message) < 1000 and "\x1b" not in message


TAUGHT = {"teachers": {"1" * 32: "runs/large"}, "teachers' logits": "aa"}


def test_other_bits_of_the_same_teacher_are_said_and_the_run_goes_on(tmp_path):
    """Its pass was repeated with other batches, and the teacher has moved. Breaks if a lost cache makes a run impossible to resume,
    or if the run is silent on it."""
    call(train_a_little, tmp_path, TAUGHT, False, 1)
    now = {"teachers": {"1" * 32: "elsewhere"}, "teachers' logits": "bb"}
    [left] = run(train_a_little, tmp_path, now, False, 1)
    assert left.code == 0, left.output
    assert "the logits of elsewhere (weights and windows 11111111) were computed again" in left.output
    assert (
        "another --per_device_eval_batch_size, version or device): the run goes on, but not to the bit" in left.output
    )
    [same] = run(train_a_little, tmp_path, now, False, 1)
    assert same.code == 0 and "computed again" not in same.output


@pytest.mark.parametrize("now", [{"2" * 32: "runs/large"}, {"1" * 32: "runs/large", "2" * 32: "runs/small"}])
def test_another_teacher_is_refused_by_name(tmp_path, now):
    """Other weights in the same folder, and a second one. Breaks if names are compared, or if two teachers' difference is taken for
    rounding."""
    call(train_a_little, tmp_path, TAUGHT, False, 1)
    [left] = run(train_a_little, tmp_path, {"teachers": now, "teachers' logits": "bb"}, False, 1)
    message = left.output.rpartition("ValueError: ")[2]
    assert left.code == 1 and "teachers: runs/large (weights and windows 11111111) then, runs/" in message
    assert "22222222) now" in message and "teachers' logits:" not in message


STATES = "the random states of rank {} are not those of checkpoint-1 ({}): the run goes on, but not to the bit"


def test_a_whole_checkpoint_is_resumed_without_a_word(saved):
    assert call(resume_once, saved.parent) == [[]]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "random_states_0.pkl is missing"),
        (lambda path: path.write_bytes(b"garbage"), "is not what a run saves"),
        (lambda path: torch.save({"step": 1}, path), "KeyError: 'numpy_random_seed'"),
    ],
    ids=["missing", "garbage", "incomplete"],
)
def test_random_states_that_are_not_restored_are_said(damage, reason, saved):
    """accelerate says nothing. Breaks if a run that is not the same to the bit passes for one that is."""
    damage(saved / "random_states_0.pkl")
    renew_manifest(saved)
    [[said]] = call(resume_once, saved.parent)
    assert said.startswith(STATES.format(0, reason).partition(")")[0]) and "not to the bit" in said


def test_ranks_that_the_former_run_did_not_have_are_named(saved):
    [said, *_] = call(resume_once, saved.parent, processes=3)
    assert said == [STATES.format("1, 2", "random_states_1.pkl is missing") + " as if it had not been interrupted"]


def test_other_versions_are_said(saved):
    """Breaks if they are not saved, or if a resume under another torch is called exact."""
    versions = json.loads((saved / "progress.json").read_text())["versions"]
    assert (
        versions["torch"] == torch.__version__ and {"qa_accel", "transformers", "accelerate", "numpy"} < versions.keys()
    )
    edit(saved, versions=versions | {"torch": "2.0.1", "numpy": "[/]1.0"})
    renew_manifest(saved)
    [[said]] = call(resume_once, saved.parent)
    assert (
        "checkpoint-1 was made with torch 2.0.1 (now" in said
        and "numpy [/]1.0 (now" in said
        and "not to the bit" in said
    )


def test_a_checkpoint_of_before_versions_were_saved_is_resumed(saved):
    state = json.loads((saved / "progress.json").read_text())
    del state["versions"]
    (saved / "progress.json").write_text(json.dumps(state))
    renew_manifest(saved)
    assert call(resume_once, saved.parent) == [[]]


@pytest.mark.parametrize("name", ["checkpoint-\u00b2", "checkpoint-7", "checkpoint-8", "checkpoint-x"])
def test_what_only_has_the_name_of_a_checkpoint_is_in_nobodys_way(name, tmp_path):
    """A digit that is no decimal one, a file, a link that leads nowhere. Breaks if it stops the search or the rotation."""
    (tmp_path / name).symlink_to("nowhere") if name == "checkpoint-8" else (tmp_path / name).touch()
    assert checkpoint.find(CheckpointConfig(str(tmp_path)), tmp_path, lambda _: None) is None
    call(save_many, tmp_path, [1, 2], 1)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-2"]
