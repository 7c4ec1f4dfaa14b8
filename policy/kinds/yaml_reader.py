"""YAML documents with their lines, read field by field; what is wrong is collected, not raised.

The YAML is composed, not constructed: nodes keep their lines, YAML 1.1 can't turn a MAC into a base-60
number, and a duplicate key is seen.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import yaml

from policy.errors import Location, Problem
from policy.kinds.steps import Step, step
from policy.kinds.words import cut, nearest, quoted

T = TypeVar("T")
D = TypeVar("D")
Choice = TypeVar("Choice", bound=StrEnum)
Read = Callable[[yaml.Node], T]
"""A scalar node to its value; ValueError says what is wrong with it."""

_MAX_DEPTH = 32
_DECIMAL = re.compile(r"0|-?[1-9][0-9]*")
_MOST_DIGITS = 20
_TAG = "tag:yaml.org,2002:"
_TYPE_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "null": "nothing",
    "map": "a mapping",
    "seq": "a list",
    "timestamp": "a date",
    "merge": "a merge key",
}
_QUOTABLE = frozenset(_TAG + name for name in ("int", "float", "bool", "timestamp"))
_TRUE = frozenset({"true", "yes", "on"})


def compose(file: str, content: bytes) -> list["Document"]:
    """The documents of a file that are not empty; a list, as JSON has it, is one of documents.

    yaml.YAMLError: see `syntax_problem`.
    """
    with step(f"reading {file}", 2 * len(content)) as reading:
        _check_depth(content, reading)
        return list(_documents(file, content, reading))


def _documents(file: str, content: bytes, reading: Step) -> "Iterator[Document]":
    for node in yaml.compose_all(content, Loader=yaml.CSafeLoader):
        if node is not None:
            reading.done = len(content) + node.end_mark.index
        if isinstance(node, yaml.SequenceNode):
            yield from (Document(file, element) for element in node.value)
        elif node is not None and not _is_null(node):
            yield Document(file, node)


def _check_depth(content: bytes, reading: Step) -> None:
    """The composer recurses on the C stack, which deep nesting would overflow."""
    depth = 0
    for event in yaml.parse(content, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        mark: Any = event.start_mark  # the C loader's, which the stub of the error does not know
        reading.done = mark.index
        if depth > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)


def syntax_problem(file: str, content: bytes, error: yaml.YAMLError) -> Problem:
    """Why `compose` gave up, and where."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line = error.problem_mark.line + 1
        text = ", ".join(part for part in (error.context, error.problem) if part)
    else:  # ReaderError: bytes that are no text
        line = content.count(b"\n", 0, getattr(error, "position", 0)) + 1
        text = str(error).splitlines()[0]
    return Problem("", "", f"not YAML: {text}", Location(file, line))


@dataclass
class Document:
    """One YAML document on its way to an object: where its fields are and what is wrong with them.

    revision: of the object that it says it is an edit of.
    """

    file: str
    root: yaml.Node
    subject: str = ""
    revision: int | None = None
    lines: dict[str, Location] = field(default_factory=dict)
    findings: list[tuple[str, str, Location]] = field(default_factory=list)
    sections: list["Fields"] = field(default_factory=list)

    @property
    def problems(self) -> list[Problem]:
        """Made at the end: the subject's name may stand below what is wrong."""
        return [Problem(self.subject, cut(path), text, location) for path, text, location in self.findings]

    def location(self, node: yaml.Node) -> Location:
        return Location(self.file, node.start_mark.line + 1)

    def mark(self, path: str, node: yaml.Node) -> None:
        self.lines.setdefault(path, self.location(node))

    def locate(self, path: str) -> Location:
        return self.lines.get(path) or self.lines[""]

    def report(self, path: str, text: str, around: str | None = None) -> None:
        """A problem at `path`; located at `around` if the path itself is not there."""
        self.findings.append((path, text, self.locate(path if around is None else around)))


class Fields:
    """A YAML mapping, read field by field. What nobody asked for by the time of `close` is unknown.

    Of a mapping that is not there, or is none, nothing is missing: that was reported already, or is allowed.
    """

    def __init__(self, document: Document, node: yaml.Node | None, path: str) -> None:
        self._document = document
        self._path = path
        self._nodes: dict[str, yaml.Node] = {}
        self._asked: set[str] = set()
        self._missing: list[str] = []
        self._wrong: set[str] = set()
        self._there = isinstance(node, yaml.MappingNode)
        document.sections.append(self)
        if isinstance(node, yaml.MappingNode):
            self._index(node)
        elif node is not None:
            document.report(path, f"expected a mapping, not {_type_name(node)}")

    def _index(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            name, location = key.value, self._document.location(key)
            if not isinstance(key, yaml.ScalarNode):
                text = f"expected a string as key, not {_type_name(key)}"
                self._document.findings.append((self._path, text, location))
            elif name in self._nodes:
                text = f"stated twice, first on line {self._document.locate(self.path(name)).line}"
                self._document.findings.append((self.path(name), text, location))
            else:
                self._nodes[name] = value
                self._document.mark(self.path(name), key)

    def path(self, key: str) -> str:
        return ".".join(part for part in (self._path, key) if part)

    def has(self, key: str) -> bool:
        return self._get(key) is not None

    def one(self, key: str, read: Read[T], default: D, *, required: bool = False) -> T | D:
        """The value of a scalar field; `default` when it is left out or wrong."""
        node = self._get(key, required)
        if node is None:
            return default
        value = self._read(node, self.path(key), read)
        if value is None:
            self._wrong.add(key)
            return default
        return value

    def wrong(self, key: str) -> bool:
        """Whether `one` met a value it could not read."""
        return key in self._wrong

    def items(self, key: str, read: Read[T], *, required: bool = False) -> tuple[T, ...]:
        """The values of a list of scalars; none at all when one of them is wrong."""
        elements = [self._read(node, path, read) for path, node in self._elements(key, required)]
        values = tuple(value for value in elements if value is not None)
        return values if len(values) == len(elements) else ()

    def pass_over(self, *keys: str) -> None:
        """Whatever they hold, it is known and means nothing here."""
        self._asked.update(keys)

    def section(self, key: str, *, required: bool = False) -> "Fields":
        """The mapping of a field, an empty one when it is left out or wrong."""
        return Fields(self._document, self._get(key, required), self.path(key))

    def sections(self, key: str) -> list["Fields"]:
        return [Fields(self._document, node, path) for path, node in self._elements(key, required=True)]

    def pairs(self, key: str, read: Read[T], check: Callable[[str], object]) -> tuple[tuple[str, T], ...]:
        """The keys and values of a mapping whose keys are the author's own, sorted; the wrong ones are left
        out.
        """
        section = self.section(key)
        found: list[tuple[str, T]] = []
        for name in sorted(section._nodes):
            value = section.one(name, read, None, required=True)
            try:
                check(name)
            except ValueError as error:
                section.report(name, str(error))
            else:
                found += [(name, value)] if value is not None else []
        return tuple(found)

    def report(self, key: str, text: str) -> None:
        path = self.path(key)
        self._document.report(path, text, path if path in self._document.lines else self._nearest())

    def close(self) -> None:
        """Report what is unknown, and what is missing unless it was misspelt."""
        free = sorted(self._asked - self._nodes.keys())
        misspelt: set[str] = set()
        for name in self._nodes.keys() - self._asked:
            near = nearest(name, free) or nearest(name, self._asked)
            self.report(name, f"unknown field; did you mean {near}?" if near else "unknown field")
            misspelt |= {near} if near else set()
        for name in self._missing:
            if name not in misspelt:
                self.report(name, "missing")

    def _nearest(self) -> str:
        return self._path if self._path in self._document.lines else ""

    def _get(self, key: str, required: bool = False) -> yaml.Node | None:
        self._asked.add(key)
        node = self._nodes.get(key)
        if node is not None and not _is_null(node):
            return node
        if required and self._there:
            self._missing.append(key)
        return None

    def _elements(self, key: str, required: bool) -> list[tuple[str, yaml.Node]]:
        node = self._get(key, required)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.report(key, f"expected a list, not {_type_name(node)}")
            return []
        if required and not node.value:
            self.report(key, "empty")
        elements = [(f"{self.path(key)}[{index}]", element) for index, element in enumerate(node.value)]
        for path, element in elements:
            self._document.mark(path, element)
        return elements

    def _read(self, node: yaml.Node, path: str, read: Read[T]) -> T | None:
        try:
            return read(node)
        except ValueError as error:
            self._document.report(path, str(error))
            return None


# ---- scalars -------------------------------------------------------------------------------------


def _is_null(node: yaml.Node) -> bool:
    return node.tag == _TAG + "null"


def _type_name(node: yaml.Node) -> str:
    short = node.tag.removeprefix(_TAG)
    return _TYPE_NAMES.get(short, f"a {node.tag}")


def text(node: yaml.Node) -> str:
    """A string. YAML 1.1 takes a MAC such as 10:20:30:40:50:60 for a base-60 number: the text counts."""
    base_60 = node.tag in {_TAG + "int", _TAG + "float"} and ":" in node.value
    if node.tag == _TAG + "str" or base_60:
        return str(node.value)
    hint = f'; quote it: "{cut(node.value)}"' if node.tag in _QUOTABLE else ""
    raise ValueError(f"expected a string, not {_type_name(node)}{hint}")


def integer(node: yaml.Node) -> int:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "int":
        raise ValueError(f"expected an integer, not {_type_name(node)}")
    if not _DECIMAL.fullmatch(node.value):
        raise ValueError(f"expected decimal digits, not {_notation(node.value)} {cut(node.value)}")
    if len(node.value) > _MOST_DIGITS:
        raise ValueError(f"{cut(node.value)} is out of all bounds")
    return int(node.value)


def _notation(number: str) -> str:
    """Of YAML 1.1, which has more than one for the same digits."""
    digits = number.lstrip("+-").lower()
    if ":" in digits:
        return "the base-60 number"
    if "_" in digits:
        return "digits with underscores:"
    if digits.startswith("0x"):
        return "the hexadecimal number"
    if digits.startswith("0b"):
        return "the binary number"
    return "the octal number" if digits.startswith("0") else "a sign:"


def boolean(node: yaml.Node) -> bool:
    if node.tag != _TAG + "bool":
        raise ValueError(f"expected true or false, not {_type_name(node)}")
    return node.value.lower() in _TRUE


def from_text(parse: Callable[[str], T]) -> Read[T]:
    return lambda node: parse(text(node))


def one_of(choices: type[Choice]) -> Read[Choice]:
    def read(node: yaml.Node) -> Choice:
        value = text(node)
        if value not in set(choices):
            raise ValueError(f"{quoted(value)} is none of: {', '.join(choices)}")
        return choices(value)

    return read
