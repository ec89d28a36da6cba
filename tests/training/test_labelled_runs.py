"""Whole runs of the training script under `--answers all` and `first`, on data of which questions have several answers."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import LONGEST, NAMES, WINDOWS, Toy, context_about, questions_about
from training_runs import Trainer, assert_same_weights, kill_after, lines_of, note_windows, steps_of
from transformers import AutoModelForQuestionAnswering

from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.splits import prepare_split
from qa_accel.data.windows import Windows
from qa_accel.models import loading

SETTINGS: dict[str, Any] = dict(validation_file=None, num_train_epochs=1, save_steps=3)
"""Of 8 windows a step: 9 steps."""


def facts_file(path: Path) -> Path:
    """The toy's questions; the first about each person has both facts as answers, which the longest context has far apart."""
    paragraphs = []
    for name in NAMES:
        rows = questions_about(name, name.lower())
        rows[0]["answers"] += rows[1]["answers"]
        paragraphs.append({"context": context_about(name), "qas": rows})
    path.write_text(json.dumps({"data": [{"title": "People", "paragraphs": paragraphs}]}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> Path:
    return facts_file(tmp_path_factory.mktemp("facts") / "facts.json")


def training_windows(trainer: Trainer, facts: Path, answers) -> tuple[Windows, list[str]]:
    data = DataConfig(train_file=(str(facts),), cache_dir=str(trainer.cache), answers=answers)
    tokenizer = loading.load_tokenizer(loading.ModelConfig(str(trainer.toy.model)))
    split = prepare_split(data, WindowConfig(**WINDOWS), tokenizer, "train")
    return split.windows, split.questions["id"][:]


@pytest.fixture(scope="module")
def one_process(trainer, facts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    note = [(note_windows, folder / "seen.jsonl")]
    model = trainer.toy.without_dropout
    settings = dict(train_file=facts, answers="all", model_name_or_path=model, per_device_train_batch_size=8)
    trainer.whole(folder / "run", arrangements=note, **SETTINGS, **settings)
    return folder / "run"


def loss_by_hand(toy: Toy, windows: Windows, w: int) -> float:
    """-log of the summed probability of the right starts, and ends, of a window alone in transformers' own model."""
    plain = AutoModelForQuestionAnswering.from_pretrained(toy.without_dropout).eval()
    tokens = slice(windows.begin_W[w], windows.begin_W[w + 1])
    assert windows.token_type_ids_N is not None and windows.gold_begin_W is not None
    ids, types = (torch.tensor(x[tokens][None].astype(int)) for x in (windows.input_ids_N, windows.token_type_ids_N))
    with torch.no_grad():
        found = plain(input_ids=ids, token_type_ids=types)
    own = slice(windows.gold_begin_W[w], windows.gold_begin_W[w + 1])
    loss = 0.0
    for logits, place_G in ((found.start_logits, windows.gold_start_G), (found.end_logits, windows.gold_end_G)):
        assert place_G is not None
        right = sorted(set(place_G[own].tolist())) or [int(windows.null_W[w])]
        loss -= torch.log(logits[0].double().softmax(-1)[right].sum()).item() / 2
    return loss


def test_the_loss_of_a_step_is_that_of_its_windows_one_by_one(trainer, facts, one_process):
    """Breaks if several labels do not reach the step, or if one of them counts for all."""
    windows, _ = training_windows(trainer, facts, "all")
    assert windows.gold_begin_W is not None
    step = np.ravel(json.loads((one_process.parent / "seen.jsonl").read_text().splitlines()[0])["plan"])
    assert np.diff(windows.gold_begin_W)[step].max() == 2, "a window of the step has two answers"
    expected = [loss_by_hand(trainer.toy, windows, w) for w in step]
    assert steps_of(one_process)[0]["loss"] == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_ranks_and_accumulation_make_no_difference_with_several_labels(trainer, facts, one_process, tmp_path):
    """Breaks if ranks or accumulated batches are not divided out, or if a rank's labels are another one's."""
    settings = dict(train_file=facts, answers="all", model_name_or_path=trainer.toy.without_dropout)
    spread = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, processes=2)
    trainer.whole(tmp_path / "run", **SETTINGS, **settings, **spread)
    one, other = steps_of(one_process), steps_of(tmp_path / "run")
    assert len(one) == len(other) == 9
    for line, same in zip(one, other):
        assert line["loss"] == pytest.approx(same["loss"], abs=1e-5)
        assert line["grad_norm"] == pytest.approx(same["grad_norm"], rel=1e-4)


def test_a_run_with_first_answers_sees_every_window_once_but_those_that_are_left_out(trainer, facts, tmp_path):
    """It is killed in the middle of the epoch and started again. Breaks if a window with the second fact and without the first
    one is trained on, if the epoch has steps or windows that are not there, or if a resume is planned otherwise."""
    windows, ids = training_windows(trainer, facts, "first")
    assert windows.left_out_W is not None
    left_out = np.flatnonzero(windows.left_out_W).tolist()
    assert [ids[windows.question_W[w]] for w in left_out] == [f"{LONGEST.lower()}-0"]
    settings = dict(train_file=facts, answers="first", per_device_train_batch_size=4)
    kill = (kill_after, "training.progress.Progress.advance", 8)
    note = (note_windows, tmp_path / "seen.jsonl")
    left = trainer(tmp_path / "run", arrangements=[note, kill], **SETTINGS, **settings)
    assert left[0].code == -signal.SIGKILL, left[0].output
    trainer.whole(tmp_path / "run", arrangements=[note], **SETTINGS, **settings)
    plans = {line["step"]: line["plan"] for line in map(json.loads, (tmp_path / "seen.jsonl").read_text().splitlines())}
    seen = np.concatenate([np.ravel(plan) for plan in plans.values()])
    assert sorted(seen[seen >= 0].tolist()) == sorted(set(range(len(windows))) - set(left_out))
    last = steps_of(tmp_path / "run")[-1]
    assert last["epoch"] == 1 and last["step"] == -(-(len(windows) - 1) // 4) == len(plans)
    several = json.loads((tmp_path / "run" / "data_report.json").read_text())["train"]["windows"]["labels"]["several"]
    assert several["windows_left_out"] == 1 and several["questions_with_answers_apart"] == len(NAMES)


def test_a_killed_run_with_several_labels_ends_as_if_nothing_had_happened(trainer, facts, one_process, tmp_path):
    """Breaks if labels or windows of the second start are others."""
    model = trainer.toy.without_dropout
    settings = dict(train_file=facts, answers="all", model_name_or_path=model, per_device_train_batch_size=8)
    kill = (kill_after, "training.progress.Progress.advance", 5)
    left = trainer(tmp_path / "run", arrangements=[kill], **SETTINGS, **settings)
    assert left[0].code == -signal.SIGKILL, left[0].output
    refused = trainer(tmp_path / "run", **SETTINGS, **settings | dict(answers="any"))
    assert refused[0].code == 2 and "training windows" in refused[0].output
    trainer.whole(tmp_path / "run", **SETTINGS, **settings)
    assert lines_of(tmp_path / "run") == lines_of(one_process)
    assert_same_weights(tmp_path / "run", one_process)
