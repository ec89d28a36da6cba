"""`qa-accel ask` in forked processes, with files in the place of its three streams: answers, ids, bad rows, refusals."""

import csv
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import run
from toy import NAMES, context_about

from qa_accel import Reader, cli
from qa_accel.commands.settings.ask import AskConfig
from qa_accel.inference.settings import SpanConfig

ROWS = [
    {"id": f"{name}-{number}", "question": question, "context": context_about(name)}
    for name in NAMES
    for number, question in enumerate([f"Where was {name} born?", f"What does {name} drink?"])
]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str
    value: str | None = None
    """What the function returned."""

    @property
    def answers(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


def ask(words: list[str], streams: list[str]) -> None:
    redirect(streams)
    command(words)


def redirect(streams: list[str]) -> None:
    """These files become stdin, stdout and stderr."""
    for number, (path, how) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
        os.dup2(os.open(path, how), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115


def command(words: list[str]) -> None:
    sys.argv = ["qa-accel", *words]
    cli.main("ask")


def asked(folder: Path, *words, given: bytes = b"", function=ask) -> Done:
    streams = [folder / name for name in ("in", "out", "err")]
    for path, content in zip(streams, (given, b"", b"")):
        path.write_bytes(content)
    [left] = run(function, list(map(str, words)), list(map(str, streams)))
    assert not left.output, left.output
    return Done(left.code, streams[1].read_text(encoding="utf-8"), streams[2].read_text(encoding="utf-8"), left.value)


def json_lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def calibrated(toy, tmp_path_factory) -> Path:
    """The toy with a threshold that half of ROWS exceed, and with a calibration."""
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(toy.model, folder)
    content = json.loads((folder / "config.json").read_text())
    odds = sorted(found["null_odds"] for found in Reader(toy.model, device="cpu").answer_all(ROWS))
    middle = len(odds) // 2  # between two questions' odds, whose last bits depend on the batch
    policy = {"null_score_diff_threshold": (odds[middle - 1] + odds[middle]) / 2}
    policy |= {"temperature": 2.0, "null_odds_weight": 1.0, "null_odds_bias": -policy["null_score_diff_threshold"]}
    (folder / "config.json").write_text(json.dumps(content | {"answer_policy": policy}))
    return folder


def of_reader(found: dict) -> dict:
    names = {"answer": "text", "score": "score", "start": "start", "end": "end", "confidence": "confidence"}
    return {name: found[key] for name, key in names.items() if key in found}


def close_to(expected: list[dict]) -> list:
    """Another batch adds in another order."""
    return [
        {key: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value for key, value in one.items()}
        for one in expected
    ]


def test_the_answers_are_those_of_a_reader_in_the_order_of_the_rows(calibrated, tmp_path):
    """40 rows are two lists at least. Breaks if rows of a list are mixed up, an id is lost, or the model's own threshold or
    confidence does not count."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(json_lines(ROWS))
    free = Reader(calibrated, device="cpu").answer_all(ROWS)
    confidences = sorted(found["confidence"] for found in free if found["text"])
    least = (confidences[4] + confidences[5]) / 2  # five answers with a text are less sure
    done = asked(tmp_path, calibrated, file, "--device", "cpu", "--min_confidence", least)
    assert (done.code, done.err) == (0, "")
    expected = Reader(calibrated, device="cpu", min_confidence=least).answer_all(ROWS)
    assert done.answers == close_to([{"id": row["id"]} | of_reader(found) for row, found in zip(ROWS, expected)])
    texts = [answer["answer"] for answer in done.answers]
    assert texts.count(None) >= 5 and "" in texts and any(texts)


def test_more_answers_are_alternatives_and_no_answer_can_be_left_out(calibrated, tmp_path):
    """Twenty are all that a reader lists by itself. Breaks if the best answer is listed twice, if "" is given where every question
    has an answer, or if more than a reader's own twenty are not looked for."""
    flags = ["--device", "cpu", "--top_k", 25]
    free, forced = (
        asked(tmp_path, calibrated, *flags, *more, given=json_lines(ROWS))
        for more in ([], ["--handle_impossible_answer", "false"])
    )
    reader = Reader(calibrated, spans=SpanConfig(n_best_size=25), device="cpu")
    threshold = reader.spans.null_score_diff_threshold
    assert threshold is not None
    for row, one, other, found in zip(ROWS, free.answers, forced.answers, reader.answer_all(ROWS)):
        spans = [entry for entry in found["nbest"] if entry["text"]]
        assert other["answer"] == spans[0]["text"]
        assert [each["answer"] for each in other["alternatives"]] == [entry["text"] for entry in spans[1:25]]
        assert one["answer"] == found["text"] == ("" if found["null_odds"] > threshold else spans[0]["text"])
        places = [(each["start"], each["end"]) for each in [one, *one["alternatives"]]]
        assert len(places) == len(set(places)) == min(25, len(found["nbest"]))
        assert all(
            row["context"][start:end] == each["answer"]
            for each in [other]
            for start, end in [(each["start"], each["end"])]
        )
    assert "" in [one["answer"] for one in free.answers]


def test_columns_have_their_names_and_a_row_its_id(toy, tmp_path):
    """Breaks if an id changes its type, a question without one gets none, or a separate text for all wins over a row's own."""
    passage = tmp_path / "passage.txt"
    passage.write_bytes("\ufeffBen was\r\nborn in Lima.".encode())
    names = ["--id_column", "nr", "--question_column", "q", "--context_column", "text", "--context_file", passage]
    rows = [
        {"nr": 7, "q": "Where was Ben born?"},
        {"q": "Where was Ben born?"},
        {"nr": "ä", "q": "Where?", "text": "Oslo"},
    ]
    given = json_lines([*rows, {"nr": "\ud800", "q": "Where?"}, {"nr": "", "q": "Where?", "text": ""}])
    done = asked(tmp_path, toy.model, *names, "--device", "cpu", given=given)
    assert [answer["id"] for answer in done.answers] == [7, 2, "ä", "\ud800", 5]
    text = "Ben was\r\nborn in Lima."
    pairs = [(row["q"], row.get("text", text)) for row in rows] + [("Where?", text), ("Where?", "")]
    expected = Reader(toy.model, device="cpu").answer_all(pairs)
    assert [answer["answer"] for answer in done.answers] == [found["text"] for found in expected]

    table = io.StringIO()
    csv.writer(table, delimiter=";").writerows([["nr", "q"], ["7", "Where was Ben born?"], ["", "Where was Ben born?"]])
    by_table = asked(tmp_path, toy.model, *names, "--device", "cpu", given=table.getvalue().encode())
    assert [answer["id"] for answer in by_table.answers] == ["7", 2]
    assert by_table.answers[1]["answer"] == expected[0]["text"]


BAD = [
    ({"question": " ", "context": "a"}, "the question is empty"),
    ({"question": None, "context": "a"}, "the question is null or missing; text is expected"),
    ({"question": "a", "context": 5}, "the context is '5' (int); text is expected"),
    ({"question": "a", "Context": "b"}, "no column 'context'; found question, Context; name it: --context_column Context"),
    ({"question": "a\ud800", "context": "b"}, "character 1 of the question is half of a surrogate pair"),
    ({"id": 1.5, "question": "a", "context": "b"}, "the id is '1.5' (float); expected text or a whole number"),
]  # fmt: skip


def test_a_row_that_cannot_be_answered_has_an_error_in_its_place(toy, tmp_path):
    """Every other row is bad. Breaks if a bad row ends the stream, moves the answers of others, or leaves the exit code 0."""
    rows = [part for row, _ in BAD for part in ({"id": "good"} | ROWS[0], row)]
    for row in rows[::2]:
        row["id"] = "good"
    done = asked(tmp_path, toy.model, "--device", "cpu", "--batch_size", 1, given=json_lines(rows) + b"{\n")
    assert done.code == 3
    answers = done.answers
    assert len({json.dumps(answer) for answer in answers[:12:2]}) == 1 and answers[0]["id"] == "good"
    for place, (_, error) in enumerate(BAD):
        wrong = answers[2 * place + 1]
        assert wrong.keys() == {"id", "error"} and wrong["id"] == 2 * place + 2
        assert wrong["error"].startswith(f"stdin: line {2 * place + 2}: {error}")
    assert answers[12]["error"].startswith("stdin: line 13: is not JSON")
    first, last = done.err.splitlines()
    assert first.startswith("ask: stdin: line 2: the question is empty (this row")
    assert last == "ask: 7 of 13 rows could not be answered"


def test_nothing_in_is_nothing_out(toy, tmp_path):
    assert asked(tmp_path, toy.model, given=b"\n \n") == Done(0, "", "", None)


def without_rights(words: list[str], streams: list[str]) -> None:
    redirect(streams)
    os.seteuid(65534)
    command(words)


def without_stdin(words: list[str], streams: list[str]) -> None:
    redirect(streams)
    sys.stdin = None  # as Python leaves it where the descriptor is closed
    command(words)


def without_stdout(words: list[str], streams: list[str]) -> None:
    redirect(streams)
    stdout, sys.stdout = sys.stdout, None
    try:
        command(words)
    finally:
        sys.stdout = stdout


@pytest.mark.parametrize(
    ("function", "file", "message"),
    [
        (ask, "absent.jsonl", r"absent\.jsonl: cannot be read \(No such file or directory\); check the path and its permis"),
        (ask, "folder", r"folder: is a folder; expected a file of questions"),
        (without_rights, "secret", r"secret: cannot be read \(Permission denied\)"),
        (without_stdin, "-", r"stdin is closed; pipe questions into this command, or name their file"),
        (without_stdout, "-", r"stdout is closed; answers need somewhere to go"),
        (ask, "text", r"text: begins with Who\?; plain text is a question only with --context_file"),
    ],
)  # fmt: skip
def test_what_no_question_can_be_answered_with_is_refused(toy, tmp_path, function, file, message):
    """Exit code 2, one message, nothing on stdout. Breaks with a traceback, or if a folder or a closed stream waits forever."""
    if function is without_rights and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret").touch(0)
    (tmp_path / "text").write_text("Who?\n")
    place = file if file == "-" else tmp_path / file
    done = asked(tmp_path, toy.model, place, function=function)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ask: ") and done.err.count("\n") == 1
    assert re.search(message, done.err), done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read (No such file or directory)"),
        (b"", "is empty; expected the text that holds the answers"),
        (b"\xff", "is not UTF-8; save it as UTF-8 text"),
    ],
)
def test_a_passage_that_cannot_be_used_is_refused(toy, tmp_path, content, message):
    if content is not None:
        (tmp_path / "passage").write_bytes(content)
    done = asked(tmp_path, toy.model, "--context_file", tmp_path / "passage", given=b"Who?\n")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ask: --context_file ") and message in done.err


def test_settings_that_cannot_work_are_refused():
    for settings, message in (
        ({"top_k": 0}, "--top_k must be at least 1, got 0"),
        ({"min_confidence": 2.0}, "--min_confidence must be at most 1"),
        ({"id_column": "question"}, "need three different column names"),
    ):
        with pytest.raises(ValueError, match=message):
            AskConfig("model", **settings)


def with_a_library_that_prints(words: list[str], streams: list[str]) -> None:
    from transformers import AutoTokenizer

    real = AutoTokenizer.from_pretrained

    def from_pretrained(*arguments, **options):
        print("a library's line")
        os.write(1, b"and one from C\n")
        return real(*arguments, **options)

    AutoTokenizer.from_pretrained = from_pretrained
    ask(words, streams)


def test_stdout_has_the_answers_alone(toy, tmp_path):
    """Breaks if what a library prints comes between them."""
    done = asked(tmp_path, toy.model, given=json_lines(ROWS[:2]), function=with_a_library_that_prints)
    assert len(done.answers) == 2 and "and one from C\n" in done.err and "a library's line\n" in done.err


def interrupted(words: list[str], streams: list[str]) -> None:
    """Ctrl-C when the first answer is there, while the command waits for a second question."""
    reading, writing = os.pipe()
    os.write(writing, json_lines(ROWS[:1]))

    def interrupt() -> None:
        while not Path(streams[1]).stat().st_size:
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    ask(words, [f"/dev/fd/{reading}", *streams[1:]])


def test_an_interrupt_ends_without_a_traceback(toy, tmp_path):
    """Breaks if Ctrl-C leaves pages of Python on the terminal, or is waited with until the next question."""
    done = asked(tmp_path, toy.model, function=interrupted)
    assert done.code == -signal.SIGINT and done.err == "" and len(done.answers) == 1


def on_a_terminal(words: list[str], streams: list[str]) -> str:
    """stderr is a terminal, and if nothing is given, stdin too, on which somebody types a row. Returns what it shows."""
    shown, terminal = pty.openpty()
    name = os.ttyname(terminal)
    if Path(streams[0]).stat().st_size:
        redirect([*streams[:2], name])
    else:
        os.write(shown, json_lines(ROWS[:1]) + b"\x04")
        redirect([name, streams[1], name])
    command(words)
    text = b""
    while select.select([shown], [], [], 0.1)[0]:
        text += os.read(shown, 10_000)
    return text.decode()


def test_progress_and_hints_are_for_a_terminal(toy, tmp_path):
    """Breaks if a count is written into a log file, or among the lines that a person types."""
    given = json_lines(ROWS)
    assert asked(tmp_path, toy.model, given=given).err == ""
    watched = asked(tmp_path, toy.model, given=given, function=on_a_terminal)
    assert watched.value is not None and "40 questions" in watched.value and len(watched.answers) == 40
    typed = asked(tmp_path, toy.model, function=on_a_terminal)
    assert typed.value is not None and "questions 0" not in typed.value and len(typed.answers) == 1
    assert "ask: type an object with a question and a context, or CSV, per line; Ctrl-D ends" in typed.value


def test_an_ensembles_folder_is_asked_as_its_reader_is(toy, tmp_path):
    """Breaks if ask takes lengths of lists of its own in place of those in ensemble.json."""
    folder = tmp_path / "ensemble"
    folder.mkdir()
    members = [
        {"folder": os.path.relpath(model, folder), "n_best_size": 3, "max_answer_length": 5}
        for model in (toy.model, toy.without_dropout)
    ]
    policy = {"null_score_diff_threshold": 0.5, "temperature": 2.0, "null_odds_weight": 0.5, "null_odds_bias": 0.25}
    (folder / "ensemble.json").write_text(json.dumps({"members": members, "answer_policy": policy}))
    done = asked(tmp_path, folder, "--top_k", 5, "--device", "cpu", given=json_lines(ROWS[:6]))
    assert done.code == 0, done.err
    answers = Reader(folder, device="cpu").answer_all([(row["question"], row["context"]) for row in ROWS[:6]])
    for line, expected in zip(done.answers, answers, strict=True):
        assert (line["answer"], line["start"]) == (expected["text"], expected["start"])
        assert line["confidence"] == pytest.approx(expected["confidence"], abs=1e-5)
        assert len(line["alternatives"]) == len(expected["nbest"]) - 1 == 3
