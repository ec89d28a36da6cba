"""The walk through docs/asking.md, from a model to answers that are sure enough: all its steps run, in order, in one process."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import toy
from processes import call
from training_runs import SPREAD
from transformers import BertForQuestionAnswering

from qa_accel import cli, config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "asking.md"


def steps() -> list[tuple[str, str]]:
    """Language and text of each block of the page."""
    return re.findall(r"^```(python|bash)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def walk(folder: Path) -> dict[str, Any]:
    """The values that the last steps leave."""
    import importlib

    os.chdir(folder)
    names: dict[str, Any] = {"__name__": "walk"}
    for language, text in steps():
        if language == "python":
            exec(compile(text, "asking.md", "exec"), names)
            continue
        if "|" in text:  # pipes run in tests/system/test_pipes.py
            continue
        program, command, *words = shlex.split(text)
        assert program == "qa-accel" and command in cli.COMMANDS
        module = importlib.import_module(f"qa_accel.commands.{command}")
        module.run(config.parse(module.Config, words))
    return {key: names[key] for key in ("answers", "last", "found", "result")}


def model_for_usual_windows(folder: Path) -> Path:
    """The toy's, with positions for 384 tokens."""
    tokenizer = toy.make_tokenizer()
    tokenizer.model_max_length = 512
    settings = toy.model_config(tokenizer)
    settings.max_position_embeddings = 512
    for part in (BertForQuestionAnswering(settings), tokenizer):
        part.save_pretrained(folder)
    return folder


def test_the_walk_runs_from_the_first_step_to_the_last(trainer, tmp_path):
    """With a model that training has not calibrated, as one of the hub. Breaks if a step imports, calls or reads what does
    not exist, or needs a step that is not before it."""
    assert [language for language, _ in steps()].count("bash") == 4 and len(steps()) >= 11
    untrained = model_for_usual_windows(tmp_path / "untrained")
    settings = dict(
        model_name_or_path=untrained, validation_file=trainer.toy.train, max_train_steps=9, learning_rate=1e-2
    )
    model = trainer.whole(tmp_path / "runs" / "quickstart", **settings, **SPREAD[1])
    content = json.loads((model / "config.json").read_text())
    content["answer_policy"] = {"null_score_diff_threshold": content["answer_policy"]["null_score_diff_threshold"]}
    (model / "config.json").write_text(json.dumps(content))
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "quickstart" / "dev.json").write_bytes(trainer.toy.train.read_bytes())
    [left] = call(walk, tmp_path)
    assert len(left["answers"]) == 2 and all(left["answers"]) and left["last"]
    assert {answer["document"] for answer in left["found"]["answers"]} <= {"peru", "chile"}
    assert 0 < left["found"]["no_answer_probability"] < 1 and 0 <= left["result"]["confidence"] <= 1
    policy = json.loads((model / "config.json").read_text())["answer_policy"]
    assert {"temperature", "null_odds_weight", "null_odds_bias"} < policy.keys()
    confidences = json.loads((tmp_path / "runs" / "sure" / "confidences.json").read_text())
    predictions = json.loads((tmp_path / "runs" / "sure" / "predictions.json").read_text())
    assert len(confidences) == 60 and all(predictions[key] == "" for key, sure in confidences.items() if sure < 0.9)
