"""The objects around those that are edited, found by keys: what they can conflict with, and what they need.

Affected are the objects that are edited, those that state or were given what an edited one states, and those
that may be given other values for another reason; they are there as stated. All others are there because an
affected one needs them, and complete: nothing that they were given can change.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from policy.errors import ObjectId
from policy.ipam import ledger
from policy.ipam.ledger import Grant, Value
from policy.kinds import codec, documents, keys
from policy.kinds.model import (
    Address,
    CustomerRoute,
    Host,
    Intent,
    IPPool,
    NetworkSite,
    Object,
    Port,
    Tenant,
    VMNetwork,
    VMSubnet,
)
from policy.rules import tenant
from policy.service import indexes, lookup
from policy.service.lookup import NeedsEverythingError
from policy.store.reading import Reading

MOST = 20_000
"""As many objects a change is planned among; among more it is no faster than among everything."""

_RAW = ("LookupRecord", "ProviderAddress")
"""All of them are looked at, and nothing is ever given to one."""


class Neighbours:
    """NeedsEverythingError: keys don't tell, or tell of too many.

    affected, and gone: those of them that are not there any more. after: what there is then, as it is to be
    planned. stored: what the store has of the affected ones, as stated; complete: of all, as it was given.
    """

    def __init__(self, reading: Reading, stated: Intent, gone: frozenset[ObjectId]) -> None:
        self._reading = reading
        self.gone = gone
        self.after: dict[ObjectId, Object] = {}
        self.stored: dict[ObjectId, Object] = {}
        self.complete: dict[ObjectId, Object] = {}
        self.affected: set[ObjectId] = set()
        reading.load([keys.INDEX_READY, *map(keys.object_key, (*stated.by_id, *gone))])
        if not lookup.is_indexed(reading):
            raise NeedsEverythingError("not indexed")
        for item in stated.by_id.values():
            before = self.load_stored(item.id)
            if before is not None:
                self.stored[item.id] = before
            if before != item:
                self.after[item.id] = item
        self._edited = set(self.after) | self.gone
        self._affect(self._edited)
        for identity in sorted(self._edited):
            self._check(self.stored.get(identity), self.after.get(identity))

    # ---- reading

    def load_stored(self, identity: ObjectId) -> Object | None:
        """As it was stated."""
        return self._load(identity, complete=False)

    def _load(self, identity: ObjectId, complete: bool) -> Object | None:
        key = keys.object_key(identity)
        value = self._reading.get(key)
        return None if value is None else documents.load(key, value, complete)

    def _affect(self, identities: Iterable[ObjectId]) -> None:
        """They are changed, or may be; what they refer to comes with them."""
        fresh = set(identities) - self.affected
        if len(fresh) + len(self.affected) > MOST:
            raise NeedsEverythingError(f"more than {MOST}")
        self._reading.load(map(keys.object_key, fresh))
        for identity in fresh:
            stored, complete = self.load_stored(identity), self._load(identity, complete=True)
            if stored is not None and complete is not None:
                self.stored[identity], self.complete[identity] = stored, complete
                if identity not in self._edited:
                    self.after[identity] = stored
        self.affected |= fresh
        self._need(
            target
            for identity in fresh
            for item in (self.after.get(identity), self.complete.get(identity))
            if item is not None
            for _, target in codec.references(item)
        )

    def _need(self, identities: Iterable[ObjectId]) -> None:
        """They are looked at, and what they refer to."""
        waiting = set(identities)
        while waiting:
            fresh = {target for target in waiting - self._edited if target.name} - self.complete.keys()
            self._reading.load(map(keys.object_key, fresh))
            waiting = set()
            for identity in fresh:
                item = self._load(identity, complete=True)
                if item is not None:
                    self.complete[identity] = self.after[identity] = item
                    waiting |= {target for _, target in codec.references(item)}

    def _all(self, kind: str, tenant: str = "", to: ObjectId | None = None) -> Iterator[Object]:
        """All that the store has of a kind, complete; those of a tenant that refer to an object."""
        prefix = keys.objects_of(kind, tenant if to else None)
        for key, value in self._reading.under(prefix).items():
            if to and not documents.may_name(value, to.name):
                continue  # no need to read all of it
            item = documents.load(key, value, complete=True)
            if to is None or any(target == to for _, target in codec.references(item)):
                yield item

    def _need_all(self, kind: str) -> None:
        self._need([item.id for item in self._all(kind)])

    # ---- what a change of an object concerns

    def _check(self, before: Object | None, after: Object | None) -> None:
        """NeedsEverythingError: more than can be told by keys."""
        if _is_labelled(before, after):
            return
        match after or before:
            case Port() | VMSubnet() | CustomerRoute():
                return
            case IPPool() if not any(isinstance(pool, IPPool) and pool.site for pool in (before, after)):
                return
            case VMNetwork() | Host() if before is None or after is None:
                return
            case Tenant() if after is not None and self._reading.under(keys.objects_of("Tenant")):
                return
        raise NeedsEverythingError(str((after or before).id))  # type: ignore[union-attr]

    def find(self) -> None:
        """Find all of them."""
        raw = lookup.raw_objects(self._reading)
        self._need(item.id for item in raw)
        # Rules on records, like those on routes, hold for VSIDs that are stated first.
        named = set(lookup.subnets_of_records(self._reading, raw))
        self._affect(named - self._edited)
        for identity in sorted(self._edited):
            before, after = self.stored.get(identity), self.after.get(identity)
            if _is_labelled(before, after):
                continue
            if identity in named:
                raise NeedsEverythingError("addresses of records are granted for the subnet's prefixes")
            self._look_around(before)
            self._look_around(after)
        self._look_at_keys()
        self._look_at_hosts()
        self._with_tenants()
        self._with_pools()

    def _look_around(self, item: Object | None) -> None:
        match item:
            case VMSubnet():
                self._look_around_network(item.network_id)
                self._look_into(item.id)
            case CustomerRoute():
                self._look_around_network(item.network_id)
            case IPPool():
                self._look_into(item.subnet_id)
            case Host():
                self._need_all("NetworkSite")
            case _:
                pass

    def _look_around_network(self, network: ObjectId) -> None:
        """Rules on routes hold for VSIDs that are stated first, then for those that were given."""
        self._affect([subnet.id for subnet in self._all("VMSubnet", network.tenant, network)])
        self._need([route.id for route in self._all("CustomerRoute", network.tenant, network)])

    def _look_into(self, subnet: ObjectId) -> None:
        """Its ports may be given other values, from its pools."""
        self._affect(lookup.ports_of_subnet(self._reading, subnet))
        self._need_pools(subnet)

    def _need_pools(self, place: ObjectId) -> None:
        self._need(map(keys.pool_id, self._reading.under(keys.pools_of(place))))

    # ---- who else has what is stated

    def _look_at_keys(self) -> None:
        changed = [item for identity, item in self.after.items() if identity in self._edited]
        values = [value.key for item in changed for value in self._stated_values(item)]
        macs = [indexes.port_mac(item) for item in changed if isinstance(item, Port) and item.mac]
        of_hosts = [
            keys.mac_hosts_of(item.underlay.mac)
            for item in changed
            if isinstance(item, Host) and item.underlay.mac
        ]
        self._reading.load([*values, *macs], of_hosts)
        found = {
            ObjectId.parse(grant.owner) for grant in self.grants(values).values() if grant.held_until is None
        }
        for prefix in of_hosts:
            found |= {owner for _, owner in indexes.who_states_mac(self._reading.under(prefix))}
        stating = {key: value for key in macs if (value := self._reading.get(key)) is not None}
        found |= {owner for _, owner in indexes.who_states_mac(stating)}
        self._affect({owner for owner in found - self._edited if owner.kind not in _RAW})

    def grants(self, values: Iterable[str]) -> dict[Value, Grant]:
        """What the store has under these keys."""
        wanted = list(values)
        self._reading.load(wanted)
        return ledger.decode({key: value for key in wanted if (value := self._reading.get(key)) is not None})

    def _stated_values(self, item: Object) -> Iterator[Value]:
        match item:
            case Port():
                for address in item.addresses:
                    pool = keys.ca_pool(item.tenant, item.vm_subnet, address.version)
                    yield Value(pool, str(address))
                yield from self._stated_pas(item.host, item.provider_addresses)
                if item.mac:
                    yield Value(keys.MAC_POOL, item.mac)
            case Host():
                yield from self._stated_pas(item.name, item.provider_addresses)
                if item.underlay.mac:
                    yield Value(keys.MAC_POOL, item.underlay.mac)
            case VMSubnet() if item.vsid:
                yield ledger.vsid_value(item.vsid)
            case _:
                pass

    def _stated_pas(self, host: str, pas: Iterable[Address]) -> Iterator[Value]:
        """A PA that is not of the host's site is a mistake; it may be somebody's on any other."""
        site = site_of(self.after, host)
        for pa in pas:
            sites = [site] if site is not None and site.subnet_of(pa) else self._all_sites()
            yield from (Value(keys.pa_pool(each.name, pa.version), str(pa)) for each in sites)

    def _all_sites(self) -> list[NetworkSite]:
        self._need_all("NetworkSite")
        return [item for item in self.after.values() if isinstance(item, NetworkSite)]

    def _look_at_hosts(self) -> None:
        """Of ports that come to a host or change their device: who has it, and whether the host is full."""
        coming: dict[str, list[Port]] = {}
        for identity in self._edited:
            port = self.after.get(identity)
            if isinstance(port, Port) and not _is_placed_like(self.complete.get(identity), port):
                coming.setdefault(port.host, []).append(port)
        then = Counter(
            port.host
            for identity in self._edited
            if isinstance(port := self.after.get(identity), Port) and port.host in coming
        )
        self._reading.load(prefixes=map(keys.ports_of, coming))
        before = Counter(
            port.host
            for identity in self._edited
            if isinstance(port := self.complete.get(identity), Port) and port.host in coming
        )
        for name, ports in coming.items():
            there = self._reading.under(keys.ports_of(name))
            host = self.after.get(ObjectId("Host", "", name))
            full = len(there) - before[name] + then[name] > tenant.MAX_LOCAL_PORTS
            is_full = full and isinstance(host, Host) and host.managed
            devices = {indexes.device(port) for port in ports} - {b""}
            if is_full or devices:
                self._affect(
                    keys.host_port(key) for key, device in there.items() if is_full or device in devices
                )

    # ---- what they need

    def _with_tenants(self) -> None:
        """Those that are named; if one is missing, another, by which it is known that they have to be."""
        named = {ObjectId("Tenant", "", identity.tenant) for identity in self.after if identity.tenant}
        self._need(named)
        if not named <= self.after.keys():
            for key in self._reading.under(keys.objects_of("Tenant")):
                self._need([keys.object_id(key)])
                break

    def _with_pools(self) -> None:
        items = [item for identity in self.affected if (item := self.after.get(identity)) is not None]
        ports = [item for item in items if isinstance(item, Port)]
        hosts = {port.host for port in ports} | {item.name for item in items if isinstance(item, Host)}
        sites = {site.id for host in hosts if (site := site_of(self.after, host)) is not None}
        for place in sorted({port.subnet_id for port in ports} | sites):
            self._need_pools(place)
        if any(not port.mac for port in ports):
            self._need_all("MACPool")

    def need_hosts(self, names: Iterable[str]) -> None:
        """Complete, and the ways between them."""
        self._need(ObjectId("Host", "", name) for name in names)
        if len({host.site for host in self.after.values() if isinstance(host, Host)}) > 1:
            self._need_all("ProviderRoute")

    # ---- what they had

    def values_before(self) -> dict[ObjectId, list[Value]]:
        """What the active ones had been given or stated, as far as there are grants for it."""
        return {
            identity: list(self._values_of(self.complete[identity]))
            for identity in sorted(self.affected & self.complete.keys())
        }

    def _values_of(self, complete: Object) -> Iterator[Value]:
        match complete:
            case Port():
                for address in complete.addresses:
                    pool = keys.ca_pool(complete.tenant, complete.vm_subnet, address.version)
                    yield Value(pool, str(address))
                yield Value(keys.MAC_POOL, complete.mac)
                yield from self._pas_of(complete.host, complete.provider_addresses)
            case Host():
                yield from self._pas_of(complete.name, complete.provider_addresses)
            case VMSubnet():
                yield ledger.vsid_value(complete.vsid)
            case _:
                pass

    def _pas_of(self, host: str, pas: Iterable[Address]) -> Iterator[Value]:
        site = site_of(self.complete, host)
        assert site is not None, "what is stored has all that it refers to"
        yield from (Value(keys.pa_pool(site.name, pa.version), str(pa)) for pa in pas)


def site_of(objects: Mapping[ObjectId, Object], host: str) -> NetworkSite | None:
    item = objects.get(ObjectId("Host", "", host))
    site = objects.get(ObjectId("NetworkSite", "", item.site)) if isinstance(item, Host) else None
    return site if isinstance(site, NetworkSite) else None


def _is_placed_like(before: Object | None, port: Port) -> bool:
    return isinstance(before, Port) and (before.host, before.attach) == (port.host, port.attach)


def _is_labelled(before: Object | None, after: Object | None) -> bool:
    """Whether it has other labels at most."""
    return before is not None and after is not None and replace(before, labels=after.labels) == after
