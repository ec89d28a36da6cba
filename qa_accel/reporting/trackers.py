"""A run's trackers (TensorBoard, W&B and others, through accelerate): started, given numbers, given the report, closed.

Only the main process has trackers; on the others every function does nothing. A tracker that fails does not end the run: a
warning says why, and once it fails in the middle of the run, it gets no more.
"""

import contextlib
import importlib.util
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from qa_accel import files
from qa_accel.messages import one_line
from qa_accel.reporting import blocks, figure_images, tracker_texts
from qa_accel.terminal import visible

logger = logging.getLogger(__name__)

WANDB_RUN = "wandb_run_id"
"""The file in a run's folder from which a resumed run takes the id of its W&B run."""
FINAL = "final/"
"""Before the name of a final score; the steps' numbers have no prefix, evaluations have `eval_`."""
REPORT = "report"


@dataclass(frozen=True)
class _Content:
    """What the trackers get at the end."""

    numbers: Mapping[str, float]
    drawings: Mapping[str, tuple[blocks.Figure, Any]]
    """Key -> figure and its drawing."""
    tables: Mapping[str, blocks.Table]
    texts: Mapping[str, str]
    """Key -> markdown."""
    html_file: Path | None
    step: int


def start(accelerator: Accelerator, project: str, settings: Mapping[str, Any], folder: Path, first_step: int) -> None:
    """Start the trackers that the accelerator was made with; their files go into the run's `folder`.

    A run that continues after `first_step` continues what it has there: TensorBoard hides later steps of the interrupted
    run, W&B keeps the run's id. Raises ValueError if a tracker cannot be started.
    """
    if not accelerator.is_main_process or not accelerator.log_with:
        return
    if importlib.util.find_spec("matplotlib") is None:
        logger.warning("plots are left out of the trackers, they need matplotlib: pip install 'qa-accel[tracking]'")
    names = [str(tracker) for tracker in accelerator.log_with]
    options: dict[str, Any] = {"tensorboard": {"purge_step": first_step + 1}}
    if "wandb" in names:
        options["wandb"] = _wandb_options(folder, resumed=first_step > 0)
    try:
        accelerator.init_trackers(project, config=_plain(settings), init_kwargs=options)
    except Exception as error:
        raise ValueError(
            f"--report_to {' '.join(names)}: a tracker cannot be started: {_reason(error)}. Give it what it needs, or leave "
            "its name out (W&B without an account or a network: WANDB_MODE=offline)"
        ) from error


def log(accelerator: Accelerator, line: Mapping[str, Any], step: int) -> None:
    """Give every tracker the numbers of a line. One that fails gets no more."""
    numbers = {key: value for key, value in line.items() if isinstance(value, (int, float))}
    for tracker in list(accelerator.trackers):
        try:
            tracker.log(numbers, step=step)
        except Exception as error:
            accelerator.trackers.remove(tracker)
            with contextlib.suppress(Exception):  # what it has got so far is written out if it still can
                tracker.finish()
            logger.warning("tracker %s fails at step %d and is left out: %s", tracker.name, step, _reason(error))


def send(
    accelerator: Accelerator,
    report: blocks.Report | None,
    html_file: Path | None,
    scores: Mapping[str, Any] | None,
    step: int,
) -> None:
    """Give every tracker the final scores and, as far as it can show them, the plots, tables and texts of the report.

    `html_file`: the report as one file. `step`: the run's last one, of which all this becomes a part. What cannot be sent is
    left out with a warning.
    """
    if not accelerator.trackers:
        return
    sections = report.sections if report is not None else ()
    content = _Content(
        numbers={FINAL + key: value for key, value in (scores or {}).items() if _is_number(value)},
        drawings=_drawings(sections),
        tables=_tables(sections),
        texts={} if report is None else tracker_texts.texts(report, html_file),
        html_file=html_file,
        step=step,
    )
    for tracker in accelerator.trackers:
        parts = {"tensorboard": _tensorboard_parts, "wandb": _wandb_parts}.get(tracker.name, _other_parts)
        for name, part in [("the final scores", _numbers_part(tracker, content)), *parts(tracker, content)]:
            try:
                part()
            except Exception as error:
                logger.warning("tracker %s did not get %s: %s", tracker.name, name, _reason(error))


def close(accelerator: Accelerator, *, failed: bool) -> None:
    """Write out what the trackers hold. `failed`: W&B shows the run as failed.

    Not accelerate's end_training, which would take the process group from under a run that still needs it.
    """
    for tracker in accelerator.trackers:
        try:
            if failed and tracker.name == "wandb":
                tracker.tracker.finish(exit_code=1)
            else:
                tracker.finish()
        except Exception as error:
            logger.warning("tracker %s cannot be closed: %s", tracker.name, _reason(error))
    accelerator.trackers.clear()


Parts = Iterator[tuple[str, Callable[[], None]]]


def _numbers_part(tracker: Any, content: _Content) -> Callable[[], None]:
    def numbers() -> None:
        if content.numbers:
            tracker.log(dict(content.numbers), step=_step_of(tracker, content))
        if tracker.name == "wandb":
            tracker.tracker.summary.update(dict(content.numbers))

    return numbers


def _step_of(tracker: Any, content: _Content) -> int:
    """W&B drops what comes with a step before its last one, and a resumed run of it has begun after the interrupted one's."""
    return max(content.step, tracker.tracker.step) if tracker.name == "wandb" else content.step


def _tensorboard_parts(tracker: Any, content: _Content) -> Parts:
    def plots() -> None:
        for key, (_, drawing) in content.drawings.items():
            batch = figure_images.pixels(drawing)[None]
            tracker.log_images({key: batch}, step=content.step, dataformats="NHWC")

    def texts() -> None:
        for key, text in content.texts.items():
            tracker.writer.add_text(key, text, global_step=content.step)
        tracker.writer.flush()

    yield "the plots", plots
    yield "the tables", texts


def _wandb_parts(tracker: Any, content: _Content) -> Parts:
    import wandb

    def plots() -> None:
        for key, (figure, drawing) in content.drawings.items():
            caption = visible(" ".join(filter(None, (figure.title, figure.note))))
            tracker.log(
                {key: wandb.Image(figure_images.pixels(drawing), caption=caption)}, step=_step_of(tracker, content)
            )

    def tables() -> None:
        for key, table in content.tables.items():
            rows: list[Any] = [[visible(cell) if isinstance(cell, str) else cell for cell in row] for row in table.rows]
            columns: list[Any] = [visible(name) for name in table.columns]
            tracker.log(
                {key: wandb.Table(columns=columns, data=rows, allow_mixed_types=True)}, step=_step_of(tracker, content)
            )

    def page() -> None:
        # unchanged: the style that wandb would add to it comes from another host
        tracker.log({REPORT: wandb.Html(str(content.html_file), inject=False)}, step=_step_of(tracker, content))

    yield "the plots", plots
    yield "the tables", tables
    if content.html_file is not None:
        yield "the report", page


def _other_parts(tracker: Any, content: _Content) -> Parts:
    """As far as accelerate's class for this tracker has a function for it."""
    images, figure, artifact = (getattr(tracker, f"log_{kind}", None) for kind in ("images", "figure", "artifact"))

    def plots() -> None:
        for key, (_, drawing) in content.drawings.items():
            if images is not None:
                image = figure_images.pixels(drawing)
                images({key: image if tracker.name in ("aim", "clearml") else [image]}, step=content.step)
            elif figure is not None:
                figure(drawing, f"{key}.png")

    yield "the plots", plots
    if artifact is not None and content.html_file is not None:
        yield "the report", lambda: artifact(str(content.html_file))


def _drawings(sections: Any) -> dict[str, tuple[blocks.Figure, Any]]:
    """Without matplotlib none: `start` has said so."""
    found = {}
    if importlib.util.find_spec("matplotlib") is None:
        return found
    for block in (block for section in sections for block in section.blocks if isinstance(block, blocks.Figure)):
        try:
            found[f"{REPORT}/{block.id}"] = block, figure_images.draw(block)
        except Exception as error:
            logger.warning("the plot %s is left out of the trackers: %s", block.id, _reason(error))
    return found


def _tables(sections: Any) -> dict[str, blocks.Table]:
    """By the section's name and the table's caption, as names that every tracker takes."""
    found = {}
    for section in sections:
        for block in section.blocks:
            if isinstance(block, blocks.Table):
                caption = re.sub(r"[^a-z0-9]+", "-", block.caption.lower())[:50].strip("-")
                key = f"{REPORT}/{section.id}/{caption or 'table'}"
                same = sum(other == key or other.startswith(f"{key}-again-") for other in found)
                found[f"{key}-again-{same}" if same else key] = block
    return found


def _wandb_options(folder: Path, *, resumed: bool) -> dict[str, Any]:
    """Where W&B writes, and the id of its run, unless W&B's own environment variables say so."""
    options: dict[str, Any] = {}
    if not os.environ.get("WANDB_DIR"):
        options["dir"] = str(folder.absolute())
    if not os.environ.get("WANDB_RUN_ID"):
        path = folder / WANDB_RUN
        known = path.read_text(errors="replace").strip() if resumed and path.is_file() else ""
        found = known if re.fullmatch(r"[a-z0-9]{8,64}", known) else secrets.token_hex(4)
        files.write_text(path, found + "\n")
        options |= {"id": found, "resume": "allow"}
    return options


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as trackers take them: numbers, switches and strings."""
    return {key: value if isinstance(value, (int, float, str, bool)) else str(value) for key, value in settings.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(str(error))}"
