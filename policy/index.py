"""Keys beside objects and grants, by which a change finds whom it concerns without reading everything. Pure.

Whoever writes intent writes them in the same transaction; they follow from the objects and grants alone:

index/ready                        LAYOUT: all that is stored is in this index
index/port/NAME                    tenant: whose Port has the name
index/host/HOST/TENANT/NAME        NETNS/DEVICE or nothing: the Ports of a host and their devices
index/mac/MAC/TENANT/SUBNET        name: the Port of the VM subnet that states the MAC
index/mac/MAC//HOST                nothing: the Host whose underlay has it
index/pool/TENANT/PLACE/NAME       nothing: the IPPools of a VM subnet, and with no tenant those of a site
index/home/TENANT/NETWORK/HOST     three counts: Ports of a VM network on a host, those of them with an IPv4
                                   and those with an IPv6 provider address
index/held/SHARD/KIND/TENANT/NAME/POOL/VALUE   until when the value is held down for its last owner
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import NamedTuple

from policy.errors import ObjectId
from policy.grants import Grant, Grants, Value
from policy.model import Host, Intent, IPPool, Object, Policy, Port, VMSubnet

PREFIX = "index/"
READY = f"{PREFIX}ready"
LAYOUT = b"1"
MACS = f"{PREFIX}mac/"

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


def port_name(name: str) -> str:
    return f"{PREFIX}port/{name}"


def ports_of_host(host: str) -> str:
    """The prefix of their keys."""
    return f"{PREFIX}host/{host}/"


def device(port: Port) -> bytes:
    return f"{port.attach.netns}/{port.attach.device}".encode() if port.attach else b""


def mac(address: str) -> str:
    """The prefix of the keys of all who state it."""
    return f"{MACS}{address}/"


def port_mac(port: Port) -> str:
    return f"{mac(port.mac)}{port.tenant}/{port.vm_subnet}"


def host_macs(address: str) -> str:
    """The prefix of the keys of hosts whose underlay has it."""
    return f"{mac(address)}/"


def pools_of(place: ObjectId) -> str:
    """The prefix of the keys of a VM subnet's or a site's pools."""
    return f"{PREFIX}pool/{place.tenant}/{place.name}/"


def items_of_object(item: Object) -> Iterator[tuple[str, bytes]]:
    """What is kept for an object as it was stated, besides its part of homes."""
    match item:
        case Port():
            yield port_name(item.name), item.tenant.encode()
            yield f"{ports_of_host(item.host)}{item.tenant}/{item.name}", device(item)
            if item.mac:
                yield port_mac(item), item.name.encode()
        case Host():
            if item.underlay.mac:
                yield f"{host_macs(item.underlay.mac)}{item.name}", b""
        case IPPool():
            place = ObjectId("", "", item.site) if item.site else item.subnet_id
            yield f"{pools_of(place)}{item.name}", b""
        case _:
            pass


def who_states_mac(items: Mapping[str, bytes]) -> Iterator[tuple[str, ObjectId]]:
    """MAC and object, of items of the index whose keys begin with `MACS`."""
    for key, value in items.items():
        address, tenant, name = key.removeprefix(MACS).split("/")
        yield address, ObjectId("Port", tenant, value.decode()) if tenant else ObjectId("Host", "", name)


# ---- homes -------------------------------------------------------------------------------------------------


class Home(NamedTuple):
    """A VM network on a host."""

    network: ObjectId
    host: str

    @property
    def key(self) -> str:
        return f"{homes_of(self.network)}{self.host}"


class Counts(NamedTuple):
    """Of the ports of a home."""

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


def homes_of(network: ObjectId) -> str:
    """The prefix of their keys."""
    return f"{PREFIX}home/{network.tenant}/{network.name}/"


def read_counts(value: bytes | None) -> Counts:
    return Counts(*map(int, value.split())) if value else Counts()


def write_counts(counts: Counts) -> bytes:
    return b"%d %d %d" % counts


def count_homes(ports: Iterable[Port], subnets: Mapping[ObjectId, VMSubnet]) -> dict[Home, Counts]:
    """Of complete ports."""
    counts: Counter[tuple[Home, int]] = Counter()
    for port in ports:
        home = Home(subnets[port.subnet_id].network_id, port.host)
        counts[home, 0] += 1
        counts.update((home, version) for version in {pa.version for pa in port.provider_addresses})
    return {
        home: Counts(count, counts[home, 4], counts[home, 6])
        for (home, version), count in counts.items()
        if not version
    }


# ---- held down ---------------------------------------------------------------------------------------------


class Held(NamedTuple):
    owner: ObjectId
    value: Value
    until: float


def owner_of(grant: Grant) -> ObjectId:
    kind, _, name = grant.owner.partition(" ")
    tenant, _, short = name.rpartition("/")
    return ObjectId(kind, tenant, short)


def held_of_shard(owner: ObjectId) -> str:
    """The prefix of the keys of all that is held down for it, and for a 4096th of all other owners."""
    shard = blake2b("/".join(owner).encode(), digest_size=2).hexdigest()[:3]
    return f"{PREFIX}held/{shard}/"


def part_of_held(number: int) -> str:
    """The prefix of the keys of a part of all that is held down; 256 numbers in a row make the whole."""
    return f"{PREFIX}held/{number % 256:02x}"


def items_of_grants(grants: Grants) -> Iterator[tuple[str, bytes]]:
    for value, grant in grants.items():
        if grant.held_until is not None:
            owner = owner_of(grant)
            key = f"{held_of_shard(owner)}{'/'.join(owner)}/{value.pool}/{value.text}"
            yield key, repr(grant.held_until).encode()


def read_held(items: Mapping[str, bytes]) -> Iterator[tuple[str, Held]]:
    """The inverse of items_of_grants, with the keys."""
    for key, until in items.items():
        _, _, _, kind, tenant, name, *pool, text = key.split("/")
        yield key, Held(ObjectId(kind, tenant, name), Value("/".join(pool), text), float(until))


# ---- all of it ---------------------------------------------------------------------------------------------


def items_of(stated: Intent, policy: Policy, grants: Grants) -> dict[str, bytes]:
    """The index of a whole store."""
    items = {key: value for item in stated.by_id.values() for key, value in items_of_object(item)}
    homes = count_homes(policy.ports, policy.subnet_by_id)
    items |= {home.key: write_counts(counts) for home, counts in homes.items()}
    items |= items_of_grants(grants)
    if all(identity.kind in KINDS for identity in stated.by_id):
        items[READY] = LAYOUT
    return items
