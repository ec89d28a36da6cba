"""python tests/studies/model_matrix.py [MODEL ...]: every architecture trained, resumed and checked, as a table.

With --tables it runs nothing and prints the parts of docs/models.md that follow from the table of architectures.

Each tiny model of `zoo` goes through the real training script on two ranks, goes on from a checkpoint in a folder of its
own, and its predictions are compared with those of the slow decoder, fed with logits of a plain padded forward pass of the
saved model that shares no code with the package: the tokenizer's own pairs, transformers' model, one question at a time.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
import zoo
from processes import run
from reference_decoder import Decoded, Window, decode
from training_runs import assert_same_weights, train_script
from transformers import AutoModelForQuestionAnswering, AutoTokenizer
from transformers.utils import logging

from qa_accel.batching import mode
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.settings import WindowConfig
from qa_accel.data.windows import GoldSpans, Windows
from qa_accel.models import architectures
from qa_accel.models import loading as model
from qa_accel.models.loading import ModelInputs

STEPS, SAVED = 4, 2
"""Optimizer steps of a run, and the step whose checkpoint it is resumed from."""
N_BEST = 4


@dataclass
class Row:
    """One line of the matrix. `reason`: what went wrong, empty if nothing did."""

    model: str
    batches: str
    token_types: str
    null: str
    padding: str
    trained: str = "no"
    resumed: str = "no"
    predictions_equal: str = "no"
    reason: str = ""


def row_of(name: str, folder: Path, *, batches: str = "padded") -> Row:
    """Train, resume, compare; what the matrix says of this model. Nothing is raised: failures are in the row."""
    checkpoint = zoo.make(name, folder / "model")
    row = _described(name, checkpoint, batches)
    settings: dict[str, Any] = dict(model_name_or_path=checkpoint, batching=batches, seed=3)
    settings |= dict(train_file=_train_file(folder), validation_file=_dev_file(folder), cache_dir=folder / "cache")
    settings |= dict(per_device_train_batch_size=2, max_train_steps=STEPS, save_steps=SAVED, learning_rate=1e-3)
    settings |= dict(n_best_size=N_BEST, save_total_limit=9, **toy.WINDOWS)
    try:
        _train(output_dir=folder / "whole", **settings)
        row.trained = "yes"
        from_there = folder / "whole" / f"checkpoint-{SAVED}"
        _train(output_dir=folder / "resumed", resume_from_checkpoint=from_there, **settings)
        last = f"checkpoint-{STEPS}"
        assert_same_weights(folder / "whole" / last, folder / "resumed" / last)
        row.resumed = "yes"
        _assert_moved(folder / "whole" / last, from_there)
        assert_answers(name, folder / "whole")
        row.predictions_equal = "yes"
    except (AssertionError, TimeoutError) as error:
        row.reason = str(error)
    return row


def rows_of(name: str) -> list[str]:
    """The kinds of batches that a model can have."""
    kind = zoo.KINDS[name]
    return ["padded", "packed"] if (kind.model_type or name) in architectures.PACKABLE else ["padded"]


def assert_answers(name: str, folder: Path) -> None:
    """The run's three files against the slow decoder."""
    predictions, odds, nbest = (
        json.loads((folder / f"{file}.json").read_text()) for file in ("predictions", "null_odds", "nbest_predictions")
    )
    expected = reference_answers(name, folder)
    assert predictions.keys() == expected.keys()
    for key, decoded in expected.items():
        assert odds[key] == pytest.approx(decoded.null_odds, abs=2e-3, rel=1e-4), f"null odds of {key}"
        assert predictions[key] == decoded.text, f"answer to {key}"
        found = [(entry["text"], entry["probability"]) for entry in nbest[key]]
        assert [text for text, _ in found] == [text for text, _ in decoded.nbest], f"n-best list of {key}"
        assert [p for _, p in found] == pytest.approx([p for _, p in decoded.nbest], abs=1e-3), (
            f"probabilities of {key}"
        )


def reference_answers(name: str, folder: Path) -> dict[str, Decoded]:
    """Questions one by one, every window padded to the full length, in one process."""
    kind = zoo.KINDS[name]
    qa_model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # as users of decoders do
    answers = {}
    for paragraph in json.loads(_dev_file(folder.parent).read_text())["data"][0]["paragraphs"]:
        context = paragraph["context"]
        for row in paragraph["qas"]:
            question_first = kind.null == "first"
            encoded = tokenizer(
                *((row["question"], context) if question_first else (context, row["question"])),
                truncation="only_second" if question_first else "only_first",
                max_length=toy.WINDOWS["max_seq_length"],
                stride=toy.WINDOWS["doc_stride"],
                padding="max_length",
                padding_side="right" if question_first else "left",
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_tensors="pt",
            )
            inputs = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
            if kind.types:
                inputs["token_type_ids"] = encoded["token_type_ids"]
            with torch.no_grad():
                output = qa_model(**inputs)
            windows = []
            for w in range(len(encoded["input_ids"])):
                in_context = [text == (1 if question_first else 0) for text in encoded.sequence_ids(w)]
                offsets = [tuple(o) if c else None for o, c in zip(encoded["offset_mapping"][w].tolist(), in_context)]
                length = len(offsets)
                start, end = output.start_logits[w, :length].tolist(), output.end_logits[w, :length].tolist()
                windows.append(Window(offsets, start, end, null=0 if question_first else length - 1))
            answers[row["id"]] = decode(context, windows, n_best=N_BEST, max_answer_length=30)
    return answers


def _train(**settings: Any) -> None:
    for rank, left in enumerate(run(train_script, toy.flags(**settings), [], processes=2)):
        assert left.code == 0, f"rank {rank} left with {left.code}:\n{left.output}"


def _assert_moved(one: Path, other: Path) -> None:
    try:
        assert_same_weights(one, other)
    except AssertionError:
        return
    raise AssertionError("two further steps changed no weight")


def _train_file(folder: Path) -> Path:
    return toy.squad_file(folder / "train.json", toy.NAMES[:6], "train")


def _dev_file(folder: Path) -> Path:
    return toy.squad_file(folder / "dev.json", [toy.NAMES[5], toy.NAMES[8], toy.LONGEST], "dev")


def _described(name: str, checkpoint: Path, batches: str) -> Row:
    """What the package decides for this model, from its own objects."""
    settings = model.ModelConfig(str(checkpoint))
    tokenizer = model.load_tokenizer(settings)
    config = model.load_model_config(settings, toy.WINDOWS["max_seq_length"])
    qa_model = model.load_model(settings, config, tokenizer)
    windows = _windows(tokenizer)
    batching_mode = mode.BatchingMode(False, "for the report")
    plan, collate = batching_mode.evaluation(
        windows, tokenizer, ModelInputs.of(qa_model), 2, toy.WINDOWS["max_seq_length"]
    )
    batch = collate(plan[0])
    length = int(windows.lengths_W[0])
    null = {0: "first", length - 1: "last"}.get(int(windows.null_W[0]), "elsewhere")
    token = tokenizer.convert_ids_to_tokens(int(windows.input_ids_N[windows.null_W[0]]))
    special = token in tokenizer.all_special_tokens
    return Row(
        model=name,
        batches=batches,
        token_types="yes" if "token_type_ids" in batch.inputs else "no",
        null=f"{null}, {token}" if special else f"{null}, a word of the question",
        padding=collate.padding_side + (", full width" if collate.pad_to_multiple_of > 8 else ""),
    )


def _windows(tokenizer: Any) -> Windows:
    questions = [row["question"] for row in toy.questions_about("Ana", "")]
    contexts = [toy.context_about("Ana")] * len(questions)
    gold = GoldSpans.none()
    return PairTokenizer(tokenizer, WindowConfig(**toy.WINDOWS)).tokenize_pairs(questions, contexts, gold)


def table(rows: list[Row]) -> str:
    """The rows as Markdown; where something went wrong, the last column says what."""
    names = [each.name for each in fields(Row)][:-1]
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        cells = [getattr(row, name) for name in names]
        if row.reason:
            cells[-1] += f": {row.reason.strip().splitlines()[-1]}"
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def generated_tables() -> dict[str, str]:
    """Heading in docs/models.md -> the Markdown below it that follows from the table of architectures."""
    names = {kind.model_type or name for name, kind in zoo.KINDS.items()}
    others = [model_type for model_type in architectures.PACKABLE if model_type not in names]
    return {
        "Packable": f"In the matrix: {', '.join(sorted(names.intersection(architectures.PACKABLE)))}.\n\n"
        f"Compared packed and padded (logits and gradients), not in the matrix: {', '.join(others)}.",
        "Padded only": reasons("not_packable"),
        "Rows of full width": reasons("fixed_width"),
        "fp32 only": reasons("fp32_only"),
        "Not usable": reasons("not_usable"),
    }


def reasons(field: str) -> str:
    """Markdown table: each reason in this column of the table of architectures, with the model types that it applies to.

    Model types that are not usable are listed for that reason only.
    """
    found: dict[str, list[str]] = {}
    for model_type, row in sorted(architectures.ARCHITECTURES.items()):
        if getattr(row, field) is not None and (field == "not_usable" or row.not_usable is None):
            found.setdefault(getattr(row, field), []).append(model_type)
    lines = [f"| {', '.join(model_types)} | {reason} |" for reason, model_types in found.items()]
    return "\n".join(["| model types | reason |", "| --- | --- |", *lines])


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(zoo.KINDS)}; all if none is given")
    parser.add_argument("--tables", action="store_true", help="print what docs/models.md takes from the table instead")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = read_arguments()
    if arguments.tables:
        print("\n\n".join(f"### {heading}\n\n{text}" for heading, text in generated_tables().items()))
        sys.exit()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="matrix-") as place:
        found = []
        for each in arguments.models or zoo.KINDS:
            for way in rows_of(each):
                where = Path(place, f"{each}-{way}")
                where.mkdir()
                found.append(row_of(each, where, batches=way))
                print(f"{each} {way}: {found[-1].reason or 'ok'}", file=sys.stderr, flush=True)
    print(table(found))
    sys.exit(any(row.reason for row in found))
