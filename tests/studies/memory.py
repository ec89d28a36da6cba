"""python tests/studies/memory.py

Measures the memory that training BERT-base takes in each process, under every strategy, with and without gradient
checkpointing: fp32, random weights, two CPU processes that are started again for each line. All figures are MB of private
memory (RssAnon) beyond what the process had when its group was complete.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from equality import CONFIGS, STRATEGIES
from processes import free_port, launch_environment
from rich.console import Console
from rich.table import Table
from toy import make_tokenizer

from qa_accel.batching import collate, mode
from qa_accel.bench import synthetic
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import allocator, entry, gradient_sums, strategy
from qa_accel.distributed.settings import GradientSumsConfig
from qa_accel.models import loading as loading_module
from qa_accel.training import optim
from qa_accel.training.compile import LossFunction
from qa_accel.training.part_settings import CompileConfig
from qa_accel.training.step import OptimizerStep

BATCH, TOKENS, STEPS = 4, 128, 2
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    # what tensors leave goes back to the system at once; by itself glibc keeps it after the first large ones
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
MB = 10**6


def private_memory() -> int:
    """Bytes of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon: this needs Linux")


class Peak:
    """The maximum of private_memory, read every 5 ms by a separate thread."""

    def __init__(self):
        self.value = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.value = max(self.value, private_memory())
            time.sleep(0.005)

    def since_last(self) -> int:
        found, self.value = max(self.value, private_memory()), 0
        return found


def measure(folder: str, gradient_checkpointing: bool, result: Path) -> None:
    """One rank: load, prepare, a few steps; writes its peaks beyond the baseline."""
    allocator.keep_memory = lambda: None  # what tensors leave is to be seen
    accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), training=True)
    accelerator.wait_for_everyone()
    baseline, peak = private_memory(), Peak()
    settings = loading_module.ModelConfig(folder, gradient_checkpointing=gradient_checkpointing)
    model_config = loading_module.load_model_config(settings, TOKENS)
    batching_mode = mode.choose(
        mode.BatchingConfig(),
        model_config,
        **strategy.placement(accelerator),
        training=True,
    )
    qa_model = batching_mode.set_up(loading_module.load_model(settings, model_config, make_tokenizer()))
    loss = LossFunction(CompileConfig(), accelerator, qa_model, packed=False)
    strategy.configure_for_model(accelerator, qa_model, batch_size=BATCH, max_grad_norm=1.0)
    optimizer_config = optim.OptimConfig()
    prepared, optimizer, embedding_sums = gradient_sums.prepare(
        accelerator, qa_model, optim.make_optimizer(qa_model, optimizer_config), GradientSumsConfig(), timeout=600
    )
    schedule = optim.make_schedule(optimizer, optimizer_config, 100)
    step = OptimizerStep(accelerator, prepared, loss, optimizer, max_grad_norm=1.0, embedding_sums=embedding_sums)
    prepared.train()
    loading = peak.since_last() - baseline
    windows = synthetic.squad_like_windows(2000, model_config.vocab_size)
    like_wanted = np.argsort(np.abs(windows.lengths_W - (TOKENS - 4)), kind="stable")
    batch = collate.PaddedCollator(windows, pad_token_id=0)(like_wanted[:BATCH])
    for _ in range(STEPS):  # AdamW's state is there from the second step on
        step([batch], windows=2 * BATCH)
        schedule.step()
    training = peak.since_last() - baseline
    between = private_memory() - baseline
    figures = {"loading": loading, "training": training, "between": between}
    result.with_name(f"{result.name}-{accelerator.process_index}").write_text(json.dumps(figures))
    entry.exit_process(0)


def measured(folder: Path, name: str, gradient_checkpointing: bool) -> dict[str, float]:
    """The larger of the two ranks' figures."""
    launched = launch_environment(CONFIGS / f"{name}.yaml", 2, "--mixed_precision", "no")
    launched |= ENVIRONMENT | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    launched |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    result = folder / f"{name}-{gradient_checkpointing}"
    words = [sys.executable, __file__, "--of_rank", str(folder), str(result)]
    words += ["--gradient_checkpointing"] if gradient_checkpointing else []
    ranks = [
        subprocess.Popen(words, env=os.environ | launched | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0], name
    found = [json.loads(result.with_name(f"{result.name}-{rank}").read_text()) for rank in range(2)]
    return {key: max(one[key] for one in found) / MB for key in found[0]}


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=STRATEGIES)
    parser.add_argument(
        "--gradient_checkpointing", action="store_true", help="with it only, rather than without and with"
    )
    parser.add_argument("--of_rank", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    if arguments.of_rank:
        measure(arguments.of_rank[0], arguments.gradient_checkpointing, Path(arguments.of_rank[1]))
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as place:
        bert = synthetic.make_model(synthetic.model_config("bert-base"))
        parameters = sum(parameter.numel() for parameter in bert.parameters())
        bert.save_pretrained(place)
        table = Table(
            title=f"BERT-base, {parameters / 1e6:.1f} M parameters, 2 processes, batches of {BATCH} x {TOKENS} tokens; MB"
        )
        for column in ("strategy", "gradient checkpointing", "loading", "training", "between steps"):
            table.add_column(column)
        for gradient_checkpointing in (True,) if arguments.gradient_checkpointing else (False, True):
            for name in arguments.strategies:
                found = measured(Path(place), name, gradient_checkpointing)
                figures = [f"{found[key]:.0f}" for key in ("loading", "training", "between")]
                table.add_row(name, "yes" if gradient_checkpointing else "no", *figures)
                print(name, gradient_checkpointing, found, flush=True)
    console.print(table)


if __name__ == "__main__":
    main()
