"""Every rule of policy/validate.py: a right manifest made wrong in one place, and what is then reported."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from policy import allocator, manifest, validate
from policy.model import Intent
from tests.unit.manifests import BASE, edited, line_of, load, problems

RULES = {rule.__name__: rule for rule in (*validate.INTENT_RULES, *validate.POLICY_RULES)}


@dataclass(frozen=True)
class Case:
    """BASE with `edits` breaks `rule`: `texts` are reported, all on the line that holds `at`."""

    rule: str
    edits: tuple[tuple[str, str], ...]
    at: str
    texts: tuple[str, ...]


def case(rule: str, edits: tuple[str, str] | list[tuple[str, str]], at: str, *texts: str) -> Case:
    return Case(rule, tuple(edits) if isinstance(edits, list) else (edits,), at, texts)


def before_first(documents: str) -> tuple[str, str]:
    return "kind: LogicalNetwork\n", f"{documents}---\nkind: LogicalNetwork\n"


def site_subnet(fields: str) -> tuple[str, str]:
    """One more subnet of rack1."""
    last = '      paPool: "fd77::100-fd77::250"\n'
    return last, f"{last}    - {{{fields}}}\n"


H1_PA = "providerAddresses: [192.168.77.101]"
H2_PA = "providerAddresses: [192.168.77.102]"
OVS_PA = "providerAddresses: [192.168.77.9]"
WEB_PA = 'providerAddresses: [192.168.77.110, "fd77::110"]'
WEB_CA = 'addresses: [10.1.1.10, "fd00:1:1::10"]'
OVS_ON_RACK2 = (
    "  site: rack1\n  managed: false\n  providerAddresses: [192.168.77.9]\n",
    "  site: rack2\n  managed: false\n  providerAddresses: [192.168.78.9]\n",
)
RACK2 = """\
kind: NetworkSite
metadata: {name: rack2}
spec: {logicalNetwork: NET, subnets: [{prefix: 192.168.78.0/24}]}
"""

CASES = [
    case(
        "references_exist",
        ("logicalNetwork: fabric\n  subnets", "logicalNetwork: fabrik\n  subnets"),
        "fabrik",
        "NetworkSite rack1: spec.logicalNetwork: there is no LogicalNetwork fabrik",
    ),
    case(
        "references_exist",
        (f"  site: rack1\n  {H1_PA}", f"  site: rack9\n  {H1_PA}"),
        "rack9",
        "Host h1: spec.site: there is no NetworkSite rack9",
    ),
    case(
        "references_exist",
        ("spec: {logicalNetwork: fabric}", "spec: {logicalNetwork: fabric9}"),
        "fabric9",
        "VMNetwork blue/Blue_VMNet: spec.logicalNetwork: there is no LogicalNetwork fabric9",
    ),
    case(
        "references_exist",
        (
            "vmNetwork: Blue_VMNet\n  prefixes: [10.1.2.0/24]",
            "vmNetwork: Red_VMNet\n  prefixes: [10.1.2.0/24]",
        ),
        "Red_VMNet",
        "VMSubnet blue/Blue2: spec.vmNetwork: there is no VMNetwork blue/Red_VMNet",
    ),
    case(
        "references_exist",
        ("vmSubnet: Blue2", "vmSubnet: Blue9"),
        "Blue9",
        "Port blue/db: spec.vmSubnet: there is no VMSubnet blue/Blue9",
    ),
    case("references_exist", ("host: h1", "host: h9"), "h9", "Port blue/web: spec.host: there is no Host h9"),
    case(
        "port_names_are_unique",
        ("{name: web, tenant: blue}", "{name: underlay, tenant: blue}"),
        "name: underlay",
        "Port blue/underlay: metadata.name: 'underlay' is the name of the provider-facing port",
    ),
    case(
        "site_subnets_do_not_overlap",
        site_subnet("prefix: 192.168.77.128/25"),
        "192.168.77.128/25",
        "NetworkSite rack1: spec.subnets[2].prefix:"
        " 192.168.77.128/25 overlaps 192.168.77.0/24 of NetworkSite rack1",
    ),
    case(
        "site_subnet_addresses_fit",
        ("192.168.77.100-192.168.77.250", "192.168.77.100-192.168.78.2"),
        "paPool: 192.168.77.100",
        "NetworkSite rack1: spec.subnets[0].paPool:"
        " 192.168.77.100-192.168.78.2 is not inside 192.168.77.0/24",
    ),
    case(
        "site_subnet_addresses_fit",
        ("      gateway: 192.168.77.1\n", ""),
        "gatewayMac",
        "NetworkSite rack1: spec.subnets[0].gatewayMac: there is no gateway that has it",
    ),
    case(
        "site_subnet_addresses_fit",
        ("gateway: 192.168.77.1\n", "gateway: 192.168.78.1\n"),
        "192.168.78.1",
        "NetworkSite rack1: spec.subnets[0].gateway: 192.168.78.1 is not inside 192.168.77.0/24",
    ),
    case(
        "site_subnet_addresses_fit",
        ("gateway: 192.168.77.1\n", "gateway: 192.168.77.255\n"),
        "gateway: 192",
        "NetworkSite rack1: spec.subnets[0].gateway:"
        " 192.168.77.255 is the broadcast address of 192.168.77.0/24",
    ),
    case(
        "site_subnet_addresses_fit",
        site_subnet("prefix: 192.168.79.0/24, gateway: 192.168.79.1"),
        "192.168.79.1",
        "NetworkSite rack1: spec.subnets[2].gateway: a second IPv4 gateway of the site",
    ),
    case(
        "provider_addresses_are_on_site",
        (H1_PA, "providerAddresses: [10.0.0.1]"),
        "10.0.0.1",
        "Host h1: spec.providerAddresses[0]: 10.0.0.1 is in no subnet of NetworkSite rack1, where Host h1 is",
    ),
    case(
        "provider_addresses_are_on_site",
        (H1_PA, "providerAddresses: [192.168.77.101, 192.168.77.1]"),
        "192.168.77.1]",
        "Host h1: spec.providerAddresses[1]: 192.168.77.1 is the gateway of 192.168.77.0/24",
    ),
    case(
        "provider_addresses_are_on_site",
        (WEB_PA, 'providerAddresses: [192.168.77.110, "fd77::"]'),
        '"fd77::"]',
        "Port blue/web: spec.providerAddresses[1]: fd77:: is the network address of fd77::/64",
    ),
    case(
        "provider_addresses_are_unique",
        (H2_PA, H1_PA + " # twice"),
        "# twice",
        "Host h2: spec.providerAddresses[0]: 192.168.77.101 is a provider address of Host h1 already",
    ),
    case(
        "provider_addresses_are_unique",
        (WEB_PA, 'providerAddresses: [192.168.77.9, "fd77::110"]'),
        "192.168.77.9,",
        "Port blue/web: spec.providerAddresses[0]: 192.168.77.9 is a provider address of Host ovs1 already",
    ),
    case(
        "underlay_macs_are_unique",
        ("02:00:00:00:77:02", "02:00:00:00:77:01"),
        "interface: u2",
        "Host h2: spec.underlay.mac: 02:00:00:00:77:01 is the MAC of Host h1 already",
    ),
    case(
        "underlay_macs_are_unique",
        ("02:00:00:00:77:02", "02-00-00-00-77-FE"),
        "interface: u2",
        "Host h2: spec.underlay.mac:"
        " 02:00:00:00:77:fe is the MAC of the gateway of NetworkSite rack1 already",
    ),
    case(
        "prefixes_do_not_overlap_in_a_vm_network",
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.0/24, 10.1.1.64/26]"),
        "10.1.1.64/26",
        "VMSubnet blue/Blue2: spec.prefixes[1]: 10.1.1.64/26 overlaps 10.1.1.0/24 of VMSubnet blue/Blue1"
        " in VMNetwork blue/Blue_VMNet",
    ),
    case(
        "prefixes_do_not_overlap_in_a_vm_network",
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.0/24, 10.1.2.0/24]"),
        "prefixes: [10.1.2.0/24",
        "VMSubnet blue/Blue2: spec.prefixes[1]: 10.1.2.0/24 overlaps 10.1.2.0/24 of VMSubnet blue/Blue2"
        " in VMNetwork blue/Blue_VMNet",
    ),
    case(
        "gateways_fit_their_prefixes",
        ("gateways: [10.1.2.254]", "gateways: [10.1.3.1]"),
        "10.1.3.1",
        "VMSubnet blue/Blue2: spec.gateways[0]: 10.1.3.1 is in no prefix of the subnet",
    ),
    case(
        "gateways_fit_their_prefixes",
        ("gateways: [10.1.2.254]", "gateways: [10.1.2.255]"),
        "10.1.2.255",
        "VMSubnet blue/Blue2: spec.gateways[0]: 10.1.2.255 is the broadcast address of 10.1.2.0/24",
    ),
    case(
        "gateways_fit_their_prefixes",
        ("gateways: [10.1.2.254]", "gateways: [10.1.2.254, 10.1.2.253]"),
        "10.1.2.253",
        "VMSubnet blue/Blue2: spec.gateways[1]: a second gateway of 10.1.2.0/24",
    ),
    case(
        "vsids_are_unique",
        ("vsid: 5002", "vsid: 0x1389"),
        "vsid: 0x1389",
        "VMSubnet blue/Blue2: spec.vsid: 5001 is the VSID of VMSubnet blue/Blue1 already",
    ),
    case(
        "addresses_fit_their_subnet",
        ("addresses: [10.1.1.20]", "addresses: [10.1.2.20]"),
        'addresses: [10.1.2.20]\n  mac: "02:bb:00:00:00:20"',
        "Port blue/app: spec.addresses[0]: 10.1.2.20 is in no prefix of VMSubnet blue/Blue1",
    ),
    case(
        "addresses_fit_their_subnet",
        ("addresses: [10.1.1.20]", "addresses: [10.1.1.1]"),
        "10.1.1.1]",
        "Port blue/app: spec.addresses[0]: 10.1.1.1 is the gateway of 10.1.1.0/24",
    ),
    case(
        "addresses_fit_their_subnet",
        ("gateways: [10.1.2.254]", "gateways: [10.1.2.20]"),
        "  addresses: [10.1.2.20]",
        "Port blue/db: spec.addresses[0]: 10.1.2.20 is the gateway of 10.1.2.0/24",
    ),
    case(
        "addresses_fit_their_subnet",
        ("addresses: [10.1.1.20]", "addresses: [10.1.1.0]"),
        "10.1.1.0]",
        "Port blue/app: spec.addresses[0]: 10.1.1.0 is the network address of 10.1.1.0/24",
    ),
    case(
        "addresses_fit_their_subnet",
        (WEB_CA, 'addresses: [10.1.1.255, "fd00:1:1::"]'),
        "10.1.1.255",
        "Port blue/web: spec.addresses[0]: 10.1.1.255 is the broadcast address of 10.1.1.0/24",
        "Port blue/web: spec.addresses[1]: fd00:1:1:: is the network address of fd00:1:1::/64",
    ),
    case(
        "customer_addresses_are_unique_in_a_subnet",
        (WEB_CA, 'addresses: [10.1.1.20, "fd00:1:1::10"]'),
        '10.1.1.20, "fd00',
        "Port blue/web: spec.addresses[0]: 10.1.1.20 is an address of Port blue/app already",
    ),
    case(
        "customer_addresses_are_unique_in_a_subnet",
        ("addresses: [10.1.1.20]", 'addresses: ["fd00:1:1::20", "fd00:1:1::0020"]'),
        "fd00:1:1::0020",
        "Port blue/app: spec.addresses[1]: fd00:1:1::20 is an address of Port blue/app already",
    ),
    case(
        "macs_are_unique_in_a_subnet",
        ("02:bb:00:00:00:10", "02:BB:00:00:00:20"),
        "02:BB",
        "Port blue/web: spec.mac: 02:bb:00:00:00:20 is the MAC of Port blue/app already",
    ),
    case(
        "rewrite_addresses_pair_up",
        (WEB_PA, "providerAddresses: [192.168.77.110]"),
        "192.168.77.110",
        "Port blue/web: spec.providerAddresses:"
        " expected one for each of spec.addresses, in their order: IPv4, IPv6",
    ),
    case(
        "rewrite_addresses_pair_up",
        (WEB_PA, 'providerAddresses: ["fd77::110", 192.168.77.110]'),
        "192.168.77.110",
        "Port blue/web: spec.providerAddresses:"
        " expected one for each of spec.addresses, in their order: IPv4, IPv6",
    ),
    case(
        "rewrite_addresses_pair_up",
        (f"  {WEB_CA}\n", ""),
        "192.168.77.110",
        "Port blue/web: spec.providerAddresses: stated, but spec.addresses is left out",
    ),
    case(
        "rewrite_addresses_pair_up",
        ("allowedSources: [10.9.0.0/16]", "providerAddresses: [192.168.77.111]"),
        "192.168.77.111",
        "Port blue/db: spec.providerAddresses:"
        " VMSubnet blue/Blue2 is carried by NVGRE, which uses the host's",
    ),
    case(
        "unmanaged_hosts_have_no_rewrite_ports",
        ("  host: h2\n", "  host: ovs1 # app\n"),
        "# app",
        "Port blue/app: spec.host: Host ovs1 is unmanaged and speaks NVGRE only,"
        " but VMSubnet blue/Blue1 is carried by rewrite",
    ),
    case(
        "hosts_are_on_the_logical_network",
        [
            before_first("kind: LogicalNetwork\nmetadata: {name: dmz}\n---\n" + RACK2.replace("NET", "dmz")),
            OVS_ON_RACK2,
        ],
        "host: ovs1",
        "Port blue/db: spec.host: Host ovs1 is on dmz, but VMNetwork blue/Blue_VMNet on fabric",
    ),
    case(
        "devices_are_used_once",
        [("  host: h2\n", "  host: h1 # app\n"), ("netns: blue-app", "netns: blue-web")],
        "{tap: eth0",
        "Port blue/web: spec.attach.tap: eth0 is the device of Port blue/app already",
    ),
    case(
        "devices_are_used_once",
        ("{tap: eth0, netns: blue-web}", "{device: u1}"),
        "{device: u1}",
        "Port blue/web: spec.attach.device: u1 is the underlay of Host h1 already",
    ),
    case(
        "underlay_mtus_carry_ipv6",
        ('77:01", mtu: 1600', '77:01", mtu: 1321'),
        "mtu: 1321",
        "Host h1: spec.underlay.mtu: 1321 is too small: NVGRE around an IPv6 packet of 1280 is 1322",
    ),
    case(
        "underlay_mtus_carry_ipv6",
        [
            ('77:01", mtu: 1600', '77:01", mtu: 1341'),
            (H1_PA, 'providerAddresses: [192.168.77.101, "fd77::1"]'),
        ],
        "mtu: 1341",
        "Host h1: spec.underlay.mtu: 1341 is too small: NVGRE around an IPv6 packet of 1280 is 1342",
    ),
    case(
        "peers_share_a_family",
        (OVS_PA, 'providerAddresses: ["fd77::9"]'),
        "fd77::9",
        "Host ovs1: spec.providerAddresses:"
        " Host h1 and Host ovs1 have ports in one VM network, but no PAs of one family",
        "Host ovs1: spec.providerAddresses:"
        " Host h2 and Host ovs1 have ports in one VM network, but no PAs of one family",
    ),
    case(
        "peers_are_routed",
        [
            before_first(RACK2.replace("NET", "fabric")),
            OVS_ON_RACK2,
            ('      gateway: 192.168.77.1\n      gatewayMac: "02:00:00:00:77:fe"\n', ""),
        ],
        "subnets:\n    - prefix",
        "NetworkSite rack1: spec.subnets: no IPv4 gateway, by which Host h1 would reach Host ovs1 on rack2",
        "NetworkSite rack1: spec.subnets: no IPv4 gateway, by which Host h2 would reach Host ovs1 on rack2",
    ),
]


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
    broken = {rule.__name__ for rule in validate.INTENT_RULES if list(rule(intent))}
    if broken:
        return broken
    policy = allocator.allocate(intent)
    return {rule.__name__ for rule in validate.POLICY_RULES if list(rule(policy))}


def test_every_rule_is_tested() -> None:
    elsewhere = {"hosts_hold_their_ports"}
    assert {case.rule for case in CASES} | elsewhere == set(RULES)


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
    first, second = line_of("name: web, tenant: blue", text), line_of("name: web, tenant: red", text)
    assert problems(text, tmp_path) == [
        f"net.yaml:{second}: Port red/web: metadata.name: Port blue/web at net.yaml:{first} has this name;"
        " Port names are unique over all tenants"
    ]


def test_host_with_too_many_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "MAX_LOCAL_PORTS", 1)
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
    red = blue.replace("blue", "red").replace("vsid: 5", "vsid: 6").replace("name: web", "name: rweb")
    red = red.replace("name: app", "name: rapp").replace("name: db", "name: rdb")
    red = red.replace("192.168.77.110", "192.168.77.120").replace("fd77::110", "fd77::120")
    policy = load(f"{BASE}---\n{red}", tmp_path)
    assert len(policy.ports) == 6
