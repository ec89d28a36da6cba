"""A block in which heavy libraries are imported without what is never used of them.

Some of what they import at their top serves what question answering never does: `transformers` imports scipy for the losses of
object detection, and peft for its own trainer. In the block it gets a stand-in, which imports the package at the first call that
needs it. All other importers, and the library itself afterwards, get the package.

And the garbage collector rests: an import makes hundreds of thousands of objects that stay, and each round looks at all of them.

`isinstance(x, stand_in)` is False without an import: a class of a package that was never imported has no instance.
"""

import builtins
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

UNUSED = {"transformers": ("peft", "scipy.optimize")}
"""Importing library -> what it does not get at once."""


class StandIn:
    """A module, or what is in it, before it is imported."""

    def __init__(self, module: str, *path: str):
        self._module, self._path = module, path

    def _real(self) -> Any:
        found = importlib.import_module(self._module)
        for name in self._path:
            found = getattr(found, name)
        return found

    def __getattr__(self, name: str) -> Any:
        if self._module in sys.modules or name == "__version__":
            return getattr(self._real(), name)
        if name.startswith("__"):  # typing and inspect ask any object for such
            raise AttributeError(name)
        return StandIn(self._module, *self._path, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._real()(*arguments, **options)

    def __instancecheck__(self, instance: Any) -> bool:
        return self._module in sys.modules and isinstance(instance, self._real())

    def __or__(self, other: Any) -> Any:  # in annotations, which are evaluated where a function is defined
        return Any

    __ror__ = __or__


@contextmanager
def quick_imports() -> Iterator[None]:
    """Within the block, imports of UNUSED give stand-ins, and no garbage is collected. What is imported already stays as it is."""
    real_import, collected = builtins.__import__, gc.isenabled()

    def import_or_stand_in(name, globals=None, locals=None, fromlist=(), level=0):
        importer = (globals or {}).get("__name__") or ""
        is_unused = not level and name in UNUSED.get(importer.partition(".")[0], ())
        # `import a.b` binds a, which no stand-in for a.b can be
        if is_unused and name not in sys.modules and (fromlist or "." not in name):
            return StandIn(name)
        return real_import(name, globals, locals, fromlist, level)

    builtins.__import__ = import_or_stand_in
    gc.disable()
    try:
        yield
    finally:
        builtins.__import__ = real_import
        if collected:
            gc.enable()
