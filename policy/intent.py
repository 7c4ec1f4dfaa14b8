"""What operators do to the intent in a store: apply, delete, look. Every change is planned whole, checked
whole and committed in one transaction with the grants that go with it, or not at all.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any

from policy import documents, events, grants, pools, validate
from policy.errors import ManifestError, ObjectId, PolicyError, Problem
from policy.events import Event
from policy.model import Intent, Labels, Object, Policy, intent_of
from policy.store import ConflictError, Snapshot, Store

SCOPE = (documents.PREFIX, grants.PREFIX)
"""What a change of intent reads and writes."""

_ATTEMPTS = 20
_PROGRESS_SECONDS = 2.0


class ReferencedError(PolicyError):
    """Whoever deletes must act: something else still needs it."""


class NotFoundError(PolicyError):
    """Whoever named it must act: the store has no such object."""


class Outcome(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True)
class Plan:
    """A change that has been found to be right: `before` and `after` are the stated intents, policy is the
    complete one; puts and deletes lead the store from the snapshot's revision there.
    """

    outcomes: tuple[tuple[ObjectId, Outcome], ...]
    before: Intent
    after: Intent
    policy: Policy
    revision: int
    puts: Mapping[str, bytes]
    deletes: tuple[str, ...]

    @property
    def changes(self) -> bool:
        return any(outcome is not Outcome.UNCHANGED for _, outcome in self.outcomes)


Change = Callable[[Snapshot], Plan]


def commit(store: Store, change: Change, source: str = "apply") -> tuple[int, Plan]:
    """Plan and commit; when somebody else was faster, plan again. The revision that has it, and the plan.

    Where nothing changes it is the revision of the last change of intent: hosts' states make revisions, too.

    ManifestError, ReferencedError, NotFoundError: the plan's; ConflictError: others were faster every time.
    """
    for attempt in count(1):
        snapshot = store.snapshot(*SCOPE, events.PREFIX)
        plan = change(snapshot)
        if not plan.changes and not plan.puts:
            return _last_change(snapshot), plan  # holds that have ended can wait for a change
        try:
            unchanged = dict.fromkeys(SCOPE, plan.revision)
            key, value = events.item(_event(plan, source))
            deletes = [*plan.deletes, *events.outdated(snapshot.items)]
            return store.commit({**plan.puts, key: value}, deletes, unchanged=unchanged), plan
        except ConflictError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("count() goes on")


def _last_change(snapshot: Snapshot) -> int:
    """Its revision, of a snapshot with events: a change that only deletes is an event, too."""
    keys = [key for key in snapshot.items if key.startswith(SCOPE)]
    keys += events.keys_of_intent(snapshot.items)
    return max((snapshot.revisions[key] for key in keys), default=0)


def _event(plan: Plan, source: str) -> Event:
    changed = [(identity, outcome) for identity, outcome in plan.outcomes if outcome is not Outcome.UNCHANGED]
    counts = Counter(str(outcome) for _, outcome in changed)
    text = ", ".join(f"{number} {outcome}" for outcome, number in counts.items()) or "grants renewed"
    named = tuple(str(identity) for identity, _ in changed[: events.NAMED])
    return Event(time.time(), source, text, dict(counts), named)


# ---- changes -----------------------------------------------------------------------------------------------


def apply(stated: Intent, problems: Iterable[Problem] = (), prune: Labels = ()) -> Change:
    """What is stated becomes so; nothing else changes.

    problems: of reading what is stated. prune: objects with these labels that are not stated go. The plan
    raises a ManifestError with all that is wrong with what the intent would be then.
    """

    def change(snapshot: Snapshot) -> Plan:
        before = documents.intent_from(snapshot.items)
        gone = {
            item.id
            for item in before.by_id.values()
            if prune and set(prune) <= set(item.labels) and item.id not in stated.by_id
        }
        kept = [item for item in before.by_id.values() if item.id not in gone]
        after = intent_of([*kept, *stated.by_id.values()], {**before.sources, **stated.sources})
        named = [(item.id, _outcome(before, item)) for item in stated.by_id.values()]
        named += [(identity, Outcome.DELETED) for identity in sorted(gone)]
        return _plan(snapshot, before, after, named, list(problems))

    return change


def delete(identities: Iterable[ObjectId], cascade: bool = False) -> Change:
    """These go, and with cascade all that refers to them.

    The plan raises a NotFoundError for what is not there, a ReferencedError without cascade.
    """
    wanted = set(identities)

    def change(snapshot: Snapshot) -> Plan:
        before = documents.intent_from(snapshot.items)
        if missing := sorted(wanted - before.by_id.keys()):
            raise NotFoundError("\n".join(f"there is no {identity}" for identity in missing))
        complete = documents.policy_from(snapshot.items)  # VSIDs that were given, too, are referred to
        gone = with_referrers(complete, wanted)
        if gone != wanted and not cascade:
            raise ReferencedError("\n".join(_still_referenced(complete, wanted)))
        after = intent_of((item for item in before.by_id.values() if item.id not in gone), before.sources)
        named = [(item.id, Outcome.DELETED) for item in reversed(before.by_id.values()) if item.id in gone]
        return _plan(snapshot, before, after, named, [])

    return change


def with_referrers(intent: Intent, identities: Iterable[ObjectId]) -> set[ObjectId]:
    """These objects, what refers to them, what refers to that, and so on."""
    referrers: dict[ObjectId, list[ObjectId]] = {}
    for item in intent.by_id.values():
        for _, target in _references(intent, item):
            referrers.setdefault(target, []).append(item.id)
    found: set[ObjectId] = set()
    waiting = list(identities)
    while waiting:
        identity = waiting.pop()
        if identity not in found:
            found.add(identity)
            waiting += referrers.get(identity, ())
    return found


def _references(intent: Intent, item: Object) -> Iterator[tuple[str, ObjectId]]:
    """What an object names, and the tenant that it is of."""
    yield from validate.references_in(intent, item)
    if item.id.tenant:
        yield "metadata.tenant", ObjectId("Tenant", "", item.id.tenant)


def _still_referenced(intent: Intent, identities: set[ObjectId]) -> Iterator[str]:
    for item in intent.by_id.values():
        for path, target in _references(intent, item):
            if target in identities and item.id not in identities:
                yield f"{target} is still referred to by {item.id}: {path}"


def _outcome(before: Intent, item: Object) -> Outcome:
    there = before.by_id.get(item.id)
    if there is None:
        return Outcome.CREATED
    return Outcome.UNCHANGED if there == item else Outcome.CHANGED


def _plan(
    snapshot: Snapshot,
    before: Intent,
    after: Intent,
    outcomes: list[tuple[ObjectId, Outcome]],
    problems: list[Problem],
) -> Plan:
    problems = [*problems, *validate.check_change(before, after)]
    policy, granted = _complete(after, grants.decode(snapshot.items), problems)
    items = {**documents.items_of(after.by_id.values(), policy.by_id), **grants.encode(granted)}
    return Plan(
        outcomes=tuple(outcomes),
        before=before,
        after=after,
        policy=policy,
        revision=snapshot.revision,
        puts={key: value for key, value in items.items() if snapshot.items.get(key) != value},
        deletes=tuple(key for key in snapshot.items if key not in items and key.startswith(SCOPE)),
    )


def _complete(
    intent: Intent, before: grants.Grants, problems: list[Problem]
) -> tuple[Policy, dict[grants.Value, grants.Grant]]:
    problems += validate.check_intent(intent)
    if problems:
        raise ManifestError(problems)
    policy, granted = pools.complete(intent, before, time.time())
    if problems := validate.check_policy(policy):
        raise ManifestError(problems)
    return policy, granted


# ---- looking -----------------------------------------------------------------------------------------------


def find(intent: Intent, kind: str, name: str) -> ObjectId:
    """The object called `name`, or `tenant/name`. NotFoundError: none, or several tenants have one."""
    tenant, slash, short = name.rpartition("/")
    found = [
        identity
        for identity in intent.by_id
        if (identity.kind, identity.name) == (kind, short) and (not slash or identity.tenant == tenant)
    ]
    if not found:
        raise NotFoundError(f"there is no {kind} {name}")
    if len(found) > 1:
        several = ", ".join(identity.qualified_name for identity in found)
        raise NotFoundError(f"several tenants have a {kind} {name}: {several}")
    return found[0]


def selected(intent: Intent, kind: str, tenant: str | None = None, labels: Labels = ()) -> list[Object]:
    """The objects of a kind that have all of the labels and, if one is given, are of the tenant; by name."""
    return [
        item
        for item in intent.by_id.values()
        if item.id.kind == kind
        and (tenant is None or item.id.tenant == tenant)
        and set(labels) <= set(item.labels)
    ]


# ---- hosts -------------------------------------------------------------------------------------------------

HOST_PREFIX = "host/"
"""Of what hosts' agents say: {"revision", "generation", "state", "problems", "time", "digest"}."""

APPLIED, FAILED = "applied", "failed"


class NotAppliedError(PolicyError):
    """The operator must look at the hosts that are named."""


def host_states(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """By host, what its agent last said."""
    return {
        key.removeprefix(HOST_PREFIX): json.loads(value)
        for key, value in snapshot.items.items()
        if key.startswith(HOST_PREFIX)
    }


def wait_applied(
    store: Store, policy: Policy, revision: int, seconds: float, progress: Callable[[list[str]], None]
) -> None:
    """Until every host that isolane runs on has applied this revision. NotAppliedError: one has not.

    progress: is told from time to time who is behind.
    """
    behind = {host.name for host in policy.hosts if host.managed}
    snapshot = store.snapshot(HOST_PREFIX)
    end = time.monotonic() + seconds
    states = host_states(snapshot)
    with store.watch(snapshot.revision, HOST_PREFIX) as watch:
        while True:
            _check_none_failed(states, behind, revision)
            behind = {host for host in behind if not _has_applied(states.get(host), revision)}
            if not behind:
                return
            left = end - time.monotonic()
            if left <= 0:
                raise NotAppliedError(f"not applied after {seconds:.0f} s by: {', '.join(sorted(behind))}")
            batch = watch.next(min(left, _PROGRESS_SECONDS))
            if batch is None:
                progress(sorted(behind))
            for key, value in batch.changes if batch else ():
                states[key.removeprefix(HOST_PREFIX)] = json.loads(value) if value is not None else {}


def _has_applied(state: dict[str, Any] | None, revision: int) -> bool:
    return state is not None and state.get("state") == APPLIED and state["revision"] >= revision


def _check_none_failed(states: dict[str, dict[str, Any]], hosts: set[str], revision: int) -> None:
    failed = [
        f"host {host}: {'; '.join(state['problems'])}"
        for host, state in sorted(states.items())
        if host in hosts and state and state["state"] == FAILED and state["revision"] >= revision
    ]
    if failed:
        raise NotAppliedError("\n".join(failed))
