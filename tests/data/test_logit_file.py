"""The file of logits is filled in bounded memory, whatever the order of its windows."""

import re
from pathlib import Path

import numpy as np

from qa_accel.data import cache_file, logit_file
from qa_accel.data.logit_file import LogitFileWriter
from qa_accel.data.windows import Windows


def windows_of_length(length: int, count: int) -> Windows:
    zeros_N, zeros_W = np.zeros(length * count, np.int32), np.zeros(count, np.int32)
    begin_W = np.arange(count + 1) * length
    per_window = dict.fromkeys(("context_begin_W", "context_end_W", "null_W", "start_W", "end_W"), zeros_W)
    return Windows(zeros_N, None, zeros_N, zeros_N, begin_W, np.arange(count, dtype=np.int32), **per_window)


def mapped_megabytes() -> float:
    """Pages of files that count as this process's memory."""
    status = Path("/proc/self/status").read_text()
    return sum(int(kilobytes) for kilobytes in re.findall(r"Rss(?:File|Shmem):\s+(\d+)", status)) / 1024


def test_memory_does_not_grow_with_the_file_and_every_logit_is_in_its_place(tmp_path):
    """30,000 windows of 171 tokens, a file of 42 MB, in an order drawn by chance as when lengths vary. Breaks if the file is
    mapped: the kernel may map a megabyte around each window that is written."""
    windows = windows_of_length(171, 30_000)
    before = mapped_megabytes()
    path = tmp_path / "logits-0.arrow"
    writer, most = LogitFileWriter(path, windows, "float32"), 0.0
    laid_out = mapped_megabytes() - before
    for index_B in np.random.default_rng(0).permutation(30_000).reshape(-1, 500):
        start_BL = index_B[:, None] + np.arange(176, dtype=np.float32) / 256  # the last five columns are padding
        writer.place(index_B, start_BL, -start_BL, start_BL[:, 0], start_BL[:, 1])
        most = max(most, mapped_megabytes() - before)
    writer.finish()
    assert path.stat().st_size > 41e6
    assert laid_out < 30 and most < laid_out + 10
    cache_file.seal(path, path.name)
    saved = logit_file.read(path)
    expected = np.arange(30_000, dtype=np.float32)[:, None] + np.arange(171, dtype=np.float32) / 256
    assert np.array_equal(saved.start_N.reshape(-1, 171), expected)
    assert np.array_equal(saved.end_N.reshape(-1, 171), -expected)
    assert saved.lse_end_W is not None and np.array_equal(saved.lse_end_W, expected[:, 1])
