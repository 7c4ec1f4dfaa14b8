"""Grants that are remembered: no value twice, none lost, none moved, none given away too early."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policy import documents, pools, validate
from policy.errors import ManifestError
from policy.grants import HOLD_SECONDS, Book, Claim, Grant, Notation, Value, decode, encode
from policy.model import (
    AddressRange,
    Host,
    Intent,
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
from policy.store import ConflictError
from policy.store_memory import MemoryStore

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
    book = Book(before, now=100)
    assert book.claim("p", NUMBERS, [Claim("a", "", "a", [range(5)])], ())["a"] < 5
    assert book.close()[Value("p", "7")] == Grant("a", "", 100 + HOLD_SECONDS)


def test_a_claim_that_can_not_be_met() -> None:
    book = Book({Value("p", "0"): Grant("gone", "", 200.0)}, now=100)
    claims = [Claim(name, "", name, [range(2)]) for name in "ab"]
    assert list(book.claim("p", NUMBERS, claims, ()).values()) == [1]


# ---- policies ------------------------------------------------------------------------------------


def test_applied_again_nothing_changes() -> None:
    stated = intent(port("web"), port("db", vm_subnet="rewrite"))
    policy, grants = pools.complete(stated, {}, 0)
    assert pools.complete(stated, grants, 10**6) == (policy, grants)


def test_a_newcomer_moves_nobody() -> None:
    """By name alone the newcomer may come first; what is granted stays."""
    names = [f"p{number}" for number in range(4)]
    grants: dict[Value, Grant] = {}
    had: dict[str, str] = {}
    for count in range(1, 5):
        policy, grants = pools.complete(intent(*map(port, names[-count:])), grants, 0)
        now = {name: address(policy, name) for name in names[-count:]}
        assert had.items() <= now.items()
        had = now


def test_an_address_is_held_down_before_another_gets_it() -> None:
    full = [port(f"p{number}") for number in range(5)]  # a /29 without its gateway
    policy, grants = pools.complete(intent(*full), {}, 0)
    freed = address(policy, "p0")
    with pytest.raises(ManifestError, match=r"10\.1\.2\.0/29 is used up"):
        pools.complete(intent(*full[1:], port("new")), grants, 100)
    _, grants = pools.complete(intent(*full[1:]), grants, 100)
    with pytest.raises(ManifestError, match=r"10\.1\.2\.0/29 is used up"):
        pools.complete(intent(*full[1:], port("new")), grants, 100 + HOLD_SECONDS - 1)
    policy, grants = pools.complete(intent(*full), grants, 101)
    assert address(policy, "p0") == freed, "its own owner gets it back at once"
    _, grants = pools.complete(intent(*full[1:]), grants, 200)
    policy, grants = pools.complete(intent(*full[1:], port("new")), grants, 200 + HOLD_SECONDS)
    assert address(policy, "new") == freed
    assert {grant.held_until for grant in grants.values()} == {None}


def test_who_states_a_held_address_has_it() -> None:
    policy, grants = pools.complete(intent(port("old")), {}, 0)
    freed = ip_address(address(policy, "old"))
    policy, grants = pools.complete(intent(port("new", addresses=(freed,))), grants, 1)
    assert address(policy, "new") == str(freed)
    assert grants[Value("ca/blue/nvgre/4", str(freed))].owner == "Port blue/new"


def test_who_states_a_granted_address_is_told_whose_it_is() -> None:
    policy, grants = pools.complete(intent(port("web")), {}, 0)
    taken = ip_address(address(policy, "web"))
    with pytest.raises(ManifestError) as caught:
        pools.complete(intent(port("web"), port("new", addresses=(taken,))), grants, 1)
    assert str(caught.value) == f"Port blue/new: states {taken}, which has been granted to Port blue/web"


def test_a_stated_address_stays_when_it_is_left_out() -> None:
    stated = ip_address("10.1.2.5")
    _, grants = pools.complete(intent(port("web", addresses=(stated,))), {}, 0)
    policy, _ = pools.complete(intent(port("web")), grants, 1)
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
        policy, grants = pools.complete(first, {}, 0)
        self.store.commit({**documents.items_of(first.by_id.values(), policy.by_id), **encode(grants)})
        self.now = 0.0
        self.released: dict[Value, float] = {}
        self.plan: tuple[int, dict[str, bytes], list[str]] | None = None

    def objects(self) -> list[Object]:
        return list(documents.intent_from(self.store.snapshot("intent/").items).by_id.values())

    def prepare(self, objects: list[Object]) -> tuple[int, dict[str, bytes], list[str]] | None:
        """What is to be committed, or None where the intent is refused."""
        snapshot = self.store.snapshot("intent/", "grant/")
        stated = intent_of(objects)
        if validate.check_intent(stated):
            return None
        try:
            policy, grants = pools.complete(stated, decode(snapshot.items), self.now)
        except ManifestError:
            return None
        puts = {**documents.items_of(stated.by_id.values(), policy.by_id), **encode(grants)}
        return snapshot.revision, puts, [key for key in snapshot.items if key not in puts]

    def commit(self, plan: tuple[int, dict[str, bytes], list[str]]) -> bool:
        revision, puts, deletes = plan
        before = decode(self.store.snapshot("grant/").items)
        try:
            self.store.commit(puts, deletes, unchanged={"intent/": revision, "grant/": revision})
        except ConflictError:
            return False
        self.check_step(before, decode(self.store.snapshot("grant/").items))
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
                assert value.text in map(str, stated) or not early

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
        revision = self.store.snapshot().revision
        assert self.commit(self.plan) or revision > self.plan[0]
        self.plan = None

    @invariant()
    def what_readers_get_is_granted(self) -> None:
        snapshot = self.store.snapshot("intent/", "grant/")
        policy = documents.policy_from(snapshot.items)
        assert not validate.check_intent(policy)
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
        for value, grant in decode(self.store.snapshot("grant/").items).items():
            assert grant.held_until is not None or grant.owner in there, value


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_macs_are_granted_and_kept() -> None:
    policy, grants = pools.complete(intent(port("web")), {}, 0)
    mac = policy.ports[0].mac
    assert grants[Value("mac", mac)] == Grant("Port blue/web", "")
    assert (
        pools.complete(intent(port("web"), port("db", mac=Mac("02:00:00:00:00:01"))), grants, 0)[0]
        .ports[1]
        .mac
        == mac
    )
