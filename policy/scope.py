"""What a change can conflict with or needs, found by keys: objects in which it is planned as in the whole.

Around a change are objects of two sorts. Active ones are changed, or state or were given what a changed one
states, or may be given other values for another reason; they are there as stated, with their grants. All
others are there because an active one needs them, and complete: nothing that they were given can change.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from policy import documents, finding, grants, index, validate
from policy.errors import ObjectId
from policy.finding import WideError
from policy.grants import Grant, Value
from policy.model import (
    Address,
    CustomerRoute,
    Host,
    IPPool,
    NetworkSite,
    Object,
    Port,
    Tenant,
    VMNetwork,
    VMSubnet,
)
from policy.store import Reading

MOST = 20_000
"""As many objects a change is planned among; among more it is no faster than in the whole."""


_RAW = ("LookupRecord", "ProviderAddress")
"""All of them are looked at, and nothing is ever given to one."""


class Scope:
    """The objects around a change. WideError: it is too wide for that.

    after: what there is then, as it is to be planned; gone: what of it is not there any more.
    stored, complete: what the store has of those, as stated (active ones only) and as they were given.
    """

    def __init__(
        self, reading: Reading, stated: Mapping[ObjectId, Object], gone: Collection[ObjectId]
    ) -> None:
        self._reading = reading
        self.gone = frozenset(gone)
        self.after: dict[ObjectId, Object] = {}
        self.stored: dict[ObjectId, Object] = {}
        self.complete: dict[ObjectId, Object] = {}
        self.active: set[ObjectId] = set()
        reading.load([index.READY, *map(documents.key_of, (*stated, *gone))])
        if not finding.is_indexed(reading):
            raise WideError("not indexed")
        for item in stated.values():
            before = self.load_stored(item.id)
            if before is not None:
                self.stored[item.id] = before
            if before != item:
                self.after[item.id] = item
        self._touched = set(self.after) | self.gone
        self._activate(self._touched)
        for identity in sorted(self._touched):
            self._check(self.stored.get(identity), self.after.get(identity))

    # ---- reading

    def load_stored(self, identity: ObjectId) -> Object | None:
        """As it was stated."""
        return self._load(identity, complete=False)

    def _load(self, identity: ObjectId, complete: bool) -> Object | None:
        key = documents.key_of(identity)
        value = self._reading.get(key)
        return None if value is None else documents.load(key, value, complete)

    def _activate(self, identities: Iterable[ObjectId]) -> None:
        """They are changed, or may be; what they refer to comes with them."""
        fresh = set(identities) - self.active
        if len(fresh) + len(self.active) > MOST:
            raise WideError(f"more than {MOST}")
        self._reading.load(map(documents.key_of, fresh))
        for identity in fresh:
            stored, complete = self.load_stored(identity), self._load(identity, complete=True)
            if stored is not None and complete is not None:
                self.stored[identity], self.complete[identity] = stored, complete
                if identity not in self._touched:
                    self.after[identity] = stored
        self.active |= fresh
        self._need(
            target
            for identity in fresh
            for item in (self.after.get(identity), self.complete.get(identity))
            for _, target in validate.references(item)
        )

    def _need(self, identities: Iterable[ObjectId]) -> None:
        """They are looked at, and what they refer to."""
        waiting = set(identities)
        while waiting:
            fresh = {target for target in waiting - self._touched if target.name} - self.complete.keys()
            self._reading.load(map(documents.key_of, fresh))
            waiting = set()
            for identity in fresh:
                item = self._load(identity, complete=True)
                if item is not None:
                    self.complete[identity] = self.after[identity] = item
                    waiting |= {target for _, target in validate.references(item)}

    def _all(self, kind: str, tenant: str = "", to: ObjectId | None = None) -> Iterator[Object]:
        """All that the store has of a kind, complete; those of a tenant that refer to an object."""
        prefix = documents.prefix_of(kind, tenant if to else None)
        for key, value in self._reading.under(prefix).items():
            if to and f'"{to.name}"'.encode() not in value:
                continue  # no need to read all of it
            item = documents.load(key, value, complete=True)
            if to is None or any(target == to for _, target in validate.references(item)):
                yield item

    def _need_all(self, kind: str) -> None:
        self._need([item.id for item in self._all(kind)])

    # ---- what a change of an object concerns

    def _check(self, before: Object | None, after: Object | None) -> None:
        """WideError: more than can be told by keys."""
        if before is not None and after is not None and replace(before, labels=after.labels) == after:
            return
        match after or before:
            case Port() | VMSubnet() | CustomerRoute():
                return
            case IPPool() if not any(isinstance(pool, IPPool) and pool.site for pool in (before, after)):
                return
            case VMNetwork() | Host() if before is None or after is None:
                return
            case Tenant() if after is not None and self._reading.under(documents.prefix_of("Tenant")):
                return
        raise WideError(str((after or before).id))  # type: ignore[union-attr]

    def find(self) -> None:
        """Find all of them."""
        raw = finding.raw_objects(self._reading)
        self._need(item.id for item in raw)
        # Rules on records, like those on routes, hold for VSIDs that are stated first.
        self._activate(set(finding.subnets_of_records(self._reading, raw)) - self._touched)
        for identity in sorted(self._touched):
            before, after = self.stored.get(identity), self.after.get(identity)
            if before is None or after is None or replace(before, labels=after.labels) != after:
                for item in (before, after):
                    self._look_around(item)
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
        self._activate([subnet.id for subnet in self._all("VMSubnet", network.tenant, network)])
        self._need([route.id for route in self._all("CustomerRoute", network.tenant, network)])

    def _look_into(self, subnet: ObjectId) -> None:
        """Its ports may be given other values, from its pools."""
        self._activate(finding.ports_of_subnet(self._reading, subnet))
        self._need_pools(subnet)

    def _need_pools(self, place: ObjectId) -> None:
        names = [key.rpartition("/")[2] for key in self._reading.under(index.pools_of(place))]
        self._need(ObjectId("IPPool", place.tenant, name) for name in names)

    # ---- who else has what is stated

    def _look_at_keys(self) -> None:
        changed = [item for identity, item in self.after.items() if identity in self._touched]
        values = [value.key for item in changed for value in self._stated_values(item)]
        names = [index.port_name(item.name) for item in changed if isinstance(item, Port)]
        macs = [index.port_mac(item) for item in changed if isinstance(item, Port) and item.mac]
        of_hosts = [
            index.host_macs(item.underlay.mac)
            for item in changed
            if isinstance(item, Host) and item.underlay.mac
        ]
        self._reading.load([*values, *names, *macs], of_hosts)
        found = {index.owner_of(grant) for grant in self.grants(values).values() if grant.held_until is None}
        for prefix in of_hosts:
            found |= {owner for _, owner in index.who_states_mac(self._reading.under(prefix))}
        stating = {key: value for key in macs if (value := self._reading.get(key)) is not None}
        found |= {owner for _, owner in index.who_states_mac(stating)}
        for key in names:
            tenant = self._reading.get(key)
            if tenant is not None:
                found.add(ObjectId("Port", tenant.decode(), key.rpartition("/")[2]))
        self._activate({owner for owner in found - self._touched if owner.kind not in _RAW})

    def grants(self, keys: Iterable[str]) -> dict[Value, Grant]:
        """What the store has of these."""
        keys = list(keys)
        self._reading.load(keys)
        return grants.decode({key: value for key in keys if (value := self._reading.get(key)) is not None})

    def _stated_values(self, item: Object) -> Iterator[Value]:
        match item:
            case Port():
                for address in item.addresses:
                    pool = grants.ca_pool(item.tenant, item.vm_subnet, address.version)
                    yield Value(pool, str(address))
                yield from self._stated_pas(item.host, item.provider_addresses)
                if item.mac:
                    yield Value(grants.MAC_POOL, item.mac)
            case Host():
                yield from self._stated_pas(item.name, item.provider_addresses)
                if item.underlay.mac:
                    yield Value(grants.MAC_POOL, item.underlay.mac)
            case VMSubnet() if item.vsid:
                yield grants.vsid_value(item.vsid)
            case _:
                pass

    def _stated_pas(self, host: str, pas: Iterable[Address]) -> Iterator[Value]:
        """A PA that is not of the host's site is a mistake; it may be somebody's on any other."""
        site = _site_of(self.after, host)
        for pa in pas:
            sites = [site] if site is not None and site.subnet_of(pa) else self._all_sites()
            yield from (Value(grants.pa_pool(each.name, pa.version), str(pa)) for each in sites)

    def _all_sites(self) -> list[NetworkSite]:
        self._need_all("NetworkSite")
        return [item for item in self.after.values() if isinstance(item, NetworkSite)]

    def _look_at_hosts(self) -> None:
        """Of ports that come to a host or change their device: who has it, and whether the host is full."""
        coming: dict[str, list[Port]] = {}
        for identity in self._touched:
            port = self.after.get(identity)
            if isinstance(port, Port) and not _is_placed_like(self.complete.get(identity), port):
                coming.setdefault(port.host, []).append(port)
        then = Counter(
            port.host
            for identity in self._touched
            if isinstance(port := self.after.get(identity), Port) and port.host in coming
        )
        self._reading.load(prefixes=map(index.ports_of_host, coming))
        before = Counter(
            port.host
            for identity in self._touched
            if isinstance(port := self.complete.get(identity), Port) and port.host in coming
        )
        for name, ports in coming.items():
            there = self._reading.under(index.ports_of_host(name))
            host = self.after.get(ObjectId("Host", "", name))
            full = len(there) - before[name] + then[name] > validate.MAX_LOCAL_PORTS
            is_full = full and isinstance(host, Host) and host.managed
            devices = {index.device(port) for port in ports} - {b""}
            if is_full or devices:
                self._activate(
                    ObjectId("Port", *key.split("/")[-2:])
                    for key, device in there.items()
                    if is_full or device in devices
                )

    # ---- what they need

    def _with_tenants(self) -> None:
        """Those that are named; if one is missing, another, by which it is known that they have to be."""
        named = {ObjectId("Tenant", "", identity.tenant) for identity in self.after if identity.tenant}
        self._need(named)
        if not named <= self.after.keys():
            for key in self._reading.under(documents.prefix_of("Tenant")):
                self._need([documents.id_of(key)])
                break

    def _with_pools(self) -> None:
        items = [item for identity in self.active if (item := self.after.get(identity)) is not None]
        ports = [item for item in items if isinstance(item, Port)]
        hosts = {port.host for port in ports} | {item.name for item in items if isinstance(item, Host)}
        sites = {site.id for host in hosts if (site := _site_of(self.after, host)) is not None}
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
            for identity in sorted(self.active & self.complete.keys())
        }

    def _values_of(self, complete: Object) -> Iterator[Value]:
        match complete:
            case Port():
                for address in complete.addresses:
                    pool = grants.ca_pool(complete.tenant, complete.vm_subnet, address.version)
                    yield Value(pool, str(address))
                yield Value(grants.MAC_POOL, complete.mac)
                yield from self._pas_of(complete.host, complete.provider_addresses)
            case Host():
                yield from self._pas_of(complete.name, complete.provider_addresses)
            case VMSubnet():
                yield grants.vsid_value(complete.vsid)
            case _:
                pass

    def _pas_of(self, host: str, pas: Iterable[Address]) -> Iterator[Value]:
        site = _site_of(self.complete, host)
        assert site is not None, "what is stored has all that it refers to"
        yield from (Value(grants.pa_pool(site.name, pa.version), str(pa)) for pa in pas)


class Outside:
    """What those have who are not active, for the book of those who are (grants.Others)."""

    def __init__(self, reading: Reading, active: Collection[ObjectId], now: float) -> None:
        self._reading = reading
        self._active = active
        self._now = now

    def stated(self, pool: str, texts: Iterable[str]) -> set[str]:
        if pool != grants.MAC_POOL:
            return set()
        prefixes = [index.mac(text) for text in texts]
        self._reading.load(prefixes=prefixes)
        return {mac for prefix in prefixes for mac in self._stated_under(prefix)}

    def taken(self, pool: str, texts: Iterable[str]) -> set[str]:
        texts = list(texts)
        keys = [Value(pool, text).key for text in texts]
        self._reading.load(keys)
        items = {key: value for key in keys if (value := self._reading.get(key)) is not None}
        return self._not_free(items) | self.stated(pool, texts)

    def all_taken(self, pool: str) -> set[str]:
        stated = self._stated_under(index.MACS) if pool == grants.MAC_POOL else set()
        return self._not_free(self._reading.under(f"{grants.PREFIX}{pool}/")) | stated

    def _stated_under(self, prefix: str) -> set[str]:
        stated = index.who_states_mac(self._reading.under(prefix))
        return {mac for mac, owner in stated if owner not in self._active}

    def _not_free(self, items: Mapping[str, bytes]) -> set[str]:
        return {
            value.text
            for value, grant in grants.decode(items).items()
            if grant.held_until is None or grant.held_until > self._now
        }


def _site_of(objects: Mapping[ObjectId, Object], host: str) -> NetworkSite | None:
    item = objects.get(ObjectId("Host", "", host))
    site = objects.get(ObjectId("NetworkSite", "", item.site)) if isinstance(item, Host) else None
    return site if isinstance(site, NetworkSite) else None


def _is_placed_like(before: Object | None, port: Port) -> bool:
    return isinstance(before, Port) and (before.host, before.attach) == (port.host, port.attach)
