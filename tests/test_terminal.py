"""Text from data, paths and errors is shown literally everywhere: no markup is obeyed, no control character reaches a terminal."""

import io
import json
import logging
import re
import sys
from pathlib import Path

import datasets
import pytest
from accelerate import Accelerator
from processes import run
from rich.table import Table

from qa_accel import cli, config
from qa_accel.commands import preflight, summary
from qa_accel.data import audit, audit_table
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import entry, run_folder
from qa_accel.distributed.rank_status import RankStatus
from qa_accel.evaluation import score_tables
from qa_accel.preflight.checks import Finding, Network
from qa_accel.preflight.probe import HostProbe
from qa_accel.terminal import make_console, visible, visible_lines
from qa_accel.training import checkpoint
from qa_accel.training.part_settings import CheckpointConfig

HOSTILE = {
    "[/] who?": "[/] who?",
    "[/b]": "[/b]",
    "x[/red]": "x[/red]",
    "[red]x[/red] [link=file:///etc/passwd]x[/link]": "[red]x[/red] [link=file:///etc/passwd]x[/link]",
    r"\[red]": r"\[red]",
    "\\": "\\",
    ":smile: 1234 'a' http://b.c": ":smile: 1234 'a' http://b.c",
    "\x1b]0;owned\x07\x1b[2J": r"\x1b]0;owned\x07\x1b[2J",
    "\x9b31m": r"\x9b31m",
    "a\u202eb\u2066": r"a\u202eb\u2066",
    "a\ud800": r"a\ud800",
    "a\0b": r"a\x00b",
    "a\nb\rc\u2028d": r"a\nb\rc\u2028d",
}
"""Text -> what is to be seen of it."""
texts = pytest.mark.parametrize(("text", "seen"), HOSTILE.items())
files = pytest.mark.parametrize(("text", "seen"), [one for one in HOSTILE.items() if not set("\0\ud800") & set(one[0])])
"""Those that a file's name can hold, a slash aside."""


def shown(*renderables: object) -> str:
    """What a terminal with colours would receive, without the colours."""
    out = io.StringIO()
    console = make_console(file=out, width=300, force_terminal=True)
    for renderable in renderables:
        console.print(renderable)
    return without_styles(out.getvalue())


def without_styles(output: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert "\x1b" not in plain and "\x07" not in plain and "\x9b" not in plain, "only our own styles are left"
    return plain


def in_folder(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / text.replace("/", "|")
    folder.mkdir()
    return folder


@texts
def test_visible_writes_out_what_would_be_obeyed_or_hidden(text, seen):
    assert visible(text) == seen
    assert visible_lines(f"{text}\nb") == f"{seen}\nb".replace(r"a\nb", "a\nb")


def test_visible_leaves_every_script_as_it_is():
    """Joiners and marks of direction are text: Persian, Hindi and families of emoji are not readable without."""
    for text in ("नमस्ते\u200d", "می\u200cخواهم", "שלום\u200f", "👩\u200d👩\u200d👧", "東京 café", "a\xa0b"):
        assert visible(text) == text


@texts
def test_a_table_of_sample_answers_shows_question_gold_and_prediction_literally(text, seen):
    questions = datasets.Dataset.from_dict(
        {"id": ["1"], "question": [text.replace("\ud800", "")], "answers": [{"text": ["g"], "answer_start": [0]}]}
    )
    gold = datasets.Dataset.from_dict(
        {"id": ["1"], "question": ["q"], "answers": [{"text": [text.replace("\ud800", "")], "answer_start": [0]}]}
    )
    seen_in_arrow = seen.replace(r"\ud800", "")  # which holds no half of a pair
    assert seen_in_arrow in shown(score_tables.samples_table(questions, {"1": "p"}))
    assert seen_in_arrow in shown(score_tables.samples_table(gold, {"1": "p"}))
    assert seen in shown(score_tables.samples_table(questions, {"1": text}))


@texts
def test_facts_at_the_start_of_a_run_are_shown_literally(text, seen):
    out = io.StringIO()
    runtime.announce(make_console(file=out, width=300, force_terminal=True, soft_wrap=True), model=text, output="o")
    assert f"model   {seen}\n" in without_styles(out.getvalue())


def a_probe(text: str) -> HostProbe:
    return HostProbe(
        rank=0, host=text, device=text, gpus=0, bytes_used=0, slurm_nodes=None, slurm_gpus=None, code=text, versions=text,
        commit=text, data=text, model=text, sees_output=True, sees_cache=True, cache_writable=True,
    )  # fmt: skip


@texts
def test_preflight_shows_what_it_found_literally(text, seen):
    out = io.StringIO()
    console = make_console(file=out, width=1000, force_terminal=True)
    preflight.show(console, [a_probe(text)], Network(True, 1.0), None, [Finding((text,), text, text)], 1.0)
    found = without_styles(out.getvalue())
    assert f"finding on {seen}: {seen}\n" in found and f"try: {seen}\n" in found
    assert found.count(seen) >= 5 + 3


@texts
def test_a_skipped_checkpoint_is_named_with_what_is_wrong_literally(text, seen, tmp_path):
    """A name out of a damaged manifest. Breaks if a resume that should pass over that checkpoint ends at its message."""
    damaged = tmp_path / "checkpoint-1"
    damaged.mkdir()
    (damaged / "manifest.json").write_text(json.dumps({"files": {text: {"size": 1, "sha256": "x"}}}))
    said: list[str] = []
    assert checkpoint.find(CheckpointConfig(output_dir="o"), tmp_path, said.append) is None
    [line] = said
    assert shown(line).rstrip("\n") == line and visible(line) == line, "literally, with nothing left to obey"


@texts
def test_rows_of_the_audit_are_shown_literally(text, seen):
    text = text.replace("\ud800", "")
    questions = datasets.Dataset.from_dict(
        {
            "id": [text],
            "question": ["q"],
            "context": ["c"],
            "answers": [{"text": [f"{text}."], "answer_start": [0]}],
        }
    )
    _, found = audit.audit_questions(questions, training=False)
    beginning = repr(text[:39]).rstrip("'\"")  # longer ones are cut
    assert beginning in shown(audit_table.report_table({"train": audit.SplitReport(found)}))


def fail(kind: str, text: str) -> None:
    def main() -> None:
        logging.getLogger("x").warning("found %s", text)
        if kind == "library":
            int(text)
        raise KeyError(text) if kind == "bug" else OSError(2, "no such file", text)

    entry.main(main)


@pytest.mark.parametrize("kind", ["library", "bug", "disk"])
def test_errors_and_warnings_of_a_script_show_what_they_quote(kind):
    """One process for all texts. Breaks if a message, a traceback or a log line passes a control character on."""
    text = "".join(text.replace("\n", "") for text in HOSTILE)
    [left] = run(fail, kind, text)
    assert left.code == (1 if kind == "bug" else 2) and ("Traceback" in left.output) == (kind != "disk")
    found = without_styles(left.output)
    assert not [character for character in found if visible(character) != character and character != "\n"]
    assert f"WARNING x: found {visible(text)}\n" in found


@files
def test_a_finished_or_stopped_run_and_its_resume_name_the_folder_literally(text, seen, tmp_path):
    """Breaks if a folder's name ends a run that is finished, or every later start in it."""
    folder = in_folder(tmp_path, text)
    (folder / "file").write_text("")
    with pytest.raises(OSError) as refusal:
        run_folder.make_writable(folder / "file")
    assert visible(refusal.value).count(seen.replace("/", "|")) == 1
    status = RankStatus(folder, Accelerator(cpu=True))
    status.failed(ValueError(text))
    assert seen.partition(r"\n")[0] in status.path.read_text(encoding="utf-8")


@files
def test_a_command_line_that_is_refused_shows_words_and_files_literally(text, seen, tmp_path, capsys):
    path = in_folder(tmp_path, text) / "recipe.yaml"
    path.write_text(json.dumps({text: 1}))
    for words in (["--config", str(path)], ["--config", str(path) + "x"], [f"--{text}", "1"], ["--dtype", text]):
        with pytest.raises(SystemExit) as left:
            config.parse(preflight.Config, ["--model_name_or_path", "m", "--output_dir", "o", *words])
        found = capsys.readouterr()
        assert left.value.code == 2 and found.err and not found.out
        without_styles(found.err)
        assert not [character for character in found.err if visible(character) != character and character != "\n"]


@files
def test_a_command_without_torch_shows_paths_in_its_errors_literally(text, seen, tmp_path, capsys, monkeypatch):
    path = in_folder(tmp_path, text) / "all_results.json"
    path.write_text("{}")
    monkeypatch.setattr(sys, "argv", ["qa-accel", "summary", str(path)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    found = capsys.readouterr().err
    assert seen.replace("/", "|").replace(r"\n", "\n") in found
    without_styles(found)


def test_every_console_is_made_by_make_console_and_nothing_is_written_as_markup():
    """Breaks if a console that obeys brackets comes back: then one forgotten `escape` ends a run."""
    package = Path(cli.__file__).parent
    sources = {path.relative_to(package).as_posix(): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [name for name, source in sources.items() if re.search(r"(?<!_)\bConsole\(", source)] == ["terminal.py"]
    assert not [name for name, source in sources.items() if "rich.markup" in source or "[/]" in source]


def test_tables_of_scores_have_only_our_own_words():
    """Keys of a foreign file are not printed."""
    scores = {"total": 1, "exact": 1.0, "f1": 1.0, "[/]": 3.0}
    assert "[/]" not in shown(score_tables.scores_table(scores))
    assert isinstance(summary.table(summary.summary({"[/]": scores})), Table)
    assert "[/]" not in shown(summary.table(summary.summary({"[/]": scores})))


def test_a_terminal_of_another_encoding_gets_escapes_for_what_it_lacks(monkeypatch):
    """Breaks if a Chinese question ends a finished run on a machine whose locale is Latin-1."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    monkeypatch.setattr(sys, "argv", ["qa-accel", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    make_console(file=sys.stdout).print("東京")
    sys.stdout.flush()
    assert raw.getvalue().splitlines()[-1] == rb"\u6771\u4eac"
