"""Gold answers -> a warning where the rules of English compare answers that are in another script."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import datasets
import numpy as np

from qa_accel.answer_language import ENGLISH

MOST_QUESTIONS = 20_000
"""So many are looked at, from all over the data."""
MOST_TEXTS = 1000
"""Answers whose characters are counted."""
LEAST_KANA = 0.05
"""Share of kana among the Han characters and kana of Japanese: its names and dates are often Han alone."""

_ASCII = re.compile("[A-Za-z0-9]")
_SCRIPTS = {
    "Arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc",
    "Bengali": "\u0980-\u09ff",
    "Cyrillic": "\u0400-\u052f",
    "Devanagari": "\u0900-\u097f",
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "Hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Hebrew": "\u0590-\u05ff",
    "Kana": "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Khmer": "\u1780-\u17ff",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Thai": "\u0e00-\u0e7f",
}
_PATTERNS = {name: re.compile(f"[{characters}]") for name, characters in _SCRIPTS.items()}
_LANGUAGES = {
    "Arabic": "ar (Persian: fa)",
    "Bengali": "bn",
    "Cyrillic": "ru",
    "Devanagari": "hi",
    "Greek": "el",
    "Han": "zh",
    "Hangul": "ko",
    "Hebrew": "he",
    "Kana": "ja",
    "Khmer": "km",
    "Tamil": "ta",
    "Telugu": "te",
    "Thai": "th",
}


def warning_of(answers: Iterable[str], language: str) -> str | None:
    """What to say where more than half of the answers that are not blank hold no ASCII letter or digit, and are compared as
    English; else None."""
    if language != ENGLISH:
        return None
    texts = [text for text in answers if text.strip()]
    foreign = [text for text in texts if not _ASCII.search(text)]
    if 2 * len(foreign) <= len(texts):
        return None
    likely = likely_language(foreign)
    way_out = "the language of the answers with --answer_language" if likely is None else f"--answer_language {likely}"
    return (
        f"{len(foreign):,} of {len(texts):,} gold answers hold no ASCII letter or digit, and --answer_language is {ENGLISH}: "
        f"scores compare them by the rules of English; give {way_out}"
    )


def likely_language(texts: Iterable[str]) -> str | None:
    """What to give for --answer_language, by the script of most characters; None where it is of many languages."""
    sample = "".join(_spread(list(texts), MOST_TEXTS))
    counts = Counter({name: len(pattern.findall(sample)) for name, pattern in _PATTERNS.items()})
    kana = counts["Kana"]
    if kana > LEAST_KANA * (kana + counts["Han"]):
        counts["Kana"] += counts.pop("Han")
    script, count = counts.most_common(1)[0]
    return _LANGUAGES[script] if count else None


def some_answers(questions: datasets.Dataset) -> Iterator[str]:
    """Gold answers of at most MOST_QUESTIONS questions; none if these have no answers column."""
    if "answers" not in questions.column_names:
        return
    rows = np.unique(np.linspace(0, len(questions) - 1, min(len(questions), MOST_QUESTIONS)).astype(int))
    for table in questions.select_columns(["answers"]).select(rows).with_format("arrow").iter(2000):
        yield from table["answers"].combine_chunks().field("text").flatten().to_pylist()  # type: ignore[union-attr]


def _spread(texts: list[str], most: int) -> list[str]:
    return texts[:: -(-len(texts) // most)] if texts else []
