"""Tables for people: rows of a JSON document in columns."""

from collections.abc import Iterator
from typing import Any


def columns(rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line a row under a heading from the keys of the first; nothing for no rows."""
    if not rows:
        return
    heading = [words(key).upper() for key in rows[0]]
    lines = [heading, *([cell(value) for value in row.values()] for row in rows)]
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


def words(key: str) -> str:
    """providerAddresses -> provider addresses, rx_bytes -> rx bytes"""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in key).replace("_", " ")
