"""Collectives of a step, spread of tokens, host work and stated link speeds -> the efficiency of many GPUs, by arithmetic.

Counted or measured here: buckets and other collectives of a real two-process run, each rank's tokens in the real plan, host work,
rank 0's part of an evaluation. Counted once: the words of SQuAD's windows. Given as settings: a step of one GPU, links, memory,
start. Nothing here ran on several GPUs.

The formulas: n ranks sum S bytes over links of bus bandwidth B in 2 (n - 1) / n S / B, plus a latency (Thakur et al. 2005,
"Optimization of Collective Communication Operations in MPICH"; NCCL tests, doc/PERFORMANCE.md). Over several nodes the sum is
hierarchical: within each node first (each GPU then has a share of S), the shares between nodes, and within again; the levels
do not overlap, which NCCL does better. A bucket is summed as soon as the backward pass has its gradients and the one before is
done; what is left after the backward pass is exposed (Li et al. 2020, "PyTorch Distributed", arXiv:2006.15704, section 3.2.3).
The rows of the words follow after it. Which words these are, the ranks agree on the host meanwhile: no time of the device.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qa_accel.batching import mode, plan
from qa_accel.batching.collate import batch_loader
from qa_accel.bench.collectives import Counted, count_collectives
from qa_accel.bench.settings import PER_NODE, ScalingConfig
from qa_accel.bench.synthetic import random_answers, squad_like_lengths
from qa_accel.data.splits import Split
from qa_accel.data.windows import Windows
from qa_accel.evaluation import scoring
from qa_accel.inference.postprocess import best_answers
from qa_accel.inference.settings import SpanConfig

HOOKS = ("no", "bf16")
"""Of `--ddp_comm_hook`; fp16 has the bytes of bf16."""
SQUAD_WINDOWS, SQUAD_QUESTIONS, EPOCHS = 127_456, 11_873, 3
"""The job: SQuAD v2's windows of an epoch (3,983 steps of 32), questions of an evaluation, epochs with one evaluation each."""
UPDATE = 1.5 / 11.0
"""Share of a step that clipping and AdamW take (docs/results.md, BERT-base on the H100); of the rest, two thirds are backward."""
COPIED = {"no": 8, "fp16": 24, "bf16": 24}
"""Bytes that DDP reads and writes for each number beside the sum: the gradient into its bucket (4 + 4); with a hook also to half
precision (4 + 2), divided (2 + 2), and back (2 + 4)."""
ROWS_COPIED = {"no": 24, "fp16": 32, "bf16": 32}
"""The same of the rows of words: out of the table (4 + 4), divided (4 + 4) and into it (4 + 4); in half precision the second is
(4 + 2) and (2 + 2), and (2 + 4) precedes the last."""
WORDS = {32: 1872, 64: 3184, 128: 5114, 256: 7793, 512: 11126, 1024: 15015, 2048: 18831}
"""Windows -> how many of BERT's 30,522 words they have: SQuAD v2's train file, mean of ten draws. Fewer or more windows
count as the first or the last."""
VOCABULARY = 30_522


@dataclass(frozen=True)
class Measured:
    """What the bench found on this machine, for one number of ranks."""

    spread: float
    """Mean over the steps of: tokens of the fullest rank / mean tokens of the ranks."""
    padded_spread: float
    """The same of padded batches, padding included."""
    host_ms: float
    """Of a step on one rank: its batch and the plan of all ranks."""
    plan_seconds: float
    """Of an epoch's plan, which every rank makes."""


def sum_ms(size: float, world: int, links: ScalingConfig) -> float:
    """Milliseconds of an all-reduce of `size` bytes over `world` GPUs."""
    if world == 1:
        return 0.0
    local, nodes = min(world, PER_NODE), math.ceil(world / PER_NODE)
    seconds = 2 * (local - 1) / local * size / (links.node_gb_s * 1e9) + links.node_latency_us / 1e6
    if nodes > 1:
        seconds += 2 * (nodes - 1) / nodes * (size / local) / (links.network_gb_s * 1e9)
        seconds += links.network_latency_us / 1e6
    return 1000 * seconds


def rows_of_words(counted: Counted, windows: int) -> int:
    """How many rows of the table a step of so many windows, over all ranks, sums."""
    found = float(np.interp(math.log(windows), np.log(list(WORDS)), list(WORDS.values())))
    return round(counted.words[0] * found / VOCABULARY)


def exposed_ms(counted: Counted, world: int, links: ScalingConfig, backward_ms: float, words_bytes: float) -> float:
    """What is left of the sums when the backward pass is over. Its time goes to the numbers that are not embedded, evenly.

    `words_bytes`: of the rows of words, which are summed last.
    """
    numbers = np.array(counted.bucket_bytes, float) / sum(counted.bucket_bytes) * counted.in_buckets
    multiplied = counted.trained - counted.embedded
    ready_ms = backward_ms * np.minimum(np.cumsum(numbers), multiplied) / multiplied
    done = 0.0
    for ready, size in zip(ready_ms, counted.bucket_bytes):
        done = max(done, ready) + sum_ms(size, world, links)
    if words_bytes:
        done = max(done, backward_ms) + sum_ms(words_bytes, world, links)
    return max(0.0, done - backward_ms)


def estimate(
    counted: Counted, hook: str, world: int, size: int, config: ScalingConfig, measured: Measured
) -> dict[str, float]:
    """Milliseconds of a step and its parts, and the efficiency: one GPU's captured step over this one.

    `size`: windows of a rank and step.
    """
    alone = config.step_ms if config.ddp_step_ms is None else config.ddp_step_ms
    backward_ms = 2 / 3 * (1 - UPDATE) * config.step_ms
    words = rows_of_words(counted, world * size) * counted.words[1]
    exposed = exposed_ms(counted, world, config, backward_ms, words * (4 if hook == "no" else 2))
    copied = COPIED[hook] * counted.in_buckets + ROWS_COPIED[hook] * words
    copies = 1000 * copied / (config.memory_gb_s * 1e9) if world > 1 else 0.0
    waiting = (measured.spread - 1) * config.step_ms
    on_device = (alone if world > 1 else config.step_ms) + copies + exposed + waiting
    host = max(0.0, measured.host_ms - on_device)  # the host prepares a step while the device computes the one before
    step = on_device + host
    return {
        "step_ms": step,
        "not_captured_ms": alone - config.step_ms if world > 1 else 0.0,
        "copies_ms": copies,
        "exposed_ms": exposed,
        "waiting_ms": waiting,
        "host_ms": host,
        "efficiency": config.step_ms / step,
    }


def job_seconds(
    step_ms: float, world: int, size: int, config: ScalingConfig, serial_seconds: float
) -> dict[str, float]:
    """Seconds of the job's start, steps, passes over the validation questions (a window each) and rank 0's post-processing.

    `size`: windows of a rank and step. `serial_seconds`: of one evaluation.
    """
    steps = EPOCHS * math.ceil(SQUAD_WINDOWS / (size * world)) * step_ms / 1000
    passes = EPOCHS * math.ceil(SQUAD_QUESTIONS / (size * world)) * config.predict_ms / 1000
    parts = {"start": config.start_seconds, "steps": steps, "passes": passes, "rank_0": EPOCHS * serial_seconds}
    return parts | {"whole": sum(parts.values())}


def measure(windows: Windows, collate: Any, world: int, size: int) -> Measured:
    """The real plan for so many ranks, over an epoch of SQuAD's size, and the host's work for a step of it."""
    lengths_W = squad_like_lengths(SQUAD_WINDOWS, np.random.default_rng(0))
    began = time.perf_counter()
    packed = _full_steps(lengths_W, world, size, packed=True)
    plan_seconds = time.perf_counter() - began
    padded = _full_steps(lengths_W, world, size, packed=False)
    width_SR = -(-lengths_W[padded].max(axis=-1) // 8) * 8
    some = np.where(packed[:20] == plan.NOTHING, plan.NOTHING, packed[:20] % len(windows))
    began = time.perf_counter()
    for step_plan, _ in zip(some, batch_loader(collate, some[:, 0])):
        (step_plan != plan.NOTHING).sum()
        plan.batch_tokens(windows.lengths_W, step_plan)
        mode.computed_tokens(windows.lengths_W, step_plan, collate)
    host_ms = 1000 * (time.perf_counter() - began) / len(some)
    return Measured(spread_of(plan.batch_tokens(lengths_W, packed)), spread_of(width_SR), host_ms, plan_seconds)


def _full_steps(lengths_W: np.ndarray, world: int, size: int, *, packed: bool) -> np.ndarray:
    """(steps, ranks, windows) of an epoch, less a last step that is not full; all steps if there is only that one."""
    whole = plan.training_plan(
        lengths_W, seed=0, epoch=0, batch_size=size, accumulation=1, world_size=world, packed=packed
    )[:, 0]
    full = whole[(whole != plan.NOTHING).all(axis=(1, 2))]
    return full if len(full) else whole


def spread_of(work_SR: np.ndarray) -> float:
    """Steps and ranks -> mean over the steps of most / mean: how long a step takes if its ranks wait for the slowest."""
    return float((work_SR.max(axis=1) / work_SR.mean(axis=1)).mean())


def serial_seconds(windows: Windows) -> float:
    """Of rank 0 alone in an evaluation of SQuAD's size: answers, scores, threshold and calibration, as it is here for fewer."""
    questions, candidates = random_answers(windows)
    config, split = SpanConfig(null_score_diff_threshold=0.0), Split(questions, windows)
    began = time.perf_counter()
    answers = best_answers(questions, windows, candidates, config, version_2_with_negative=True)
    scores = scoring.scores_of(answers, split, 0.0, version_2_with_negative=True)
    scoring.tuned_policy(answers, scores, split, version_2_with_negative=True)
    return (time.perf_counter() - began) / len(windows) * SQUAD_QUESTIONS


def start_bytes(windows: Windows, counted: Counted) -> dict[str, int]:
    """Bytes that each process reads at the start: the windows' file, mapped, and the weights. Processes of a node share them in
    the page cache, so that the disk gives them once a node."""
    arrays = [one for one in vars(windows).values() if isinstance(one, np.ndarray)]
    of_windows = sum(one.nbytes for one in arrays) / len(windows) * SQUAD_WINDOWS
    return {"windows": round(of_windows), "weights": 4 * counted.trained}


def figures(model: str, windows: Windows, collate: Any, size: int, config: ScalingConfig) -> list[dict[str, Any]]:
    """All that was counted and measured, and last an estimate for each number of GPUs and each precision of the sums.

    `windows`, `collate`: of the bench, for the host's work. `size`: windows of a rank and step.
    """
    counts = {hook: count_collectives(model, hook) for hook in HOOKS}
    lines: list[dict[str, Any]] = [
        {
            "found": "collectives",
            "hook": hook,
            "bucket_bytes": counted.bucket_bytes,
            "gradient_bytes": sum(counted.bucket_bytes),
            "token_bytes": [call.bytes for call in counted.tokens],
            "row_bytes": [call.bytes for call in counted.rows],
            "other_bytes": [call.bytes for call in counted.others],
            "log_bytes": [call.bytes for call in counted.log],
        }
        for hook, counted in counts.items()
    ]
    serial = serial_seconds(windows)
    read = {f"{name}_mb": round(size / 1e6) for name, size in start_bytes(windows, counts["no"]).items()}
    lines.append({"found": "rank 0", "seconds_of_evaluation": round(serial, 3)} | read)
    estimates = []
    alone = job_seconds(config.step_ms, 1, size, config, serial)["whole"]
    for world in config.world_size:
        measured = measure(windows, collate, world, size)
        own = {name: round(value, 4) for name, value in vars(measured).items()}
        lines.append({"found": "ranks", "gpus": world, **own})
        for hook, counted in counts.items():
            parts = estimate(counted, hook, world, size, config, measured)
            job = job_seconds(parts["step_ms"], world, size, config, serial)
            whole = job.pop("whole")
            estimates.append(
                {"found": "estimate", "gpus": world, "hook": hook}
                | {name: round(value, 3) for name, value in parts.items()}
                | {"job_seconds": round(whole, 1), "job_efficiency": round(alone / world / whole, 3)}
                | {"job_parts": {name: round(value, 2) for name, value in job.items()}}
            )
    return lines + estimates


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The estimates for people."""
    estimates = [line for line in lines if line["found"] == "estimate"]
    columns = ("gpus", "hook", "step_ms", "not_captured_ms", "copies_ms", "exposed_ms", "waiting_ms", "host_ms")
    columns += ("efficiency", "job_seconds", "job_efficiency")
    rows = [columns, *([str(line[name]) for name in columns] for line in estimates)]
    widths = [max(len(row[place]) for row in rows) + 2 for place in range(len(columns))]
    return "\n".join("".join(f"{cell:>{width}}" for cell, width in zip(row, widths)) for row in rows)
