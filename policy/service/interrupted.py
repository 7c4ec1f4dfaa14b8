"""A delete of more than a store takes at once that was interrupted between two of its steps: who makes it
again names what is gone already.
"""

import re
import time
from collections.abc import Collection, Iterator

from policy.errors import CompactedError, ObjectId
from policy.kinds import keys
from policy.service import events
from policy.service.events import Event
from policy.store.contract import Store
from policy.store.reading import newest

_SOURCE = re.compile(r"delete((?:, step [0-9]+ of [0-9]+)*)")
_STEP = re.compile(r"step ([0-9]+) of ([0-9]+)")

_SECONDS = 3600.0
"""For how long it may be made again."""


def deleted_by(store: Store, who: str, identities: Collection[ObjectId]) -> set[ObjectId]:
    """Of these, none of which is there, those that were before the first step of somebody's last delete of
    them, if that did not come to its end; as far as the store remembers.
    """
    first = _first_step(store, who, set(map(str, identities)))
    if not first:
        return set()
    wanted = {keys.object_key(identity): identity for identity in identities}
    try:
        return {wanted[key] for key, _, _ in store.get(wanted, first - 1).rows}
    except CompactedError:
        return set()


def _first_step(store: Store, who: str, names: Collection[str]) -> int:
    """Its revision; 0: none is unfinished. Others of the same one's deletes may come between two steps."""
    first = 0
    touched = False  # whether the delete that is under way concerns one of the names
    for revision, event in sorted(_deletes(store), key=lambda found: found[0]):
        source = _SOURCE.fullmatch(event.source)
        if source is None or event.who != who:
            continue
        steps = _STEP.findall(source[1])
        concerns = any(name in names for name in event.objects)
        begins = all(number == "1" for number, _ in steps)
        touched = concerns or (touched and not begins)
        if all(number == of for number, of in steps):
            first = 0 if touched else first
        elif concerns:
            first = first or revision
    return first


def _deletes(store: Store) -> Iterator[tuple[int, Event]]:
    """With their revisions. Of all other events, which are many, nothing is decoded."""
    after, more = keys.event_key(time.time() - _SECONDS, ""), True
    at = newest(store)
    while more:
        page = store.range(keys.EVENTS, at, after)
        rows = {key: (value, revision) for key, value, revision in page.rows if b'"delete' in value}
        for key, event in events.by_key({key: value for key, (value, _) in rows.items()}).items():
            yield rows[key][1], event
        if more := page.more:
            after = page.rows[-1][0]
