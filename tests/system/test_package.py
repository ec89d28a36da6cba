"""The package as `pip install` leaves it: every module, the command, the names that it shows, and no torch before it is needed."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import qa_accel
from qa_accel import cli


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> Path:
    """Built from what git has, so that what a checkout holds besides does not get in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((repository / name).read_bytes())
    for path in (repository / "qa_accel").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            target = source / path.relative_to(repository)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source]
    built = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    if "No matching distribution" in built.stderr or "ConnectionError" in built.stderr:
        pytest.skip("no package index: the build's own requirements cannot be fetched")
    assert built.returncode == 0, built.stderr
    [path] = folder.glob("qa_accel-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A fresh environment outside of the checkout that has the wheel and nothing else; its folder of programs."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, wheel], check=True)
    return folder / "bin"


def run(words: list, folder: Path) -> subprocess.CompletedProcess[str]:
    """In another folder than the checkout, whose package would else be found first."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_every_module(wheel, repository):
    """Breaks if packages are listed by hand and a folder is forgotten: an editable install hides that."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("qa_accel/")}
    there = {path.relative_to(repository).as_posix() for path in (repository / "qa_accel").rglob("*.py")}
    assert "qa_accel/training/trainer.py" in there
    pages = {f"qa_accel/reporting/page/{name}" for name in ("explorer.html", "explorer.js", "report.css", "report.js")}
    assert held == there | pages | {"qa_accel/py.typed", "qa_accel/serving/page.html"}


def test_the_command_and_the_package_work_without_any_dependency(installed, tmp_path):
    """Breaks if help or the import of the package needs a library: neither tqdm nor torch is installed here."""
    helped = run([installed / "qa-accel", "--help"], tmp_path)
    assert helped.returncode == 0, helped.stderr
    for command in ("train", "predict", "ask", "prepare", "calibrate", "score", "preflight", "bench", "summary"):
        assert f"\n  {command} " in helped.stdout
    version = run([installed / "qa-accel", "--version"], tmp_path)
    assert version.stdout == f"qa-accel {qa_accel.__version__}\n"
    imported = run([installed / "python", "-c", "import qa_accel; print(qa_accel.__version__)"], tmp_path)
    assert imported.stdout.strip() == qa_accel.__version__, imported.stderr


def test_an_unknown_command_is_refused_with_a_suggestion(installed, tmp_path):
    refused = run([installed / "qa-accel", "trian"], tmp_path)
    assert refused.returncode == 2 and "unknown command 'trian'; did you mean 'train'?" in refused.stderr


def test_importing_the_package_or_showing_help_imports_no_torch(repository):
    """Breaks if a name of the package is imported before it is used, which takes seconds."""
    program = "import sys, qa_accel; print(sorted({'torch', 'transformers', 'numpy', 'tyro'} & sys.modules.keys()))"
    bare = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert bare.stdout.strip() == "[]", bare.stderr
    program = "import sys, qa_accel; qa_accel.train; print('torch' in sys.modules)"
    used = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert used.stdout.strip() == "True", used.stderr


HEAVY = "torch transformers datasets accelerate pyarrow numpy pandas tokenizers evaluate huggingface_hub deepspeed onnxruntime"
"""Each takes a tenth of a second to seconds to import."""
SAID_WITHOUT_THEM = """
import contextlib, io, json, runpy, sys

heavy, asked = json.load(sys.stdin)
said = []
for words in asked:
    sys.argv = words
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            said.append([end.code, text.getvalue(), sorted(set(heavy) & sys.modules.keys())])
json.dump(said, sys.stdout)
"""


def test_help_and_refusals_of_every_command_import_nothing_heavy(repository):
    """Breaks if the settings of any stage, or what reads them, come to import a library that takes a part of a second: --help and
    a typing error would cost what the command costs. One process asks for all, so an import by one command shows in the next."""
    model = ["--model_name_or_path", "m", "--output_dir", "o"]
    out_of_range = {
        "train": [*model, "--learning_rate", "-1"],
        "prepare": [*model, "--negative_window_ratio", "-1"],
        "preflight": [*model, "--max_train_hours", "0"],
        "predict": [*model, "--piece_megabytes", "0"],
        "calibrate": [*model, "--per_device_eval_batch_size", "0"],
        "export": [*model, "--dtype", "float16"],
        "decode": ["p", "--output_dir", "o", "--n_best_size", "0"],
        "ask": ["m", "--top_k", "0"],
        "serve": ["--model", "m", "--max_documents", "0"],
        "bench": ["--steps", "0"],
        "score": ["--validation_file", "v", "--predictions_file", "p", "--answer_language", "xx"],
        "report": ["r", "--hub_revision", "a b"],
        "sweep": ["--space", "s", "--output_dir", "o", "--trials", "0"],
        "learning_curve": ["--recipe", "r", "--output_dir", "o", "--seeds", "0"],
    }
    scripts = {command: str(repository / "scripts" / f"{command}.py") for command in cli.COMMANDS if command != "ask"}
    scripts["ask"] = str(repository / "qa_accel" / "cli.py")
    first_words = {command: [script, "ask"] if command == "ask" else [script] for command, script in scripts.items()}
    asked = [[*words, "--help"] for words in first_words.values()]
    asked += [[*words, "--no_such_flag", "1"] for words in first_words.values()]
    asked += [[*first_words[command], *words] for command, words in out_of_range.items()]
    given = json.dumps([HEAVY.split(), asked])
    done = subprocess.run(
        [sys.executable, "-c", SAID_WITHOUT_THEM], cwd=repository, input=given, capture_output=True, text=True
    )
    said = json.loads(done.stdout)
    assert len(said) == len(asked) == 2 * 16 + 14, done.stderr
    for words, (code, text, imported) in zip(asked, said):
        assert not imported, f"{words} imports {imported}"
        assert code == (0 if "--help" in words else 2) and text, words
    for words, (_, text, _) in zip(asked[32:], said[32:]):
        assert words[-2].lstrip("-") in text or words[-1] in text, f"{words} was refused for something else: {text}"


def test_help_answers_within_a_second(repository):
    """Of processor time, which other work on the machine does not stretch."""
    command = [sys.executable, "-m", "qa_accel.cli", "--help"]
    before, began = os.times(), time.monotonic()
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert seconds < 1, f"{seconds} s of processor time in {time.monotonic() - began} s"


def test_help_may_be_cut_off_by_its_reader(repository):
    """As `--help | head` does. Breaks if the closed pipe becomes a traceback, or a complaint at the exit."""
    command = [sys.executable, "-m", "qa_accel.cli", "train", "--help"]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # before anything is written
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_names_of_the_package_are_what_they_say():
    from qa_accel.commands import train as command
    from qa_accel.evaluation.squad_metric import SquadMetric
    from qa_accel.evaluation.squad_scores import squad_scores
    from qa_accel.inference.reader import Reader
    from qa_accel.training.settings import TrainConfig

    assert (qa_accel.Reader, qa_accel.TrainConfig, qa_accel.SquadMetric) == (Reader, TrainConfig, SquadMetric)
    assert (qa_accel.train, qa_accel.score) == (command.run, squad_scores)
    assert set(qa_accel.__all__) <= set(dir(qa_accel))
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        qa_accel.Trainer  # noqa: B018
