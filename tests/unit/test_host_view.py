"""A host's view of the intent, change by change, beside the compiler on all of it."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dataplane.tables import RowKind
from policy import documents, host_view, manifest, reconcile, validate
from policy.allocator import allocate
from policy.compiler import compile_host, own_pas
from policy.errors import ManifestError, ObjectId
from policy.host_view import HostView, Whole
from policy.intent import with_referrers
from policy.model import (
    CustomerRoute,
    Host,
    Intent,
    Mac,
    Object,
    Policy,
    Port,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.reconcile import PUT_ORDER
from policy.tables import SELF, Ids
from tests.unit.intents import FABRIC, HOSTS, TENANTS, UNMANAGED, intents
from tests.unit.manifests import EXAMPLE

HERE = "h1"


def items_of(policy: Policy) -> dict[str, bytes]:
    return documents.items_of(policy.by_id.values())


def rows_of(whole: Whole) -> reconcile.Rows:
    return reconcile.index(whole.rows)


def wanted(policy: Policy, host: str, ids: Ids) -> reconcile.Rows:
    """By the compiler; nothing of a host that is not there."""
    if host not in policy.host_by_name:
        return reconcile.index({})
    return reconcile.rows_of(compile_host(policy, host), ids)


def completed(intent: Intent) -> Policy | None:
    if validate.check_intent(intent):
        return None
    try:
        policy = allocate(intent)
    except ManifestError:
        return None
    return None if validate.check_policy(policy) else policy


@settings(max_examples=60, deadline=None)
@given(intents(), st.sampled_from([host for host in HOSTS if host != UNMANAGED]), st.integers(1, 3))
def test_the_whole_is_what_the_compiler_says(intent: Intent, host: str, chunk: int) -> None:
    policy = allocate(intent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("policy.port_rows.CHUNK", chunk)
        view = HostView(host, items_of(policy))
        whole = view.whole()
    assert reconcile.is_same(rows_of(whole), wanted(policy, host, whole.ids))
    assert whole.ids == compile_host(policy, host).ids
    for kind in PUT_ORDER:
        rows = reconcile.index(whole.rows)[kind].values()
        assert all(row == reconcile.canonical(kind, row) for row in rows)
    assert set(own_pas(view.policy, host)) == {
        pa.address for pa in compile_host(policy, host).provider_addresses if pa.host == host
    }


def _rich() -> Iterator[Object]:
    """Two tenants on four hosts, subnets of both translations, a route; PAs and VSIDs left out."""
    yield from FABRIC
    for number, name in enumerate(HOSTS, 1):
        managed = name != UNMANAGED
        underlay = Underlay("u1" if managed else "", Mac(f"02:00:00:00:77:{number:02x}"), 1600)
        pas = ip_address(f"10.0.1.{number}"), ip_address(f"fd77::{number}")
        yield Host(name, "rack1", pas, underlay, managed)
    for tenant in TENANTS[:2]:
        yield VMNetwork(tenant, "Net", "fabric")
        yield CustomerRoute(tenant, "far", "Net", ip_network("10.9.0.0/16"), ip_address("10.1.1.9"))
        for number, translation in enumerate((Translation.NVGRE, Translation.REWRITE, Translation.NVGRE), 1):
            name = f"Subnet{number}"
            yield VMSubnet(tenant, name, "Net", (ip_network(f"10.1.{number}.0/24"),), (), 0, translation)
            for place, host in enumerate(HOSTS if (tenant, number) == ("blue", 1) else HOSTS[:2]):
                yield Port(tenant, f"{tenant}-{number}-{place}", name, host)


RICH = intent_of(_rich())


@st.composite
def histories(draw: st.DrawFn) -> list[Policy]:
    """Policies, each made from the one before: objects go with all that refers to them, come back with all
    they refer to, or change.
    """
    everything = draw(st.one_of(st.just(RICH), st.just(RICH), intents()))
    stated = dict(everything.by_id)
    found: list[Policy] = []
    for _ in range(draw(st.integers(2, 8))):
        edited = dict(stated)
        for identity in draw(st.lists(st.sampled_from(sorted(everything.by_id)), max_size=3)):
            match draw(st.sampled_from(["go", "come", "change", "change"])):
                case "go":
                    for each in with_referrers(intent_of(edited.values()), [identity]):
                        edited.pop(each, None)
                case "come":
                    edited |= {each: everything.by_id[each] for each in _named_by(everything, identity)}
                case "change" if identity in edited:
                    edited[identity] = draw(_another(edited[identity]))
        policy = completed(intent_of(edited.values()))
        if policy is not None:
            stated = edited
            found.append(policy)
    return found


def _named_by(intent: Intent, identity: ObjectId) -> set[ObjectId]:
    """It and all that it needs."""
    found: set[ObjectId] = set()
    waiting = [identity]
    while waiting:
        each = waiting.pop()
        if each in intent.by_id and each not in found:
            found.add(each)
            waiting += [target for _, target in validate.references_in(intent, intent.by_id[each])]
    return found


def _another(item: Object) -> st.SearchStrategy[Object]:
    match item:
        case Port():
            hosts = st.sampled_from(HOSTS[:3])
            return st.builds(lambda host: replace(item, host=host, provider_addresses=()), hosts)
        case Host():
            versions = st.sampled_from([(4,), (4, 6), (6,)])
            number = HOSTS.index(item.name) + 1
            pas = {4: ip_address(f"10.0.1.{100 + number}"), 6: ip_address(f"fd77::{100 + number}")}
            return st.builds(
                lambda wanted: replace(item, provider_addresses=tuple(pas[each] for each in wanted)), versions
            )
        case VMSubnet():
            vsids = st.integers(7000, 7003)
            return st.builds(
                lambda vsid, translation: replace(item, vsid=vsid, translation=translation),
                vsids,
                st.sampled_from(Translation),
            )
        case CustomerRoute():
            return st.builds(lambda metric: replace(item, metric=metric), st.integers(0, 3))
    return st.just(item)


@settings(max_examples=250, deadline=None)
@given(histories(), st.sampled_from([0, 2, 4096]))
def test_step_by_step_it_is_what_the_compiler_says(policies: list[Policy], limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_view, "MAX_AFFECTED", limit)
        before: dict[str, bytes] = {}
        view = HostView(HERE, before)
        whole = view.whole()
        held = {kind: dict(rows) for kind, rows in rows_of(whole).items()}
        for policy in policies:
            after = items_of(policy)
            changes: dict[str, bytes | None] = {key: None for key in before if key not in after}
            changes |= {key: value for key, value in after.items() if before.get(key) != value}
            before = after
            ids = view.ids
            step = view.change(changes)
            event("whole" if step is None else f"step of {min(len(step.after[RowKind.RECORD]), 5)} records")
            if step is None:
                whole = view.whole()
                held = {kind: dict(rows) for kind, rows in rows_of(whole).items()}
            else:
                assert ids.unite(step.ids) == step.ids, "old rows and new rows can stand side by side"
                for kind in PUT_ORDER:
                    for key, row in step.before[kind].items():
                        there = held[kind].pop(key)
                        assert reconcile.canonical(kind, there) == reconcile.canonical(kind, row)
                    assert not held[kind].keys() & step.after[kind].keys()
                    held[kind] |= step.after[kind]
            view.prune()
            if HERE in policy.host_by_name:
                assert reconcile.is_same(held, wanted(policy, HERE, view.ids))
                assert view.ids == view.ids.extend(compile_host(policy, HERE)), "no name of others is left"
                assert len(set(view.ids.ports.values())) == len(view.ids.ports)
                assert view.ids.hosts[HERE] == SELF
            else:
                assert not any(held.values())
            assert {port.id for port in view.policy.ports} == {p.id for p in policy.ports if p.host == HERE}


def test_a_change_of_one_port_is_of_its_rows_only() -> None:
    policy = manifest.load([EXAMPLE])
    items = items_of(policy)
    view = HostView(HERE, items)
    view.whole()
    key = next(key for key in items if key.startswith("intent/Port/red/"))
    step = view.change({key: None})
    assert step is not None
    gone = {kind: step.before[kind].keys() - step.after[kind].keys() for kind in PUT_ORDER}
    assert {kind for kind, keys in gone.items() if keys} <= {RowKind.RECORD, RowKind.PORT, RowKind.PA}
    assert len(gone[RowKind.RECORD]) == len(policy.by_id[documents.id_of(key)].addresses)  # type: ignore[union-attr]
    assert len(step.before[RowKind.RECORD]) < len(policy.ports)


def test_before_all_rows_were_asked_for_there_are_no_steps() -> None:
    """Another core may have no ids for what the view has: a step had none for the rows of before."""
    from policy import manifest
    from tests.unit.manifests import EXAMPLE

    items = items_of(manifest.load([EXAMPLE]))
    local = [key for key in items if key.startswith("intent/Port/red/") and b'"host":"h1"' in items[key]]
    view = HostView(HERE, items)
    assert view.change({local[0]: None}) is None
    view.whole()
    view.go_by(Ids({HERE: SELF}, {}, {}))
    assert view.change({local[1]: None}) is None
    assert view.whole().ids == view.ids
    assert view.change({local[1]: items[local[1]]}) is not None


def test_an_id_is_not_given_on_before_it_is_pruned() -> None:
    """A device may be attached under it still, and rows of its owner be in the core."""
    policy = manifest.load([EXAMPLE])
    items = items_of(policy)
    view = HostView(HERE, items)
    view.whole()
    gone = next(port for port in policy.ports if port.host == HERE and port.tenant == "blue")
    number = view.ids.ports[gone.name]
    red = next(port for port in policy.ports if port.host == HERE and port.tenant == "red")
    new = replace(red, name="a-new", addresses=(ip_address("10.1.1.99"),), mac=Mac("02:bb:00:00:00:99"))
    view.change({documents.key_of(gone.id): None})
    view.change({documents.key_of(new.id): documents.dump(new)})
    assert view.ids.ports[new.name] != number
    assert view.whole().ids.ports[new.name] != number
    assert gone.name not in view.used_ids.ports
    view.prune()
    third = replace(new, name="a-third", addresses=(ip_address("10.1.1.98"),), mac=Mac("02:bb:00:00:00:98"))
    view.change({documents.key_of(third.id): documents.dump(third)})
    assert view.ids.ports[third.name] == number, "free now"


@pytest.mark.parametrize("kind", ["VMSubnet", "Port"])
def test_a_change_that_cannot_be_read_is_not_taken_over(kind: str) -> None:
    """Not even what can be read of it: the next change comes with all of it."""
    items = items_of(manifest.load([EXAMPLE]))
    view, twin = HostView(HERE, items), HostView(HERE, items)
    view.whole()
    twin.whole()
    odd = b'{"spec": {"later": 1}}'
    first = next(key for key in items if key.startswith("intent/Port/red/"))
    with pytest.raises(ManifestError, match="later"):
        view.change({first: None, f"intent/{kind}/red/new": odd})
    assert rows_of(view.whole()) == rows_of(twin.whole())
    step = view.change({first: None})
    assert step == twin.change({first: None})
    assert step is not None and step.before != step.after
