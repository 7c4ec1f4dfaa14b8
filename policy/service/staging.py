"""What is more than a store takes in one commit, in steps that each are right. Pure.

Who is interrupted between two steps makes the same change again: what is done already changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence

from policy.errors import ObjectId
from policy.kinds.model import Object, intent_of
from policy.service import lookup
from policy.service.planning import Edit, Outcome, Plan
from policy.store.contract import Limits

_FILLED = 0.8
"""How full a step may be expected to be: objects differ in size, and steps are planned anew."""


def fits(puts: Mapping[str, bytes], deletes: Sequence[str], limits: Limits) -> bool:
    return len(puts) + len(deletes) <= limits.ops and _size(puts, deletes) <= limits.size


def steps(edit: Edit, plan: Plan, limits: Limits) -> list[Edit]:
    """In order, at least two unless the edit is of a single object. plan: of the edit."""
    filled = (len(plan.puts) + len(plan.deletes)) / limits.ops, _size(plan.puts, plan.deletes) / limits.size
    order = list(_in_order(edit, plan))
    parts = max(2, int(max(filled) / _FILLED) + 1)
    size = max(-(-len(order) // parts), 1)
    return [_step(edit, order[first : first + size]) for first in range(0, len(order), size)]


def _in_order(edit: Edit, plan: Plan) -> Iterator[ObjectId]:
    """What nothing needs goes first, for its names and values may be wanted; then what is needed comes before
    what needs it; what was needed before that goes last.
    """
    needed = {
        target for _, referrer, target in lookup.references_in(plan.before) if referrer not in edit.gone
    }
    going = [identity for identity, outcome in plan.outcomes if outcome is Outcome.DELETED]
    yield from (identity for identity in going if identity not in needed)
    yield from (
        identity for identity, outcome in plan.outcomes if outcome in (Outcome.CREATED, Outcome.CHANGED)
    )
    yield from (identity for identity in going if identity in needed)


def _step(edit: Edit, part: Sequence[ObjectId]) -> Edit:
    stated: list[Object] = [edit.stated.by_id[identity] for identity in part if identity in edit.stated.by_id]
    return Edit(
        stated=intent_of(stated, edit.stated.sources),
        gone=edit.gone & set(part),
        expected={identity: edit.expected[identity] for identity in part if identity in edit.expected},
        forced=edit.forced,
    )


def _size(puts: Mapping[str, bytes], deletes: Sequence[str]) -> int:
    return sum(map(len, puts)) + sum(map(len, puts.values())) + sum(map(len, deletes))
