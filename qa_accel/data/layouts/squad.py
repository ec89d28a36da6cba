"""Nested SQuAD, and its paragraphs without articles around them.

- An article with "paragraphs", each with "qas": SQuAD, CUAD, KorQuAD 1, DRCD, CMRC in SQuAD's form, TyDi QA GoldP.
- A paragraph with "qas": simpletransformers. KorQuAD 2 too, whose one `answer` has two places: `text` is at `answer_start`
  of `context`, and `html_answer_text` at `html_answer_start` of `raw_html`; public loaders of the set pair them like that.
  Context and answer are read as they are there, with the tags.
"""

from collections.abc import Iterator
from typing import Any

from qa_accel.data.layouts.layout import File, Layout, NotedRow, Place
from qa_accel.messages import quoted

NAME = "nested SQuAD"


def paragraph_questions(
    paragraph: dict[str, Any], place: Place, shared: dict[str, Any] | None = None
) -> Iterator[NotedRow]:
    """A paragraph's questions, each with the paragraph's other values and the shared ones."""
    # A paragraph's own id would otherwise be taken as the id of a question without one.
    common = {key: value for key, value in paragraph.items() if key not in ("qas", "id")} | (shared or {})
    for question in place.list(paragraph, "qas"):
        yield place.where, {**common, **place.object(question)}


def _article_rows(element: dict[str, Any], position: int, file: File) -> Iterator[NotedRow]:
    title = element.get("title")
    shared = {"title": title} if title is not None else {}
    article = f"article {position} {quoted(title)}" if shared else f"article {position}"
    for place, paragraph in file.place(NAME, article).objects(element, "paragraphs", "paragraph"):
        yield from paragraph_questions(paragraph, place, shared)


def _paragraph_rows(element: dict[str, Any], position: int, file: File) -> Iterator[NotedRow]:
    yield from paragraph_questions(element, file.place(NAME, f"paragraph {position}"))


ARTICLES = Layout(NAME, ("title", "paragraphs"), lambda element: "paragraphs" in element, _article_rows)
PARAGRAPHS = Layout("a list of paragraphs", ("context", "qas"), lambda element: "qas" in element, _paragraph_rows)
