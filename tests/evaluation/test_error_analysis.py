"""A slice that is made worse comes out on top; where nothing differs, nothing is claimed; and the counts add up."""

import json

import numpy as np
import pytest
from scipy import stats

from qa_accel.evaluation.error_analysis import AnalysedQuestion, ErrorAnalysis, analyse, verdict
from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.evaluation.question_features import FAMILIES

VALUES = {
    "question_word": (["what", "who", "when", "where", "how"], [0.5, 0.2, 0.15, 0.1, 0.05]),
    "answer_type": (["phrase", "name", "date", "number", "clause"], [0.4, 0.25, 0.15, 0.15, 0.05]),
    "overlap": (["all", "75 % or more", "50 to 75 %", "less than 50 %"], [0.25] * 4),
}


def features_of(generator: np.random.Generator, questions: int) -> list[dict[str, str]]:
    """Three families by question; windows and title follow the paragraph, which has five questions."""
    columns = {name: generator.choice(values, size=questions, p=p) for name, (values, p) in VALUES.items()}
    windows = generator.choice(["1 window", "2 windows"], size=questions // 5 + 1)
    return [
        {name: str(column[row]) for name, column in columns.items()}
        | {"windows": str(windows[row // 5]), "title": f"title {row // 100}"}
        for row in range(questions)
    ]


def question(row: int, *, wrong: bool, features: dict[str, str], confidence: float | None = 0.5) -> AnalysedQuestion:
    return AnalysedQuestion(
        id=f"q{row}",
        paragraph=row // 5,
        kind="wrong_span" if wrong else "right",
        features=dict(features),
        exact=0.0 if wrong else 1.0,
        f1=0.25 if wrong else 1.0,
        confidence=confidence,
    )


def analysed(wrong_Q: np.ndarray, rows: list[dict[str, str]]) -> ErrorAnalysis:
    return analyse(
        [question(row, wrong=bool(wrong), features=each) for row, (wrong, each) in enumerate(zip(wrong_Q, rows))]
    )


@pytest.mark.parametrize(
    ("family", "value"), [("answer_type", "date"), ("question_word", "where"), ("title", "title 3"), ("windows", "2 windows")]
)  # fmt: skip
def test_a_slice_that_is_made_worse_comes_out_on_top(family, value):
    """A quarter of all answers is wrong, two thirds of those of the slice. Breaks if it is not found, or another is put first."""
    generator = np.random.default_rng(11)
    rows = features_of(generator, 1200)
    is_worse_Q = np.array([row[family] == value for row in rows])
    wrong_Q = generator.random(1200) < np.where(is_worse_Q, 2 / 3, 1 / 4)
    found = analysed(wrong_Q, rows)
    worst = found.worse[0]
    assert (worst.family, worst.value) == (family, value) and found.slices[0] is worst
    assert verdict(worst) == "worse" and worst.excess_errors > 0
    assert worst.questions == is_worse_Q.sum()
    assert worst.exact == pytest.approx(100 * (1 - wrong_Q[is_worse_Q].mean()))
    assert worst.rest_exact == pytest.approx(100 * (1 - wrong_Q[~is_worse_Q].mean()))
    assert worst.share_of_errors == pytest.approx(wrong_Q[is_worse_Q].sum() / wrong_Q.sum())
    assert all(each.family == family for each in found.worse + found.better), "no other family is claimed"


def test_on_shuffled_answers_no_slice_is_claimed_beyond_the_level():
    """200 shuffles of 400 answers over the questions, and 200 of the answers of whole paragraphs, which are half alike. A claim in
    5 % of them would be 10; more than 20 come by chance less than once in 1,000 times. Breaks if the number of slices is not
    corrected for (many more shuffles then claim one), or if paragraphs are taken for independent questions."""
    generator = np.random.default_rng(12)
    rows = features_of(generator, 400)
    most = stats.binom.ppf(0.999, 200, 0.05)
    wrong_Q = generator.random(400) < 0.3
    rate_P = generator.beta(0.3, 0.7, size=80)
    wrong_P5 = generator.random((80, 5)) < rate_P[:, None]
    by_question = sum(_claims(generator.permutation(wrong_Q), rows) for _ in range(200))
    by_paragraph = sum(_claims(generator.permutation(wrong_P5).ravel(), rows) for _ in range(200))
    assert by_question <= most
    assert by_paragraph <= most


def _claims(wrong_Q: np.ndarray, rows: list[dict[str, str]]) -> bool:
    found = analysed(wrong_Q, rows)
    assert len(found.slices) >= 20, "there is something to claim"
    return bool(found.worse or found.better)


def test_counts_add_up():
    """Breaks if a question is counted twice or not at all: in kinds, in each family, and in the shares of errors."""
    generator = np.random.default_rng(13)
    rows = features_of(generator, 300)
    kinds = list(KINDS)
    questions = [
        AnalysedQuestion(f"q{row}", row // 5, kind, features, float(kind == "right"), 0.5 + (kind == "right") / 2, None)
        for row, (kind, features) in enumerate(zip(generator.choice(kinds, size=300), rows))
    ]
    found = analyse(questions)
    assert list(found.kinds) == kinds and sum(found.kinds.values()) == 300
    for family in {each.family for each in found.slices}:
        of_family = [each for each in found.slices if each.family == family]
        assert sum(each.questions for each in of_family) == 300
        assert sum(each.share_of_errors for each in of_family) == pytest.approx(1)
        for kind in kinds:
            assert sum(each.kinds.get(kind, 0) for each in of_family) == found.kinds[kind]
    for each in found.slices:
        assert sum(each.kinds.values()) == each.questions
        assert each.exact == pytest.approx(100 * each.kinds.get("right", 0) / each.questions)


def test_a_slice_is_compared_with_the_rest_of_its_family_only():
    """Answers of dates 15 of 20 right, of names 18 of 20, and 60 unanswerable questions all wrong. Breaks if questions to which
    the family does not apply count as the rest: dates would be better than 18 of 80."""
    right = [True] * 15 + [False] * 5 + [True] * 18 + [False] * 2 + [False] * 60
    kinds = ["date"] * 20 + ["name"] * 20 + [""] * 60
    found = analyse(
        [
            question(5 * row, wrong=not is_right, features={"answer_type": kind} if kind else {})
            for row, (is_right, kind) in enumerate(zip(right, kinds))
        ]
    )
    of = {each.value: each for each in found.slices}
    assert (of["date"].exact, of["date"].rest_exact) == (pytest.approx(75), pytest.approx(90))
    assert of["date"].share_of_errors == pytest.approx(5 / 67), "but its share is of all errors"
    assert of["date"].f1 == pytest.approx(100 * (15 + 5 * 0.25) / 20)
    assert of["date"].excess_errors == pytest.approx(20 * 0.15)
    assert verdict(of["date"]) == "within chance"


def test_slices_are_in_the_order_of_how_sure_they_are():
    """Worse ones by their p-value, then those within chance or too small, then the better ones. Breaks if a small slice
    of one question that is always wrong is put before a large one that is worse."""
    plan = {"large": (300, 200), "small": (40, 28), "one": (1, 1), "as usual": (500, 125), "good": (300, 15)}
    rows, wrong = [], []
    for value, (questions, errors) in plan.items():
        rows += [{"question_word": value}] * questions
        wrong += [True] * errors + [False] * (questions - errors)
    found = analyse([question(5 * row, wrong=each, features=of) for row, (each, of) in enumerate(zip(wrong, rows))])
    order = [each.value for each in found.slices]
    assert order == ["large", "small", "one", "good", "as usual"]
    assert [each.value for each in found.worse] == ["large", "small"]
    verdicts = {each.value: verdict(each) for each in found.slices}
    assert verdicts["one"] == "too few questions to test" and verdicts["good"] == "better"


@pytest.mark.parametrize("wrong", [True, False])
def test_all_right_and_all_wrong(wrong):
    """Breaks with a division by zero where there are no errors to share, or with a claim."""
    found = analysed(np.full(60, wrong), features_of(np.random.default_rng(0), 60))
    assert not found.worse and not found.better
    assert {each.share_of_errors for each in found.slices if not wrong} <= {0.0}
    for each in found.slices:
        assert each.share_of_errors == pytest.approx(each.questions / 60 if wrong else 0)
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_family_of_one_value_has_no_slices_and_one_paragraph_makes_no_claims():
    alike = analyse([question(row, wrong=row < 20, features={"question_word": "who"}) for row in range(40)])
    assert alike.slices == []
    one_paragraph = [
        AnalysedQuestion(str(row), 7, "right" if row < 20 else "missed", {"overlap": "all" if row < 20 else "other"},
                         float(row < 20), float(row < 20), None)
        for row in range(40)
    ]  # fmt: skip
    found = analyse(one_paragraph)
    assert len(found.slices) == 2 and not found.worse and not found.better


def test_confident_and_wrong_begins_with_the_most_confident():
    """Breaks if right answers are among them, if those of unknown confidence are put first, or 0.0 counts as unknown."""
    confidences = [0.2, None, 0.9, 0.0, 0.99, 0.9]
    questions = [question(row, wrong=row != 4, features={}, confidence=each) for row, each in enumerate(confidences)]
    assert [each.id for each in analyse(questions).confident_and_wrong()] == ["q2", "q5", "q0", "q3", "q1"]


def test_the_file_is_json_and_says_the_same():
    """Breaks if a number is of a type that JSON lacks (numpy's, NaN), or if figures in the file differ from the analysis."""
    generator = np.random.default_rng(14)
    rows = features_of(generator, 250)
    rows[0]["title"] = rows[1]["title"] = "<script>\u202e🚀"
    found = analysed(generator.random(250) < 0.4, rows)
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["questions"] == 250
    assert content["wrong"] == sum(question.exact == 0 for question in found.questions)
    assert {each["kind"]: each["questions"] for each in content["kinds"]} == found.kinds
    assert sum(each["share"] for each in content["kinds"]) == pytest.approx(1)
    assert [(each["family"], each["value"]) for each in content["slices"]] == [
        (s.family, s.value) for s in found.slices
    ]
    assert {each["verdict"] for each in content["slices"]} >= {"within chance", "too few questions to test"}
    assert all(
        (each["p_value"] is None) == (each["verdict"] == "too few questions to test") for each in content["slices"]
    )
    assert len(content["confident_and_wrong"]) == min(100, content["wrong"])
    assert content["kind_of"] == {question.id: question.kind for question in found.questions}
    assert {each["family"] for each in content["slices"]} <= set(FAMILIES)


def test_paragraph_numbers_need_not_follow_each_other():
    """Breaks if memory goes with the largest number, or the result depends on it."""
    generator = np.random.default_rng(15)
    rows = features_of(generator, 200)
    wrong_Q = generator.random(200) < 0.4
    plain = [question(row, wrong=bool(wrong), features=of) for row, (wrong, of) in enumerate(zip(wrong_Q, rows))]
    numbered = [AnalysedQuestion(**{**vars(each), "paragraph": 10**15 - 7 * each.paragraph}) for each in plain]
    one, other = (
        {(each.family, each.value): each.p_value for each in analyse(questions).slices}
        for questions in (plain, numbered)
    )
    assert one == pytest.approx(other, nan_ok=True)


@pytest.mark.slow
def test_a_hundred_thousand_questions_take_seconds():
    """Breaks if a step is quadratic, or each slice sorts all questions."""
    import time

    generator = np.random.default_rng(16)
    rows = features_of(generator, 130_000)
    questions = [
        question(row, wrong=bool(w), features=of)
        for row, (w, of) in enumerate(zip(generator.random(130_000) < 0.3, rows))
    ]
    start = time.process_time()
    found = analyse(questions)
    assert time.process_time() - start < 10
    assert len(found.slices) > 60
