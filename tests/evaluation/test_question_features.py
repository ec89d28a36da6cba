"""Questions and answers with the slices that they belong to, read off by hand."""

import pytest

from qa_accel.evaluation.answer_types import answer_type
from qa_accel.evaluation.question_features import (
    FAMILIES,
    LEAST_OF_TITLE,
    MOST_TITLES,
    AskedQuestion,
    common_titles,
    features,
    overlap,
    question_word,
    slices_of,
)

ANSWERS = {
    "date": """1066|in 2003|the 1980s|1568–1609|21 February 1804|November 22|April|Monday|the 19th century|early 20th centuries
        |winter of 1973–74|Jan. 6th|44 BC|AD 70|the last two decades|between 1990 and 2000|30 May 1431|1990-95""",
    "number": """13|3,000|1,500,000|about 300|2.8%|$159 million|€20|one|eleven separate academic units|twice|at least 50
        |over 900,000|55 mph|Four thousand|9th|3.1415|$1500|1500 %|75% of the total seats|twenty-five|half|up to four minutes""",
    "name": """Texas|the Soviet Union|New Orleans|William E. Simon|Robert of Jumièges|U.S.|IBM|Ludwig van Beethoven|Île-de-France
        |Duke of York and Albany|Москва|Kraków|Sa\u0303o Paulo|the Court of Justice|"Hamlet"|Newton's Second Law""",
    "clause": """to make the hosts responsible for reliable delivery|because it was too expensive to run
        |that the law is observed in all states|It was never affiliated with any church|the river is wider than the lake
        |by a fee per unit of information|when the king died without an heir|if the two numbers are both even""",
    "phrase": """southern China|long-lived memory cells|a commune|the same|summa cum laude|killed by a bear
        |religion from politics|to win|东京|محمد|красный дом|नमस्ते|—|...|’|🚀|and|the
        |defeat in the Battle of Jumonville Glen in May""",
}


@pytest.mark.parametrize(("expected", "answers"), ANSWERS.items())
def test_types_of_answers(expected, answers):
    """84 answers, in languages that the rules do not know too. Breaks with any rule: "$1500" and "3.1415" are no years, "May" is
    no verb, an accent of its own character does not end a name."""
    found = {answer.strip(): answer_type(answer.strip()) for answer in answers.split("|")}
    assert found == dict.fromkeys(found, expected)


QUESTIONS = {
    "what": ["What is it?", "In what year did it end?", "What's the time?", "WHAT?", "Of what, and when, is it made?"],
    "which": ["Which one?", "In which town was he born?", "It is in which country?"],
    "who": ["Who wrote it?", "Whose was it?", "To whom did he write?", "Who’s there?", "who'd have known?", "Who?What?"],
    "when": ["When did it begin?", "Since when?", "when's the next one"],
    "where": ["Where is Bern?", "From where did they come?", "Where're they?"],
    "why": ["Why not?", "Why's that?"],
    "how": ["How did it end?", "How long is it?", "How'd it go?", "How"],
    "how many": ["How many are there?", "By how much did it rise?", "How  many?", "how much is it"],
    "other": ["", "?", "Name one.", "Is it so?", "Whatever happened", "somewhat", "東京はどこですか？", "من كتب الكتاب؟",
              "Кто написал эту книгу?", "🚀", "whereas"],
}  # fmt: skip


@pytest.mark.parametrize(("expected", "questions"), QUESTIONS.items())
def test_words_of_questions(expected, questions):
    """43 questions. Breaks if a contraction hides the word, if a word is found inside another, or with no word at all."""
    found = {question: question_word(question) for question in questions}
    assert found == dict.fromkeys(questions, expected)


CONTEXT = "Ada Lovelace's notes of 1843 describe the engine of Charles Babbage."


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What did Ada Lovelace describe?", "all"),  # ada, lovelace, describe
        ("Who's Ada?", "all"),  # "who's" is a question word, no word of the content
        ("What were Babbage's notes?", "all"),  # a possessive is the same word, on either side
        ("What were Babbage’s notes?", "all"),
        ("ada notes engine written", "75 % or more"),  # 3 of 4
        ("ada notes engines written", "50 to 75 %"),  # 2 of 4
        ("ada notes engine is written in 1842", "50 to 75 %"),  # 3 of 5
        ("ada engines written", "less than 50 %"),  # 1 of 3
        ("ada ada ada engines", "50 to 75 %"),  # different words count once
        ("Bern", "less than 50 %"),
        ("What is it?", "other"),  # no word but those of every text
        ("", "other"),
        ("?", "other"),
    ],
)
def test_overlap_counts_the_questions_own_words(question, expected):
    assert overlap(question, CONTEXT) == expected


def test_accents_overlap_however_they_are_written():
    """Breaks if a letter and its combining accent are another word than the letter with it."""
    assert overlap("Sa\u0303o Paulo", "in S\u00e3o Paulo") == "all"


def asked(**other) -> AskedQuestion:
    given = dict(question="Who?", context="x" * 400, gold_texts=["x"], gold_starts=[0], title=None, windows=None)
    return AskedQuestion(**{**given, **other})


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        (0, "up to 500 characters"),
        (500, "up to 500 characters"),
        (501, "501 to 750 characters"),
        (750, "501 to 750 characters"),
        (751, "751 to 1000 characters"),
        (1000, "751 to 1000 characters"),
        (1001, "1001 to 2000 characters"),
        (2000, "1001 to 2000 characters"),
        (5000, "2001 to 5000 characters"),
        (5001, "more than 5000 characters"),
    ],
)
def test_steps_of_context_length(characters, expected):
    assert features(asked(context="x" * characters))["context_length"] == expected


@pytest.mark.parametrize(
    ("windows", "expected"),
    [(1, "1 window"), (2, "2 windows"), (3, "3 to 4 windows"), (4, "3 to 4 windows"), (5, "5 to 8 windows"),
     (8, "5 to 8 windows"), (9, "more than 8 windows"), (1000, "more than 8 windows")],
)  # fmt: skip
def test_steps_of_windows(windows, expected):
    assert features(asked(windows=windows))["windows"] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [(1, "1 word"), (2, "2 to 3 words"), (3, "2 to 3 words"), (4, "4 to 6 words"), (6, "4 to 6 words"),
     (7, "7 to 12 words"), (12, "7 to 12 words"), (13, "more than 12 words")],
)  # fmt: skip
def test_steps_of_answer_length(words, expected):
    """Blanks at the edges and between words do not count. Breaks if an answer of marks alone has no word."""
    assert features(asked(gold_texts=[" " + "  ".join(["w"] * words) + "\n"]))["answer_length"] == expected


@pytest.mark.parametrize(
    ("start", "expected"),
    [(0, "first"), (99, "first"), (100, "second"), (199, "second"), (200, "third"), (300, "last"), (399, "last"), (400, "last")],
)  # fmt: skip
def test_quarters_of_the_context_of_400_characters(start, expected):
    assert features(asked(gold_starts=[start]))["answer_position"] == f"{expected} quarter"


def test_the_first_gold_answer_decides_and_an_unanswerable_question_has_none():
    """Breaks if families of answers are given to questions without any: they would be compared with those."""
    several = features(asked(gold_texts=["1066", "Ada"], gold_starts=[399, 0], title="Bern", windows=1, set_name="en"))
    assert (several["answer_type"], several["answer_position"], several["answerable"]) == (
        "date",
        "last quarter",
        "yes",
    )
    assert set(several) == set(FAMILIES)
    none = features(asked(gold_texts=[], gold_starts=[], title=""))
    assert set(none) == {"answerable", "question_word", "context_length", "overlap"} and none["answerable"] == "no"


def test_titles_of_few_questions_are_one_slice():
    """Breaks if a title of nine is a slice of its own, or one of ten is not; odd characters in titles are kept as they are."""
    odd = "<script>\u202e\n"
    rows = [{"title": odd}] * LEAST_OF_TITLE + [{"title": "rare"}] * (LEAST_OF_TITLE - 1) + [{}]
    rows = [dict(row) for row in rows]
    common_titles(rows)
    assert [row.get("title") for row in rows] == [odd] * 10 + ["other titles"] * 9 + [None]


def test_no_more_than_fifty_titles_are_kept_the_largest():
    rows = [{"title": f"t{number}"} for number in range(60) for _ in range(LEAST_OF_TITLE + number)]
    common_titles(rows)
    kept = {row["title"] for row in rows} - {"other titles"}
    assert kept == {f"t{number}" for number in range(60 - MOST_TITLES, 60)}


def test_slices_are_rows_by_value_without_families_of_one_value():
    """Breaks if a family that compares nothing is tested, which would make the correction stricter."""
    rows = [
        {"answerable": "yes", "question_word": "who", "answer_type": "date"},
        {"answerable": "yes", "question_word": "how"},
        {"answerable": "yes", "question_word": "who", "answer_type": "name"},
    ]
    assert slices_of(rows) == {
        "question_word": {"who": [0, 2], "how": [1]},
        "answer_type": {"date": [0], "name": [2]},
    }
    assert slices_of([]) == {}


def test_what_looks_like_a_date_or_a_number_is_not_always_one():
    """Breaks if a word or a number that is in many dates makes a date of everything."""
    expected = {
        **dict.fromkeys(("1500 soldiers", "over 2000 people", "half a century"), "number"),
        **dict.fromkeys(
            ("Theresa May", "March of Dimes", "Apollo 11", "Super Bowl 50", "4th Infantry Division"), "name"
        ),
        **dict.fromkeys(("20th-century composer", "one of the most famous"), "phrase"),
        **dict.fromkeys(("May 5, 1990", "5 March", "the late 1960s", "twenty-first century", "44 BC"), "date"),
    }
    assert {answer: answer_type(answer) for answer in expected} == expected
