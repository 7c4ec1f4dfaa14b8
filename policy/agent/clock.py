"""Time, as an agent is given it: a test gives it another."""

import time
from dataclasses import dataclass, field
from typing import Protocol

FIRST_RETRY, LAST_RETRY = 0.5, 30.0
"""Seconds: each retry waits twice as long as the one before."""


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that only grow, for what is due."""

    def time(self) -> float:
        """Seconds since 1970, for what people read."""


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()


@dataclass
class Backoff:
    """When to try again: at once, until again() says that a try has failed."""

    clock: Clock
    first: float = FIRST_RETRY
    due: float = field(default=0.0, init=False)
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        self.seconds = self.first

    @property
    def is_due(self) -> bool:
        return self.clock.monotonic() >= self.due

    def again(self) -> None:
        self.due = self.clock.monotonic() + self.seconds
        self.seconds = min(2 * self.seconds, LAST_RETRY)

    def reset(self) -> None:
        self.seconds, self.due = self.first, 0.0
