"""What a command did and what was expected -> one of the table's kinds, with a word on why."""

import json
import re

from bad_input_cases.case import PAYLOAD, Accepted, Case, Either, Expected, Refused, squeezed
from bad_input_cases.runner import Result

KINDS = ("ok", "traceback", "unclear message", "hang", "accepted", "half-written files", "wrong result", "refused")
LINES, CHARACTERS = 30, 2000
"""Of the longest message that somebody reads."""
WORKING = (".lock", "config.yaml", "data_report.json", "environment.json", "metrics.jsonl", "stopped.json")
WORKING_FOLDERS = ("ranks", "best", "checkpoint-", "cache")
"""What a run that did not finish may leave in its folder; all else there belongs to a finished one."""


def judged(case: Case, result: Result) -> tuple[str, str]:
    """Kind and reason; the reason of "ok" is empty."""
    if any(name.rpartition("/")[2] == PAYLOAD for name in result.after):
        return "wrong result", "code out of the input ran"
    if result.code is None:
        return "hang", f"not done after {result.seconds:.0f} s"
    if result.code not in (0, 2) or "Traceback (most recent call last)" in result.output:
        return "traceback", f"code {result.code}: {last_line(result.output)}"
    left = half_written(result)
    if left:
        return "half-written files", f"code {result.code}, {left}"
    return of_refusal(case.expected, result) if result.code == 2 else of_success(case.expected, result)


def of_refusal(expected: Expected, result: Result) -> tuple[str, str]:
    message = message_of(result.output)
    if isinstance(expected, Accepted):
        return "refused", shortened(message)
    missing = [word for word in expected.words if squeezed(word) not in squeezed(message)]
    if missing:
        return "unclear message", f"no {', '.join(map(repr, missing))} in: {shortened(message)}"
    if len(message) > CHARACTERS or message.count("\n") > LINES:
        return "unclear message", f"{len(message)} characters, {message.count(chr(10))} lines: {shortened(message)}"
    controls = sorted({letter for letter in message if not letter.isprintable() and letter not in "\n\t"})
    if controls:
        return "unclear message", f"the characters {controls} reach the terminal: {shortened(message)}"
    changed = [name for name, content in result.before.items() if result.after.get(name) != content]
    changed = [
        name
        for name in changed
        if not name.startswith("cache/") and not name.endswith(".lock") and "/ranks" not in name
    ]
    if changed:
        return "wrong result", f"refused, but changed {', '.join(map(repr, changed))}"
    return "ok", ""


def of_success(expected: Expected, result: Result) -> tuple[str, str]:
    if isinstance(expected, Refused):
        return "accepted", shortened(last_line(result.output))
    assert isinstance(expected, (Accepted, Either))
    try:
        wrong = expected.check(result.place, result.output)
    except (OSError, ValueError, KeyError, TypeError) as error:  # what was to be checked is not there
        wrong = f"{type(error).__name__}: {error}"
    return ("wrong result", wrong) if wrong else ("ok", "")


def half_written(result: Result) -> str:
    """What of the files that were left behind is not whole, or "" where all are."""
    new = {name: content for name, content in result.after.items() if result.before.get(name) != content}
    partial = [name for name in new if "partial" in name or re.search(r"(^|/)tmp|\.tmp$|~$", name)]
    if partial:
        return f"left behind: {', '.join(map(repr, partial))}"
    for name, content in new.items():
        if name.startswith("output/") and name.endswith(".json") and "/" not in name[7:] and content:
            try:
                json.loads(content)
            except ValueError:
                return f"{name} is not JSON"
    finished = [name for name in new if name.startswith("output/") and belongs_to_a_finished_run(name[7:])]
    return f"final files of a run that failed: {', '.join(finished[:5])}" if result.code and finished else ""


def belongs_to_a_finished_run(name: str) -> bool:
    return name not in WORKING and not name.startswith(WORKING_FOLDERS)


def message_of(output: str) -> str:
    """The last message of a command: from its `error:` on; of one that has no such word, all that it printed."""
    found = re.search(r"^error(?: \(rank.*\))?: .*", output, re.MULTILINE | re.DOTALL)
    return (found.group() if found else output).strip()


def last_line(output: str) -> str:
    lines = [line for line in output.replace("\r", "\n").splitlines() if line.strip(" ╰─╯")]
    return shortened(lines[-1]) if lines else "no output"


def shortened(text: str) -> str:
    shown = ascii(" ".join(text.split()))[1:-1].replace("\\\\", "\\")
    return shown if len(shown) <= 300 else f"{shown[:200]} ... {shown[-90:]}"
