"""Checkpoints are whole or not there; a resumed run is the same run, or is refused."""

import dataclasses
import errno
import json
import os
import time
from pathlib import Path

import pytest
from processes import call, run
from small_run import save_many, small_training, train_a_little

from qa_accel.training import checkpoint
from qa_accel.training.part_settings import CheckpointConfig
from qa_accel.training.progress import Progress


def make_checkpoint(folder: Path, step: int) -> Path:
    """A whole checkpoint as `save` leaves it, without a model's weights."""
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(bytes(range(200)) * 5)
    (made / "progress.json").write_text(json.dumps({"progress": {}, "identity": {}}))
    checkpoint.write_manifest(made)
    return made


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(bytes(content))


def list_in_manifest(folder: Path, name: str) -> None:
    (folder / "manifest.json").write_text(json.dumps({"files": {name: {"size": 1, "sha256": ""}}}))


DAMAGES = {
    "truncated": (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "5 bytes, 1000 were written"),
    "one bit flipped": (lambda folder: flip_a_bit(folder / "model.safetensors"), "its hash differs"),
    "a file is missing": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
    "half a manifest": (lambda folder: (folder / "manifest.json").write_text('{"files": {'), "manifest.json is not"),
    "another manifest": (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json is not"),
    "empty manifest": (lambda folder: (folder / "manifest.json").write_text('{"files": {}}'), "manifest.json is not"),
    "strange manifest": (
        lambda folder: (folder / "manifest.json").write_text('{"files": {"model.safetensors": 3}}'),
        "manifest.json is not",
    ),
    "nested manifest": (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "manifest.json is not"),
    "long name": (lambda folder: list_in_manifest(folder, "n" * 300), "File name too long"),
    "markup as a name": (lambda folder: list_in_manifest(folder, "[/x]"), "[/x] is missing"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(kind, tmp_path):
    """Breaks if a run resumes from weights that were never written whole, or gives up although older ones are good."""
    before, latest = make_checkpoint(tmp_path, 9), make_checkpoint(tmp_path, 10)
    said = []
    settings = CheckpointConfig(str(tmp_path))
    assert checkpoint.find(settings, tmp_path, said.append) == latest and said == []
    damage, reason = DAMAGES[kind]
    damage(latest)
    assert checkpoint.find(settings, tmp_path, said.append) == before
    [message] = said
    assert "checkpoint-10 is skipped" in message and reason in message
    with pytest.raises(ValueError, match=r"--resume_from_checkpoint .*checkpoint-10: "):
        checkpoint.find(CheckpointConfig(str(tmp_path), resume_from_checkpoint=str(latest)), tmp_path, said.append)


def test_checkpoints_are_ordered_by_step_not_by_name(tmp_path):
    """Breaks if step 9 is sorted after step 10."""
    for step in (100, 9, 20):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-old").mkdir()
    (tmp_path / ".partial-checkpoint-300").mkdir()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [
        "checkpoint-9",
        "checkpoint-20",
        "checkpoint-100",
    ]


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path):
    nowhere = CheckpointConfig(str(tmp_path), resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    with pytest.raises(ValueError, match=r"checkpoint-3: there is no such folder"):
        checkpoint.find(nowhere, tmp_path, print)
    assert checkpoint.find(CheckpointConfig(str(tmp_path)), tmp_path, print) is None


@pytest.mark.parametrize("setting", [{"resume_from_checkpoint": "no"}, {"overwrite_output_dir": True}])
def test_a_run_that_starts_over_takes_no_checkpoint(setting, tmp_path):
    make_checkpoint(tmp_path, 9)
    assert checkpoint.find(CheckpointConfig(str(tmp_path), **setting), tmp_path, print) is None


@pytest.mark.parametrize(("name", "value"), [("save_steps", 0), ("save_total_limit", 0)])
def test_settings_that_mean_nothing_are_refused(name, value):
    with pytest.raises(ValueError, match=f"--{name} must be at least 1, got 0"):
        CheckpointConfig("out", **{name: value})


def fail_in_the_middle(folder: Path, first: int | None = None) -> str:
    """Write a checkpoint, then fail while a later one is being written; returns what happened.

    Every rank has written its half when they fail, or, with `first`, that rank fails before the others have begun.
    """
    accelerator, _, _ = small_training()
    progress = Progress(step=1)
    checkpoint.save(folder, accelerator, progress, {}, keep=2)

    def save_half(target: str) -> None:
        if first not in (None, accelerator.process_index):
            while Path(target).exists():
                time.sleep(0.01)
        Path(target, f"half-{accelerator.process_index}.bin").write_bytes(b"x")
        if first is None:
            accelerator.wait_for_everyone()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    accelerator.save_state = save_half  # type: ignore
    progress.step = 2
    try:
        checkpoint.save(folder, accelerator, progress, {}, keep=2)
    except OSError as error:
        return str(error)
    return "did not fail"


FULL = "{} cannot be written: No space left on device. Free some space or fix the cause, then rerun the same command"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_write_that_fails_leaves_nothing_under_the_final_name(processes, tmp_path):
    """Breaks if a checkpoint is written in place: a disk that fills up would leave half of one as the latest."""
    said = call(fail_in_the_middle, tmp_path, processes=processes)
    assert said == [FULL.format(tmp_path / "checkpoint-2")] * processes
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert checkpoint.find(CheckpointConfig(str(tmp_path)), tmp_path, print) == tmp_path / "checkpoint-1"


def test_a_rank_whose_folder_was_given_up_names_rank_0_as_the_reason(tmp_path):
    """Breaks if it says "No such file or directory": nothing is missing on that rank, the disk was full on rank 0."""
    final = tmp_path / "checkpoint-2"
    given_up = f"rank 0 failed to write {final}; see its error"
    assert call(fail_in_the_middle, tmp_path, 0, processes=2) == [FULL.format(final), given_up]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def die(folder: Path, moment: str) -> None:
    """Write `best` twice, and end without a word in the second time: in the middle of it, or while it gets its name."""
    accelerator, _, _ = small_training()
    with checkpoint.atomic_folder(folder / "best", accelerator) as partial:
        (partial / "weights").write_text("first")
    rename = Path.rename

    def rename_and_die(path: Path, target: Path) -> None:
        rename(path, target)
        os._exit(9)

    if moment == "renaming":
        Path.rename = rename_and_die  # type: ignore
    with checkpoint.atomic_folder(folder / "best", accelerator) as partial:
        (partial / "weights").write_text("second")
        if moment == "writing":
            os._exit(9)


def open_again(folder: Path) -> None:
    checkpoint.clear(CheckpointConfig(str(folder)), folder, small_training()[0])


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_what_a_killed_write_would_have_replaced_is_there_when_the_run_goes_on(moment, tmp_path):
    """Breaks if the former best model is gone between two renames, or leftovers stay on the disk for good."""
    assert run(die, tmp_path, moment)[0].code == 9
    call(open_again, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert checkpoint.damage_of(tmp_path / "best") is None
    assert (tmp_path / "best" / "weights").read_text() == "first"


def write_best(folder: Path) -> None:
    accelerator, _, _ = small_training()
    with checkpoint.atomic_folder(folder / "best", accelerator) as partial:
        (partial / "weights").write_text("new")


@pytest.mark.parametrize("planted", ["file", "link", "FIFO"])
def test_whatever_is_named_best_gives_way_to_the_best_model(planted, tmp_path):
    """Breaks if it stays as `.partial-old-best`, or if a link's target is written to or deleted."""
    target, folder = tmp_path / "target", tmp_path / "run"
    for made in (target, folder):
        made.mkdir()
    (target / "weights").write_text("precious")
    make = {"file": Path.touch, "link": lambda path: path.symlink_to(target), "FIFO": os.mkfifo}[planted]
    make(folder / "best")
    call(write_best, folder)
    assert [path.name for path in folder.iterdir()] == ["best"]
    assert (folder / "best" / "weights").read_text() == "new" and not (folder / "best").is_symlink()
    assert (target / "weights").read_text() == "precious"


def test_only_the_latest_checkpoints_are_kept(tmp_path):
    call(save_many, tmp_path, [2, 4, 8, 16], 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-16", "checkpoint-8"]
    assert checkpoint.damage_of(tmp_path / "checkpoint-8") is None


def test_a_run_that_started_over_keeps_its_own_checkpoints_not_those_of_the_run_before(tmp_path):
    """Breaks if rotation goes by the step alone: the old run's high steps would oust the new run's every checkpoint, and
    a resume would continue the old run."""
    make_checkpoint(tmp_path, 300)
    make_checkpoint(tmp_path, 400)
    call(save_many, tmp_path, [10, 20], 2)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-10", "checkpoint-20"]


def test_changed_settings_are_refused_with_both_values(tmp_path):
    """Breaks if a resume goes on under another learning rate and calls that the same run."""
    call(train_a_little, tmp_path, {"seed": 1, "learning_rate": 0.1}, False, 1)
    [left] = run(train_a_little, tmp_path, {"seed": 1, "learning_rate": 0.2}, False, 1)
    assert left.code == 1
    assert "learning_rate: 0.1 then, 0.2 now" in left.output and "seed" not in left.output.split("ValueError")[1]
    assert "--overwrite_output_dir" in left.output and "--resume_with_changed_settings" in left.output
    [(loaded, _, progress)] = call(train_a_little, tmp_path, {"seed": 1, "learning_rate": 0.2}, True, 1)
    assert loaded == str({"seed": 1, "learning_rate": 0.1})
    assert progress["step"] == 2


def test_weights_optimizer_and_progress_come_back(tmp_path):
    """Breaks if AdamW's moments are not restored: the fourth step would differ."""
    [(_, once, progress_once)] = call(train_a_little, tmp_path / "once", {}, False, 4)
    call(train_a_little, tmp_path / "twice", {}, False, 3)
    [(_, twice, progress_twice)] = call(train_a_little, tmp_path / "twice", {}, False, 1)
    assert twice == once
    assert progress_twice == progress_once
    assert progress_once["step"] == 4 and progress_once["windows"] == 8 and progress_once["segments"] == [[1, 4]]


def test_progress_is_the_same_value_after_json():
    progress = Progress(step=7, best_score=61.5, best_step=5)
    progress.advance(2, 8)
    progress.advance(1, 4)
    back = Progress()
    back.load_state_dict(json.loads(json.dumps(progress.state_dict())))
    assert back == progress
    assert back.segments == [[2, 1], [1, 1]]
    assert len(dataclasses.fields(Progress)) == len(progress.state_dict())
