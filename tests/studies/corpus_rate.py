"""Rates of `predict --shard_output` on this machine, and what a billion windows would take at them.

    python tests/studies/corpus_rate.py --model_name_or_path MODEL --squad_file dev.json --questions 200000

The corpus is made of the file's paragraphs and questions, five questions to a paragraph, each paragraph with a sentence of its
own, so that nothing is remembered from one to the next. First the host's work alone, in CPU seconds of one process, then whole
runs with several numbers of processes that tokenize.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from toy import flags

from qa_accel.data import corpus_pieces, corpus_rows
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.settings import Columns, WindowConfig
from qa_accel.data.windows import GoldSpans, Windows
from qa_accel.inference import corpus_table
from qa_accel.inference.postprocess import Candidates, best_answers
from qa_accel.inference.settings import SpanConfig
from qa_accel.models.loading import load_tokenizer
from qa_accel.models.settings import ModelConfig

REPOSITORY = Path(__file__).resolve().parents[2]
BILLION = 10**9


def write_corpus(squad_file: Path, questions: int, path: Path) -> None:
    rng = random.Random(0)
    articles = json.loads(squad_file.read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"] if paragraph["qas"]]
    text = pa.string()
    schema = pa.schema([("id", text), ("question", text), ("context", text)])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, questions, 10_000):
            rows = []
            for number in range(first, min(questions, first + 10_000)):
                if number % 5 == 0:
                    paragraph = rng.choice(paragraphs)
                    context = f"{paragraph['context']} This was written in {number}."
                rows.append((str(number), rng.choice(paragraph["qas"])["question"], context))
            writer.write_table(pa.table(list(zip(*rows)), schema))


def random_candidates(windows: Windows, spans: SpanConfig, rng: np.random.Generator) -> Candidates:
    """Spans of one to five tokens anywhere in each window's context, with random logits."""
    W, K = len(windows), spans.n_best_size
    begin_W1, end_W1 = windows.context_begin_W[:, None], windows.context_end_W[:, None]
    start_WK = begin_W1 + (rng.random((W, K)) * (end_W1 - begin_W1)).astype(np.int32)
    end_WK = np.minimum(start_WK + rng.integers(0, 5, (W, K)), end_W1 - 1).astype(np.int32)
    logits = rng.normal(size=(2, W, K)).astype(np.float32)
    nulls = rng.normal(size=(4, W)).astype(np.float32)
    return Candidates(*nulls, start_WK, end_WK, *logits)


def host_alone(path: Path, model: str, questions: int) -> dict[str, float]:
    """Windows per CPU second of each step, over at most so many questions."""
    [piece] = corpus_pieces.pieces(
        corpus_pieces.corpus_files([str(path)], "test_file"), dict.fromkeys(Columns()[:3], ""), 10**12
    )
    pairs = PairTokenizer(load_tokenizer(ModelConfig(model)), WindowConfig())
    pairs.compose_if_equal([], [])
    spans, rng = SpanConfig(), np.random.default_rng(0)
    seconds, count, asked = dict.fromkeys(("reading", "tokenizing", "post-processing and writing"), 0.0), 0, 0
    chunks = corpus_rows.chunks(piece, Columns())
    with corpus_table.writing(path.with_name("alone.parquet"), nbest=False) as writer:
        while asked < questions:
            marks = [time.process_time()]
            chunk = next(chunks, None)
            if chunk is None:
                break
            marks.append(time.process_time())
            windows = pairs.windows(chunk.questions, chunk.contexts, GoldSpans.none())
            marks.append(time.process_time())
            candidates = random_candidates(windows, spans, rng)
            between = time.process_time()
            keys = [f"{key} {place}" for key, place in zip(chunk.ids, chunk.places)]
            answers = best_answers(
                {"id": keys, "context": chunk.contexts}, windows, candidates, spans, version_2_with_negative=True
            )
            writer.add(corpus_table.table_of(chunk, keys, str(path), answers, None, nbest=False), len(windows))
            took = [marks[1] - marks[0], marks[2] - marks[1], time.process_time() - between]
            seconds = {name: before + one for (name, before), one in zip(seconds.items(), took)}
            count, asked = count + len(windows), asked + len(chunk)
    return {name: count / one for name, one in seconds.items()}


def whole_run(words: list[str], folder: Path, workers: int) -> tuple[float, float, float]:
    """Windows/s once the first were there, share of that time in the model, bytes of answers per window."""
    words = [sys.executable, "scripts/predict.py", *words, *flags(output_dir=folder, preprocessing_num_workers=workers)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"([\d,]+) windows by this process, ([\d,]+) windows/s, in the model (\d+) %", done.stdout)
    assert found is not None, done.stdout
    size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
    windows, rate, busy = (float(text.replace(",", "")) for text in found.groups())
    return rate, busy / 100, size / windows


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--squad_file", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--mixed_precision", choices=("no", "bf16", "fp16"), default="no")
    parser.add_argument("--per_device_eval_batch_size", type=int, default=128)
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["ACCELERATE_MIXED_PRECISION"] = arguments.mixed_precision
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "corpus.parquet"
        write_corpus(arguments.squad_file, arguments.questions, corpus)
        alone = host_alone(corpus, arguments.model_name_or_path, 20_000)
        hours = sum(BILLION / rate for rate in alone.values()) / 3600
        for name, rate in alone.items():
            print(f"{name}: {rate:,.0f} windows per CPU second, {BILLION / rate / 3600:,.0f} CPU hours a billion")
        print(f"all of the host's work: {hours:,.0f} CPU hours a billion", flush=True)
        words = ["--shard_output", *flags(model_name_or_path=arguments.model_name_or_path, test_file=corpus)]
        words += flags(per_device_eval_batch_size=arguments.per_device_eval_batch_size)
        for workers in arguments.workers:
            rate, busy, size = whole_run(words, Path(place) / f"answers-{workers}", workers)
            print(
                f"{workers} processes tokenize: {rate:,.0f} windows/s from end to end, {100 * busy:.0f} % of the time in the model; "
                f"{size:.0f} bytes a window; {BILLION / rate / 3600:,.0f} hours a billion",
                flush=True,
            )


if __name__ == "__main__":
    main()
