"""Keys beside objects and grants, by which a change finds whom it concerns without reading everything. Pure.

Whoever writes intent writes them in the same transaction; they follow from the objects and grants alone.
Their values, by the names that policy/kinds/keys.py gives the keys:

ready       LAYOUT
port        nothing
host        NETNS/DEVICE, or nothing
mac         of a Port its name, of a Host nothing
pool        nothing
presence    three counts: Ports of a VM network on a host, those of them with an IPv4 and those with an IPv6
            provider address
quarantine  until when the value is held down, in Unix seconds
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from policy.errors import ObjectId
from policy.ipam.ledger import Grants, Value
from policy.kinds import keys
from policy.kinds.model import Host, IPPool, Object, Port, VMSubnet

LAYOUT = b"3"
"""The value of keys.INDEX_READY."""

KINDS = frozenset(
    {
        "Tenant",
        "LogicalNetwork",
        "NetworkSite",
        "Host",
        "ProviderRoute",
        "MACPool",
        "VMNetwork",
        "VMSubnet",
        "IPPool",
        "Port",
        "CustomerRoute",
        "LookupRecord",
        "ProviderAddress",
    }
)
"""All that is needed of these is here; a store with objects of others is not ready. Of LookupRecords and
ProviderAddresses nothing is: whoever needs one looks at all.
"""


def device(port: Port) -> bytes:
    return f"{port.attach.netns}/{port.attach.device}".encode() if port.attach else b""


def port_mac(port: Port) -> str:
    return keys.port_mac_key(port.mac, port.subnet_id)


def items_of_object(item: Object) -> Iterator[tuple[str, bytes]]:
    """What is kept for an object as it was stated, besides its part in a presence."""
    match item:
        case Port():
            yield keys.named_port_key(item.id), b""
            yield keys.host_port_key(item.host, item.id), device(item)
            if item.mac:
                yield port_mac(item), item.name.encode()
        case Host():
            if item.underlay.mac:
                yield keys.host_mac_key(item.underlay.mac, item.name), b""
        case IPPool():
            place = ObjectId("", "", item.site) if item.site else item.subnet_id
            yield keys.pool_key(place, item.name), b""
        case _:
            pass


def owners(items: Mapping[str, bytes]) -> Iterator[tuple[str, ObjectId]]:
    """By key, whose object an item of the index is kept for: of all that items_of_object makes."""
    for key, value in items.items():
        if key.startswith(keys.INDEX_PORTS):
            yield key, keys.named_port(key)
        elif key.startswith(keys.INDEX_HOSTS):
            yield key, keys.host_port(key)
        elif key.startswith(keys.INDEX_POOLS):
            yield key, keys.pool_id(key)
        elif key.startswith(keys.INDEX_MACS):
            yield from ((key, owner) for _, owner in who_states_mac({key: value}))


def who_states_mac(items: Mapping[str, bytes]) -> Iterator[tuple[str, ObjectId]]:
    """MAC and object, of items of the index whose keys begin with keys.INDEX_MACS."""
    for key, value in items.items():
        address, place = keys.mac_owner(key)
        yield address, ObjectId("Port", place.tenant, value.decode()) if place.tenant else place


# ---- presences ---------------------------------------------------------------------------------------------


class Presence(NamedTuple):
    """A VM network on a host."""

    network: ObjectId
    host: str

    @property
    def key(self) -> str:
        return keys.presence_key(self.network, self.host)


class Counts(NamedTuple):
    """Of the ports of a presence."""

    ports: int = 0
    with_pa4: int = 0
    with_pa6: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*map(sum, zip(self, other, strict=True)))

    def minus(self, other: "Counts") -> "Counts":
        return Counts(*(one - less for one, less in zip(self, other, strict=True)))

    @property
    def versions(self) -> set[int]:
        return {version for version, count in ((4, self.with_pa4), (6, self.with_pa6)) if count}


def read_counts(value: bytes | None) -> Counts:
    return Counts(*map(int, value.split())) if value else Counts()


def write_counts(counts: Counts) -> bytes:
    return b"%d %d %d" % counts


def count_presences(ports: Iterable[Port], subnets: Mapping[ObjectId, VMSubnet]) -> dict[Presence, Counts]:
    """Of complete ports."""
    counts: Counter[tuple[Presence, int]] = Counter()
    for port in ports:
        presence = Presence(subnets[port.subnet_id].network_id, port.host)
        counts[presence, 0] += 1
        counts.update((presence, version) for version in {pa.version for pa in port.provider_addresses})
    return {
        presence: Counts(count, counts[presence, 4], counts[presence, 6])
        for (presence, version), count in counts.items()
        if not version
    }


# ---- quarantine --------------------------------------------------------------------------------------------


class Quarantined(NamedTuple):
    owner: ObjectId
    value: Value
    until: float


def items_of_grants(grants: Grants) -> Iterator[tuple[str, bytes]]:
    for value, grant in grants.items():
        if grant.held_until is not None:
            held = keys.Quarantined(ObjectId.parse(grant.owner), value.pool, value.text)
            yield keys.quarantine_key(held), repr(grant.held_until).encode()


def read_quarantine(items: Mapping[str, bytes]) -> Iterator[tuple[str, Quarantined]]:
    """The inverse of items_of_grants, with the keys."""
    for key, until in items.items():
        owner, pool, text = keys.quarantined(key)
        yield key, Quarantined(owner, Value(pool, text), float(until))
