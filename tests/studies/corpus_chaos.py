"""Processes that answer a corpus, killed at random moments, one or all of them, and started again until all is done.

    python tests/studies/corpus_chaos.py --kills 30

Each start has one or two processes, as a launch (the death of one ends the other) or as tasks of a Slurm array (the other goes
on). In the end the folder must hold, byte for byte, the pieces of a run that was never killed, and no others.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from corpora import corpus_flags, pieces_in, toy_rows, write_corpus
from processes import Left, run, script
from toy import make_toy

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Summary:
    kills: int = 0
    """Processes killed."""
    starts: int = 0
    kept: int = 0
    """Pieces that were there at a later start, summed over starts."""
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.kills} processes killed in {self.starts} starts, which found {self.kept} pieces of earlier ones"
        return "\n".join([text, f"wrong: {len(self.wrong)}", *self.wrong])


def dying_script(path: Path, argv: list[str], deaths: list[float | None], array: bool) -> None:
    """The script, in a process that kills itself after its rank's seconds, whatever it is doing. None: it lives."""
    rank = int(os.environ.get("RANK") or os.environ.get("TASK", "0"))
    if array:
        os.environ |= {"SLURM_ARRAY_TASK_ID": str(rank), "SLURM_ARRAY_TASK_COUNT": str(len(deaths))}
    seconds = deaths[rank]
    if seconds is not None:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    script(path, argv)


def start(words: list[str], deaths: list[float | None], array: bool) -> list[Left]:
    path = REPOSITORY / "scripts" / "predict.py"
    if not array:
        return run(dying_script, path, words, deaths, False, processes=len(deaths))
    with ThreadPoolExecutor() as pool:
        tasks = [
            pool.submit(run, dying_script, path, words, deaths, True, environment={"TASK": str(task)})
            for task in range(len(deaths))
        ]
        return [left for task in tasks for left in task.result()]


def chaos(kills: int, seed: int, place: Path, copies: int = 12, say=print) -> Summary:
    """Kill so many processes in all; a folder that is whole before that is begun again."""
    rng, summary, toy = random.Random(seed), Summary(), make_toy(place)
    rows = toy_rows(copies)
    corpus = write_corpus(place / "corpus", rows)
    start(corpus_flags(toy, corpus, place / "whole"), [None], False)
    whole, round_ = pieces_in(place / "whole"), 0
    longest = 1.0
    while summary.kills < kills:
        round_ += 1
        folder = place / f"round-{round_}"
        words = corpus_flags(toy, corpus, folder)
        while True:
            there = len(pieces_in(folder))
            summary.kept += there
            array = rng.random() < 0.5
            deaths: list[float | None] = [rng.uniform(0.1, longest) for _ in range(rng.choice([1, 2, 2]))]
            if len(deaths) == 2 and rng.random() < 0.5:
                deaths[rng.randrange(2)] = None
            if summary.kills >= kills:
                deaths = [None] * len(deaths)
            left = start(words, deaths, array)
            summary.starts += 1
            killed = [rank for rank, one in enumerate(left) if one.code < 0 and deaths[rank] is not None]
            summary.kills += len(killed)
            summary.wrong += [f"{folder.name}: {one.output}" for one in left if one.code > 0]
            now = len(pieces_in(folder))
            longest *= 1.3 if killed and now == there else 1.0
            say(f"start {summary.starts}: {len(left)} processes, killed {killed}, pieces {there} -> {now}")
            if (folder / "manifest.json").exists() or summary.wrong:
                break
        longest = max(0.5, 0.8 * longest)
        summary.wrong += differences(folder, whole, [row["id"] for row in rows])
    return summary


def differences(folder: Path, whole: dict[str, bytes], ids: list[str]) -> list[str]:
    """What is lost, there twice, or other than in the run that was never killed."""
    found = pieces_in(folder)
    wrong = [f"{folder.name}: lacks {name}" for name in whole.keys() - found.keys()]
    wrong += [f"{folder.name}: has {name}, too" for name in found.keys() - whole.keys()]
    wrong += [f"{folder.name}: {name} differs" for name in whole.keys() & found.keys() if whole[name] != found[name]]
    there = [key for name in found for key in pq.read_table(folder / name, columns=["id"])["id"].to_pylist()]
    wrong += [] if sorted(there) == sorted(ids) else [f"{folder.name}: {len(there)} answers to {len(ids)} questions"]
    manifest = json.loads((folder / "manifest.json").read_text())
    wrong += [] if manifest["questions"] == len(ids) else [f"{folder.name}: manifest.json counts otherwise"]
    return wrong  # partial files of killed processes stay for an hour: they might be those of a living one


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        result = chaos(arguments.kills, arguments.seed, Path(folder), copies=50)
    print(result)
    sys.exit(bool(result.wrong))
