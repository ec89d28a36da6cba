"""accelerate launch --config_file accelerate_configs/cpu_ddp.yaml --num_processes 2 tests/studies/embedding_sums.py --model_name_or_path minilm --train_file train.json

Milliseconds of a DDP step whose word embeddings' gradient is summed by rows, and of one that sums the whole table. Both train the
same model on the same batches, in turn, the order changing from step to step; real questions, since their words decide. `--words`
enlarges the table, as a multilingual vocabulary would, with words that no question has.

Two nodes whose link has a rate are two network namespaces (Linux, root); start the command once in each of them, `ip netns exec qa0`
with `--num_machines 2 --machine_rank 0 --main_process_ip 10.9.0.1 --main_process_port 29500`, GLOO_SOCKET_IFNAME=v0:

    for k in 0 1; do ip netns add qa$k; ip netns exec qa$k ip link set lo up; done
    ip link add v0 netns qa0 type veth peer name v1 netns qa1
    for k in 0 1; do
        ip netns exec qa$k ip addr add 10.9.0.$((k + 1))/24 dev v$k
        ip netns exec qa$k ip link set v$k up
        ip netns exec qa$k tc qdisc add dev v$k root tbf rate 1gbit burst 4mb latency 50ms
    done
"""

import support_path  # noqa: F401

# isort: split


import argparse
import time

import numpy as np
import torch

from qa_accel.batching.collate import batch_loader
from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.splits import prepare_split
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import entry, gradient_sums, strategy
from qa_accel.distributed.settings import GradientSumsConfig
from qa_accel.inference.qa_model import QATask, load_task
from qa_accel.models.loading import ModelConfig
from qa_accel.training import optim
from qa_accel.training.compile import LossFunction
from qa_accel.training.epochs import EpochPlans
from qa_accel.training.part_settings import CompileConfig, LoopConfig
from qa_accel.training.step import OptimizerStep


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--train_file", required=True)
    parser.add_argument("--words", type=int, help="rows of the table; left out: the model's own")
    parser.add_argument("--per_device_train_batch_size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    return parser.parse_args()


def step_of(accelerator, task: QATask, words: int | None, *, by_rows: bool) -> OptimizerStep:
    torch.manual_seed(0)
    model = task.load_model(trained=False).model
    if words is not None:
        model.resize_token_embeddings(words, mean_resizing=False)
    loss = LossFunction(CompileConfig("off"), accelerator, model, packed=task.mode.packed)
    optimizer = optim.make_optimizer(model, optim.OptimConfig())
    if by_rows:
        prepared, optimizer, sums = gradient_sums.prepare(accelerator, model, optimizer, GradientSumsConfig(), 600)
        assert sums is not None, "needs several processes under DDP"
    else:
        prepared, optimizer = accelerator.prepare(model, optimizer)
        sums = None
    prepared.train()
    return OptimizerStep(accelerator, prepared, loss, optimizer, max_grad_norm=1.0, embedding_sums=sums)


def main() -> None:
    arguments = read_arguments()
    accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), training=True)
    ranks, size = accelerator.num_processes, arguments.per_device_train_batch_size
    window_config = WindowConfig()
    task = load_task(
        ModelConfig(arguments.model_name_or_path),
        window_config,
        BatchingConfig("padded"),
        **strategy.placement(accelerator),
        training=True,
    )
    with runtime.first_on_each_cache(accelerator):
        windows = prepare_split(
            DataConfig(train_file=(arguments.train_file,)), window_config, task.tokenizer, "train"
        ).windows
    loop = LoopConfig(per_device_train_batch_size=size)
    plan = EpochPlans(loop, windows.lengths_W, seed=0, world_size=ranks, packed=False).plan(0)[: arguments.steps + 2]
    qa = task.load_model(trained=False)
    collate = task.mode.collator(windows, task.tokenizer, qa.inputs, [plan], qa.max_seq_length)
    steps = {by_rows: step_of(accelerator, task, arguments.words, by_rows=by_rows) for by_rows in (True, False)}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    rows = []
    for number, batch in enumerate(batch_loader(collate, plan[:, 0, accelerator.process_index])):
        for by_rows in (number % 2 == 0, number % 2 == 1):
            accelerator.wait_for_everyone()
            began = time.perf_counter()
            steps[by_rows]([batch], windows=ranks * size)
            seconds[by_rows].append(time.perf_counter() - began)
        sums = steps[True].embedding_sums
        assert sums is not None
        rows.append(int(sums.used_V.sum()))
    if accelerator.is_main_process:
        # of the first two steps DDP forms its buckets in one, and both allocate
        by_rows, whole = (1000 * np.array(seconds[kind][2:]) for kind in (True, False))
        table = sums.weight
        print(
            f"{ranks} processes of {size} windows, {len(whole)} steps; a table of {table.shape[0]:,} x {table.shape[1]}, "
            f"{np.mean(rows):,.0f} rows a step\nby rows {np.median(by_rows):,.0f} ms, whole {np.median(whole):,.0f} ms; "
            f"median of the ratios {np.median(whole / by_rows):.2f} ({(whole / by_rows).min():.2f} to {(whole / by_rows).max():.2f})"
        )
    accelerator.wait_for_everyone()
    entry.exit_process(0)


if __name__ == "__main__":
    main()
