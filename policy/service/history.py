"""Revisions of intent that the store still knows: which change made them, and the way back to one."""

from dataclasses import dataclass

from policy.errors import CompactedError, ForgottenError, ObjectId
from policy.kinds import documents, keys
from policy.kinds.model import Object, intent_of
from policy.service import events
from policy.service.events import Event
from policy.service.planning import Change, Edit
from policy.service.principal import Principal
from policy.store.contract import Store
from policy.store.reading import Reading, snapshot_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A change of intent, and the revision that it made."""

    revision: int
    event: Event


def history(store: Store) -> list[Entry]:
    """The changes of intent that are remembered, oldest first."""
    snapshot = snapshot_of(store, keys.EVENTS)
    entries = (
        Entry(snapshot.revisions[key], event)
        for key, event in events.by_key(snapshot.items).items()
        if not event.source.startswith(events.HOST_SOURCE)
    )
    return sorted(entries, key=lambda entry: entry.revision)


def rollback(store: Store, to_revision: int, who: Principal) -> Change:
    """What `who` may change becomes as it was stated at that revision, and what was not there goes. What was
    left out then may be given other values than then. The change raises an ForgottenError.
    """

    def change(reading: Reading) -> Edit:
        now = reading.revision
        try:
            mine = [key for key in _changed(store, to_revision, now) if who.may_change(keys.object_id(key))]
            then = snapshot_of(store, keys=mine, at=to_revision).items
        except (CompactedError, ValueError) as error:
            raise ForgottenError(f"can't go back to revision {to_revision}: {error}") from None
        reading.load(mine)
        stated: list[Object] = []
        gone: list[ObjectId] = []
        for key in mine:
            value = reading.get(key)
            if key not in then:
                gone += [keys.object_id(key)] if value is not None else []
            elif value is None or documents.load(key, value) != documents.load(key, then[key]):
                stated.append(documents.load(key, then[key]))
        return Edit(intent_of(stated), frozenset(gone))

    return change


def _changed(store: Store, since: int, until: int) -> list[str]:
    """The keys of objects that have changed between the two revisions."""
    found: set[str] = set()
    with store.watch(since, [keys.INTENT]) as watch:
        while watch.revision < until and (batch := watch.next(0)) is not None:
            found.update(change.key for change in batch.changes)
    return sorted(found)
