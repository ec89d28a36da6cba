"""`qa-accel ask` in a real shell: the pipes of the documentation, a question at a time, an end of the pipe before the questions'."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from documented_commands import of_markdown
from speed import scaled
from toy import context_about

from qa_accel import Reader

PIPES = [command for command in of_markdown(Path(__file__).parents[2] / "docs" / "asking.md") if "|" in command]
QUESTIONS = ["Where was Ana born?", "Which animal does Ana keep?", "What does Ana drink?"]


@pytest.fixture(scope="module")
def folder(toy, repository, tmp_path_factory) -> Path:
    """What the documentation's commands expect around them, and a folder of programs with this checkout's qa-accel."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "runs").mkdir()
    (folder / "runs" / "quickstart").symlink_to(toy.model)
    (folder / "report.txt").write_text(context_about("Ana"))
    (folder / "questions.txt").write_text("\n".join(QUESTIONS))
    (folder / "bin").mkdir()
    program = folder / "bin" / "qa-accel"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{repository}" exec "{sys.executable}" -m qa_accel.cli "$@"\n')
    program.chmod(0o755)
    return folder


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("pipe", PIPES)
def test_a_pipe_of_the_documentation_runs(pipe, folder):
    """Breaks if a flag or a key of the output is renamed, or another word than the answers comes into the pipe."""
    if "jq" in pipe and not any(Path(place, "jq").exists() for place in os.environ["PATH"].split(":")):
        pytest.skip("jq is not installed")
    words = ["bash", "-c", f"set -o pipefail; {pipe}"]
    done = subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if target := re.search(r"> (\S+)$", pipe):
        answers = [json.loads(line) for line in (folder / target[1]).read_text().splitlines()]
        found = Reader(folder / "runs" / "quickstart", device="cpu").answer_all(
            [(question, context_about("Ana")) for question in QUESTIONS]
        )
        assert [(answer["id"], answer["answer"]) for answer in answers] == [
            (n, f["text"]) for n, f in enumerate(found, 1)
        ]
    else:
        assert json.loads(done.stdout) in "Lima was founded in 1535."


def test_each_question_is_answered_before_the_next_and_an_end_of_the_pipe_is_silent(folder):
    """`sed` passes three answers on and ends, so the fourth has no reader; 141 is what a shell calls an end by SIGPIPE.
    Breaks if a list of questions must be full or stdout is written in blocks (then the pipe is killed after two minutes),
    or with a BrokenPipeError's traceback."""
    process = subprocess.Popen(
        ["bash", "-c", "qa-accel ask runs/quickstart --context_file report.txt | sed -u 3q; echo ${PIPESTATUS[@]}"],
        **dict(cwd=folder, env=environment(folder), text=True, bufsize=1, start_new_session=True),
        **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE),
    )
    assert process.stdin is not None and process.stdout is not None
    watchdog = threading.Timer(scaled(120), os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    answers = []
    for question in QUESTIONS:
        process.stdin.write(f"{question}\n")
        answers.append(process.stdout.readline())
    while not select.select([process.stdout], [], [], 0.1)[0]:  # `sed` may still be there for one more answer
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("Who?\n")
    rest, messages = process.communicate()
    watchdog.cancel()
    assert [json.loads(answer)["id"] for answer in answers] == [1, 2, 3]
    assert (rest, messages) == ("141 0\n", "")


def test_help_and_a_wrong_flag_need_no_torch(repository):
    """Breaks if the module imports the model's code at its top: then --help takes seconds."""
    program = """
import sys
from qa_accel import cli
for words in (["--help"], ["model", "--top_k", "0"], ["model", "absent.jsonl"]):
    sys.argv = ["qa-accel", "ask", *words]
    try:
        cli.main()
    except SystemExit as end:
        print(end.code, file=sys.stderr)
print("torch" in sys.modules, "transformers" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert "--context_file" in done.stdout
    lines = done.stderr.splitlines()
    assert lines[0] == "0" and lines[-1] == "False False", done.stderr
    assert [line for line in lines if line in ("0", "1", "2")] == ["0", "2", "2"], done.stderr
