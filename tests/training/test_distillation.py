"""Teachers: which ones fit, what is taken from them, and runs that learn from them, whatever their ranks and interruptions."""

import io
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from rich.console import Console
from toy import WINDOWS, Toy
from training_runs import SPREAD, assert_same_weights, kill_after, lines_of, steps_of
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from qa_accel import config
from qa_accel.commands import prepare
from qa_accel.data import splits
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.splits import Split
from qa_accel.data.windows import TaughtWindows
from qa_accel.distributed import accelerator as runtime
from qa_accel.models import loading
from qa_accel.models.settings import LayerCutConfig, ModelConfig
from qa_accel.preflight import checks, probe
from qa_accel.training import distillation
from qa_accel.training.checkpoint import run_fingerprint
from qa_accel.training.part_settings import CheckpointConfig, DistillConfig
from qa_accel.training.settings import TrainConfig

TOY_WINDOWS = WindowConfig(**WINDOWS)


def changed_copy(source: Path, folder: Path, file: str, /, **settings: Any) -> str:
    """A model's folder with other values in one of its JSON files, and without weights."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | settings))
    return str(folder)


def load(*teachers: str, student: Path) -> list[distillation.Teacher]:
    model = ModelConfig(str(student))
    return distillation.load_teachers(DistillConfig(teachers), model, TOY_WINDOWS, loading.load_tokenizer(model))


@pytest.fixture(scope="module")
def other_tokenizers(toy, tmp_path_factory) -> dict[str, str]:
    """Folders of teachers without weights, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("teachers")
    core = json.loads((toy.model / "tokenizer.json").read_text())
    vocabulary = dict(core["model"]["vocab"])
    first, second = list(vocabulary)[-2:]
    swapped = core["model"] | {"vocab": vocabulary | {first: vocabulary[second], second: vocabulary[first]}}
    longer = core["model"] | {"vocab": vocabulary | {"zebra": len(vocabulary)}}
    pair = core["post_processor"]["pair"]
    backwards = core["post_processor"] | {"pair": [pair[0], pair[3], pair[2], pair[1], pair[4]]}
    without_end = core["post_processor"] | {"pair": pair[:-1]}
    cased = core["normalizer"] | {"lowercase": False}
    roberta = zoo.make("roberta", folder / "roberta")
    (roberta / "model.safetensors").unlink()
    return {
        "another family": str(roberta),
        "another normaliser": changed_copy(toy.model, folder / "cased", "tokenizer.json", normalizer=cased),
        "other ids for the tokens": changed_copy(toy.model, folder / "swapped", "tokenizer.json", model=swapped),
        "tokens in place of": changed_copy(toy.model, folder / "longer", "tokenizer.json", model=longer),
        "another form of a pair": changed_copy(
            toy.model, folder / "pair", "tokenizer.json", post_processor=without_end
        ),
        "backwards": changed_copy(toy.model, folder / "back", "tokenizer.json", post_processor=backwards),
        "positions": changed_copy(toy.model, folder / "short", "config.json", max_position_embeddings=32),
    }


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("another family", "has another tokenizer than .*: .* tokens in place of"),
        ("another normaliser", "has another tokenizer than .*: another normaliser"),
        ("other ids for the tokens", "has another tokenizer than .*: other ids for the tokens"),
        ("tokens in place of", r"has another tokenizer than .*: \d+ tokens in place of \d+"),
        ("another form of a pair", "has another tokenizer than .*: another form of a pair"),
        ("backwards", "has another tokenizer than .*: another form of a pair"),
        ("positions", "64 is more than the 32 positions"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_by_name_before_its_weights_are_read(
    toy, other_tokenizers, what, message
):
    """The folders have no weights. Breaks if files' names are compared, if a difference is found only when windows differ, or
    not at all: each logit would then be learnt for another token."""
    name = other_tokenizers[what]
    with pytest.raises(ValueError, match=rf"--teacher '{name}'.*{message}"):
        load(name, student=toy.model)


def test_a_tokenizer_of_another_class_and_folder_that_makes_the_same_tokens_fits(toy, tmp_path):
    """Breaks if names, or what no token depends on, are compared: DistilBERT's tokenizer gives no token types, BERT's does."""
    name = changed_copy(
        toy.model,
        tmp_path / "other",
        "tokenizer_config.json",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=512,
    )
    [teacher] = load(name, student=toy.model)
    assert teacher.tokenizer.model_input_names == ["input_ids", "attention_mask"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(distill_temperature=3.0), "mean nothing without --teacher"),
        (dict(distill_weight=0.5), "mean nothing without --teacher"),
        (dict(teacher=("a", "b", "a")), "'a' is named twice"),
        (dict(teacher=("a",), distill_temperature=0.0), "--distill_temperature must be at least 0.1"),
        (dict(teacher=("a",), distill_weight=1.5), "--distill_weight must be at most 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    """Breaks if a setting is ignored in silence."""
    with pytest.raises(ValueError, match=message):
        DistillConfig(**settings)


class Prepared:
    """The toy's training split, as a student's tokenizer without token types makes it, and what a teacher's pass needs."""

    def __init__(self, toy: Toy, folder: Path):
        self.student = changed_copy(
            toy.model, folder / "student", "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"]
        )
        self.data = DataConfig(train_file=(str(toy.train),), cache_dir=str(folder / "cache"))
        self.tokenizer = loading.load_tokenizer(ModelConfig(self.student))
        self.split: Split = splits.prepare_split(self.data, TOY_WINDOWS, self.tokenizer, "train")
        self.accelerator = runtime.make_accelerator(runtime.RuntimeConfig(), cpu=True, mixed_precision="no")

    def taught_by(self, *names: Path | str, batch_size: int = 8) -> TaughtWindows:
        settings = DistillConfig(tuple(map(str, names)))
        teachers = distillation.load_teachers(settings, ModelConfig(self.student), TOY_WINDOWS, self.tokenizer)
        return distillation.with_teachers(
            settings,
            teachers,
            self.accelerator,
            Console(file=io.StringIO()),
            self.split,
            TOY_WINDOWS,
            self.data,
            batch_size=batch_size,
        )


@pytest.fixture(scope="module")
def prepared(toy, tmp_path_factory) -> Prepared:
    return Prepared(toy, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def second(toy, tmp_path_factory) -> Path:
    """Another teacher: the toy's with noise on its weights."""
    folder = tmp_path_factory.mktemp("second")
    model = AutoModelForQuestionAnswering.from_pretrained(toy.model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.05)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(toy.model).save_pretrained(folder)
    return folder


def test_the_logits_are_the_teachers_own_of_each_window(prepared, toy, second):
    """The student's tokenizer gives no token types, the teacher's does: computed with transformers, window by window. Breaks if
    the teacher runs without the types that it was trained with, if windows change places, or a second teacher is left out."""
    assert prepared.split.windows.token_type_ids_N is None
    windows = prepared.taught_by(toy.model, second)
    tokenizer = AutoTokenizer.from_pretrained(toy.model)
    expected = []
    for folder in (toy.model, second):
        model, starts = AutoModelForQuestionAnswering.from_pretrained(folder).eval(), []
        for window in range(len(windows)):
            ids = windows.input_ids_N[windows.begin_W[window] : windows.begin_W[window + 1]].tolist()
            question = ids.index(tokenizer.sep_token_id) + 1
            types = [0] * question + [1] * (len(ids) - question)
            with torch.no_grad():
                starts.append(model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).start_logits[0])
        expected.append(torch.cat(starts).numpy())
    found = sorted(windows.teacher_start_MN, key=lambda start_N: float(np.abs(start_N - expected[0]).max()))
    for start_N, by_hand in zip(found, expected, strict=True):
        np.testing.assert_allclose(start_N, by_hand, atol=5e-3)
    assert np.abs(expected[0] - expected[1]).max() > 0.1


def test_the_same_teachers_in_another_order_are_the_same_bits(prepared, toy, second):
    """A run that is resumed with the names in another order goes on. Breaks if the order of a sum follows the command line."""
    one, other = prepared.taught_by(toy.model, second), prepared.taught_by(second, toy.model)
    for found, expected in zip(other.teacher_start_MN, one.teacher_start_MN, strict=True):
        assert np.array_equal(found, expected)


def test_a_teacher_without_a_trained_head_is_refused(prepared, toy):
    """Breaks if a student learns from random logits."""
    with pytest.raises(ValueError, match=rf"'{toy.untrained}'.*question answering head was never trained"):
        prepared.taught_by(toy.untrained)


def test_a_teacher_under_two_names_is_refused(prepared, toy, tmp_path):
    """Breaks if one model counts twice in a mean, because it was copied."""
    shutil.copytree(toy.model, tmp_path / "copy")
    with pytest.raises(ValueError, match="are the same model; name each once"):
        prepared.taught_by(toy.model, tmp_path / "copy")


def test_what_a_teacher_is_depends_on_its_weights_and_not_on_the_batches_of_its_pass(prepared, toy, second):
    """Breaks if a resume with another --per_device_eval_batch_size is taken for another teacher's run, or if a file that was made with
    other batches is taken for this one's."""
    [(one, name)] = prepared.taught_by(toy.model).teachers.items()
    before = set((Path(prepared.data.cache_dir or "")).glob("logits-*"))
    assert dict(prepared.taught_by(toy.model, batch_size=5).teachers) == {one: name} == {one: str(toy.model)}
    assert len(set((Path(prepared.data.cache_dir or "")).glob("logits-*")) - before) == 1
    assert one not in prepared.taught_by(second).teachers


def hub_copy(source: Path, hub: Path, name: str, revision: str) -> None:
    """The model in a cache of huggingface_hub, under this revision alone."""
    place, commit = hub / f"models--{name.replace('/', '--')}", "0123456789" * 4
    shutil.copytree(source, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / revision).write_text(commit)


def test_a_teacher_s_revision_is_behind_an_at(toy, tmp_path, monkeypatch):
    """Its main is not there, so that the revision must count. Breaks if another revision is loaded, or if a folder with an @ in its
    name is taken for a hub name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub_copy(toy.model, tmp_path / "hub", "lab/teacher", "v2")
    [teacher] = load("lab/teacher@v2", student=toy.model)
    assert teacher.model == ModelConfig("lab/teacher", model_revision="v2")
    with pytest.raises(ValueError, match="--teacher 'lab/teacher@v3'"):
        load("lab/teacher@v3", student=toy.model)
    with pytest.raises(ValueError, match="expected a folder, the name of a hub model, or name@revision"):
        load("lab/teacher@", student=toy.model)
    shutil.copytree(toy.model, tmp_path / "a@b")
    [teacher] = load(str(tmp_path / "a@b"), student=toy.model)
    assert teacher.model == ModelConfig(str(tmp_path / "a@b"))


def test_prepare_refuses_what_the_run_would_refuse_and_makes_the_teacher_s_windows(
    toy, prepared, other_tokenizers, tmp_path
):
    """The student's tokenizer gives no token types, the teacher's does. Breaks if the compute node is the first to make the
    teacher's windows, or to find that it does not fit."""

    def settings(teacher: str | Path, kept: tuple[int, ...] | None = None) -> TrainConfig:
        return TrainConfig(
            ModelConfig(prepared.student),
            CheckpointConfig(str(tmp_path / "run")),
            DataConfig(train_file=(str(toy.train),), cache_dir=str(tmp_path / "cache")),
            TOY_WINDOWS,
            layers=LayerCutConfig(kept),
            distillation=DistillConfig((str(teacher),)),
        )

    refused = (
        (settings(other_tokenizers["positions"]), "64 is more than the 32"),
        (settings(toy.model, (7,)), "7 is none"),
    )
    for wrong, message in refused:
        with pytest.raises(ValueError, match=message):
            prepare.run(wrong)
        found = probe._model(wrong)
        assert found.startswith("!") and message in found
    assert not (tmp_path / "cache").exists()
    prepare.run(settings(toy.model, (1,)))
    assert len(list((tmp_path / "cache").rglob("windows-*"))) == 2
    right = settings(toy.model, (1,))
    assert not probe._model(right).startswith("!")
    one, two = checks.disk_of(right), checks.disk_of(settings(toy.model))
    assert one is not None and two is not None and one.needed < two.needed, "one layer of two"


def test_a_checkpoint_knows_the_teachers_logits_and_how_they_count(prepared, toy, second):
    """Breaks if a run goes on with another teacher, weight or temperature, as if nothing had changed."""

    def fingerprint(windows, **changed: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"teacher": ("t",)} | changed
        distill = DistillConfig(**given)
        settings = TrainConfig(ModelConfig("m"), CheckpointConfig("o"), distillation=distill)
        return run_fingerprint(config.as_dict(settings), prepared.split.questions, windows, packed=False)

    one, other = prepared.taught_by(toy.model), prepared.taught_by(second)
    assert fingerprint(one) == fingerprint(one, teacher=("elsewhere",)), "a teacher may move"
    assert len({json.dumps(fingerprint(windows)) for windows in (one, other, prepared.split.windows)}) == 3
    assert fingerprint(one)["distill_weight"] == 0.75 != fingerprint(one, distill_weight=0.5)["distill_weight"]
    assert "distill_weight" not in fingerprint(prepared.split.windows), "a run without a teacher has no such setting"


STUDENT: dict[str, Any] = dict(save_steps=3, eval_steps=9, learning_rate=1e-2, distill_temperature=2)


@pytest.fixture(scope="module")
def runs(trainer, tmp_path_factory) -> dict[int, Path]:
    """A model without dropout that has itself as the teacher, on one process and on two."""
    folder, model = tmp_path_factory.mktemp("runs"), trainer.toy.without_dropout
    return {
        processes: trainer.whole(
            folder / str(processes),
            processes=processes,
            model_name_or_path=model,
            teacher=model,
            **STUDENT,
            **spread,
        )
        for processes, spread in SPREAD.items()
    }


def test_a_student_begins_without_loss_as_its_teacher_and_the_terms_are_logged(runs):
    """Breaks if the teacher's logits are another window's or another token's: then its own copy would have something to learn
    from the start."""
    lines = steps_of(runs[1])
    assert lines[0]["loss_distillation"] == pytest.approx(0, abs=1e-5)
    assert max(line["loss_distillation"] for line in lines[1:]) > 0.01, "the labels pull it away"
    for line in lines:
        assert line["loss"] == pytest.approx(line["loss_span"] + line["loss_distillation"], abs=1e-5)


def test_the_number_of_ranks_does_not_change_what_is_learnt(runs):
    """Breaks if the teacher's term is a mean of means, or if fill of the last batch has a share in it."""
    for one, other in zip(steps_of(runs[1]), steps_of(runs[2]), strict=True):
        assert one["loss_distillation"] == pytest.approx(other["loss_distillation"], abs=1e-4)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-2)


def test_a_killed_run_ends_to_the_bit_as_if_it_had_not_been_killed_even_without_its_cache(trainer, runs, tmp_path):
    """Breaks if the teacher's logits differ when they are computed again, or if the run counts them as another teacher's."""
    model = trainer.toy.without_dropout
    options: dict[str, Any] = dict(model_name_or_path=model, teacher=model, **STUDENT, **SPREAD[1])
    left = trainer(tmp_path, arrangements=[(kill_after, "training.progress.Progress.advance", 5)], **options)
    assert left[0].code == -signal.SIGKILL, left[0].output
    cached = list(trainer.cache.glob("logits-*.arrow"))
    assert len(cached) == 1, "one pass of one teacher, for all these runs"
    cached[0].unlink()
    trainer.whole(tmp_path, **options)
    assert lines_of(tmp_path) == lines_of(runs[1])
    assert_same_weights(tmp_path, runs[1])


def test_the_card_names_the_teacher_and_not_where_it_is(runs, toy):
    """Breaks if a published card shows the folders of one machine, or is silent on where the model's answers come from."""
    card = (runs[1] / "README.md").read_text()
    assert r"Distilled from without\_dropout (temperature 2, weight 0.75)" in card
    assert "--teacher without_dropout" in card
    assert str(toy.model.parent) not in card
