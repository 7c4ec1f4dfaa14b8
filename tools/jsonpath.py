"""The part of kubectl's JSONPath templates that people use: text, {.field}, {.list[0]}, {.list[*].field},
{['a.b']}, {"\\n"} and {range .items[*]}...{end}.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\*|-?[0-9]{1,9})\]|\[('[^']*'|\"[^\"]*\")\]")
_TOKEN = re.compile(r"\{([^{}]*)\}")


class PathError(ValueError):
    """Whoever wrote the template must act."""


Step = str | int | None
"""A field, a place in a list, or all of a list."""


@dataclass(frozen=True)
class Path:
    steps: tuple[Step, ...]

    def values(self, document: Any) -> list[Any]:
        """What is there of it."""
        found = [document]
        for step in self.steps:
            found = [part for value in found for part in _parts(value, step)]
        return found

    def text(self, document: Any) -> str:
        return " ".join(map(plain, self.values(document)))


@dataclass(frozen=True)
class Range:
    """Its parts, once for each of its values."""

    over: Path
    parts: "tuple[Part, ...]"

    def text(self, document: Any) -> str:
        return "".join(part.text(value) for value in self.over.values(document) for part in self.parts)


@dataclass(frozen=True)
class Text:
    said: str

    def text(self, _document: Any) -> str:
        return self.said


Part = Path | Range | Text


def template(text: str) -> "Range":
    """PathError: it is none."""
    open_ranges: list[tuple[Path, list[Part]]] = [(Path(()), [])]
    position = 0
    for token in _TOKEN.finditer(text):
        _add_text(open_ranges[-1][1], text[position : token.start()])
        position = token.end()
        inside = token[1].strip()
        if inside.startswith("range "):
            open_ranges.append((path(inside.removeprefix("range ").strip()), []))
        elif inside == "end":
            if len(open_ranges) == 1:
                raise PathError("{end} without {range ...}")
            over, parts = open_ranges.pop()
            open_ranges[-1][1].append(Range(over, tuple(parts)))
        elif inside[:1] in ('"', "'"):
            open_ranges[-1][1].append(_text(_unquoted(inside)))
        else:
            open_ranges[-1][1].append(path(inside))
    if len(open_ranges) > 1:
        raise PathError("{range ...} without {end}")
    _add_text(open_ranges[0][1], text[position:])
    return Range(Path(()), tuple(open_ranges[0][1]))


def path(text: str) -> Path:
    """`.spec.host`, with or without the first dot, $ or braces. PathError: it is none."""
    inside = text.removeprefix("{").removesuffix("}").strip()
    inside = inside[1:] if inside[:1] in ("$", "@") else inside
    if inside and inside[0] not in ".[":
        inside = f".{inside}"
    steps: list[Step] = []
    position = 0
    while position < len(inside) and inside != ".":
        found = _STEP.match(inside, position)
        if found is None:
            raise PathError(f"{text!r} is not a path such as .spec.host or .items[*].spec.addresses[0]")
        field, index, quoted = found.groups()
        steps.append(field or (quoted[1:-1] if quoted else None if index == "*" else int(index)))
        position = found.end()
    return Path(tuple(steps))


def plain(value: Any) -> str:
    """As kubectl prints it: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _parts(value: Any, step: Step) -> Iterator[Any]:
    match value, step:
        case dict(), str() if step in value:
            yield value[step]
        case list(), int() if -len(value) <= step < len(value):
            yield value[step]
        case list(), None:
            yield from value
        case dict(), None:
            yield from value.values()


def _add_text(parts: list[Part], text: str) -> None:
    if "{" in text or "}" in text:
        raise PathError(f"{text}: is not a path: the brace has no other")
    if text:
        parts.append(_text(text))


def _text(said: str) -> Text:
    return Text(said.replace("\\n", "\n").replace("\\t", "\t"))


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[-1] != text[0]:
        raise PathError(f"{text}: the quote does not end")
    return text[1:-1]
