"""metrics.jsonl: a line per step, whole lines only, and none twice after a resume."""

import json

import pytest

from qa_accel.training import log


def test_lines_behind_the_checkpoint_are_cut_since_they_come_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "eval_f1": 50.0}, {"step": 3, "loss": 0.5}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log._cut(path, 2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == lines[:3]
    log._cut(path, 0)
    assert path.read_text() == ""


def test_half_a_line_of_a_killed_run_is_cut(tmp_path):
    """Breaks if a run cannot go on since the last line of its metrics is not JSON."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    log._cut(path, 5)
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n'


def test_a_run_without_metrics_has_nothing_to_cut(tmp_path):
    log._cut(tmp_path / "metrics.jsonl", 3)
    assert not list(tmp_path.iterdir())


def test_trackers_get_settings_as_plain_values():
    assert log._plain({"a": 1, "b": 0.5, "c": True, "d": "x", "e": None, "f": ["y"]}) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": "x",
        "e": "None",
        "f": "['y']",
    }


def test_looking_at_the_device_less_than_once_a_step_is_refused():
    with pytest.raises(ValueError, match="--logging_steps must be at least 1, got 0"):
        log.LogConfig(logging_steps=0)
