"""How a process of a command starts and exits: exit codes, and one message for what a user can fix."""

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
from rich.text import Text
from transformers.utils import logging as transformers_logging

from qa_accel.distributed import stop
from qa_accel.terminal import log_warnings, make_console, visible_lines

PACKAGE = Path(__file__).parents[1]


def main(function: Callable[[], int | None]) -> None:
    """Run a command's function, then exit: with the code that it returns or 0, or with 2 after one message for user errors.

    Ranks usually see the same error. Rank 0 reports it. The others wait for the launcher to end them, and report only
    if they are still alive, that is, if only they failed.
    """
    log_warnings()
    # silence library logs between our lines
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    rank = int(os.environ.get("RANK", "0"))
    if rank:
        datasets.disable_progress_bars()
    code, seconds_to_wait = 0, 3 if rank else 0
    try:
        code = function() or 0
    except (ValueError, OSError) as error:
        code = 2
        time.sleep(seconds_to_wait)
        place = f" (rank {rank} on {socket.gethostname()})" if rank else ""
        if isinstance(error, ValueError) and not _raised_in_package(error):
            _print_traceback()  # raised by a library: its message needs the place
        make_console(stderr=True, soft_wrap=True).print(Text(f"error{place}: ", "bold red"), end="")
        print(visible_lines(error), file=sys.stderr)
    except SystemExit as request:  # a rejected command line, or --help: the message is already printed
        code = request.code if isinstance(request.code, int) else 0 if request.code is None else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # usually a consequence of another rank's failure
        code = 1
        time.sleep(seconds_to_wait)
        _print_traceback()
    exit_process(code)


def _print_traceback() -> None:
    print(visible_lines(traceback.format_exc()), end="", file=sys.stderr)


def _raised_in_package(error: BaseException) -> bool:
    """Whether this package raised it, i.e. whether its message is for the user."""
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).is_relative_to(PACKAGE)


def exit_process(code: int) -> None:
    """Exit at once: a gloo thread that frees tensors while the interpreter shuts down aborts the process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized() and code in (0, stop.EXIT_CODE):
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
