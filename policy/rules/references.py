"""What objects name: each is there, and so is the tenant."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from policy.errors import ObjectId, Problem
from policy.kinds import codec, words
from policy.kinds.model import Intent, LookupRecord, Object, Port
from policy.rules.uses import Problems

MISSING = "there is no "
MOST_HINTS = 10
"""Looking for names that are like another one takes its time."""

Names = Callable[[str, str], Iterable[str]]
"""Of the objects of a kind and a tenant."""


def names_in(intent: Intent) -> Names:
    return lambda kind, tenant: (each.name for each in intent.by_id if each[:2] == (kind, tenant))


def hinted(problems: Iterable[Problem], names: Names) -> Problems:
    """The same problems; where a name is missing, with one that is like it."""
    hints: dict[str, str] = {}
    for problem in problems:
        if problem.text.startswith(MISSING):
            if problem.text not in hints and len(hints) < MOST_HINTS:
                hints[problem.text] = _hint(ObjectId.parse(problem.text.removeprefix(MISSING)), names)
            yield replace(problem, text=problem.text + hints.get(problem.text, ""))
        else:
            yield problem


def _hint(target: ObjectId, names: Names) -> str:
    near = words.nearest(target.name, names(target.kind, target.tenant))
    return f"; did you mean {target._replace(name=near)}?" if near is not None else ""


def references_exist(intent: Intent) -> Problems:
    for item in chain(_other_than_ports(intent), _doubtful_ports(intent)):
        for path, target in codec.references(item):
            if _is_missing(intent, target):
                yield intent.problem(item.id, path, f"{MISSING}{target}")


def _is_missing(intent: Intent, target: ObjectId) -> bool:
    return bool(target.name) and target not in intent.by_id and target not in intent.sources


def _other_than_ports(intent: Intent) -> Iterator[Object]:
    return (item for item in intent.by_id.values() if not isinstance(item, Port))


def _doubtful_ports(intent: Intent) -> Iterator[Port]:
    """A million ports name few subnets and hosts."""
    hosts = {
        name for name in {p.host for p in intent.ports} if _is_missing(intent, ObjectId("Host", "", name))
    }
    for subnet, ports in intent.ports_by_subnet.items():
        gone = _is_missing(intent, subnet)
        yield from (port for port in ports if gone or port.host in hosts)


def named_in(intent: Intent, item: Object) -> Iterator[tuple[str, ObjectId]]:
    """Like codec.references, and what an object names by a value of it that `intent` knows: a VSID."""
    yield from codec.references(item)
    if isinstance(item, LookupRecord) and (subnet := intent.subnet_of(item)):
        yield "spec.virtualSubnetId", subnet.id


def tenants_exist(intent: Intent) -> Problems:
    """Where no Tenant is stated, tenants are whoever is named."""
    known = {tenant.name for tenant in intent.tenants}
    for item in intent.by_id.values() if known else ():
        if item.id.tenant and item.id.tenant not in known:
            tenant = ObjectId("Tenant", "", item.id.tenant)
            yield intent.problem(item.id, "metadata.tenant", f"{MISSING}{tenant}")
