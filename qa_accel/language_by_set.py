"""--answer_language as it is written: one code, or SET=CODE for each set of several. Without torch or `datasets`."""

from collections.abc import Mapping, Sequence

from qa_accel.answer_language import ENGLISH, check_language
from qa_accel.messages import listed, short

DEFAULT = (ENGLISH,)


def check_languages(given: Sequence[str]) -> None:
    """Raises ValueError for what is neither one language nor a language for each of several sets."""
    if any(word.startswith("=") for word in given):
        raise ValueError(f"answer_language must have a set's name before =, got {short(' '.join(given), 100)!r}")
    if isinstance(given, str) or not given:
        raise ValueError(f"answer_language must be a tuple of languages, got {given!r}")
    for _, language in map(_divided, given):
        check_language(language)
    names = [name for name, _ in map(_divided, given)]
    if "" in names and len(names) > 1:
        raise ValueError(
            f"answer_language must be one language, or SET=LANGUAGE for each named set, got {short(' '.join(given), 100)}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"answer_language must have one language for each set, got {short(' '.join(given), 100)!r}")


def language_by_set(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Name of each set -> its language. Raises ValueError for a set without one, and for a name that is no set's."""
    if "=" not in given[0]:
        return dict.fromkeys(names, given[0])
    languages = dict(map(_divided, given))
    if unknown := languages.keys() - set(names):
        raise ValueError(
            f"--answer_language names the set {min(unknown)}, which is none of the sets that are scored: {listed(names)}"
        )
    if missing := set(names) - languages.keys():
        raise ValueError(
            f"--answer_language names a language for {listed(languages)}, but not for the set {min(missing)}"
        )
    return languages


def languages_of_sets(given: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """What a run with more sets says of these."""
    return tuple(word for word in given if "=" not in word or _divided(word)[0] in names)


def by_id(by_set: Mapping[str, str], set_of: Mapping[str, str]) -> dict[str, str]:
    return {key: by_set[name] for key, name in set_of.items()}


def _divided(word: str) -> tuple[str, str]:
    name, equals, language = word.partition("=")
    return (name, language) if equals else ("", word)
