"""What an agent says in the store of the intent on its host: for `apply --wait`, `describe` and others."""

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from policy.agent.clock import Backoff, Clock
from policy.agent.programmer import PushResult
from policy.agent.sources import BACKLOG
from policy.errors import LeaseError
from policy.kinds import keys
from policy.service import events
from policy.service.events import Event
from policy.service.host_state import FAILED, HostState
from policy.store.contract import Store

_FAREWELL_SECONDS = 1.0

ALIVE_SECONDS = 30.0
"""As long after its agent was there last a host's status is still in the store."""

STUCK_SECONDS = 120.0
"""As long after its agent took its last turn, too: it is there, but does nothing. A unit's watchdog waits as
long.
"""

_HEARTBEAT_SECONDS = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HostStatus:
    """state: APPLIED or FAILED, of this revision. ports: those that each has one of the problems; the
    others are the host's. objects: whom the problems are about besides, as ObjectIds print. digest: of all
    rows that the data plane has; "" where that is not known. links: see HostState.
    """

    revision: int
    state: str
    problems: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    digest: str = ""
    links: Mapping[str, str] | None = None


class Reporter(Protocol):
    def report(self, status: HostStatus, result: PushResult | None = None) -> None:
        """result: of pushing rows, if some were."""

    def forget(self) -> None:
        """The store may be another: say all again."""

    def turned(self) -> None:
        """The agent's loop has taken a turn."""

    def close(self) -> None:
        """What was said last is told if the store takes it now."""


@dataclass(frozen=True, slots=True)
class _Update:
    """state: of the host; event: None where nothing is to be remembered. anew: whatever was said before it
    may be gone.
    """

    state: HostState
    event: Event | None
    anew: bool = False


class StatusReporter:
    """Says in the store what has become of the intent on this host. On a thread of its own: a store that is
    locked or can't be had holds up nothing, and is told once it can be.

    What it says is under a lease that it keeps alive: of a host whose agent is gone, or takes no turn any
    more, nothing is said.
    """

    def __init__(self, open_store: Callable[[], Store], host: str, clock: Clock) -> None:
        self._open_store = open_store
        self._host = host
        self._clock = clock
        self._store: Store | None = None
        self._lease = ""
        self._last: _Update | None = None
        self._links: bytes | None = None  # what the store has under the lease
        self._said: HostState | None = None
        self._turned = clock.monotonic()
        self._updates: queue.SimpleQueue[_Update | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._thread.start()

    def report(self, status: HostStatus, result: PushResult | None = None) -> None:
        said = self._said.generation if self._said else 0
        state = HostState(
            status.revision,
            status.state,
            status.problems,
            tuple(sorted(status.ports)),
            result.generation if result else said,
            status.digest,
            links=status.links,
        )
        if state != self._said:
            anew = self._said is None
            is_of_links = self._said is not None and state == replace(self._said, links=state.links)
            self._said = state
            event = None if is_of_links else self._event(status, result)
            self._updates.put(_Update(state, event, anew))

    def forget(self) -> None:
        self._said = None

    def turned(self) -> None:
        self._turned = self._clock.monotonic()

    def close(self) -> None:
        self._updates.put(None)
        self._thread.join(_FAREWELL_SECONDS)

    def _event(self, status: HostStatus, result: PushResult | None) -> Event | None:
        failed = status.state == FAILED
        if not failed and (result is None or not result.strategy):
            return None
        what = "; ".join(status.problems) if failed else ""
        counts = {}
        if result is not None and not failed:
            what = f"{result.put} put, {result.deleted} deleted, {result.strategy}"
            counts = {"put": result.put, "deleted": result.deleted}
        text = f"{status.state} revision {status.revision}: {what}"
        about = (f"Host {self._host}", *status.objects)
        return Event(self._clock.time(), f"{events.HOST_SOURCE}{self._host}", text, counts, about)

    # ---- the thread

    def _run(self) -> None:
        waiting: list[_Update] = []
        retry = Backoff(self._clock)
        while True:
            with suppress(queue.Empty):
                patience = max(retry.due - self._clock.monotonic(), 0.001) if waiting else self._rest()
                update = self._updates.get(timeout=patience)
                while update is not None:
                    waiting.append(update)
                    if update.anew:
                        self._links = None
                    update = self._updates.get_nowait()
                self._try(waiting)
                return
            if self._try(waiting):
                waiting = []
                retry.reset()
            else:
                waiting = waiting[-BACKLOG:]
                retry.again()

    def _try(self, waiting: list[_Update]) -> bool:
        is_stuck = self._clock.monotonic() - self._turned > STUCK_SECONDS
        try:
            if waiting or (self._last is not None and not is_stuck):
                self._store = self._store or self._open_store()
                self._tell(self._store, waiting)
        except Exception as error:  # whatever it is, the thread goes on: the next update may fare better
            log.warning("can't tell the store", problem=str(error) or repr(error))
            if self._store is not None:
                self._store.close()
                self._store = None
            return False
        return True

    def _rest(self) -> float | None:
        """Seconds until the next heartbeat; None: nothing was said that it could be for."""
        return None if self._last is None else _HEARTBEAT_SECONDS

    def _tell(self, store: Store, waiting: list[_Update]) -> None:
        try:
            if self._lease:
                store.keep_alive(self._lease)
        except LeaseError:  # it was away for too long, or the store was put back
            self._lease = ""
        if not self._lease and self._last is not None:
            waiting = waiting or [self._last]
        if waiting:
            lease = self._lease or store.lease(ALIVE_SECONDS)
            self._commit(store, waiting, lease)
            self._lease = lease  # none is kept alive that the status is not under
            self._last = _Update(waiting[-1].state, None)

    def _commit(self, store: Store, waiting: list[_Update], lease: str) -> None:
        state = replace(waiting[-1].state, time=self._clock.time())
        key = keys.host_key(self._host)
        puts = {key: state.encode()}
        leases = {key: lease}
        links, links_key = state.encode_links(), keys.links_key(self._host)
        if links is not None and (links != self._links or lease != self._lease):
            puts[links_key], leases[links_key] = links, lease
        found = dict(events.item(each.event) for each in waiting if each.event is not None)
        seconds = dict.fromkeys(found, events.KEPT_SECONDS)
        gone = [links_key] if links is None else []
        store.commit(puts | found, gone, leases=leases, seconds=seconds)
        self._links = links
