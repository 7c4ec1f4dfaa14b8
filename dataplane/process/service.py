"""The data-plane process: owns the core, its workers and its ports' descriptors, and does what clients ask.

It opens no device and knows no policy but rows: an agent hands over descriptors, change sets and names. When
the agent goes, everything forwards on; its successor takes descriptors back by take(). Under systemd ports
outlive the process too.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import asdict, replace
from ipaddress import ip_address
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from dataplane.binding._ffi import lib
from dataplane.binding.core import (
    UNDERLAY,
    Config,
    Dataplane,
    NeighbourState,
    Offload,
    PortConfig,
)
from dataplane.binding.errors import ChangeSetError, DataplaneError, HostError
from dataplane.binding.handover import Handover, config_document
from dataplane.binding.tables import PortRow, RowKind, unpack_address, unpack_rows
from dataplane.process import fdstore, framing, instances, protocol, seccomp, server, systemd, views
from dataplane.process.log import log
from dataplane.process.methods import Method, RequestError, read_only, takes_payload
from dataplane.process.protocol import AgentReport, Kind, PortId, ProtocolError
from dataplane.process.server import Reply
from dataplane.process.systemd import notify, watchdog_seconds
from dataplane.process.version import VERSION

MAX_PING_SECONDS = 60.0
DIGEST_ROWS = 1 << 12
"""Of one step: a millisecond or two."""
LET_GO_SECONDS = 2.0
"""That a detached port waits for systemd."""
_POLL_SECONDS = 0.002


def _attach(engine: Dataplane, port: int, config: PortConfig) -> None:
    """A VM that takes super-packets gets segments as such. That is not its agent's to ask for, which may be
    older or newer than this process.
    """
    if port != UNDERLAY and config.offloads & (Offload.TSO4 | Offload.TSO6):
        config = replace(config, offloads=config.offloads | Offload.MERGE)
    engine.attach(port, config)


def run(name: str, listener: instances.Listener, config: Config, stop: Set[signal.Signals]) -> None:
    """Serve an instance until one of the signals, which are blocked, comes. HostError: see Dataplane, or the
    process can't be restricted to the system calls that it needs.
    """
    with Dataplane(config) as dataplane:
        dataplane.start()
        systemd.connect()
        try:
            seccomp.restrict()
        except OSError as error:
            raise HostError("giving up system calls", lib.DP_ESYS, error.errno or 0) from None
        service = Service(name, dataplane, config)
        try:
            service.resume(fdstore.recover())
            with server.answering(listener, service.methods):
                notify("READY=1")
                _wait(service, stop)
                notify("STOPPING=1")
        finally:
            service.close()


def _wait(service: "Service", stop: Set[signal.Signals]) -> None:
    """Tells systemd that requests are still answered, until a signal comes."""
    limit = watchdog_seconds()
    if limit is None:
        signal.sigwait(stop)
        return
    while signal.sigtimedwait(stop, limit / 3) is None:
        if service.answers(limit / 3):
            notify("WATCHDOG=1")


class Service:
    """The methods that clients call. Any thread may, one is in the engine at a time."""

    def __init__(self, instance: str, dataplane: Dataplane, config: Config) -> None:
        self._instance = instance
        self._workers = config.workers
        self._memory = config.slots_fd - 1
        self._report: AgentReport = {}
        self._dataplane = dataplane
        self._ports: dict[int, Handover] = {}
        self._names = views.no_names()
        self._applied = b""  # the last change set, until it is verified
        self._read: WeakValueDictionary[RowKind, memoryview] = WeakValueDictionary()  # what tables hold
        self._keeper = fdstore.Keeper()
        self._lock = threading.Lock()  # of all of these
        self._closed = False

    @property
    def methods(self) -> dict[str, Method]:
        methods: tuple[Method, ...] = (
            self.hello,
            self.memory,
            self.attach,
            self.spin,
            self.take,
            self.detach,
            self.apply,
            self.verify,
            self.rollback,
            self.rows,
            self.digest_step,
            self.set_names,
            self.names,
            self.report,
            self.announce,
            self.neighbours,
            self.ping_pa,
            self.status,
            self.ports,
            self.counters,
            self.strangers,
        )
        return {method.__name__: method for method in methods}

    def close(self) -> None:
        """Ends the engine and closes all descriptors, behind the call that is in it; refuses later ones."""
        with self._lock:
            self._closed = True
            self._dataplane.close()
            for handover in self._ports.values():
                framing.close_all(handover.fds)
            self._ports.clear()
        self._keeper.close()

    def resume(self, kept: Mapping[int, Handover]) -> None:
        """Attach what an earlier process of this instance had; tables come from the agent."""
        with self._engine() as engine:
            for port, handover in kept.items():
                try:
                    _attach(engine, port, handover.config)
                except DataplaneError as error:
                    log("port given up", port=handover.config.name, problem=str(error))
                    framing.close_all(handover.fds)
                    self._keeper.forget(port, len(handover.fds))
                else:
                    self._ports[port] = handover

    def answers(self, seconds: float) -> bool:
        """Whether the engine was free within this time."""
        if not self._lock.acquire(timeout=seconds):
            return False
        self._lock.release()
        return True

    @contextmanager
    def _engine(self) -> Iterator[Dataplane]:
        with self._lock:
            if self._closed:
                raise RequestError("the data plane is stopping", Kind.BUSY)
            try:
                yield self._dataplane
            except DataplaneError as error:
                raise RequestError(str(error), _kind(error)) from None

    # ---- ports

    @read_only
    def hello(self) -> dict[str, Any]:
        with self._engine() as engine:
            return {
                "pid": os.getpid(),
                "version": VERSION,
                "instance": self._instance,
                "generation": engine.generation,
                "workers": self._workers,
                "ports": [
                    {"id": port, **config_document(handover.config), "queues": handover.config.queues}
                    for port, handover in sorted(self._ports.items())
                ],
            }

    def memory(self) -> Reply:
        """That packets lie in, for AF_XDP sockets."""
        if self._memory < 0:
            raise RequestError("packets lie in memory that is nobody else's")
        try:
            return Reply(fds=(os.dup(self._memory),))
        except OSError as error:
            raise RequestError(f"memory: {error.strerror}", Kind.HOST) from None

    def attach(
        self,
        port: PortId,
        config: dict[str, Any],
        held: list[str],
        note: Any = None,
        replace: bool = False,
        fds: tuple[int, ...] = (),
    ) -> None:
        try:
            handover = Handover.decode({"config": config, "held": held, "note": note}, fds)
        except ValueError as error:
            raise RequestError(str(error)) from None
        with self._engine() as engine:
            for other, present in self._ports.items():
                if other == port and not replace:
                    raise RequestError(f"port {port} is attached already, as {present.config.name}")
                if other != port and present.config.name == handover.config.name:
                    raise RequestError(f"port {other} is named {present.config.name} already")
            before = self._ports.get(port)
            if before is not None and before.config.xsks:
                raise RequestError(f"port {port} has AF_XDP sockets: detach it, then attach it with new ones")
            if before is not None:
                engine.detach(port)
            try:
                _attach(engine, port, handover.config)
            except DataplaneError:
                if before is not None:
                    _attach(engine, port, before.config)
                raise
            self._ports[port] = handover
            if before is not None:
                self._keeper.forget(port, len(before.fds))
                framing.close_all(before.fds)
            self._keep(port, handover)

    def spin(self, port: int, on: bool) -> None:
        """Whether idle workers may look on for its packets."""
        with self._engine() as engine:
            before = self._handover(port)
            engine.set_spins(port, on)
            self._ports[port] = before._replace(config=replace(before.config, spins=on))
            self._keeper.forget(port, len(before.without_xsks().fds))
            self._keep(port, self._ports[port])

    def _keep(self, port: int, handover: Handover) -> None:
        try:
            self._keeper.keep(port, handover.without_xsks())
        except OSError as error:  # the engine has the descriptors: the request must not fail now
            log("port not kept for a later process", port=handover.config.name, problem=str(error))

    def take(self, port: int) -> Reply:
        """Duplicates: ours forward on, whatever becomes of the reply."""
        with self._engine():
            handover = self._handover(port)
            fds: list[int] = []
            try:
                fds.extend(map(os.dup, handover.fds))
            except OSError as error:
                framing.close_all(fds)
                raise RequestError(f"port {port}: {error.strerror}", Kind.HOST) from None
            return Reply(handover.encode(), fds=tuple(fds))

    def detach(self, port: int) -> None:
        """Its device may be opened anew at once, unless systemd does not let go of it."""
        with self._engine() as engine:
            handover = self._handover(port)
            engine.stop_port(port)
            del self._ports[port]
            forgotten = self._keeper.forget(port, len(handover.without_xsks().fds))
            framing.close_all(handover.fds)
            engine.detach(port)
        if not forgotten.wait(LET_GO_SECONDS):
            log("systemd does not let go of a port", port=handover.config.name)

    def _handover(self, port: int) -> Handover:
        if port not in self._ports:
            raise RequestError(f"port {port} is not attached")
        return self._ports[port]

    # ---- policy

    @takes_payload
    def apply(self, payload: bytes) -> int:
        with self._engine() as engine:
            self._applied = b""
            self._read.clear()
            engine.apply(payload)
            self._applied = payload
            return engine.generation

    def verify(self) -> None:
        """Each row of the last change set is read back; it stays if they are there."""
        with self._engine() as engine:
            if not self._applied:
                raise RequestError("there is no change set to verify")
            engine.holds(self._applied)
            engine.verified()
            self._applied = b""

    def rollback(self) -> int:
        """Of the last change set, if it is not verified."""
        with self._engine() as engine:
            self._read.clear()
            engine.rollback()
            self._applied = b""
            return engine.generation

    @read_only
    def rows(self, kind: RowKind) -> Reply:
        """All who read them meanwhile read the same copy, as long as they are those."""
        with self._engine() as engine:
            rows = self._read.get(kind)
            if rows is None:
                rows = self._read[kind] = engine.packed(kind)
            return Reply(payload=rows)

    def digest_step(self, anew: bool = False) -> dict[str, int] | None:
        """Others get their turn between two steps."""
        with self._engine() as engine:
            digests = engine.digest_step(DIGEST_ROWS, anew)
        return None if digests is None else {kind.name: value for kind, value in digests.items()}

    @takes_payload
    def set_names(self, payload: bytes) -> None:
        try:
            names = protocol.decode_names(payload)
        except ProtocolError as error:
            raise RequestError(str(error)) from None
        with self._engine():
            self._names = names

    @read_only
    def names(self) -> Reply:
        with self._engine():
            return Reply(payload=msgspec.json.encode(self._names))

    def report(self, report: AgentReport) -> None:
        """What the agent says of itself, for `status`."""
        with self._engine():
            self._report = report

    # ---- neighbours of the underlay

    def announce(self) -> None:
        with self._engine() as engine:
            engine.announce()

    @read_only
    def neighbours(self) -> list[dict[str, Any]]:
        with self._engine() as engine:
            found = engine.neighbours()
        in_order = sorted(found, key=lambda each: views.address_order(each.address))
        return [views.neighbour_view(each) for each in in_order]

    def ping_pa(self, address: str, seconds: float = 3.5) -> dict[str, Any]:
        """Ask for the MAC of a provider next hop and wait for the answer."""
        try:
            target = ip_address(address)
        except ValueError as error:
            raise RequestError(str(error)) from None
        if not 0 <= seconds <= MAX_PING_SECONDS:
            raise RequestError(f"{seconds} seconds, more than {MAX_PING_SECONDS:g}")
        begun = time.monotonic()
        end = begun + seconds
        with self._engine() as engine:
            engine.probe_neighbour(target)
        asking = False  # until then a failure is that of an earlier request
        while True:
            with self._engine() as engine:
                found = engine.neighbours()
            neighbour = next((each for each in found if each.address == target), None)
            if neighbour and neighbour.state in (NeighbourState.KNOWN, NeighbourState.FIXED):
                return {**views.neighbour_view(neighbour), "seconds": round(time.monotonic() - begun, 6)}
            asking |= neighbour is not None and neighbour.state is NeighbourState.ASKING
            failed = asking and neighbour is not None and neighbour.state is NeighbourState.FAILED
            if failed or time.monotonic() > end:
                raise RequestError(f"{target} does not answer")
            time.sleep(_POLL_SECONDS)

    # ---- what `isolane node` shows; routes and records are made from rows by the client

    @read_only
    def status(self) -> dict[str, Any]:
        with self._engine() as engine:
            underlay = self._ports.get(UNDERLAY)
            return {
                "instance": self._instance,
                "host": self._names["host"],
                "pid": os.getpid(),
                "generation": engine.generation,
                "underlay": {
                    "device": underlay and underlay.device,
                    "mac": underlay and underlay.config.mac.hex(":"),
                    "mtu": underlay and underlay.config.mtu,
                    **_kind_view(underlay),
                },
                "providerAddresses": [
                    str(unpack_address(row.address, row.family))
                    for row in views.own_addresses(engine.rows(RowKind.PA))
                ],
                "tables": asdict(engine.table_stats()),
                "workers": [{"wakeUps": count} for count in engine.wakeups()],
                "agent": self._report,
            }

    @read_only
    def ports(self) -> list[dict[str, Any]]:
        """The tenant ports that policy or a device is there for."""
        with self._engine() as engine:
            rows = unpack_rows(RowKind.PORT, engine.rows(RowKind.PORT))
            policies = {row.port: row for row in rows if isinstance(row, PortRow)}
            names = views.by_id(self._names["ports"])
            ids = (policies.keys() | self._ports.keys()) - {UNDERLAY}
            shown = [
                _port_view(port, names.get(port), policies.get(port), self._ports.get(port)) for port in ids
            ]
        return sorted(shown, key=lambda port: (port["name"], port["id"]))

    @read_only
    def counters(self) -> dict[str, Any]:
        """The sum over all ports that ever were, and each present port's; of subnets what their tenant ports
        sent and got.
        """
        with self._engine() as engine:
            total = engine.counters()
            ports = {
                handover.config.name: asdict(engine.port_counters(port))
                for port, handover in self._ports.items()
            }
            subnets = engine.subnet_counters()
        return {
            **asdict(total),
            "ports": dict(sorted(ports.items())),
            "subnets": [views.subnet_view(subnet) for subnet in subnets],
        }

    @read_only
    def strangers(self) -> list[dict[str, Any]]:
        """Ports whose VMs have sent from another MAC than theirs; of most there is nothing to say."""
        found = []
        with self._engine() as engine:
            for port, handover in self._ports.items():
                if (mac := engine.stranger(port)) is not None:
                    counters = engine.port_counters(port)
                    refused = counters.drops.get("src-mac", 0)
                    view = {"name": handover.config.name, "mac": mac.hex(":")}
                    found.append({**view, "received": counters.received, "refused": refused})
        return found


def _kind(error: DataplaneError) -> Kind:
    match error:
        case ChangeSetError():
            return Kind.CHANGE_SET
        case HostError():
            return Kind.HOST
    return Kind.REQUEST


def _port_view(
    port: int, name: str | None, policy: PortRow | None, handover: Handover | None
) -> dict[str, Any]:
    """policy, handover: at least one of them is there."""
    config = handover.config if handover else None
    mac = policy.mac if policy else config.mac if config else b""
    return {
        "name": name or (config.name if config else str(port)),
        "id": port,
        "virtualSubnetId": policy.vsid if policy else None,
        "mac": mac.hex(":"),
        **_kind_view(handover),
        "device": handover.device if handover else None,
        "mtu": config.mtu if config else None,
        "queues": config.queues if config else 0,
    }


def _kind_view(handover: Handover | None) -> dict[str, str | None]:
    """How packets come and go, and why so."""
    return {
        "kind": handover and handover.config.kind.name.lower(),
        "reason": handover and handover.noted("reason"),
    }
