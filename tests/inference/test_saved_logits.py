"""The file of a model's logits: the same bits from any number of processes, whole or not there, on every node's cache."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from logit_cases import (
    BATCH_SIZE,
    MODES,
    WINDOW_CONFIG,
    Case,
    GivenLogits,
    qa_of,
    save,
    sha256,
    split_of,
)
from processes import call, launch_environment
from toy import WINDOWS
from transformers import AutoModelForQuestionAnswering, AutoTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from qa_accel.batching.settings import BatchingConfig
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed.settings import RuntimeConfig
from qa_accel.inference import logits_fingerprint, saved_logits
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.qa_model import QAModel
from qa_accel.models.settings import ModelConfig


def in_all_modes(case: Case) -> dict[str, tuple[str, str]]:
    """Name and hash of each mode's file, as this rank sees it."""
    accelerator = Accelerator(cpu=True)
    paths = {mode: save(accelerator, case, qa_of(case.model, mode)) for mode in MODES}
    paths["float16"] = save(accelerator, case, qa_of(case.model), "float16")
    return {name: (path.name, sha256(path)) for name, path in paths.items()}


@pytest.fixture(scope="module")
def case(toy, tmp_path_factory) -> Case:
    return Case(toy.model, toy.dev, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def alone(case) -> dict[str, tuple[str, str]]:
    return call(in_all_modes, case)[0]


def read(case: Case, alone: dict[str, tuple[str, str]], name: str) -> saved_logits.SavedLogits:
    return saved_logits.read(case.cache / alone[name][0])


@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_write_the_same_bytes(case, alone, tmp_path, processes):
    """36 windows in batches of 7: the last round is not full. Breaks if batches, the order of rows, or what is written beside
    them depends on the number of ranks, or if a rank ends before it can read the file."""
    assert len({name for name, _ in alone.values()}) == 4, "each way of computing has its own file"
    for found in call(in_all_modes, case._replace(cache=tmp_path), processes=processes):
        assert found == alone


def by_transformers(case: Case) -> list[tuple[list[float], list[float]]]:
    """Start and end logits of every window, one model call each: transformers' tokenizer and model alone."""
    tokenizer = AutoTokenizer.from_pretrained(case.model)
    model = AutoModelForQuestionAnswering.from_pretrained(case.model).eval()
    found = []
    for article in json.loads(case.file.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                windows = tokenizer(
                    entry["question"],
                    paragraph["context"],
                    truncation="only_second",
                    max_length=WINDOWS["max_seq_length"],
                    stride=WINDOWS["doc_stride"],
                    return_overflowing_tokens=True,
                )
                for w in range(len(windows["input_ids"])):
                    names = ("input_ids", "token_type_ids", "attention_mask")
                    with torch.no_grad():
                        output = model(**{name: torch.tensor([windows[name][w]]) for name in names})
                    found.append((output.start_logits[0].tolist(), output.end_logits[0].tolist()))
    return found


def test_every_logit_is_that_of_a_plain_loop_of_transformers(case, alone):
    """Breaks if a row lands in another window's place, if left padding shifts it, or if packed rows are cut wrongly."""
    expected = by_transformers(case)
    assert len(expected) == 36
    start_N, end_N = (np.concatenate(side) for side in zip(*expected))
    assert start_N.std() > 0.1, "logits differ from token to token"
    for mode in MODES:
        saved = read(case, alone, mode)
        assert np.diff(saved.begin_W).tolist() == [len(start) for start, _ in expected]
        np.testing.assert_allclose(saved.start_N, start_N, atol=2e-5, err_msg=mode)
        np.testing.assert_allclose(saved.end_N, end_N, atol=2e-5, err_msg=mode)


def test_a_file_of_float16_holds_the_same_logits_rounded_once(case, alone):
    """Breaks if the type has an influence on anything but the last step."""
    half, full = read(case, alone, "float16"), read(case, alone, MODES[0])
    assert half.start_N.dtype == np.float16 and half.lse_start_W is None
    assert np.array_equal(half.start_N, full.start_N.astype(np.float16))
    assert np.array_equal(half.end_N, full.end_N.astype(np.float16))


def test_what_changes_a_logit_changes_the_name_and_nothing_else_does(case, alone):
    """Breaks if a stale file is taken for this model's, or if a calibration makes the pass start from the beginning."""
    accelerator, windows = Accelerator(cpu=True), split_of(case).windows

    def name(qa: QAModel, windows=windows, batch_size=BATCH_SIZE, dtype: Any = "float32") -> str:
        return saved_logits.locate(accelerator, qa, windows, batch_size, dtype=dtype, cache_dir=case.cache).path.name

    usual = qa_of(case.model)
    assert name(usual) == alone[MODES[0]][0]
    AnswerPolicy(-1.0).store(usual.model.config)
    usual.model.config._name_or_path = "elsewhere"
    assert name(usual) == alone[MODES[0]][0], "neither threshold nor folder changes a logit"
    other = qa_of(case.model)
    with torch.no_grad():
        other.model.qa_outputs.bias[0] += 2**-20
    smaller = split_of(case, questions=29).windows
    eager = dataclasses.replace(usual, mode=dataclasses.replace(usual.mode, attention="eager"))
    others = [name(other), name(usual, smaller), name(usual, batch_size=8), name(usual, dtype="float16"), name(eager)]
    others += [
        name(usual, batch_size=6),
        name(usual, batch_size=12),
    ]  # of 36 windows: no batch of them has an empty place
    assert len({*others, name(usual)}) == 8


def remote_model(folder: Path, factor: str, helper: str = "BIAS = 0.0") -> torch.nn.Module:
    """A model whose code is in its folder, in two files, loaded as --trust_remote_code does."""
    folder.mkdir(parents=True)
    (folder / "rates.py").write_text(helper + "\n")
    (folder / "modeling_own.py").write_text(
        "import torch\nfrom torch import nn\nfrom .rates import BIAS\n\n\nclass Own(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.weight = nn.Parameter(torch.ones(1))\n\n"
        f"    def forward(self, x):\n        return x * {factor} + BIAS\n"
    )
    return get_class_from_dynamic_module("modeling_own.Own", folder)()


def test_the_code_of_a_remote_model_is_part_of_the_fingerprint(case, tmp_path, monkeypatch):
    """Breaks if two versions of a model's own code, with the same weights and config, have one file of logits; if a file that the
    code imports is left out; or if a copy of the folder is another model."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    usual, other, copied, deeper = (
        logits_fingerprint.own_code(model)
        for model in (
            remote_model(tmp_path / "a" / "m", "2"),
            remote_model(tmp_path / "b" / "n", "3"),
            remote_model(tmp_path / "c" / "o", "2"),
            remote_model(tmp_path / "d" / "p", "2", "BIAS = 1.0"),
        )
    )
    assert usual is not None and usual == copied
    assert len({usual, other, deeper}) == 3
    assert logits_fingerprint.own_code(qa_of(case.model).model) is None, (
        "transformers' own code is known by its version"
    )


@pytest.mark.parametrize(
    ("odd", "dtype", "reason"),
    [
        (
            float("nan"),
            "float32",
            "end logits are not finite: the model's logits overflowed or its weights are damaged",
        ),
        (float("-inf"), "float16", "end logits are not finite"),
        (
            -65536.0,
            "float16",
            "end logits of up to 65536 do not fit into float16, whose largest number is 65504: keep them as",
        ),
    ],
)
def test_a_logit_that_the_file_cannot_hold_is_refused_with_its_place(case, tmp_path, odd, dtype, reason):
    """Breaks if nan or inf is written: a student would learn from it."""
    qa = qa_of(case.model).with_model(GivenLogits(odd))
    with pytest.raises(ValueError, match=rf"window \d+ \(question \d+ of the data\): its {reason}"):
        save(Accelerator(cpu=True), case._replace(cache=tmp_path), qa, dtype)
    assert not list(tmp_path.glob("*logits*"))


def test_the_largest_number_of_float16_is_kept(case, tmp_path):
    qa = qa_of(case.model).with_model(GivenLogits(-65504.0))
    path = save(Accelerator(cpu=True), case._replace(cache=tmp_path), qa, "float16")
    assert saved_logits.read(path).end_N.min() == -65504


def test_a_file_of_something_else_is_refused(case, tmp_path):
    windows = next((case.cache / "data").glob("windows-*"))
    other = tmp_path / "logits-0.arrow"
    for content in (b"", b"x" * 100, windows.read_bytes()):
        other.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged"):
            saved_logits.read(other)


def test_several_checkpoints_are_computed_one_after_the_other_and_may_be_refused_before(case, toy, alone):
    """Breaks if a teacher's file differs from that of the evaluation path, or if a refusal has to wait for the weights."""
    accelerator, windows, asked = Accelerator(cpu=True), split_of(case).windows, []
    teachers = [ModelConfig(str(toy.model)), ModelConfig(str(toy.without_dropout))]
    common: Any = (accelerator, teachers, windows, WINDOW_CONFIG, BatchingConfig(), BATCH_SIZE)
    found = saved_logits.logits_of_checkpoints(
        *common, cache_dir=case.cache, check=lambda task: asked.append(task.settings.model_name_or_path)
    )
    assert asked == [str(toy.model), str(toy.without_dropout)]
    assert found[0].path.name == alone["float16"][0]
    one, other = (saved_logits.read(file.path) for file in found)
    assert found[0].source != found[1].source and np.array_equal(one.start_N, other.start_N), "dropout is off in both"

    def refuse(task: Any) -> None:
        raise ValueError("another tokenizer")

    with pytest.raises(ValueError, match="another tokenizer"):
        saved_logits.logits_of_checkpoints(*common, cache_dir=case.cache, check=refuse)
    untrained: Any = (accelerator, [ModelConfig(str(toy.untrained))], *common[2:])
    with pytest.raises(ValueError, match="never trained"):
        saved_logits.logits_of_checkpoints(*untrained, cache_dir=case.cache)


def under_a_training_strategy(case: Case) -> tuple[str, str, bool]:
    """Name and hash of the file of a teacher, and whether a model that is loaded afterwards is split as before."""
    accelerator = runtime.make_accelerator(RuntimeConfig(), training=True)
    with accelerator.main_process_first():
        windows = split_of(case).windows
    teachers = [ModelConfig(str(case.model))]
    [file] = saved_logits.logits_of_checkpoints(
        accelerator, teachers, windows, WINDOW_CONFIG, BatchingConfig(), BATCH_SIZE, cache_dir=case.cache
    )
    student = qa_of(case.model).model
    return file.path.name, sha256(file.path), all(hasattr(weight, "ds_id") for weight in student.parameters())


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero3"])
def test_a_teacher_s_logits_are_the_same_under_strategies_that_split_the_training(
    case, alone, tmp_path, repository, name
):
    """Breaks if a teacher is split like the student (its tensors would be empty), or if the student is no longer split."""
    launch = launch_environment(repository / "accelerate_configs" / f"{name}.yaml", 2, "--mixed_precision", "no")
    found = call(under_a_training_strategy, case._replace(cache=tmp_path), processes=2, environment=launch)
    assert found == [(*alone["float16"], name == "deepspeed_zero3")] * 2
