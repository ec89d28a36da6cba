"""The language of answers -> the rules by which their texts are compared: punctuation, articles, what counts as one token.

A row per language, by its ISO 639-1 code, and `char`, which is of no language. English has no row: it is the official SQuAD
scorer's, in `answer_text`. For every other language:

1. Lower case.
2. Punctuation goes, without leaving a gap: every character of a Unicode category P* and all of ASCII's. Korean: as in its source.
3. Articles, as whole words, become blanks.
4. Tokens are what is between blanks (`words`), single Han characters and what is between them (`mixed`), or all characters but
   blanks (`characters`). Exact match compares the tokens in order, F1 counts those that both have.

Sources, of which only facts are taken:
MLQA     facebookresearch/MLQA, mlqa_evaluation_v1.py: punctuation for all; articles and tokens of es, hi, vi, de, ar, zh.
MKQA     apple/ml-mkqa, mkqa_eval_util.py: articles of nl, sv, da, no, fr, pt, it, fi, hu; characters for ja, th, km. Its patterns
         for fr and it have no end of a word, so that they cut `le` from `lettre`, and come after the apostrophe of l' has gone.
         Here articles are whole words, and elided ones go with their apostrophe before punctuation does.
KorQuAD  KorQuAD 1.0, evaluate-v1.0.py: twelve marks become blanks, ASCII punctuation goes; exact match by words, F1 by characters.
The rest have no published list of articles, so that none are removed.
"""

import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

AnswerLanguage: TypeAlias = str | Mapping[str, str]
"""One language for all questions, or each question's by id."""

ENGLISH = "en"


@dataclass(frozen=True)
class Rules:
    name: str
    """Of the language, in English."""
    tokens: Literal["words", "mixed", "characters", "korquad"] = "words"
    articles: str = ""
    """Separated by blanks, in lower case."""
    elided: str = ""
    """Articles that end with an apostrophe, without it."""
    inside_words: str = ""
    """What becomes a blank wherever it is, in words too."""
    source: Literal["MLQA", "MKQA", "KorQuAD", ""] = ""
    """Of articles and tokens; empty: no list of articles is published."""


RULES = {
    # MLQA's pattern for Arabic takes the article's two letters out of the middle of words as well.
    "ar": Rules("Arabic", inside_words="ال", source="MLQA"),
    "bn": Rules("Bengali"),
    "da": Rules("Danish", articles="en et", source="MKQA"),
    "de": Rules("German", articles="ein eine einen einem eines einer der die das den dem des", source="MLQA"),
    "el": Rules("Greek"),
    "es": Rules("Spanish", articles="un una unos unas el la los las", source="MLQA"),
    "fa": Rules("Persian"),
    "fi": Rules("Finnish", articles="se yks yksi", source="MKQA"),
    "fr": Rules("French", articles="le la les du de des un une", elided="l d", source="MKQA"),
    "he": Rules("Hebrew"),
    "hi": Rules("Hindi", source="MLQA"),
    "hu": Rules("Hungarian", articles="a az egy", source="MKQA"),
    "id": Rules("Indonesian"),
    "it": Rules(
        "Italian",
        articles="il lo la i gli le del dello della dei degli delle uno una un",
        elided="l dell degl un",
        source="MKQA",
    ),
    "ja": Rules("Japanese", tokens="characters", source="MKQA"),
    "km": Rules("Khmer", tokens="characters", source="MKQA"),
    "ko": Rules("Korean", tokens="korquad", source="KorQuAD"),
    "ms": Rules("Malay"),
    "nl": Rules("Dutch", articles="de het een des der den", source="MKQA"),
    "no": Rules("Norwegian", articles="en et ei", source="MKQA"),
    "pl": Rules("Polish"),
    "pt": Rules("Portuguese", articles="o a os as um uma uns umas", source="MKQA"),
    "ro": Rules("Romanian"),
    "ru": Rules("Russian"),
    "sv": Rules("Swedish", articles="en ett", source="MKQA"),
    "sw": Rules("Swahili"),
    "ta": Rules("Tamil"),
    "te": Rules("Telugu"),
    "th": Rules("Thai", tokens="characters", source="MKQA"),
    "tr": Rules("Turkish"),
    "vi": Rules("Vietnamese", articles="của là cái chiếc những", source="MLQA"),
    "zh": Rules("Chinese", tokens="mixed", source="MLQA"),
    "char": Rules("any, by characters", tokens="characters"),
}
KNOWN = (*sorted({ENGLISH, *RULES} - {"char"}), "char")

_HAN = re.compile("([\u4e00-\u9fa5])")
"""MLQA's range: each is a token of its own."""
_KORQUADS_MARKS = str.maketrans(dict.fromkeys("'\"《》<>〈〉()‘’", " "))
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


class _Punctuation(dict[int, int | None]):
    """For str.translate: what goes is None. Filled as characters come: a pass over all of Unicode takes 0.2 s."""

    def __missing__(self, code: int) -> int | None:
        goes = chr(code) in string.punctuation or unicodedata.category(chr(code)).startswith("P")
        self[code] = None if goes else code
        return self[code]


_PUNCTUATION = _Punctuation()


def check_language(language: str) -> None:
    """Raises ValueError, with those that are known, for any other."""
    if language not in KNOWN:
        raise ValueError(f"answer_language must be one of {' '.join(KNOWN)}, got {language[:100]!r}")


def language_of(language: AnswerLanguage, key: str) -> str:
    """The language of one question's answers."""
    return language if isinstance(language, str) else language[key]


def spelled_language(language: AnswerLanguage) -> str:
    """As a person may read it; several are listed."""
    return language if isinstance(language, str) else ", ".join(sorted(set(language.values())))


def only_language(language: AnswerLanguage) -> str:
    """For what holds for all questions at once: their one language, English's rules where there are several."""
    several = {language} if isinstance(language, str) else set(language.values())
    return several.pop() if len(several) == 1 else ENGLISH


def is_english(language: AnswerLanguage) -> bool:
    return spelled_language(language) in (ENGLISH, "")


def as_entry(language: AnswerLanguage) -> dict[str, str]:
    """What a file of scores says of it: nothing of English, whose scores need no word."""
    return {} if is_english(language) else {"answer_language": spelled_language(language)}


def compared_tokens(text: str, language: str) -> tuple[str, ...]:
    """The tokens that exact match compares, of any language but English."""
    rules, text = RULES[language], text.lower()
    if rules.tokens == "korquad":
        return tuple(text.translate(_KORQUADS_MARKS).translate(_ASCII_PUNCTUATION).split())
    if rules.elided:
        text = _elided(language).sub(" ", text)
    text = text.translate(_PUNCTUATION)
    if rules.articles:
        text = _articles(language).sub(" ", text)
    if rules.inside_words:
        text = text.replace(rules.inside_words, " ")
    if rules.tokens == "mixed":
        text = _HAN.sub(r" \1 ", text)
    tokens = text.split()
    return tuple("".join(tokens)) if rules.tokens == "characters" else tuple(tokens)


def counts_characters(language: str) -> bool:
    """Whether F1 counts the characters of the tokens that exact match compares, as KorQuAD has it."""
    return language != ENGLISH and RULES[language].tokens == "korquad"


@cache
def _articles(language: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{RULES[language].articles.replace(' ', '|')})\b")


@cache
def _elided(language: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{RULES[language].elided.replace(' ', '|')})['’]")
