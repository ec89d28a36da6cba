"""Figures worked out by hand, numbers that are recovered from simulated answers, and halves that do not move."""

import math
import time

import numpy as np
import pytest
from speed import scaled

from qa_accel.evaluation import confidence_figures
from qa_accel.evaluation.calibration import GoldAnswers, NotCalibrated, calibrate, figures_of, fit, judge
from qa_accel.evaluation.confidence_figures import auroc, figures, risk_coverage
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.postprocess import Answers, NBestEntry

CONFIDENCE = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
CORRECT = np.array([1.0, 1.0, 0.0, 1.0, 0.0])


def test_figures_of_five_answers():
    """By hand. Breaks if confidences are sorted the wrong way, a square is missing, or AURC leaves out full coverage."""
    found = figures(CONFIDENCE, CORRECT)
    assert found == pytest.approx(
        {
            "confidence_questions": 5,
            "confidence_ece": (0.1 + 0.2 + 0.7 + 0.4 + 0.5) / 5,  # fewer than 15 answers: a bin each
            "confidence_brier": (0.01 + 0.04 + 0.49 + 0.16 + 0.25) / 5,
            "confidence_auroc": 5 / 6,  # of 3 x 2 pairs only 0.6 (right) and 0.7 (wrong) are in the wrong order
            "confidence_aurc": (0 + 0 + 1 / 3 + 1 / 4 + 2 / 5) / 5,
            "coverage_at_80": 2 / 5,  # 3 of 4 are too few
            "coverage_at_90": 2 / 5,
            "coverage_at_95": 2 / 5,
        }
    )


def test_bins_hold_equally_many_answers_not_equal_ranges(monkeypatch):
    """Two bins: 0.99, 0.98 (1 of 2 right) and 0.97, 0.1 (1 of 2 right). Breaks with bins of equal width, where 0.1 is alone."""
    monkeypatch.setattr(confidence_figures, "BINS", 2)
    found = figures(np.array([0.99, 0.98, 0.97, 0.1]), np.array([1.0, 0.0, 1.0, 0.0]))
    assert found["confidence_ece"] == pytest.approx((abs(0.5 - 0.985) + abs(0.5 - 0.535)) / 2)


def test_coverage_is_the_largest_although_accuracy_falls_and_rises_again():
    """Right, wrong, then right eight times: 80 % are right first of 1, then again from 5 on, and 9 of 10 at the end. Breaks if
    the search stops where accuracy first falls below."""
    falling = np.linspace(0.9, 0.1, 10)
    found = figures(falling, np.array([1.0, 0, 1, 1, 1, 1, 1, 1, 1, 1]))
    assert (found["coverage_at_80"], found["coverage_at_90"], found["coverage_at_95"]) == (1.0, 1.0, 1 / 10)


def test_equal_confidences_are_not_divided_and_their_order_does_not_count():
    """Two answers of 0.9, one right: half of them, so no coverage at 80 %. Breaks if a figure depends on the file's order."""
    confidence = np.array([0.9, 0.9, 0.3])
    one, other = (figures(confidence, np.array(correct)) for correct in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
    assert one == other
    assert one["coverage_at_80"] == 0.0 and one["confidence_auroc"] == 3 / 4
    assert one["confidence_aurc"] == pytest.approx((1 / 2 + 1 / 2 + 2 / 3) / 3)


def test_the_order_of_confidences_has_no_value_where_all_are_right():
    assert "confidence_auroc" not in figures(CONFIDENCE, np.ones(5))
    assert figures(CONFIDENCE, np.ones(5))["coverage_at_95"] == 1.0
    assert auroc(CONFIDENCE, np.zeros(5, bool)) is None


def test_the_curve_says_what_confidence_to_ask_for():
    """Five points of five answers. Breaks if risk is that of the point alone, or a point is between equal confidences."""
    curve = risk_coverage(CONFIDENCE, CORRECT, points=5)
    assert [point["coverage"] for point in curve] == [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1]
    assert [point["min_confidence"] for point in curve] == CONFIDENCE.tolist()
    assert [point["risk"] for point in curve] == pytest.approx([0, 0, 1 / 3, 1 / 4, 2 / 5])
    equal = risk_coverage(np.array([0.9, 0.5, 0.5, 0.5]), np.array([1.0, 0, 0, 1]), points=4)
    assert [(point["coverage"], point["risk"]) for point in equal] == [(1 / 4, 0), (1, 1 / 2)]


# --- fitting


def entry(text: str, score: float, probability: float = 0.0) -> NBestEntry:
    place = 0 if text == "" else 1
    return NBestEntry(
        text=text,
        probability=probability,
        score=0.0,
        start_logit=score,
        end_logit=0.0,
        start=place,
        end=place + len(text),
    )


def simulated(
    count: int, calibration: Calibration, seed: int = 0, contexts: int = 400, negative: bool = True
) -> tuple[Answers, GoldAnswers]:
    """Questions with three spans, whose truth is drawn from what `calibration` says of them."""
    random = np.random.default_rng(seed)
    nbest, texts, where = {}, {}, {}
    answers = Answers({}, {}, {}, nbest)
    for number in range(count):
        key, context = f"q{number}", f"context {random.integers(contexts)}"
        scores = sorted(random.normal(0, 6, 3).tolist(), reverse=True)
        odds = float(random.normal(0, 8))
        entries = [entry(text, score) for text, score in zip(("one", "two", "three"), scores)]
        weights = [math.exp(score - max(scores[0], scores[0] + odds)) for score in scores] + [
            math.exp(scores[0] + odds - max(scores[0], scores[0] + odds))
        ]
        if negative:
            entries.append(entry("", scores[0] + odds))
        for one, weight in zip(entries, weights):
            one["probability"] = weight / sum(weights[: len(entries)])
        of_spans, of_empty = calibration.confidences(["one", "two", "three"], scores, odds if negative else None)
        drawn = random.choice(4, p=np.array([*of_spans, of_empty]) / sum([*of_spans, of_empty]))
        texts[key] = [] if drawn == 3 else [("one", "two", "three")[drawn]]
        where[key] = context
        answers.best_texts[key], answers.null_odds[key], nbest[key] = "one", odds, entries
        answers.predictions[key] = "" if negative and odds > 0 else "one"
    return answers, GoldAnswers(texts, where)


TRUE = Calibration(temperature=3.0, null_odds_weight=0.25, null_odds_bias=0.8)


def test_the_numbers_that_made_the_data_are_found_again():
    """20,000 simulated questions leave an error of a few percent. Breaks if weight or bias has the wrong sign, or if the
    temperature is fitted on questions without answer too."""
    answers, questions = simulated(20_000, TRUE)
    found = fit(answers, questions.texts, version_2_with_negative=True)
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert found.null_odds_weight == pytest.approx(0.25, rel=0.05)
    assert found.null_odds_bias == pytest.approx(0.8, abs=0.06)


def test_without_unanswerable_questions_the_temperature_is_all():
    answers, questions = simulated(8_000, Calibration(2.0), negative=False)
    found = fit(answers, questions.texts, version_2_with_negative=False)
    assert found == Calibration(pytest.approx(2.0, rel=0.06))


@pytest.mark.parametrize("scale", [0.03, 30.0])
def test_the_unit_of_the_scores_does_not_matter(scale):
    """Breaks if the search begins, or ends, where usual models are."""
    answers, questions = simulated(2_000, TRUE)
    found = fit(answers, questions.texts, version_2_with_negative=True)
    for entries in answers.nbest.values():
        for one in entries:
            one["start_logit"] *= scale
    for key in answers.null_odds:
        answers.null_odds[key] *= scale
    scaled = fit(answers, questions.texts, version_2_with_negative=True)
    assert scaled.temperature == pytest.approx(found.temperature * scale, rel=1e-3)
    assert scaled.null_odds_weight == pytest.approx(found.null_odds_weight / scale, rel=1e-3)
    assert scaled.null_odds_bias == pytest.approx(found.null_odds_bias, rel=1e-3)


def test_the_other_half_shows_what_was_gained():
    """A model three times too sure. Breaks if figures are those of the half that was fitted, or of another prediction."""
    answers, questions = simulated(6_000, TRUE)
    first, second = questions.halves()
    found, after = calibrate(answers, first, second, 0.0, version_2_with_negative=True)
    before = figures_of(answers, second, None, 0.0, version_2_with_negative=True)
    assert after["confidence_questions"] == before["confidence_questions"] == len(second.texts)
    assert after["confidence_ece"] < 0.04 < 0.1 < before["confidence_ece"]
    assert after["confidence_auroc"] > before["confidence_auroc"]
    assert after["answerability_auroc"] == before["answerability_auroc"] > 0.8
    confidence, correct = judge(answers, second.texts, found, 0.0, version_2_with_negative=True)
    assert confidence.mean() == pytest.approx(correct.mean(), abs=0.03)


def test_numbers_stay_finite_where_null_odds_tell_all():
    """Every question below 0 has an answer, none above. Breaks if the weight runs off to infinity, as without Platt's targets."""
    answers, questions = simulated(200, TRUE)
    texts = {key: ["one" if number % 3 else "two"] for number, key in enumerate(questions.texts)}
    texts = {key: gold if answers.null_odds[key] < 0 else [] for key, gold in texts.items()}
    found = fit(answers, texts, version_2_with_negative=True)
    assert found.null_odds_weight is not None and 0.5 < found.null_odds_weight < 1e3
    assert found.answerable(-8) > 0.95 and found.answerable(8) < 0.05


def test_judged_is_the_prediction_at_the_threshold_and_its_own_entry():
    """Breaks if the threshold is ignored, or "no answer" is judged by a span's probability."""
    answers = Answers({}, {"q": "one"}, {"q": 1.0}, {"q": [entry("", 3.0, 0.7), entry("one", 2.0, 0.3)]})
    for threshold, probability, right in ((0.0, 0.7, 0.0), (2.0, 0.3, 1.0)):
        confidence, correct = judge(answers, {"q": ["one"]}, None, threshold, version_2_with_negative=True)
        assert (confidence.tolist(), correct.tolist()) == ([probability], [right])


@pytest.mark.parametrize(
    ("golds", "reason"),
    [
        (["one"], "the best span is right for each of the 40 answerable questions"),
        (["two"], "the best span is wrong for each of the 40 answerable questions"),
        ([], "the best span is wrong for each of the 0 answerable questions"),
    ],
)
def test_questions_that_are_all_of_one_kind_calibrate_nothing(golds, reason):
    answers, questions = simulated(40, TRUE)
    with pytest.raises(NotCalibrated, match=reason):
        fit(answers, dict.fromkeys(questions.texts, golds), version_2_with_negative=True)


def test_questions_that_all_have_an_answer_say_nothing_of_no_answer():
    answers, questions = simulated(40, TRUE)
    golds = {key: ["one" if number % 2 else "two"] for number, key in enumerate(questions.texts)}
    with pytest.raises(NotCalibrated, match="none of the 40 questions is without an answer"):
        fit(answers, golds, version_2_with_negative=True)


@pytest.mark.parametrize(("count", "contexts"), [(19, 400), (3_000, 1)])
def test_a_half_that_is_nearly_empty_is_refused(count, contexts):
    """Few questions, or all about one context: one half is empty then."""
    answers, questions = simulated(count, TRUE, contexts=contexts)
    first, second = questions.halves()
    with pytest.raises(NotCalibrated, match=r"a half of \d+; at least 20 are needed"):
        calibrate(answers, first, second, 0.0, version_2_with_negative=True)


# --- halves


def test_a_context_is_in_one_half_whatever_else_is_in_the_file():
    """By the last bit of SHA-256. Breaks if questions of one paragraph are divided, or the halves depend on order, on
    Python's own hash, or on the other questions; then a stored calibration could not be judged again."""
    contexts = {f"q{number}": f"context {number // 3}" for number in range(300)}
    first, second = GoldAnswers(dict.fromkeys(contexts, ()), contexts).halves()
    assert not set(first.contexts.values()) & set(second.contexts.values())
    assert set(first.texts) | set(second.texts) == set(contexts) and 100 < len(first.texts) < 200
    some = dict(list(contexts.items())[::-7])
    assert set(GoldAnswers(dict.fromkeys(some, ()), some).halves()[0].texts) == set(first.texts) & set(some)
    # by the command sha256sum, the hash of "context 0" ends in 5 and that of "context 1" in 6
    assert [f"context {number}" in set(first.contexts.values()) for number in (0, 1)] == [False, True]


def test_calibrating_the_questions_of_squads_dev_set_takes_a_fraction_of_a_second():
    """6,000 questions, 20 spans each, all of different words. Training pays this at every evaluation that finds a better model.
    In this process's own time, since other work runs beside it."""
    answers, questions = simulated(6_000, TRUE)
    for key, entries in answers.nbest.items():
        entries += [entry(f"the span {key}-{number}", -20.0) for number in range(17)]
    began = time.process_time()
    calibrate(answers, *questions.halves(), 0.0, version_2_with_negative=True)
    assert time.process_time() - began < scaled(0.9)


def test_a_calibration_is_fitted_and_judged_by_the_language_of_its_questions():
    """The gold answers have a full stop that counts in English alone: by English every span is wrong, and nothing can be fitted.
    Breaks if one of fitting and judging compares by English."""
    answers, questions = simulated(2_000, TRUE)
    golds = {key: [f"{text}。" for text in texts] for key, texts in questions.texts.items()}
    chinese = GoldAnswers(golds, questions.contexts, "zh")
    assert chinese.halves()[0].language == "zh"
    found, figures = calibrate(answers, *chinese.halves(), 0.0, version_2_with_negative=True)
    expected, same = calibrate(answers, *questions.halves(), 0.0, version_2_with_negative=True)
    assert (found.temperature, found.answer_language) == (expected.temperature, "zh") and figures == same
    with pytest.raises(NotCalibrated):
        calibrate(answers, *GoldAnswers(golds, questions.contexts).halves(), 0.0, version_2_with_negative=True)
