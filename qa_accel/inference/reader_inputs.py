"""What callers of `Reader` give -> pairs of texts, one by one, with an error that names the row of what is none."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from qa_accel.messages import shown

T = TypeVar("T")
Shape = Literal["one", "list", "stream"]
"""What comes back: one result, a list of results, or an iterator over them."""


def question_and_context(given: Any, row: int) -> tuple[str, str]:
    """The two texts of one input. Raises ValueError, with the row, for anything else."""
    question: Any
    context: Any
    if isinstance(given, Mapping):
        question, context = given.get("question"), given.get("context")
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        question, context = given
    else:
        raise ValueError(
            f"row {row}: {shown(given)}; expected (question, context), or a mapping with the keys question and context"
        )
    for name, text in (("question", question), ("context", context)):
        check_text(text, f"row {row}", name)
    return question, context


def check_text(text: Any, place: str, name: str) -> None:
    """Raises ValueError, with place and name, for what is not text, or holds half of a surrogate pair."""
    if not isinstance(text, str):
        raise ValueError(f"{place}: the {name} is {shown(text)}; text is expected")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place}: character {error.start} of the {name} is half of a surrogate pair, which is not a character"
        ) from None


def is_many(given: Any) -> bool:
    """Whether this is an iterable of inputs, and not a text or a mapping, which can be iterated over too."""
    return isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping))


def as_list(given: Any) -> Any:
    """A sequence of any kind as a list: a tuple, a column of a data set, an array, a series. Anything else as it is."""
    if not is_many(given) or not isinstance(given, Collection) or not hasattr(given, "__getitem__"):
        return given
    return list(given) if getattr(given, "ndim", 1) == 1 else given  # an array of rows is none of texts


def call_inputs(given: tuple[Any, ...], question: Any, context: Any) -> tuple[Iterable[Any], Shape]:
    """The inputs of one call, in any form that the removed pipeline took. Raises ValueError for another form."""
    if given and (question is not None or context is not None):
        raise ValueError("give question and context by keyword, or inputs by position, not both")
    if len(given) > 2:
        raise ValueError(
            f"{len(given)} inputs by position; expected question and context, or one list, iterator or mapping"
        )
    if len(given) == 2:
        question, context = given
    elif given:
        return _given_alone(given[0])
    question, context = as_list(question), as_list(context)
    if isinstance(question, list) and isinstance(context, str):
        context = [context] * len(question)
    if isinstance(question, list) and isinstance(context, list):
        if len(question) != len(context):
            raise ValueError(f"{len(question)} questions and {len(context)} contexts; expected as many of each")
        return list(zip(question, context)), "list"
    if isinstance(question, str) and isinstance(context, list):
        raise ValueError(
            f"one question and {len(context)} contexts: use rank(question, documents) to search several documents, or give "
            "the question once for each context"
        )
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str):
            raise ValueError(f"the {name} is {shown(text)}; expected text, or a list of texts")
    return [(question, context)], "one"


def _given_alone(given: Any) -> tuple[Iterable[Any], Shape]:
    if isinstance(given, Mapping):
        return [given], "one"
    if not is_many(given):
        raise ValueError(
            f"{shown(given)}; expected question and context, a mapping with these keys, or a list or another iterable of such"
        )
    return given, "list" if isinstance(given, (list, tuple)) else "stream"


def filled_pair(given: Any, row: int) -> tuple[str, str]:
    """The two texts of one input, neither empty. Raises KeyError for a mapping without a key, as the removed pipeline did,
    else ValueError."""
    if isinstance(given, Mapping):
        for key in ("question", "context"):
            if key not in given:
                raise KeyError(f"row {row}: the key {key} is missing; it has {', '.join(map(str, given)) or 'no key'}")
    pair = question_and_context(given, row)
    for name, text in zip(("question", "context"), pair):
        if not text:
            raise ValueError(f"row {row}: the {name} is empty")
    return pair


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size`; no more is read than the next list needs. An error of `values` comes after what was read."""
    chunk: list[T] = []
    try:
        for value in values:
            chunk.append(value)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def documents_with_ids(documents: Any) -> tuple[list[Any], list[str]]:
    """Ids and texts of documents: texts (their ids are their places), (id, text) pairs, mappings with the keys id and text,
    or one mapping from id to text. Raises ValueError, with the place, for anything else and for an id that comes twice."""
    if isinstance(documents, Mapping):
        documents = list(documents.items())
    if not is_many(documents):
        raise ValueError(
            f"the documents are {shown(documents)}; expected a list of texts, of (id, text) pairs or of mappings with the "
            "keys id and text, or a mapping from id to text"
        )
    ids: list[Any] = []
    texts: list[str] = []
    for place, given in enumerate(documents):
        key, text = _id_and_text(given, place)
        check_text(text, f"document {place}", "text")
        ids.append(key)
        texts.append(text)
    if len(set(map(repr, ids))) < len(ids):
        seen: set[str] = set()
        twice = next(key for key in ids if repr(key) in seen or seen.add(repr(key)))
        raise ValueError(f"two documents have the id {shown(twice)}; ids must differ")
    return ids, texts


def _id_and_text(given: Any, place: int) -> tuple[Any, Any]:
    if isinstance(given, str):
        return place, given
    if isinstance(given, Mapping) and {"id", "text"} <= given.keys():
        return given["id"], given["text"]
    if isinstance(given, Sequence) and not isinstance(given, bytes) and len(given) == 2:
        return given[0], given[1]
    raise ValueError(
        f"document {place}: {shown(given)}; expected a text, (id, text), or a mapping with the keys id and text"
    )
