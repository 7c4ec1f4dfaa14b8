"""Every rule of policy/rules: a right manifest made wrong in one place, and what is then reported."""

from pathlib import Path

import pytest

from policy.errors import ObjectId
from policy.ipam import allocate
from policy.kinds import manifest
from policy.kinds.model import Intent
from policy.rules import admission, tenant
from tests.unit.manifests import BASE, edited, line_of, load, problems
from tests.unit.rules import (
    cases_fabric,
    cases_peers,
    cases_pools,
    cases_records,
    cases_references,
    cases_routes,
    cases_tenant,
)
from tests.unit.rules.case import OVS_PA, TENANT, WEB_PA, Case

CASES = [
    case
    for room in (
        cases_references,
        cases_fabric,
        cases_pools,
        cases_routes,
        cases_tenant,
        cases_records,
        cases_peers,
    )
    for case in room.CASES
]
RULES = {rule.__name__: rule for rule in (*admission.INTENT_RULES, *admission.POLICY_RULES)}


def test_base_is_right(tmp_path: Path) -> None:
    load(BASE, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{case.edits[-1][1].strip()[:40]}")
def test_rule(case: Case, tmp_path: Path) -> None:
    text = edited(*case.edits)
    line = text[: text.index(case.at)].count("\n") + 1
    assert text.count(case.at) == 1
    assert problems(text, tmp_path) == [f"net.yaml:{line}: {expected}" for expected in case.texts]
    assert broken_rules(manifest.read([tmp_path / "net.yaml"])[0]) == {case.rule}


def broken_rules(intent: Intent) -> set[str]:
    broken = {rule.__name__ for rule in admission.INTENT_RULES if list(rule(intent))}
    if broken:
        return broken
    policy = allocate.allocate(intent)
    return {rule.__name__ for rule in admission.POLICY_RULES if list(rule(policy))}


def test_every_rule_is_tested() -> None:
    elsewhere = {"hosts_hold_their_ports", "tenants_exist"}
    assert {case.rule for case in CASES} | elsewhere == set(RULES)


def test_tenants_are_implied_until_one_is_stated(tmp_path: Path) -> None:
    assert "Tenant" not in {identity.kind for identity in load(BASE, tmp_path).by_id}
    found = problems(TENANT + "---\n" + BASE, tmp_path)
    at = line_of("{name: Blue_VMNet, tenant: blue}", TENANT + "---\n" + BASE)
    assert f"net.yaml:{at}: VMNetwork blue/Blue_VMNet: metadata.tenant: there is no Tenant blue" in found
    assert len(found) == BASE.count("tenant: blue")
    blue = TENANT.replace("red", "blue")
    assert [tenant.name for tenant in load(blue + "---\n" + BASE, tmp_path).tenants] == ["blue"]


def test_port_name_in_two_tenants(tmp_path: Path) -> None:
    red = BASE[BASE.index("kind: VMNetwork") : BASE.index("---\nkind: VMSubnet\nmetadata: {name: Blue2")]
    red += (
        "---\n"
        + BASE[
            BASE.index("kind: Port\nmetadata: {name: app") : BASE.index(
                "---\nkind: Port\nmetadata: {name: db"
            )
        ]
    )
    red = red.replace("blue", "red").replace("name: app", "name: web").replace("5001", "6001")
    text = f"{BASE}---\n{red}"
    ports = [port.id for port in load(text, tmp_path).ports if port.name == "web"]
    assert ports == [ObjectId("Port", "blue", "web"), ObjectId("Port", "red", "web")]


def test_host_with_too_many_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant, "MAX_LOCAL_PORTS", 1)
    text = edited(("  host: h1\n", "  host: h1 # web\n"), ("  host: h2\n", "  host: h1\n"))
    line = line_of("# web", text)
    assert problems(text, tmp_path) == [
        f"net.yaml:{line}: Port blue/web: spec.host: Host h1 has 1 ports already, the limit"
    ]
    two_on_ovs1 = [
        ("  translation: rewrite\n", ""),
        (f"  {WEB_PA}\n", ""),
        ("  host: h1\n", "  host: ovs1 # web\n"),
    ]
    load(edited(*two_on_ovs1), tmp_path)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param([('77:01", mtu: 1600', '77:01", mtu: 1322')], id="least MTU over IPv4"),
        pytest.param(
            [("vsid: 5001", "vsid: 4096"), ("vsid: 5002", "vsid: 16777214")], id="first and last VSID"
        ),
        pytest.param(
            [("10.1.2.0/24", "10.1.3.0/30"), ("10.1.2.254", "10.1.3.1"), ("[10.1.2.20]", "[10.1.3.2]")],
            id="/30",
        ),
        pytest.param([(OVS_PA, 'providerAddresses: ["fd77::9", 192.168.77.9]')], id="another family first"),
        pytest.param([("[10.9.0.0/16]", "[0.0.0.0/0, '::/0']")], id="any source"),
        pytest.param([("02:bb:00:00:01:20", "02:bb:00:00:00:20")], id="a MAC in two subnets"),
        pytest.param(
            [("02:bb:00:00:00:20", "00:15:5d:00:00:20")], id="a MAC that is not locally administered"
        ),
    ],
)
def test_right(edits: list[tuple[str, str]], tmp_path: Path) -> None:
    load(edited(*edits), tmp_path)


def test_same_prefixes_addresses_and_macs_in_two_vm_networks(tmp_path: Path) -> None:
    blue = BASE[BASE.index("kind: VMNetwork") :]
    red = blue.replace("blue", "red").replace("vsid: 5", "vsid: 6")
    red = red.replace("192.168.77.110", "192.168.77.120").replace("fd77::110", "fd77::120")
    policy = load(f"{BASE}---\n{red}", tmp_path)
    assert len(policy.ports) == 6
