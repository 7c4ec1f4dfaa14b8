"""What one host needs to know of the intent, kept up to date change by change: the rows of its tables.

It knows every object of the store. Ports, of which there may be a million, it keeps as their documents; the
rest is parsed. A change of a few objects is compiled from just those objects, and what they have to do with,
before and after it; a large one asks for all rows anew. Pure; one thread at a time.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from dataplane.binding import tables as dp
from dataplane.binding.tables import RowKind
from policy.compile import compiler, diff, port_rows
from policy.compile.collection import uncollected
from policy.compile.compiler import Presence
from policy.compile.diff import PUT_ORDER, Packed, Rows
from policy.compile.members import Members
from policy.compile.quarantine import Quarantine
from policy.compile.tables import SELF, Ids
from policy.errors import ObjectId, PolicyError, UnreadableError
from policy.kinds import documents, keys
from policy.kinds.model import CustomerRoute, Host, Object, Policy, Port, ProviderAddress, VMSubnet, intent_of
from policy.store.contract import LAST

MAX_AFFECTED = 4_096
"""Ports; beyond it all rows made anew take no longer."""

_FOR_ALL = ("NetworkSite", "ProviderRoute", "LookupRecord", "ProviderAddress")
"""Kinds that seldom change: all rows are made anew."""

_PORTS = f"{keys.INTENT}Port/"

INCONSISTENT = (*port_rows.ERRORS, AssertionError, RuntimeError, StopIteration)
"""Of a policy that nobody would have admitted as a whole."""

K = TypeVar("K")
V = TypeVar("V")


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

    @cached_property
    def digests(self) -> dict[RowKind, int]:
        """By what the change alters those of all rows, mod 2^64."""
        return {
            kind: _digest(kind, self.after) - _digest(kind, self.before)
            if self.after[kind] != self.before[kind]
            else 0
            for kind in PUT_ORDER
        }


@dataclass(frozen=True, slots=True)
class _Affected:
    """What is another than it was, before and after; of ports, by key, the documents."""

    ports: dict[str, tuple[bytes | None, bytes | None]]
    before: dict[ObjectId, Object]
    after: dict[ObjectId, Object]

    def has(self, *kinds: str) -> bool:
        return any(identity.kind in kinds for identity in (*self.before, *self.after))


@dataclass(frozen=True, slots=True)
class _Before:
    """VM networks and subnets that had a port here, and the hosts that had one in those networks."""

    networks: frozenset[ObjectId]
    hosts: frozenset[str]
    subnets: frozenset[ObjectId]


class HostView:
    def __init__(self, host: str, items: Mapping[str, bytes], ids: Ids | None = None) -> None:
        """items: of the store, with the prefix of documents. ids: what a core has names for already."""
        self.host = host
        self.ids = ids or Ids({host: SELF}, {}, {})
        self._id = ObjectId("Host", "", host)
        self._ports: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._others: dict[str, dict[ObjectId, Object]] = defaultdict(dict)
        self._local: dict[ObjectId, Port] = {}
        self._quarantine = Quarantine()
        self._members = Members()
        self._policy: Policy | None = None
        self._is_whole = False  # ids and members are those of all rows
        with uncollected():
            names = sorted(items)
            if names != list(items):  # a store gives them so
                items = {name: items[name] for name in names}
            found = list(items.values())
            first, end = _under(names, _PORTS)
            others = [*names[:first], *names[end:]]
            self._take(*self._quarantine.admit({name: items[name] for name in others}, _load, self))
            local: dict[str, bytes] = {}
            while first < end:
                tenant = keys.object_id(names[first]).tenant
                _, after = _under(names, f"{_PORTS}{tenant}/")
                ports = dict(zip(names[first:after], found[first:after], strict=True))
                self._ports[tenant] = ports
                local |= {name: ports.pop(name) for name in _on_host(ports, host)}
                first = after
            self._take(*self._quarantine.admit(local, _load, self))
        self._missed = {key for key in self._quarantine.waiting if key in local}

    def go_by(self, ids: Ids) -> None:
        """Another core's: all rows come next."""
        self.ids = ids
        self._is_whole = False

    # ---- what there is

    def has(self, identity: ObjectId) -> bool:
        if identity.kind == "Port":
            return keys.object_key(identity) in self._ports.get(identity.tenant, {})
        return identity in self._others[identity.kind]

    def read(self, identity: ObjectId) -> Object | None:
        if identity.kind != "Port":
            return self._others[identity.kind].get(identity)
        key = keys.object_key(identity)
        document = self._ports.get(identity.tenant, {}).get(key)
        return None if document is None else _load_port(key, document)

    @property
    def quarantined(self) -> dict[str, str]:
        """By key, what of the store this view does not go by, and why: see quarantine."""
        return self._quarantine.problems

    @property
    def is_blocked(self) -> bool:
        """Whether so much is in quarantine that what this host forwards would end: the host itself, or from
        the start on a port of it for want of something else.
        """
        if keys.object_key(self._id) in self._quarantine and not self.has(self._id):
            return True
        return any(key in self._quarantine for key in self._missed)

    @property
    def policy(self) -> Policy:
        """All but the ports of other hosts."""
        if self._policy is None:
            self._policy = Policy(intent_of(self._parsed()))
        return self._policy

    @property
    def is_managed(self) -> bool:
        """Whether there is such a host and isolane runs on it."""
        host = self._others["Host"].get(self._id)
        return isinstance(host, Host) and host.managed

    @property
    def used_ids(self) -> Ids:
        """Of the names in the rows of now. `ids` has those of before too, until prune()."""
        if not self.is_managed:
            return Ids({self.host: SELF}, {}, {})
        networks = self._networks()
        return self.ids.only(
            self._hosts(),
            {network.qualified_name for network in networks},
            {identity.qualified_name for identity in self._local},
        )

    def prune(self) -> None:
        """Ids that no row has may be given out again. Call it when the core has no other rows any more, and
        no device is attached under an id that is not used: until then it would be another's.
        """
        self.ids = self.used_ids

    def whole(self) -> Whole:
        """All rows. None at all while the host is not in the intent: nothing may be left of what it had.

        PolicyError: the store holds what nobody committed.
        """
        try:
            return self._whole()
        except INCONSISTENT:
            self._let_go_of_superseded()
        try:
            return self._whole()
        except INCONSISTENT as error:
            raise PolicyError(f"the store holds what nobody committed: {error!r}") from error

    def _whole(self) -> Whole:
        if not self.is_managed:
            return Whole(dict.fromkeys(PUT_ORDER, b""), self.used_ids)
        networks = self._networks()
        endpoints = self.policy.endpoint_by_name
        subnets = [subnet for subnet in self.policy.vm_subnets if subnet.network_id in networks]
        places = port_rows.Places(subnets, endpoints.values(), endpoints[self.host])
        tenants = {tenant for _, tenant, _ in networks}
        with uncollected():
            remote = self._remote_rows(tenants, places)
        self._members = Members(places.subnet_ids, places.host_names, remote.homes)
        self._count(self.policy, networks, +1)
        members = self._members.all_of(self._subnets())
        tables = compiler.compile_host(self.policy, self.host, Presence(networks, self._hosts(), members))
        self.ids = self.ids.unite(self.ids.extend(tables))
        numbers = [self.ids.hosts.get(name, 0) for name in places.host_names]
        remote.number(np.array(numbers, np.uint32))
        self._is_whole = True
        more = {RowKind.RECORD: remote.records.tobytes(), RowKind.PA: remote.pas.tobytes()}
        return Whole(
            {
                kind: _canonical(kind, rows) + more.get(kind, b"")
                for kind, rows in zip(PUT_ORDER, tables.rows(self.ids), strict=True)
            },
            self.used_ids,
        )

    def _remote_rows(self, tenants: Collection[str], places: port_rows.Places) -> port_rows.PortRows:
        try:
            return port_rows.rows_of(self._documents_of(tenants), places)
        except port_rows.ERRORS:
            for tenant in tenants:
                self._quarantine_unreadable(tenant)
        return port_rows.rows_of(self._documents_of(tenants), places)

    def _documents_of(self, tenants: Collection[str]) -> dict[str, Iterable[bytes]]:
        return {tenant: self._ports.get(tenant, {}).values() for tenant in tenants}

    def _quarantine_unreadable(self, tenant: str) -> None:
        ports = self._ports.get(tenant, {})
        for key, document in list(ports.items()):
            try:
                _load(key, document)
            except UnreadableError as error:
                self._quarantine.hold(key, document, str(error))
                del ports[key]

    def _let_go_of_superseded(self) -> None:
        """What was read before of objects in quarantine does not go with the rest any more: they go, and what
        can't be without them.
        """
        self._is_whole = False
        gone = self._quarantine.in_force(self)
        while gone:
            self._take({keys.object_key(identity): None for identity in gone}, {})
            gone = self._quarantine.hold_referrers(self._parsed(), self)

    def _parsed(self) -> Iterator[Object]:
        for group in self._others.values():
            yield from group.values()
        yield from self._local.values()

    def _networks(self) -> frozenset[ObjectId]:
        """That have a port here."""
        subnets = (self._others["VMSubnet"][port.subnet_id] for port in self._local.values())
        return frozenset(subnet.network_id for subnet in subnets if isinstance(subnet, VMSubnet))

    def _subnets(self) -> frozenset[ObjectId]:
        """That have a port here."""
        return frozenset(port.subnet_id for port in self._local.values())

    def _hosts(self) -> frozenset[str]:
        """That have a port or a record in the VM networks that have a port here."""
        return frozenset({self.host, *+self._members.homes})

    # ---- what changes

    def change(self, changes: Mapping[str, bytes | None]) -> Step | None:
        """Take over what has changed in the store, key by key. None: ask for the whole, as before the first
        one.

        What can't be taken over is `quarantined`.
        """
        load = _load if len(changes) <= MAX_AFFECTED else partial(_load_but_remote, self.host)
        taken, items = self._quarantine.admit(changes, load, self)
        before = self._before() if self.is_managed and self._is_whole else None
        affected = self._take(taken, items)
        self._is_whole = False
        try:
            return self._step(before, affected, items)
        except INCONSISTENT:
            return None

    def _before(self) -> _Before:
        return _Before(self._networks(), self._hosts(), self._subnets())

    def _step(self, before: _Before | None, affected: _Affected, items: Mapping[str, Object]) -> Step | None:
        if before is None or self._concerns_all(affected):
            return None
        networks = self._networks()
        flipped = before.networks ^ networks
        if flipped and self._others["LookupRecord"]:
            return None
        self._add_dependents(affected, flipped)
        if len(affected.ports) > MAX_AFFECTED:
            return None
        subnets = self._subnets()
        joint = {*self._members.all_of(before.subnets ^ subnets)}
        then, now = self._parts(affected, flipped, items, {host for _, host in joint})
        joint |= {(port.subnet_id, port.host) for port in (*then.ports, *now.ports)}
        members = self._members.together(joint, before.subnets)
        self._count(then, before.networks, -1)
        self._count(now, networks, +1)
        old = compiler.compile_host(then, self.host, Presence(before.networks, before.hosts, members))
        after = Presence(networks, self._hosts(), self._members.together(joint, subnets))
        new = compiler.compile_host(now, self.host, after)
        ids = self.ids.unite(self.ids.extend(new))
        self.ids = ids
        self._is_whole = True
        return Step(diff.rows_of(old, ids), diff.rows_of(new, ids), ids)

    def _take(self, changes: Mapping[str, bytes | None], items: Mapping[str, Object]) -> _Affected:
        affected = _Affected({}, {}, {})
        for key, value in changes.items():
            identity, item = keys.object_id(key), items.get(key)
            if _is_port(key):
                ports = self._ports[identity.tenant]
                affected.ports[key] = ports.get(key), value
                _set(ports, key, value)
                self._take_local(identity, item)
                continue
            there = self._others[identity.kind]
            if identity in there:
                affected.before[identity] = there[identity]
            if item is not None:
                affected.after[identity] = item
            _set(there, identity, item)
            self._policy = None
        return affected

    def _take_local(self, identity: ObjectId, item: Object | None) -> None:
        port = item if isinstance(item, Port) and item.host == self.host else None
        if port != self._local.get(identity):
            _set(self._local, identity, port)
            self._policy = None

    def _concerns_all(self, affected: _Affected) -> bool:
        own = self._id in affected.before or self._id in affected.after
        more = bool(self._others["LookupRecord"]) and affected.has("Host", "VMSubnet")
        return own or more or affected.has(*_FOR_ALL)

    def _add_dependents(self, affected: _Affected, flipped: Collection[ObjectId]) -> None:
        """Ports that are as they were, but whose rows are not."""
        subnets = {item.id for item in affected.before.values() if isinstance(item, VMSubnet)}
        subnets |= {subnet.id for subnet in self._subnets_of(flipped)}
        hosts = {item.name for item in affected.before.values() if isinstance(item, Host)}
        if not hosts and not subnets:
            return
        for tenant in self._ports if hosts else {identity.tenant for identity in subnets}:
            for key, document in self._ports.get(tenant, {}).items():
                subnet, host = port_rows.home(document)
                if host in hosts or ObjectId("VMSubnet", tenant, subnet) in subnets:
                    affected.ports.setdefault(key, (document, document))
                    if len(affected.ports) > MAX_AFFECTED:
                        return

    def _parts(
        self,
        affected: _Affected,
        flipped: Collection[ObjectId],
        items: Mapping[str, Object],
        more: Collection[str],
    ) -> tuple[Policy, Policy]:
        """Of the intent before and after: what is affected, and what that has to do with. items: that are
        parsed already; more: hosts.
        """
        then = [_load_port(key, each) for key, (each, _) in affected.ports.items() if each is not None]
        now = [
            _load_port(key, each, items.get(key))
            for key, (_, each) in affected.ports.items()
            if each is not None
        ]
        objects = [*affected.before.values(), *affected.after.values()]
        networks = {item.network_id for item in objects if isinstance(item, VMSubnet | CustomerRoute)}
        subnets = {port.subnet_id for port in (*then, *now)}
        subnets |= {subnet.id for subnet in self._subnets_of({*networks, *flipped})}
        hosts = {
            self._id,
            *(ObjectId("Host", "", host) for host in {port.host for port in (*then, *now)} | {*more}),
        }
        hosts |= {item.id for item in objects if isinstance(item, Host)}
        around = [
            *(self._others["VMSubnet"].get(each) for each in subnets),
            *(self._others["Host"].get(each) for each in hosts),
            *self._others["NetworkSite"].values(),
            *(item for item in self._others["ProviderAddress"].values() if _is_on(item, hosts)),
            *(item for item in self._others["CustomerRoute"].values() if _is_in(item, {*networks, *flipped})),
        ]
        changed = {*affected.before, *affected.after}
        same = [item for item in around if item is not None and item.id not in changed]
        return (
            Policy(intent_of([*same, *affected.before.values(), *then])),
            Policy(intent_of([*same, *affected.after.values(), *now])),
        )

    def _subnets_of(self, networks: Collection[ObjectId]) -> Iterator[VMSubnet]:
        if networks:
            for subnet in self._others["VMSubnet"].values():
                if isinstance(subnet, VMSubnet) and subnet.network_id in networks:
                    yield subnet

    def _count(self, part: Policy, networks: Collection[ObjectId], sign: int) -> None:
        for subnet in part.vm_subnets:
            if subnet.network_id in networks:
                ports, records = (
                    part.ports_by_subnet.get(subnet.id, ()),
                    part.records_by_subnet.get(subnet.id, ()),
                )
                for host in (*(port.host for port in ports), *(record.host for record in records)):
                    self._members.count(subnet.id, host, sign)


def _under(ordered: Sequence[str], prefix: str) -> tuple[int, int]:
    """Where the keys that begin with a prefix begin, and where they end."""
    return bisect_left(ordered, prefix), bisect_left(ordered, prefix + LAST)


def _digest(kind: RowKind, rows: Rows) -> int:
    of_kind = rows[kind].values()
    return dp.digest(kind, b"".join(diff.canonical(kind, row) for row in of_kind)) if of_kind else 0


def _on_host(ports: Mapping[str, bytes], host: str) -> list[str]:
    """And those of which nobody can tell."""
    decode = port_rows.decode_home
    try:
        return [key for key, document in ports.items() if decode(document).spec.host == host]
    except port_rows.DecodeError:
        return [key for key, document in ports.items() if _host_of(document) in (host, None)]


def _host_of(document: bytes) -> str | None:
    try:
        return port_rows.decode_home(document).spec.host
    except port_rows.DecodeError:
        return None


def _load(key: str, document: bytes) -> Object:
    """UnreadableError."""
    return documents.load(key, document, complete=True)


def _load_but_remote(host: str, key: str, document: bytes) -> Object | None:
    """None: a port of another host; of so many all rows come anew, from their documents."""
    if not _is_port(key):
        return _load(key, document)
    return _load(key, document) if _host_of(document) in (host, None) else None


def _is_port(key: str) -> bool:
    return key.startswith(_PORTS)


def _load_port(key: str, document: bytes, loaded: Object | None = None) -> Port:
    port = loaded or documents.load(key, document, complete=True)
    assert isinstance(port, Port)
    return port


def _is_on(item: Object, hosts: Collection[ObjectId]) -> bool:
    return isinstance(item, ProviderAddress) and ObjectId("Host", "", item.host) in hosts


def _is_in(item: Object, networks: Collection[ObjectId]) -> bool:
    return isinstance(item, CustomerRoute) and item.network_id in networks


def _set(there: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        there.pop(key, None)
    else:
        there[key] = value


def _canonical(kind: RowKind, rows: Sequence[dp.Row]) -> bytes:
    return dp.canonical(kind, dp.as_array(kind, dp.pack_rows(kind, rows)), SELF).tobytes()
