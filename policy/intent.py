"""What operators do to the intent in a store: apply, delete, look. Every change is planned whole, checked
whole and committed in one transaction with the grants that go with it, or not at all.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any

from policy import documents, events, finding, grants, index, pools, scope_plan, validate
from policy.errors import ManifestError, ObjectId, PolicyError, Problem
from policy.events import Event
from policy.finding import NotFoundError, WideError
from policy.model import Intent, Labels, Object, Policy, intent_of
from policy.store import CompactedError, ConflictError, Reading, Snapshot, Store

SCOPE = (documents.PREFIX, grants.PREFIX, index.PREFIX)
"""What a change of intent reads and writes at most."""

CHANGED = "changed"
"""Key of what every change of intent writes: its revision is that of the last one."""

_ATTEMPTS = 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1
"""Seconds at most until the next attempt; twice as long each time."""
_PROGRESS_SECONDS = 2.0
RECOVERY_SECONDS = 3.0
"""A host that has failed may get over it: a device that another host has yet to let go, say."""


class ReferencedError(PolicyError):
    """Whoever deletes must act: something else still needs it."""


class Outcome(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True)
class Plan:
    """A change that has been found to be right: `before` and `after` are the stated intents, policy is the
    complete one, all of them without what the change does not concern. puts and deletes lead the store from
    `revision` there, if nothing of `unchanged` has changed (as in Store.commit).
    """

    outcomes: tuple[tuple[ObjectId, Outcome], ...]
    before: Intent
    after: Intent
    policy: Policy
    revision: int
    puts: Mapping[str, bytes]
    deletes: tuple[str, ...]
    unchanged: Mapping[str, int]

    @property
    def changes(self) -> bool:
        return any(outcome is not Outcome.UNCHANGED for _, outcome in self.outcomes)


@dataclass(frozen=True)
class Change:
    """What to do, to be planned: in the whole from a snapshot of SCOPE, or by reading what it concerns.

    scoped: WideError where it concerns too much for that. Called it is planned in the whole.
    """

    whole: Callable[[Snapshot], Plan]
    scoped: Callable[[Reading], Plan]

    def __call__(self, snapshot: Snapshot) -> Plan:
        return self.whole(snapshot)


def plan(store: Store, change: Change) -> Plan:
    """The plan of a change, without making it. Raises what the plan does."""
    try:
        return change.scoped(Reading(store))
    except WideError:
        return change.whole(store.snapshot(*SCOPE))


def commit(store: Store, change: Change, source: str = "apply") -> tuple[int, Plan]:
    """Plan and commit; when somebody else was faster, plan again. The revision that has it, and the plan.

    Where nothing changes it is the revision of the last change of intent: hosts' states make revisions, too.

    ManifestError, ReferencedError, NotFoundError: the plan's; ConflictError: others were faster every time.
    """
    for attempt in count(1):
        try:
            planned = plan(store, change)
            if not planned.changes and not planned.puts:
                return _last_change(store), planned  # holds that have ended can wait for a change
            key, value = events.item(_event(planned, source))
            deletes = [*planned.deletes, *events.outdated(store.snapshot(events.PREFIX).items)]
            puts = {**planned.puts, key: value, CHANGED: key.encode()}
            return store.commit(puts, deletes, unchanged=planned.unchanged), planned
        except (ConflictError, CompactedError) as error:
            if attempt == _ATTEMPTS:
                raise ConflictError(f"others were faster {attempt} times: {error}") from error
            time.sleep(random.uniform(0, min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)))
    raise AssertionError("count() goes on")


def _last_change(store: Store) -> int:
    return store.snapshot(keys=[CHANGED]).revisions.get(CHANGED, 0)


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

    def whole(snapshot: Snapshot) -> Plan:
        before = documents.intent_from(snapshot.items)
        gone = {
            item.id
            for item in before.by_id.values()
            if prune and set(prune) <= set(item.labels) and item.id not in stated.by_id
        }
        kept = [item for item in before.by_id.values() if item.id not in gone]
        sources = {item.id: before.sources[item.id] for item in kept}
        after = intent_of([*kept, *stated.by_id.values()], {**sources, **stated.sources})
        named = [(item.id, _outcome(before.by_id, item)) for item in stated.by_id.values()]
        named += [(identity, Outcome.DELETED) for identity in sorted(gone)]
        return _plan(snapshot, before, after, named, list(found))

    def scoped(reading: Reading) -> Plan:
        if prune:
            raise WideError("prune")
        planned = scope_plan.plan(reading, stated, (), found, time.time())
        named = [(item.id, _outcome(planned.before, item)) for item in stated.by_id.values()]
        return _scoped(reading, planned, named)

    found = tuple(problems)
    return Change(whole, scoped)


def delete(identities: Iterable[ObjectId], cascade: bool = False, ignore_missing: bool = False) -> Change:
    """These go, and with cascade all that refers to them.

    The plan raises a NotFoundError for what is not there unless that is to be ignored, a ReferencedError
    without cascade.
    """
    named = set(identities)

    def found(there: Callable[[ObjectId], bool]) -> set[ObjectId]:
        missing = {identity for identity in named if not there(identity)}
        if missing and not ignore_missing:
            raise NotFoundError("\n".join(f"there is no {identity}" for identity in sorted(missing)))
        return named - missing

    def whole(snapshot: Snapshot) -> Plan:
        before = documents.intent_from(snapshot.items)
        wanted = found(before.by_id.__contains__)
        complete = documents.policy_from(snapshot.items)  # VSIDs that were given, too, are referred to
        gone = with_referrers(complete, wanted)
        if gone != wanted and not cascade:
            raise ReferencedError("\n".join(_still_referenced(complete, wanted)))
        after = intent_of((item for item in before.by_id.values() if item.id not in gone), before.sources)
        outcomes = [(each, Outcome.DELETED) for each in reversed(before.by_id) if each in gone]
        return _plan(snapshot, before, after, outcomes, [])

    def scoped(reading: Reading) -> Plan:
        reading.load(map(documents.key_of, named))
        wanted = found(lambda identity: reading.get(documents.key_of(identity)) is not None)
        others = finding.referrers(reading, wanted) - wanted
        if others and not cascade:
            keys = list(map(documents.key_of, others | wanted))
            reading.load(keys)
            there = documents.policy_from({key: value for key in keys if (value := reading.get(key))})
            raise ReferencedError("\n".join(_still_referenced(there, wanted)))
        gone = finding.with_referrers(reading, wanted) if others else wanted
        planned = scope_plan.plan(reading, Intent(), gone, (), time.time())
        order = reversed(intent_of(planned.before.values()).by_id)
        return _scoped(reading, planned, [(each, Outcome.DELETED) for each in order if each in gone])

    return Change(whole, scoped)


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


def _outcome(before: Mapping[ObjectId, Object], item: Object) -> Outcome:
    there = before.get(item.id)
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
    items = {
        **documents.items_of(after.by_id.values(), policy.by_id),
        **grants.encode(granted),
        **index.items_of(after, policy, granted),
    }
    return Plan(
        outcomes=tuple(outcomes),
        before=before,
        after=after,
        policy=policy,
        revision=snapshot.revision,
        puts={key: value for key, value in items.items() if snapshot.items.get(key) != value},
        deletes=tuple(key for key in snapshot.items if key not in items and key.startswith(SCOPE)),
        unchanged=dict.fromkeys(SCOPE, snapshot.revision),
    )


def _scoped(reading: Reading, planned: scope_plan.Planned, outcomes: list[tuple[ObjectId, Outcome]]) -> Plan:
    return Plan(
        outcomes=tuple(outcomes),
        before=intent_of(planned.before.values()),
        after=intent_of(planned.after.values()),
        policy=planned.policy,
        revision=reading.revision,
        puts=planned.puts,
        deletes=planned.deletes,
        unchanged=reading.relied_on,
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
"""Of what hosts' agents say: {"revision", "generation", "state", "problems", "ports", "time", "digest"}.
ports: each has one of the problems; the others are the host's.
"""

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


NO_AGENT = "no agent has been there"


def without_agent(snapshot: Snapshot, policy: Policy) -> list[str]:
    """The hosts that isolane should run on, of which no agent has ever said anything."""
    states = host_states(snapshot)
    return [host.name for host in policy.hosts if host.managed and host.name not in states]


def wait_applied(
    store: Store,
    policy: Policy,
    revision: int,
    seconds: float,
    progress: Callable[[list[str]], None],
    ports: Collection[str] | None = None,
) -> None:
    """Until every host that isolane runs on has applied this revision. NotAppliedError: one has not, after
    `seconds`, or sooner where it has failed and does not get over it.

    progress: is told from time to time who is behind. ports: problems of others are passed over.
    """
    behind = {host.name for host in policy.hosts if host.managed}
    snapshot = store.snapshot(HOST_PREFIX)
    now = time.monotonic()
    end, give_up, told = now + seconds, now + seconds, now + _PROGRESS_SECONDS
    states = host_states(snapshot)
    with store.watch(snapshot.revision, HOST_PREFIX) as watch:
        while True:
            behind = {host for host in behind if not _has_applied(states.get(host), revision, ports)}
            if not behind:
                return
            failed = {host for host in behind if _has_failed(states.get(host), revision, ports)}
            now = time.monotonic()
            give_up = min(give_up, now + RECOVERY_SECONDS) if failed else end
            if now >= min(end, give_up):
                raise NotAppliedError("\n".join(_why_not(states, behind, failed, seconds)))
            if now >= told:
                progress(sorted(behind))
                told = now + _PROGRESS_SECONDS
            batch = watch.next(min(end, give_up, told) - now)
            for key, value in batch.changes if batch else ():
                states[key.removeprefix(HOST_PREFIX)] = json.loads(value) if value is not None else {}


def _why_not(
    states: Mapping[str, dict[str, Any]], behind: set[str], failed: set[str], seconds: float
) -> Iterator[str]:
    for host in sorted(failed):
        yield f"host {host}: {'; '.join(states[host]['problems'])}"
    if silent := behind - failed:
        when = "yet" if failed else f"after {seconds:.0f} s"
        names = (host if host in states else f"{host} ({NO_AGENT})" for host in sorted(silent))
        yield f"not applied {when} by: {', '.join(names)}"


def _has_applied(state: dict[str, Any] | None, revision: int, ports: Collection[str] | None) -> bool:
    if not state or state["revision"] < revision:
        return False
    return state["state"] == APPLIED or not _concerns(state, ports)


def _has_failed(state: dict[str, Any] | None, revision: int, ports: Collection[str] | None) -> bool:
    if not state or state["revision"] < revision:
        return False
    return bool(state["state"] == FAILED and _concerns(state, ports))


def _concerns(state: dict[str, Any], ports: Collection[str] | None) -> bool:
    """Whether one of the problems is the host's, or that of one of these ports; None: of any."""
    blamed = state.get("ports", [])
    return ports is None or len(state["problems"]) > len(blamed) or any(port in ports for port in blamed)
