"""A run stores, with the model that it keeps, a calibration of one half of the validation questions, and reports the other half."""

import json
from pathlib import Path
from typing import Any

from training_runs import SPREAD, results_of

from qa_accel.evaluation.calibration import GoldAnswers, calibrate
from qa_accel.inference.postprocess import Answers


def test_a_run_calibrates_the_model_that_it_keeps(trainer, tmp_path):
    """On its 60 training questions, 27 and 33 of which are in the halves. Breaks if the best model is stored with the
    calibration of another evaluation, or if the figures are those of the fitted half."""
    settings: dict[str, Any] = dict(
        validation_file=trainer.toy.train, eval_steps=3, max_train_steps=9, learning_rate=1e-2
    )
    folder = trainer.whole(tmp_path, **settings, **SPREAD[1])
    results = results_of(folder)
    assert results["confidence_questions"] == 33 and 0 <= results["confidence_ece"] <= 1
    assert 0 <= results["answerability_auroc"] <= 1 and 0 <= results["coverage_at_80"] <= 1
    policy = json.loads((folder / "config.json").read_text())["answer_policy"]
    assert policy["null_score_diff_threshold"] == results["best_f1_thresh"]
    nbest = json.loads((folder / "nbest_predictions.json").read_text())
    best = {key: next((one["text"] for one in entries if one["text"]), "") for key, entries in nbest.items()}
    odds, golds = json.loads((folder / "null_odds.json").read_text()), golds_of(trainer.toy.train)
    kept = Answers({}, best, odds, nbest)
    contexts = {key: context for key, (context, _) in golds.items()}
    first, second = GoldAnswers({key: texts for key, (_, texts) in golds.items()}, contexts).halves()
    found, figures = calibrate(kept, first, second, results["best_f1_thresh"], version_2_with_negative=True)
    assert found.as_dict().items() <= policy.items()
    assert figures.items() <= results.items()
    card = (folder / "README.md").read_text()
    assert f"| confidence: calibration error (ECE) | {100 * figures['confidence_ece']:.2f} |" in card
    assert "those of the other half, 33 questions" in card


def golds_of(file: Path) -> dict[str, tuple[str, list[str]]]:
    """Id -> context and gold texts."""
    parts = json.loads(file.read_text())["data"][0]["paragraphs"]
    return {
        row["id"]: (part["context"], [answer["text"] for answer in row["answers"]])
        for part in parts
        for row in part["qas"]
    }


def test_a_run_that_cannot_be_calibrated_says_why(trainer, tmp_path):
    """The toy's 30 dev questions: one half is too small. Breaks if a run ends without a model because of it."""
    folder = trainer.whole(tmp_path, max_train_steps=2)
    reason = results_of(folder)["not_calibrated"]
    assert "at least 20 are needed" in reason and "confidence_ece" not in results_of(folder)
    assert json.loads((folder / "config.json").read_text())["answer_policy"].keys() == {"null_score_diff_threshold"}
    assert f"Without a calibration: {reason}." in (folder / "README.md").read_text()
