"""What several rules need: a value and where it is stated, two uses of one, and where each can be mended."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from policy.errors import ObjectId, Problem
from policy.kinds.model import Address, Intent, Prefix

Problems = Iterator[Problem]


class Use(NamedTuple):
    """A value, such as an address or a prefix, and where it is stated: the object and the field's path."""

    value: Any
    owner: ObjectId
    path: str


def in_turn(intent: Intent, one: Use, other: Use) -> tuple[Use, Use]:
    """Two that don't go together: who was first, and who is told. Where the store has one of them it is the
    other, which a file states: there it can be mended.
    """
    if intent.is_stored(other.owner) and not intent.is_stored(one.owner):
        return other, one
    return one, other


def used_twice(intent: Intent, uses: Iterable[Use]) -> Iterator[tuple[Use, Use]]:
    """(first, again) for every value of which there can be one use only."""
    first: dict[Any, Use] = {}
    for use in uses:
        there = first.setdefault(use.value, use)
        if there is not use:
            first[use.value], again = in_turn(intent, there, use)
            yield first[use.value], again


def doubled(values: Iterable[Any]) -> set[Any]:
    """Those that are there more than once: of the million that all ports state hardly any, and only of those
    a rule needs to know the uses.
    """
    seen: set[Any] = set()
    again: set[Any] = set()
    for value in values:
        (again if value in seen else seen).add(value)
    return again


def overlaps(intent: Intent, uses: Iterable[Use]) -> Iterator[tuple[Use, Use]]:
    """(first, again) for every prefix that lies in another one; prefixes overlap in no other way. Of two in
    files the one inside is told.
    """
    outer: Use | None = None
    for use in sorted(
        uses, key=lambda use: (use.value.version, int(use.value.network_address), use.value.prefixlen)
    ):
        if outer is not None and use.value.overlaps(outer.value):
            yield in_turn(intent, outer, use)
        else:
            outer = use


def misfit_of(address: Address, prefix: Prefix, gateway: Address | None = None) -> str:
    """Why a host or gateway in `prefix` can't have this address; "" if it can."""
    if address not in prefix:
        return f"{address} is not inside {prefix}"
    if address == gateway:
        return f"{address} is the gateway of {prefix}"
    if address == prefix.network_address:
        return f"{address} is the network address of {prefix}"
    if prefix.version == 4 and address == prefix.broadcast_address:
        return f"{address} is the broadcast address of {prefix}"
    return ""


def mended_at(intent: Intent, told: ObjectId, other: ObjectId) -> str:
    """Where the other one is stated, if the one that is told of is in the store and was right there."""
    return where(intent, other) if intent.is_stored(told) and not intent.is_stored(other) else ""


def holder(intent: Intent, use: Use) -> str:
    """Who has a value, and at which line: of two that clash either may be the one that is wrong."""
    lines = intent.sources.get(use.owner, {})
    return f"{use.owner}{f' at {lines[use.path]}' if use.path in lines else where(intent, use.owner)}"


def where(intent: Intent, subject: ObjectId) -> str:
    location = intent.problem(subject, "metadata.name", "").location
    return f" at {location}" if location else ""
