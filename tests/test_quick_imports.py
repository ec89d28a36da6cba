"""What a library does not get at once: it comes when it is used, and nobody else notices."""

import builtins
import gc
import importlib
import subprocess
import sys

import pytest

from qa_accel.quick_imports import UNUSED, quick_imports

LIBRARIES = {
    "eager": """
import tables as pd
from tables import DataFrame
def table(rows: "int", wanted: DataFrame | None = None): return pd.DataFrame(rows)
def is_table(what): return isinstance(what, (pd.DataFrame, DataFrame))
""",
    "other": "import tables as pd",
}


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """A library in UNUSED, one that is not, and the package that both import."""
    monkeypatch.setitem(UNUSED, "eager", ("tables",))
    for name, text in LIBRARIES.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "tables.py").write_text("class DataFrame:\n    def __init__(self, rows): self.rows = rows\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in (*LIBRARIES, "tables"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in (*LIBRARIES, "tables"):
        sys.modules.pop(name, None)


def test_a_library_works_as_before_and_imports_on_its_first_call(libraries):
    """Breaks if the stand-in stays a stand-in, if isinstance imports or errs, or an annotation with | fails."""
    with quick_imports():
        import eager  # type: ignore[import-not-found]
    assert "tables" not in sys.modules
    assert not eager.is_table([1]) and "tables" not in sys.modules, "no table can be there yet"
    made = eager.table([1, 2])
    assert made.rows == [1, 2] and type(made) is sys.modules["tables"].DataFrame
    assert eager.is_table(made) and not eager.is_table([1])


def test_other_importers_get_the_package_itself(libraries):
    """Breaks if a user's own import gets a stand-in, or one is left in sys.modules."""
    with quick_imports():
        import other  # type: ignore[import-not-found]
    assert other.pd is sys.modules["tables"]
    with quick_imports():
        import eager  # type: ignore[import-not-found]
    assert eager.pd is sys.modules["tables"], "what is imported already stays as it is"


def test_after_the_block_all_is_as_before_an_error_too():
    """Breaks if a failing import leaves Python without its collector or with another import statement."""
    before = builtins.__import__
    with pytest.raises(ModuleNotFoundError), quick_imports():
        importlib.import_module("no_such_module_at_all")
    with quick_imports():
        assert not gc.isenabled()
    assert builtins.__import__ is before and gc.isenabled()
    gc.disable()
    try:
        with quick_imports():
            pass
        assert not gc.isenabled(), "whoever has turned it off wants it off"
    finally:
        gc.enable()


def test_the_real_library_still_does_what_needs_the_packages(repository):
    """Object detection's losses come to scipy. Breaks if a stand-in cannot do its work, or an import is not put off."""
    program = """
import sys
from qa_accel.quick_imports import quick_imports
with quick_imports():
    from transformers.loss import loss_for_object_detection as detection
    from transformers import get_linear_schedule_with_warmup
print([name for name in ("peft", "scipy.optimize") if name in sys.modules])
print(*detection.linear_sum_assignment([[4, 1], [2, 8]]))
print([name for name in ("peft", "scipy.optimize") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "[0 1] [1 0]", "['scipy.optimize']"], done.stderr
    assert UNUSED == {"transformers": ("peft", "scipy.optimize")}
