"""The same run under every file of accelerate_configs/, on two CPU processes: the same weights, from any point on.

Runs are whole ones of the training script on the toy; `equality` launches them as accelerate would.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from equality import CONFIGS, STRATEGIES, TOLERANCE, arguments, difference, same_predictions
from processes import call, run
from toy import WINDOWS, flags
from training_runs import assert_same_weights, kill_after, results_of, score_in_turn, steps_of, touch_at, weights_of
from transformers import AutoConfig, AutoModelForQuestionAnswering

from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import entry, strategy
from qa_accel.distributed.settings import RuntimeConfig
from qa_accel.models import loading as model
from qa_accel.training import optim

LENGTH = dict(max_train_steps=12, eval_steps=6, save_steps=6, per_device_eval_batch_size=16)
"""36 windows in 3 evaluation batches: on two processes, one has none in the last round, and split weights need it there."""


@pytest.fixture(scope="module")
def one_process(trainer, tmp_path_factory) -> Path:
    options = arguments(None, model_name_or_path=trainer.toy.without_dropout, **LENGTH)
    return trainer.whole(tmp_path_factory.mktemp("one") / "run", **options)


@pytest.fixture(scope="module", params=STRATEGIES)
def finished(request, trainer, tmp_path_factory) -> Path:
    """The run under each strategy, with two batches per rank in each step, clipping, and an evaluation on the way."""
    options = arguments(request.param, model_name_or_path=trainer.toy.without_dropout, **LENGTH)
    return trainer.whole(tmp_path_factory.mktemp(request.param) / "run", **options)


def test_every_strategy_ends_with_the_weights_of_one_process(finished, one_process):
    """Breaks if gradients are divided by ranks or accumulated batches once too often, if a strategy clips to another norm
    or not at all, decays other weights, or trains at another rate than the schedule's."""
    assert difference(one_process, finished) < TOLERANCE
    assert same_predictions(one_process, finished)
    steps, same_steps = steps_of(one_process), steps_of(finished)
    assert len(steps) == len(same_steps) == 12
    assert max(line["grad_norm"] for line in steps) > 1, "nothing is clipped, so this test proves little"
    for line, same in zip(steps, same_steps):
        assert line["loss"] == pytest.approx(same["loss"], abs=1e-4)
        assert line["grad_norm"] == pytest.approx(same["grad_norm"], rel=1e-3)
        assert line["learning_rate"] == same["learning_rate"]


def test_the_final_model_is_plain(finished):
    """Breaks if weights are saved in half precision, as one rank's share, or under a wrapper's names."""
    model, info = AutoModelForQuestionAnswering.from_pretrained(finished, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.config.architectures == ["BertForQuestionAnswering"]
    assert {weight.dtype for weight in weights_of(finished).values()} == {torch.float32}


@pytest.fixture(scope="module")
def whole_runs(trainer, tmp_path_factory) -> Callable[[str], Path]:
    """The run with dropout under a strategy, which nothing ended; made once."""
    folder = tmp_path_factory.mktemp("whole")
    return cache(lambda name: trainer.whole(folder / name, **arguments(name, **LENGTH)))


def case(name: str, *more: str, slow: bool) -> object:
    return pytest.param(name, *more, marks=pytest.mark.slow if slow else [])


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        *(case(name, "killed", slow=name not in ("fsdp2", "deepspeed_zero3_offload")) for name in STRATEGIES),
        case("fsdp2", "stopped", slow=False),
        case("deepspeed_zero3", "stopped", slow=True),
    ],
)
def test_a_killed_or_stopped_run_ends_with_the_weights_it_would_have_had(name, ends, whole_runs, trainer, tmp_path):
    """With dropout, so that random states count. Breaks if a rank's share of AdamW's state, the rate after the resume
    (an offloaded optimizer can keep the old one) or a random generator is not restored."""
    folder = tmp_path / "run"
    if ends == "killed":
        by = (kill_after, "training.checkpoint.save", 1)
        left = trainer(folder, arrangements=[by], **arguments(name, **LENGTH))
        assert any(one.code == -signal.SIGKILL for one in left)
        assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-6"]
    else:
        trainer.whole(folder, arrangements=[(touch_at, folder / "STOP", 4)], **arguments(name, **LENGTH))
        assert (folder / "stopped.json").exists()
    trainer.whole(folder, **arguments(name, **LENGTH))
    whole = whole_runs(name)
    assert steps_of(whole)[6:] == steps_of(folder)[6:]
    assert_same_weights(whole, folder)


@pytest.fixture(scope="module")
def killed(trainer, tmp_path_factory) -> dict[str, Path]:
    """What a run on two processes leaves that was killed at step 3, by strategy."""
    folders = {}
    for name in ("fsdp2", "deepspeed_zero2"):
        folders[name] = tmp_path_factory.mktemp(name) / "run"
        options = arguments(name, max_train_steps=6, save_steps=3)
        trainer(folders[name], arrangements=[(kill_after, "training.checkpoint.save", 1)], **options)
    return folders


@pytest.mark.parametrize(
    ("name", "other", "processes"), [("fsdp2", "cpu_ddp", 2), ("deepspeed_zero2", "deepspeed_zero2", 3)]
)
def test_a_checkpoint_that_a_launch_cannot_read_is_refused(name, other, processes, killed, trainer):
    """Breaks if accelerate or DeepSpeed end in a traceback about a file that is not there."""
    options = arguments(other, processes, max_train_steps=6, save_steps=3, gradient_accumulation_steps=2)
    left = trainer(killed[name], "--resume_with_changed_settings", **options)
    assert left[0].code == 2 and "its states were saved as" in left[0].output


def test_fsdp2_goes_on_with_another_number_of_processes(killed, trainer, tmp_path):
    folder = shutil.copytree(killed["fsdp2"], tmp_path / "run")
    options = arguments("fsdp2", 3, max_train_steps=6, save_steps=3, gradient_accumulation_steps=2)
    trainer.whole(folder, **options)
    assert [line["step"] for line in steps_of(folder)][-3:] == [4, 5, 6]


@pytest.fixture(scope="module")
def new_head(trainer) -> dict[str, Any]:
    """Four steps of an encoder without a head, with dropout."""
    return dict(model_name_or_path=trainer.toy.untrained, max_train_steps=4)


@pytest.fixture(scope="module")
def with_dropout(new_head, trainer, tmp_path_factory) -> Path:
    return trainer.whole(tmp_path_factory.mktemp("dropout") / "run", **arguments("cpu_ddp", **new_head))


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero2", "deepspeed_zero3"])
def test_neither_a_new_head_nor_gradient_checkpointing_makes_a_difference(
    name, with_dropout, new_head, trainer, tmp_path
):
    """Breaks if what is computed twice draws other masks, if a sharded layer is gone by then, or if a head that is not in
    the checkpoint is not trained on the ranks that did not make it (accelerate's loading on rank 0 alone did that)."""
    options = arguments(name, **new_head)
    assert difference(with_dropout, trainer.whole(tmp_path / "run", "--gradient_checkpointing", **options)) < TOLERANCE


@pytest.mark.parametrize("name", ["fsdp2", case("deepspeed_zero2", slow=True), "deepspeed_zero3"])
def test_packed_batches_are_the_same_too(name, trainer, tmp_path):
    """Breaks if what goes with a packed row (the windows' bounds) is cast, split or dropped on the way into the model."""
    found = []
    for one in ("cpu_ddp", name):
        options = arguments(one, model_name_or_path=trainer.toy.without_dropout, max_train_steps=4)
        found.append(trainer.whole(tmp_path / one, "--batching", "packed", **options))
    assert difference(*found) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero2", "deepspeed_zero3"])
def test_a_student_of_fewer_layers_learns_the_same_from_its_teacher(name, trainer, tmp_path):
    """Breaks if ZeRO-3 splits the weights before the layers are chosen, or the teacher's, of which each rank needs all; or if the
    ranks wait for each other in its pass."""
    found = []
    for one in ("cpu_ddp", name):
        model = trainer.toy.without_dropout
        student = dict(model_name_or_path=model, keep_layers=1, teacher=model, cache_dir=tmp_path / f"cache-{one}")
        found.append(trainer.whole(tmp_path / one, **arguments(one, max_train_steps=4, **student)))
        assert steps_of(found[-1])[0]["loss_distillation"] > 0.01
    assert difference(*found) < TOLERANCE


def test_compiling_a_split_model_is_refused(trainer, tmp_path):
    left = trainer(tmp_path, "--compile", "on", **arguments("fsdp2", max_train_steps=1))
    assert left[0].code == 2 and "--compile on is not supported under FSDP2" in left[0].output


@pytest.mark.parametrize("name", ["fsdp2", case("deepspeed_zero2", slow=True), "deepspeed_zero3"])
def test_bf16_trains_and_saves_fp32_weights(name, with_dropout, new_head, trainer, tmp_path):
    """Breaks if the model itself becomes bf16, of whose weights a step below a 256th of their size changes nothing."""
    options = arguments(name, precision="bf16", **new_head)
    options["environment"]["QA_ACCEL_CPU_BF16"] = "1"  # a CPU without units for it is right too, if slow
    folder = trainer.whole(tmp_path / "run", **options)
    assert {weight.dtype for weight in weights_of(folder).values()} == {torch.float32}
    fine = sum(int((weight != weight.bfloat16().float()).sum()) for weight in weights_of(folder).values())
    assert fine > 0.9 * sum(weight.numel() for weight in weights_of(folder).values())
    assert steps_of(folder)[0]["loss"] == pytest.approx(steps_of(with_dropout)[0]["loss"], abs=0.1)


def test_the_best_model_is_kept_and_patience_ends_a_sharded_run(trainer, tmp_path):
    """Breaks if the ranks disagree on when to stop, or the best weights are overwritten by the last ones."""
    found = {}
    for name in ("cpu_ddp", "deepspeed_zero3"):
        options = arguments(name, max_train_steps=12, eval_steps=3, early_stopping_patience=1)
        scores = [(score_in_turn, 50.0, 40.0)]
        found[name] = trainer.whole(tmp_path / name, arrangements=scores, **options)
        results = results_of(found[name])
        assert (results["best_step"], results["steps"], results["stopped_early"]) == (3, 6, True)
    assert difference(*found.values()) < TOLERANCE


def json_launch(folder: Path, **sections) -> Path:
    """A config of accelerate's that names a DeepSpeed JSON, such as people bring with them."""
    settings = {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}, **sections}
    (folder / "deepspeed.json").write_text(json.dumps(settings))
    inner = {"deepspeed_multinode_launcher": "standard", "deepspeed_config_file": str(folder / "deepspeed.json")}
    launch = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "DEEPSPEED", "deepspeed_config": inner}
    (folder / "launch.yaml").write_text(yaml.safe_dump(launch))
    return folder / "launch.yaml"


def test_a_deepspeed_json_without_the_runs_numbers_gives_the_same_run(with_dropout, new_head, trainer, tmp_path):
    """Breaks if what the JSON leaves out or says otherwise (accumulation, clipping) wins over the run's own settings."""
    launch = json_launch(tmp_path, gradient_clipping=0.1)
    left = trainer(tmp_path / "run", **arguments(launch, precision=None, **new_head))
    assert [one.code for one in left] == [0, 0], left[0].output
    assert "gradient_clipping 0.1 in the DeepSpeed config is not used" in left[0].output
    assert difference(with_dropout, tmp_path / "run") < TOLERANCE


def make_accelerator() -> None:
    entry.main(lambda: runtime.make_accelerator(RuntimeConfig(), training=True) and None)


OWN_OPTIMIZER = {"optimizer": {"type": "AdamW", "params": {"lr": 1e-5}}}
OWN_SCHEDULER = {"scheduler": {"type": "WarmupLR", "params": {}}}


@pytest.mark.parametrize(
    ("sections", "changes", "says"),
    [
        (OWN_OPTIMIZER, {}, "remove the section 'optimizer'"),
        (OWN_SCHEDULER, {}, "remove the section 'scheduler'"),
        (None, {"FSDP_VERSION": "1", "FSDP_RESHARD_AFTER_FORWARD": "FULL_SHARD"}, "set `fsdp_version: 2`"),
        (None, {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "pass --gradient_checkpointing"),
        (None, {"FSDP_OFFLOAD_PARAMS": "true"}, "remove it for a run on CPUs"),
    ],
)
def test_a_config_that_would_train_something_else_is_refused(sections, changes, says, tmp_path):
    """Breaks if such a launch goes on: a second schedule would rule the rate, dropout would differ when recomputed."""
    if sections is None:
        environment = arguments("fsdp2")["environment"] | changes
    else:
        environment = arguments(json_launch(tmp_path, **sections), precision=None)["environment"]
    left = run(make_accelerator, processes=2, environment=environment)
    assert left[0].code == 2 and says in left[0].output


def shares(folder: Path) -> tuple[str, int, int]:
    """The strategy, this rank's share of the parameters in numbers, and what it holds of the weights to be saved."""
    accelerator = runtime.make_accelerator(RuntimeConfig(), training=True)
    qa_model = AutoModelForQuestionAnswering.from_pretrained(folder)
    strategy.configure_for_model(accelerator, qa_model, batch_size=1, max_grad_norm=1.0)
    prepared, _ = accelerator.prepare(qa_model, optim.make_optimizer(qa_model, optim.OptimConfig()))
    own = 0
    for parameter in prepared.parameters():
        held = parameter.to_local() if hasattr(parameter, "to_local") else getattr(parameter, "ds_tensor", parameter)
        own += held.numel()
    weights = strategy.full_weights(accelerator, prepared)
    return strategy.name(accelerator), own, sum(weight.numel() for weight in weights.values())


@pytest.mark.parametrize(
    ("name", "calls_itself", "split"),
    [
        ("cpu_ddp", "DDP", False),
        ("fsdp2", "FSDP2", True),
        ("deepspeed_zero1", "DeepSpeed ZeRO-1", False),
        ("deepspeed_zero2", "DeepSpeed ZeRO-2", False),
        ("deepspeed_zero3", "DeepSpeed ZeRO-3", True),
    ],
)
def test_ranks_hold_their_share_and_only_rank_0_gathers(name, calls_itself, split, toy):
    """Breaks if accelerate runs plain DDP in the place of what was launched, as it does on CPUs, or if every rank puts
    the whole model together for a save."""
    whole = sum(
        parameter.numel() for parameter in AutoModelForQuestionAnswering.from_pretrained(toy.model).parameters()
    )
    found = call(shares, toy.model, processes=2, environment=arguments(name)["environment"])
    for _, own, _ in found:
        assert own == whole if not split else whole / 2 <= own < 0.55 * whole
    assert [(what, gathered) for what, _, gathered in found] == [(calls_itself, whole), (calls_itself, 0)]


@pytest.mark.parametrize(
    ("model_type", "layers"),
    [
        ("bert", ["BertLayer"]),
        ("distilbert", ["TransformerBlock"]),
        ("roberta", ["RobertaLayer"]),
        ("deberta-v2", ["DebertaV2Layer"]),
        ("electra", ["ElectraLayer"]),
        ("mpnet", ["MPNetLayer"]),
        ("xlnet", ["XLNetLayer"]),
        ("modernbert", ["ModernBertEncoderLayer"]),
        ("albert", ["AlbertLayerGroup"]),
    ],
)
def test_the_layers_of_a_model_are_found(model_type, layers):
    """Breaks if FSDP2 gets no layer class, so that all layers are gathered at once, or too much, e.g. the embeddings."""
    with torch.device("meta"):
        qa_model = AutoModelForQuestionAnswering.from_config(AutoConfig.for_model(model_type))
    assert strategy.layer_classes(qa_model) == layers


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero2"])
def test_a_real_launch_on_a_machine_without_gpus(name, trainer, tmp_path, repository):
    """Breaks if the launch differs from what the other tests take for it, or the processes do not leave cleanly."""
    words = flags(model_name_or_path=trainer.toy.model, train_file=trainer.toy.train, output_dir=tmp_path / "run")
    words += flags(max_train_steps=2, per_device_train_batch_size=4, cache_dir=trainer.cache, **WINDOWS)
    launch = [
        str(Path(sys.executable).with_name("accelerate")),
        "launch",
        "--config_file",
        str(CONFIGS / f"{name}.yaml"),
    ]
    launch += ["--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [*launch, str(repository / "scripts" / "train.py"), *words], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "run")
    assert "input_ids" in model.ModelInputs.of(loaded).names
