"""A host's view of the intent, change by change, beside the compiler on all of it."""

import json
from dataclasses import replace
from ipaddress import ip_address

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dataplane.binding.tables import RowKind
from policy.compile import diff, host_view, port_rows
from policy.compile.compiler import compile_host, own_pas
from policy.compile.diff import PUT_ORDER
from policy.compile.host_view import HostView
from policy.compile.tables import SELF, Ids
from policy.errors import UnreadableError
from policy.ipam.allocate import allocate
from policy.kinds import documents, keys
from policy.kinds.model import (
    KINDS,
    Intent,
    Mac,
    Policy,
)
from policy.service import resolve
from tests.unit.compile.histories import histories
from tests.unit.compile.views import HERE, items_of, rows_of, wanted
from tests.unit.intents import HOSTS, UNMANAGED, intents
from tests.unit.manifests import EXAMPLE


@settings(max_examples=60, deadline=None)
@given(intents(), st.sampled_from([host for host in HOSTS if host != UNMANAGED]), st.integers(1, 3))
def test_the_whole_is_what_the_compiler_says(intent: Intent, host: str, chunk: int) -> None:
    policy = allocate(intent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("policy.compile.port_rows.CHUNK", chunk)
        view = HostView(host, items_of(policy))
        whole = view.whole()
    assert diff.is_same(rows_of(whole), wanted(policy, host, whole.ids))
    assert whole.ids == compile_host(policy, host).ids
    for kind in PUT_ORDER:
        rows = diff.index(whole.rows)[kind].values()
        assert all(row == diff.canonical(kind, row) for row in rows)
    assert set(own_pas(view.policy, host)) == {
        pa.address for pa in compile_host(policy, host).provider_addresses if pa.host == host
    }


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
                        assert diff.canonical(kind, there) == diff.canonical(kind, row)
                    assert not held[kind].keys() & step.after[kind].keys()
                    held[kind] |= step.after[kind]
            view.prune()
            if HERE in policy.host_by_name:
                assert diff.is_same(held, wanted(policy, HERE, view.ids))
                assert view.ids == view.ids.extend(compile_host(policy, HERE)), "no name of others is left"
                assert len(set(view.ids.ports.values())) == len(view.ids.ports)
                assert view.ids.hosts[HERE] == SELF
            else:
                assert not any(held.values())
            assert {port.id for port in view.policy.ports} == {p.id for p in policy.ports if p.host == HERE}


def test_a_change_of_one_port_is_of_its_rows_only() -> None:
    policy = resolve.load([EXAMPLE])
    items = items_of(policy)
    view = HostView(HERE, items)
    view.whole()
    key = next(key for key in items if key.startswith("intent/Port/red/"))
    step = view.change({key: None})
    assert step is not None
    gone = {kind: step.before[kind].keys() - step.after[kind].keys() for kind in PUT_ORDER}
    assert {kind for kind, keys in gone.items() if keys} <= {RowKind.RECORD, RowKind.PORT, RowKind.PA}
    assert len(gone[RowKind.RECORD]) == len(policy.by_id[keys.object_id(key)].addresses)  # type: ignore[union-attr]
    assert len(step.before[RowKind.RECORD]) < len(policy.ports)


def test_before_all_rows_were_asked_for_there_are_no_steps() -> None:
    """Another core may have no ids for what the view has: a step had none for the rows of before."""
    from tests.unit.manifests import EXAMPLE

    items = items_of(resolve.load([EXAMPLE]))
    local = [key for key in items if key.startswith("intent/Port/red/") and b'"host":"h1"' in items[key]]
    view = HostView(HERE, items)
    assert view.change({local[0]: None}) is None
    view.whole()
    view.go_by(Ids({HERE: SELF}, {}, {}))
    assert view.change({local[1]: None}) is None
    assert view.whole().ids == view.ids
    assert view.change({local[1]: items[local[1]]}) is not None


def test_whose_a_document_is_does_not_depend_on_others() -> None:
    items = items_of(resolve.load([EXAMPLE]))
    key, document = next(item for item in items.items() if b'"host":"h2"' in item[1])
    homeless = json.loads(document)
    del homeless["spec"]["vmSubnet"]
    elsewhere = key, json.dumps(homeless).encode()
    odd = f"{key}-odd", b"{"
    assert host_view._on_host(dict([elsewhere]), "h1") == []
    assert host_view._on_host(dict([elsewhere, odd]), "h1") == [odd[0]], "nobody can tell whose that is"
    assert host_view._on_host(dict([elsewhere]), "h2") == [key]
    assert host_view._load_but_remote("h1", *elsewhere) is None
    with pytest.raises(UnreadableError):
        host_view._load_but_remote("h2", *elsewhere)


def test_an_id_is_not_given_on_before_it_is_pruned() -> None:
    """A device may be attached under it still, and rows of its owner be in the core."""
    policy = resolve.load([EXAMPLE])
    items = items_of(policy)
    view = HostView(HERE, items)
    view.whole()
    gone = next(port for port in policy.ports if port.host == HERE and port.tenant == "blue")
    number = view.ids.ports[gone.id.qualified_name]
    red = next(port for port in policy.ports if port.host == HERE and port.tenant == "red")
    new = replace(red, name="a-new", addresses=(ip_address("10.1.1.99"),), mac=Mac("02:bb:00:00:00:99"))
    view.change({keys.object_key(gone.id): None})
    view.change({keys.object_key(new.id): documents.dump(new)})
    assert view.ids.ports[new.id.qualified_name] != number
    assert view.whole().ids.ports[new.id.qualified_name] != number
    assert gone.id.qualified_name not in view.used_ids.ports
    view.prune()
    third = replace(new, name="a-third", addresses=(ip_address("10.1.1.98"),), mac=Mac("02:bb:00:00:00:98"))
    view.change({keys.object_key(third.id): documents.dump(third)})
    assert view.ids.ports[third.id.qualified_name] == number, "free now"


def test_what_is_decoded_of_ports_is_declared() -> None:
    """By their names, whether they are lists, and what must be there."""
    declared = {field.name: field for field in KINDS["Port"].fields}
    for struct in (port_rows._Spec, port_rows._Given):
        for field in msgspec.structs.fields(struct):
            assert declared[field.name].many == (field.type == port_rows.Texts)
            assert field.required == (struct is port_rows._Spec and declared[field.name].required)
