"""What people wrote, in messages about it: cut where it is long, and with what they may have meant."""

import difflib
from collections.abc import Iterable
from itertools import islice

LONGEST = 70
"""Characters of a value that a message repeats."""

_MOST_CANDIDATES = 10_000
"""Beyond it a look at all of them takes longer than a hint is worth."""


def cut(text: str) -> str:
    """The text, or how it begins and how long it is; what can't be printed is escaped."""
    if not text.isprintable():
        text = repr(text)[1:-1]
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def quoted(text: str) -> str:
    """As Python has it, so that blanks and what can't be printed are seen."""
    return repr(text) if len(text) <= LONGEST else f"{text[:LONGEST]!r}… ({len(text)} characters)"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Which of the known words is meant; upper and lower case do not matter."""
    return next(iter(near(word, known, 1)), None)


def near(word: str, known: Iterable[str], most: int, like: float = 0.6) -> list[str]:
    """Which of them may be meant, so many at most; the nearest first. like: how much, of 1, is alike."""
    if len(word) > LONGEST:
        return []
    by_lower = {each.lower(): each for each in sorted(islice(known, _MOST_CANDIDATES), reverse=True)}
    return [by_lower[each] for each in difflib.get_close_matches(word.lower(), by_lower, most, like)]


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about a word that is not known: "; did you mean …?", or `otherwise`."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near is not None else otherwise
