"""A change planned among the objects that it concerns: the same in every respect as if it were planned in the
whole, but for holds of others that have ended, of which only some are taken along.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice

from policy import documents, grants, index, pools, validate
from policy.errors import STORED, Location, ManifestError, ObjectId, Problem
from policy.grants import Grant, Value
from policy.index import Counts, Home
from policy.model import Intent, Object, Policy, Port, VMSubnet, intent_of
from policy.scope import Outside, Scope
from policy.store import Reading

_SWEPT = 1000
"""Holds of others that have ended that one change takes along."""


@dataclass(frozen=True, slots=True)
class Planned:
    """before, after: what is there of the objects that were looked at, as stated; policy: the complete one of
    these. puts and deletes lead the store from the reading's revision there.
    """

    before: Mapping[ObjectId, Object]
    after: Mapping[ObjectId, Object]
    policy: Policy
    puts: Mapping[str, bytes]
    deletes: tuple[str, ...]


def plan(
    reading: Reading, stated: Intent, gone: Collection[ObjectId], problems: Iterable[Problem], now: float
) -> Planned:
    """What is stated becomes so, and what is gone goes; nothing that is left refers to it.

    problems: of reading what is stated. now: Unix seconds. WideError: to be planned in the whole;
    ManifestError: all that is wrong.
    """
    scope = Scope(reading, stated.by_id, gone)
    scope.find()
    intent = intent_of(scope.after.values(), _sources(scope, stated))
    change = validate.check_change(intent_of(scope.stored.values()), intent)
    if found := [*problems, *change, *validate.check_intent(intent)]:
        raise ManifestError(found)
    before = _grants_before(reading, scope)
    policy, granted = pools.complete(intent, before, now, Outside(reading, scope.active, now))
    owners = set(map(str, scope.active))
    granted = {value: grant for value, grant in granted.items() if grant.owner in owners}
    changes = _Changes(reading, scope, policy, before, granted)
    if found := validate.check_policy(_with_peers(reading, scope, stated, policy, changes.homes)):
        raise ManifestError(found)
    items, gone_keys = changes.items(now)
    return Planned(
        before=scope.stored,
        after={**scope.after, **stated.by_id},
        policy=policy,
        puts={key: value for key, value in items.items() if reading.get(key) != value},
        deletes=tuple(sorted(gone_keys)),
    )


def _sources(scope: Scope, stated: Intent) -> dict[ObjectId, Mapping[str, Location]]:
    there = scope.complete.keys() - scope.gone
    return {**{identity: {"": STORED} for identity in there}, **stated.sources}


def _grants_before(reading: Reading, scope: Scope) -> dict[Value, Grant]:
    """What the active ones have, and what is held down for them; in the order of the store's keys."""
    before = scope.values_before()
    owners = {str(identity): identity for identity in scope.active}
    shards = sorted({index.held_of_shard(identity) for identity in scope.active})
    reading.load((value.key for values in before.values() for value in values), shards)
    held = [
        held.value
        for shard in shards
        for _, held in index.read_held(reading.under(shard))
        if held.owner in scope.active
    ]
    keys = sorted({value.key for value in chain(held, *before.values())})
    return {value: grant for value, grant in scope.grants(keys).items() if grant.owner in owners}


class _Changes:
    """The items of the active ones, before and then.

    homes: of their ports, the counts before and then.
    """

    def __init__(
        self,
        reading: Reading,
        scope: Scope,
        policy: Policy,
        before: Mapping[Value, Grant],
        granted: Mapping[Value, Grant],
    ) -> None:
        self._reading = reading
        self._scope = scope
        self._policy = policy
        self._before = before
        self._granted = granted
        self.homes = self._homes()

    def _homes(self) -> dict[Home, tuple[Counts, Counts]]:
        scope = self._scope
        had = [port for key in scope.active if isinstance(port := scope.complete.get(key), Port)]
        have = [port for port in self._policy.ports if port.id in scope.active]
        subnets = {key: item for key, item in scope.complete.items() if isinstance(item, VMSubnet)}
        less = index.count_homes(had, subnets)
        more = index.count_homes(have, self._policy.subnet_by_id)
        homes = less | more
        self._reading.load(home.key for home in homes)
        changed = {}
        for home in homes:
            counts = index.read_counts(self._reading.get(home.key))
            then = counts.minus(less.get(home, Counts())).plus(more.get(home, Counts()))
            changed[home] = counts, then
        return changed

    def items(self, now: float) -> tuple[dict[str, bytes], set[str]]:
        """What is to be put, which may be there already, and the keys to delete."""
        scope = self._scope
        objects = [scope.after[identity] for identity in scope.active if identity in scope.after]
        items = documents.items_of(objects, self._policy.by_id)
        items |= {key: value for item in objects for key, value in index.items_of_object(item)}
        items |= grants.encode(self._granted)
        items |= index.items_of_grants(self._granted)
        items |= {home.key: index.write_counts(then) for home, (_, then) in self.homes.items() if then.ports}
        self._reading.load(items)
        were = [scope.stored[identity] for identity in scope.active if identity in scope.stored]
        there = {documents.key_of(item.id) for item in were}
        there |= {key for item in were for key, _ in index.items_of_object(item)}
        replaced = scope.grants(value.key for value in self._granted)
        there |= {value.key for value in self._before}
        there |= {key for key, _ in index.items_of_grants({**self._before, **replaced})}
        there |= {home.key for home, (counts, _) in self.homes.items() if counts.ports}
        there = {key for key in there if key not in items}
        return items, there | (self._ended(items, now) if scope.active else set())

    def _ended(self, items: Mapping[str, bytes], now: float) -> set[str]:
        """Keys of holds of others that have ended: a part of all, every time another one."""
        prefix = index.part_of_held(self._reading.revision)
        ended = (
            (key, held.value.key)
            for key, held in index.read_held(self._reading.under(prefix))
            if held.until <= now and held.owner not in self._scope.active and held.value.key not in items
        )
        return {key for pair in islice(ended, _SWEPT) for key in pair}


def _with_peers(
    reading: Reading,
    scope: Scope,
    stated: Intent,
    policy: Policy,
    homes: Mapping[Home, tuple[Counts, Counts]],
) -> Policy:
    """What of the policy may break a rule on hosts in one VM network: the ports by which one comes to a
    host, or is translated there in another way, and all other hosts of it.
    """
    grown = {
        home
        for home, (before, then) in homes.items()
        if then.ports and (not before.ports or then.versions - before.versions)
    }
    elsewhere: dict[ObjectId, dict[str, set[int]]] = {}
    for network in {home.network for home in grown}:
        prefix = index.homes_of(network)
        counts = {
            key.removeprefix(prefix): index.read_counts(value) for key, value in reading.under(prefix).items()
        }
        counts |= {home.host: then for home, (_, then) in homes.items() if home.network == network}
        elsewhere[network] = {host: count.versions for host, count in counts.items() if count.ports}
    scope.need_hosts(host for hosts in elsewhere.values() for host in hosts)
    whole = intent_of({**scope.after, **policy.by_id}.values(), _sources(scope, stated))
    ports = tuple(
        port
        for port in policy.ports
        if Home(policy.subnet_by_id[port.subnet_id].network_id, port.host) in grown
    )
    return Policy(replace(whole, ports=ports, elsewhere=elsewhere))
