"""How far a command has come: one line on a terminal, once it takes long, while it is in one of its steps.
Nothing of it goes anywhere but to a terminal that is stderr.
"""

import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from policy.kinds import steps
from policy.kinds.steps import Step
from policy.kinds.words import cut

F = TypeVar("F", bound=Callable[..., Any])

PATIENCE = 2.0
"""Seconds before there is one."""
_EVERY = 0.25
_PAUSE = 1.0
"""Between steps: what comes after a longer one, of a command that waits, begins anew."""
_NARROWEST = 20


class Line:
    """Steps begin and end in one thread, tick() is called in another, all the time."""

    def __init__(self, terminal: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._clock = clock
        self._begun = self._ended = -math.inf
        self._lock = threading.Lock()
        self._steps: list[Step] = []
        self._width = 0  # of what stands there

    def begin(self, step: Step) -> None:
        with self._lock:
            now = self._clock()
            if not self._steps and now > self._ended + _PAUSE:
                self._begun = now
            self._steps.append(step)

    def end(self, step: Step) -> None:
        """What the command prints next has the line for itself."""
        with self._lock:
            if step in self._steps:  # not after close()
                self._steps.remove(step)
            if not self._steps:
                self._ended = self._clock()
                self._show("")

    def close(self) -> None:
        """Also of steps that somebody holds, a traceback say, nothing stays there."""
        with self._lock:
            self._steps.clear()
            self._show("")

    def tick(self) -> None:
        with self._lock:
            seconds = self._clock() - self._begun
            if self._steps and seconds >= PATIENCE:
                self._show(f"{', '.join(map(_words, self._steps))}, {seconds:.0f} s")

    def _show(self, text: str) -> None:
        """Over what stands there; by blanks, which every terminal knows."""
        if text or self._width:
            text = text[: max(_columns(self._terminal) - 1, _NARROWEST)]
            blank = f"\r{' ' * self._width}\r" if len(text) < self._width else "\r"
            self._terminal.write(blank + text)
            self._terminal.flush()
            self._width = len(text)


def _words(step: Step) -> str:
    text = cut(step.text)
    return f"{text} {100 * step.done // step.total} %" if step.total else text


def _columns(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def shows_progress(command: F) -> F:
    """Of a command."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        with shown():
            return command(*args, **options)

    return run  # type: ignore[return-value]


@contextmanager
def shown() -> Iterator[None]:
    """The steps of what is done in here, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    line, end = Line(sys.stderr), threading.Event()

    def run() -> None:
        while not end.wait(_EVERY):
            line.tick()

    ticking = threading.Thread(target=run, name="progress", daemon=True)
    ticking.start()
    try:
        with steps.told_to(line):
            yield
    finally:
        end.set()
        ticking.join()
        line.close()
