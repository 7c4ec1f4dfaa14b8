"""The keys of all that a store holds: built and taken apart here and nowhere else. Pure.

intent/KIND/TENANT/NAME            an object's document; the tenant is empty for objects of the fabric
grant/POOL/VALUE                   who has the value of the pool
index/ready                        the layout of the index: all that is stored is in it
index/port/NAME/TENANT             a Port of the name
index/host/HOST/TENANT/NAME        a Port on the host
index/mac/MAC/TENANT/SUBNET        the Port of the VM subnet that states the MAC
index/mac/MAC//HOST                the Host whose underlay has it
index/pool/TENANT/PLACE/NAME       an IPPool of a VM subnet, and with no tenant one of a site
index/presence/TENANT/NETWORK/HOST a VM network on a host
index/quarantine/SHARD/KIND/TENANT/NAME/POOL/VALUE   a value held down for its last owner
host/HOST                          what the host's agent says
links/HOST                         what it says of the links of ports' devices
event/UNIX NANOSECONDS, 20 digits-4 hex digits
changed                            written by every change of intent: its revision is that of the last one

A pool is one of `ca/TENANT/SUBNET/VERSION`, `pa/SITE/VERSION`, `vsid`, `mac`. Functions whose names end in
`_of` and begin in the plural give the prefix of the keys of all that belong there.
"""

from hashlib import blake2b
from typing import NamedTuple

from policy.errors import ObjectId

INTENT = "intent/"
GRANTS = "grant/"
INDEX = "index/"
HOSTS = "host/"
LINKS = "links/"
EVENTS = "event/"
CHANGED = "changed"

INDEX_READY = f"{INDEX}ready"
INDEX_MACS = f"{INDEX}mac/"
INDEX_PORTS = f"{INDEX}port/"
INDEX_HOSTS = f"{INDEX}host/"
INDEX_POOLS = f"{INDEX}pool/"
INDEX_PRESENCES = f"{INDEX}presence/"

CA_POOLS = "ca/"
"""What the names of all pools of customer addresses begin with."""

PA_POOLS = "pa/"
"""The same of provider addresses."""

MAC_POOL = "mac"
VSID_POOL = "vsid"


class Quarantined(NamedTuple):
    """A value of a pool that is held down for its last owner."""

    owner: ObjectId
    pool: str
    text: str


# ---- objects -----------------------------------------------------------------------------------------------


def object_key(identity: ObjectId) -> str:
    return INTENT + "/".join(identity)


def objects_of(kind: str, tenant: str | None = None) -> str:
    """Of a kind, or of a tenant's objects of a kind."""
    return f"{INTENT}{kind}/" if tenant is None else f"{INTENT}{kind}/{tenant}/"


def object_id(key: str) -> ObjectId:
    """The inverse of object_key. ValueError: it is none."""
    kind, tenant, name = key.removeprefix(INTENT).split("/")
    return ObjectId(kind, tenant, name)


# ---- grants ------------------------------------------------------------------------------------------------


def grant_key(pool: str, text: str) -> str:
    return f"{GRANTS}{pool}/{text}"


def grants_of(pool: str) -> str:
    return f"{GRANTS}{pool}/"


def grant_value(key: str) -> tuple[str, str]:
    """The inverse of grant_key: pool and value."""
    pool, _, text = key.removeprefix(GRANTS).rpartition("/")
    return pool, text


def ca_pool(tenant: str, subnet: str, version: int) -> str:
    """The pool of the customer addresses of a VM subnet, of one IP version."""
    return f"ca/{tenant}/{subnet}/{version}"


def ca_pool_subnet(pool: str) -> ObjectId:
    """The inverse of ca_pool: the VM subnet."""
    _, tenant, subnet, _ = pool.split("/")
    return ObjectId("VMSubnet", tenant, subnet)


def ca_grants_of(subnet: ObjectId) -> str:
    """Of both IP versions."""
    return f"{GRANTS}ca/{subnet.tenant}/{subnet.name}/"


def pa_pool(site: str, version: int) -> str:
    """The pool of the provider addresses of a site, of one IP version."""
    return f"pa/{site}/{version}"


def pool_version(pool: str) -> int:
    """The IP version of a pool of addresses."""
    return int(pool.rpartition("/")[2])


# ---- index -------------------------------------------------------------------------------------------------


def named_port_key(port: ObjectId) -> str:
    return f"{ports_named(port.name)}{port.tenant}"


def ports_named(name: str) -> str:
    """Of all tenants' Ports of the name."""
    return f"{INDEX_PORTS}{name}/"


def named_port(key: str) -> ObjectId:
    """The inverse of named_port_key: the Port."""
    name, tenant = key.removeprefix(INDEX_PORTS).split("/")
    return ObjectId("Port", tenant, name)


def host_port_key(host: str, port: ObjectId) -> str:
    return f"{ports_of(host)}{port.tenant}/{port.name}"


def ports_of(host: str) -> str:
    return f"{INDEX_HOSTS}{host}/"


def host_port(key: str) -> ObjectId:
    """The inverse of host_port_key: the Port."""
    _, tenant, name = key.rsplit("/", 2)
    return ObjectId("Port", tenant, name)


def host_of_port(key: str) -> str:
    """Of a key that host_port_key gives, the host."""
    return key.removeprefix(INDEX_HOSTS).partition("/")[0]


def port_mac_key(mac: str, subnet: ObjectId) -> str:
    return f"{mac_owners_of(mac)}{subnet.tenant}/{subnet.name}"


def host_mac_key(mac: str, host: str) -> str:
    return f"{mac_hosts_of(mac)}{host}"


def mac_owners_of(mac: str) -> str:
    """Of all who state it."""
    return f"{INDEX_MACS}{mac}/"


def mac_hosts_of(mac: str) -> str:
    """Of the hosts whose underlay has it."""
    return f"{INDEX_MACS}{mac}//"


def mac_owner(key: str) -> tuple[str, ObjectId]:
    """The inverse of port_mac_key and host_mac_key: the MAC, and the VM subnet of the Port or the Host."""
    mac, tenant, name = key.removeprefix(INDEX_MACS).split("/")
    return mac, ObjectId("VMSubnet" if tenant else "Host", tenant, name)


def pool_key(place: ObjectId, name: str) -> str:
    return f"{pools_of(place)}{name}"


def pools_of(place: ObjectId) -> str:
    """Of a VM subnet's pools, or a site's."""
    return f"{INDEX_POOLS}{place.tenant}/{place.name}/"


def pool_id(key: str) -> ObjectId:
    """The inverse of pool_key: the IPPool."""
    _, tenant, _, name = key.rsplit("/", 3)
    return ObjectId("IPPool", tenant, name)


def presence_key(network: ObjectId, host: str) -> str:
    return f"{presences_of(network)}{host}"


def presences_of(network: ObjectId) -> str:
    return f"{INDEX_PRESENCES}{network.tenant}/{network.name}/"


def presence(key: str) -> tuple[ObjectId, str]:
    """The inverse of presence_key."""
    tenant, name, host = key.removeprefix(INDEX_PRESENCES).split("/")
    return ObjectId("VMNetwork", tenant, name), host


def presence_host(key: str) -> str:
    """Of a presence, the host."""
    return key.rpartition("/")[2]


def quarantine_key(held: Quarantined) -> str:
    return f"{quarantine_shard_of(held.owner)}{'/'.join(held.owner)}/{held.pool}/{held.text}"


def quarantine_shard_of(owner: ObjectId) -> str:
    """Of all that is held down for it, and for a 4096th of all other owners."""
    shard = blake2b("/".join(owner).encode(), digest_size=2).hexdigest()[:3]
    return f"{INDEX}quarantine/{shard}/"


def quarantine_part(number: int) -> str:
    """The prefix of a part of all that is held down; 256 numbers in a row make the whole."""
    return f"{INDEX}quarantine/{number % 256:02x}"


def quarantined(key: str) -> Quarantined:
    """The inverse of quarantine_key."""
    _, _, _, kind, tenant, name, *pool, text = key.split("/")
    return Quarantined(ObjectId(kind, tenant, name), "/".join(pool), text)


# ---- hosts and events --------------------------------------------------------------------------------------


def host_key(host: str) -> str:
    return f"{HOSTS}{host}"


def host_name(key: str) -> str:
    """The inverse of host_key."""
    return key.removeprefix(HOSTS)


def links_key(host: str) -> str:
    return f"{LINKS}{host}"


def links_host(key: str) -> str:
    """The inverse of links_key."""
    return key.removeprefix(LINKS)


def event_key(seconds: float, salt: str) -> str:
    """Later events have higher keys. seconds: of the Unix clock."""
    return f"{EVENTS}{int(seconds * 1e9):020d}-{salt}"
