"""bf16 or fp32 on a CPU: what the hardware multiplies, what the launch asks for, what is refused. No test depends on the CPU."""

import os
import sys
from pathlib import Path

import pytest
from launches import finish, only_message, start, training_flags
from processes import call, launch_environment, run

from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import entry, precision
from qa_accel.distributed.settings import RuntimeConfig

CONFIGS = Path(__file__).resolve().parents[2] / "accelerate_configs"
UNITS, NO_UNITS = {"QA_ACCEL_CPU_BF16": "1"}, {"QA_ACCEL_CPU_BF16": "0"}


def taken(training: bool) -> tuple[str, str]:
    accelerator = runtime.make_accelerator(RuntimeConfig(), bfloat16_where_fast=training)
    words = runtime.describe(accelerator, bfloat16_where_fast=training)
    return accelerator.mixed_precision, words.removeprefix("1 process on CPU, ").rpartition(", torch")[0]


@pytest.mark.parametrize(
    ("hardware", "requested", "training", "expected"),
    [
        (UNITS, None, True, ("bf16", "bf16")),
        (UNITS, None, False, ("no", "fp32")),
        (UNITS, "no", True, ("no", "fp32")),
        (UNITS, "no", False, ("no", "fp32")),
        (UNITS, "bf16", True, ("bf16", "bf16")),
        (UNITS, "bf16", False, ("bf16", "bf16")),
        (NO_UNITS, None, True, ("no", "fp32 (this CPU has no bf16 units)")),
        (NO_UNITS, None, False, ("no", "fp32")),
        (NO_UNITS, "no", True, ("no", "fp32")),
        (NO_UNITS, "no", False, ("no", "fp32")),
    ],
)
def test_training_takes_what_the_cpu_multiplies_unless_the_environment_says_otherwise(
    hardware, requested, training, expected
):
    """Breaks if training is in bf16 at 1 GFLOP/s, if `no` is not obeyed, or if prediction rounds unasked."""
    environment = hardware if requested is None else hardware | {"ACCELERATE_MIXED_PRECISION": requested}
    unset = ["ACCELERATE_MIXED_PRECISION"] if requested is None else []
    assert call(taken, training, environment=environment, without=unset) == [expected]


def begin(training: bool) -> None:
    entry.main(lambda: runtime.make_accelerator(RuntimeConfig(), training=training) and None)


@pytest.mark.parametrize("training", [True, False])
def test_bf16_without_units_is_refused_with_both_ways_out(training):
    """Breaks if the run starts and seems to hang, or the message does not say what to type."""
    [left] = run(begin, training, environment=NO_UNITS | {"ACCELERATE_MIXED_PRECISION": "bf16"})
    message = only_message(left)
    assert "--mixed_precision no" in message and "QA_ACCEL_ALLOW_SLOW_BF16=1" in message
    forced = NO_UNITS | {"ACCELERATE_MIXED_PRECISION": "bf16", "QA_ACCEL_ALLOW_SLOW_BF16": "1"}
    assert call(taken, training, environment=forced) == [("bf16", "bf16")]


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero2"])
def test_a_strategy_file_that_asks_for_bf16_is_refused_without_units(name):
    """Breaks if only plain DDP is looked at: under DeepSpeed autocast takes the place of accelerate's own precision."""
    environment = launch_environment(CONFIGS / f"{name}.yaml", 2) | NO_UNITS
    assert "QA_ACCEL_ALLOW_SLOW_BF16=1" in only_message(run(begin, True, processes=2, environment=environment)[0])


def units_on_rank_0_only() -> None:
    os.environ["QA_ACCEL_CPU_BF16"] = "1" if os.environ["RANK"] == "0" else "0"
    entry.main(lambda: taken(True) and None)


def test_ranks_on_different_cpus_do_not_train_in_different_precisions():
    """Breaks if each host decides for itself: half of the gradients would be rounded."""
    left = run(units_on_rank_0_only, processes=2, without=["ACCELERATE_MIXED_PRECISION"])
    assert "those of ranks 1 do not: launch with --mixed_precision no" in only_message(left[0])


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("python /bin/accelerate launch --cpu x.py", ["--cpu", "x.py"]),
        ("python -u -m accelerate.commands.launch x.py", ["x.py"]),
        ("python /bin/accelerate-launch --cpu x.py", ["--cpu", "x.py"]),
        ("python -m accelerate.commands.accelerate_cli launch x.py", ["x.py"]),
        ("python /bin/torchrun x.py launch", None),
        ("python /bin/accelerate env", None),
        ("bash -c job", None),
    ],
)
def test_a_launcher_is_known_by_its_command_line(line, given):
    """Breaks if a spelling of the launch is taken for something else, so that its silence counts as `no`."""
    assert precision._words_after_launch(line.split()) == given


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_a_silent_launch_of_fsdp_or_deepspeed_stays_fp32(variable, monkeypatch):
    """Breaks if a DeepSpeed JSON of one's own that names no precision becomes bf16, in which DeepSpeed would keep the model."""
    monkeypatch.setattr(precision, "on_cpu", lambda: True)
    monkeypatch.setattr(precision, "_launch_names_none", lambda: True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert precision.requested() is None
    monkeypatch.setenv(variable, "true")
    assert precision.requested() == "no"


SAY = """from qa_accel.distributed import accelerator as runtime
accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), bfloat16_where_fast=True)
runtime.console(accelerator).print(runtime.describe(accelerator, bfloat16_where_fast=True))"""
SILENT = "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nuse_cpu: true\n"


@pytest.mark.parametrize(
    ("flags", "in_file", "in_environment"),
    [
        (["--mixed_precision", "no"], "", {}),
        ([], "mixed_precision: 'no'\n", {}),
        ([], "", {"ACCELERATE_MIXED_PRECISION": "no"}),
    ],
    ids=["flag", "file", "environment"],
)
def test_a_launch_that_names_no_precision_differs_from_one_that_names_no(
    flags, in_file, in_environment, tmp_path, monkeypatch
):
    """accelerate hands `no` to its processes in all three cases, and where nothing names a precision, as in the test below.
    Breaks if fp32 cannot be had on a CPU with units."""
    for name, value in (UNITS | in_environment).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "launch.yaml").write_text(SILENT + in_file)
    (tmp_path / "say.py").write_text(SAY)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", tmp_path / "launch.yaml", *flags]
    assert "1 process on CPU, fp32, torch" in finish(start([*launch, tmp_path / "say.py"]))


@pytest.mark.parametrize(
    ("config", "hardware", "says"),
    [
        ("cpu", NO_UNITS, "1 process on CPU, fp32 (this CPU has no bf16 units), torch"),
        ("cpu_ddp", UNITS, "2 processes on CPU, DDP, bf16, torch"),
    ],
)
def test_the_files_for_cpus_leave_precision_to_the_script(config, hardware, says, toy, tmp_path, monkeypatch):
    """Real launches of training. Breaks if a file names a precision again, or the ranks do not see that it does not."""
    for name, value in hardware.items():
        monkeypatch.setenv(name, value)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS / f"{config}.yaml"]
    words = [*training_flags(toy, tmp_path / "cache"), "--output_dir", tmp_path / "run", "--max_train_steps", "1"]
    process = start([*launch, "scripts/train.py", *words])
    output = finish(process)
    assert process.returncode == 0 and says in output, output
