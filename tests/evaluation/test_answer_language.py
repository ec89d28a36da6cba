"""The rules of each language by hand, and what holds for all of them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qa_accel.answer_language import KNOWN, RULES, check_language
from qa_accel.answer_text import answer_tokens
from qa_accel.commands.settings.score import ScoreConfig
from qa_accel.data.settings import DataConfig
from qa_accel.evaluation.error_kinds import Place, kind_of
from qa_accel.evaluation.outcomes import Outcomes
from qa_accel.evaluation.squad_metric import SquadMetric
from qa_accel.evaluation.squad_scores import exact_and_f1, squad_scores


@pytest.mark.parametrize(
    ("language", "text", "tokens"),
    [
        # MLQA: punctuation of Unicode and of ASCII goes, without a gap
        ("es", "«¡La Niña!» – $5 €", ("niña", "5", "€")),
        ("de", "Die „Straße“ des Königs-Wegs", ("straße", "königswegs")),
        ("de", "Derby", ("derby",)),  # articles only as whole words
        ("vi", "Của những ngôi là nhà", ("ngôi", "nhà")),
        ("hi", "नदी का किनारा।", ("नदी", "का", "किनारा")),  # no articles; the danda is punctuation
        ("ar", "في العالم، سالم", ("في", "ع", "م", "س", "م")),  # the article's letters go inside of words too
        ("zh", "由IBM公司，2019年 3月", ("由", "ibm", "公", "司", "2019", "年", "3", "月")),
        ("zh", "ＡＢ・かな", ("ａｂかな",)),  # only Han is divided
        # MKQA: articles as whole words, elided ones with their apostrophe
        ("fr", "L’eau de la lettre d'été, aujourd'hui", ("eau", "lettre", "été", "aujourdhui")),
        ("it", "Dell'arte e un’amica", ("arte", "e", "amica")),
        ("pt", "Os rios e as montanhas", ("rios", "e", "montanhas")),
        ("nl", "het huis van de koning", ("huis", "van", "koning")),
        ("sv", "ett hus", ("hus",)),
        ("ja", "「東京・タワー」 2号", ("東", "京", "タ", "ワ", "ー", "2", "号")),
        ("th", "กา ขา", ("ก", "า", "ข", "า")),
        # KorQuAD: twelve marks become blanks, ASCII punctuation goes, other punctuation stays
        ("ko", "《서울 대학교》(관악)의 A.B", ("서울", "대학교", "관악", "의", "ab")),
        ("ko", "「집」", ("「집」",)),
        # no published list of articles
        ("ru", "«Река» на севере", ("река", "на", "севере")),
        ("el", "Ο ποταμός", ("ο", "ποταμός")),
        ("ro", "un râu", ("un", "râu")),
        ("tr", "Bir ev.", ("bir", "ev")),
        ("fa", "یک رود؟", ("یک", "رود")),
        ("char", "A b, c!", ("a", "b", "c")),
    ],
)
def test_tokens_that_count(language, text, tokens):
    """Breaks if a language takes another's articles, punctuation or segmentation."""
    assert answer_tokens(text, language) == tokens


def test_every_article_of_a_table_goes_alone_and_stays_in_a_word():
    """Breaks if a pattern is built without one of its words, or without the ends of words: MKQA's French cuts `lettre`."""
    checked = 0
    for language, rules in RULES.items():
        for article in rules.articles.split():
            assert answer_tokens(f"x {article.upper()} x", language) == ("x", "x"), (language, article)
            assert answer_tokens(f"{article}x", language) == (f"{article}x",), (language, article)
            checked += 1
        for article in rules.elided.split():
            assert answer_tokens(f"{article}’x {article}'x", language) == ("x", "x"), (language, article)
            assert answer_tokens(f"x{article}'x", language) == (f"x{article}x",), (language, article)
    assert checked > 60


@pytest.mark.parametrize(
    ("language", "prediction", "gold", "exact", "f1"),
    [
        ("zh", "由霍爾特", "霍爾特", 0.0, 6 / 7),  # P 3/4, R 1
        ("zh", "一九三一年。", "一九三一年", 1.0, 1.0),
        ("ja", "東京タワー", "東京", 0.0, 4 / 7),  # P 2/5, R 1
        ("th", "กา", "กาน", 0.0, 4 / 5),  # P 1, R 2/3
        ("char", "ab", "a c", 0.0, 1 / 2),
        ("ko", "서울시", "서울", 0.0, 4 / 5),  # characters count: P 2/3, R 1
        ("ko", "서울대학교", "서울 대학교", 0.0, 1.0),  # the blank is in exact match alone
        ("ko", "부산", "서울", 0.0, 0.0),
        ("de", "Der Rhein", "Rhein", 1.0, 1.0),
        ("de", "dem großen Rhein", "Rhein", 0.0, 2 / 3),
        ("es", "el río «Miño»", "Río Miño", 1.0, 1.0),
        ("en", "el río", "río", 0.0, 2 / 3),
        ("en", "«Miño»", "Miño", 0.0, 0.0),
        ("fr", "l'eau", "eau", 1.0, 1.0),
    ],
)
def test_exact_match_and_f1_by_hand(language, prediction, gold, exact, f1):
    """Breaks if the tokens of a language are right, but are compared as another's."""
    assert exact_and_f1(prediction, [gold], language) == (exact, pytest.approx(f1))


TEXT = st.text(alphabet="aA der La們的一二三 서울éق,.'’«–ال\u3000กñ", max_size=14)
LANGUAGE = st.sampled_from(KNOWN)


@settings(max_examples=300)
@given(TEXT, TEXT, LANGUAGE, st.randoms())
def test_what_holds_in_every_language(prediction, gold, language, random):
    """Breaks with a rule that makes equal texts unequal, or an F1 that depends on order or on which side a text is."""
    assert exact_and_f1(gold, [gold], language) == (1.0, 1.0)
    exact, f1 = exact_and_f1(prediction, [gold], language)
    assert 0.0 <= f1 <= 1.0 and exact in (0.0, 1.0) and exact <= f1
    assert exact_and_f1(gold, [prediction], language)[1] == pytest.approx(f1)
    tokens = list(answer_tokens(prediction, language))
    random.shuffle(tokens)
    shuffled = (" " if RULES.get(language, RULES["de"]).tokens != "characters" else "").join(tokens)
    assert exact_and_f1(shuffled, [gold], language)[1] == pytest.approx(f1)


@given(TEXT)
def test_english_is_the_official_normalisation(text):
    """The steps of evaluate-v2.0.py one after the other. Breaks if English takes Unicode's punctuation, as MLQA's English."""
    lowered = text.lower()
    for mark in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~":
        lowered = lowered.replace(mark, "")
    assert answer_tokens(text) == answer_tokens(text, "en") == tuple(re.sub(r"\b(a|an|the)\b", " ", lowered).split())


REFERENCES = {"who": ["霍爾特"], "when": ["一九三一年"], "why": []}
TEXTS = {"who": "由霍爾特", "when": "一九三一年。", "why": "河"}
ODDS = {"who": -1.0, "when": -3.0, "why": 2.0}


def test_scores_of_chinese_answers():
    """One exact, one with F1 6/7, one answered that has no answer. By words nothing is right, and silence is the best. Breaks if
    the search for thresholds compares by other rules than the scores."""
    found = squad_scores(TEXTS, REFERENCES, ODDS, language="zh")
    assert (found["HasAns_exact"], found["HasAns_f1"]) == (50.0, pytest.approx(100 * (6 / 7 + 1) / 2))
    assert (found["best_exact"], found["best_exact_thresh"]) == (pytest.approx(200 / 3), -3.0)
    assert (found["best_f1"], found["best_f1_thresh"]) == (pytest.approx(100 * (1 + 1 + 6 / 7) / 3), -1.0)
    english = squad_scores(TEXTS, REFERENCES, ODDS)
    assert (english["HasAns_f1"], english["best_f1"], english["best_f1_thresh"]) == (0.0, pytest.approx(100 / 3), 0.0)


def test_a_language_by_id_is_that_of_each_question():
    """Breaks if the first question's language is taken for all."""
    references, texts = {"a": ["Rhein"], "b": ["Rhein"]}, {"a": "der Rhein", "b": "der Rhein"}
    found = squad_scores(texts, references, language={"a": "de", "b": "en"})
    assert (found["exact"], found["f1"]) == (50.0, pytest.approx(100 * (1 + 2 / 3) / 2))
    with pytest.raises(ValueError, match=r"1 question \('b'\) has no language"):
        squad_scores(texts, references, language={"a": "de"})
    outcomes = Outcomes.of(texts, None, references, {"a": "x", "b": "y"}, {"a": "de", "b": "en"})
    assert outcomes.score_Q2.tolist() == [[1.0, 1.0], [0.0, pytest.approx(2 / 3)]]


def test_the_metric_takes_the_language():
    rows = [{"id": key, "prediction_text": text, "no_answer_probability": ODDS[key]} for key, text in TEXTS.items()]
    golds = [
        {"id": key, "answers": {"text": texts, "answer_start": [0] * len(texts)}} for key, texts in REFERENCES.items()
    ]
    expected = squad_scores(TEXTS, REFERENCES, ODDS, 0.0, "zh")
    options = {"no_answer_threshold": 0.0, "answer_language": "zh"}
    assert SquadMetric().compute(predictions=rows, references=golds, **options) == expected
    metric = SquadMetric()
    metric.add_batch(predictions=rows, references=golds)
    assert metric.compute(**options) == expected


def test_the_kind_of_an_answer_follows_the_language():
    """Breaks if error kinds compare by blanks: the right place with one character too many would be a wrong span."""
    predicted, gold = Place("由霍爾特開通了"), Place("霍爾特")
    exact, f1 = exact_and_f1(predicted.text, [gold.text], "zh")  # P 3/7, R 1: F1 0.6
    assert kind_of(predicted, [gold], exact=exact, f1=f1, reachable=True, language="zh") == "other_words"
    known = {"exact": 0.0, "f1": 0.0, "reachable": True}
    assert kind_of(predicted, [gold], **known, language="zh") == "boundary"
    assert kind_of(predicted, [gold], **known) == "wrong_span"


@pytest.mark.parametrize("language", ["zz", "EN", "zh-CN", "", "en "])
def test_an_unknown_language_is_refused_with_those_that_are_known(language):
    """Breaks if a mistyped language is scored as English without a word."""
    known = r"answer_language must be one of ar bn .* zh char, got"
    for refused in (
        lambda: check_language(language),
        lambda: DataConfig(answer_language=(language,)),
        lambda: ScoreConfig(("v.json",), "p.json", answer_language=(language,)),
        lambda: squad_scores({"a": "x"}, {"a": ["x"]}, language=language),
        lambda: squad_scores({"a": "x"}, {"a": ["x"]}, language={"a": language}),
    ):
        with pytest.raises(ValueError, match=known):
            refused()


def test_every_known_language_is_an_iso_code_or_char():
    assert all(re.fullmatch("[a-z]{2}", code) for code in KNOWN[:-1]) and KNOWN[-1] == "char"
    wanted = "en de es fr it pt nl pl ru tr ar fa hi bn te vi id zh ja ko th el ro char"
    assert set(wanted.split()) <= set(KNOWN)


def test_the_page_about_data_has_every_language_with_its_articles(repository):
    """Breaks if a language or an article is added, moved or removed, and the table of docs/data.md is not changed."""
    page = (repository / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    listed = {code: row for row in rows for code in re.findall(r"`([a-z]{2}|char)`", row[0])}
    assert listed.keys() == set(KNOWN)
    for code, rules in RULES.items():
        words = re.findall(r"[\w']+", listed[code][2])
        articles = {*rules.articles.split(), *(f"{article}'" for article in rules.elided.split())}
        assert articles <= set(words), code
        assert listed[code][3].startswith(rules.source) if rules.source else "MLQA MKQA".find(listed[code][3]) == -1, (
            code
        )
