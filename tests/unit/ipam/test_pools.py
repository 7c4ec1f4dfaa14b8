"""Grants that are remembered: no value twice, none lost, none moved, none given away too early."""

import re
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policy.errors import ConflictError, ManifestError
from policy.ipam import allocate
from policy.ipam.ledger import Grant, Ledger, Notation, Question, Request, Value, answered, decode, encode
from policy.ipam.quarantine import HOLD_SECONDS
from policy.kinds import documents
from policy.kinds.model import (
    AddressRange,
    Host,
    Intent,
    IPPool,
    LogicalNetwork,
    LookupRecord,
    Mac,
    NetworkSite,
    Object,
    Policy,
    Port,
    ProviderAddress,
    SiteSubnet,
    Translation,
    Underlay,
    VMNetwork,
    VMSubnet,
    intent_of,
)
from policy.rules import admission
from policy.store.contract import Expect
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of

POOL = AddressRange(ip_address("192.168.77.1"), ip_address("192.168.77.12"))
SITE = NetworkSite("rack1", "fabric", (SiteSubnet(ip_network("192.168.77.0/24"), POOL),))
FABRIC: list[Object] = [LogicalNetwork("fabric"), SITE, VMNetwork("blue", "net", "fabric")]
REWRITE = VMSubnet(
    "blue", "rewrite", "net", (ip_network("10.1.1.0/29"),), vsid=5001, translation=Translation.REWRITE
)
NVGRE = VMSubnet("blue", "nvgre", "net", (ip_network("10.1.2.0/29"),))
HOSTS = [Host(name, "rack1", underlay=Underlay("u1")) for name in ("h1", "h2")]
FOREIGN = Host("ovs1", "rack1", (ip_address("192.168.77.200"),), managed=False)
NUMBERS = Notation(str, int)


def port(name: str, **fields: object) -> Port:
    return replace(Port("blue", name, "nvgre", "h1"), **fields)  # type: ignore[arg-type]


def intent(*objects: Object) -> Intent:
    return intent_of([*FABRIC, REWRITE, NVGRE, *HOSTS, *objects])


def address(policy: Policy, name: str) -> str:
    return str(next(port for port in policy.ports if port.name == name).addresses[0])


# ---- the book ------------------------------------------------------------------------------------


def test_grants_as_items_of_the_store() -> None:
    grants = {
        Value("pa/rack1/6", "fd77::100"): Grant("Port blue/web", "fd00::1"),
        Value("mac", "02:00:00:00:00:01"): Grant("Port blue/db", "", 1800000000.5),
    }
    items = encode(grants)
    assert items["grant/pa/rack1/6/fd77::100"] == (
        b'{"owner":"Port blue/web","purpose":"fd00::1","heldUntil":null}'
    )
    assert decode({**items, "intent/Port/blue/web": b"{}"}) == grants


def test_a_value_outside_the_ranges_of_today_is_not_kept() -> None:
    before = {Value("p", "7"): Grant("a", "")}
    ledger = Ledger(before, now=100)
    assert reserved(ledger, "p", [Request("a", "", "a", [range(5)])])["a"] < 5
    assert ledger.close()[Value("p", "7")] == Grant("a", "", 100 + HOLD_SECONDS)


def reserved(ledger: Ledger, pool: str, requests: list[Request]) -> dict[str, int]:
    return answered(ledger.reserve(pool, NUMBERS, requests, ()), lambda _: {})


def test_a_request_that_can_not_be_met() -> None:
    ledger = Ledger({Value("p", "0"): Grant("gone", "", 200.0)}, now=100)
    requests = [Request(name, "", name, [range(2)]) for name in "ab"]
    assert list(reserved(ledger, "p", requests).values()) == [1]
    assert ledger.held("p", [range(2)]) == [200]


def test_what_is_taken_by_now_is_not_told_to_be_held() -> None:
    ledger = Ledger({Value("p", str(number)): Grant("gone", "", 200.0) for number in (1, 2)}, now=100)
    assert reserved(ledger, "p", [Request("a", "", "a", [range(1)])]) == {"a": 0}
    request = Request("b", "", "b", [range(1, 3)])
    assert answered(ledger.reserve("p", NUMBERS, [request], [1]), lambda _: {}) == {}
    assert ledger.held("p", [range(1, 3)]) == [200]


@pytest.mark.parametrize("pool", ["ca/blue/s/4", "mac"])
def test_when_nothing_else_is_left_the_oldest_hold_gives_way(pool: str) -> None:
    before = {
        Value(pool, str(number)): Grant(f"gone{number}", "", until)
        for number, until in enumerate([399.0, 250.0, 380.0, 99.0])
    }
    for count, wanted in ((1, {3}), (2, {3, 1}), (3, {3, 1, 2}), (4, {3, 1, 2, 0}), (5, {3, 1, 2, 0})):
        requests = [Request(str(each), "", str(each), [range(4)]) for each in range(count)]
        assert set(reserved(Ledger(before, now=100), pool, requests).values()) == wanted


@given(st.dictionaries(st.integers(0, 7), st.floats(50, 500)), st.integers(0, 9), st.booleans())
def test_a_part_asks_for_what_the_whole_knows(held: dict[int, float], count: int, in_subnet: bool) -> None:
    pool = "ca/blue/s/4" if in_subnet else "pa/rack1/4"
    before = {Value(pool, str(number)): Grant(f"gone{number}", "", until) for number, until in held.items()}
    requests = [Request(str(each), "", str(each), [range(8)]) for each in range(count)]

    def answer(question: Question) -> dict[str, float]:
        texts = [str(number) for number in held] if question.texts is None else question.texts
        return {text: held[int(text)] for text in texts if int(text) in held and not question.stated}

    whole, part = Ledger(before, now=100), Ledger({}, now=100, is_part=True)
    wanted = reserved(whole, pool, requests)
    assert answered(part.reserve(pool, NUMBERS, requests, ()), answer) == wanted
    if len(wanted) < count:
        assert part.held(pool, [range(8)]) == whole.held(pool, [range(8)])


# ---- policies ------------------------------------------------------------------------------------


def test_applied_again_nothing_changes() -> None:
    stated = intent(port("web"), port("db", vm_subnet="rewrite"))
    policy, grants = allocate.complete(stated, {}, 0)
    assert allocate.complete(stated, grants, 10**6) == (policy, grants)


def test_a_newcomer_moves_nobody() -> None:
    """By name alone the newcomer may come first; what is granted stays."""
    names = [f"p{number}" for number in range(4)]
    grants: dict[Value, Grant] = {}
    had: dict[str, str] = {}
    for count in range(1, 5):
        policy, grants = allocate.complete(intent(*map(port, names[-count:])), grants, 0)
        now = {name: address(policy, name) for name in names[-count:]}
        assert had.items() <= now.items()
        had = now


def test_an_address_is_held_down_as_long_as_there_is_another() -> None:
    few = [port(f"p{number}") for number in range(4)]  # a /29 without its gateway has five
    policy, grants = allocate.complete(intent(*few), {}, 0)
    freed = address(policy, "p0")
    _, grants = allocate.complete(intent(*few[1:]), grants, 100)
    policy, _ = allocate.complete(intent(*few[1:], port("new")), grants, 101)
    assert address(policy, "new") != freed
    policy, grants = allocate.complete(intent(*few), grants, 101)
    assert address(policy, "p0") == freed, "its own owner gets it back at once"
    _, grants = allocate.complete(intent(*few[1:]), grants, 200)
    policy, grants = allocate.complete(intent(*few[1:], port("new2")), grants, 200 + 2 * HOLD_SECONDS)
    assert {grant.held_until for grant in grants.values()} == {None}


def test_a_pool_of_two_goes_on_to_others() -> None:
    """The oldest hold first; what is used up then is told as such."""
    both = AddressRange(*map(ip_address, ("10.1.2.3", "10.1.2.4")))
    pool = IPPool("two", "blue", vm_subnet="nvgre", range=both)
    policy, grants = allocate.complete(intent(pool, port("a"), port("b")), {}, 0)
    first = address(policy, "a")
    _, grants = allocate.complete(intent(pool, port("b")), grants, 10)
    _, grants = allocate.complete(intent(pool), grants, 20)
    policy, grants = allocate.complete(intent(pool, port("c")), grants, 30)
    assert address(policy, "c") == first
    policy, grants = allocate.complete(intent(pool, port("c"), port("d")), grants, 30)
    assert {address(policy, name) for name in "cd"} == {"10.1.2.3", "10.1.2.4"}
    with pytest.raises(ManifestError, match=r"spec.addresses: left out, but 10\.1\.2\.0/29 is used up$"):
        allocate.complete(intent(pool, port("c"), port("d"), port("e")), grants, 31)


TWO_PAS = AddressRange(*map(ip_address, ("192.168.78.1", "192.168.78.2")))


def rewriting(*names: str) -> Intent:
    """Ports whose provider addresses are of a pool of two."""
    site = NetworkSite("rack2", "fabric", (SiteSubnet(ip_network("192.168.78.0/24"), TWO_PAS),))
    host = Host("h3", "rack2", (ip_address("192.168.78.9"),), Underlay("u1"))
    return intent(site, host, *(port(name, vm_subnet="rewrite", host="h3") for name in names))


def test_a_provider_address_in_quarantine_does_not_give_way() -> None:
    """By it, packets that are under way would reach another tenant; the error says when it is to be had."""
    _, grants = allocate.complete(rewriting("a", "b"), {}, 0)
    _, grants = allocate.complete(rewriting("b"), grants, 1000)
    text = (
        "192.168.78.1-192.168.78.2 of NetworkSite rack2 is used up: 1 of it held for who had it before, until"
    )
    with pytest.raises(ManifestError, match=re.escape(f"left out, but {text} 00:21:40Z the first")):
        allocate.complete(rewriting("b", "c"), grants, 1001)
    allocate.complete(rewriting("b", "c"), grants, 1000 + HOLD_SECONDS)


def test_a_clock_that_was_a_day_ahead_holds_nothing_longer() -> None:
    day = 86400.0
    _, grants = allocate.complete(rewriting("a", "b"), {}, 0)
    _, ahead = allocate.complete(rewriting("b"), grants, day)
    policy, now = allocate.complete(rewriting("b", "c"), ahead, 1)
    pas = {str(pa) for each in policy.ports for pa in each.provider_addresses}
    assert pas == {"192.168.78.1", "192.168.78.2"}, "it is not believed when nothing else is left"
    _, now = allocate.complete(rewriting("b"), ahead, 1)
    held = {grant.held_until for grant in now.values() if grant.held_until is not None}
    assert held and max(held) <= 1 + HOLD_SECONDS


def test_who_states_a_held_address_has_it() -> None:
    policy, grants = allocate.complete(intent(port("old")), {}, 0)
    freed = ip_address(address(policy, "old"))
    policy, grants = allocate.complete(intent(port("new", addresses=(freed,))), grants, 1)
    assert address(policy, "new") == str(freed)
    assert grants[Value("ca/blue/nvgre/4", str(freed))].owner == "Port blue/new"


def test_who_states_a_granted_address_is_told_whose_it_is() -> None:
    policy, grants = allocate.complete(intent(port("web")), {}, 0)
    taken = ip_address(address(policy, "web"))
    with pytest.raises(ManifestError) as caught:
        allocate.complete(intent(port("web"), port("new", addresses=(taken,))), grants, 1)
    assert str(caught.value) == f"Port blue/new: states {taken}, which has been granted to Port blue/web"


def test_a_stated_address_stays_when_it_is_left_out() -> None:
    stated = ip_address("10.1.2.5")
    _, grants = allocate.complete(intent(port("web", addresses=(stated,))), {}, 0)
    policy, _ = allocate.complete(intent(port("web")), grants, 1)
    assert address(policy, "web") == str(stated)


# ---- random histories ----------------------------------------------------------------------------

names = st.sampled_from("abcdefgh")
stated_addresses = st.sampled_from([(), (), (), ("2",), ("3",), ("5",)])


def stated_by(item: Object) -> tuple[object, ...]:
    match item:
        case LookupRecord():
            return (item.customer_address,)
        case ProviderAddress():
            return (item.provider_address,)
    return tuple(getattr(item, "addresses", ()))


class Histories(RuleBasedStateMachine):
    """Two writers over one store, each of which may stop for good between any two of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        first = intent_of([*FABRIC, REWRITE, NVGRE, *HOSTS, FOREIGN])
        policy, grants = allocate.complete(first, {}, 0)
        self.store.commit({**documents.items_of(first.by_id.values(), policy.by_id), **encode(grants)})
        self.now = 0.0
        self.released: dict[Value, float] = {}
        self.plan: tuple[int, dict[str, bytes], list[str]] | None = None

    def objects(self) -> list[Object]:
        return list(documents.intent_from(snapshot_of(self.store, "intent/").items).by_id.values())

    def prepare(self, objects: list[Object]) -> tuple[int, dict[str, bytes], list[str]] | None:
        """What is to be committed, or None where the intent is refused."""
        snapshot = snapshot_of(self.store, "intent/", "grant/")
        stated = intent_of(objects)
        if admission.check_intent(stated):
            return None
        try:
            policy, grants = allocate.complete(stated, decode(snapshot.items), self.now)
        except ManifestError:
            return None
        puts = {**documents.items_of(stated.by_id.values(), policy.by_id), **encode(grants)}
        return snapshot.revision, puts, [key for key in snapshot.items if key not in puts]

    def commit(self, plan: tuple[int, dict[str, bytes], list[str]]) -> bool:
        revision, puts, deletes = plan
        before = decode(snapshot_of(self.store, "grant/").items)
        try:
            self.store.commit(
                puts, deletes, expect=Expect(prefixes={"intent/": revision, "grant/": revision})
            )
        except ConflictError:
            return False
        self.check_step(before, decode(snapshot_of(self.store, "grant/").items))
        return True

    def check_step(self, before: dict[Value, Grant], after: dict[Value, Grant]) -> None:
        """Nobody but its owner, or who states it, gets a value before its hold has ended."""
        objects = {str(item.id): item for item in self.objects()}
        for value, grant in before.items():
            now = after.get(value)
            if grant.held_until is None and (now is None or now.held_until is not None):
                self.released[value] = self.now
            if now is None:
                assert grant.held_until is not None and grant.held_until <= self.now
            elif now.owner != grant.owner:
                stated = stated_by(objects[now.owner])
                early = self.now < self.released.get(value, self.now) + HOLD_SECONDS
                full = value.pool.startswith("ca/") and not self.free(value.pool, {*before, *after})
                assert value.text in map(str, stated) or not early or full

    def free(self, pool: str, granted: set[Value]) -> set[str]:
        third = 1 if "/rewrite/" in pool else 2
        return {f"10.1.{third}.{last}" for last in range(2, 7)} - {v.text for v in granted if v.pool == pool}

    @rule(
        name=names,
        subnet=st.sampled_from(["rewrite", "nvgre"]),
        host=st.sampled_from(["h1", "h2"]),
        stated=stated_addresses,
    )
    def put(self, name: str, subnet: str, host: str, stated: tuple[str, ...]) -> None:
        third = 1 if subnet == "rewrite" else 2
        addresses = tuple(ip_address(f"10.1.{third}.{last}") for last in stated)
        new = port(name, vm_subnet=subnet, host=host, addresses=addresses)
        self.change([item for item in self.objects() if item.id != new.id] + [new])

    @rule(name=names, last=st.integers(2, 6))
    def put_record(self, name: str, last: int) -> None:
        mac = Mac(f"02:cc:00:00:00:{ord(name):02x}")
        new = LookupRecord("blue", name, 5001, ip_address(f"10.1.1.{last}"), mac, "ovs1")
        self.change([item for item in self.objects() if item.id != new.id] + [new])

    @rule(name=names, host=st.sampled_from(["h1", "ovs1"]), last=st.integers(1, 12))
    def put_provider_address(self, name: str, host: str, last: int) -> None:
        new = ProviderAddress(name, host, ip_address(f"192.168.77.{last}"))
        self.change([item for item in self.objects() if item.id != new.id] + [new])

    @rule(name=names)
    def remove(self, name: str) -> None:
        self.change([item for item in self.objects() if item.id.name != name])

    @rule(seconds=st.sampled_from([1.0, 100.0, HOLD_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def change(self, objects: list[Object]) -> None:
        plan = self.prepare(objects)
        if plan:
            assert self.commit(plan)

    @rule(name=names)
    def begin(self, name: str) -> None:
        """Another writer plans, and dies or waits before it commits."""
        new = port(name)
        self.plan = self.prepare([item for item in self.objects() if item.id != new.id] + [new])

    @precondition(lambda self: self.plan is not None)
    @rule()
    def end(self) -> None:
        assert self.plan
        revision = snapshot_of(self.store).revision
        assert self.commit(self.plan) or revision > self.plan[0]
        self.plan = None

    @invariant()
    def what_readers_get_is_granted(self) -> None:
        snapshot = snapshot_of(self.store, "intent/", "grant/")
        policy = documents.policy_from(snapshot.items)
        assert not admission.check_intent(policy)
        granted = {(value.text, grant.owner) for value, grant in decode(snapshot.items).items()}
        for each in policy.ports:
            given = (*each.addresses, *each.provider_addresses)
            assert {(str(address), str(each.id)) for address in given} <= granted
        for raw in (*policy.lookup_records, *policy.provider_addresses):
            assert {(str(address), str(raw.id)) for address in stated_by(raw)} <= granted

    @invariant()
    def nothing_leaks(self) -> None:
        """Every grant has an owner that is there, or is held down."""
        there = {str(item.id) for item in self.objects()}
        for value, grant in decode(snapshot_of(self.store, "grant/").items).items():
            assert grant.held_until is not None or grant.owner in there, value


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_macs_are_granted_and_kept() -> None:
    policy, grants = allocate.complete(intent(port("web")), {}, 0)
    mac = policy.ports[0].mac
    assert grants[Value("mac", mac)] == Grant("Port blue/web", "")
    assert (
        allocate.complete(intent(port("web"), port("db", mac=Mac("02:00:00:00:00:01"))), grants, 0)[0]
        .ports[1]
        .mac
        == mac
    )
