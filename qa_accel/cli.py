"""`qa-accel COMMAND ...`: the name of a command -> its settings, then its module of `commands/`, imported only then.

`commands/settings/` has a module per command: its help, and a `Config` whose fields are the flags. They import nothing heavy,
so that --help and a refusal come at once. Only for settings that are right `commands/`, with its `run(config)`, is imported.
scripts/*.py call the same `main`.
"""

import difflib
import importlib
import os
import signal
import sys
from typing import Any

import qa_accel
from qa_accel.distributed import allocator, signals
from qa_accel.terminal import log_warnings, show_all_characters, visible_lines
from qa_accel.training.stage_timer import StageTimer

COMMANDS = {
    "train": "fine-tune a model, evaluate it, keep the best",
    "predict": "answer the questions of a file with a fine-tuned model",
    "decode": "answer a prediction's questions again under other settings, without the model",
    "serve": "answer questions over HTTP, from programs and on a page",
    "ask": "answer questions as they come, from a pipe or a file to a pipe",
    "prepare": "fill the cache of a training run before it starts",
    "calibrate": "fit the confidence of a fine-tuned model",
    "export": "write a fine-tuned model as a graph for onnxruntime, in fp32 or int8",
    "report": "write a run's report, or compare two runs, as one HTML file",
    "ensemble": "join the answers of several models, and say what that gains",
    "score": "score a predictions file by the official definitions",
    "preflight": "check hosts and settings of a training run before it starts",
    "bench": "measure the speed of each part on this machine",
    "summary": "mean, spread and 95 % interval of the scores of several seeds",
    "sweep": "search settings of a training run, by any number of workers",
    "learning_curve": "train on growing parts of the data, say what more data would give",
}
WITHOUT_TORCH = ("ask", "decode", "ensemble", "report", "score", "serve", "summary")
"""Commands that need no process group, and whose own refusals must come in a fraction of a second; `ask` and `serve` import
torch when they load the model."""


def main(command: str | None = None) -> None:
    """Run a command, or the one that the command line begins with, and exit."""
    timer = StageTimer()
    show_all_characters()
    arguments = sys.argv[1:]
    if command is None:
        command = _command_of(arguments)
        arguments = arguments[1:]
    if listens_early(command, arguments):
        signals.listen(signals.BEFORE_TRAINING)  # before the seconds that importing torch takes
    if command == "ask":
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a pipe without a traceback, while torch loads too
    try:
        settings = settings_of(command, arguments)
    except BrokenPipeError:  # `--help | head`: the reader has seen enough
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else Python complains when it flushes at the exit
        raise SystemExit(0) from None
    if command in ("train", "bench"):
        allocator.request_huge_pages()
    module = importlib.import_module(f"qa_accel.commands.{command}")
    if command in WITHOUT_TORCH:
        log_warnings()
        try:
            code = module.run(settings)
        except (ValueError, OSError) as error:
            print(f"{command}: {visible_lines(error)}", file=sys.stderr)
            raise SystemExit(2) from error
        if code:
            raise SystemExit(code)
        return
    from qa_accel.distributed import entry

    timer.end_stage("imports")
    options: dict[str, Any] = {"timer": timer} if command == "train" else {}
    entry.main(lambda: module.run(settings, **options))


def settings_of(command: str, arguments: list[str]) -> Any:
    """The command's `Config` with these flags. Exits with code 0 after --help, with 2 and one message for what is refused."""
    module = importlib.import_module(f"qa_accel.commands.settings.{command}")
    from qa_accel import config

    return config.parse(module.Config, arguments, description=module.__doc__)


def listens_early(command: str, arguments: list[str]) -> bool:
    """Whether a stop signal is noted from the start on: these commands go on where they ended."""
    names = {argument.split("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--")}
    return command in ("train", "sweep", "learning_curve") or "__shard_output" in names


def _command_of(arguments: list[str]) -> str:
    """The first word, if it is a command; otherwise help or an error, and the end."""
    name = arguments[0] if arguments else "--help"
    if name in COMMANDS:
        return name
    if name in ("--version", "-V"):
        print(f"qa-accel {qa_accel.__version__}")
        raise SystemExit(0)
    if name in ("--help", "-h"):
        print(_help())
        raise SystemExit(0)
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"commands: {', '.join(COMMANDS)}"
    print(f"qa-accel: unknown command {name!r}; {hint}", file=sys.stderr)
    raise SystemExit(2)


def _help() -> str:
    lines = [
        "usage: qa-accel COMMAND [--config RECIPE.yaml] [FLAGS]",
        "",
        "Fine-tune, evaluate and use extractive question answering models.",
        "",
        *(f"  {name:<14} {what}" for name, what in COMMANDS.items()),
        "",
        "qa-accel COMMAND --help lists the flags of a command. On several processes:",
        "accelerate launch --config_file FILE -m qa_accel.cli COMMAND ...",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
