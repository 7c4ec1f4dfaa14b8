"""What happens to an agent, each awaited by a thread of its own that only puts it into the agent's queue:
changes of the store, the end of the data plane, devices that come or go, a signal to stop.
"""

import queue
import select
import signal
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

import structlog

from dataplane.client import Client
from dataplane.device_watch import DeviceWatch, Seen
from policy import documents
from policy.host_view import uncollected
from policy.store import Batch, CompactedError, Store, UnavailableError

FIRST_RETRY, LAST_RETRY = 0.5, 30.0
"""Seconds: each retry waits twice as long as the one before."""

STORE_RETRY = 2.0
"""Seconds: as long does a store that can be had again wait at the most."""

BACKLOG = 256
"""Happenings that wait; whoever has another waits with it."""

_LOOK_SECONDS = 1.0

_FIRST_PAUSE, _LAST_PAUSE = 0.05, 1.0
"""Seconds before devices are looked at again; twice as long each time for one who makes them come and go."""

log = structlog.get_logger()


@dataclass
class Backoff:
    """When to try again."""

    seconds: float = FIRST_RETRY
    due: float = field(default_factory=time.monotonic)

    def again(self) -> None:
        self.due = time.monotonic() + self.seconds
        self.seconds = min(2 * self.seconds, LAST_RETRY)


@dataclass(frozen=True, slots=True)
class Stored:
    """The documents that the store has at a revision."""

    revision: int
    items: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Stop:
    """A signal asks for it."""


@dataclass(frozen=True, slots=True)
class DataplaneGone:
    """The connection of that number has ended."""

    connection: int


@dataclass(frozen=True, slots=True)
class StoreState:
    """problem: why the store can't be used; "" once it can again."""

    problem: str


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Ports whose devices have gone or are not as they were left, by a look that has ended."""

    names: Set[str]


@dataclass(frozen=True, slots=True)
class Broken:
    """A thread that waits has ended by an error that nobody expected: nothing more is heard from it."""

    error: BaseException


Happening = Stored | Batch | StoreState | DataplaneGone | Seen | Doubtful | Stop | Broken
Happenings = queue.Queue[Happening]


def guarded(body: Callable[[], None], happenings: Happenings) -> None:
    try:
        body()
    except BaseException as error:
        happenings.put(Broken(error))


def await_stop(stop: Set[signal.Signals], happenings: Happenings) -> None:
    signal.sigwait(stop)
    happenings.put(Stop())


def follow(open_store: Callable[[], Store], happenings: Happenings) -> None:
    """A snapshot of the intent, then every commit to it; another one when what came since is forgotten."""
    since: int | None = None
    retry = Backoff()
    while True:
        try:
            store = open_store()
            try:
                if since is None:
                    stored = _read(store, happenings)
                    since = stored.revision
                    happenings.put(stored)
                    del stored  # as large as the intent
                with store.watch(since, documents.PREFIX) as watch:
                    happenings.put(StoreState(""))
                    retry = Backoff()
                    while True:
                        batch = watch.next(_LOOK_SECONDS)
                        if batch is not None:
                            since = batch.revision
                            if batch.changes:
                                happenings.put(batch)
            finally:
                store.close()
        except CompactedError as error:
            log.info("loading all again", why=str(error))
            since = None
        except UnavailableError as error:
            since = None  # what comes back may be another store, one restored from a copy
            happenings.put(StoreState(str(error)))
            time.sleep(min(retry.seconds, STORE_RETRY))  # on a thread of its own: nobody waits
            retry.again()


def _read(store: Store, happenings: Happenings) -> Stored:
    """Of a store that nothing was ever written to, such as one that was made anew by mistake, not before
    something is: it says nothing, not that everything should go.
    """
    if not store.snapshot(keys=()).revision:
        happenings.put(StoreState("nothing was ever written to it"))
        with store.watch(0) as watch:
            while watch.next(_LOOK_SECONDS) is None:
                pass
    log.info("reading")
    with uncollected():
        return Stored(*store.items(documents.PREFIX))


def await_end(client: Client, connection: int, happenings: Happenings) -> None:
    """client: a connection on which nothing is asked."""
    poller = select.poll()
    poller.register(client, select.POLLIN)
    poller.poll()  # it ends by itself, or is hung up
    client.close()
    happenings.put(DataplaneGone(connection))


def await_devices(watch: DeviceWatch, happenings: Happenings) -> None:
    pause = _FIRST_PAUSE
    while True:
        begun = time.monotonic()
        seen = watch.wait()
        if seen is None:
            return
        happenings.put(seen)
        pause = _FIRST_PAUSE if time.monotonic() - begun > _LAST_PAUSE else min(2 * pause, _LAST_PAUSE)
        time.sleep(pause)  # on a thread of its own: nobody waits
