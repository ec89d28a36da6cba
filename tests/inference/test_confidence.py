"""Confidences worked out by hand, and that nothing but the new fields depends on a calibration."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import Window
from test_postprocess import answers_to, window

from qa_accel.answer_text import answer_tokens
from qa_accel.inference.answer_files import write_answers
from qa_accel.inference.confidence import Calibration, withheld
from qa_accel.inference.postprocess import Answers

LOG = math.log
HALF_AS_SURE = Calibration(temperature=2.0, null_odds_weight=0.5, null_odds_bias=LOG(3))


def test_confidences_are_those_of_the_formula():
    """Scores 2 ln 4, 2 ln 1 and 2 ln 1 weigh 4, 1 and 1 at temperature 2. Null odds 2 ln 2 give the odds 2 * 3 = 6 against an
    answer: 1/7 has one. Breaks if the temperature multiplies, a sign is turned, or "no answer" takes part in the softmax."""
    of_spans, of_empty = HALF_AS_SURE.confidences(["Paris", "France", "is"], [2 * LOG(4), 0.0, 0.0], 2 * LOG(2))
    assert of_spans == pytest.approx([1 / 7 * 4 / 6, 1 / 7 * 1 / 6, 1 / 7 * 1 / 6])
    assert of_empty == pytest.approx(6 / 7)


def test_spans_that_exact_match_takes_for_one_answer_count_together():
    """Weights 3, 2, 1: "Rhine" and "the Rhine." are 5 of 6. Breaks if the model's doubt about an article counts as doubt."""
    of_spans, _ = Calibration(1.0).confidences(["Rhine", "Main", "the Rhine."], [LOG(3), LOG(1), LOG(2)], None)
    assert of_spans == pytest.approx([5 / 6, 1 / 6, 5 / 6])


def test_where_every_question_has_an_answer_no_answer_is_never_right():
    """Breaks if data without unanswerable questions loses confidence to an answer that it cannot have."""
    of_spans, of_empty = HALF_AS_SURE.confidences(["Paris", "is"], [0.0, 0.0], None)
    assert of_spans == pytest.approx([1 / 2, 1 / 2]) and of_empty == 0.0


def test_without_a_span_no_answer_is_certain_unless_there_must_be_one():
    assert HALF_AS_SURE.confidences([], [], 1e9) == ([], 1.0)
    assert HALF_AS_SURE.confidences([], [], None) == ([], 0.0)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a b", "b", "the b", "c", "C."]), st.floats(-1e4, 1e4)), min_size=1, max_size=8
    ),
    st.floats(-1e9, 1e9),
    st.floats(0.01, 100),
    st.floats(-5, 5),
    st.floats(-50, 50),
)
def test_confidences_of_different_answers_and_of_none_add_up_to_one(spans, odds, temperature, weight, bias):
    """Breaks if there are two scales, or large logits overflow."""
    texts, scores = [text for text, _ in spans], [score for _, score in spans]
    of_spans, of_empty = Calibration(temperature, weight, bias).confidences(texts, scores, odds)
    by_answer = {answer_tokens(text): confidence for text, confidence in zip(texts, of_spans)}
    assert sum(by_answer.values()) + of_empty == pytest.approx(1)
    assert all(0 <= confidence <= 1 for confidence in (*of_spans, of_empty))


def questions() -> list[list[Window]]:
    """One that is answered, one that is not, one without any span."""
    nothing = Window([None, None], [-3.0, 0.0], [-3.0, 0.0])
    return [[window(null=0, Paris=3)], [window(null=4, France=2, Paris=1)], [nothing]]


def without_confidence(answers: Answers) -> Answers:
    nbest: Any = {
        key: [{name: value for name, value in entry.items() if name != "confidence"} for entry in entries]
        for key, entries in answers.nbest.items()
    }
    return replace(answers, confidences={}, nbest=nbest)


@pytest.mark.parametrize("negative", [True, False])
def test_a_calibration_adds_fields_and_changes_nothing_else(negative):
    """Breaks if a prediction, an n-best text or a probability depends on it."""
    plain = answers_to(*questions(), negative=negative)
    calibrated = answers_to(*questions(), negative=negative, calibration=HALF_AS_SURE)
    assert calibrated != plain and plain.confidences == {}
    assert without_confidence(calibrated) == plain
    assert list(calibrated.confidences) == list(calibrated.predictions)


def test_the_confidence_of_a_prediction_is_that_of_its_entry():
    """Null odds 2 of "q1": with a threshold of 3 the span is predicted although "no answer" is likelier. Breaks if the
    confidence is the highest of the list."""
    for threshold, predicted in ((1.0, ""), (3.0, "France")):
        found = answers_to(*questions(), calibration=HALF_AS_SURE, null_score_diff_threshold=threshold)
        assert found.predictions["q1"] == predicted
        [of_entry] = [entry["confidence"] for entry in found.nbest["q1"] if entry["text"] == predicted]
        assert found.confidences["q1"] == of_entry
    assert found.confidences["q2"] == 1.0 and found.predictions["q2"] == ""


def test_answers_below_the_least_confidence_are_withheld():
    """Breaks with > for >=."""
    predictions, confidences = {"a": "x", "b": "y", "c": ""}, {"a": 0.9, "b": 0.89, "c": 0.1}
    assert withheld(predictions, confidences, 0.9) == {"a": "x", "b": "", "c": ""}


def test_confidences_have_a_file_and_former_ones_do_not_stay(tmp_path):
    """Breaks if the file belongs to other answers than those beside it."""
    found = answers_to(*questions(), calibration=HALF_AS_SURE)
    write_answers(found, tmp_path)
    assert json.loads((tmp_path / "confidences.json").read_text()) == found.confidences
    write_answers(answers_to(*questions()), tmp_path)
    assert not (tmp_path / "confidences.json").exists()


def test_confidence_imports_no_torch(repository):
    program = "import sys, qa_accel.inference.confidence; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=repository, check=True)


def test_equal_answers_are_those_of_the_calibrations_language():
    """In Chinese a full stop does not count: 3 + 2 of 6. Breaks if English, whose punctuation is ASCII's, decides."""
    texts, scores = ["霍爾特", "河", "霍爾特。"], [LOG(3), LOG(1), LOG(2)]
    of_spans, _ = Calibration(1.0, answer_language="zh").confidences(texts, scores, None)
    assert of_spans == pytest.approx([5 / 6, 1 / 6, 5 / 6])
    assert Calibration(1.0).confidences(texts, scores, None)[0] == pytest.approx([3 / 6, 1 / 6, 2 / 6])
