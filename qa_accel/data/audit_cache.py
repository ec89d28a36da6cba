"""The audit of a split, kept beside its windows: a start on millions of prepared questions audits none of them."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from qa_accel import files
from qa_accel.data import cache_file
from qa_accel.data.audit import SplitReport

logger = logging.getLogger(__name__)

VERSION = 1
"""Increase it when the same questions and windows give another report."""


def audit_file(windows: Path, *, training: bool, max_answer_length: int | None) -> Path:
    """`windows`: the path that the windows of all questions would have, before any is dropped (`window_cache.windows_file`)."""
    made_from = repr((VERSION, windows.name, training, max_answer_length))
    return windows.with_name(f"audit-{hashlib.blake2b(made_from.encode(), digest_size=16).hexdigest()}.json")


def read(path: Path) -> tuple[list[int], SplitReport] | None:
    """The rows of the questions that are dropped, and the report; None if there is none, or it is damaged."""
    if not path.is_file():
        return None
    try:
        if (damage := cache_file.damage_of(path)) is None:
            content = json.loads(path.read_bytes()[: -cache_file.TRAILER])
            return content["dropped"], SplitReport.from_dict(_tuples(content["report"]))
    except (OSError, KeyError, TypeError, ValueError) as error:  # deleted meanwhile, or written by another version
        damage = str(error)
    logger.warning("%s is damaged (%s): the audit is computed again", path, damage)
    return None


def write(path: Path, dropped: list[int], report: SplitReport) -> None:
    """A cache that cannot be written is no error: the audit is made again at the next start."""
    try:
        with files.replacing(path, files.CACHE_REMEDY) as partial:
            partial.write_text(json.dumps({"dropped": dropped, "report": report.as_dict()}), encoding="utf-8")
            cache_file.seal(partial, path.name)
    except OSError as error:
        logger.info("the audit is not kept: %s", error)


def _tuples(content: Any) -> Any:
    """Lists as tuples, as reports have them."""
    if isinstance(content, dict):
        return {name: _tuples(value) for name, value in content.items()}
    return tuple(map(_tuples, content)) if isinstance(content, list) else content
