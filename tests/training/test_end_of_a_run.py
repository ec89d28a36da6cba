"""What a finished run leaves, and what may go wrong between its last step and its exit."""

import json
import sys
import time
from pathlib import Path

import pytest
from launches import only_message
from training_runs import leave_at_once, results_of

from qa_accel.training import final_report


def slow_report(path: Path) -> None:
    """The report takes until the other rank has left, which notes so beside `path`."""
    original = final_report.write_final_report

    def slow(*arguments, **options):
        for _ in range(300):
            if path.exists():
                break
            time.sleep(0.1)
        return original(*arguments, **options)

    final_report.write_final_report = slow  # type: ignore


def note_exit(path: Path) -> None:
    import os

    leave = os._exit

    def noted(code: int) -> None:
        if os.environ.get("RANK") == "1":
            path.touch()
        leave(code)

    os._exit = noted  # type: ignore


def test_no_rank_waits_for_the_report(trainer, tmp_path):
    """Rank 1 has left before rank 0 writes the page. Breaks if ranks meet after the report: one of a large data set, or a
    tracker without a network, would run into their time limit."""
    gone = tmp_path / "gone"
    arrangements = [(slow_report, gone), (note_exit, gone)]
    folder = trainer.whole(tmp_path / "run", processes=2, arrangements=arrangements, max_train_steps=2)
    assert gone.exists() and (folder / "report.html").exists()


def refuse_to_import_deepspeed() -> None:
    """accelerate imports it, where it is installed, to see whether a model is in DeepSpeed's engine."""
    from accelerate import Accelerator

    def refused(*arguments, **options):
        raise AssertionError("imports DeepSpeed")

    Accelerator.unwrap_model = refused  # type: ignore[method-assign]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_without_deepspeed_does_not_import_it(processes, trainer, tmp_path):
    """Evaluates, saves and publishes. Breaks if a run spends time on a package that it has no use for."""
    length = dict(max_train_steps=2, eval_steps=1, save_steps=1)
    trainer.whole(tmp_path / "run", processes=processes, arrangements=[(refuse_to_import_deepspeed,)], **length)


def killed_at_the_report(folder: Path, trainer) -> None:
    from training_runs import kill_after

    [left] = trainer(folder, arrangements=[(kill_after, "training.export.KeptModel.publish", 1)], max_train_steps=2)
    assert left.code != 0 and (folder / "all_results.json").exists() and not (folder / "report.html").exists()


def test_a_run_that_was_killed_before_its_report_says_how_to_write_it(trainer, tmp_path):
    """Breaks if the only ways that a finished run offers are to train again or to delete it."""
    folder = tmp_path / "run"
    killed_at_the_report(folder, trainer)
    message = only_message(trainer(folder, max_train_steps=2)[0])
    assert f"its report.html is written by scripts/report.py {folder}" in message
    from qa_accel.commands import report

    report.run(report.ReportConfig((folder,)))
    assert (folder / "report.html").exists()


def test_a_full_model_leaves_no_adapter_of_the_run_before_it(trainer, tmp_path):
    """Breaks if transformers loads the former adapter with the new model, or the hub gets both."""
    pytest.importorskip("peft")
    folder = trainer.whole(tmp_path / "run", "--lora_r", "2", max_train_steps=2)
    assert (folder / "adapter_model.safetensors").exists()
    trainer.whole(folder, "--overwrite_output_dir", max_train_steps=2)
    assert (folder / "model.safetensors").exists() and not list(folder.glob("adapter*"))
    trainer.whole(folder, "--overwrite_output_dir", "--lora_r", "2", max_train_steps=2)
    assert (folder / "adapter_model.safetensors").exists() and not (folder / "model.safetensors").exists()


def test_a_tracker_that_cannot_be_started_costs_no_results(trainer, tmp_path):
    """A file is where TensorBoard's folder would be; two ranks. Breaks if results are deleted first, or rank 1 is not told."""
    pytest.importorskip("tensorboard")
    folder = trainer.whole(tmp_path / "run", max_train_steps=2)
    before = results_of(folder)
    (folder / "tracked").write_text("in the way")
    words = ("--overwrite_output_dir", "--report_to", "tensorboard", "--project_name", "tracked")
    left = trainer(folder, *words, processes=2, arrangements=[(leave_at_once,)], max_train_steps=2)
    assert [one.code for one in left] == [2, 2]
    assert "a tracker cannot be started" in left[0].output
    assert results_of(folder) == before and (folder / "predictions.json").exists()


def test_a_report_of_the_unfinished_run_does_not_stay(trainer, tmp_path):
    """Written while the run went on. Breaks if it is kept, and uploaded, when the final one cannot be written."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "report.html").write_text("of the run while it went on")
    hide = [(hide_plotly,)]
    trainer.whole(folder, arrangements=hide, max_train_steps=2)
    assert not (folder / "report.html").exists()


def hide_plotly() -> None:
    sys.modules["plotly"] = None  # type: ignore


def test_the_environment_says_what_computed_it(trainer, tmp_path):
    folder = trainer.whole(tmp_path / "run", processes=2, max_train_steps=2)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["processes"] == 2 and environment["first_step"] == 0 and environment["cpu"]
    assert "--num_processes 2" in environment["launch"]
