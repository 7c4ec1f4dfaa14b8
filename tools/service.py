"""What a running data plane answers on its socket: the methods of `isolane node` and of the lab.

Every answer is what JSON can say, in the form that `-o json` prints.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import reduce
from ipaddress import ip_address
from operator import add
from typing import Any

from dataplane.core import UNDERLAY, Dataplane, Neighbour, NeighbourState
from dataplane.devices import Device, Underlay
from dataplane.errors import DataplaneError
from dataplane.server import Method, Reply, RequestError
from dataplane.stats import Counters, SubnetCounters
from dataplane.tables import ROW_KINDS, RowKind, pack_rows
from dataplane.views import Names
from policy.model import UNDERLAY_PORT, Address
from policy.tables import Tables

_POLL_SECONDS = 0.002
MAX_PING_SECONDS = 60.0


class Service:
    """Answers from the engine, from what it was given and from the devices. Any thread may call."""

    def __init__(
        self,
        instance: str,
        dataplane: Dataplane,
        tables: Tables,
        underlay: Underlay,
        ports: Mapping[str, Device],
    ) -> None:
        self._instance = instance
        self._dataplane = dataplane
        self._tables = tables
        self._underlay = underlay
        self._ports = ports
        self._lock = (
            threading.Lock()
        )  # the engine takes calls from one thread at a time, and none when it is closed
        self._closed = False

    @property
    def methods(self) -> dict[str, Method]:
        return {
            "status": self.status,
            "ports": self.ports,
            "rows": self.rows,
            "names": self.names,
            "counters": self.counters,
            "neighbours": self.neighbours,
            "ping_pa": self.ping_pa,
        }

    def close(self) -> None:
        """Waits for the call that is in the engine; later ones are refused."""
        with self._lock:
            self._closed = True

    def _engine(self, call: Callable[[Dataplane], Any]) -> Any:
        with self._lock:
            if self._closed:
                raise RequestError("the data plane is stopping")
            try:
                return call(self._dataplane)
            except DataplaneError as error:
                raise RequestError(str(error)) from None

    def status(self) -> dict[str, Any]:
        generation, tables = self._engine(lambda engine: (engine.generation, engine.table_stats()))
        return {
            "instance": self._instance,
            "host": self._tables.host,
            "pid": os.getpid(),
            "generation": generation,
            "underlay": {
                "device": self._underlay.name,
                "mac": self._underlay.mac,
                "mtu": self._underlay.mtu,
            },
            "providerAddresses": [str(pa) for pa in sorted(self._underlay.pas.addresses, key=_address_order)],
            "tables": asdict(tables),
        }

    def ports(self) -> list[dict[str, Any]]:
        rows = []
        for port in self._tables.ports:
            device = self._ports.get(port.name)
            rows.append(
                {
                    "name": port.name,
                    "id": self._tables.port_ids[port.name],
                    "virtualSubnetId": port.vsid,
                    "mac": port.mac,
                    "kind": device.kind.name.lower() if device else None,
                    "device": device.name if device else None,
                    "mtu": device.mtu if device else None,
                    "queues": len(device.fds) if device else 0,
                }
            )
        return rows

    def rows(self, kind: int) -> Reply:
        """What was put into the tables at the start."""
        packed = {ROW_KINDS[type(rows[0])]: rows for rows in self._tables.rows() if rows}
        return Reply(payload=pack_rows(RowKind(kind), packed.get(RowKind(kind), ())))

    def names(self) -> Reply:
        names: Names = {
            "hosts": self._tables.host_ids,
            "routingDomains": self._tables.routing_domain_ids,
            "ports": self._tables.port_ids,
            "host": self._tables.host,
        }
        return Reply(payload=json.dumps(names).encode())

    def counters(self) -> dict[str, Any]:
        """The sum over all ports, and each port's; of subnets what their tenant ports sent and got."""
        ids = {name: self._tables.port_ids[name] for name in self._ports}
        ids[UNDERLAY_PORT] = UNDERLAY
        read, subnets = self._engine(
            lambda engine: (
                {name: engine.port_counters(ids[name]) for name in sorted(ids)},
                engine.subnet_counters(),
            )
        )
        return {
            **asdict(reduce(add, read.values(), Counters())),
            "ports": {name: asdict(counters) for name, counters in read.items()},
            "subnets": [_subnet_view(subnet) for subnet in subnets],
        }

    def neighbours(self) -> list[dict[str, Any]]:
        found = self._engine(lambda engine: engine.neighbours())
        return [
            _neighbour_view(each) for each in sorted(found, key=lambda each: _address_order(each.address))
        ]

    def ping_pa(self, address: str, seconds: float = 3.5) -> dict[str, Any]:
        """Ask for the MAC of a provider next hop and wait for the answer: the neighbour, and how long it
        took.
        """
        target = ip_address(address)
        begun = time.monotonic()
        end = begun + min(seconds, MAX_PING_SECONDS)
        self._engine(lambda engine: engine.probe_neighbour(target))
        asking = False  # until then a failure is that of an earlier request
        while True:
            found = self._engine(lambda engine: engine.neighbours())
            neighbour = next((each for each in found if each.address == target), None)
            if neighbour and neighbour.state in (NeighbourState.KNOWN, NeighbourState.FIXED):
                return {**_neighbour_view(neighbour), "seconds": round(time.monotonic() - begun, 6)}
            asking |= neighbour is not None and neighbour.state is NeighbourState.ASKING
            failed = asking and neighbour is not None and neighbour.state is NeighbourState.FAILED
            if failed or time.monotonic() > end:
                raise RequestError(f"{target} does not answer")
            time.sleep(_POLL_SECONDS)


def _subnet_view(subnet: SubnetCounters) -> dict[str, Any]:
    view = asdict(subnet)
    return {"virtualSubnetId": view.pop("vsid"), **view}


def _neighbour_view(neighbour: Neighbour) -> dict[str, Any]:
    return {
        "address": str(neighbour.address),
        "mac": neighbour.mac.hex(":") if any(neighbour.mac) else None,
        "state": neighbour.state.name.lower(),
        "held": neighbour.held,
    }


def _address_order(address: Address) -> tuple[int, int]:
    return address.version, int(address)
