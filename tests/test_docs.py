"""The pages of docs/ agree with the code: flags, tree, messages, signatures, examples of data and of Python."""

import ast
import importlib
import importlib.util
import inspect
import os
import re
from pathlib import Path
from types import ModuleType

import pytest
import toy
from documented_commands import blocks
from processes import call
from transformers import BertForQuestionAnswering

import qa_accel
from qa_accel import cli
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import DataConfig

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PACKAGE = REPOSITORY / "qa_accel"


def module_of(path: Path) -> ModuleType:
    """A script of docs/, which is not a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(page: str, head: str) -> list[list[str]]:
    """The cells of each row of the tables of a page whose head begins with this cell."""
    tables = re.findall(r"(?:^\|.*\n)+", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    rows = [line for table in tables if table.startswith(f"| {head} |") for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


# --- generated pages


def test_the_page_of_commands_is_what_its_script_writes():
    """Breaks if a flag, a default or a docstring is changed and `python docs/generate_cli.py` is not run."""
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == module_of(DOCS / "generate_cli.py").page()


def test_the_page_of_commands_holds_every_setting_and_its_docstring():
    """Breaks if the script that writes the page loses a nested class, or a setting has no docstring."""
    groups = module_of(DOCS / "generate_cli.py").groups
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    for command in cli.COMMANDS:
        assert f"\n## {command}\n" in text
        flags = [flag for _, flags in groups(config_of(command)) for flag in flags]
        assert flags and not [flag.name for flag in flags if not flag.text]
    assert {"--model_name_or_path", "--output_dir", "--train_file", "--learning_rate", "--seed"} <= flags_of("train")


def test_the_picture_is_what_its_script_writes():
    """Breaks if the picture is edited by hand, or its script is and the picture is not made again."""
    make_stages = module_of(DOCS / "images" / "make_stages.py")
    assert (DOCS / "images" / "stages.svg").read_text(encoding="utf-8") == make_stages.picture()
    folders = [folder for folder, *_ in make_stages.STAGES]
    assert len(folders) > 3 and all((PACKAGE / folder).is_dir() for folder in folders)


def config_of(command: str) -> type:
    return importlib.import_module(f"qa_accel.commands.{command}").Config


def flags_of(*commands: str) -> set[str]:
    groups = module_of(DOCS / "generate_cli.py").groups
    return {flag.name for command in commands for _, flags in groups(config_of(command)) for flag in flags}


# --- the tree


def test_the_tree_of_the_package_is_that_of_its_folders():
    """Breaks if a module is added, moved or removed and the tree in docs/architecture.md is not changed."""
    [tree] = [block for block in blocks(DOCS / "architecture.md", "text") if block.startswith("qa_accel/\n")]
    written, folders = set(), []
    for line in tree.splitlines()[1:]:
        found = re.match(r"((?:  ){1,3})([\w.]+/?) +\S", line)
        assert found, f"{line!r}: expected two, four or six blanks, a name, and what it is"
        folders, name = folders[: len(found[1]) // 2 - 1], found[2]
        written.add("".join([*folders, name]))
        if name.endswith("/"):
            folders.append(name)
    real = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    real = {path for path in real if not path.endswith("/__init__.py")}
    real |= {f"{folder}/" for path in real for folder in Path(path).parents if folder.name}
    assert len(real) > 40, "the package's folders were read"
    assert written == real


# --- messages


def literals() -> list[str]:
    """Every text in the package's source, as one line; what is filled in at run time is a NUL."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[sd]", "\0", node.value))
    assert len(found) > 1000
    return [text.replace("\n", " ") for text in found]


def is_in_source(message: str, texts: list[str]) -> bool:
    """Whether one text has the message's fixed parts in their order, and something filled in between them."""
    parts = re.split(r"\{[^}]*\}", message)
    assert sum(map(len, parts)) >= 12, f"{message}: too little is fixed to be looked for"
    pattern = re.compile(".*\0.*".join(map(re.escape, parts)))
    return any(pattern.search(text) for text in texts)


@pytest.mark.parametrize("page", ["troubleshooting.md", "data.md"])
def test_each_quoted_message_is_in_the_source(page):
    """Breaks if a message is reworded and its row is not: a search for it would find nothing."""
    messages = [cells[0].strip("`") for cells in rows_of(page, "message")]
    assert len(messages) > 15
    texts = literals()
    assert not [message for message in messages if not is_in_source(message, texts)]


def test_a_message_that_is_not_in_the_source_is_detected():
    texts = literals()
    assert is_in_source("{file}: is empty; a JSON, JSONL, CSV or Parquet file with questions is expected", texts)
    assert not is_in_source("{file}: is empty; a YAML file with questions is expected", texts)
    assert not is_in_source("a JSON, JSONL, CSV or Parquet file {name} is expected", texts)


# --- migration


def test_each_flag_of_the_migration_table_exists():
    """Breaks if a flag that people bring from run_qa.py is renamed."""
    rows = rows_of("migration.md", "run_qa.py, run_qa_no_trainer.py")
    assert len(rows) > 30
    known = flags_of("train", "predict")
    for old, new, _ in rows:
        assert re.fullmatch(r"`--\w+`", old) and new.strip("`") in known, (old, new)
        if old.strip("`") in known:
            assert old == new, f"{old} exists here too: the table sends it elsewhere"


def test_flags_that_are_called_absent_are_absent():
    rows = rows_of("migration.md", "flag there")
    absent = {flag for there, _ in rows for flag in re.findall(r"--\w+", there)}
    assert len(absent) > 10
    assert not absent & flags_of(*cli.COMMANDS)


# --- the Python API


def test_signatures_of_the_api_page_are_those_of_the_code():
    """Breaks if an argument is added, renamed or moved after the star."""
    shown = [block for block in blocks(DOCS / "api.md", "text") if re.match(r"\w+\(", block)]
    assert len(shown) == 3
    for block in shown:
        [definition] = ast.parse(f"def {block.strip()}: ...").body
        assert isinstance(definition, ast.FunctionDef)
        arguments = definition.args
        real = inspect.signature(getattr(qa_accel, definition.name)).parameters.values()
        assert [one.arg for one in arguments.args] == [p.name for p in real if p.kind == p.POSITIONAL_OR_KEYWORD]
        assert [one.arg for one in arguments.kwonlyargs] == [p.name for p in real if p.kind == p.KEYWORD_ONLY]


def test_score_has_the_keys_of_the_api_page():
    keys = {key for cells in rows_of("api.md", "key") for key in re.findall(r"`([\w]+)`", cells[0])}
    scores = qa_accel.score({"1": "a", "2": ""}, {"1": ["a"], "2": []}, {"1": -1.0, "2": 1.0})
    assert set(scores) <= keys
    assert {key for key in keys if key.startswith(("HasAns_", "NoAns_", "best_"))} <= set(scores)


def python_blocks() -> list[tuple[str, str]]:
    """Of all pages but the walk, whose blocks need each other (test_walk.py)."""
    pages = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
    pages.remove(DOCS / "asking.md")
    found = [(f"{page.name}-{number}", text) for page in pages for number, text in enumerate(blocks(page, "python"))]
    assert len(found) > 8
    return found


@pytest.fixture(scope="module")
def folder_of_examples(tmp_path_factory) -> Path:
    """A folder with a model at runs/quickstart: random weights, for windows of the usual length."""
    folder = tmp_path_factory.mktemp("examples")
    tokenizer = toy.make_tokenizer()
    tokenizer.model_max_length = 512
    settings = toy.model_config(tokenizer)
    settings.max_position_embeddings = 512
    for part in (BertForQuestionAnswering(settings), tokenizer):
        part.save_pretrained(folder / "runs" / "quickstart")
    return folder


def execute(text: str, folder: Path) -> None:
    os.chdir(folder)
    exec(compile(text, "example", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in python_blocks()])
def test_an_example_in_python_runs(text, folder_of_examples):
    """Breaks if it imports, calls or reads what does not exist."""
    call(execute, text, folder_of_examples)


# --- data


def data_examples() -> list[tuple[str, str]]:
    """Suffix and content of every example of a file."""
    pages = [REPOSITORY / "README.md", DOCS / "data.md"]
    found = [(".json", block) for page in pages for block in blocks(page, "json")]
    found += [(".csv", block) for block in blocks(DOCS / "data.md", "text")]
    assert len(found) == 15
    return found


@pytest.mark.parametrize(("suffix", "content"), data_examples())
def test_an_example_of_a_file_is_read(suffix, content, tmp_path):
    """Breaks if it has a wrong offset, or a format is no longer read."""
    path = tmp_path / f"example{suffix}"
    path.write_text(content, encoding="utf-8")
    questions = load_questions(DataConfig(train_file=(str(path),), cache_dir=str(tmp_path)), "train")
    answered = 0
    for row in questions:
        answers = row["answers"]
        for text, start in zip(answers["text"], answers["answer_start"]):
            assert row["context"][start:].startswith(text)
            answered += 1
    assert answered in (1, 2), "each example has one answer, MultiSpanQA's two; a second question has none"
