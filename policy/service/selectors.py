"""Label selectors: `app=web,tier!=db,zone in (a, b),!legacy`. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from policy.errors import SelectorError
from policy.kinds import scalars


class Operator(StrEnum):
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    MISSING = "!"


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.MISSING:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """Matches what meets all of its requirements; without any, everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(each.matches(labels) for each in self.requirements)

    def __bool__(self) -> bool:
        return bool(self.requirements)


EVERYTHING = Selector()

_KEY = r"\s*(?P<key>[^\s!=,()]+)\s*"
_EQUALITY = re.compile(_KEY + r"(?P<operator>==|=|!=)\s*(?P<value>[^\s!=,()]*)\s*")
_SET = re.compile(_KEY + r"(?<=\s)(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)\s*")
_PRESENCE = re.compile(r"\s*(?P<missing>!?)" + _KEY)
_PART = re.compile(r"(?:[^,(]|\([^)]*\)?)+")
"""Commas within parentheses do not part."""


def parse(text: str) -> Selector:
    """SelectorError: it is none."""
    if not text.strip():
        return EVERYTHING
    parts = _PART.findall(text)
    if len(text) != sum(map(len, parts)) + len(parts) - 1:
        raise SelectorError(f"{text!r} is not a selector: nothing between two commas")
    return Selector(tuple(map(_requirement, parts)))


def _requirement(text: str) -> Requirement:
    if found := _EQUALITY.fullmatch(text):
        operator = Operator.NOT_IN if found["operator"] == "!=" else Operator.IN
        return Requirement(_key(found["key"]), operator, frozenset({_value(found["value"])}))
    if found := _SET.fullmatch(text):
        values = frozenset(_value(value.strip()) for value in found["values"].split(","))
        return Requirement(_key(found["key"]), Operator(found["operator"]), values)
    if found := _PRESENCE.fullmatch(text):
        return Requirement(_key(found["key"]), Operator.MISSING if found["missing"] else Operator.EXISTS)
    hint = "KEY, !KEY, KEY=VALUE, KEY!=VALUE, KEY in (VALUE, …), KEY notin (VALUE, …)"
    raise SelectorError(f"{text.strip()!r} is not a requirement on labels: {hint}")


def _key(text: str) -> str:
    try:
        scalars.parse_label_key(text)
    except ValueError as error:
        raise SelectorError(str(error)) from None
    return text


def _value(text: str) -> str:
    try:
        scalars.parse_label(text)
    except ValueError as error:
        raise SelectorError(str(error)) from None
    return text
