"""A file of several answers per question -> its scores: answers.json, lists of texts, single texts, or n-best lists.

An entry is a text, or an object with `text` and a confidence from 0 to 1: `probability`, as in n-best lists, else `score`, as in
answers.json. N-best lists hold all that was found, not the answers, so that they have CUAD's figures alone, which look at each
confidence; where entries have no confidence there are none of these.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from qa_accel.answer_language import ENGLISH, AnswerLanguage
from qa_accel.evaluation.cuad_scores import ScoredText, cuad_scores
from qa_accel.evaluation.multi_span_scores import multi_span_scores
from qa_accel.messages import quoted, shown


def scores_of_file(
    content: Mapping[str, Any],
    references: Mapping[str, Sequence[str]],
    name: str,
    language: AnswerLanguage = ENGLISH,
) -> dict[str, float | int]:
    """In percent, and `total`, the number of questions. `name`: of the file, for messages.

    Raises ValueError, with the question, for one without an entry and for what is no list of answers.
    """
    if not references:
        raise ValueError("there are no questions to score: references are empty")
    texts: dict[str, list[str]] = {}
    scored: dict[str, list[ScoredText]] = {}
    of_nbest, has_all_confidences = False, True
    missing = [key for key in references if key not in content]
    if missing:
        raise ValueError(
            f"{name}: {len(missing)} questions have no answers, the first is {quoted(missing[0])}; a question without answer has []"
        )
    for key in references:
        entries = [content[key]] if isinstance(content[key], str) else content[key]
        if not isinstance(entries, list):
            raise ValueError(f"{name}: {quoted(key)}: expected a list of answers, found {shown(content[key])}")
        texts[key], scored[key] = [], []
        for entry in entries:
            text, confidence = _entry(entry, f"{name}: {quoted(key)}")
            of_nbest |= isinstance(entry, dict) and "probability" in entry
            if not text.strip():
                continue
            texts[key].append(text)
            if confidence is None:
                has_all_confidences = False
            else:
                scored[key].append(ScoredText(text, confidence))
    found = {} if of_nbest else multi_span_scores(texts, references, language)
    if has_all_confidences and any(scored.values()):
        found |= cuad_scores(scored, references)
    return {**found, "total": len(references)}


def _entry(entry: Any, place: str) -> tuple[str, float | None]:
    """Text and confidence; None where it has none."""
    text, confidence = entry, None
    if isinstance(entry, dict):
        text = entry.get("text")
        confidence = entry.get("probability", entry.get("score"))
        if confidence is not None and not (type(confidence) in (int, float) and 0 <= confidence <= 1):
            raise ValueError(f"{place}: a score is a number from 0 to 1, found {shown(confidence)}")
    if not isinstance(text, str):
        raise ValueError(f'{place}: an answer is a text, or an object with "text", found {shown(entry)}')
    return text, confidence
