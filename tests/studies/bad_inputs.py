"""python tests/studies/bad_inputs.py

Gives every command bad inputs: data, predictions, model folders, recipes, flags, folders, caches, checkpoints. A bad input
is to be refused with exit code 2 and one message that names the place, or read rightly; the table counts what was done
with it, and a list names what was not right. The exit code is 1 if there is any.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__":  # under pytest, conftest.py does this
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"})
    os.environ["DS_ACCELERATOR"] = "cpu"

from bad_input_cases import all_cases
from bad_input_cases.base import make_base
from bad_input_cases.case import Case
from bad_input_cases.judge import KINDS, judged
from bad_input_cases.runner import remove, result_of
from rich.console import Console
from rich.table import Table

Judgement = tuple[Case, str, str, float]
"""The case, its kind, why it is not right, and the seconds that its command took."""


def study(cases: Iterable[Case], place: Path, workers: int = 2) -> list[Judgement]:
    """Each case in a folder of its own below `place`, in the order of `cases`."""
    base = make_base(place)

    def judgement(numbered: tuple[int, Case]) -> Judgement:
        number, case = numbered
        folder = place / "cases" / str(number)
        result = result_of(case, base, folder)
        kind, reason = judged(case, result)
        remove(folder)
        return case, kind, reason, result.seconds

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(judgement, enumerate(cases)))


def counts(judgements: list[Judgement]) -> Table:
    table = Table(title="Bad inputs, and what became of them", title_justify="left")
    table.add_column("group")
    for name in ("tried", *KINDS):
        table.add_column(name, justify="right")
    groups = list(dict.fromkeys(case.group for case, *_ in judgements))
    for group in (*groups, "all"):
        found = Counter(kind for case, kind, *_ in judgements if group in (case.group, "all"))
        table.add_row(group, str(found.total()), *(str(found[kind]) for kind in KINDS))
    return table


def not_right(judgements: list[Judgement]) -> list[str]:
    return [f"{kind}: {case.title}: {reason}" for case, kind, reason, _ in judgements if kind != "ok"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose group/name matches this regular expression")
    parser.add_argument("--workers", type=int, default=2, help="commands that run at once")
    parser.add_argument("--slowest", type=int, default=0, help="list so many cases with their seconds")
    arguments = parser.parse_args()
    cases, began = [case for case in all_cases() if re.search(arguments.only, case.title)], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as folder:
        found = study(cases, Path(folder), arguments.workers)
    wrong = not_right(found)
    print("\n".join(wrong))
    Console(width=150).print(counts(found))
    print(f"{len(found)} cases in {time.monotonic() - began:.0f} s")
    for case, kind, _, seconds in sorted(found, key=lambda one: -one[3])[: arguments.slowest]:
        print(f"{seconds:6.1f} s  {case.title}: {kind}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
