"""Objects of a store by their names, and what refers to them: found by keys, without reading everything."""

from collections.abc import Callable, Iterable, Iterator, Set

from policy.errors import NotFoundError, ObjectId, SeveralError
from policy.ipam import ledger
from policy.kinds import codec, documents, keys
from policy.kinds.model import KINDS, Intent, LookupRecord, Policy, ProviderAddress, intent_of
from policy.rules import references
from policy.service import indexes
from policy.store.reading import Reading

MOST_RAW = 2_000
"""LookupRecords and ProviderAddresses, which no index has; among more, all else is looked at too."""


class NeedsEverythingError(Exception):
    """Keys don't tell, or tell of so much that all of the store is to be looked at."""


def find(
    reading: Reading, kind: str, name: str, sees: Callable[[ObjectId], bool] = lambda _: True
) -> ObjectId:
    """The object called `name`, or `tenant/name`, among those that are seen. NotFoundError, SeveralError: not
    one.
    """
    named = ObjectId.named(kind, name)
    if named.name != name or KINDS[kind].of_tenant is False:
        candidates = [named]
    elif kind == "Port" and is_indexed(reading):
        candidates = list(map(keys.named_port, reading.under(keys.ports_named(name))))
    else:
        there = map(keys.object_id, reading.under(keys.objects_of(kind)))
        candidates = [identity for identity in there if identity.name == name]
    candidates = list(filter(sees, candidates))
    reading.load(map(keys.object_key, candidates))
    found = [identity for identity in candidates if reading.get(keys.object_key(identity)) is not None]
    if not found:
        raise NotFoundError(f"there is no {kind} {name}")
    if len(found) > 1:
        several = ", ".join(identity.qualified_name for identity in found)
        raise SeveralError(f"several tenants have a {kind} {name}: {several}")
    return found[0]


def check_tenant(reading: Reading, tenant: str) -> None:
    """NotFoundError: nothing is of that tenant. All that is needs a VM network of it, or a Tenant."""
    stated = keys.object_key(ObjectId("Tenant", "", tenant))
    if reading.get(stated) is None and not reading.under(keys.objects_of("VMNetwork", tenant)):
        raise NotFoundError(f"there is no Tenant {tenant}")


def tenants(reading: Reading) -> list[str]:
    """Of all objects: see check_tenant."""
    stated = {keys.object_id(key).name for key in reading.under(keys.objects_of("Tenant"))}
    named = {keys.object_id(key).tenant for key in reading.under(keys.objects_of("VMNetwork"))}
    return sorted(stated | named)


def names(
    reading: Reading, kind: str, beginning: str, sees: Callable[[ObjectId], bool] = lambda _: True
) -> list[str]:
    """Of a kind, those that begin so, with and without their tenants."""
    if kind != "Port" or not is_indexed(reading):
        there = list(filter(sees, map(keys.object_id, reading.under(keys.objects_of(kind)))))
        both = {each.qualified_name for each in there} | {each.name for each in there}
        return sorted(name for name in both if name.startswith(beginning))
    there = list(filter(sees, map(keys.object_id, reading.under(keys.objects_of(kind) + beginning))))
    named = filter(sees, map(keys.named_port, reading.under(keys.INDEX_PORTS + beginning)))
    return sorted({each.qualified_name for each in there} | {each.name for each in named})


def is_indexed(reading: Reading) -> bool:
    """Whether what the index says is all there is."""
    return reading.get(keys.INDEX_READY) == indexes.LAYOUT


def with_referrers(reading: Reading, identities: Iterable[ObjectId]) -> set[ObjectId]:
    """These objects, what refers to them, what refers to that, and so on."""
    try:
        found: set[ObjectId] = set()
        waiting = set(identities)
        while waiting:
            found |= waiting
            waiting = _referrers_by_keys(reading, waiting) - found
        return found
    except NeedsEverythingError:
        return with_referrers_in(_everything(reading), identities)


def referrers(reading: Reading, identities: Iterable[ObjectId]) -> set[ObjectId]:
    """What refers to one of them."""
    referred = set(identities)
    try:
        return _referrers_by_keys(reading, referred)
    except NeedsEverythingError:
        intent = _everything(reading)
        return {referrer for _, referrer, target in references_in(intent) if target in referred}


def referrers_by_documents(reading: Reading, identities: Iterable[ObjectId]) -> set[ObjectId]:
    """What refers to one of them, as all documents say; of those that can't be read, what may do so."""
    referred = set(identities)
    items = reading.under(keys.INTENT)
    contents = documents.read(items, complete=True)
    intent = intent_of(contents.objects)
    found = {referrer for _, referrer, target in references_in(intent) if target in referred}
    for key in contents.unreadable:
        identity = keys.object_id(key)
        if any(_may_refer(identity, items[key], target) for target in referred):
            found.add(identity)
    return found


def _may_refer(identity: ObjectId, value: bytes, target: ObjectId) -> bool:
    if target.kind == "Tenant":
        return identity.tenant == target.name
    kinds = {kind.name for kind, _ in codec.referring(target.kind)}
    known = target.tenant in ("", identity.tenant) and identity.kind in kinds
    return known and documents.may_name(value, target.name)


def with_referrers_in(intent: Intent, identities: Iterable[ObjectId]) -> set[ObjectId]:
    """Of an intent in the whole, like with_referrers."""
    referrers: dict[ObjectId, list[ObjectId]] = {}
    for _, referrer, target in references_in(intent):
        referrers.setdefault(target, []).append(referrer)
    found: set[ObjectId] = set()
    waiting = list(identities)
    while waiting:
        identity = waiting.pop()
        if identity not in found:
            found.add(identity)
            waiting += referrers.get(identity, ())
    return found


def references_in(intent: Intent) -> Iterator[tuple[str, ObjectId, ObjectId]]:
    """By which field which object names which other one; every object names the tenant that it is of."""
    for item in intent.by_id.values():
        for path, target in references.named_in(intent, item):
            yield path, item.id, target
        if item.id.tenant:
            yield "metadata.tenant", item.id, ObjectId("Tenant", "", item.id.tenant)


def _everything(reading: Reading) -> Policy:
    """With what was given: LookupRecords name VM subnets by VSIDs that were given, too."""
    return documents.policy_from(reading.under(keys.INTENT))


def _referrers_by_keys(reading: Reading, referred: Set[ObjectId]) -> set[ObjectId]:
    """NeedsEverythingError: keys don't tell."""
    if not is_indexed(reading):
        raise NeedsEverythingError("not indexed")
    found = {referrer for identity in referred for referrer in _referrers(reading, identity)}
    return found | {item.id for item in raw_objects(reading) if referred & set(_named(reading, item))}


def raw_objects(reading: Reading) -> list[LookupRecord | ProviderAddress]:
    """All that there are and can be read: what another one has is known by its grants. NeedsEverythingError:
    too many.
    """
    items = {
        key: value
        for kind in ("LookupRecord", "ProviderAddress")
        for key, value in reading.under(keys.objects_of(kind)).items()
    }
    if len(items) > MOST_RAW:
        raise NeedsEverythingError("LookupRecords")
    loaded = documents.read(items, complete=True).objects
    return [item for item in loaded if isinstance(item, LookupRecord | ProviderAddress)]


def subnets_of_records(reading: Reading, records: Iterable[object]) -> Iterator[ObjectId]:
    """The VM subnets that LookupRecords name by their VSIDs."""
    vsids = {each.virtual_subnet_id for each in records if isinstance(each, LookupRecord)}
    wanted = [ledger.vsid_value(vsid).key for vsid in sorted(vsids)]
    reading.load(wanted)
    granted = {key: value for key in wanted if (value := reading.get(key)) is not None}
    for grant in ledger.decode(granted).values():
        if grant.held_until is None:
            yield ObjectId.parse(grant.owner)


def _named(reading: Reading, item: LookupRecord | ProviderAddress) -> Iterator[ObjectId]:
    yield from (target for _, target in codec.references(item))
    yield from subnets_of_records(reading, [item])


def _referrers(reading: Reading, identity: ObjectId) -> Iterator[ObjectId]:
    match identity.kind:
        case "Port" | "CustomerRoute" | "IPPool" | "LookupRecord" | "ProviderAddress":
            return
        case "VMSubnet":
            yield from ports_of_subnet(reading, identity)
            yield from map(keys.pool_id, reading.under(keys.pools_of(identity)))
        case "VMNetwork":
            for kind, _ in codec.referring(identity.kind):
                for key, value in reading.under(keys.objects_of(kind.name, identity.tenant)).items():
                    referred = codec.references(documents.load(key, value))
                    if any(target == identity for _, target in referred):
                        yield keys.object_id(key)
        case "Host":
            yield from map(keys.host_port, reading.under(keys.ports_of(identity.name)))
        case _:
            raise NeedsEverythingError(str(identity))


def ports_of_subnet(reading: Reading, subnet: ObjectId) -> Iterator[ObjectId]:
    """All of them have an address."""
    for grant in ledger.decode(reading.under(keys.ca_grants_of(subnet))).values():
        owner = ObjectId.parse(grant.owner)
        if grant.held_until is None and owner.kind == "Port":
            yield owner
