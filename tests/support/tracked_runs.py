"""What a run's trackers have got, read back: TensorBoard's events by its own reader, W&B's offline files by their format.

And a small report for a run to send.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qa_accel.reporting import blocks
from qa_accel.training import log

NASTY = "<script>alert(1)</script> | a_b_c *d*\n$x$"
PAGE = "<!doctype html><html><head><title>t</title></head><body>the report</body></html>"


def small_report(scores: Mapping[str, Any]) -> blocks.Report:
    """A table and a figure in each of two sections; `NASTY` is a text from the data."""
    x = [-2.0, -1.0, 0.0, 1.0, 2.0]
    f1 = blocks.Curve(
        "F1", x, [10.0, None, 30.0, 50.0, 40.0], "band", [5.0, 10.0, 20.0, 40.0, 30.0], [20.0, 30, 40, 60, 50]
    )
    threshold = blocks.Figure("threshold", "F1 and threshold", "null odds", "F1", [f1], {"chosen": 1.0}, NASTY)
    kinds = blocks.Figure(
        "kinds", "Kinds", "kind", "questions", [blocks.Curve("run", ["right", NASTY], [20, 10], "bars")]
    )
    rows = [(name, value, None) for name, value in sorted(scores.items()) if isinstance(value, (int, float))]
    errors = [(NASTY, 3, 0.1), ("wrong span", "many", None)]
    return blocks.Report(
        f"Report {NASTY}",
        "a toy",
        [
            blocks.Section("scores", "Scores", [blocks.Table("Scores", ["score", "value", "note"], rows), threshold]),
            blocks.Section("errors", "Errors", [blocks.Table(NASTY, ["kind", "count", "share"], errors), kinds]),
        ],
    )


def send_small_report() -> None:
    """Let the run's end send `small_report` of its scores, and PAGE as its page."""
    original = log.MetricsLog.report

    def with_report(self, report, html_file, scores):
        if not self.accelerator.is_main_process:
            return
        page = self.path.parent / "report.html"
        page.write_text(PAGE)
        original(self, small_report(scores), page, scores)

    log.MetricsLog.report = with_report  # type: ignore


@dataclass
class OfflineRun:
    """A folder offline-run-* of W&B."""

    folder: Path
    id: str
    """As the folder's name has it: of a killed run, W&B writes no more than that for sure."""
    project: str = ""
    exit_code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    """Rows: key -> value, `_step` among them."""

    def series(self, key: str) -> dict[int, Any]:
        """Step -> value."""
        return {row["_step"]: row[key] for row in self.history if key in row}

    def media(self, value: Mapping[str, Any]) -> Path:
        """The file that a value of the history names."""
        return self.folder / "files" / value["path"]


def offline_runs(folder: Path) -> list[OfflineRun]:
    """In the order of their starts."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_ctime_ns):
        run = OfflineRun(path.parent, path.parent.name.rpartition("-")[2])
        for content in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                assert record.run.run_id == run.id
                run.project = record.run.project
                run.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "config":
                run.config |= {item.key: json.loads(item.value_json) for item in record.config.update}
            elif kind == "history":
                run.history.append(_row(record.history.item) | {"_step": record.history.step.num})
            elif kind == "exit":
                run.exit_code = record.exit.exit_code
        found.append(run)
    return found


def _row(items: Any) -> dict[str, Any]:
    """Media travel as one item for each entry of their dictionary."""
    row: dict[str, Any] = {}
    for item in items:
        first, *further = list(item.nested_key) or [item.key]
        if further:
            row.setdefault(first, {})["/".join(further)] = json.loads(item.value_json)
        else:
            row[first] = json.loads(item.value_json)
    return row


def _records(content: bytes) -> Iterator[bytes]:
    """Of a LevelDB log after W&B's header of 7 bytes: pieces with a header of 7 bytes (checksum, length, type) in blocks of
    32 KiB; type 1 is a whole record, 2, 3 and 4 are the first, a middle and the last piece of one."""
    assert content[:4] == b":W&B"
    place, whole = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        if kind == 0:
            return
        piece = content[place + 7 : place + 7 + length]
        place += 7 + length
        whole = piece if kind in (1, 2) else whole + piece
        if kind in (1, 4):
            yield whole


def events(folder: Path) -> Any:
    """TensorBoard's reader of all files directly in a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def scalars(accumulator: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def text(accumulator: Any, name: str) -> str:
    [event] = accumulator.Tensors(f"{name}/text_summary")
    return event.tensor_proto.string_val[0].decode()
