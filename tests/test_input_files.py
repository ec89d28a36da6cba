"""A user's file is read, or one error names it; nothing waits for ever."""

import os
import socket
from pathlib import Path

import pytest

from qa_accel.input_files import read_json, require_regular


def test_json_is_read_with_or_without_a_byte_order_mark(tmp_path):
    for content in (b'{"a": 1}', b'\xef\xbb\xbf{"a": 1}'):
        (tmp_path / "a.json").write_bytes(content)
        assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not JSON \(Expecting value"),
        (b"\xff", r"is not JSON \('utf-8' codec"),
        (b"[" * 100_000, r"is not JSON \(nested too deep\)"),
        (b"[" * 100_000 + b"]" * 100_000, r"is not JSON \(nested too deep\)"),
        (b"7" * 5000, r"is not JSON \(an integer has thousands of digits\)"),
    ],
)
def test_what_is_no_json_is_an_error_that_names_the_file(content, message, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.json: {message}"):
        read_json(tmp_path / "a.json")


def test_only_regular_files_are_opened(tmp_path):
    """Breaks if any other kind is opened: a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for path, kind in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "socket", "a socket"),
        (Path("/dev/zero"), "a device"),
    ):
        with pytest.raises(ValueError, match=f"{path}: is {kind}, not a regular file"):
            read_json(path)


def test_what_is_absent_or_a_folder_is_left_to_the_one_who_opens_it(tmp_path):
    for path, message in ((tmp_path / "absent", "No such file"), (tmp_path, "Is a directory")):
        require_regular(path)
        with pytest.raises(ValueError, match=rf"{path}: cannot be read \({message}"):
            read_json(path)
