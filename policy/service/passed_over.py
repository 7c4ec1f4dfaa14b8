"""Objects that a change passes over, as they can't be read or go later: what the store has of them stays. It
is told by keys and grants alone. Pure.
"""

from collections.abc import Mapping, Set

from policy.errors import ObjectId
from policy.ipam import ledger
from policy.ipam.ledger import Grant, Value
from policy.kinds import keys
from policy.kinds.model import Object, VMSubnet
from policy.service import indexes
from policy.service.indexes import Counts, Presence

Items = Mapping[str, bytes]


def keys_of(items: Items, passed: Set[ObjectId]) -> set[str]:
    """Of their documents and of the index, without presences."""
    documents = set(map(keys.object_key, passed))
    return documents | {key for key, owner in indexes.owners(items) if owner in passed}


def grants_of(items: Items, passed: Set[ObjectId]) -> dict[Value, Grant]:
    """What they have."""
    owners = set(map(str, passed))
    found = ledger.decode(items).items()
    return {value: grant for value, grant in found if grant.owner in owners and grant.held_until is None}


def presences_of(
    items: Items, passed: Set[ObjectId], stored: Mapping[ObjectId, Object]
) -> dict[Presence, Counts]:
    """Of the Ports among them, by their hosts and grants. stored: what can be read. Where the VM network of a
    Port can't be told, those of its tenant on its host are as they were.
    """
    pools: dict[str, set[str]] = {}
    for granted, grant in grants_of(items, passed).items():
        pools.setdefault(grant.owner, set()).add(granted.pool)
    found: dict[Presence, Counts] = {}
    untold: set[tuple[str, str]] = set()
    for key in items:
        if key.startswith(keys.INDEX_HOSTS) and (port := keys.host_port(key)) in passed:
            host, has = keys.host_of_port(key), pools.get(str(port), set())
            ca_pools = (pool for pool in has if pool.startswith(keys.CA_POOLS))
            subnet = next((stored.get(keys.ca_pool_subnet(pool)) for pool in ca_pools), None)
            if not isinstance(subnet, VMSubnet):
                untold.add((port.tenant, host))
                continue
            versions = [keys.pool_version(pool) for pool in has if pool.startswith(keys.PA_POOLS)]
            presence = Presence(subnet.network_id, host)
            counts = Counts(1, int(4 in versions), int(6 in versions))
            found[presence] = found.get(presence, Counts()).plus(counts)
    for key, value in items.items() if untold else ():
        if key.startswith(keys.INDEX_PRESENCES):
            network, host = keys.presence(key)
            if (network.tenant, host) in untold:
                found[Presence(network, host)] = indexes.read_counts(value)
    return found
