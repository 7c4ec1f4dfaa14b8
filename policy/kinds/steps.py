"""The steps of what may take long, told as they are made to whoever listens, a progress line say. Who makes
them knows nothing of it: nobody listens, and they cost next to nothing. Who listens is the thread's own; what
is pure but for its steps returns the same, whoever it is.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Step:
    """done, total: of what its text names; total 0: that is not known."""

    text: str
    total: int = 0
    done: int = 0


class Listener(Protocol):
    """A step may have others in it."""

    def begin(self, step: Step) -> None: ...
    def end(self, step: Step) -> None: ...


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """The steps of this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def step(text: str, total: int = 0) -> Iterator[Step]:
    made, listener = Step(text, total), _listener.get()
    if listener is None:
        yield made
        return
    listener.begin(made)
    try:
        yield made
    finally:
        listener.end(made)


def counted(items: Collection[T], text: str) -> Iterator[T]:
    """The items; each that has been taken is done."""
    with step(text, len(items)) as one:
        for one.done, item in enumerate(items):
            yield item
