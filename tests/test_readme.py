"""What the README and the docs say exists does exist: commands, flags, files, modules and their order."""

import re
from pathlib import Path

import pytest
from documented_commands import check, of_markdown

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
DOCUMENTS = [README, *sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "quickstart" / "README.md"]
DOCUMENTS += [REPOSITORY / "slurm" / "README.md"]
COMMANDS = [(path.name, command) for path in DOCUMENTS if path.is_file() for command in of_markdown(path)]
MODULES = REPOSITORY / "qa_accel"


@pytest.mark.parametrize(("document", "command"), COMMANDS, ids=[f"{name}: {line[:60]}" for name, line in COMMANDS])
def test_a_command_of_the_documentation_can_be_typed(document, command):
    """Breaks if it names a script, a config file, a recipe, a flag or a make target that does not exist."""
    check(command)


def test_the_readme_shows_each_script_and_the_two_commands():
    """Breaks if the tests above run over nothing, or a script has no example."""
    commands = of_markdown(README)
    assert {"make quickstart", "make test"} <= {command.partition("#")[0].strip() for command in commands}
    for script in ("train.py", "predict.py", "score.py", "prepare.py", "preflight.py", "summary.py"):
        assert any(f"scripts/{script}" in command for command in commands), script


@pytest.mark.parametrize(
    "wrong",
    [
        "make coffee",
        "python scripts/nothing.py",
        "python scripts/train.py --config scripts/recipes/nothing.yaml",
        "python scripts/train.py --config scripts/recipes/squad_v2.yaml --learning_rat 1",
        "python scripts/score.py --validation_file DEV --predictions_path P",
        "accelerate launch --config_file accelerate_configs/none.yaml scripts/prepare.py --config scripts/recipes/squad_v2.yaml",
        "accelerate launch --config_file accelerate_configs/multi_gpu.yaml scripts/train.py --config scripts/recipes/squad_v2.yaml",
        "accelerate launch --gpus 2 scripts/train.py --config scripts/recipes/squad_v2.yaml",
        "sbatch $TRAIN_JOB slurm/nothing.sbatch --config scripts/recipes/squad_v2.yaml",
        "sbatch $TRAIN_JOB slurm/train.sbatch --config scripts/recipes/squad_v2.yaml --learning_rat 1",
        "sbatch --nodes 2 slurm/train.sbatch --config scripts/recipes/squad_v2.yaml",
        "slurm/pipeline.sh --config scripts/recipes/squad_v2.yaml -- --test_fil questions.json",
        "curl https://example.org",
    ],
)
def test_a_command_that_cannot_be_typed_is_found_out(wrong):
    """Breaks if the checker of commands takes anything for good."""
    with pytest.raises((AssertionError, SystemExit)):
        check(wrong)


def test_paths_and_names_that_the_readme_mentions_exist():
    """In the table of what to change where, and anywhere else in backticks."""
    text = README.read_text()
    paths = set(re.findall(r"`((?:qa_accel|scripts|tests|quickstart|accelerate_configs|slurm|docs)/[\w./]*)`", text))
    assert len(paths) > 5
    missing = {path for path in paths if not (REPOSITORY / path).exists()}
    assert not missing
    named = re.findall(r"`([\w.]+)` in `(qa_accel/[\w/]+\.py)`", text)
    assert named, "the table names a function and its module"
    for name, path in named:
        source = (REPOSITORY / path).read_text()
        for part in name.split("."):
            assert re.search(rf"^\s*(def |class )?{part}\b", source, re.MULTILINE), f"{name} is not in {path}"


def test_links_to_files_lead_somewhere():
    for document in DOCUMENTS:
        if document.is_file():
            for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_no_document_or_source_holds_a_path_of_somebodys_machine():
    """Breaks if a command was copied with the folders of whoever ran it."""
    private = re.compile(r"/(?:home|Users|root|work|tmp/w)/")
    checked = [*DOCUMENTS, *REPOSITORY.glob("*.toml"), REPOSITORY / "Makefile", *REPOSITORY.glob("scripts/**/*.yaml")]
    checked += [*MODULES.rglob("*.py"), *REPOSITORY.glob("scripts/*.py"), *REPOSITORY.glob("accelerate_configs/*")]
    checked += [*REPOSITORY.glob("slurm/*")]
    for path in checked:
        if path.is_file():
            assert not private.search(path.read_text(encoding="utf-8")), path
