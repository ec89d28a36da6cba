"""Names of fine-tuned models (teachers) + the training windows -> the windows with the teachers' logits of every token.

A teacher runs once over the training windows, with the evaluation path; its logits are kept in a file beside the windows
(`saved_logits.py`), and a run reads them from there as it reads the tokens. Several teachers count as the mean of their
log-probabilities. That is the mean of their logits: a log-probability is a logit minus a number which is the same for all
places of the window, and the softmax does not see such a number.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.logit_file import read
from qa_accel.data.pair_tokenizer import same
from qa_accel.data.questions import cache_folder
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.splits import Split
from qa_accel.data.window_cache import prepare_windows
from qa_accel.data.windows import TaughtWindows, Windows
from qa_accel.distributed import accelerator as runtime
from qa_accel.inference.qa_model import load_tokenizer_and_config
from qa_accel.inference.saved_logits import logits_of_checkpoints
from qa_accel.models import model_folder
from qa_accel.models.settings import ModelConfig
from qa_accel.training.part_settings import DistillConfig


@dataclass(frozen=True)
class Teacher:
    """One that fits to the student: the same tokens, and enough positions."""

    model: ModelConfig
    tokenizer: PreTrainedTokenizerBase


def load_teachers(
    config: DistillConfig, student: ModelConfig, windows: WindowConfig, tokenizer: PreTrainedTokenizerBase
) -> list[Teacher]:
    """Tokenizers and configs of the teachers; no weights. `tokenizer`: the student's.

    Raises ValueError, with the teacher's name, for one that cannot be loaded, has too few positions or no head, or another
    tokenizer.
    """
    teachers = []
    for name in config.teacher:
        model = _model_of(name, trust_remote_code=student.trust_remote_code)
        try:
            model_folder.check_not_exported(model.model_name_or_path)
            own, _ = load_tokenizer_and_config(model, windows)
        except ValueError as error:
            raise ValueError(f"--teacher {name!r}: {error}") from error
        differing = differences(tokenizer, own)
        if differing:
            raise ValueError(
                f"--teacher {name!r} has another tokenizer than {student.tokenizer_name or student.model_name_or_path!r}: "
                f"{', '.join(differing)}. Its logits would belong to other tokens; take a teacher of the student's family"
            )
        teachers.append(Teacher(model, own))
    return teachers


def _model_of(name: str, *, trust_remote_code: bool) -> ModelConfig:
    """A folder, or a hub name with or without a revision; no hub name has an @ itself."""
    model_folder.check_name(name, "--teacher")
    model, at, revision = name.partition("@")
    if not at or Path(name).is_dir():
        return ModelConfig(name, trust_remote_code=trust_remote_code)
    if not model or not revision:
        raise ValueError(f"--teacher {name!r}: expected a folder, the name of a hub model, or name@revision")
    model_folder.check_name(model, "--teacher")
    return ModelConfig(model, model_revision=revision, trust_remote_code=trust_remote_code)


def differences(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> list[str]:
    """What makes two tokenizers give other tokens, in words; token types aside, which do not change what a token is."""
    parts, other_parts = _parts(one), _parts(other)
    found = [name for name, part in parts.items() if part != other_parts[name]]
    if "vocabulary" in found:
        sizes = len(parts["vocabulary"]), len(other_parts["vocabulary"])
        equal_sizes = sizes[0] == sizes[1]
        found[0] = "other ids for the tokens" if equal_sizes else f"{sizes[1]:,} tokens in place of {sizes[0]:,}"
    return [name if name[0].isdigit() or name.startswith("other") else f"another {name}" for name in found]


def _parts(tokenizer: Any) -> dict[str, Any]:
    backend = tokenizer.backend_tokenizer
    core: dict[str, Any] = json.loads(backend.to_str())
    pieces = {key: value for key, value in core["model"].items() if key != "vocab"}
    pair = backend.encode("a", "b")
    return {
        "vocabulary": backend.get_vocab(),
        "normaliser": core["normalizer"],
        "rule for words": core["pre_tokenizer"],
        "rule for pieces of words": pieces,
        "list of special tokens": sorted(core["added_tokens"], key=lambda token: token["id"]),
        "form of a pair": [backend.id_to_token(token) for token in pair.ids],
        'token for "no answer"': [tokenizer.cls_token_id, tokenizer.bos_token_id],
        "treatment of special tokens in a text": bool(getattr(tokenizer, "split_special_tokens", False)),
    }


def with_teachers(
    config: DistillConfig,
    teachers: Sequence[Teacher],
    accelerator: Accelerator,
    console: Console,
    train: Split,
    window_config: WindowConfig,
    data: DataConfig,
    batch_size: int,
) -> TaughtWindows:
    """The training windows with the teachers' logits, which are computed unless they are in the cache. All ranks must call.

    `batch_size`: windows per forward pass of a teacher. Raises ValueError for a teacher whose head was never trained.
    """
    names: dict[str, str] = {}
    paths = []
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for teacher, name in zip(teachers, config.teacher, strict=True):
            bar = progress.add_task("teacher", total=None)
            with runtime.first_on_each_cache(accelerator) as first:
                windows = own_windows(teacher, data, window_config, train, check_cache=first)
            [file] = logits_of_checkpoints(
                accelerator,
                [teacher.model],
                windows,
                window_config,
                BatchingConfig(),
                batch_size,
                cache_dir=cache_folder(data),
                done=lambda _, batches, of, bar=bar: progress.update(bar, completed=batches, total=of),
            )
            if file.source in names:
                raise ValueError(f"--teacher: {names[file.source]!r} and {name!r} are the same model; name each once")
            names[file.source] = name
            paths.append(file.path)
    runtime.announce(
        console,
        teacher=", ".join(config.teacher),
        distillation=f"logits of {len(train.windows):,} windows, temperature {config.distill_temperature:g}, weight "
        f"{config.distill_weight:g}",
    )
    # in the order of their fingerprints, so that a sum of three rounds alike however they are named
    logits = [read(path) for _, path in sorted(zip(names, paths, strict=True))]
    return TaughtWindows(
        **vars(train.windows),
        teacher_start_MN=tuple(one.start_N for one in logits),
        teacher_end_MN=tuple(one.end_N for one in logits),
        teachers=names,
    )


def own_windows(
    teacher: Teacher, data: DataConfig, window_config: WindowConfig, train: Split, *, check_cache: bool = True
) -> Windows:
    """The same windows, with the token types that the teacher's tokenizer gives: BERT has them, its student DistilBERT not.

    They are made unless they are in the cache. Raises ValueError if they differ in anything else.
    """
    own = prepare_windows(
        train.questions,
        teacher.tokenizer,
        window_config,
        cache_dir=cache_folder(data),
        num_proc=data.preprocessing_num_workers,
        check_cache=check_cache,
        labelled=data.answers,
    )
    decisive = ("input_ids_N", "begin_W", "question_W", "context_begin_W", "context_end_W", "null_W")
    differing = [name for name in decisive if not same(getattr(own, name), getattr(train.windows, name))]
    if differing:
        raise ValueError(
            f"--teacher {teacher.model.model_name_or_path!r} has another tokenizer: it makes other windows of the training data "
            f"({', '.join(differing)}). Take a teacher of the student's family"
        )
    return own
