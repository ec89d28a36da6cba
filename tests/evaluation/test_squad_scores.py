"""The scorer against the official one's printed figures, and cases worked by hand."""

import hashlib
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qa_accel.answer_text import answer_tokens
from qa_accel.evaluation.squad_scores import exact_and_f1, squad_scores

SYSTEMS = ("bert_single.json", "bidaf_elmo_single.json", "nlnet_single.json")


def gold_texts(dev: dict) -> dict[str, list[str]]:
    paragraphs = [paragraph for article in dev["data"] for paragraph in article["paragraphs"]]
    return {qa["id"]: [gold["text"] for gold in qa["answers"]] for paragraph in paragraphs for qa in paragraph["qas"]}


@pytest.mark.parametrize("system", SYSTEMS)
def test_published_predictions_score_what_the_official_scorer_printed(shared, system):
    """Breaks if any step differs: normalisation, gold answers, thresholds, the search for the best ones, or their keys."""
    published = shared / "data" / "published_predictions"
    predictions = json.loads((published / system).read_text())
    references = gold_texts(json.loads((shared / "data" / "squad_v2" / "dev.json").read_text()))
    official = json.loads((published / "official_scores.json").read_text())[system]
    probability = {key: int(hashlib.md5(key.encode()).hexdigest()[:8], 16) / 2**32 for key in references}
    for found, printed in (
        (squad_scores(predictions, references), official["no_threshold"]),
        (squad_scores(predictions, references, probability, 0.5), official["md5_no_answer_probability"]),
    ):
        assert list(found) == list(printed)
        assert found == pytest.approx(printed, rel=0, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The cat's A.B.C.", ("cats", "abc")),  # punctuation goes without leaving a gap
        ("an apple a day, another theory", ("apple", "day", "another", "theory")),  # articles only as whole words
        ("a-b", ("ab",)),  # the hyphen goes first, so that this "a" is no longer an article
        ("\u00c9TUDE\u00a0\u2009two\n", ("\u00e9tude", "two")),  # unicode letters, unicode blanks
        ("«the» – 5 €", ("«", "»", "–", "5", "€")),  # only ASCII punctuation goes
        ("the", ()),
        ("?!", ()),
    ],
)
def test_words_that_count(text, tokens):
    assert answer_tokens(text) == tokens


def test_f1_counts_shared_words_as_often_as_both_have_them():
    """Breaks with sets in place of counts: "New York New" against "New New Jersey" share "new" twice: P = R = 2/3."""
    assert exact_and_f1("New York New", ["new new jersey"]) == (0.0, pytest.approx(2 / 3))
    assert exact_and_f1("York", ["the New York"]) == (0.0, pytest.approx(2 * 1 * 0.5 / 1.5))


def test_the_best_gold_answer_counts_for_each_figure_by_itself():
    assert exact_and_f1("in Paris", ["Paris, France", "Paris"]) == (0.0, pytest.approx(2 / 3))
    assert exact_and_f1("Paris", ["Lyon", "the Paris!"]) == (1.0, 1.0)


def test_gold_answers_without_a_word_are_skipped():
    """Breaks if "The" as one of two gold answers makes the empty prediction right, or as the only one does not."""
    assert exact_and_f1("", ["The", "Paris"]) == (0.0, 0.0)
    assert exact_and_f1("", ["The"]) == (1.0, 1.0)
    assert exact_and_f1("Paris", []) == (0.0, 0.0)
    assert exact_and_f1("a", []) == (1.0, 1.0)  # a prediction of an article alone says nothing either


REFERENCES = {"capital": ["Paris"], "river": ["the Seine", "Seine"], "king": [], "queen": []}
RIGHT = {"capital": "Paris", "river": "Seine", "king": "", "queen": ""}


def test_figures_split_into_answerable_and_unanswerable_questions():
    """Half of the one answered wrongly: "Seine River" has F1 2/3; one of two unanswerable ones is answered."""
    found = squad_scores({**RIGHT, "river": "Seine River", "queen": "Anne"}, REFERENCES)
    assert found == {
        "exact": 50.0,
        "f1": pytest.approx(100 * (1 + 2 / 3 + 1) / 4),
        "total": 4,
        "HasAns_exact": 50.0,
        "HasAns_f1": pytest.approx(100 * (1 + 2 / 3) / 2),
        "HasAns_total": 2,
        "NoAns_exact": 50.0,
        "NoAns_f1": 50.0,
        "NoAns_total": 2,
    }


def test_without_unanswerable_questions_there_are_no_figures_for_them():
    """SQuAD v1.1. Breaks with a division by zero or keys whose value means nothing; and the other way round."""
    answerable = {"capital": ["Paris"]}
    keys = {"exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total"}
    assert set(squad_scores({"capital": "Paris"}, answerable)) == keys
    assert set(squad_scores({"king": ""}, {"king": []})) == {key.replace("HasAns", "NoAns") for key in keys}


def test_a_score_above_the_threshold_empties_the_answer_and_one_at_it_does_not():
    odds = {"capital": 1.0, "river": 2.0, "king": 3.0, "queen": 1.0}
    answered = {**RIGHT, "king": "Louis", "queen": "Anne"}
    found = squad_scores(answered, REFERENCES, odds, no_answer_threshold=1.0)
    assert found["HasAns_exact"] == 50.0  # "river" is emptied, which is wrong; "capital" is kept
    assert found["NoAns_exact"] == 50.0  # "king" is emptied, which is right; "queen" is kept


def test_no_threshold_leaves_the_texts_as_they_are():
    odds = dict.fromkeys(REFERENCES, 1e9)
    assert squad_scores(RIGHT, REFERENCES, odds)["exact"] == 100.0


def test_best_thresholds_are_in_the_unit_of_the_scores():
    """Null odds in order: capital -7 (right), queen -3 (answered), river 2.5 (F1 2/3, not exact), king 6 (answered).
    From 2 right with "" everywhere: 3, 2, 2, 1 exact; 3, 2, 2.67, 1.67 in F1."""
    odds = {"king": 6.0, "capital": -7.0, "river": 2.5, "queen": -3.0}
    texts = {"capital": "Paris", "river": "Seine River", "king": "Louis", "queen": "Anne"}
    found = squad_scores(texts, REFERENCES, odds, 0.0)
    assert (found["best_exact"], found["best_exact_thresh"]) == (75.0, -7.0)
    assert (found["best_f1"], found["best_f1_thresh"]) == (75.0, -7.0)
    at_best = squad_scores(texts, REFERENCES, odds, found["best_f1_thresh"])
    assert at_best["f1"] == found["best_f1"], "the threshold reaches what it promises"


def test_where_no_threshold_beats_silence_the_best_one_reads_zero():
    """As in the official scorer. Breaks if the search begins at the lowest score, or takes >= for >."""
    found = squad_scores({"capital": "Lyon", "king": ""}, {"capital": ["Paris"], "king": []}, {"capital": 5, "king": 4})
    assert (found["best_exact"], found["best_exact_thresh"]) == (50.0, 0.0)


def test_equal_scores_are_taken_in_the_order_in_which_they_are_given():
    """As in the official scorer, whose best score may be between two equal scores, where no threshold can be. Three
    scores, each of 20 capitals (answered rightly) and 20 kings (answered wrongly): a sort that is not stable mixes them."""
    capitals, kings = ([f"{what} {number}" for number in range(60)] for what in ("capital", "king"))
    references = {key: ["Paris"] for key in capitals} | {key: [] for key in kings}
    texts = dict.fromkeys(references, "Paris")
    best = [
        squad_scores(texts, references, {key: int(key[-1]) % 3 for key in order})["best_exact"]
        for order in (capitals + kings, kings + capitals)
    ]
    gained = sum(key[-1] in "0369" for key in capitals)  # before the first king is lost
    assert best == [100 * (60 + gained) / 120, 100 * 60 / 120]


def test_empty_predictions_score_the_share_of_unanswerable_questions():
    found = squad_scores(dict.fromkeys(REFERENCES, ""), REFERENCES)
    assert (found["exact"], found["f1"], found["HasAns_f1"], found["NoAns_f1"]) == (50.0, 50.0, 0.0, 100.0)


ANSWER = st.text(alphabet="aThe bé.-\u00a0", max_size=12)


@given(ANSWER, st.lists(ANSWER, max_size=3), ANSWER)
@example("", ["a"], "b")
def test_f1_is_between_exact_match_and_one(prediction, golds, another):
    exact, f1 = exact_and_f1(prediction, golds)
    assert exact in (0.0, 1.0) and exact <= f1 <= 1.0
    if any(map(answer_tokens, golds)):
        assert exact_and_f1(prediction, [*golds, another])[1] >= f1, "one more gold answer cannot hurt"
    if answer_tokens(prediction):
        assert exact_and_f1(prediction, [*golds, prediction.upper()]) == (1.0, 1.0)


QUESTIONS = st.lists(
    st.tuples(st.sampled_from(["", "x", "x y", "z"]), st.sampled_from([[], ["x"], ["x y"]]), st.integers(-20, 20)),
    min_size=1,
    max_size=12,
    unique_by=lambda question: question[2],
)


@given(QUESTIONS)
def test_best_figures_are_the_best_over_all_thresholds(questions):
    """Breaks if the running sum and the figures at a threshold disagree; every threshold is tried. Scores differ, since
    no threshold lies between equal ones."""
    texts = {str(key): text for key, (text, _, _) in enumerate(questions)}
    references = {str(key): golds for key, (_, golds, _) in enumerate(questions)}
    odds = {str(key): float(value) for key, (_, _, value) in enumerate(questions)}
    found = squad_scores(texts, references, odds)
    tried = [squad_scores(texts, references, odds, threshold) for threshold in (-math.inf, *odds.values())]
    for name in ("exact", "f1"):
        assert found[f"best_{name}"] == pytest.approx(max(scores[name] for scores in tried))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"capital": "Paris"}, REFERENCES), r"3 questions \('river', 'king', 'queen'\) have no prediction"),
        (({**RIGHT, "moon": ""}, REFERENCES), r"1 question \('moon'\) has a prediction but no reference"),
        (({**RIGHT, "king": None}, REFERENCES), r"'king'.*found null or missing"),
        ((RIGHT, {**REFERENCES, "king": "Louis"}), r"'king'.*list of texts.*found 'Louis'"),
        ((RIGHT, {**REFERENCES, "king": [None]}), r"'king'.*list of texts"),
        ((RIGHT, REFERENCES, {"capital": 0.5}), r"3 questions .* have no no-answer score"),
        (
            (RIGHT, REFERENCES, {**dict.fromkeys(RIGHT, 0), "king": "0.5"}),
            r"'king'.*number that a float can hold, or infinity; found '0.5'",
        ),
        (
            (RIGHT, REFERENCES, {**dict.fromkeys(RIGHT, 0), "king": math.nan}),
            r"'king'.*number that a float .*found 'nan'",
        ),
        ((RIGHT, REFERENCES, {**dict.fromkeys(RIGHT, 0), "king": True}), r"'king'.*found 'True' \(bool\)"),
        ((RIGHT, REFERENCES, {**dict.fromkeys(RIGHT, 0), "king": 10**400}), r"'king'.*found '10{39}'\.\.\. \(int\)"),
        (
            (RIGHT, REFERENCES, {**dict.fromkeys(RIGHT, 0), "king": -(10**5000)}),
            r"'king'.*found an integer of thousands",
        ),
        (({}, {"x" * 1_000_000: []}), r"1 question \('x{40}'\.\.\.\) has no prediction"),
        (({}, {}), r"no questions"),
    ],
)
def test_what_cannot_be_scored_is_an_error_that_names_the_question(arguments, message):
    with pytest.raises(ValueError, match=message):
        squad_scores(*arguments)


def test_infinite_scores_are_beyond_every_threshold_and_a_best_threshold_may_be_one():
    """Breaks if the null odds that others write for "no span" are refused. As in the official scorer: infinity is above 5,
    and minus infinity below it; the best threshold keeps "capital" alone."""
    odds = {"capital": -math.inf, "river": math.inf, "king": 7.0, "queen": math.inf}
    answered = {**RIGHT, "king": "Louis", "queen": "Anne"}
    found = squad_scores(answered, REFERENCES, odds, no_answer_threshold=5)
    assert (found["HasAns_exact"], found["NoAns_exact"]) == (50.0, 100.0)
    assert (found["best_exact"], found["best_exact_thresh"]) == (75.0, -math.inf)


def test_an_error_over_many_questions_names_the_first_and_counts_the_rest():
    with pytest.raises(ValueError, match=r"100 questions \('0', '1', '2', '3', '4' and 95 more\) have no prediction"):
        squad_scores({}, {str(number): [] for number in range(100)})
