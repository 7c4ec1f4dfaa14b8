"""Documents that can't be read, or refer to what is not there: others go on."""

import contextlib
import json
from collections.abc import Mapping

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dataplane.binding.tables import RowKind
from policy.compile import diff
from policy.compile.compiler import compile_host
from policy.compile.host_view import HostView
from policy.compile.quarantine import identity_of
from policy.errors import ObjectId, PolicyError, UnreadableError
from policy.kinds import codec, documents, keys
from policy.kinds.model import Policy, Port, Translation
from policy.rules import admission
from policy.service import resolve
from tests.unit.compile.histories import histories
from tests.unit.compile.views import HERE, items_of, rows_of, wanted
from tests.unit.manifests import EXAMPLE

ODD = b'{"spec":7}'
OWN = "intent/Host//h1"


def example() -> dict[str, bytes]:
    return items_of(resolve.load([EXAMPLE]))


def port(items: Mapping[str, bytes], tenant: str, host: str) -> str:
    return next(
        key
        for key, value in items.items()
        if key.startswith(f"intent/Port/{tenant}/") and json.loads(value)["spec"]["host"] == host
    )


class Twin:
    """What is in force, by the plainest way: all is read again at each change."""

    def __init__(self) -> None:
        self.force: dict[str, bytes] = {}
        self.waiting: dict[str, bytes] = {}
        self.held: set[str] = set()

    def change(self, changes: Mapping[str, bytes | None]) -> None:
        before = dict(self.force)
        for key, value in {**self.waiting, **changes}.items():
            self.waiting.pop(key, None)
            self.held.discard(key)
            if value is None:
                self.force.pop(key, None)
            elif value == ODD:
                self.held.add(key)
            else:
                self.force[key] = value
        while dangling := self._dangling():
            key = dangling[0]
            document = self.force.pop(key)
            if key in self.held:
                continue
            self.waiting[key] = document
            self.held.add(key)
            if key in before:
                self.force[key] = before[key]

    def _dangling(self) -> list[str]:
        there = {keys.object_id(key) for key in self.force}
        objects = {key: documents.load(key, value, complete=True) for key, value in self.force.items()}
        return [
            key
            for key, item in objects.items()
            if any(target.name and target not in there for _, target in codec.references(item))
        ]


@st.composite
def stores(draw: st.DrawFn) -> list[dict[str, bytes | None]]:
    """Changes one after the other, some of which can't be read."""
    found: list[dict[str, bytes | None]] = []
    before: dict[str, bytes] = {}
    for policy in draw(histories()):
        after = items_of(policy)
        changed = [key for key, value in after.items() if before.get(key) != value]
        odd = set(draw(st.lists(st.sampled_from(sorted(changed)), max_size=2))) if changed else set()
        found.append(
            {key: None for key in before if key not in after}
            | {key: ODD if key in odd else after[key] for key in changed}
        )
        before = {key: value for key, value in after.items() if key not in odd}
    return found


@settings(max_examples=100, deadline=None)
@given(stores())
def test_others_go_on_step_by_step(changes: list[dict[str, bytes | None]]) -> None:
    view, twin = HostView(HERE, {}), Twin()
    held = {kind: dict(rows) for kind, rows in rows_of(view.whole()).items()}
    for each in changes:
        twin.change(each)
        policy = documents.policy_from(twin.force)
        step = view.change(each)
        assert set(view.quarantined) == twin.held
        if view.is_blocked:
            event("blocked")
            return
        if not _is_consistent(policy):  # an address of before that is another's now, say
            event("in force is what nobody would admit")
            view.whole()
            return
        if step is None:
            held = {kind: dict(rows) for kind, rows in rows_of(view.whole()).items()}
        else:
            for kind in diff.PUT_ORDER:
                for key in step.before[kind]:
                    held[kind].pop(key)
                held[kind] |= step.after[kind]
        view.prune()
        event("step" if step else "whole")
        assert diff.is_same(held, wanted(policy, HERE, view.ids))
        assert _whole_of(twin.force) == {kind: len(rows) for kind, rows in held.items()}


def _is_consistent(policy: Policy) -> bool:
    try:
        if HERE in policy.host_by_name:
            compile_host(policy, HERE)
        return not admission.check_policy(policy) and all(_has_its_pas(port, policy) for port in policy.ports)
    except (LookupError, ValueError, AssertionError, RuntimeError, StopIteration):
        return False


def _has_its_pas(port: Port, policy: Policy) -> bool:
    """As many as its translation needs: a document of before may be one for the other translation."""
    is_rewrite = policy.subnet_by_id[port.subnet_id].translation is Translation.REWRITE
    return len(port.provider_addresses) == (len(port.addresses) if is_rewrite else 0)


def _whole_of(force: Mapping[str, bytes]) -> dict[RowKind, int]:
    """By a view that begins with what is in force."""
    view = HostView(HERE, force)
    return {kind: len(rows) for kind, rows in rows_of(view.whole()).items()}


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_one_port_at_the_start(host: str) -> None:
    items = example()
    odd = port(items, "red", host)
    view = HostView(HERE, {**items, odd: ODD})
    assert list(view.quarantined) == [odd] and not view.is_blocked
    rest = {key: value for key, value in items.items() if key != odd}
    assert rows_of(view.whole()) == rows_of(HostView(HERE, rest).whole())
    step = view.change({odd: items[odd]})
    assert step is not None and view.quarantined == {}
    assert len(step.after[RowKind.RECORD]) > len(step.before[RowKind.RECORD])


def test_a_remote_port_that_is_found_when_rows_are_made() -> None:
    """Its document has the right fields, but an address that is none."""
    items = example()
    odd = port(items, "red", "h2")
    document = json.loads(items[odd])
    document["spec"]["addresses"] = ["10.1.1"]
    view = HostView(HERE, {**items, odd: json.dumps(document).encode()})
    rest = {key: value for key, value in items.items() if key != odd}
    assert rows_of(view.whole()) == rows_of(HostView(HERE, rest).whole())
    assert list(view.quarantined) == [odd]
    assert "10.1.1" in view.quarantined[odd]


def test_what_was_read_before_stays_in_force() -> None:
    """And what else changes, deletes included, is taken over."""
    items = example()
    odd, other = port(items, "red", "h1"), port(items, "blue", "h2")
    view, twin = HostView(HERE, items), HostView(HERE, items)
    view.whole(), twin.whole()
    assert view.change({odd: ODD, other: None}) == twin.change({other: None})
    (problem,) = view.quarantined.values()
    assert str(keys.object_id(odd)) in problem
    assert view.change({other: items[other]}) == twin.change({other: items[other]})
    step = view.change({odd: None})
    assert step is not None and view.quarantined == {}
    assert len(step.before[RowKind.RECORD]) > len(step.after[RowKind.RECORD])


def test_what_can_not_be_without_it_waits_for_it() -> None:
    items = example()
    network = "intent/VMNetwork/red/Red_VMNet"
    before = {key: value for key, value in items.items() if "/red/" not in key}
    view = HostView(HERE, before)
    view.whole()
    arrived = {key: value for key, value in items.items() if key not in before}
    view.change({**arrived, network: ODD})
    assert view.quarantined.keys() == arrived.keys()
    assert "waits for VMNetwork red/Red_VMNet" in "".join(view.quarantined.values())
    assert not view.is_blocked, "the others go on"
    assert HostView(HERE, {**items, network: ODD}).is_blocked, "nobody knows what was in force"
    view.change({network: items[network]})
    assert view.quarantined == {}
    assert rows_of(view.whole()) == rows_of(HostView(HERE, items).whole())


@pytest.mark.parametrize("key", [OWN, "intent/NetworkSite//rack1"])
def test_without_the_host_itself_nothing_is_done(key: str) -> None:
    items = example()
    assert HostView(HERE, {**items, key: ODD}).is_blocked
    view = HostView(HERE, items)
    view.whole()
    view.change({key: ODD})
    assert not view.is_blocked, "what was read before stays in force"


def test_keys_of_nobody() -> None:
    items = example()
    view = HostView(HERE, {**items, "intent/Host": b"1", "intent/NewKind//x": b"{}", "intent/a/b/c/d": b"{}"})
    assert set(view.quarantined) == {"intent/Host", "intent/NewKind//x", "intent/a/b/c/d"}
    assert rows_of(view.whole()) == rows_of(HostView(HERE, items).whole())
    view.change(dict.fromkeys(view.quarantined))
    assert view.quarantined == {}
    assert identity_of("intent/a/b/c/d") is None
    assert identity_of(OWN) == ObjectId("Host", "", "h1")


@given(st.binary(max_size=60), st.text(max_size=20))
def test_whatever_the_store_holds(value: bytes, name: str) -> None:
    """It never ends an agent."""
    items = {**example(), "intent/Port/red/odd": value, f"intent/{name}": value}
    with contextlib.suppress(PolicyError, UnreadableError):
        HostView(HERE, items).whole()
