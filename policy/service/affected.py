"""What a change affects, and what is needed to plan it: a part of the store, or everything where keys don't
tell. Planned among a part a change is what it is among everything, but for holds of others that have ended,
of which only some are taken along.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Protocol

from policy.errors import STORED, Location, ObjectId, UnreadableError
from policy.ipam import allocate, ledger
from policy.ipam.ledger import Answer, Grant, Grants, Question, Value
from policy.kinds import documents, keys
from policy.kinds.model import Intent, Object, Policy, Port, VMSubnet, intent_of
from policy.service import indexes, lookup, passed_over
from policy.service.indexes import Counts, Presence
from policy.service.lookup import NeedsEverythingError
from policy.service.neighbours import Neighbours
from policy.store.reading import Reading

_ALL = (keys.INTENT, keys.GRANTS, keys.INDEX)

_SWEPT = 1000
"""Holds of others that have ended that one change takes along."""

Presences = Mapping[Presence, tuple[Counts, Counts]]
"""VM networks on hosts: counts of their ports before and then."""


class Affected(Protocol):
    """affected: whose items in the store may change. stored: of these, what there is, as stated. after: what
    there is then, as it is to be planned, of these and of what they need. unreadable: of what goes, what is
    not among what is stored.
    """

    @property
    def affected(self) -> Set[ObjectId]: ...
    @property
    def stored(self) -> Mapping[ObjectId, Object]: ...
    @property
    def after(self) -> Mapping[ObjectId, Object]: ...
    @property
    def unreadable(self) -> Set[ObjectId]: ...

    def items(self, wanted: Iterable[str]) -> Mapping[str, bytes]:
        """At least of these keys, what the store has."""

    def sources(self) -> dict[ObjectId, Mapping[str, Location]]:
        """Of what there is then."""

    def allocated(self, intent: Intent, now: float) -> tuple[Policy, Grants]:
        """The complete policy of these objects, and the grants of the affected ones with what is held down.
        ManifestError.
        """

    def presences(self, policy: Policy) -> Presences:
        """Of the ports of the complete policy then, as far as they are affected."""

    def checked(self, policy: Policy, presences: Presences) -> Policy:
        """What of the policy may break a rule on complete ones."""

    def keys_before(self, granted: Grants, presences: Presences, now: float) -> Set[str]:
        """Of items that are there for the affected ones, or for nobody any more. granted: what they have
        then.
        """


def find(
    reading: Reading, stated: Intent, gone: frozenset[ObjectId], forced: frozenset[ObjectId] = frozenset()
) -> Affected:
    """What is stated becomes so, and what is gone goes; nothing that is left refers to it. forced: see
    Everything.
    """
    try:
        if forced:
            raise NeedsEverythingError("what a part needs might not be readable")
        return Part(reading, stated, gone)
    except NeedsEverythingError:
        return Everything(reading, stated, gone, forced)


class Everything:
    """All that the store has. forced: what goes, now or later, though it may not be readable. Then this and
    all else that can't be read is passed over: until it goes it stays as it is, and counts as not there.
    UnreadableError: there is such without that, or what stays depends on it.
    """

    def __init__(
        self,
        reading: Reading,
        stated: Intent,
        gone: frozenset[ObjectId],
        forced: frozenset[ObjectId] = frozenset(),
    ) -> None:
        reading.load(prefixes=_ALL)
        self._items = {key: value for prefix in _ALL for key, value in reading.under(prefix).items()}
        self._stated = stated
        self._gone = gone
        contents = documents.read(self._items)
        unreadable = {keys.object_id(key): problem for key, problem in contents.unreadable.items()}
        self.unreadable = unreadable.keys() & gone
        self._passed = (unreadable.keys() | forced) - gone
        self.stored = intent_of(contents.objects).by_id
        left_out = gone | self._passed
        kept = {identity: item for identity, item in self.stored.items() if identity not in left_out}
        self.after = {**kept, **stated.by_id}
        self.affected = self.stored.keys() | self.after.keys()
        needed = {target for _, _, target in lookup.references_in(intent_of(self.after.values()))}
        in_the_way = unreadable.keys() & (needed if forced else unreadable.keys())
        if in_the_way:
            raise UnreadableError(unreadable[identity] for identity in in_the_way)

    def items(self, wanted: Iterable[str]) -> Mapping[str, bytes]:
        return self._items

    def sources(self) -> dict[ObjectId, Mapping[str, Location]]:
        there = self.stored.keys() - self._gone
        return {**{key: {"": STORED} for key in there}, **self._stated.sources}

    def allocated(self, intent: Intent, now: float) -> tuple[Policy, Grants]:
        policy, granted = allocate.complete(intent, ledger.decode(self._items), now)
        passed = passed_over.grants_of(self._items, self._passed).items()
        stay = {value: grant for value, grant in passed if granted[value].owner == grant.owner}
        return policy, {**granted, **stay}

    def presences(self, policy: Policy) -> Presences:
        then = indexes.count_presences(policy.ports, policy.subnet_by_id)
        for presence, counts in passed_over.presences_of(self._items, self._passed, self.stored).items():
            then[presence] = then.get(presence, Counts()).plus(counts)
        return {presence: (Counts(), counts) for presence, counts in then.items()}

    def checked(self, policy: Policy, presences: Presences) -> Policy:
        return policy

    def keys_before(self, granted: Grants, presences: Presences, now: float) -> Set[str]:
        return self._items.keys() - passed_over.keys_of(self._items, self._passed)

    @property
    def indexes_all(self) -> bool:
        """Whether all that is stored is in the index then."""
        was_ready = self._items.get(keys.INDEX_READY) == indexes.LAYOUT
        return all(each.kind in indexes.KINDS for each in self.after) and (was_ready or not self._passed)


class Part:
    """The neighbours of what is edited. NeedsEverythingError: they can't be told, or are too many."""

    def __init__(self, reading: Reading, stated: Intent, gone: frozenset[ObjectId]) -> None:
        self._reading = reading
        self._stated = stated
        self._found = Neighbours(reading, stated, gone)
        self._found.find()
        self._before: Grants = {}
        self.unreadable: Set[ObjectId] = frozenset()
        self.affected: Set[ObjectId] = self._found.affected
        self.stored: Mapping[ObjectId, Object] = self._found.stored
        self.after: Mapping[ObjectId, Object] = self._found.after
        self._gone = gone

    def items(self, wanted: Iterable[str]) -> Mapping[str, bytes]:
        needed = list(wanted)
        self._reading.load(needed)
        return {key: value for key in needed if (value := self._reading.get(key)) is not None}

    def sources(self) -> dict[ObjectId, Mapping[str, Location]]:
        there = self._found.complete.keys() - self._gone
        return {**{key: {"": STORED} for key in there}, **self._stated.sources}

    def _grants_before(self) -> dict[Value, Grant]:
        """What the affected ones have, and what is held down for them; in the order of the store's keys."""
        had = self._found.values_before()
        owners = set(map(str, self.affected))
        shards = sorted({keys.quarantine_shard_of(identity) for identity in self.affected})
        self._reading.load((value.key for values in had.values() for value in values), shards)
        held = [
            held.value
            for shard in shards
            for _, held in indexes.read_quarantine(self._reading.under(shard))
            if held.owner in self.affected
        ]
        wanted = sorted({value.key for value in chain(held, *had.values())})
        found = self._found.grants(wanted).items()
        return {value: grant for value, grant in found if grant.owner in owners}

    def allocated(self, intent: Intent, now: float) -> tuple[Policy, Grants]:
        self._before = self._grants_before()
        steps = allocate.complete_part(intent, self._before, now)
        policy, granted = ledger.answered(steps, partial(_answer, self._reading, self.affected))
        owners = set(map(str, self.affected))
        return policy, {value: grant for value, grant in granted.items() if grant.owner in owners}

    def presences(self, policy: Policy) -> Presences:
        complete = self._found.complete
        had = [port for key in self.affected if isinstance(port := complete.get(key), Port)]
        have = [port for port in policy.ports if port.id in self.affected]
        subnets = {key: item for key, item in complete.items() if isinstance(item, VMSubnet)}
        less = indexes.count_presences(had, subnets)
        more = indexes.count_presences(have, policy.subnet_by_id)
        presences = less | more
        self._reading.load(presence.key for presence in presences)
        changed = {}
        for presence in presences:
            counts = indexes.read_counts(self._reading.get(presence.key))
            then = counts.minus(less.get(presence, Counts())).plus(more.get(presence, Counts()))
            changed[presence] = counts, then
        return changed

    def checked(self, policy: Policy, presences: Presences) -> Policy:
        """The ports by which a VM network comes to a host, or is translated there in another way, and all
        other hosts of it.
        """
        grown = {
            presence
            for presence, (before, then) in presences.items()
            if then.ports and (not before.ports or then.versions - before.versions)
        }
        elsewhere: dict[ObjectId, dict[str, set[int]]] = {}
        for network in {presence.network for presence in grown}:
            there = self._reading.under(keys.presences_of(network)).items()
            counts = {keys.presence_host(key): indexes.read_counts(value) for key, value in there}
            counts |= {
                presence.host: then
                for presence, (_, then) in presences.items()
                if presence.network == network
            }
            elsewhere[network] = {host: count.versions for host, count in counts.items() if count.ports}
        self._found.need_hosts(host for hosts in elsewhere.values() for host in hosts)
        whole = intent_of({**self.after, **policy.by_id}.values(), self.sources())
        ports = tuple(
            port
            for port in policy.ports
            if Presence(policy.subnet_by_id[port.subnet_id].network_id, port.host) in grown
        )
        return Policy(replace(whole, ports=ports, elsewhere=elsewhere))

    def keys_before(self, granted: Grants, presences: Presences, now: float) -> Set[str]:
        were = [self.stored[identity] for identity in self.affected if identity in self.stored]
        there = {keys.object_key(item.id) for item in were}
        there |= {key for item in were for key, _ in indexes.items_of_object(item)}
        replaced = self._found.grants(value.key for value in granted)
        there |= {value.key for value in self._before}
        there |= {key for key, _ in indexes.items_of_grants({**self._before, **replaced})}
        there |= {presence.key for presence, (counts, _) in presences.items() if counts.ports}
        return there | (self._ended(granted, now) if self.affected else set())

    def _ended(self, granted: Grants, now: float) -> Set[str]:
        """Keys of holds of others that have ended: a part of all, every time another one."""
        prefix = keys.quarantine_part(self._reading.revision)
        ended = (
            (key, held.value.key)
            for key, held in indexes.read_quarantine(self._reading.under(prefix))
            if held.until <= now and held.owner not in self.affected and held.value not in granted
        )
        return {key for pair in islice(ended, _SWEPT) for key in pair}


def _answer(reading: Reading, affected: Collection[ObjectId], question: Question) -> Answer:
    """What those have who are not affected, for an allocation among those who are."""
    pool, texts, only_stated = question
    held: dict[str, float | None] = {}
    if not only_stated:
        wanted = None if texts is None else [Value(pool, text).key for text in texts]
        if wanted is None:
            items = reading.under(keys.grants_of(pool))
        else:
            reading.load(wanted)
            items = {key: value for key in wanted if (value := reading.get(key)) is not None}
        held = {value.text: grant.held_until for value, grant in ledger.decode(items).items()}
    if pool != keys.MAC_POOL:
        return held
    prefixes = [keys.INDEX_MACS] if texts is None else list(map(keys.mac_owners_of, texts))
    reading.load(prefixes=prefixes)
    stated = (each for prefix in prefixes for each in indexes.who_states_mac(reading.under(prefix)))
    return {**held, **{mac: None for mac, owner in stated if owner not in affected}}
