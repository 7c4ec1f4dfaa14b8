"""A change planned among what it concerns is as planned in the whole: over random stores and changes."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import Mock, patch

import pytest
from hypothesis import currently_in_test_context, event, given, settings

from policy.errors import (
    STORED,
    ConflictError,
    ManifestError,
    NotFoundError,
    ReferencedError,
)
from policy.ipam.ledger import decode
from policy.kinds import documents, keys
from policy.kinds.model import (
    Host,
    Intent,
    LogicalNetwork,
    LookupRecord,
    MACPool,
    MacRange,
    NetworkSite,
    Object,
    Policy,
    Port,
    SiteSubnet,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.rules import tenant as tenant_rules
from policy.service import affected, indexes, lookup
from policy.service import changes as intent
from policy.service.lookup import NeedsEverythingError
from policy.service.planning import Change, Plan
from policy.store.contract import Store
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of
from policy.store.sqlite import SqliteStore
from tests.unit.service import plain
from tests.unit.service.histories import (
    MACS,
    Steps,
    addresses,
    fitting_change,
    seeds,
    span,
    steps,
    worlds,
)


@contextmanager
def at(now: float) -> Iterator[None]:
    with patch.object(time, "time", lambda: now):
        yield


def outcome(make: Callable[[], Plan]) -> Plan | tuple[Any, ...]:
    try:
        return make()
    except ManifestError as error:
        return ("ManifestError", frozenset(map(str, error.problems)))
    except (NotFoundError, ReferencedError) as error:
        return (type(error).__name__, frozenset(str(error).splitlines()))


Items = Mapping[str, bytes]


def ended(items: Items, now: float) -> set[str]:
    """The keys of holds that have ended."""
    held = {
        value.key
        for value, grant in decode(items).items()
        if grant.held_until is not None and grant.held_until <= now
    }
    under = {key: value for key, value in items.items() if key.startswith("index/quarantine/")}
    return held | {key for key, each in indexes.read_quarantine(under) if each.until <= now}


def tell(text: str) -> None:
    if currently_in_test_context():
        event(text)


def check_same(store: Store, change: Change, now: float) -> Plan | None:
    """The plan, if there is one."""
    there = snapshot_of(store, *plain.SCOPE).items
    with at(now):
        twin = outcome(lambda: plain.plan(store, change))
        ours = outcome(lambda: intent.plan(store, change))
        with patch.object(affected, "Part", Mock(side_effect=NeedsEverythingError)):
            among_everything = outcome(lambda: intent.plan(store, change))
    check_plan(ours, twin, there, now)
    check_plan(among_everything, twin, there, now)
    return ours if isinstance(ours, Plan) else None


def check_plan(ours: Plan | tuple[Any, ...], twin: Plan | tuple[Any, ...], there: Items, now: float) -> None:
    if not isinstance(twin, Plan) or not isinstance(ours, Plan):
        assert ours == twin
        tell("same error")
        told = [problem for problem in ours[1] if " already" in problem or " overlaps " in problem]
        assert not [problem for problem in told if problem.startswith(f"{STORED}: ")]
        return
    assert dict(ours.outcomes) == dict(twin.outcomes)
    assert ours.puts == twin.puts
    assert set(ours.deletes) <= set(twin.deletes)
    assert set(twin.deletes) - set(ours.deletes) <= (ended(there, now) if is_part(ours) else set())
    assert {key: twin.policy.by_id[key] for key in ours.policy.by_id} == ours.policy.by_id
    for identity, _ in twin.outcomes:
        assert ours.before.by_id.get(identity) == twin.before.by_id.get(identity)
        assert ours.after.by_id.get(identity) == twin.after.by_id.get(identity)
    raw = any(key.startswith("intent/LookupRecord/") for key in there)
    tell(f"same plan{', of a part' if is_part(ours) else ''}{', with records' if raw else ''}")


def is_part(plan: Plan) -> bool:
    """Whether not everything was read for it."""
    return keys.GRANTS not in plan.expect.prefixes


def settle(store: Store, world: list[Object], random: Random) -> None:
    """The store with as much of the world as fits together, and some ports."""
    kept: list[Object] = []
    empty = MemoryStore()
    for item in world:
        first = outcome(lambda item=item: plain.plan(empty, intent.apply(intent_of([*kept, item]))))  # type: ignore[misc]
        if isinstance(first, Plan):
            kept.append(item)
    with at(1000.0):
        store.commit(plain.plan(empty, intent.apply(intent_of(kept))).puts)
        for _ in range(random.randrange(25)):
            change = made(store, fitting_change(random.randrange(2**32)))
            plan = outcome(lambda change=change: plain.plan(store, change))  # type: ignore[misc]
            if isinstance(plan, Plan):
                store.commit(plan.puts, plan.deletes)


def made(store: Store, change: Callable[[Intent, Policy], Change]) -> Change:
    items = snapshot_of(store, keys.INTENT).items
    return change(documents.intent_from(items), documents.policy_from(items))


def check_sound(store: Store, now: float) -> None:
    """What is there is right, and planned in the whole it stays as it is."""
    snapshot = snapshot_of(store, *plain.SCOPE)
    with at(now):
        again = plain.plan(store, intent.apply(Intent()))
    assert again.puts == {} and set(again.deletes) <= ended(snapshot.items, now)


def check_history(store: Store, world: list[Object], seed: int, history: Steps) -> None:
    settle(store, world, Random(seed))
    now = 1000.0
    for seconds, change in history:
        now += seconds
        plan = check_same(store, made(store, change), now)
        if plan is not None:
            store.commit(plan.puts, plan.deletes, expect=plan.expect)
            check_sound(store, now)


@settings(max_examples=150, deadline=None)
@given(worlds(), seeds, steps)
def test_a_plan_among_what_it_concerns_is_that_of_the_whole(
    world: list[Object], seed: int, history: Steps
) -> None:
    with patch.object(tenant_rules, "MAX_LOCAL_PORTS", 4):
        check_history(MemoryStore(), world, seed, history)


@settings(max_examples=15, deadline=None)
@given(worlds(), seeds, steps)
def test_and_so_it_is_in_a_file(world: list[Object], seed: int, history: Steps) -> None:
    with TemporaryDirectory() as directory:
        store = SqliteStore(Path(directory, "store.db"))
        check_history(store, world, seed, history)
        store.close()


@settings(max_examples=100, deadline=None)
@given(worlds(), seeds, steps)
def test_of_two_who_plan_at_once_one_plans_again_where_they_meet(
    world: list[Object], seed: int, history: Steps
) -> None:
    """What a plan found missing, too, is what it relies on."""
    store = MemoryStore()
    with patch.object(tenant_rules, "MAX_LOCAL_PORTS", 4):
        settle(store, world, Random(seed))
    now = 1000.0
    for (seconds, one), (_, other) in pairwise(history):
        now += seconds
        with at(now), patch.object(tenant_rules, "MAX_LOCAL_PORTS", 4):
            changes = made(store, one), made(store, other)
            plans = [outcome(lambda change=change: intent.plan(store, change)) for change in changes]  # type: ignore[misc]
        for plan in plans:
            if isinstance(plan, Plan):
                try:
                    store.commit(plan.puts, plan.deletes, expect=plan.expect)
                    event("committed")
                except ConflictError:
                    event("conflict")
        with patch.object(tenant_rules, "MAX_LOCAL_PORTS", 4):
            check_sound(store, now)


def test_the_last_address_of_a_subnet_is_found() -> None:
    store = MemoryStore()
    v4 = SiteSubnet(ip_network("10.0.0.0/24"), span("10.0.0.10", "10.0.0.200"))
    world: list[Object] = [
        LogicalNetwork("fabric"),
        NetworkSite("rack0", "fabric", (v4,)),
        Host("h1", "rack0", underlay=Underlay("u1")),
        VMNetwork("blue", "net", "fabric"),
        VMSubnet("blue", "s1", "net", (ip_network("10.1.0.0/24"),)),
    ]
    ports = [Port("blue", f"p{number}", "s1", "h1") for number in range(254)]
    intent.commit(store, intent.apply(intent_of([*world, *ports[:252]])))
    plan = check_same(store, intent.apply(intent_of(ports[252:253])), time.time())
    assert plan is not None
    store.commit(plan.puts, plan.deletes, expect=plan.expect)
    assert check_same(store, intent.apply(intent_of(ports[253:])), time.time()) is None, "used up"


def test_hosts_that_are_translated_in_another_way_may_need_another_gateway() -> None:
    store = MemoryStore()
    world: list[Object] = [LogicalNetwork("fabric"), VMNetwork("blue", "net", "fabric")]
    for number in (0, 1):
        subnets = (
            SiteSubnet(
                ip_network(f"10.0.{number}.0/24"),
                span(f"10.0.{number}.10", f"10.0.{number}.99"),
                ip_address(f"10.0.{number}.1"),
            ),
            SiteSubnet(ip_network(f"fd77:{number}::/64"), span(f"fd77:{number}::10", f"fd77:{number}::99")),
        )
        world += [
            NetworkSite(f"rack{number}", "fabric", subnets),
            Host(f"h{number}", f"rack{number}", underlay=Underlay("u1")),
        ]
    for name, prefix in (("v4", "10.1.0.0/24"), ("v6", "fd00:1::/64")):
        world.append(VMSubnet("blue", name, "net", (ip_network(prefix),), translation=Translation.REWRITE))
    there = [Port("blue", "a", "v4", "h0"), Port("blue", "b", "v4", "h1"), Port("blue", "c", "v6", "h0")]
    intent.commit(store, intent.apply(intent_of([*world, *there])))
    change = intent.apply(intent_of([Port("blue", "d", "v6", "h1")]))
    assert check_same(store, change, time.time()) is None
    with pytest.raises(ManifestError, match="no IPv6 gateway"):
        intent.plan(store, change)


@pytest.mark.parametrize(("most", "part"), [(2, True), (1, False)])
def test_records_are_few_or_all_is_looked_at(most: int, part: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """HNV's own objects beside many ports do not make every change one of the whole."""
    store = MemoryStore()
    host = Host("ovs1", "rack1", addresses("10.0.0.9"), Underlay(mac=MACS[0]), managed=False)
    subnet = VMSubnet("blue", "s1", "net", (ip_network("10.1.0.0/24"),), vsid=5001)
    site = NetworkSite("rack1", "fabric", (SiteSubnet(ip_network("10.0.0.0/24")),))
    records = [
        LookupRecord("blue", f"r{number}", 5001, ip_address(f"10.1.0.{number}"), MACS[number], "ovs1")
        for number in (2, 3)
    ]
    fabric = [LogicalNetwork("fabric"), site, host, VMNetwork("blue", "net", "fabric"), subnet]
    intent.commit(store, intent.apply(intent_of([*fabric, *records])))
    monkeypatch.setattr(lookup, "MOST_RAW", most)
    change = intent.apply(intent_of([Port("blue", "web", "s1", "ovs1", addresses("10.1.0.4"))]))
    assert is_part(intent.plan(store, change)) == part
    change = intent.apply(intent_of([Port("blue", "web", "s1", "ovs1", addresses("10.1.0.3"))]))
    with pytest.raises(ManifestError, match=r"10\.1\.0\.3 is"):
        intent.plan(store, change)


@pytest.mark.parametrize(
    "subnets",
    [
        [VMSubnet("blue", "s1", "net", (ip_network("10.1.0.0/29"),), vsid=5001)],
        [
            VMSubnet("blue", "s1", "net", (ip_network("10.2.0.0/28"),), vsid=5002),
            VMSubnet("blue", "s2", "net", (ip_network("10.1.0.0/28"),), vsid=5001),
        ],
    ],
)
def test_records_of_a_subnet_that_changes_are_granted_anew(subnets: list[VMSubnet]) -> None:
    """Their addresses are granted for a prefix of the subnet that has their VSID."""
    store = MemoryStore()
    fabric: list[Object] = [
        LogicalNetwork("fabric"),
        NetworkSite("rack1", "fabric", (SiteSubnet(ip_network("10.0.0.0/24")),)),
        Host("ovs1", "rack1", addresses("10.0.0.9"), Underlay(mac=MACS[0]), managed=False),
        VMNetwork("blue", "net", "fabric"),
        VMSubnet("blue", "s1", "net", (ip_network("10.1.0.0/28"),), vsid=5001),
        LookupRecord("blue", "r", 5001, ip_address("10.1.0.5"), MACS[1], "ovs1"),
    ]
    intent.commit(store, intent.apply(intent_of(fabric)))
    plan = check_same(store, intent.apply(intent_of(subnets)), time.time())
    assert plan is not None
    store.commit(plan.puts, plan.deletes, expect=plan.expect)
    check_sound(store, time.time())


def test_a_mac_that_another_states_does_not_give_way() -> None:
    """Though it is held down for one of those who are planned."""
    store = MemoryStore()
    fabric: list[Object] = [
        LogicalNetwork("fabric"),
        NetworkSite(
            "rack0", "fabric", (SiteSubnet(ip_network("10.0.0.0/24"), span("10.0.0.10", "10.0.0.99")),)
        ),
        Host("h1", "rack0", underlay=Underlay("u1")),
        MACPool("macs", MacRange(MACS[0], MACS[1])),
        VMNetwork("blue", "net", "fabric"),
        VMSubnet("blue", "s1", "net", (ip_network("10.1.0.0/24"),)),
        VMSubnet("blue", "s2", "net", (ip_network("10.2.0.0/24"),)),
    ]
    port = Port("blue", "a", "s1", "h1")
    plan = check_same(store, intent.apply(intent_of([*fabric, port])), time.time())
    assert plan is not None
    store.commit(plan.puts, expect=plan.expect)
    given = next(each.mac for each in plan.policy.ports)
    moved = replace(port, mac=next(mac for mac in MACS[:2] if mac != given))
    intent.commit(store, intent.apply(intent_of([moved])))
    intent.commit(store, intent.apply(intent_of([Port("blue", "r", "s2", "h1", mac=given)])))
    both = [replace(moved, addresses=addresses("10.1.0.9")), Port("blue", "c", "s1", "h1")]
    assert check_same(store, intent.apply(intent_of(both)), time.time()) is None, "used up"
