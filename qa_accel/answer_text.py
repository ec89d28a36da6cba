"""An answer's text -> its words as exact match compares them. Decides what counts as the same answer, here and in scores."""

import re
import string
from functools import lru_cache

from qa_accel.answer_language import ENGLISH, compared_tokens

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


@lru_cache(
    maxsize=1 << 16
)  # evaluation in training scores the same gold answers, and many equal texts, again and again
def answer_tokens(text: str, language: str = ENGLISH) -> tuple[str, ...]:
    """The tokens that count. English: the words in lower case, without ASCII punctuation (which joins what it separated) and
    articles. Other languages: see `answer_language`."""
    if language != ENGLISH:
        return compared_tokens(text, language)
    return tuple(_ARTICLE.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())
