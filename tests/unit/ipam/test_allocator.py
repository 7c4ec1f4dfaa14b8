"""What is left out is filled in: by rule, once, and so that it stays."""

from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from policy.ipam.allocate import allocate
from policy.ipam.choice import Claims, spread
from policy.kinds.model import ROUTER_MAC, Intent, Policy, Translation, intent_of
from policy.rules import admission
from policy.service import resolve
from tests.unit.intents import FABRIC, hosts, intents, tenants
from tests.unit.manifests import EXAMPLE, edited, line_of, load, problems

WEB_PAS = '  providerAddresses: [192.168.77.110, "fd77::110"]\n'
V4_POOL = "      paPool: 192.168.77.100-192.168.77.250\n"
V6_POOL = '      paPool: "fd77::100-fd77::250"\n'

# ---- spread --------------------------------------------------------------------------------------

names = st.sets(st.text("abcdefgh", min_size=1, max_size=3), max_size=12)
taken = st.sets(st.integers(0, 40), max_size=10)
POOL = [range(8), range(20, 28)]


def free(used: set[int]) -> int:
    return sum(value not in used for values in POOL for value in values)


def spread_of(claims: Claims, used: Iterable[int]) -> dict[str, int]:
    """Where nobody has more than is known."""
    choosing = spread(claims, used)
    try:
        next(choosing)
        while True:
            choosing.send({})
    except StopIteration as stop:
        found: dict[str, int] = stop.value
        return found


@given(names, taken)
def test_spread_gives_everyone_a_value_of_its_own(claims: set[str], used: set[int]) -> None:
    granted = spread_of(dict.fromkeys(claims, POOL), used)
    assert len(granted) == min(len(claims), free(used)), "nobody goes without while there is room"
    assert len(set(granted.values())) == len(granted)
    assert all(any(value in values for values in POOL) for value in granted.values())
    assert not set(granted.values()) & used


@given(names, taken, st.text("xyz", min_size=1, max_size=3))
def test_spread_moves_nobody_for_a_newcomer_with_a_free_first_choice(
    claims: set[str], used: set[int], newcomer: str
) -> None:
    alone = spread_of({newcomer: POOL}, ())[newcomer]
    before = spread_of(dict.fromkeys(claims, POOL), used)
    after = spread_of(dict.fromkeys({*claims, newcomer}, POOL), used)
    assume(alone not in used and alone not in before.values())
    assert after == before | {newcomer: alone}


def test_spread_in_a_pool_larger_than_a_machine_word() -> None:
    whole = range(1 << 64)
    granted = spread_of({"a": [whole], "b": [whole]}, ())
    assert len({value >> 32 for value in granted.values()}) == 2


def test_spread_without_a_pool() -> None:
    assert spread_of({"a": [], "b": [range(0)]}, ()) == {}


# ---- intents -------------------------------------------------------------------------------------


@given(intents())
def test_nothing_is_left_out_and_every_rule_holds(intent: Intent) -> None:
    assert not admission.check_intent(intent)
    policy = allocate(intent)
    assert not admission.check_intent(policy), "what was allocated keeps the rules for what is stated"
    assert not admission.check_policy(policy)
    assert all(subnet.vsid and len(subnet.gateways) == len(subnet.prefixes) for subnet in policy.vm_subnets)
    assert all(host.provider_addresses for host in policy.hosts)
    for port in policy.ports:
        subnet = policy.subnet_by_id[port.subnet_id]
        assert port.mac
        assert port.addresses
        rewrite = subnet.translation is Translation.REWRITE
        assert len(port.provider_addresses) == len(port.addresses) * rewrite


@given(intents())
def test_what_is_stated_stays(intent: Intent) -> None:
    policy = allocate(intent)
    for stated, filled in zip(intent.hosts, policy.hosts, strict=True):
        assert filled.provider_addresses == stated.provider_addresses or not stated.provider_addresses
    for one, two in zip(intent.vm_subnets, policy.vm_subnets, strict=True):
        assert two.vsid == one.vsid or not one.vsid
    for before, after in zip(intent.ports, policy.ports, strict=True):
        assert after.mac == before.mac or not before.mac
        assert after.addresses == before.addresses or not before.addresses
    assert allocate(policy) == policy, "nothing is left to fill in"


@given(st.data())
def test_another_tenant_changes_nothing_of_the_others(data: st.DataObject) -> None:
    fabric = [*FABRIC, *data.draw(hosts())]
    blue, red, green = (data.draw(tenants(name)) for name in ("blue", "red", "green"))
    before = allocate(intent_of([*fabric, *blue, *green]))
    after = allocate(intent_of([*fabric, *blue, *red, *green]))
    assert after.hosts == before.hosts
    assert tuple(subnet for subnet in after.vm_subnets if subnet.tenant != "red") == before.vm_subnets
    assert tuple(port for port in after.ports if port.tenant != "red") == before.ports


# ---- by rule -------------------------------------------------------------------------------------


def test_gateways(tmp_path: Path) -> None:
    """Network address + 1 in both families; a stated one goes with its own prefix."""
    stated = ("vsid: 5001", 'vsid: 5001\n  gateways: ["fd00:1:1::fe"]')
    blue1, blue2 = load(edited(stated), tmp_path).vm_subnets
    assert blue1.gateways == (ip_address("10.1.1.1"), ip_address("fd00:1:1::fe"))
    assert blue2.gateways == (ip_address("10.1.2.254"),)


def test_shared_addresses_left_out(tmp_path: Path) -> None:
    """One of each site subnet that has a pool."""
    h1_stated = "  providerAddresses: [192.168.77.101]\n"
    both = load(edited((h1_stated, "")), tmp_path).host_by_name["h1"]
    assert [pa.version for pa in both.provider_addresses] == [4, 6]
    v4 = load(edited((h1_stated, ""), (V6_POOL, "")), tmp_path).host_by_name["h1"]
    assert v4.provider_addresses == both.provider_addresses[:1], (
        "the pool of one family says nothing of the other"
    )


def test_the_last_address_of_a_pool(tmp_path: Path) -> None:
    """Stated addresses, gateways, network and broadcast address are never given away."""
    pool = (V4_POOL, "      paPool: 192.168.77.0-192.168.77.2\n")
    stated = ("[192.168.77.102]", "[192.168.77.3]")
    (app,) = (port for port in load(edited(pool, stated), tmp_path).ports if port.name == "app")
    assert app.provider_addresses == (ip_address("192.168.77.2"),)
    top = (V4_POOL, "      paPool: 192.168.77.254-192.168.77.255\n")
    (app,) = (port for port in load(edited(top), tmp_path).ports if port.name == "app")
    assert app.provider_addresses == (ip_address("192.168.77.254"),)


def test_pool_used_up(tmp_path: Path) -> None:
    text = edited((V4_POOL, "      paPool: 192.168.77.110-192.168.77.110\n"))
    line = line_of("metadata: {name: app", text) + 1
    assert problems(text, tmp_path) == [
        f"net.yaml:{line}: Port blue/app: spec.providerAddresses:"
        " left out, but 192.168.77.110-192.168.77.110 of NetworkSite rack1 is used up"
    ]


def test_no_pool_of_the_family(tmp_path: Path) -> None:
    text = edited((V6_POOL, ""), (WEB_PAS, ""))
    line = line_of("metadata: {name: web", text) + 1
    assert problems(text, tmp_path) == [
        f"net.yaml:{line}: Port blue/web: spec.providerAddresses:"
        " left out, but no IPv6 subnet of NetworkSite rack1 has a paPool"
    ]


def test_no_pool_at_all(tmp_path: Path) -> None:
    text = edited((V4_POOL, ""), (V6_POOL, ""), ("  providerAddresses: [192.168.77.101]\n", ""))
    host, port = line_of("metadata: {name: h1", text) + 1, line_of("metadata: {name: app", text) + 1
    assert problems(text, tmp_path) == [
        f"net.yaml:{host}: Host h1: spec.providerAddresses:"
        " left out, but no subnet of NetworkSite rack1 has a paPool",
        f"net.yaml:{port}: Port blue/app: spec.providerAddresses:"
        " left out, but no IPv4 subnet of NetworkSite rack1 has a paPool",
    ]


def test_customer_addresses_left_out(tmp_path: Path) -> None:
    """One of each prefix, but never its network or broadcast address or gateway."""
    small = [
        ("prefixes: [10.1.2.0/24]", 'prefixes: [10.1.2.0/30, "fd00:1:2::/126"]'),
        ("10.1.2.254", "10.1.2.2"),
    ]
    text = edited(*small, ("  addresses: [10.1.2.20]\n", ""))
    (db,) = (port for port in load(text, tmp_path).ports if port.name == "db")
    assert db.addresses[0] == ip_address("10.1.2.1")
    assert db.addresses[1] in {ip_address("fd00:1:2::2"), ip_address("fd00:1:2::3")}
    second = (
        text[text.index("kind: Port\nmetadata: {name: db") :]
        .replace("name: db", "name: db2")
        .replace("01:20", "01:21")
    )
    text = f"{text}---\n{second}"
    line = line_of("metadata: {name: db2", text) + 1
    assert problems(text, tmp_path) == [
        f"net.yaml:{line}: Port blue/db2: spec.addresses: left out, but 10.1.2.0/30 is used up"
    ]


def test_macs_and_vsids_left_out(tmp_path: Path) -> None:
    policy = load(edited(('  mac: "02:bb:00:00:00:10"\n', ""), ("  vsid: 5002\n", "")), tmp_path)
    (web,) = (port for port in policy.ports if port.name == "web")
    assert int(web.mac[:2], 16) == 2, "locally administered, unicast"
    assert web.mac != ROUTER_MAC
    assert 4096 <= policy.vm_subnets[1].vsid <= 16_777_214


def test_allocated_values_of_the_example() -> None:
    """These are in use: a change here renumbers every network that runs."""
    policy: Policy = resolve.load([EXAMPLE])
    pas = {
        port.name: [str(pa) for pa in port.provider_addresses]
        for port in policy.ports
        if port.tenant == "blue"
    }
    assert pas == {
        "blue-web": ["192.168.77.177", "fd77::1b8"],
        "blue-api": ["192.168.77.209", "fd77::20a"],
        "blue-app": ["192.168.77.110", "fd77::141"],
        "blue-cache": ["192.168.77.245", "fd77::179"],
        "blue-db": ["192.168.77.222", "fd77::1ed"],
    }
