"""What happens to an agent. Each source is awaited by a thread of its own that only puts events into the
agent's inbox: the store's commits (the informer), the end of the data plane, devices, a signal to stop.
"""

import queue
import random
import select
import signal
import time
from collections.abc import Callable, Mapping, Set
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from dataplane.host.device_watch import DeviceWatch, Seen
from policy.agent.clock import Backoff, SystemClock
from policy.agent.port_links import Looked
from policy.compile.collection import uncollected
from policy.errors import CompactedError, UnavailableError
from policy.kinds import keys
from policy.store.contract import Batch, Change, Store, Watch
from policy.store.reading import items_under, newest

STORE_RETRY = 2.0
"""Seconds: as long does a store that can be had again wait at the most."""

BACKLOG = 256
"""Events that wait; whoever has another waits with it."""

_WATCH_SECONDS = 1.0
_RESYNC_SECONDS = 0.5
"""Before all is read again, at most: other hosts do the same."""

_FIRST_PAUSE, _LAST_PAUSE = 0.05, 1.0
"""Seconds before devices are listened to again; twice as long each time for who makes them come and go."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Resync:
    """All documents that the store has, at a revision."""

    revision: int
    items: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class StoreState:
    """problem: why the store can't be used; "" once it can again."""

    problem: str


@dataclass(frozen=True, slots=True)
class DataplaneGone:
    """The connection of that number has ended."""

    connection: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """The end of an inspection of devices. suspects: ports whose devices have gone or are not as they were
    left.
    """

    suspects: Set[str]


@dataclass(frozen=True, slots=True)
class Broken:
    """A source has ended by an error that nobody expected: nothing more is heard from it."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Stop:
    """A signal asks for it."""


AgentEvent = Resync | Batch | StoreState | DataplaneGone | Seen | Inspected | Looked | Broken | Stop


class Inbox(Protocol):
    def put(self, event: AgentEvent) -> None:
        """By any thread."""

    def wait(self, seconds: float) -> list[AgentEvent]:
        """All that has come, in order; where nothing has, what comes within that time."""


class QueuedInbox:
    def __init__(self) -> None:
        self._queue: queue.Queue[AgentEvent] = queue.Queue(BACKLOG)

    def put(self, event: AgentEvent) -> None:
        self._queue.put(event)

    def wait(self, seconds: float) -> list[AgentEvent]:
        found: list[AgentEvent] = []
        with suppress(queue.Empty):
            found.append(self._queue.get(timeout=max(seconds, 0.001)))
            while True:
                found.append(self._queue.get_nowait())
        return found


class Connection(Protocol):
    def fileno(self) -> int: ...
    def close(self) -> None: ...


def guarded(body: Callable[[], None], inbox: Inbox) -> None:
    """Runs a source; an agent that hears nothing more from one has to end."""
    try:
        body()
    except BaseException as error:
        inbox.put(Broken(error))


def await_stop(stop: Set[signal.Signals], inbox: Inbox) -> None:
    signal.sigwait(stop)
    inbox.put(Stop())


@dataclass
class _Position:
    """Up to where a store's commits have been heard of."""

    identity: str
    revision: int


def inform(open_store: Callable[[], Store], inbox: Inbox) -> None:
    """The informer: a resync, then every commit to the intent. A store that was out of reach is followed from
    where it was left; there is another resync only where the store no longer knows what came since, or is
    another one.
    """
    at: _Position | None = None
    retry = Backoff(SystemClock())
    while True:
        try:
            with closing(open_store()) as store:
                identity = store.identity()
                if at is None or at.identity != identity:
                    resync = _read(store, inbox)
                    at = _Position(identity, resync.revision)
                    inbox.put(resync)
                    del resync  # as large as the intent
                with store.watch(at.revision, [keys.INTENT]) as watch:
                    inbox.put(StoreState(""))
                    retry.reset()
                    _pass_on(watch, at, inbox)
        except CompactedError as error:
            log.info("loading all again", why=str(error))
            at = None
            time.sleep(random.uniform(0, _RESYNC_SECONDS))  # not all hosts at once
        except UnavailableError as error:
            inbox.put(StoreState(str(error)))
            pause = min(retry.seconds, STORE_RETRY) * random.uniform(0.5, 1)
            time.sleep(pause)  # on a thread of its own: nobody waits
            retry.again()


def _pass_on(watch: Watch, at: _Position, inbox: Inbox) -> NoReturn:
    """Every commit whole, however it comes."""
    parts: list[Change] = []
    while True:
        batch = watch.next(_WATCH_SECONDS)
        if batch is None:
            continue
        parts += batch.changes
        if batch.more:
            continue
        if parts:
            inbox.put(Batch(batch.revision, tuple(parts)))
        at.revision = batch.revision
        parts = []


def _read(store: Store, inbox: Inbox) -> Resync:
    """Of a store that nothing was ever written to, such as one that was made anew by mistake, not before
    something is: it says nothing, not that everything should go.
    """
    if not newest(store):
        inbox.put(StoreState("nothing was ever written to it"))
        with store.watch(0) as watch:
            while watch.next(_WATCH_SECONDS) is None:
                pass
    log.info("reading")
    with uncollected():
        revision = newest(store)
        return Resync(revision, items_under(store, keys.INTENT, revision))


def await_end(client: Connection, connection: int, inbox: Inbox) -> None:
    """client: a connection on which nothing is asked."""
    poller = select.poll()
    poller.register(client, select.POLLIN)
    poller.poll()  # it ends by itself, or is hung up
    client.close()
    inbox.put(DataplaneGone(connection))


def await_devices(watch: DeviceWatch, inbox: Inbox) -> None:
    pause = _FIRST_PAUSE
    while True:
        begun = time.monotonic()
        seen = watch.wait()
        if seen is None:
            return
        inbox.put(seen)
        pause = _FIRST_PAUSE if time.monotonic() - begun > _LAST_PAUSE else min(2 * pause, _LAST_PAUSE)
        time.sleep(pause)  # on a thread of its own: nobody waits
