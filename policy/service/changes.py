"""What is done to the intent in a store: apply, delete, label. A change is planned, checked and committed in
one transaction with the grants that go with it, or not at all.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from types import MappingProxyType

from policy.errors import (
    CompactedError,
    ConflictError,
    ManifestError,
    NotFoundError,
    ObjectId,
    Problem,
    ReferencedError,
    StaleError,
    TooLargeError,
)
from policy.kinds import documents, keys
from policy.kinds.model import Intent, Labels, Object, intent_of
from policy.kinds.steps import counted, step
from policy.service import events, lookup, planning, staging
from policy.service.events import Event
from policy.service.planning import Change, Edit, Outcome, Plan
from policy.service.principal import OPERATOR
from policy.store.contract import Store
from policy.store.reading import Reading, snapshot_of

_ATTEMPTS = 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1
"""Seconds at most until the next attempt; twice as long each time."""


def plan(store: Store, change: Change) -> Plan:
    """The plan of a change, without making it. Raises what the change does, StaleError for edits of what has
    changed since, and ManifestError for all that would be wrong then.
    """
    reading = Reading(store)
    return planning.plan(reading, change(reading))


def commit(store: Store, change: Change, source: str = "apply", who: str = OPERATOR.name) -> tuple[int, Plan]:
    """Plan and commit; when somebody else was faster, plan again. The revision that has it, and the plan.

    Where nothing changes it is the revision of the last change of intent: hosts' states make revisions, too.

    What is more than the store takes at once is committed in steps, each of which is right.

    Raises what `plan` does; ConflictError: others were faster every time; TooLargeError: no such steps are
    known; those before are made.
    """
    for attempt in count(1):
        try:
            reading = Reading(store)
            with step("looking at what is there"):
                edit = change(reading)
            planned = planning.plan(reading, edit)
            if not planned.changes and not planned.puts:
                return _last_change(store), planned  # holds that have ended can wait for a change
            key, value = events.item(_event(planned, source, who))
            puts = {**planned.puts, key: value, keys.CHANGED: key.encode()}
            if not staging.fits(puts, planned.deletes, store.limits()):
                steps = staging.steps(edit, planned, store.limits())
                if len(steps) > 1:
                    if max(part.size for part in steps) >= edit.size:
                        raise TooLargeError("more than the store takes at once, in no smaller steps")
                    return _commit_steps(store, steps, planned.before, source, who), planned
            seconds = {key: events.KEPT_SECONDS}
            with step("writing to the store"):
                return store.commit(puts, planned.deletes, expect=planned.expect, seconds=seconds), planned
        except (ConflictError, CompactedError) as error:
            if attempt == _ATTEMPTS:
                raise ConflictError(f"others were faster {attempt} times: {error}") from error
            time.sleep(random.uniform(0, min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)))
    raise AssertionError("count() goes on")


class _OvertakenError(Exception):
    """Somebody else has changed what a step was made from."""


def _commit_steps(store: Store, steps: Sequence[Edit], before: Intent, source: str, who: str) -> int:
    """The revision that has them all. before: what they were made from. ConflictError: it was changed, and
    the rest of the steps must be made anew.
    """
    revision = 0
    for number, part in enumerate(counted(steps, "steps"), 1):
        which = f"step {number} of {len(steps)}"
        try:
            revision, _ = commit(store, _made_from(before, part), f"{source}, {which}", who)
        except _OvertakenError as error:
            raise ConflictError(f"{which}: {error}") from None
        except StaleError:
            raise
        except ManifestError as error:
            raise TooLargeError(
                f"more than the store takes at once, and {which} is wrong:\n{error}"
            ) from error
    return revision


def _made_from(before: Intent, step: Edit) -> Change:
    """Whatever it replaces is as it was before the first step, or already as it is to be."""

    def change(reading: Reading) -> Edit:
        there = documents.intent_from(_items(reading, step.stated.by_id)).by_id
        for identity, item in step.stated.by_id.items():
            if there.get(identity) not in (before.by_id.get(identity), item):
                raise _OvertakenError(f"{identity} has been changed")
        return step

    return change


def _last_change(store: Store) -> int:
    return snapshot_of(store, keys=[keys.CHANGED]).revisions.get(keys.CHANGED, 0)


def _event(plan: Plan, source: str, who: str) -> Event:
    changed = [(identity, outcome) for identity, outcome in plan.outcomes if outcome is not Outcome.UNCHANGED]
    counts = Counter(str(outcome) for _, outcome in changed)
    text = ", ".join(f"{number} {outcome}" for outcome, number in counts.items()) or "grants renewed"
    named = tuple(str(identity) for identity, _ in changed[: events.NAMED])
    return Event(time.time(), source, text, dict(counts), named, who)


# ---- changes -----------------------------------------------------------------------------------------------


def apply(
    stated: Intent,
    problems: Iterable[Problem] = (),
    expected: Mapping[ObjectId, int] = MappingProxyType({}),
    *,
    prune: Labels = (),
    may_prune: Callable[[ObjectId], bool] = lambda _: True,
) -> Change:
    """What is stated becomes so; nothing else changes.

    problems: of reading what is stated. expected: by object, the revision that its editor has seen, 0 for
    one that is not to be there yet. prune: objects with these labels that are not stated go, of those that
    may be pruned.
    """
    found = tuple(problems)

    def change(reading: Reading) -> Edit:
        gone: frozenset[ObjectId] = frozenset()
        if prune:
            items = reading.under(keys.INTENT).items()
            mine = {key: value for key, value in items if may_prune(keys.object_id(key))}
            there = documents.intent_from(mine).by_id.values()
            gone = frozenset(item.id for item in there if set(prune) <= set(item.labels))
        return Edit(stated, gone - stated.by_id.keys(), found, expected)

    return change


def delete(
    identities: Iterable[ObjectId],
    cascade: bool = False,
    ignore_missing: bool = False,
    expected: Mapping[ObjectId, int] = MappingProxyType({}),
    *,
    force: bool = False,
    were_there: Callable[[Collection[ObjectId]], Collection[ObjectId]] = lambda _: (),
) -> Change:
    """These go, and with cascade all that refers to them; with force, which does not go with cascade, also
    if they can't be read.

    The change raises a NotFoundError for what is not there unless that is to be ignored, a ReferencedError
    without cascade. were_there: of those that are not there, which count as deleted by it.
    """
    named = set(identities)
    seen: set[ObjectId] = set()  # what others' changes between two steps made it plan anew has gone by itself

    def change(reading: Reading) -> Edit:
        there = _there(reading, named, ignore_missing=True)
        if (missing := named - there - seen) and not ignore_missing:
            before = were_there(missing)
            _check_missing(missing.difference(before))
            seen.update(before)
        seen.update(there)
        forced = frozenset(there) if force and _unreadable(reading, there) else frozenset()
        find = lookup.referrers_by_documents if forced else lookup.referrers
        others = find(reading, there) - there
        if others and not cascade:
            raise ReferencedError("\n".join(_still_referenced(reading, there, others)))
        gone = lookup.with_referrers(reading, there) if others else there
        return Edit(gone=frozenset(gone), expected=expected, forced=forced)

    return change


def _unreadable(reading: Reading, identities: Iterable[ObjectId]) -> bool:
    """Whether one of them is."""
    return bool(documents.read(_items(reading, identities)).unreadable)


def label(
    identities: Iterable[ObjectId],
    put: Mapping[str, str],
    remove: Collection[str] = (),
    expected: Mapping[ObjectId, int] = MappingProxyType({}),
) -> Change:
    """These objects get the labels of `put` and lose those of `remove`. The change raises a NotFoundError for
    what is not there.
    """
    named = set(identities)

    def change(reading: Reading) -> Edit:
        there = _there(reading, named, ignore_missing=False)
        stated = documents.intent_from(_items(reading, there))
        objects = (
            replace(item, labels=tuple(sorted({**_without(item, remove), **put}.items())))
            for item in stated.by_id.values()
        )
        return Edit(intent_of(objects, stated.sources), expected=expected)

    return change


def _without(item: Object, left_out: Collection[str]) -> dict[str, str]:
    return {key: value for key, value in item.labels if key not in left_out}


def _there(reading: Reading, named: set[ObjectId], ignore_missing: bool) -> set[ObjectId]:
    found = {keys.object_id(key) for key in _items(reading, named)}
    if not ignore_missing:
        _check_missing(named - found)
    return found


def _check_missing(missing: Collection[ObjectId]) -> None:
    if missing:
        raise NotFoundError("\n".join(f"there is no {identity}" for identity in sorted(missing)))


def _items(reading: Reading, identities: Iterable[ObjectId]) -> dict[str, bytes]:
    wanted = list(map(keys.object_key, identities))
    reading.load(wanted)
    return {key: value for key in wanted if (value := reading.get(key)) is not None}


def _still_referenced(reading: Reading, wanted: set[ObjectId], others: set[ObjectId]) -> Iterator[str]:
    there = documents.read(_items(reading, others | wanted), complete=True)
    for path, referrer, target in lookup.references_in(intent_of(there.objects)):
        if target in wanted and referrer not in wanted:
            yield f"{target} is still referred to by {referrer}: {path}"
    for identity in sorted(others.intersection(map(keys.object_id, there.unreadable))):
        yield f"{identity} may still refer to one of them, and can't be read"
