"""A host's status is in the store for as long as its agent is there."""

import json
import queue
from collections.abc import Iterator

import pytest

from policy.agent import status
from policy.agent.clock import SystemClock
from policy.agent.status import ALIVE_SECONDS, STUCK_SECONDS, HostStatus, StatusReporter
from policy.errors import UnavailableError
from policy.kinds import keys
from policy.service import host_state
from policy.service.host_state import HostState
from policy.store.contract import Store
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of

PATIENCE = 20.0


class Observed(MemoryStore):
    """It counts commits and heartbeats, and its time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.failures: list[str] = []
        """Of calls that are still to fail, their names."""
        super().__init__(clock=lambda: self.now)

    def keep_alive(self, lease: str) -> None:
        super().keep_alive(lease)
        self.calls.put("heartbeat")

    def lease(self, seconds: float) -> str:
        self._fail("lease")
        return super().lease(seconds)

    def _fail(self, name: str) -> None:
        if self.failures[:1] == [name]:
            self.failures.pop(0)
            raise UnavailableError("locked")

    def commit(self, *arguments: object, **options: object) -> int:
        self._fail("commit")
        revision = super().commit(*arguments, **options)  # type: ignore[arg-type]
        self.calls.put("commit")
        return revision

    def close(self) -> None:
        """Who reports closes what it has opened; the test looks on."""

    def await_call(self, name: str) -> None:
        while self.calls.get(timeout=PATIENCE) != name:
            pass

    def said(self) -> dict[str, object] | None:
        rows = self.get([keys.host_key("h1")]).rows
        return json.loads(rows[0][1]) if rows else None


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Observed:
    monkeypatch.setattr(status, "_HEARTBEAT_SECONDS", 0.01)
    return Observed()


@pytest.fixture
def reporter(store: Observed) -> Iterator[StatusReporter]:
    def open_it() -> Store:
        return store

    made = StatusReporter(open_it, "h1", SystemClock())
    yield made
    made.close()


def test_it_is_kept_alive_without_commits(store: Observed, reporter: StatusReporter) -> None:
    reporter.report(HostStatus(7, "applied"))
    store.await_call("commit")
    for _ in range(5):
        store.now += ALIVE_SECONDS * 0.9
        store.await_call("heartbeat")
        store.await_call("heartbeat")  # the first may have come before the time
    said = store.said()
    assert said is not None and said["revision"] == 7
    assert store.range("").revision == 1


def test_links_are_written_when_they_change_and_go_with_the_status(
    store: Observed, reporter: StatusReporter
) -> None:
    def told(revision: int, links: dict[str, str] | None) -> tuple[dict[str, int], HostState]:
        """At which revisions keys were written last, and what is there."""
        reporter.report(HostStatus(revision, "applied", links=links))
        store.await_call("commit")
        found = snapshot_of(store, keys.HOSTS, keys.LINKS)
        return dict(found.revisions), host_state.read(found.items)["h1"]

    down = {"blue/web": "down"}
    assert told(7, down)[0] == {"host/h1": 1, "links/h1": 1}
    at, state = told(8, down)
    assert at == {"host/h1": 2, "links/h1": 1} and (state.revision, state.links) == (8, down)
    at, state = told(8, {})
    assert at == {"host/h1": 3, "links/h1": 3} and state.links == {}
    at, state = told(9, None)
    assert at == {"host/h1": 4} and state.links is None
    assert told(9, down)[0] == {"host/h1": 5, "links/h1": 5}
    store.commit({keys.links_key("h1"): b"what an older one said"})
    store.await_call("commit")
    reporter.forget()
    assert told(9, down)[1].links == down, "the store may be another"
    reporter.close()
    store.now += ALIVE_SECONDS
    assert not snapshot_of(store, keys.HOSTS, keys.LINKS).items


def test_links_are_said_again_under_another_lease(store: Observed, reporter: StatusReporter) -> None:
    reporter.report(HostStatus(7, "applied", links={"blue/web": "down"}))
    store.await_call("commit")
    store.now += ALIVE_SECONDS
    store.await_call("commit")
    said = host_state.read(snapshot_of(store, keys.HOSTS, keys.LINKS).items)["h1"]
    assert said.links == {"blue/web": "down"}


def test_of_a_host_whose_agent_is_gone_nothing_is_said(store: Observed, reporter: StatusReporter) -> None:
    reporter.report(HostStatus(7, "applied"))
    store.await_call("commit")
    reporter.close()
    assert store.said() is not None
    store.now += ALIVE_SECONDS
    assert store.said() is None


class Skipping(SystemClock):
    """It goes on by as much as a test says; that it was asked, a test can wait for."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.asked: queue.SimpleQueue[float] = queue.SimpleQueue()

    def monotonic(self) -> float:
        now = super().monotonic() + self.ahead
        self.asked.put(now)
        return now

    def await_heartbeats(self, since: float) -> None:
        """Or what would have been some: it was asked for each."""
        for _ in range(10):
            while self.asked.get(timeout=PATIENCE) < since:
                pass


def test_of_a_host_whose_agent_takes_no_turn_nothing_is_said_until_it_does(store: Observed) -> None:
    clock = Skipping()
    reporter = StatusReporter(lambda: store, "h1", clock)
    reporter.report(HostStatus(7, "applied"))
    store.await_call("heartbeat")
    clock.ahead = STUCK_SECONDS
    clock.await_heartbeats(since=clock.monotonic())
    store.now += ALIVE_SECONDS
    clock.await_heartbeats(since=clock.monotonic())
    assert store.said() is None
    reporter.turned()
    store.await_call("commit")
    assert store.said() is not None
    reporter.close()


def test_an_agent_that_was_away_for_too_long_says_it_again(store: Observed, reporter: StatusReporter) -> None:
    reporter.report(HostStatus(7, "applied"))
    store.await_call("commit")
    store.now += ALIVE_SECONDS * 2
    store.await_call("commit")
    said = store.said()
    assert said is not None and said["revision"] == 7


@pytest.mark.parametrize("failing", ["lease", "commit"])
def test_it_says_it_again_though_the_store_fails_meanwhile(
    store: Observed, reporter: StatusReporter, failing: str
) -> None:
    reporter.report(HostStatus(7, "applied"))
    store.await_call("commit")
    store.failures = [failing, failing]
    store.now += ALIVE_SECONDS * 2
    store.await_call("commit")
    assert not store.failures
    said = store.said()
    assert said is not None and said["revision"] == 7
