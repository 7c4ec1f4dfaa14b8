"""An agent's world without a host: a clock that is moved, a data plane that is a few tables, devices that are
names, a store that says what a test has it say. Nothing in it waits, and nothing needs root.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

from dataplane.binding.core import PortConfig
from dataplane.binding.handover import Handover
from dataplane.binding.tables import ChangeSet, Op, RowKind, digest
from dataplane.host.bpf import Address, PaMap
from dataplane.host.device import Device, Opening, Terms, VmTap
from dataplane.host.groups import Groups
from dataplane.host.links import DeviceError, Place
from dataplane.host.underlay import Underlay
from dataplane.host.undo import Undo
from dataplane.process.client import ClientError, GoneError
from dataplane.process.protocol import Hello, Kind, Names, NeighbourView, StrangerView
from dataplane.process.views import no_names
from policy.agent.programmer import PushResult
from policy.agent.sources import AgentEvent
from policy.agent.status import HostStatus
from policy.agent.undo_log import DeviceKey
from policy.agent.wanted import Wanted
from policy.compile import diff
from policy.kinds.model import Driver

HOST = "h1"
FIRST_MAC = "02:00:00:00:00:01"
"""Of a device that is given none."""


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class FakeInbox:
    """To wait is to move the clock."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._events: list[AgentEvent] = []
        self.waits: list[float] = []
        self.until = float("inf")
        """Of the clock: no wait goes beyond it."""

    def put(self, event: AgentEvent) -> None:
        self._events.append(event)

    def wait(self, seconds: float) -> list[AgentEvent]:
        found, self._events = self._events, []
        if not found:
            self.waits.append(seconds)
            self._clock.now += max(min(seconds, self.until - self._clock.now), 0.001)
        return found


@dataclass
class FakeCore:
    """The tables of a data plane. refusal: of every change set. slices: looks that a comparison takes."""

    held: dict[RowKind, dict[bytes, bytes]] = field(default_factory=lambda: {kind: {} for kind in RowKind})
    names: Names = field(default_factory=no_names)
    generation: int = 0
    refusal: str = ""
    refused: int = 0
    slices: int = 1
    change_sets: list[ChangeSet] = field(default_factory=list)
    before: dict[RowKind, dict[bytes, bytes]] | None = None
    looks: int = 0

    def apply(self, encoded: bytes) -> int:
        if self.refusal:
            self.refused += 1
            raise ClientError(self.refusal, Kind.CHANGE_SET)
        change_set = ChangeSet.decode(encoded)
        self.before = {kind: dict(rows) for kind, rows in self.held.items()}
        for section in change_set.sections:
            rows = diff.index({section.kind: section.packed}, self.rows(RowKind.SUBNET))[section.kind]
            for key, row in rows.items():
                if section.op is Op.PUT:
                    self.held[section.kind][key] = diff.canonical(section.kind, row)
                else:
                    del self.held[section.kind][key]
        self.change_sets.append(change_set)
        self.generation = change_set.generation
        return self.generation

    def rollback(self) -> int:
        assert self.before is not None
        self.held = self.before
        return self.generation

    def rows(self, kind: RowKind) -> bytes:
        return b"".join(self.held[kind].values())

    def digests(self) -> dict[RowKind, int]:
        return {kind: digest(kind, self.rows(kind)) for kind in RowKind}


@dataclass
class FakeDataplane:
    """failure: of every call, an answer that is none. workers: queues of a port."""

    core: FakeCore = field(default_factory=FakeCore)
    ports: dict[int, Handover] = field(default_factory=dict)
    reports: list[Mapping[str, Any]] = field(default_factory=list)
    failure: ClientError | None = None
    refused_ports: set[str] = field(default_factory=set)
    announced: int = 0
    strangers: list[StrangerView] = field(default_factory=list)
    is_alive: bool = True


class FakeClient:
    """dataplane.process.client.Client, in this process."""

    def __init__(self, dataplane: FakeDataplane) -> None:
        self._dataplane = dataplane
        self.is_closed = False

    def _there(self) -> FakeDataplane:
        if self.is_closed or not self._dataplane.is_alive:
            raise GoneError("it went away")
        if self._dataplane.failure is not None:
            raise self._dataplane.failure
        return self._dataplane

    def apply(self, change_set: bytes) -> int:
        return self._there().core.apply(change_set)

    def verify(self) -> None:
        self._there()

    def rollback(self) -> int:
        return self._there().core.rollback()

    def rows(self, kind: RowKind) -> bytes:
        return self._there().core.rows(kind)

    def digest(self) -> dict[RowKind, int]:
        return self._there().core.digests()

    def digest_step(self, anew: bool = False) -> dict[RowKind, int] | None:
        core = self._there().core
        core.looks = 1 if anew else core.looks + 1
        return core.digests() if core.looks >= core.slices else None

    def names(self) -> Names:
        return self._there().core.names

    def set_names(self, names: Names) -> None:
        self._there().core.names = cast(Names, json.loads(json.dumps(names)))

    def generation(self) -> int:
        return self._there().core.generation

    def hello(self) -> Hello:
        dataplane = self._there()
        ports = [
            {
                "id": number,
                "name": each.config.name,
                "kind": "tap",
                "mac": "",
                "mtu": 1500,
                "offloads": [],
                "queues": 0,
                "xsks": each.config.xsks,
            }
            for number, each in sorted(dataplane.ports.items())
        ]
        return cast(
            Hello,
            {"pid": 1, "version": "", "instance": HOST, "generation": 0, "workers": 1, "ports": ports},
        )

    def attach(
        self,
        port: int,
        config: PortConfig,
        held: Mapping[str, int] | None = None,
        note: object = None,
        *,
        replace: bool = False,
    ) -> None:
        dataplane = self._there()
        if config.name in dataplane.refused_ports:
            raise ClientError("no more ports", Kind.HOST)
        if port in dataplane.ports and not replace:
            raise ClientError(f"port {port} is attached already", Kind.REQUEST)
        dataplane.ports[port] = Handover(config, held or {}, json.loads(json.dumps(note)))

    def spin(self, port: int, on: bool) -> None:
        handover = self.take(port)
        self._there().ports[port] = handover._replace(config=replace(handover.config, spins=on))

    def take(self, port: int) -> Handover:
        return self._there().ports[port]

    def memory(self) -> int:
        self._there()
        return os.open(os.devnull, os.O_RDONLY)

    def detach(self, port: int) -> None:
        if self._there().ports.pop(port, None) is None:
            raise ClientError(f"port {port} is not attached", Kind.REQUEST)

    def neighbours(self) -> list[NeighbourView]:
        self._there()
        return []

    def strangers(self) -> list[StrangerView]:
        return [{**each} for each in self._there().strangers]

    def announce(self) -> None:
        self._there().announced += 1

    def report(self, report: Mapping[str, Any]) -> None:
        self._there().reports.append(report)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.is_closed = True

    def hang_up(self) -> None:
        self.is_closed = True  # by whoever waits for its end


@dataclass
class _FakeLink:
    """A device of the host. is_as_left: as the agent left it. is_broken: it is, but can't be put right."""

    index: int
    mac: str = ""
    mtu: int = 9000
    is_as_left: bool = True
    is_broken: bool = False
    state: str = "up"
    is_open: bool = False


class FakeHost:
    """The host's devices by how they are opened. absent: whose opening fails. opened: each, in order."""

    def __init__(self) -> None:
        self.links: dict[DeviceKey, _FakeLink] = {}
        self.absent: dict[str, DeviceError] = {}
        self.opened: list[str] = []
        self.free = 1000
        self.looks = 0  # at links
        self._next = 1

    def link(self, name: str, namespace: str | None = None) -> _FakeLink:
        return next(link for key, link in self.links.items() if key[1:] == (name, namespace))

    def open(self, wanted: Wanted, terms: Terms, pas: list[Address]) -> Device:
        where = wanted.namespace or wanted.device
        if where in self.absent:
            raise self.absent[where]
        link = self.links.get(wanted.key)
        if link is None:
            link = self.links[wanted.key] = _FakeLink(self._next, wanted.mac or FIRST_MAC)
            self._next += 1
        link.is_as_left = link.is_open = True
        self.opened.append(where)
        device = self._device(wanted.key, terms.mac or link.mac, terms.mtu, link)
        device = replace(device, tap=terms.tap)
        return replace(device, xsks=1) if terms.driver == Driver.AFXDP else device

    def take_over(self, key: DeviceKey, terms: Terms) -> Device:
        return self._device(key, terms.mac, terms.mtu, self.links[key])

    def adopt(self, handover: Handover) -> Device:
        note = handover.note
        key = Opening(note["opening"]), note["device"], note["namespace"]
        link = self.links.get(key)
        if link is None or link.index != note["index"]:
            raise DeviceError("it has gone")
        config = handover.config
        tap = VmTap(**note["tap"]) if "tap" in note else None
        return replace(self._device(key, config.mac.hex(":"), config.mtu, link), xsks=config.xsks, tap=tap)

    def put_back(self, key: DeviceKey, place: Place, steps: Iterable[object]) -> None:
        self.links.pop(key, None)

    def room(self) -> tuple[int, int]:
        return self.free, 1024

    def _device(self, key: DeviceKey, mac: str, mtu: int, link: _FakeLink) -> Device:
        opening, name, namespace = key
        place = Place(namespace, 1, link.index)
        made = (name, opening, place, mac, mtu, (), Undo())
        if opening is not Opening.UNDERLAY:
            return _FakeDevice(*made, host=self)
        return _FakeUnderlay(*made, host=self, pas=cast(PaMap, _FakePaMap()), groups=cast(Groups, None))


class _Faked(Device):
    """What both have in common; `host` is a field of theirs."""

    host: FakeHost

    @property
    def _link(self) -> _FakeLink | None:
        link = self.host.links.get((self.opening, self.name, self.place.namespace))
        return link if link is not None and link.index == self.place.index else None

    @property
    def link(self) -> str:
        self.host.looks += 1
        return self._link.state if self._link is not None else "gone"

    def is_present(self) -> bool:
        return self._link is not None

    def is_as_left(self) -> bool:
        link = self._link
        return link is not None and link.is_as_left and not link.is_broken

    def repair(self) -> None:
        link = self._link
        if link is None or link.is_broken:
            raise DeviceError(f"{self.opening} {self.name}: is not as the manifest says")
        link.is_as_left = True

    @property
    def queues(self) -> int:
        return 0

    def queues_of(self, queues: int) -> int:
        return 0

    def begin(self) -> None:
        assert self.is_present()

    def release(self) -> None:
        if self._link is not None:
            self._link.is_open = False

    def close(self) -> None:
        self.host.links.pop((self.opening, self.name, self.place.namespace), None)


@dataclass(frozen=True)
class _FakeDevice(_Faked):
    host: FakeHost = field(kw_only=True)

    def resize(self, mac: str, mtu: int) -> Self:
        return replace(self, mac=mac.lower(), mtu=mtu)


@dataclass(frozen=True)
class _FakeUnderlay(_Faked, Underlay):
    host: FakeHost = field(kw_only=True)

    def is_as_left(self) -> bool:
        return super().is_as_left() and self._link is not None and self._link.mac == self.mac

    def repair(self) -> None:
        super().repair()
        if self._link is None or self._link.mac != self.mac:
            raise DeviceError(f"underlay {self.name}: the manifest says MAC {self.mac}")

    def resize(self, mac: str, mtu: int) -> Self:
        assert self._link is not None
        if mac and mac != self._link.mac:
            raise DeviceError(f"underlay {self.name}: the manifest says MAC {mac}")
        return replace(self, mac=self._link.mac, mtu=mtu)

    def serve(self, pas: Iterable[Address], next_hops: Iterable[Address] = ()) -> None:
        self.pas.addresses = frozenset(pas)  # type: ignore[misc]


class _FakePaMap:
    def __init__(self) -> None:
        self.addresses: frozenset[Address] = frozenset()


class FakeWatch:
    def __init__(self) -> None:
        self.namespaces: set[str | None] = set()
        self.is_closed = False

    def follow(self, namespaces: Collection[str | None], tenants: Collection[str] = ()) -> None:
        self.namespaces = set(namespaces)

    def close(self) -> None:
        self.is_closed = True


class FakeReporter:
    """said: with the time, what is another than before."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.said: list[tuple[float, HostStatus]] = []
        self.results: list[PushResult] = []
        self.turns = 0
        self.forgotten = 0
        self.is_closed = False

    @property
    def last(self) -> HostStatus:
        return self.said[-1][1]

    def report(self, status: HostStatus, result: PushResult | None = None) -> None:
        if result is not None:
            self.results.append(result)
        if not self.said or self.last != status:
            self.said.append((self._clock.now, status))

    def forget(self) -> None:
        self.forgotten += 1

    def turned(self) -> None:
        self.turns += 1

    def close(self) -> None:
        self.is_closed = True
