"""What an agent says in the store of the intent on its host: for `apply --wait`, `describe` and others."""

import json
import queue
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from policy import events, intent
from policy.events import Event
from policy.happenings import BACKLOG, Backoff
from policy.pusher import Pushed
from policy.store import Store

_FAREWELL_SECONDS = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _News:
    """document: of the host; event: None where nothing is to be remembered."""

    document: dict[str, Any]
    event: Event | None


class Telling:
    """Says in the store what has become of the intent on this host. On a thread of its own: a store that is
    locked or can't be had holds up nothing, and is told once it can be.
    """

    def __init__(self, open_store: Callable[[], Store], host: str) -> None:
        self._open_store = open_store
        self._host = host
        self._store: Store | None = None
        self._said: dict[str, Any] = {}
        self._news: queue.SimpleQueue[_News | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)
        self._thread.start()

    def tell(
        self,
        revision: int,
        state: str,
        problems: list[str],
        pushed: Pushed | None,
        digest: str,
        ports: Collection[str] = (),
    ) -> None:
        """ports: those that each has a problem of its own."""
        document = {
            "revision": revision,
            "state": state,
            "problems": problems,
            "ports": sorted(ports),
            "digest": digest,
            "generation": pushed.generation if pushed else self._said.get("generation", 0),
        }
        if document != self._said:
            self._said = document
            self._news.put(_News(document, self._event(document, pushed)))

    def forget(self) -> None:
        """The store may be another: say all again."""
        self._said = {}

    def close(self) -> None:
        """What was said last is told if the store takes it now."""
        self._news.put(None)
        self._thread.join(_FAREWELL_SECONDS)

    def _event(self, document: dict[str, Any], pushed: Pushed | None) -> Event | None:
        failed = document["state"] == intent.FAILED
        if not failed and (pushed is None or not pushed.way):
            return None
        what = "; ".join(document["problems"]) if failed else ""
        counts = {}
        if pushed is not None and not failed:
            what = f"{pushed.put} put, {pushed.deleted} deleted, {pushed.way}"
            counts = {"put": pushed.put, "deleted": pushed.deleted}
        text = f"{document['state']} revision {document['revision']}: {what}"
        return Event(time.time(), f"{events.HOST_SOURCE}{self._host}", text, counts, (f"Host {self._host}",))

    # ---- the thread

    def _run(self) -> None:
        waiting: list[_News] = []
        retry = Backoff()
        while True:
            with suppress(queue.Empty):
                news = self._news.get(timeout=max(retry.due - time.monotonic(), 0.001) if waiting else None)
                while news is not None:
                    waiting.append(news)
                    news = self._news.get_nowait()
                self._try(waiting)
                return
            if self._try(waiting):
                waiting, retry = [], Backoff()
            else:
                waiting = waiting[-BACKLOG:]
                retry.again()

    def _try(self, waiting: list[_News]) -> bool:
        try:
            if waiting:
                self._store = self._store or self._open_store()
                self._store.commit(*self._changes(self._store, waiting))
        except Exception as error:  # whatever it is, the thread goes on: the next news may fare better
            log.warning("can't tell the store", problem=str(error) or repr(error))
            if self._store is not None:
                self._store.close()
                self._store = None
            return False
        return True

    def _changes(self, store: Store, waiting: list[_News]) -> tuple[dict[str, bytes], list[str]]:
        document = {**waiting[-1].document, "time": time.time()}
        puts = {intent.HOST_PREFIX + self._host: json.dumps(document).encode()}
        found = dict(events.item(each.event) for each in waiting if each.event is not None)
        if not found:
            return puts, []
        return puts | found, events.outdated([*store.snapshot(events.PREFIX).items, *list(found)[1:]])
