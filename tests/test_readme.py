"""What the README and the docs say exists does exist: commands, flags, files, names, links."""

import re
from pathlib import Path

import pytest
from documented_commands import blocks, check, of_markdown

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
DOCUMENTS = [README, REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
DOCUMENTS += [REPOSITORY / "quickstart" / "README.md", REPOSITORY / "slurm" / "README.md"]
COMMANDS = [(str(path.relative_to(REPOSITORY)), command) for path in DOCUMENTS for command in of_markdown(path)]
MODULES = REPOSITORY / "qa_accel"
FOLDERS = "qa_accel|scripts|tests|quickstart|accelerate_configs|slurm|docs"


@pytest.mark.parametrize(("document", "command"), COMMANDS, ids=[f"{name}: {line[:60]}" for name, line in COMMANDS])
def test_a_command_of_the_documentation_can_be_typed(document, command):
    """Breaks if it names a command, script, config file, recipe, flag, extra or make target that does not exist."""
    check(command)


def test_the_documentation_shows_each_command_and_the_readme_the_first_ones():
    """Breaks if the tests above run over nothing, or a command has no example."""
    shown = [command for _, command in COMMANDS]
    in_readme = of_markdown(README)
    assert {"make quickstart", "make test"} <= {command.partition("#")[0].strip() for command in in_readme}
    for name in ("train", "predict", "score"):
        assert any(command.startswith(f"qa-accel {name} ") for command in in_readme), name
    names = ("train", "predict", "serve", "prepare", "calibrate", "ask", "score", "preflight", "bench", "summary")
    for name in names:
        assert any(f"qa-accel {name} " in command or f"scripts/{name}.py" in command for command in shown), name


@pytest.mark.parametrize(
    "wrong",
    [
        "make coffee",
        "pip install qa-accel[coffee]",
        "pip install another-package",
        "qa-accel coffee",
        "echo question | qa-accel coffee | jq .answer",
        "echo question | curl https://example.org",
        "echo question | jq .question",
        "qa-accel train --config scripts/recipes/squad_v2.yaml --learning_rat 1",
        "python scripts/nothing.py",
        "python scripts/train.py --config scripts/recipes/nothing.yaml",
        "python scripts/train.py --config scripts/recipes/squad_v2.yaml --learning_rat 1",
        "python scripts/score.py --validation_file DEV --predictions_path P",
        "accelerate launch --config_file accelerate_configs/none.yaml scripts/prepare.py --config scripts/recipes/squad_v2.yaml",
        "accelerate launch --config_file accelerate_configs/multi_gpu.yaml scripts/train.py --config scripts/recipes/squad_v2.yaml",
        "accelerate launch --gpus 2 scripts/train.py --config scripts/recipes/squad_v2.yaml",
        "accelerate launch --cpu qa_accel.cli train --config scripts/recipes/squad_v2.yaml",
        "accelerate launch --cpu -m qa_accel.cli coffee --config scripts/recipes/squad_v2.yaml",
        "accelerate launch --cpu -m qa_accel.cli train --config scripts/recipes/squad_v2.yaml --learning_rat 1",
        "sbatch $TRAIN_JOB slurm/nothing.sbatch --config scripts/recipes/squad_v2.yaml",
        "sbatch $TRAIN_JOB slurm/train.sbatch --config scripts/recipes/squad_v2.yaml --learning_rat 1",
        "sbatch --nodes 2 slurm/train.sbatch --config scripts/recipes/squad_v2.yaml",
        "slurm/pipeline.sh --config scripts/recipes/squad_v2.yaml -- --test_fil questions.json",
        "curl https://example.org",
    ],
)
def test_a_command_that_cannot_be_typed_is_detected(wrong):
    """Breaks if the checker of commands accepts anything."""
    with pytest.raises((AssertionError, SystemExit)):
        check(wrong)


def test_the_readme_is_short_and_narrow():
    """Breaks if it grows beyond what a visitor reads; tables and links have no better place to break a line."""
    lines = README.read_text(encoding="utf-8").splitlines()
    assert 60 < len(lines) <= 160
    wide = [line for line in lines if len(line) > 120 and not line.startswith("|") and "](" not in line]
    assert not wide


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_paths_in_backticks_exist(document):
    """Breaks if a module, script, test or page is moved and its mention is not."""
    paths = set(re.findall(rf"`((?:{FOLDERS})/[\w./]*)`", document.read_text(encoding="utf-8")))
    assert not {path for path in paths if not (REPOSITORY / path).exists()}
    if document in (README, REPOSITORY / "docs" / "architecture.md"):
        assert len(paths) > 2, "these pages name files"


def test_names_that_the_documentation_places_in_a_module_are_there():
    """`name` in `module`, as the table of what to change where has it. Breaks if a function or class is renamed."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"((?:`[\w.]+`(?: and |, )?)+) in `(qa_accel/[\w/]+\.py)`", text)
    assert len(named) >= 5, "the table names functions and their modules"
    for names, path in named:
        source = (REPOSITORY / path).read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            for part in name.split("."):
                assert re.search(rf"^\s*(def |class )?{part}\b", source, re.MULTILINE), f"{name} is not in {path}"


def test_links_lead_to_a_file_and_to_a_heading():
    """Breaks if a page or a heading is renamed and a link to it is not."""
    checked = 0
    for document in DOCUMENTS:
        for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", document.read_text()):
            page = document.parent / target if target else document
            assert page.exists(), f"{document.name} links to {target}"
            if anchor:
                assert anchor in anchors(page), f"{document.name} links to #{anchor} of {page.name}"
            checked += 1
    assert checked > 20


def anchors(page: Path) -> set[str]:
    """The names that GitHub and mkdocs give to headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_no_document_or_source_holds_a_path_of_somebodys_machine():
    """Breaks if a command was copied with the folders of the person who ran it."""
    private = re.compile(r"/(?:home|Users|root|work|tmp/w)/")
    checked = [*DOCUMENTS, *REPOSITORY.glob("*.toml"), REPOSITORY / "Makefile", *REPOSITORY.glob("scripts/**/*.yaml")]
    checked += [*MODULES.rglob("*.py"), *REPOSITORY.glob("scripts/*.py"), *REPOSITORY.glob("accelerate_configs/*")]
    checked += [*REPOSITORY.glob("slurm/*"), *REPOSITORY.glob("docs/**/*.py"), REPOSITORY / "mkdocs.yml"]
    checked = [path for path in checked if path.is_file()]
    assert len(checked) > 60
    for path in checked:
        assert not private.search(path.read_text(encoding="utf-8")), path


UNUSED_WORDS = ("mend", "anew", "manner", "vain", "asked", "told", "of its own accord")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_text_is_plain_english(document):
    """Breaks if a word comes back that readers stumbled over. Quoted code and messages do not count, nor generated pages."""
    if document.name == "cli.md":
        pytest.skip("its words are those of the settings")
    text = document.read_text(encoding="utf-8")
    for block in blocks(document, r"\w*"):
        text = text.replace(block, "")
    text = re.sub(r"`[^`\n]*`", "", text)
    assert len(text) > 300
    found = re.findall(rf"\b(?:{'|'.join(UNUSED_WORDS)})\b", text, re.IGNORECASE)
    assert not found
