"""A change, from what is to become of which objects to what is to be written: checked whole, with the grants
and the index that go with it.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain

from policy.errors import ManifestError, ObjectId, Problem, StaleError
from policy.ipam import ledger
from policy.ipam.ledger import Grants
from policy.kinds import codec, documents, keys
from policy.kinds.model import KINDS, Intent, Object, Policy, intent_of
from policy.kinds.steps import counted, step
from policy.rules import admission
from policy.rules.references import Names
from policy.service import affected, indexes
from policy.service.affected import Affected, Everything, Presences
from policy.store.contract import Expect
from policy.store.reading import Reading


class Outcome(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True)
class Edit:
    """What is to become of which objects: what is stated becomes so, what is gone goes, all else stays.

    problems: of reading what is stated. expected: by object, the revision that whoever edits it knows.
    forced: what is gone though it may not be readable, in the same change and in later steps of it; see
    affected.Everything.
    """

    stated: Intent = Intent()  # noqa: RUF009 - it is frozen
    gone: frozenset[ObjectId] = frozenset()
    problems: tuple[Problem, ...] = ()
    expected: Mapping[ObjectId, int] = field(default_factory=dict)
    forced: frozenset[ObjectId] = frozenset()

    @property
    def size(self) -> int:
        """Objects that it may change."""
        return len(self.stated.by_id) + len(self.gone)


_COMING = sorted(KINDS, key=lambda kind: not any(codec.referring(kind)))
"""Kinds; what is needed comes before what needs it."""

Change = Callable[[Reading], Edit]
"""What to do, by what is there."""


@dataclass(frozen=True)
class Plan:
    """A change that has been found to be right: `before` and `after` are the stated intents, policy is the
    complete one, all of them without what the change does not concern. puts and deletes lead the store from
    `revision` there, if what is expected holds.
    """

    outcomes: tuple[tuple[ObjectId, Outcome], ...]
    before: Intent
    after: Intent
    policy: Policy
    revision: int
    puts: Mapping[str, bytes]
    deletes: tuple[str, ...]
    expect: Expect

    @property
    def changes(self) -> bool:
        return any(outcome is not Outcome.UNCHANGED for _, outcome in self.outcomes)

    @property
    def concerned(self) -> list[Object]:
        """What was named, and what is given other values with it: as it was and as it is then."""
        altered = (key for key in (*self.puts, *self.deletes) if key.startswith(keys.INTENT))
        identities = {*map(keys.object_id, altered), *(identity for identity, _ in self.outcomes)}
        found = (by_id.get(each) for by_id in (self.before.by_id, self.after.by_id) for each in identities)
        return [item for item in found if item is not None]


def plan(reading: Reading, edit: Edit) -> Plan:
    """ManifestError: all that would be wrong then; StaleError: edits of what has changed since."""
    _check_expected(reading, edit)
    now = time.time()
    with step("looking at what is there"):
        found = affected.find(reading, edit.stated, edit.gone, edit.forced)
    policy, granted = _complete(reading, found, edit, now)
    presences = found.presences(policy)
    if problems := admission.check_policy(found.checked(policy, presences)):
        raise ManifestError(problems)
    items = _items(found, policy, granted, presences, now)
    there = found.items(items)
    before = intent_of(found.stored.values())
    return Plan(
        outcomes=_outcomes(before, found.unreadable, edit),
        before=before,
        after=intent_of({**found.after, **edit.stated.by_id}.values()),
        policy=policy,
        revision=reading.revision,
        puts={key: value for key, value in items.items() if there.get(key) != value},
        deletes=tuple(sorted(found.keys_before(granted, presences, now) - items.keys())),
        expect=reading.relied_on,
    )


def _check_expected(reading: Reading, edit: Edit) -> None:
    """What changes nothing may be repeated, whatever revision it knows of."""
    reading.load(map(keys.object_key, edit.expected))
    found = []
    for identity, revision in edit.expected.items():
        key = keys.object_key(identity)
        now, value, stated = reading.revision_of(key), reading.get(key), edit.stated.by_id.get(identity)
        if now != revision and (stated is not None or identity in edit.gone):
            there = None if value is None else documents.load(key, value)
            if there is None or there != stated:
                found.append(_stale(edit, stated, there, revision, now))
    if found:
        raise StaleError(found)


def _stale(edit: Edit, stated: Object | None, there: Object | None, revision: int, now: int) -> Problem:
    item = stated or there
    assert item is not None, "an object that is gone was there"
    if there is None:
        text = f"is an edit of revision {revision}, but has been deleted since; without it, it is made anew"
    elif not revision:
        text = f"was not to be there yet, but it is, at revision {now}{_sides(stated, there)}"
    else:
        text = f"is an edit of revision {revision}, but it is at revision {now} now{_sides(stated, there)}"
    return edit.stated.problem(item.id, "metadata.revision", text)


def _sides(stated: Object | None, there: Object) -> str:
    """What the two say who changed it, field by field."""
    if stated is None:
        return ""
    mine, theirs = documents.encode(stated), documents.encode(there)
    fields = [
        f"{section}.{name}: {theirs_of.get(name, 'nothing')} there, {mine_of.get(name, 'nothing')} here"
        for section in ("metadata", "spec")
        for mine_of, theirs_of in [(mine.get(section, {}), theirs.get(section, {}))]
        for name in sorted({*mine_of, *theirs_of})
        if mine_of.get(name) != theirs_of.get(name)
    ]
    return f"; {'; '.join(fields)}"


def _outcomes(before: Intent, unreadable: Set[ObjectId], edit: Edit) -> tuple[tuple[ObjectId, Outcome], ...]:
    """What is deleted comes in an order in which what needs something goes first."""
    named = [(item.id, _outcome(before.by_id, item)) for item in edit.stated.by_id.values()]
    gone = [identity for identity in reversed(before.by_id) if identity in edit.gone]
    if unreadable:  # of kinds that are known: others can't be named
        gone = sorted([*gone, *sorted(unreadable)], key=lambda each: -_COMING.index(each.kind))
    return (*named, *((identity, Outcome.DELETED) for identity in gone))


def _outcome(before: Mapping[ObjectId, Object], item: Object) -> Outcome:
    there = before.get(item.id)
    if there is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if there == item else Outcome.CHANGED


def _names(reading: Reading, edit: Edit) -> Names:
    """Of all objects there are then, for whoever has named one that is not there."""

    def names(kind: str, tenant: str) -> Iterable[str]:
        there = set(map(keys.object_id, reading.under(keys.objects_of(kind, tenant)))) - edit.gone
        stated = (each for each in edit.stated.by_id if each[:2] == (kind, tenant))
        return sorted({each.name for each in chain(there, stated)})

    return names


def _complete(reading: Reading, found: Affected, edit: Edit, now: float) -> tuple[Policy, Grants]:
    """With what the affected ones are given, and their grants."""
    intent = intent_of(found.after.values(), found.sources())
    change = admission.check_change(intent_of(found.stored.values()), intent)
    if problems := [*edit.problems, *change, *admission.check_intent(intent, _names(reading, edit))]:
        raise ManifestError(problems)
    with step("allocating"):
        return found.allocated(intent, now)


def _items(
    found: Affected, policy: Policy, granted: Grants, presences: Presences, now: float
) -> dict[str, bytes]:
    """All that there is of the affected ones then."""
    objects = [found.after[identity] for identity in found.affected if identity in found.after]
    there = found.items(keys.object_key(item.id) for item in objects)
    items = documents.items_of(counted(objects, "writing documents"), policy.by_id, there.get, now)
    items |= {key: value for item in objects for key, value in indexes.items_of_object(item)}
    items |= ledger.encode(granted)
    items |= indexes.items_of_grants(granted)
    items |= {
        presence.key: indexes.write_counts(then) for presence, (_, then) in presences.items() if then.ports
    }
    if isinstance(found, Everything) and found.indexes_all:
        items[keys.INDEX_READY] = indexes.LAYOUT
    return items
