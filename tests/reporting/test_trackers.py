"""A run's trackers hold its numbers, plots, tables and report at its end, once, whatever happened on the way.

Real runs on the toy; TensorBoard's events and W&B's offline files are read back (tracked_runs.py).
"""

import io
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from PIL import Image
from processes import Left
from tracked_runs import NASTY, PAGE, events, offline_runs, scalars, send_small_report, small_report, text
from training_runs import kill_after, results_of, steps_of, touch_at

from qa_accel.reporting import trackers
from qa_accel.training.progress import Progress

pytest.importorskip("tensorboard", reason="needs the extra 'tracking'")
pytest.importorskip("wandb", reason="needs the extra 'tracking'")
pytest.importorskip("matplotlib", reason="needs the extra 'tracking'")

SECRET = "0123456789abcdef0123456789abcdef5ec7e700"
BOTH: dict[str, Any] = dict(report_to=["tensorboard", "wandb"], logging_steps=1)


def offline(folder: Path, **more: str) -> dict[str, str]:
    """Variables of a W&B without network, whose caches are in `folder`."""
    places = {f"WANDB_{name}_DIR": str(folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    return {"WANDB_MODE": "offline", **places, **more}


def kill_wandb_after(steps: int) -> None:
    """End W&B's own process, as a scheduler's signal to all processes of a job can."""
    original = Progress.advance

    def advanced(self, *arguments, **options):
        original(self, *arguments, **options)
        if self.step == steps:
            for process in Path("/proc").glob("[0-9]*"):
                line = (process / "cmdline").read_bytes() if (process / "cmdline").exists() else b""
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1] if line else ""
                if b"wandb-core" in line and parent == str(os.getpid()):
                    os.kill(int(process.name), signal.SIGKILL)
            time.sleep(0.5)

    Progress.advance = advanced  # type: ignore


# --- a whole run, on two processes


@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory) -> tuple[Path, list[Left], int]:
    """The folder of a run of two processes with a progress bar, what they wrote, and how often the network was called."""
    folder = tmp_path_factory.mktemp("whole")
    with socket.create_server(("127.0.0.1", 0)) as network:
        network.setblocking(False)
        address = f"http://127.0.0.1:{network.getsockname()[1]}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), address)
        left = trainer(
            folder / "run",
            processes=2,
            per_device_train_batch_size=4,
            max_train_steps=5,
            arrangements=[(send_small_report,)],
            environment=offline(folder, WANDB_API_KEY=SECRET, WANDB_BASE_URL=address, FORCE_COLOR="1", **proxies),
            **BOTH,
        )
        calls = 0
        while True:
            try:
                network.accept()[0].close()
            except BlockingIOError:
                break
            calls += 1
    for rank, one in enumerate(left):
        assert one.code == 0, f"rank {rank} left with {one.code}:\n{one.output}"
    return folder / "run", left, calls


@pytest.fixture(scope="module")
def board(whole) -> Any:
    return events(whole[0] / "qa-accel")


@pytest.fixture(scope="module")
def offline_run(whole) -> Any:
    [run] = offline_runs(whole[0])
    return run


def test_two_processes_have_one_event_file_and_one_run_of_wandb(whole, offline_run):
    """Breaks if every rank starts trackers, or if closing them takes the process group away before the run has published."""
    folder, left, _ = whole
    files = list(folder.glob("qa-accel/events.out.*"))
    assert len(files) == 1
    assert offline_run.project == "qa-accel" and offline_run.exit_code == 0
    assert "Warning" not in left[1].output and "tracker" not in left[0].output


def test_steps_evaluations_and_final_scores_are_in_tensorboard(whole, board):
    """Breaks if the trackers are closed before the run has published, or if final scores take the evaluations' names."""
    steps, results = steps_of(whole[0]), results_of(whole[0])
    assert scalars(board, "loss") == [(line["step"], pytest.approx(line["loss"])) for line in steps]
    assert [step for step, _ in scalars(board, "loss")] == [1, 2, 3, 4, 5]
    assert scalars(board, "eval_f1") == [(5, pytest.approx(results["f1"]))]
    for name in ("f1", "exact", "total", "best_f1_thresh"):
        assert scalars(board, f"final/{name}") == [(5, pytest.approx(results[name]))]


def test_steps_evaluations_and_final_scores_are_in_wandb(whole, offline_run):
    """Breaks as the test above does; and if a later step is logged before an earlier one, which W&B would drop."""
    steps, results = steps_of(whole[0]), results_of(whole[0])
    assert offline_run.series("loss") == {line["step"]: pytest.approx(line["loss"]) for line in steps}
    assert offline_run.series("eval_f1") == {5: results["f1"]}
    assert offline_run.series("final/f1") == {5: results["f1"]}
    assert offline_run.config["learning_rate"] == 3e-3


def test_plots_are_images_in_tensorboard(board):
    """Breaks if a plot is empty, of another size, or has its axes swapped on its way to the file."""
    assert set(board.Tags()["images"]) == {"report/threshold", "report/kinds"}
    for tag in board.Tags()["images"]:
        [event] = board.Images(tag)
        image = Image.open(io.BytesIO(event.encoded_image_string))
        assert event.step == 5 and image.size == (800, 500)
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 50


def test_plots_are_images_with_a_caption_in_wandb(offline_run):
    """Breaks if an image is not written where the history says, or is not that of TensorBoard."""
    for key in ("report/threshold", "report/kinds"):
        [(step, value)] = offline_run.series(key).items()
        assert step == 5 and value["_type"] == "image-file"
        image = Image.open(offline_run.media(value))
        assert image.size == (800, 500) and len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 50
    caption = offline_run.series("report/threshold")[5]["caption"]
    assert caption.startswith("F1 and threshold <script>") and "\n" not in caption


def test_tables_are_texts_in_tensorboard(whole, board):
    """Breaks if a section, a row or a caption is lost, or a text from the data can end its cell or become HTML."""
    scores = text(board, "report/1_scores")
    assert f"| exact | {results_of(whole[0])['exact']:.6g} |  |" in scores
    errors = text(board, "report/2_errors")
    assert "| wrong span | many |  |" in errors and "| 3 | 0.1 |" in errors
    assert "<script>" not in errors and errors.count("\n| ") == 4, "a head, a line below it, two rows"
    assert str(whole[0] / "report.html") in text(board, "report/0_about").replace("&#95;", "_")


def test_tables_are_tables_in_wandb(offline_run):
    """Breaks if a column of texts and numbers is refused, which is W&B's default."""
    [key] = [key for row in offline_run.history for key in row if key.startswith("report/errors/")]
    table = json.loads(offline_run.media(offline_run.series(key)[5]).read_text())
    assert table["columns"] == ["kind", "count", "share"]
    assert table["data"] == [[NASTY.replace("\n", "\\n"), 3, 0.1], ["wrong span", "many", None]]
    scores = json.loads(offline_run.media(offline_run.series("report/scores/scores")[5]).read_text())
    assert ["total", 30, None] in scores["data"]


def test_the_report_reaches_wandb_as_it_is(offline_run):
    """Breaks if W&B adds its style sheet, which the page would load from another host."""
    value = offline_run.series("report")[5]
    assert value["_type"] == "html-file" and offline_run.media(value).read_text() == PAGE


def test_offline_there_is_no_call_to_the_network_and_no_secret_in_a_file(whole):
    """Breaks if W&B looks for its server in spite of WANDB_MODE=offline, or if a key from the environment is written."""
    folder, _, calls = whole
    assert calls == 0
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert len(contents) > 20 and not any(SECRET.encode() in content for content in contents)


def test_the_progress_bar_ends_before_the_tables(whole):
    """Breaks if the bar is still redrawn below the tables of the run's end. It shows the cursor again when it stops."""
    output = whole[1][0].output
    assert 0 < output.rindex("\x1b[?25h") < output.index("sample answers")


# --- runs that do not go through


@pytest.fixture(scope="module")
def resumed(trainer, tmp_path_factory) -> Path:
    """A run that is stopped after step 2, killed after step 5 with a checkpoint of step 4, and then ends at step 6."""
    folder = tmp_path_factory.mktemp("resumed")
    run, settings = folder / "run", dict(max_train_steps=6, save_steps=4, environment=offline(folder), **BOTH)
    [left] = trainer(run, arrangements=[(touch_at, run / "STOP", 2)], **settings)
    assert left.code == 0 and (run / "stopped.json").exists(), left.output
    [left] = trainer(run, arrangements=[(kill_after, "training.log.MetricsLog.flush", 4)], **settings)
    assert left.code == -signal.SIGKILL, left.output
    [left] = trainer(run, **settings)
    assert left.code == 0, left.output
    return run


def test_a_resumed_run_has_each_step_once_in_tensorboard(resumed):
    """Breaks if steps that are done again after a kill are drawn twice, or those before the checkpoint are hidden."""
    lines = steps_of(resumed)
    assert scalars(events(resumed / "qa-accel"), "loss") == [
        (line["step"], pytest.approx(line["loss"])) for line in lines
    ]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_a_resumed_run_keeps_its_run_of_wandb(resumed):
    """Breaks if each start is a run of its own in W&B, or a stopped run is a failed one."""
    stopped, killed, ended = offline_runs(resumed)
    assert stopped.id == killed.id == ended.id == (resumed / "wandb_run_id").read_text().strip()
    assert stopped.exit_code == ended.exit_code == 0
    assert list(stopped.series("loss")) == [1, 2] and list(ended.series("loss")) == [5, 6]
    assert not stopped.series("final/f1") and list(ended.series("final/f1")) == [6]


def test_the_report_of_a_real_run_reaches_its_trackers(resumed):
    """Breaks if the run's end sends its report nowhere, or a figure or table of it cannot be sent."""
    pytest.importorskip("plotly", reason="needs the extra 'report'")
    ended, board = offline_runs(resumed)[-1], events(resumed / "qa-accel")
    assert ended.media(ended.series("report")[6]).read_bytes() == (resumed / "report.html").read_bytes()
    images = set(board.Tags()["images"])
    media = {key: value["_type"] for row in ended.history for key, value in row.items() if isinstance(value, dict)}
    assert len(images) > 3 and {key for key, kind in media.items() if kind == "image-file"} == images
    assert "table-file" in media.values()


def test_a_run_that_starts_from_the_beginning_has_a_new_run_of_wandb(tmp_path):
    """Breaks if --overwrite_output_dir appends to the former run in W&B."""
    first = trackers._wandb_options(tmp_path, resumed=False)
    assert trackers._wandb_options(tmp_path, resumed=True) == first
    assert trackers._wandb_options(tmp_path, resumed=False)["id"] != first["id"]
    (tmp_path / "wandb_run_id").write_text("../../x")
    assert "/" not in trackers._wandb_options(tmp_path, resumed=True)["id"]


def test_a_failed_run_is_a_failed_one_in_wandb(trainer, tmp_path):
    """Breaks if the trackers stay open after an error or W&B shows it as finished; and if plots are left out in silence."""
    [left] = trainer(
        tmp_path / "run", arrangements=[(hide_matplotlib,)], learning_rate=1e35, environment=offline(tmp_path), **BOTH
    )
    assert left.code == 2 and "training stopped at step" in left.output
    [run] = offline_runs(tmp_path / "run")
    assert run.exit_code == 1
    assert "plots are left out of the trackers, they need matplotlib: pip install" in left.output


def hide_matplotlib() -> None:
    import sys

    sys.modules["matplotlib"] = None  # type: ignore[assignment]


def test_a_tracker_that_dies_in_the_middle_does_not_end_the_run(trainer, tmp_path):
    """Breaks if the death of W&B's own process ends a run whose weights are whole, or the other tracker gets no more."""
    [left] = trainer(
        tmp_path / "run",
        arrangements=[(kill_wandb_after, 2)],
        max_train_steps=4,
        environment=offline(tmp_path),
        report_to="all",
        logging_steps=1,
    )
    assert left.code == 0, left.output
    assert "tracker wandb" in left.output
    board = events(tmp_path / "run" / "qa-accel")
    assert [step for step, _ in scalars(board, "loss")] == [1, 2, 3, 4] and scalars(board, "final/f1")


def test_a_tracker_that_cannot_start_is_refused_before_the_first_step(trainer, tmp_path):
    """Breaks if W&B without an account ends in a traceback, or after the training."""
    environment = offline(tmp_path, WANDB_MODE="online", WANDB_API_KEY="", WANDB_BASE_URL="http://127.0.0.1:9")
    [left] = trainer(tmp_path / "run", report_to="wandb", environment=environment | {"HOME": str(tmp_path)})
    assert left.code == 2
    assert "--report_to wandb: a tracker cannot be started: " in left.output and "WANDB_MODE=offline" in left.output
    assert "Traceback" not in left.output and not (tmp_path / "run" / "metrics.jsonl").exists()


# --- trackers of which accelerate knows no more than a class


class Noting(GeneralTracker):
    """A tracker as accelerate's users write them, which can do no more than log numbers."""

    name, requires_logging_directory = "noting", False

    def __init__(self):
        super().__init__()
        self.got: list[tuple] = []

    @property
    def tracker(self):
        return self.got

    def log(self, values, step=None, **_):
        self.got.append(("log", values, step))


class NotingImages(Noting):
    def log_images(self, values, step=None, **_):
        self.got += [("image", key, [image.shape for image in images], step) for key, images in values.items()]


class NotingFiles(Noting):
    def log_figure(self, figure, artifact_file, **_):
        self.got.append(("figure", artifact_file, figure.get_size_inches().tolist()))

    def log_artifact(self, path, *_):
        raise OSError("the server is gone")


def sent(tracker: Noting) -> list[tuple]:
    accelerator = Accelerator(cpu=True, log_with=[tracker])
    accelerator.init_trackers("x")
    scores = {"f1": 2.5, "total": 3, "is_calibrated": True, "not_calibrated": "too few", "none": None}
    trackers.send(accelerator, small_report(scores), Path("report.html"), scores, 7)
    return tracker.got


NUMBERS = ("log", {"final/f1": 2.5, "final/total": 3}, 7)


def test_a_tracker_with_numbers_only_gets_the_numbers():
    """Breaks if a tracker without functions for images ends the run, or a score that is no number is sent as one."""
    assert sent(Noting()) == [NUMBERS]


def test_a_tracker_with_images_gets_lists_of_them():
    assert sent(NotingImages()) == [
        NUMBERS,
        ("image", "report/threshold", [(500, 800, 3)], 7),
        ("image", "report/kinds", [(500, 800, 3)], 7),
    ]


def test_what_a_tracker_cannot_take_is_left_out_with_a_warning(caplog):
    """Breaks if an error at the end of a run loses the run, or goes by in silence. Figures come before the artifact."""
    got = sent(NotingFiles())
    assert got == [
        NUMBERS,
        ("figure", "report/threshold.png", [8.0, 5.0]),
        ("figure", "report/kinds.png", [8.0, 5.0]),
    ]
    assert "tracker noting did not get the report: OSError: the server is gone" in caplog.text


def test_tables_of_one_caption_keep_apart():
    """Breaks if the second of two tables with the same caption replaces the first in W&B."""
    section = small_report({}).sections[0]
    twice = type(section)("s", "S", [section.blocks[0], section.blocks[0]])
    assert list(trackers._tables([twice])) == ["report/s/scores", "report/s/scores-again-1"]


def test_trackers_get_settings_as_plain_values():
    assert trackers._plain({"a": 1, "b": 0.5, "c": True, "d": "x", "e": None, "f": ["y"]}) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": "x",
        "e": "None",
        "f": "['y']",
    }
