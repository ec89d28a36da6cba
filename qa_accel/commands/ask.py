"""Answer the questions of a file or a pipe as they come: one line of JSON for each, in their order."""

import json
import os
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import progress as bars

from qa_accel.commands.settings.ask import STDIN, AskConfig
from qa_accel.messages import PATH, short, shown
from qa_accel.terminal import make_console, visible_lines

if TYPE_CHECKING:  # torch takes seconds, which --help and a wrong flag need not wait for
    from qa_accel.data.arriving_rows import ArrivingRow
    from qa_accel.inference.reader import Reader


ROWS_WITH_ERRORS = 3
"""Exit code: every row has its line, and some of the lines have an error."""


Config = AskConfig


def run(settings: AskConfig) -> int:
    """Answer until the questions end: the exit code. Raises ValueError, with the place, for a model, file or first line that
    cannot be used."""
    output, source = _taken_stdout(), _opened(settings.questions_file)
    context = None if settings.context_file is None else _text_of(settings.context_file)
    reader = _reader(settings)
    # `| head` ends this process without a message, as it ends any other one that still writes
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if os.isatty(source):
        what = "a question" if context is not None else "an object with a question and a context, or CSV,"
        _say(f"type {what} per line; Ctrl-D ends")
    asked = wrong = 0
    # lines that scroll by show the progress themselves, and a bar would be in their way
    with _progress_bar(visible=not (os.isatty(source) or os.isatty(output))) as bar:
        task = bar.add_task("", total=None)
        for answers in _answers(reader, source, context, settings):
            _write(output, answers)
            errors = [answer["error"] for answer in answers if "error" in answer]
            if errors and not wrong:
                _say(f"{errors[0]} (this row and other such rows have an error in place of an answer)")
            asked, wrong = asked + len(answers), wrong + len(errors)
            bar.update(task, completed=asked)
    if wrong:
        _say(f"{wrong:,} of {asked:,} rows could not be answered")
    return ROWS_WITH_ERRORS if wrong else 0


def _reader(settings: AskConfig) -> "Reader":
    from qa_accel.inference.reader import Reader
    from qa_accel.inference.settings import SpanConfig

    spans = None  # of an ensemble, those that it was tuned with
    if settings.top_k > SpanConfig.n_best_size or settings.min_answer_score is not None:
        n_best = max(settings.top_k, SpanConfig.n_best_size)
        spans = SpanConfig(n_best_size=n_best, min_answer_score=settings.min_answer_score)
    return Reader(
        settings.model_name_or_path,
        spans=spans,
        batch_size=settings.batch_size,
        dtype=settings.dtype,
        device=settings.device,
        backend=settings.backend,
        min_confidence=settings.min_confidence,
    )


class Asked(NamedTuple):
    """A row, with its texts or with what is wrong with it."""

    id: str | int
    question: str = ""
    context: str = ""
    error: str | None = None


def _answers(reader: "Reader", source: int, context: str | None, settings: AskConfig) -> Iterator[list[dict[str, Any]]]:
    """Lines of the output, in lists of those that are ready together."""
    from qa_accel.data.arriving_rows import ArrivingLines, question_rows, ready_rows
    from qa_accel.inference.reader import CHUNK_BATCHES

    name = "stdin" if settings.questions_file == STDIN else settings.questions_file
    lines = ArrivingLines(source, name)
    rows = question_rows(lines, settings.question_column, plain=context is not None)
    numbers = count(1)
    for ready in ready_rows(rows, lines, CHUNK_BATCHES * reader.batch_size):
        asked = [_asked(row, number, context, settings) for row, number in zip(ready, numbers)]
        pairs = [(one.question, one.context) for one in asked if one.error is None]
        found = iter(reader.answer_all(pairs, answers=settings.answers))
        yield [
            {"id": one.id}
            | ({"error": f"{name}: {one.error}"} if one.error else _answer(next(found), reader, settings))
            for one in asked
        ]


def _asked(row: "ArrivingRow", number: int, context: str | None, settings: AskConfig) -> Asked:
    """`number`: of the row, from 1. `context`: of rows that have none."""
    from qa_accel.data.squad_format import missing_column
    from qa_accel.inference.reader_inputs import check_text

    place = f"line {row.line}"
    id = row.values.get(settings.id_column)
    if id is None or id == "":
        id = number
    values = row.values if context is None else {settings.context_column: context} | row.values
    try:
        if row.error is not None:
            raise ValueError(f"{place}: {row.error}")
        if type(id) not in (str, int):
            raise ValueError(f"{place}: the id is {shown(id)}; expected text or a whole number")
        for name, flag in (("question", "question_column"), ("context", "context_column")):
            column = getattr(settings, flag)
            if column not in values:
                raise ValueError(f"{place}: {missing_column(values, column, flag)}")
            check_text(values[column], place, name)
        question = values[settings.question_column]
        if not question.strip():
            raise ValueError(f"{place}: the question is empty")
    except ValueError as error:
        return Asked(id if type(id) in (str, int) else number, error=str(error))
    return Asked(id, question, values[settings.context_column])


def _answer(found: dict[str, Any], reader: "Reader", settings: AskConfig) -> dict[str, Any]:
    """The rest of an output line, from what `Reader.answer_all` gives."""
    best, *others = _ranked(found, reader.spans.null_score_diff_threshold or 0.0, settings)
    answer = _shown_entry(best)
    if not _is_sure(best, settings):
        answer |= {"answer": None, "start": 0, "end": 0}
    if settings.top_k > 1:
        sure = (entry for entry in others if _is_sure(entry, settings))
        answer["alternatives"] = [_shown_entry(entry) for entry in islice(sure, settings.top_k - 1)]
    if "answers" in found:
        answer["answers"] = [_shown_entry(entry) for entry in found["answers"]]
    return answer


def _ranked(found: dict[str, Any], threshold: float, settings: AskConfig) -> list[dict[str, Any]]:
    """The n-best list with the answer in front: the best span, or the empty answer where that is preferred."""
    nbest = found["nbest"]
    spans = [entry for entry in nbest if entry["end"] > 0]
    empty = next(entry for entry in nbest if entry["end"] == 0)
    if not settings.handle_impossible_answer:
        return spans or [empty]
    first = empty if not spans or found["null_odds"] > threshold else spans[0]
    return [first, *(entry for entry in nbest if entry is not first)]


def _is_sure(entry: dict[str, Any], settings: AskConfig) -> bool:
    return settings.min_confidence is None or entry["confidence"] >= settings.min_confidence


def _shown_entry(entry: dict[str, Any]) -> dict[str, Any]:
    names = {"answer": "text", "score": "score", "start": "start", "end": "end", "confidence": "confidence"}
    return {name: entry[key] for name, key in names.items() if key in entry}


def _taken_stdout() -> int:
    """The descriptor that answers are written to; whatever a library prints from here on goes to stderr."""
    if sys.stdout is None:
        raise ValueError("stdout is closed; answers need somewhere to go")
    output = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere if sys.stderr is None else 2, 1)
    os.close(nowhere)
    return output


def _opened(path: str) -> int:
    """A descriptor of the questions: of a file, a pipe or a terminal."""
    if path == STDIN:
        if sys.stdin is None:
            raise ValueError("stdin is closed; pipe questions into this command, or name their file")
        return 0
    try:
        source = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise _cannot_be_read(path, error) from error
    if stat.S_ISDIR(os.fstat(source).st_mode):
        raise ValueError(f"{short(path, PATH)}: is a folder; expected a file of questions")
    return source


def _text_of(path: str) -> str:
    """The passage in a file, to the character: line ends stay as they are."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _cannot_be_read(path, error, "--context_file ") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--context_file {short(path, PATH)}: is not UTF-8; save it as UTF-8 text") from error
    if not text.strip():
        raise ValueError(f"--context_file {short(path, PATH)}: is empty; expected the text that holds the answers")
    return text


def _cannot_be_read(path: str, error: OSError, flag: str = "") -> ValueError:
    return ValueError(
        f"{flag}{short(path, PATH)}: cannot be read ({error.strerror or error}); check the path and its permissions"
    )


def _write(output: int, answers: Sequence[dict[str, Any]]) -> None:
    """One line of JSON each, all of them on their way when this returns."""
    text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    # half of a surrogate pair, which an id may hold, becomes the escape that JSON has for it
    left = memoryview(text.encode(errors="backslashreplace"))
    while left:
        left = left[os.write(output, left) :]


def _progress_bar(*, visible: bool) -> bars.Progress:
    console = make_console(stderr=True)
    columns = (bars.TextColumn("{task.completed:,} questions"), bars.TimeElapsedColumn())
    return bars.Progress(*columns, console=console, transient=True, disable=not (visible and console.is_terminal))


def _say(message: str) -> None:
    print(f"ask: {visible_lines(message)}", file=sys.stderr, flush=True)
