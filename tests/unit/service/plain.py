"""The plain planner: a change planned among all that a store has, read at once and written anew. What the
product's planner does among a part of it, or among everything, is the same.
"""

import time
from collections.abc import Iterator

from policy.errors import ManifestError, ObjectId
from policy.ipam import allocate, ledger
from policy.kinds import documents, keys
from policy.kinds.model import Intent, Policy, intent_of
from policy.rules import admission
from policy.service import indexes
from policy.service.planning import Change, Edit, Outcome, Plan
from policy.store.contract import Expect, Store
from policy.store.reading import Reading, Snapshot, snapshot_of

SCOPE = (keys.INTENT, keys.GRANTS, keys.INDEX)


def plan(store: Store, change: Change) -> Plan:
    return plan_edit(snapshot_of(store, *SCOPE), change(Reading(store)))


def plan_edit(snapshot: Snapshot, edit: Edit) -> Plan:
    now = time.time()
    before = documents.intent_from(snapshot.items)
    kept = {key: item for key, item in before.by_id.items() if key not in edit.gone}
    sources = {key: before.sources[key] for key in kept} | dict(edit.stated.sources)
    after = intent_of({**kept, **edit.stated.by_id}.values(), sources)
    problems = [*edit.problems, *admission.check_change(before, after), *admission.check_intent(after)]
    if problems:
        raise ManifestError(problems)
    policy, granted = allocate.complete(after, ledger.decode(snapshot.items), now)
    if problems := admission.check_policy(policy):
        raise ManifestError(problems)
    items = {
        **documents.items_of(after.by_id.values(), policy.by_id, snapshot.items.get, now),
        **ledger.encode(granted),
        **index_of(after, policy, granted),
    }
    return Plan(
        outcomes=tuple(_outcomes(before, edit)),
        before=before,
        after=after,
        policy=policy,
        revision=snapshot.revision,
        puts={key: value for key, value in items.items() if snapshot.items.get(key) != value},
        deletes=tuple(key for key in snapshot.items if key not in items),
        expect=Expect(prefixes=dict.fromkeys(SCOPE, snapshot.revision)),
    )


def index_of(stated: Intent, policy: Policy, grants: ledger.Grants) -> dict[str, bytes]:
    """The index of a whole store."""
    items = {key: value for item in stated.by_id.values() for key, value in indexes.items_of_object(item)}
    presences = indexes.count_presences(policy.ports, policy.subnet_by_id)
    items |= {presence.key: indexes.write_counts(counts) for presence, counts in presences.items()}
    items |= indexes.items_of_grants(grants)
    return items | {keys.INDEX_READY: indexes.LAYOUT}


def _outcomes(before: Intent, edit: Edit) -> Iterator[tuple[ObjectId, Outcome]]:
    for identity, item in edit.stated.by_id.items():
        there = before.by_id.get(identity)
        if there is None:
            yield identity, Outcome.CREATED
        else:
            yield identity, Outcome.UNCHANGED if there == item else Outcome.CHANGED
    yield from ((identity, Outcome.DELETED) for identity in edit.gone if identity in before.by_id)
