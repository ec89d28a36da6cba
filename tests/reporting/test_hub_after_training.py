"""Training runs that push to a stand-in of the hub at their end: which ranks do what, and what is said when it fails."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_stand_in import READER, WRITER, point_at
from launches import SCRIPTS, only_message, training_flags
from speed import scaled
from toy import flags
from training_runs import leave_at_once, results_of

from qa_accel.hub import PLACEHOLDER, push
from qa_accel.hub_settings import HubConfig


def note_leaving(folder: Path) -> None:
    """Make a file when this process has met the others for the last time."""
    leave = os._exit

    def noted(code: int) -> None:
        (folder / f"left-{os.environ.get('RANK', '0')}").touch()
        leave(code)

    os._exit = noted  # type: ignore


def test_a_run_of_two_processes_pushes_once_and_no_rank_waits_for_it(hub, trainer, tmp_path):
    """The hub takes the commit when rank 1 has left. Breaks if ranks meet again after the upload has begun, as in a barrier
    at their exit: a long upload would run into their time limit."""

    def until_rank_1_has_left(method: str, path: str) -> int | None:
        if "/commit/" in path:
            for _ in range(int(scaled(200))):
                if (tmp_path / "left-1").exists():
                    return None
                time.sleep(0.1)
            return 500
        return None

    hub.broken = until_rank_1_has_left
    arrangements = [(point_at, hub.url), (note_leaving, tmp_path)]
    folder = trainer.whole(
        tmp_path / "run",
        *("--push_to_hub", "--hub_private_repo", "--hub_model_id", "lab/two"),
        processes=2,
        arrangements=arrangements,
        environment=hub.environment(),
        max_train_steps=2,
    )
    assert [method + path for method, path in hub.requests if "/commit/" in path] == [
        "POST/api/models/lab/two/commit/main"
    ]
    found = hub.repositories["lab/two"].files()
    assert found["model.safetensors"] == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("token", "words", "expected"),
    [
        (READER, (), "the token of ada can only read"),
        (
            WRITER,
            ("--lora_r", "2"),
            "a folder that is not on the hub, so nobody could load it; train with --merge_lora",
        ),
    ],
)
def test_a_run_that_may_not_push_ends_on_all_ranks_before_it_trains(hub, trainer, tmp_path, token, words, expected):
    """Breaks if rank 0 alone knows: the other would wait for it until the launcher ends it."""
    if "--lora_r" in words:
        pytest.importorskip("peft")
    left = trainer(
        tmp_path / "run",
        "--push_to_hub",
        *words,
        processes=2,
        arrangements=[(point_at, hub.url), (leave_at_once,)],
        environment=hub.environment(token),
    )
    assert [one.code for one in left] == [2, 2]
    assert expected in only_message(left[0])
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_push_that_fails_after_the_run_leaves_it_finished_and_says_how_to_push_again(hub, trainer, tmp_path):
    """Breaks if the run counts as failed, if its files are touched, or if the command lacks a setting of the hub."""
    hub.broken = lambda method, path: 503 if path == "/api/repos/create" else None
    folder = tmp_path / "run"
    left = trainer(
        folder,
        *("--push_to_hub", "--hub_model_id", "lab/late", "--hub_private_repo", "true"),
        arrangements=[(point_at, hub.url)],
        environment=hub.environment(),
        max_train_steps=2,
    )
    message = only_message(left[0])
    assert f"python scripts/report.py {folder} --push_to_hub --hub_model_id lab/late --hub_private_repo" in message
    assert "answers 503" in message and "finished after" in left[0].output
    assert results_of(folder)["steps"] == 2 and not (folder / "ranks").exists()
    hub.broken = lambda method, path: None
    push(folder, HubConfig(push_to_hub=True, hub_model_id="lab/late", hub_private_repo=True))
    assert hub.repositories["lab/late"].private


def test_the_script_with_the_environment_of_a_user_pushes_and_tells_nobody_the_token(hub, toy, tmp_path):
    """A process that imports everything by itself. Breaks if the token gets into a file of the run, its output, what is
    uploaded, or an address that is asked for."""
    folder = tmp_path / "pushed-run"
    words = [*training_flags(toy, tmp_path / "cache"), *flags(output_dir=folder, max_train_steps=2), "--push_to_hub"]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "train.py"), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"} | hub.environment(),
        capture_output=True,
        text=True,
        timeout=scaled(120),
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    found = hub.repositories["ada/pushed-run"].files()
    expected = {"README.md", "all_results.json", "config.json", "model.safetensors", "report.html", "tokenizer.json"}
    assert expected <= found.keys() <= {*expected, "tokenizer_config.json"}
    assert b"ada/pushed-run" in found["README.md"] and PLACEHOLDER.encode() not in found["README.md"]
    for name in found.keys() - {"README.md"}:
        assert found[name] == (folder / name).read_bytes(), name
    places = [
        output,
        *map(str, hub.requests),
        *(one.message for one in hub.repositories["ada/pushed-run"].branches["main"]),
    ]
    assert "uploaded" in output and not [place for place in places if WRITER in place]
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 10 and not [path for path in written if WRITER.encode() in path.read_bytes()]
    for name, content in found.items():
        assert str(tmp_path).encode() not in content, f"{name} tells where the folder was"


def test_the_command_that_a_failed_push_prints_works_for_a_run_without_validation_data(hub, trainer, tmp_path, capsys):
    """There is nothing to report. Breaks if such a model can never be uploaded later."""
    from qa_accel.commands import report

    folder = trainer.whole(tmp_path / "run", max_train_steps=2, validation_file=None)
    config = HubConfig(push_to_hub=True, hub_model_id="lab/plain")
    report.run(report.ReportConfig((folder,), hub=config))
    found = hub.repositories["lab/plain"].files()
    assert "model.safetensors" in found and "report.html" not in found
    assert "no new report.html: " in capsys.readouterr().out


def test_a_report_that_was_deleted_is_not_uploaded(hub, trainer, tmp_path):
    """It shows questions of the validation data. Breaks if the push writes it again."""
    from qa_accel.commands import report

    folder = trainer.whole(tmp_path / "run", max_train_steps=2)
    (folder / "report.html").unlink()
    report.run(report.ReportConfig((folder,), hub=HubConfig(push_to_hub=True, hub_model_id="lab/discreet")))
    assert "report.html" not in hub.repositories["lab/discreet"].files()
    report.run(report.ReportConfig((folder,)))
    report.run(report.ReportConfig((folder,), hub=HubConfig(push_to_hub=True, hub_model_id="lab/discreet")))
    assert hub.repositories["lab/discreet"].files()["report.html"] == (folder / "report.html").read_bytes()
