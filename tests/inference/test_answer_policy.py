"""The answer policy in a model's config.json: what training stores is what prediction reads, from older models too."""

import pytest
from transformers import AutoConfig, BertConfig

from qa_accel.inference.answer_policy import CONFIG_KEY, THRESHOLD_KEY, AnswerPolicy


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
    config = BertConfig(**{CONFIG_KEY: {THRESHOLD_KEY: 2.0, "temperature": 1.5}})
    assert AnswerPolicy.of_model(config, "m") == AnswerPolicy(2.0)
    assert "temperature in answer_policy of config.json is ignored" in caplog.text
