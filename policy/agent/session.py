"""The agent's connection to the data plane of its host: made, lost, and made again."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import structlog

from dataplane.process.client import ClientError, GoneError
from policy.agent.clock import Backoff, Clock
from policy.agent.programmer import Core
from policy.agent.switch import Switch

CONNECT_SECONDS = 0.02
"""Between tries to find a data plane that is not there."""

_SETTLED_SECONDS = 1.0
"""A session that ends before is no sign that the next will not."""

_AWAY_SECONDS = 3.0
"""A data plane that is started again is back before."""

log = structlog.get_logger()


class Dataplane(Core, Switch, Protocol):
    """All that an agent asks of a data plane: dataplane.process.client.Client. Its errors: ClientError."""

    def announce(self) -> None: ...
    def report(self, report: Mapping[str, Any]) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def hang_up(self) -> None: ...


Connect = Callable[[], Dataplane]
"""GoneError: no data plane is there. Other ClientErrors: it is not to be had."""


class Session:
    """Two connections, so that the end of the data plane is heard while nothing is asked.

    await_end: waits on a thread of its own for the end of a connection, which it is given with its number.
    """

    def __init__(self, connect: Connect, clock: Clock, await_end: Callable[[Dataplane, int], None]) -> None:
        self._connect = connect
        self._clock = clock
        self._await_end = await_end
        self._idle: Dataplane | None = None
        self._away_since = clock.monotonic()
        self._since = 0.0  # when it was opened
        self.client: Dataplane | None = None
        self.number = 0
        """Of the connection: an end that is heard of late is that of an earlier one."""
        self._refusal = Backoff(clock)
        self._loss = Backoff(clock, CONNECT_SECONDS)  # amid a call

    @property
    def is_away_for_long(self) -> bool:
        return self.client is None and self._clock.monotonic() > self._away_since + _AWAY_SECONDS

    @property
    def due(self) -> float:
        """When the next may be opened: one that refuses, or goes soon or amid calls, is asked ever later."""
        return max(self._refusal.due, self._loss.due)

    def succeed(self) -> None:
        """It has done all that it was asked for."""
        self._refusal.reset()
        if self._is_settled:
            self._loss.reset()

    @property
    def _is_settled(self) -> bool:
        return self.client is not None and self._clock.monotonic() >= self._since + _SETTLED_SECONDS

    def open(self, take_up: Callable[[Dataplane], None]) -> None:
        """take_up: what has to go well for there to be a session. ClientError: there is none."""
        with ExitStack() as unless_open:
            client = self._connect()
            unless_open.callback(client.close)
            idle = self._connect()
            unless_open.callback(idle.close)
            try:
                take_up(client)
            except GoneError:
                self._loss.again()
                raise
            unless_open.pop_all()
        self.client, self._idle = client, idle
        self._since = self._clock.monotonic()
        self._await_end(idle, self.number)

    def lose(self, why: str, error: ClientError | None = None) -> None:
        """error: of a call."""
        is_settled = self._is_settled
        if is_settled:
            self._loss.reset()
        if isinstance(error, GoneError) or (error is None and not is_settled):
            self._loss.again()
        elif error is not None:
            log.error("the data plane refuses", why=why)
            self._refusal.again()
        if self.client is not None and self._idle is not None:
            log.warning("the data plane has gone", why=why)
            self.client.close()
            self._idle.hang_up()
            self.client = self._idle = None
            self.number += 1
            self._away_since = self._clock.monotonic()
