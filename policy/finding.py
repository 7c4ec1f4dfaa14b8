"""Objects of a store by their names, and what refers to them: found by keys, without reading everything."""

from collections.abc import Iterable, Iterator

from policy import documents, grants, index, validate
from policy.errors import ObjectId, PolicyError
from policy.model import LookupRecord, ProviderAddress
from policy.schema import KINDS
from policy.store import Reading

MOST_RAW = 2_000
"""LookupRecords and ProviderAddresses, which no index has; among more, all else is looked at too."""


class NotFoundError(PolicyError):
    """Whoever named it must act: the store has no such object."""


class SeveralError(PolicyError):
    """Whoever named it must act: several tenants have one of that name."""


class WideError(Exception):
    """Something concerns so much of the store that it is to be looked at in the whole."""


def find(reading: Reading, kind: str, name: str) -> ObjectId:
    """The object called `name`, or `tenant/name`. NotFoundError, SeveralError: not one."""
    tenant, slash, short = name.rpartition("/")
    if slash or KINDS[kind].of_tenant is False:
        candidates = [ObjectId(kind, tenant, short)]
    elif kind == "Port" and is_indexed(reading):
        owner = reading.get(index.port_name(short))
        candidates = [] if owner is None else [ObjectId(kind, owner.decode(), short)]
    else:
        there = map(documents.id_of, reading.under(documents.prefix_of(kind)))
        candidates = [identity for identity in there if identity.name == short]
    reading.load(map(documents.key_of, candidates))
    found = [identity for identity in candidates if reading.get(documents.key_of(identity)) is not None]
    if not found:
        raise NotFoundError(f"there is no {kind} {name}")
    if len(found) > 1:
        several = ", ".join(identity.qualified_name for identity in found)
        raise SeveralError(f"several tenants have a {kind} {name}: {several}")
    return found[0]


def check_tenant(reading: Reading, tenant: str) -> None:
    """NotFoundError: nothing is of that tenant. All that is needs a VM network of it, or a Tenant."""
    stated = documents.key_of(ObjectId("Tenant", "", tenant))
    if reading.get(stated) is None and not reading.under(documents.prefix_of("VMNetwork", tenant)):
        raise NotFoundError(f"there is no Tenant {tenant}")


def tenants(reading: Reading) -> list[str]:
    """Of all objects: see check_tenant."""
    stated = {documents.id_of(key).name for key in reading.under(documents.prefix_of("Tenant"))}
    named = {documents.id_of(key).tenant for key in reading.under(documents.prefix_of("VMNetwork"))}
    return sorted(stated | named)


def names(reading: Reading, kind: str, beginning: str) -> list[str]:
    """Of a kind, those that begin so, with and without their tenants."""
    if kind != "Port" or not is_indexed(reading):
        there = [documents.id_of(key) for key in reading.under(documents.prefix_of(kind))]
        both = {each.qualified_name for each in there} | {each.name for each in there}
        return sorted(name for name in both if name.startswith(beginning))
    there = [documents.id_of(key) for key in reading.under(documents.prefix_of(kind) + beginning)]
    short = [key.rpartition("/")[2] for key in reading.under(index.port_name(beginning))]
    return sorted({each.qualified_name for each in there} | set(short))


def is_indexed(reading: Reading) -> bool:
    """Whether what the index says is all there is."""
    return reading.get(index.READY) == index.LAYOUT


def with_referrers(reading: Reading, identities: Iterable[ObjectId]) -> set[ObjectId]:
    """These objects, what refers to them, what refers to that, and so on. WideError: keys don't tell."""
    found: set[ObjectId] = set()
    waiting = set(identities)
    while waiting:
        found |= waiting
        waiting = referrers(reading, waiting) - found
    return found


def referrers(reading: Reading, identities: Iterable[ObjectId]) -> set[ObjectId]:
    """What refers to one of them. WideError: keys don't tell."""
    if not is_indexed(reading):
        raise WideError("not indexed")
    referred = set(identities)
    found = {referrer for identity in referred for referrer in _referrers(reading, identity)}
    return found | {item.id for item in raw_objects(reading) if referred & set(_named(reading, item))}


def raw_objects(reading: Reading) -> list[LookupRecord | ProviderAddress]:
    """All that there are. WideError: too many."""
    items = {
        key: value
        for kind in ("LookupRecord", "ProviderAddress")
        for key, value in reading.under(documents.prefix_of(kind)).items()
    }
    if len(items) > MOST_RAW:
        raise WideError("LookupRecords")
    loaded = (documents.load(key, value, complete=True) for key, value in items.items())
    return [item for item in loaded if isinstance(item, LookupRecord | ProviderAddress)]


def subnets_of_records(reading: Reading, records: Iterable[object]) -> Iterator[ObjectId]:
    """The VM subnets that LookupRecords name by their VSIDs."""
    vsids = {each.virtual_subnet_id for each in records if isinstance(each, LookupRecord)}
    keys = [grants.vsid_value(vsid).key for vsid in sorted(vsids)]
    reading.load(keys)
    granted = {key: value for key in keys if (value := reading.get(key)) is not None}
    for grant in grants.decode(granted).values():
        if grant.held_until is None:
            yield index.owner_of(grant)


def _named(reading: Reading, item: LookupRecord | ProviderAddress) -> Iterator[ObjectId]:
    yield from (target for _, target in validate.references(item))
    yield from subnets_of_records(reading, [item])


def _referrers(reading: Reading, identity: ObjectId) -> Iterator[ObjectId]:
    match identity.kind:
        case "Port" | "CustomerRoute" | "IPPool" | "LookupRecord" | "ProviderAddress":
            return
        case "VMSubnet":
            yield from ports_of_subnet(reading, identity)
            for key in reading.under(index.pools_of(identity)):
                yield ObjectId("IPPool", identity.tenant, key.rpartition("/")[2])
        case "VMNetwork":
            for kind in ("VMSubnet", "CustomerRoute"):
                for key, value in reading.under(documents.prefix_of(kind, identity.tenant)).items():
                    referred = validate.references(documents.load(key, value))
                    if any(target == identity for _, target in referred):
                        yield documents.id_of(key)
        case "Host":
            for key in reading.under(index.ports_of_host(identity.name)):
                yield ObjectId("Port", *key.split("/")[-2:])
        case _:
            raise WideError(str(identity))


def ports_of_subnet(reading: Reading, subnet: ObjectId) -> Iterator[ObjectId]:
    """All of them have an address."""
    prefix = f"{grants.PREFIX}ca/{subnet.tenant}/{subnet.name}/"
    for grant in grants.decode(reading.under(prefix)).values():
        owner = index.owner_of(grant)
        if grant.held_until is None and owner.kind == "Port":
            yield owner
