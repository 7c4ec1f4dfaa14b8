"""What one host needs to know of the intent, kept up to date change by change: the rows of its tables.

It knows every object of the store. Ports, of which there may be a million, it keeps as their documents; the
rest is parsed. A change of a few objects is compiled from just those objects, and what they have to do with,
before and after it; a large one asks for all rows anew. Pure; one thread at a time.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dataplane import tables as dp
from dataplane.tables import ROW_DTYPES, RowKind
from policy import compiler, documents, port_rows, reconcile
from policy.compiler import Presence
from policy.errors import ObjectId
from policy.model import (
    CustomerRoute,
    Host,
    LookupRecord,
    Object,
    Policy,
    Port,
    ProviderAddress,
    VMSubnet,
    intent_of,
)
from policy.reconcile import PUT_ORDER, Rows
from policy.tables import SELF, Ids

MAX_AFFECTED = 4_096
"""Ports; beyond it all rows made anew take no longer."""

_TO_ALL = ("NetworkSite", "ProviderRoute", "LookupRecord", "ProviderAddress")
"""Kinds that are few, or seldom change: all rows are made anew."""

Packed = Mapping[RowKind, bytes]
"""By kind, rows in canonical form (dp_api.h), in any order."""


@dataclass(frozen=True)
class Whole:
    """All rows of a host's tables, and the ids in them."""

    rows: Packed
    ids: Ids

    @cached_property
    def digests(self) -> dict[RowKind, int]:
        return {kind: dp.digest(kind, packed) for kind, packed in self.rows.items()}


@dataclass(frozen=True)
class Step:
    """The rows that a change is about, before and after it: others stay. ids: of both."""

    before: Rows
    after: Rows
    ids: Ids


@dataclass(frozen=True, slots=True)
class _Affected:
    """By tenant and name, documents of ports before and after; None: not there."""

    ports: dict[tuple[str, str], tuple[bytes | None, bytes | None]]
    before: dict[str, Object]
    after: dict[str, Object]


class HostView:
    def __init__(self, host: str, items: Mapping[str, bytes], ids: Ids | None = None) -> None:
        """items: of the store, with the prefix of documents. ids: what a core has names for already.

        ManifestError: the store holds what nobody committed.
        """
        self.host = host
        self.ids = ids or Ids({host: SELF}, {}, {})
        self._small: dict[str, Object] = {}
        self._ports: dict[str, dict[str, bytes]] = {}
        for key, value in items.items():
            kind, tenant, name = documents.id_of(key)
            if kind == "Port":
                self._ports.setdefault(tenant, {})[name] = value
            else:
                self._small[key] = documents.load(key, value, complete=True)
        self._local = dict(self._find_local())
        self._homes: Counter[str] = Counter()
        self._policy: Policy | None = None

    # ---- what there is

    @property
    def policy(self) -> Policy:
        """All but the ports of other hosts."""
        if self._policy is None:
            self._policy = Policy(intent_of([*self._small.values(), *self._local.values()]))
        return self._policy

    @property
    def is_managed(self) -> bool:
        """Whether there is such a host and isolane runs on it."""
        host = self._small.get(documents.key_of(ObjectId("Host", "", self.host)))
        return isinstance(host, Host) and host.managed

    @property
    def local_ports(self) -> Collection[Port]:
        return self._local.values()

    def whole(self) -> Whole:
        """All rows. None at all while the host is not in the intent: nothing may be left of what it had."""
        if not self.is_managed:
            return Whole(dict.fromkeys(PUT_ORDER, b""), Ids({self.host: SELF}, {}, {}))
        networks = self._networks()
        endpoints = self.policy.endpoint_by_name
        subnets = [subnet for subnet in self.policy.vm_subnets if subnet.network_id in networks]
        places = port_rows.Places(subnets, endpoints.values(), endpoints[self.host])
        tenants = {tenant: self._ports.get(tenant, {}).values() for _, tenant, _ in networks}
        remote = port_rows.rows_of(tenants, places)
        self._homes = Counter(port.host for port in self._local.values())
        self._homes.update(dict(zip(places.host_names, remote.homes.tolist(), strict=True)))
        tables = compiler.compile_host(self.policy, self.host, self._presence(networks))
        self.ids = self.ids.extend(tables)
        numbers = [self.ids.hosts.get(name, 0) for name in places.host_names]
        remote.number(np.array(numbers, np.uint32))
        more = {RowKind.RECORD: remote.records.tobytes(), RowKind.PA: remote.pas.tobytes()}
        rows = {
            kind: _canonical(kind, rows) + more.get(kind, b"")
            for kind, rows in zip(PUT_ORDER, tables.rows(self.ids), strict=True)
        }
        return Whole(rows, self.ids)

    # ---- what changes

    def change(self, changes: Mapping[str, bytes | None]) -> Step | None:
        """Take over what has changed in the store, key by key. None: ask for the whole."""
        networks = self._networks()
        records = self._record_hosts()
        affected = self._take(changes)
        if self._is_for_all(affected):
            return None
        now = self._networks()
        self._add_dependents(affected, networks ^ now)
        if len(affected.ports) > MAX_AFFECTED:
            return None
        before, after = self._parts(affected, networks ^ now)
        presence = Presence(frozenset(networks), frozenset({self.host, *+self._homes, *records}))
        old = compiler.compile_host(before, self.host, presence)
        self._count(before, networks, -1)
        self._count(after, now, +1)
        new = compiler.compile_host(after, self.host, self._presence(now))
        ids = _united(self.ids, self.ids.extend(new))
        self.ids = self._used(ids, now)
        return Step(reconcile.rows_of(old, ids), reconcile.rows_of(new, ids), ids)

    def _take(self, changes: Mapping[str, bytes | None]) -> _Affected:
        affected = _Affected({}, {}, {})
        for key, value in changes.items():
            kind, tenant, name = documents.id_of(key)
            if kind == "Port":
                ports = self._ports.setdefault(tenant, {})
                affected.ports[tenant, name] = ports.get(name), value
                _set(ports, name, value)
                self._set_local(key, value)
                continue
            item = None if value is None else documents.load(key, value, complete=True)
            if key in self._small:
                affected.before[key] = self._small[key]
            if item is not None:
                affected.after[key] = item
            _set(self._small, key, item)
            self._policy = None
        return affected

    def _is_for_all(self, affected: _Affected) -> bool:
        own = documents.key_of(ObjectId("Host", "", self.host))
        keys = affected.before.keys() | affected.after.keys()
        return own in keys or not self.is_managed or any(documents.id_of(key).kind in _TO_ALL for key in keys)

    def _add_dependents(self, affected: _Affected, flipped: Collection[ObjectId]) -> None:
        """Ports whose rows follow from an object that is another now, or was there in neither state."""
        subnets = {item.id for item in affected.before.values() if isinstance(item, VMSubnet)}
        subnets |= {subnet.id for subnet in self._subnets() if subnet.network_id in flipped}
        hosts = {item.name for item in affected.before.values() if isinstance(item, Host)}
        tenants = set(self._ports) if hosts else {identity.tenant for identity in subnets}
        names = [subnet.name for subnet in subnets]
        mentions = [f':"{name}"'.encode() for name in (*hosts, *names)]  # a quick look before decoding
        for tenant in tenants:
            for name, document in self._ports.get(tenant, {}).items():
                if len(affected.ports) > MAX_AFFECTED:
                    return
                if (tenant, name) not in affected.ports and any(each in document for each in mentions):
                    subnet, host = port_rows.home(document)
                    if host in hosts or ObjectId("VMSubnet", tenant, subnet) in subnets:
                        affected.ports[tenant, name] = document, document

    def _parts(self, affected: _Affected, flipped: Collection[ObjectId]) -> tuple[Policy, Policy]:
        """Of the intent before and after: what is affected, and what is named by that."""
        ports = [
            {_load_port(*identity, each[when]) for identity, each in affected.ports.items() if each[when]}
            for when in (0, 1)
        ]
        objects = [*affected.before.values(), *affected.after.values()]
        routed = {item.network_id for item in objects if isinstance(item, VMSubnet | CustomerRoute)}
        routed |= set(flipped)
        subnets = {port.subnet_id for each in ports for port in each}
        hosts = {port.host for each in ports for port in each} | {self.host}
        hosts |= {item.name for item in objects if isinstance(item, Host)}
        around = [item for item in self._around(affected, subnets, routed, hosts)]
        return (
            _policy([*around, *affected.before.values(), *ports[0]]),
            _policy([*around, *affected.after.values(), *ports[1]]),
        )

    def _around(
        self,
        affected: _Affected,
        subnets: Collection[ObjectId],
        routed: Collection[ObjectId],
        hosts: Collection[str],
    ) -> Iterator[Object]:
        """What is the same before and after."""
