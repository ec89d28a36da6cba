"""One Accelerator over all that was launched, the same first weights everywhere, and how a script begins and ends."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from processes import call, run

from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import entry, strategy
from qa_accel.distributed.settings import RuntimeConfig


def group() -> tuple[int, int, str, str]:
    accelerator = runtime.make_accelerator(RuntimeConfig())
    where = runtime.describe(accelerator)
    return accelerator.process_index, accelerator.num_processes, accelerator.mixed_precision, where


@pytest.mark.parametrize("processes", [1, 3])
def test_all_processes_that_were_launched_are_one_group(processes):
    """Breaks if processes on a machine without GPUs each believe that they are alone."""
    found = call(group, processes=processes)
    assert [(rank, world) for rank, world, _, _ in found] == [(rank, processes) for rank in range(processes)]
    what = "1 process on CPU, fp32" if processes == 1 else "3 processes on CPU, DDP, fp32"
    assert found[0][3] == f"{what}, torch {torch.__version__}"


def launch_line() -> str:
    return runtime.launch_line(runtime.make_accelerator(RuntimeConfig()))


@pytest.mark.parametrize(("processes", "file"), [(1, "cpu"), (2, "cpu_ddp")])
def test_the_line_that_launches_such_processes_again(processes, file):
    """Breaks if the model card's command starts another number of them, or in another precision."""
    expected = f"accelerate launch --config_file accelerate_configs/{file}.yaml --num_processes {processes} --mixed_precision no"
    assert call(launch_line, processes=processes) == [expected] * processes


@pytest.mark.parametrize("name", ["FSDP2", *(f"DeepSpeed ZeRO-{n}" for n in "123"), "DeepSpeed ZeRO-3 with offload"])
def test_each_strategy_has_its_launch_config(name, monkeypatch, repository):
    """Names as `strategy.name` gives them. Breaks if a file is renamed, or a strategy displayed otherwise."""
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=4)
    monkeypatch.setattr(strategy, "name", lambda accelerator: name)
    monkeypatch.setattr(strategy, "precision", lambda accelerator: "bf16")
    line = runtime.launch_line(accelerator).split()  # type: ignore
    assert line[4:] == ["--num_processes", "4", "--mixed_precision", "bf16"]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert runtime.launch_line(accelerator).split()[4:6] == ["--num_machines", "2"]  # type: ignore
    assert (repository / line[3]).is_file(), line[3]


def test_a_launch_line_names_no_config_that_is_not_shipped(monkeypatch, repository):
    """ZeRO-2 with offload has none, several machines have one of their own. Breaks if a card's command cannot start."""
    assert {path.stem for path in (repository / "accelerate_configs").glob("*.yaml")} == set(runtime.SHIPPED)
    monkeypatch.setattr(strategy, "precision", lambda accelerator: "bf16")
    monkeypatch.setattr(strategy, "name", lambda accelerator: "DeepSpeed ZeRO-2 with offload")
    accelerator = SimpleNamespace(device=torch.device("cuda"), num_processes=16)
    expected = "accelerate launch --num_processes 16 --mixed_precision bf16"
    assert runtime.launch_line(accelerator) == expected  # type: ignore
    monkeypatch.setattr(strategy, "name", lambda accelerator: "DDP")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    expected = "accelerate launch --config_file accelerate_configs/multi_node.yaml --num_machines 2 --num_processes 16"
    assert runtime.launch_line(accelerator).startswith(expected)  # type: ignore


def alone() -> tuple[str, str | None]:
    accelerator = runtime.make_accelerator(RuntimeConfig())
    return accelerator.distributed_type.value, os.environ.get("LOCAL_RANK")


def test_a_single_process_of_a_launcher_for_many_is_not_wrapped_in_ddp():
    """As torchrun and a job on one node start it. Breaks if its model is wrapped in DDP, which rules out CUDA graphs, or if
    it forgets that it was launched, on which its exit code depends."""
    launcher = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
    assert call(alone, environment=launcher) == [("NO", "0")]


def group_where_accelerate_sees_a_device() -> None:
    """As on a machine whose GPU torch reports but cannot use: accelerate then makes no group at all."""
    torch.accelerator.is_available = lambda: True  # type: ignore
    entry.main(group)


def test_ranks_that_accelerate_does_not_see_are_refused():
    """Breaks if two processes that both believe to be rank 0 train side by side and write the same files."""
    for left in run(group_where_accelerate_sees_a_device, processes=2):
        if left.code == 2:
            assert "the launcher started 2 processes (WORLD_SIZE), but accelerate sees 1" in left.output
            break
    else:
        pytest.fail("nobody complained")


def faster_launch(threads: int, batch_size: int) -> str | None:
    torch.set_num_threads(threads)
    sys.argv = ["scripts/train.py"]
    return runtime.faster_launch(runtime.make_accelerator(RuntimeConfig()), batch_size)


def test_one_process_with_threads_is_shown_the_faster_launch_line():
    """32 windows on 6 threads: 4 processes of 8. Breaks if the line trains on another number of windows a step, or is
    shown where there is nothing to gain or the launch was chosen by hand."""
    alone = ["ACCELERATE_DYNAMO_BACKEND"]  # which only a launch sets
    [line] = call(faster_launch, 6, 32, without=alone)
    words = ["--num_processes 4 scripts/train.py", "--per_device_train_batch_size 8"]
    assert line == f"accelerate launch --config_file accelerate_configs/cpu_ddp.yaml {' '.join(words)}"
    assert call(faster_launch, 1, 32, without=alone) == [None]
    assert call(faster_launch, 2, 1, without=alone) == [None]
    assert call(faster_launch, 6, 32) == [None]


def draws() -> tuple[float, float, float]:
    accelerator = runtime.make_accelerator(RuntimeConfig())
    runtime.seed_everything(7)
    weight = torch.rand(()).item()
    runtime.seed_everything(7, accelerator)
    dropout = torch.rand(()).item()
    runtime.seed_everything(7, accelerator)
    return weight, dropout, torch.rand(()).item()


def test_first_weights_are_the_same_on_all_ranks_and_dropout_is_not():
    """Breaks if ranks begin with different heads, or drop the same units of different windows."""
    (weight_0, dropout_0, again_0), (weight_1, dropout_1, again_1) = call(draws, processes=2)
    assert weight_0 == weight_1
    assert dropout_0 != dropout_1
    assert (dropout_0, dropout_1) == (again_0, again_1)


def fill_cache(log: Path) -> None:
    accelerator = runtime.make_accelerator(RuntimeConfig())
    with runtime.first_on_each_cache(accelerator):
        for event in ("begins", "ends"):
            with log.open("a") as file:
                file.write(f"{accelerator.process_index} {event}\n")
            time.sleep(0.1)


def test_rank_0_is_done_with_the_cache_before_another_begins(tmp_path):
    """Breaks if all ranks tokenize at once."""
    call(fill_cache, tmp_path / "log", processes=3)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[:2] == ["0 begins", "0 ends"]
    assert sorted(lines[2:]) == ["1 begins", "1 ends", "2 begins", "2 ends"]


def end_with(kind: str) -> None:
    def main() -> None:
        match kind:
            case "user":
                runtime.make_accelerator(RuntimeConfig(), gradient_accumulation_steps=1)
                raise_in_the_package()
            case "library":
                int("twelve")
            case "disk":
                Path("/nowhere/at/all").read_text()
            case "interrupt":
                raise KeyboardInterrupt
            case "exit":
                sys.exit(3)
            case "bug":
                raise KeyError("a mistake of ours")
        print("all done")

    entry.main(main)


def raise_in_the_package() -> None:
    RuntimeConfig()
    from qa_accel.training.part_settings import OptimConfig

    OptimConfig(learning_rate=-1)


@pytest.mark.parametrize(
    ("kind", "code", "says", "traceback"),
    [
        ("nothing", 0, "all done", False),
        ("user", 2, "error: --learning_rate must be more than 0, got -1", False),
        ("library", 2, "error: invalid literal for int() with base 10: 'twelve'", True),
        ("disk", 2, "No such file or directory: '/nowhere/at/all'", False),
        ("interrupt", 130, "", False),
        ("exit", 3, "", False),
        ("bug", 1, "KeyError: 'a mistake of ours'", True),
    ],
)
def test_a_script_ends_with_a_code_and_a_message_that_fit_the_reason(kind, code, says, traceback):
    """A traceback is for what was not foreseen: our own message says all, a library's does not say where."""
    [left] = run(end_with, kind)
    assert left.code == code and says in left.output
    assert ("Traceback" in left.output) == traceback


def fail_together() -> None:
    def main() -> None:
        accelerator = runtime.make_accelerator(RuntimeConfig())
        if accelerator.is_main_process:
            raise_in_the_package()
        accelerator.wait_for_everyone()

    entry.main(main)


def test_one_rank_speaks_for_all():
    """Breaks if the other ranks add a lost connection to rank 0's message; a launcher ends them within a moment."""
    main, other = run(fail_together, processes=2)
    assert main.code == 2 and "error: --learning_rate must be more than 0" in main.output
    assert other.code != 0 and "Traceback" not in other.output and "error:" not in other.output
