"""What is done to many devices at once."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 16
"""Devices that are opened or removed side by side: the kernel may take 50 ms to bring one up, in which the
system call does not return.
"""

T = TypeVar("T")
U = TypeVar("U")


def side_by_side(function: Callable[[U], T], items: Collection[U]) -> list[T]:
    """In the order of items; each is done whatever becomes of the others."""
    if len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE, "device") as pool:
        begun = [pool.submit(function, item) for item in items]
    return [each.result() for each in begun]
