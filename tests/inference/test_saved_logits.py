"""The file of a model's logits: the same bits from any number of processes, whole or not there, on every node's cache."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from processes import call, launch_environment, run
from torch import nn
from toy import WINDOWS
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, PretrainedConfig
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from qa_accel.batching.mode import BatchingConfig
from qa_accel.data import splits
from qa_accel.data.questions import DataConfig
from qa_accel.data.splits import Split
from qa_accel.data.windows import WindowConfig
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed.accelerator import RuntimeConfig
from qa_accel.inference import saved_logits
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.qa_model import QAModel, load_task
from qa_accel.models.loading import ModelConfig

BATCH_SIZE = 7
WINDOW_CONFIG = WindowConfig(**WINDOWS)
MODES = ("padded right", "padded left", "packed")


class Case(NamedTuple):
    model: Path
    file: Path
    cache: Path


def split_of(case: Case, questions: int | None = None) -> Split:
    data = DataConfig(test_file=(str(case.file),), max_predict_samples=questions, cache_dir=str(case.cache / "data"))
    return splits.prepare_split(data, WINDOW_CONFIG, AutoTokenizer.from_pretrained(case.model), "test")


def qa_of(model: Path, mode: str = MODES[0]) -> QAModel:
    batching = BatchingConfig("packed" if mode == "packed" else "padded")
    qa = load_task(ModelConfig(str(model)), WINDOW_CONFIG, batching, device="cpu", precision="no").load_model(
        trained=True
    )
    qa.tokenizer.padding_side = "left" if mode == "padded left" else "right"
    return qa


def save(
    accelerator: Accelerator, case: Case, qa: QAModel, dtype: Any = "float32", batch_size: int = BATCH_SIZE
) -> Path:
    with accelerator.main_process_first():
        windows = split_of(case).windows
    return saved_logits.save_logits(accelerator, qa, windows, batch_size, dtype=dtype, cache_dir=case.cache)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    assert len({*others, name(usual)}) == 6


def on_nodes(case: Case, states: list[str], good: Path) -> tuple[bool, bool, str, int]:
    """This rank is a node of its own, with its own cache in that state, or with the shared one.

    Whether anything was to compute, whether this rank wrote, the hash of its file afterwards and the time of its last change.
    """
    rank = int(os.environ["RANK"])
    os.environ["LOCAL_RANK"] = "0"
    state = states[rank]
    cache = case.cache / ("shared" if state == "shared" else f"node-{rank}")
    cache.mkdir(parents=True, exist_ok=True)
    if state in ("whole", "damaged"):
        content = bytearray(good.read_bytes())
        content[len(content) // 2] ^= state == "damaged"
        (cache / good.name).write_bytes(content)
        os.utime(cache / good.name, ns=(0, 0))
    accelerator = Accelerator(cpu=True)
    qa = qa_of(case.model)
    windows = split_of(case._replace(cache=cache)).windows
    target = saved_logits.locate(accelerator, qa, windows, BATCH_SIZE, dtype="float32", cache_dir=cache)
    path = saved_logits.save_logits(accelerator, qa, windows, BATCH_SIZE, dtype="float32", cache_dir=cache)
    return target.there, rank in target.writers, sha256(path), path.stat().st_mtime_ns


@pytest.mark.parametrize(
    ("states", "writers"),
    [
        (["none", "whole", "damaged"], [True, False, True]),
        (["whole", "none", "whole"], [False, True, False]),
    ],
)
def test_every_node_has_the_file_in_its_own_cache_afterwards(case, alone, tmp_path, states, writers):
    """Breaks, by a deadlock or a missing file, if a rank decides alone whether to compute, or if only rank 0's cache is looked
    at; and if a file that is whole is written again."""
    name, digest = alone[MODES[0]]
    found = call(on_nodes, case._replace(cache=tmp_path), states, case.cache / name, processes=3)
    for state, writes, (there, wrote, hash_of, changed) in zip(states, writers, found):
        assert not there and wrote == writes and hash_of == digest
        assert (changed == 0) == (state == "whole")


def writers_on_one_cache(case: Case) -> tuple[int, bool | None]:
    """How many ranks want to write, and whether this one does."""
    os.environ["LOCAL_RANK"] = "0"
    accelerator, qa = Accelerator(cpu=True), qa_of(case.model)
    with accelerator.main_process_first():
        windows = split_of(case).windows
    target = saved_logits.locate(accelerator, qa, windows, BATCH_SIZE, dtype="float32", cache_dir=case.cache)
    accelerator.wait_for_everyone()
    writes = None
    with contextlib.suppress(KeyboardInterrupt), saved_logits.filling(accelerator, target, windows) as rounds:
        writes = rounds._writer is not None
        accelerator.wait_for_everyone()  # as a round does: else the first one deletes its part before the others look for it
        raise KeyboardInterrupt
    return len(target.writers), writes


def test_nodes_that_share_a_cache_write_one_file_and_an_error_leaves_none(case, tmp_path):
    """Breaks if each node's first process lays out the file, three times its room, or if a broken-off pass leaves anything."""
    found = call(writers_on_one_cache, case._replace(cache=tmp_path), processes=3)
    assert found == [(3, True), (3, False), (3, False)]
    assert not list(tmp_path.glob("*logits*")) and not list(tmp_path.glob(".*logits*"))


class GivenLogits(nn.Module):
    """The same logits for every token, but for one token of the third batch's first window."""

    def __init__(self, odd: float, killed: bool = False):
        super().__init__()
        self.config, self.odd, self.killed, self.calls = PretrainedConfig(), odd, killed, 0

    def forward(self, input_ids: torch.Tensor, **_: Any) -> QuestionAnsweringModelOutput:
        self.calls += 1
        if self.killed and self.calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        start, end = torch.ones(input_ids.shape), torch.ones(input_ids.shape)
        if self.calls == 3:
            end[0, 5] = self.odd
        return QuestionAnsweringModelOutput(start_logits=start, end_logits=end)


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


def killed_in_the_middle(case: Case) -> None:
    save(Accelerator(cpu=True), case, qa_of(case.model).with_model(GivenLogits(1.0, killed=True)))


def test_a_process_that_is_killed_leaves_no_file(case, tmp_path):
    """Breaks if the file is filled under its final name: half of it would be taken for all."""
    left = run(killed_in_the_middle, case._replace(cache=tmp_path))[0]
    assert left.code == -signal.SIGKILL
    assert not list(tmp_path.glob("logits-*"))
    assert len(list(tmp_path.glob(".logits-*.partial"))) == 1, "it was being written"


def test_a_damaged_file_is_computed_again(case, alone, tmp_path, caplog):
    """Breaks if one changed bit of a logit goes unnoticed."""
    name, digest = alone[MODES[0]]
    shutil.copytree(case.cache, tmp_path / "copy")
    damaged = tmp_path / "copy" / name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    path = save(Accelerator(cpu=True), case._replace(cache=tmp_path / "copy"), qa_of(case.model))
    assert path == damaged and sha256(path) == digest
    assert "its hash differs" in caplog.text


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
    paths = saved_logits.logits_of_checkpoints(
        *common, cache_dir=case.cache, check=lambda task: asked.append(task.settings.model_name_or_path)
    )
    assert asked == [str(toy.model), str(toy.without_dropout)]
    assert paths[0].name == alone["float16"][0]
    one, other = map(saved_logits.read, paths)
    assert paths[0] != paths[1] and np.array_equal(one.start_N, other.start_N), "dropout is off in both"

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
    [path] = saved_logits.logits_of_checkpoints(
        accelerator, teachers, windows, WINDOW_CONFIG, BatchingConfig(), BATCH_SIZE, cache_dir=case.cache
    )
    student = qa_of(case.model).model
    return path.name, sha256(path), all(hasattr(weight, "ds_id") for weight in student.parameters())


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero3"])
def test_a_teacher_s_logits_are_the_same_under_strategies_that_split_the_training(
    case, alone, tmp_path, repository, name
):
    """Breaks if a teacher is split like the student (its tensors would be empty), or if the student is no longer split."""
    launch = launch_environment(repository / "accelerate_configs" / f"{name}.yaml", 2, "--mixed_precision", "no")
    found = call(under_a_training_strategy, case._replace(cache=tmp_path), processes=2, environment=launch)
    assert found == [(*alone["float16"], name == "deepspeed_zero3")] * 2
