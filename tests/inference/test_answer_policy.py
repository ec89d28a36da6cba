"""The answer policy in a model's config.json: what training stores is what prediction reads, from older models too."""

import json

import pytest
from transformers import AutoConfig, BertConfig

from qa_accel.inference.answer_policy import CONFIG_KEY, THRESHOLD_KEY, AnswerPolicy
from qa_accel.inference.confidence import Calibration


def test_what_is_stored_is_read_back_from_the_file(tmp_path):
    """Breaks if the dictionary does not survive transformers' own config.json, or an older model's key is kept too."""
    config = BertConfig()
    setattr(config, THRESHOLD_KEY, 9.0)
    AnswerPolicy(-1.25).store(config)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert AnswerPolicy.of_model(loaded, tmp_path) == AnswerPolicy(-1.25)
    assert getattr(loaded, CONFIG_KEY) == {"null_score_diff_threshold": -1.25}
    assert not hasattr(loaded, THRESHOLD_KEY)


def test_the_key_of_older_models_is_still_read():
    """Breaks if a model that an earlier version trained loses its tuned threshold."""
    assert AnswerPolicy.of_model(BertConfig(), "m") == AnswerPolicy(None)
    assert AnswerPolicy.of_model(BertConfig(**{THRESHOLD_KEY: -1.25}), "m") == AnswerPolicy(-1.25)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({THRESHOLD_KEY: "high"}, "'m': config.json has null_score_diff_threshold 'high'; expected a finite number"),
        (
            {CONFIG_KEY: {THRESHOLD_KEY: True}},
            "'m': config.json has null_score_diff_threshold True; expected a finite number",
        ),
        ({CONFIG_KEY: {THRESHOLD_KEY: 10**400}}, "'m': .* 10000"),
        ({CONFIG_KEY: [1.0]}, r"'m': config.json has answer_policy \[1.0\]; expected a mapping"),
    ],
)
def test_a_policy_that_cannot_be_read_is_refused(stored, message):
    with pytest.raises(ValueError, match=message):
        AnswerPolicy.of_model(BertConfig(**stored), "m")


def test_a_key_of_a_later_version_is_ignored_with_a_warning(caplog):
    config = BertConfig(**{CONFIG_KEY: {THRESHOLD_KEY: 2.0, "mood": 1.5}})
    assert AnswerPolicy.of_model(config, "m") == AnswerPolicy(2.0)
    assert "mood in answer_policy of config.json is ignored" in caplog.text


CALIBRATED = AnswerPolicy(-1.25, temperature=1.5, null_odds_weight=0.5, null_odds_bias=-0.25)


def test_a_calibration_is_stored_with_the_threshold_and_read_back(tmp_path):
    """Breaks if one of the numbers changes place, or the threshold is lost."""
    config = BertConfig()
    AnswerPolicy(-1.25).with_calibration(Calibration(1.5, 0.5, -0.25)).store(config)
    config.save_pretrained(tmp_path)
    found = AnswerPolicy.of_model(AutoConfig.from_pretrained(tmp_path), tmp_path)
    assert found == CALIBRATED
    assert found.calibration(version_2_with_negative=True) == Calibration(1.5, 0.5, -0.25)
    assert found.with_calibration(None) == AnswerPolicy(-1.25)
    assert AnswerPolicy(-1.25).calibration(version_2_with_negative=False) is None


def test_a_temperature_alone_is_for_questions_that_all_have_an_answer():
    """Breaks if "no answer" gets a confidence that nothing was known about."""
    policy = AnswerPolicy().with_calibration(Calibration(1.5))
    assert policy.calibration(version_2_with_negative=False) == Calibration(1.5)
    assert policy.calibration(version_2_with_negative=True) is None


@pytest.mark.parametrize(
    ("before", "threshold"),
    [
        ({}, None),
        ({THRESHOLD_KEY: 3.0}, 3.0),
        ({CONFIG_KEY: {THRESHOLD_KEY: 2.0, "temperature": 9.0, "mood": 1}}, 2.0),
    ],
)
def test_a_file_changes_in_the_policy_alone(before, threshold, tmp_path):
    """Breaks if a key that is not ours is lost, or a threshold in its older place."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "bert", "vocab_size": 30, **before, "name": "é"}))
    policy = AnswerPolicy.of_model(AutoConfig.from_pretrained(tmp_path), "m")
    policy.with_calibration(Calibration(1.5)).store_in_file(path)
    later = {"mood": 1} if CONFIG_KEY in before else {}
    stored = {THRESHOLD_KEY: threshold, "temperature": 1.5, **later}
    assert json.loads(path.read_text()) == {"model_type": "bert", "vocab_size": 30, "name": "é", CONFIG_KEY: stored}
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (
            {"temperature": "warm"},
            "config.json has temperature 'warm'; expected a finite number.* scripts/calibrate.py",
        ),
        ({"temperature": float("nan")}, "config.json has temperature nan; expected a finite number"),
        ({"temperature": 0}, "config.json has temperature 0; expected a number above 0"),
        ({"temperature": 1.0, "null_odds_weight": 1.0}, "of a calibration temperature, null_odds_weight alone"),
        ({"null_odds_weight": 1.0, "null_odds_bias": 0.0}, "of a calibration null_odds_weight, null_odds_bias alone"),
    ],
)
def test_a_calibration_that_cannot_be_right_is_refused(stored, message):
    with pytest.raises(ValueError, match=message):
        AnswerPolicy.of_model(BertConfig(**{CONFIG_KEY: stored}), "m")


def test_the_language_of_a_calibration_is_stored_unless_it_is_english(tmp_path):
    """Breaks if a model's config.json says more than before, if the language is lost, or if a wrong one is a traceback later."""
    policy = AnswerPolicy().with_calibration(Calibration(1.5, 0.5, -0.25, "zh"))
    assert policy.as_dict()["answer_language"] == "zh"
    assert policy.calibration(version_2_with_negative=True) == Calibration(1.5, 0.5, -0.25, "zh")
    assert "answer_language" not in policy.with_calibration(Calibration(1.5, 0.5, -0.25)).as_dict()
    stored = policy.as_dict() | {THRESHOLD_KEY: 1.0}
    assert AnswerPolicy.of_file(stored, tmp_path, "config.json", "s.py").answer_language == "zh"
    for wrong in ("cn", 3, ["zh"]):
        with pytest.raises(ValueError, match=r"config.json has answer_language .*expected one of ar bn"):
            AnswerPolicy.of_file(stored | {"answer_language": wrong}, tmp_path, "config.json", "s.py")
