"""An agent of h1 of the example with all that it meets, made of fakes: see there."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dataplane.host.device_watch import Seen
from dataplane.process.client import GoneError
from policy.agent.devices import DeviceManager
from policy.agent.environment import Environment, Options, Parts
from policy.agent.loop import Agent
from policy.agent.sources import DataplaneGone, Inbox, Resync, StoreState
from policy.agent.undo_log import UndoLog
from policy.compile import diff
from policy.kinds import documents
from policy.service import resolve
from policy.store.contract import Batch, Change
from tests.unit.agent.fakes import (
    HOST,
    FakeClient,
    FakeClock,
    FakeCore,
    FakeDataplane,
    FakeHost,
    FakeInbox,
    FakeReporter,
    FakeWatch,
)
from tests.unit.manifests import EXAMPLE


class World:
    """An agent of h1 of the example, its host, its data plane and its store."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.clock = FakeClock()
        self.inbox = FakeInbox(self.clock)
        self.host = FakeHost()
        self.watch = FakeWatch()
        self.reporter = FakeReporter(self.clock)
        self.dataplane: FakeDataplane | None = FakeDataplane()
        self.connections: list[tuple[float, FakeClient]] = []
        self.items = documents.items_of(resolve.load([EXAMPLE]).by_id.values())
        self.revision = 0
        self.readies: list[float] = []
        self.kept_alive: list[float] = []
        self.number = 0
        self.spawn: Callable[[Callable[[], None]], None] = lambda body: body()
        """Runs what the agent has done beside it."""
        self.has_stopped = False
        self.undo_log = UndoLog(HOST)
        self.devices = DeviceManager(self.undo_log, self.host)
        watchdog = options.pop("watchdog", None)
        environment = Environment(
            self._connect,
            self.inbox,
            self.clock,
            spawn=lambda _, body: self.spawn(body),
            await_end=self._await_end,
            watchdog=watchdog,
            keep_alive=lambda: self.kept_alive.append(self.clock.now),
        )
        parts = Parts(self.devices, self.watch, self.reporter)
        self.agent = Agent(
            Options(HOST, HOST, **options), environment, parts, lambda: self.readies.append(self.clock.now)
        )

    @property
    def core(self) -> FakeCore:
        assert self.dataplane is not None
        return self.dataplane.core

    def _connect(self) -> FakeClient:
        if self.dataplane is None:
            raise GoneError("no isolane runs as instance h1")
        client = FakeClient(self.dataplane)
        self.connections.append((self.clock.now, client))
        return client

    def _await_end(self, _idle: object, number: int, _inbox: Inbox) -> None:
        self.number = number

    # ---- what a test does

    def pass_(self, seconds: float = 0.1) -> None:
        self.inbox.until = end = self.clock.now + seconds
        while self.clock.now < end and not self.has_stopped:
            self.has_stopped = self.agent.turn()

    def up(self) -> None:
        self.load()
        self.pass_()

    def load(self) -> None:
        self.revision += 1
        self.inbox.put(Resync(self.revision, dict(self.items)))
        self.inbox.put(StoreState(""))

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        self.revision += 1
        for key, value in changes.items():
            if value is None:
                self.items.pop(key, None)
            else:
                self.items[key] = value
        self.inbox.put(Batch(self.revision, tuple(Change(*each) for each in sorted(changes.items()))))

    def kill_dataplane(self) -> None:
        assert self.dataplane is not None
        self.dataplane.is_alive = False
        self.dataplane = None
        self.inbox.put(DataplaneGone(self.number))

    def see(self, **seen: Any) -> None:
        self.inbox.put(Seen(**seen))

    # ---- what there is to look at

    @property
    def announced(self) -> int:
        assert self.dataplane is not None
        return self.dataplane.announced

    def port_key(self, name: str) -> str:
        return next(key for key in self.items if key.startswith("intent/Port/") and key.endswith(f"/{name}"))

    def attached(self) -> set[str]:
        assert self.dataplane is not None
        return {each.config.name for each in self.dataplane.ports.values()}

    def is_right(self) -> bool:
        """Whether rows and ports of the data plane are those of the intent, by the compiler."""
        from policy.compile.compiler import compile_host

        policy = documents.policy_from(self.items)
        tables = compile_host(policy, HOST)
        wanted = {kind: len(rows) for kind, rows in zip(diff.PUT_ORDER, tables.rows(), strict=True)}
        ports = {port.id.qualified_name for port in policy.ports if port.host == HOST and port.attach}
        held = {kind: len(self.core.held[kind]) for kind in diff.PUT_ORDER}
        return held == wanted and self.attached() == ports | {"underlay"}
