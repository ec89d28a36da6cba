"""python tests/studies/long_documents.py MODEL [--megacharacters 0.25 0.5 1 2] [--questions 1 20 200] [--documents 4]

What long documents cost before training: processor seconds, peak memory and bytes of cache of `prepare`, for documents of
each length with so many questions each. MODEL is a folder with a tokenizer. A row is a process of its own; memory is the
most that it had of its own (RssAnon, so without the cache's pages) less what it had when its modules were imported.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


def report(number: int, characters: int) -> str:
    """A text of this many characters: dull, but no two sentences are equal."""
    lines, length, item = [f"Report {number} of the mill. "], 0, 0
    while length < characters:
        lines.append(f"In week {item} the mill ground {7 * item} sacks of rye for {number + 3} villages. ")
        length += len(lines[-1])
        item += 1
    return "".join(lines)[:characters]


def questions(number: int, text: str, count: int) -> list[dict]:
    """Spread over the text."""
    weeks = text.count("In week ") - 2
    asked = []
    for place in range(count):
        week = weeks * place // count
        answer = f"{7 * week} sacks"
        start = text.index(f"In week {week} the mill ground {answer}") + len(f"In week {week} the mill ground ")
        asked.append(
            {
                "id": f"{number}-{place}",
                "question": f"How much did the mill grind in week {week}?",
                "answers": [{"text": answer, "answer_start": start}],
            }
        )
    return asked


def write_set(path: Path, characters: list[int], count: int) -> None:
    articles = []
    for number, length in enumerate(characters):
        text = report(number, length)
        articles.append(
            {"title": f"mill {number}", "paragraphs": [{"context": text, "qas": questions(number, text, count)}]}
        )
    path.write_text(json.dumps({"version": "v2.0", "data": articles}), encoding="utf-8")


def measure(model: str, folder: Path) -> dict[str, float]:
    """Read, audit and window the questions of folder/train.json, in this process."""
    from transformers import AutoTokenizer

    from qa_accel.data.settings import DataConfig, WindowConfig
    from qa_accel.data.splits import prepare_split

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer("warm up")
    cache = folder / "cache"
    peak = PeakMemory()
    began = time.process_time()
    data = DataConfig(train_file=(str(folder / "train.json"),), cache_dir=str(cache))
    split = prepare_split(data, WindowConfig(), tokenizer, "train")
    sizes = {kind: sum(path.stat().st_size for path in cache.glob(f"{kind}-*")) for kind in ("questions", "windows")}
    return {
        "windows": len(split.windows),
        "tokens": int(split.windows.begin_W[-1]),
        "seconds": time.process_time() - began,
        "memory": peak.end(),
        **{f"{kind}_bytes": size for kind, size in sizes.items()},
    }


class PeakMemory:
    """The most private memory of this process from now on, looked at every few milliseconds."""

    def __init__(self):
        self.before = self.most = private_memory()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self) -> None:
        while not self.over.wait(0.003):
            self.most = max(self.most, private_memory())

    def end(self) -> int:
        """Bytes more than at the beginning."""
        self.over.set()
        self.thread.join()
        return self.most - self.before


def private_memory() -> int:
    """RssAnon, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--megacharacters", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0])
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 20, 200])
    parser.add_argument("--documents", type=int, default=1)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.model, options.measure)))
        return
    print("documents  characters  questions   windows   seconds  us/token  memory MB  questions MB  windows MB")
    for count in options.questions:
        for megacharacters in options.megacharacters:
            characters = int(1e6 * megacharacters)
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                write_set(folder / "train.json", [characters] * options.documents, count)
                words = [sys.executable, __file__, options.model, "--measure", name]
                ran = subprocess.run(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
            if ran.returncode:
                sys.exit(ran.stderr)
            found = json.loads(ran.stdout.splitlines()[-1])
            print(
                f"{options.documents:9}  {characters:10,}  {count:9}  {found['windows']:8,}  {found['seconds']:8.2f}  "
                f"{1e6 * found['seconds'] / found['tokens']:8.2f}  {found['memory'] / 1e6:9.0f}  "
                f"{found['questions_bytes'] / 1e6:12.1f}  {found['windows_bytes'] / 1e6:10.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
