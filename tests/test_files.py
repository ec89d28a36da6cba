"""Files that appear whole or not at all, and what killed processes leave of those that did not."""

import os
import time

from qa_accel import files


def test_what_was_left_a_day_ago_is_deleted_and_what_is_being_written_is_not(tmp_path):
    """Breaks if a cache fills up with the remains of killed runs, or if a run deletes what another one is writing."""
    for name, hours in {"windows-1.partial-old": 25, "windows-1.partial-busy": 25, "windows-2.partial-new": 1}.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "part").write_text("half")
        then = time.time() - hours * 3600
        for path in (folder / "part", folder):
            os.utime(path, (then, then))
    (tmp_path / "windows-1.partial-busy" / "part").write_text("still growing")
    (tmp_path / "windows-1.arrow").write_text("whole")
    files.remove_abandoned(tmp_path, "windows-*.partial-*")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"windows-1.partial-busy", "windows-2.partial-new", "windows-1.arrow"}
