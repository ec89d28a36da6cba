"""A gold answer's text -> its type: date, number, name, clause or phrase, by rules on its words."""

import re
import unicodedata

WORD = re.compile(r"\w+(?:'\w+)?")
_MONTHS = "January|February|April|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_SHORT_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_MAY = "March|May"
_YEAR = re.compile(r"(?<![$€£¥])(?<!\d[.,])\b(?:1\d{3}|20\d{2})s?\b(?![,.]\d|\s?[%€])")
_DATE = re.compile(
    rf"\b(?:{_MONTHS}|{_DAYS}|{_SHORT_MONTHS})\b"
    rf"|\b(?:{_MAY})\s+\d|\d(?:st|nd|rd|th)?\s+(?:of\s+)?(?:{_MAY})\b"  # else a verb, a name
    r"|\b(?:\d+(?:st|nd|rd|th)|[a-z]*(?:th|first|second|third))[\s-]+(?:century|centuries)(?!\s+[a-z])"
    r"|\b(?i:decades?)\b"
    r"|\b\d+\s*(?:AD|BC|BCE|CE)\b|\bAD\s*\d"
)
_AROUND_DATES = frozenset(
    "a about after ad and approximately around as at autumn bc bce before between by c ca ce century circa during early end "
    "fall from in just late mid middle of on or since spring summer the through throughout to until winter".split()
)
_NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion "
    "dozen half once twice".split()
)
_APPROXIMATELY = frozenset(
    "about almost approximately around at least less more most nearly only over roughly some than to under up".split()
)
_OF_NAMES = frozenset(
    "a an and at by da de del della der des di du en for für in la le of on the und v van von y".split()
)
_CLAUSE_STARTS = frozenset("because by if so that to when where whether which who".split())
_VERBS = frozenset(
    "am are be been being can could did do does had has have is may might must shall should was were will would".split()
)
_LONGEST_DATE, _LONGEST_NUMBER, _LEAST_OF_CLAUSE = 6, 6, 6


def words_of(text: str) -> list[str]:
    """Composed, so that an accent of its own character does not end a word, and with one kind of apostrophe."""
    return WORD.findall(unicodedata.normalize("NFC", text).replace("’", "'"))


def answer_type(answer: str) -> str:
    """date, number, name, clause or phrase, the first that fits.

    date     a year of four digits alone or with "in", "early" and the like; a month or a weekday; an ordinal with "century"; a
             year with its era; in at most 6 words
    number   begins with a number or a numeral, maybe behind "about" and the like or a currency sign, in at most 6 words
    name     every word but "of", "the" and the like begins with a capital letter or a digit
    clause   at least 6 words with a finite verb or behind "to", "that", "because" and the like
    phrase   the rest
    """
    words = words_of(answer)
    lower = [word.lower() for word in words]
    if not words:
        return "phrase"
    if len(words) <= _LONGEST_DATE and _is_date(answer, lower):
        return "date"
    if len(words) <= _LONGEST_NUMBER and _is_number([word for word in lower if word not in _APPROXIMATELY] or lower):
        return "number"
    capital = [word[0].isupper() for word in words]
    if any(capital) and all(big or word[0].isdigit() or word in _OF_NAMES for big, word in zip(capital, lower)):
        return "name"
    as_written = [lower[0], *words[1:]]  # "May" within an answer is a month
    if len(words) >= _LEAST_OF_CLAUSE and (lower[0] in _CLAUSE_STARTS or not _VERBS.isdisjoint(as_written)):
        return "clause"
    return "phrase"


def _is_date(answer: str, lower: list[str]) -> bool:
    if _DATE.search(answer):
        return True
    others = [word for word in lower if word not in _AROUND_DATES and not re.fullmatch(r"\d{1,4}s?", word)]
    return not others and bool(_YEAR.search(answer))  # "1500 soldiers" are a number


def _is_number(telling: list[str]) -> bool:
    first = telling[0]
    if telling[1:2] == ["of"] and not first[0].isdigit():  # "one of the largest"
        return False
    ordinal = re.fullmatch(r"\d+(?:st|nd|rd|th)", first) and len(telling) > 1  # "4th Infantry Division"
    return first in _NUMBER_WORDS or (first[0].isdigit() and not ordinal)
