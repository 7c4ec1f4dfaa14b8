"""Tables for people: rows of a JSON document in columns."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

HEADINGS = {
    "virtualSubnetId": "vsid",
    "customerAddress": "ca",
    "macAddress": "mac",
    "providerAddress": "pa",
    "providerAddresses": "pas",
    "vmSubnet": "subnet",
    "vmNetwork": "network",
    "logicalNetwork": "network",
    "routingDomain": "network",
}
"""Where the words of the key would take more room than what stands below."""


def columns(rows: list[dict[str, Any]], narrow: Collection[str] = (), headings: bool = True) -> Iterator[str]:
    """One line a row under a heading from the keys of the first; nothing for no rows.

    narrow: only these columns, in this order, and of lists the first and how many more; none given: all.
    """
    if not rows:
        return
    keys = list(narrow or rows[0])
    short = cell if not narrow else brief
    lines = [[short(row.get(key)) for key in keys] for row in rows]
    if headings:
        lines.insert(0, heading(keys))
    yield from aligned(lines)


def heading(keys: Iterable[str]) -> list[str]:
    return [HEADINGS.get(key, words(key)).upper() for key in keys]


def aligned(lines: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def cell(value: object) -> str:
    """A value as a person writes it: a dash for nothing, lists and the fields of objects with commas."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(cell, value)) or "-"
        case dict():
            return ", ".join(f"{words(str(key))} {cell(part)}" for key, part in value.items()) or "-"
    return str(value)


def brief(value: object) -> str:
    """Like cell, of a list the first and how many more there are."""
    match value:
        case [first, _, *_]:
            return f"{brief(first)} +{len(value) - 1}"
        case [first]:
            return brief(first)
        case dict() if "prefix" in value:
            return cell(value["prefix"])
    return cell(value)


def words(key: str) -> str:
    """providerAddresses -> provider addresses, rx_bytes -> rx bytes"""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in key).replace("_", " ")


def number(count: int, noun: str) -> str:
    """`1 object`, `2 objects`"""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def age(seconds: float) -> str:
    """In the largest unit that says something, as kubectl does: 45s, 5m, 3h, 12d."""
    for unit, size, most in (("s", 1, 120), ("m", 60, 120 * 60), ("h", 3600, 48 * 3600)):
        if seconds < most:
            return f"{max(int(seconds // size), 0)}{unit}"
    return f"{int(seconds // 86400)}d"


def listed(counts: Iterable[tuple[str, int]]) -> str:
    """`17 created, 2 unchanged`"""
    return ", ".join(f"{count} {what}" for what, count in counts if count)
