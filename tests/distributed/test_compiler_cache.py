"""Compiled kernels go where the next run looks for them."""

import os
import subprocess
import sys

import pytest

from qa_accel.distributed import compiler_cache
from qa_accel.distributed.compiler_cache import VARIABLE

FOLDER = """
from qa_accel.distributed import compiler_cache
compiler_cache.keep()
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(cache_dir())
"""


@pytest.mark.parametrize("given", [False, True])
def test_torch_keeps_kernels_in_the_users_cache_or_where_the_variable_says(tmp_path, given):
    """Breaks if torch no longer reads the variable, and if a folder that the user names is not used."""
    named = tmp_path / "named"
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {"XDG_CACHE_HOME": str(tmp_path)} | ({VARIABLE: str(named)} if given else {})
    done = subprocess.run(
        [sys.executable, "-c", FOLDER], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.strip() == str(named if given else tmp_path / "qa_accel" / "compiled")


def test_a_folder_that_others_may_write_or_nobody_can_is_left_alone(tmp_path, monkeypatch):
    """Breaks if a run fails for its cache, or would load code that another user put there."""
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be in it
    compiler_cache.keep()
    assert VARIABLE not in os.environ
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shared = tmp_path / "qa_accel" / "compiled"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    compiler_cache.keep()
    assert VARIABLE not in os.environ
    shared.chmod(0o700)
    compiler_cache.keep()
    assert os.environ.pop(VARIABLE) == str(shared)
