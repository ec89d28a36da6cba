"""Who may import whom: folders import downwards only, no circles, and no stage knows a run's settings."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "qa_accel"
LEVELS = (
    "terminal messages answer_language",
    "files run_layout config input_files recipe_yaml ranges answer_text language_by_set shell_words hub hub_errors hub_settings",
    "data",
    "models",
    "distributed",
    "batching",
    "inference",
    "evaluation",
    "reporting",
    "serving",
    "training",
    "preflight",
    "bench",
    "experiments",
    "commands",
    "cli",
)
"""From the bottom up. What one line names may import what the lines above it name, and modules of its own folder."""
SETTINGS_OF_A_RUN = "training.settings"
MAY_IMPORT_THEM = ("training.build", "training.trainer", "preflight.", "commands.")


@cache
def imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports anywhere: at the top, in functions, under TYPE_CHECKING."""
    names = {path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".") for path in PACKAGE.rglob("*.py")}
    found = {}
    for name in names:
        if name.endswith("__init__"):
            continue
        found[name] = set()
        for node in ast.walk(ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: a relative import"
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}".removeprefix("qa_accel.")
                    parent = (node.module or "").removeprefix("qa_accel.")
                    found[name] |= {whole, parent} & names
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name.removeprefix("qa_accel.") for alias in node.names} & names
    return found


def level(module: str) -> int:
    """Place of a module's folder, or of a module that is in none, in LEVELS."""
    [place] = [place for place, line in enumerate(LEVELS) if module.partition(".")[0] in line.split()]
    return place


def test_every_import_is_read():
    """Breaks if the tests below run over nothing: these imports are known to be there."""
    assert sum(map(len, imports().values())) > 150
    assert "data.windows" in imports()["data.window_assembly"]
    assert "training.settings" in imports()["preflight.checks"]
    assert "distributed.strategy" in imports()["training.build"], "`from package import module` counts too"
    assert "data.squad_format" in imports()["commands.score"], "an import within a function counts too"


def test_folders_import_downwards_only():
    """Breaks if a lower stage comes to know a later one: then neither can be read, tested or replaced alone."""
    wrong = [
        f"{module} imports {imported}"
        for module, names in imports().items()
        for imported in names
        if level(imported) > level(module)
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_no_modules_import_each_other_in_a_circle():
    """Breaks if two modules of a folder need each other; TYPE_CHECKING is not a way around it."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for imported in sorted(imports()[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in imports():
        visit(module, ())


def test_a_stage_takes_its_own_settings_never_the_runs():
    """Breaks if a module that is not part of the wiring reads TrainConfig: it could then be used by training only."""
    readers = {module for module, names in imports().items() if SETTINGS_OF_A_RUN in names}
    assert readers, "somebody builds a run"
    assert not [module for module in readers if not module.startswith(MAY_IMPORT_THEM)]
