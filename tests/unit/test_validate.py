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

POOL = """\
kind: IPPool
metadata: {name: pool, tenant: blue}
spec: {vmSubnet: Blue1, range: 10.1.1.100-10.1.1.199, reserved: [10.1.1.150]}
"""
ROUTE = """\
kind: CustomerRoute
metadata: {name: route, tenant: blue}
spec: {vmNetwork: Blue_VMNet, prefix: 10.9.0.0/16, nextHop: 10.1.1.10}
"""
PROVIDER_ROUTE = """\
kind: ProviderRoute
metadata: {name: way}
spec: {site: rack1, prefix: 192.168.78.0/24, nextHop: 192.168.77.2}
"""
MACS = """\
kind: MACPool
metadata: {name: macs}
spec: {range: "02:1d:d8:00:00:00-02:1d:d8:00:ff:ff"}
"""
TENANT = """\
kind: Tenant
metadata: {name: red}
"""


def added(document: str, *changes: tuple[str, str]) -> tuple[str, str]:
    """One more document, made wrong."""
    return before_first(changed(document, *changes))


def changed(document: str, *changes: tuple[str, str]) -> str:
    for before, after in changes:
        assert before in document
        document = document.replace(before, after, 1)
    return document


RECORD = """\
kind: LookupRecord
metadata: {name: far, tenant: blue}
spec: {virtualSubnetId: 5002, customerAddress: 10.1.2.30, macAddress: "02:bb:00:00:00:30", host: ovs1}
"""
SHARED = """\
kind: ProviderAddress
metadata: {name: more}
spec: {providerAddress: 192.168.77.120, host: ovs1, prefixLength: 24, macAddress: "02:00:00:00:77:09"}
"""
BEHIND_WEB = (
    ("5002", "5001"),
    ("10.1.2.30", "10.1.1.30"),
    ("00:00:30", "00:00:10"),
    ("host: ovs1", "host: h1, port: web"),
)
RED_SUBNET = """\
kind: VMNetwork
metadata: {name: Net, tenant: red}
spec: {logicalNetwork: fabric}
---
kind: VMSubnet
metadata: {name: Red1, tenant: red}
spec: {vmNetwork: Net, prefixes: [10.1.1.0/24], vsid: 6001}
---
"""


def at_the_end(document: str, *changes: tuple[str, str]) -> tuple[str, str]:
    """Like added, below all others, which stay on their lines."""
    last = "allowedSources: [10.9.0.0/16]\n"
    return last, f"{last}---\n{changed(document, *changes)}"


CASES = [
    case(
        "ip_pools_have_one_place",
        added(POOL, ("vmSubnet: Blue1", "site: rack1, vmSubnet: Blue1")),
        "spec: {site: rack1, vmSubnet: Blue1",
        "IPPool blue/pool: spec: expected one of site and vmSubnet, not both",
    ),
    case(
        "ip_pools_have_one_place",
        added(POOL, ("vmSubnet: Blue1, ", "")),
        "spec: {range: 10.1.1.100",
        "IPPool blue/pool: spec: expected one of site and vmSubnet, not neither",
    ),
    case(
        "ip_pools_have_one_place",
        added(
            POOL,
            ("vmSubnet: Blue1", "site: rack1"),
            ("10.1.1.100-10.1.1.199", "192.168.77.10-192.168.77.20"),
            (", reserved: [10.1.1.150]", ""),
        ),
        "{name: pool, tenant: blue}",
        "IPPool blue/pool: metadata.tenant: a site's pool belongs to no tenant",
    ),
    case(
        "ip_pools_fit_their_place",
        added(POOL, ("10.1.1.199", "10.1.2.199")),
        "10.1.2.199",
        "IPPool blue/pool: spec.range: 10.1.1.100-10.1.2.199 is in none of 10.1.1.0/24, fd00:1:1::/64",
    ),
    case(
        "ip_pools_fit_their_place",
        added(POOL, ("[10.1.1.150]", "[10.1.1.150, 10.1.1.190-10.1.1.200]")),
        "10.1.1.190-10.1.1.200",
        "IPPool blue/pool: spec.reserved[1]: 10.1.1.190-10.1.1.200 is not inside 10.1.1.100-10.1.1.199",
    ),
    case(
        "ip_pools_fit_their_place",
        added(POOL, ("reserved: [10.1.1.150]}", "gateway: 10.1.1.2}")),
        "gateway: 10.1.1.2",
        "IPPool blue/pool: spec.gateway: 10.1.1.2 is not the gateway of 10.1.1.0/24, 10.1.1.1",
    ),
    case(
        "pools_do_not_overlap",
        added(
            POOL
            + "---\n"
            + POOL.replace("pool", "pool2")
            .replace("10.1.1.100", "10.1.1.199")
            .replace("-10.1.1.199, reserved: [10.1.1.150]", "-10.1.1.220")
        ),
        "10.1.1.199-10.1.1.220",
        "IPPool blue/pool2: spec.range: overlaps the pool of IPPool blue/pool",
    ),
    case(
        "pools_do_not_overlap",
        added(
            "kind: IPPool\nmetadata: {name: more}\n"
            "spec: {site: rack1, range: 192.168.77.250-192.168.77.252}\n"
        ),
        "192.168.77.250-192.168.77.252",
        "IPPool more: spec.range: overlaps the pool of NetworkSite rack1",
    ),
    case(
        "pools_do_not_overlap",
        added(
            MACS
            + "---\n"
            + MACS.replace("macs", "more")
            .replace("02:1d:d8:00:00:00", "02:1d:d8:00:ff:ff")
            .replace('02:1d:d8:00:ff:ff"', '02:1d:d8:01:00:00"')
        ),
        "02:1d:d8:00:ff:ff-02:1d:d8:01:00:00",
        "MACPool more: spec.range: overlaps the pool of MACPool macs",
    ),
    case(
        "provider_routes_lead_somewhere",
        added(PROVIDER_ROUTE, ("192.168.77.2", "192.168.70.2")),
        "192.168.70.2",
        "ProviderRoute way: spec.nextHop: 192.168.70.2 is in no subnet of NetworkSite rack1",
    ),
    case(
        "provider_routes_lead_somewhere",
        added(PROVIDER_ROUTE, ("192.168.77.2", "fd77::2")),
        "nextHop: fd77::2",
        "ProviderRoute way: spec.nextHop: fd77::2 is of another family",
    ),
    case(
        "provider_routes_lead_somewhere",
        added(PROVIDER_ROUTE, ("192.168.78.0/24", "192.168.77.0/24")),
        "prefix: 192.168.77.0/24, nextHop",
        "ProviderRoute way: spec.prefix: 192.168.77.0/24 is on link at NetworkSite rack1",
    ),
    case(
        "provider_routes_lead_somewhere",
        added(PROVIDER_ROUTE, ("192.168.78.0/24", "0.0.0.0/0")),
        "0.0.0.0/0",
        "ProviderRoute way: spec.prefix: the gateway of NetworkSite rack1 is the way to 0.0.0.0/0",
    ),
    case(
        "provider_routes_are_unique",
        added(PROVIDER_ROUTE + "---\n" + PROVIDER_ROUTE.replace("way", "way2").replace("77.2", "77.3")),
        "192.168.77.3",
        "ProviderRoute way2: spec.prefix: ProviderRoute way leads to 192.168.78.0/24 with metric 0 already",
    ),
    case(
        "customer_routes_lead_somewhere",
        added(ROUTE, ("nextHop: 10.1.1.10", "nextHop: 10.1.9.10")),
        "10.1.9.10",
        "CustomerRoute blue/route: spec.nextHop: 10.1.9.10 is in no subnet of VMNetwork blue/Blue_VMNet",
    ),
    case(
        "customer_routes_lead_somewhere",
        added(ROUTE, ("nextHop: 10.1.1.10", "nextHop: 10.1.1.1")),
        "nextHop: 10.1.1.1",
        "CustomerRoute blue/route: spec.nextHop: 10.1.1.1 is the gateway of 10.1.1.0/24",
    ),
    case(
        "customer_routes_lead_somewhere",
        added(ROUTE, ("nextHop: 10.1.1.10", 'nextHop: "fd00:1:1::10"')),
        'nextHop: "fd00:1:1::10"',
        "CustomerRoute blue/route: spec.nextHop: fd00:1:1::10 is of another family",
    ),
    case(
        "customer_routes_lead_somewhere",
        added(ROUTE, ("10.9.0.0/16", "10.1.2.0/24")),
        "prefix: 10.1.2.0/24",
        "CustomerRoute blue/route: spec.prefix: 10.1.2.0/24 is on link: it is a prefix of"
        " VMSubnet blue/Blue2",
    ),
    case(
        "customer_routes_are_unique",
        added(ROUTE + "---\n" + ROUTE.replace("name: route", "name: route2").replace("1.10}", "1.11}")),
        "nextHop: 10.1.1.11",
        "CustomerRoute blue/route2: spec.prefix: CustomerRoute blue/route leads to 10.9.0.0/16 with metric 0"
        " already",
    ),
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
        "Host h2: spec.providerAddresses[0]: 192.168.77.101 is a provider address of Host h1"
        " at net.yaml:17 already",
    ),
    case(
        "provider_addresses_are_unique",
        (WEB_PA, 'providerAddresses: [192.168.77.9, "fd77::110"]'),
        "192.168.77.9,",
        "Port blue/web: spec.providerAddresses[0]: 192.168.77.9 is a provider address of Host ovs1"
        " at net.yaml:31 already",
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
        "existing_devices_are_the_hosts",
        ("{tap: eth0, netns: blue-web}", "{device: il0123456789ab}"),
        "{device: il",
        "Port blue/web: spec.attach.device: il0123456789ab is a name of isolane's own devices",
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
        " Host h1 and Host ovs1 are in one VM network, but have no PAs of one family",
        "Host ovs1: spec.providerAddresses:"
        " Host h2 and Host ovs1 are in one VM network, but have no PAs of one family",
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
    case(
        "references_exist",
        at_the_end(SHARED, ("host: ovs1", "host: h9")),
        "host: h9",
        "ProviderAddress more: spec.host: there is no Host h9",
    ),
    case(
        "provider_addresses_are_on_site",
        at_the_end(SHARED, ("77.120", "79.120")),
        "192.168.79.120",
        "ProviderAddress more: spec.providerAddress: 192.168.79.120 is in no subnet of NetworkSite rack1,"
        " where Host ovs1 is",
    ),
    case(
        "provider_addresses_are_unique",
        at_the_end(SHARED, ("77.120", "77.110")),
        "192.168.77.110, host",
        "ProviderAddress more: spec.providerAddress: 192.168.77.110 is a provider address of Port blue/web"
        " at net.yaml:59 already",
    ),
    case(
        "provider_addresses_are_unique",
        at_the_end(
            RECORD, *BEHIND_WEB, ("port: web", "port: web, rule: rewrite, providerAddress: 192.168.77.101")
        ),
        "rule: rewrite",
        "LookupRecord blue/far: spec.providerAddress: 192.168.77.101 is a provider address of Host h1"
        " at net.yaml:17 already",
    ),
    case(
        "provider_address_objects_fit_their_host",
        at_the_end(SHARED, ("prefixLength: 24", "prefixLength: 25")),
        "prefixLength: 25",
        "ProviderAddress more: spec.prefixLength: 25 is not the prefix length of 192.168.77.0/24"
        " of NetworkSite rack1",
    ),
    case(
        "provider_address_objects_fit_their_host",
        at_the_end(SHARED, ("77:09", "77:08")),
        "77:08",
        "ProviderAddress more: spec.macAddress: 02:00:00:00:77:08 is not the underlay MAC of Host ovs1,"
        " 02:00:00:00:77:09",
    ),
    case(
        "customer_routes_name_the_subnet_of_their_next_hop",
        at_the_end(ROUTE, ("10.1.1.10}", "10.1.1.10, virtualSubnetId: 5002}")),
        "virtualSubnetId",
        "CustomerRoute blue/route: spec.virtualSubnetId: 10.1.1.10 is in VMSubnet blue/Blue1 at net.yaml:43"
        " with VSID 5001, not 5002",
    ),
    case(
        "records_are_in_a_subnet_of_their_tenant",
        at_the_end(RECORD, ("5002", "5009")),
        "5009",
        "LookupRecord blue/far: spec.virtualSubnetId: no VMSubnet of tenant blue has VSID 5009",
    ),
    case(
        "records_are_in_a_subnet_of_their_tenant",
        [("vsid: 5002", "translation: nvgre"), at_the_end(RECORD, ("5002", "4099"))],
        "4099",
        "LookupRecord blue/far: spec.virtualSubnetId: no VMSubnet of tenant blue has VSID 4099",
    ),
    case(
        "records_are_in_a_subnet_of_their_tenant",
        at_the_end(RED_SUBNET + RECORD, ("Id: 5002", "Id: 6001"), ("10.1.2.30", "10.1.1.30")),
        "virtualSubnetId: 6001",
        "LookupRecord blue/far: spec.virtualSubnetId: 6001 is the VSID of VMSubnet red/Red1 at net.yaml:91,"
        " of another tenant",
    ),
    case(
        "record_types_are_supported",
        at_the_end(RECORD, ("10.1.2.30", "0.0.0.0"), ("ovs1}", "ovs1, type: l2only}")),
        "l2only",
        "LookupRecord blue/far: spec.type: l2only records, of VMs whose addresses are still to be learned,"
        " are not supported yet",
    ),
    case(
        "record_addresses_fit_their_type",
        at_the_end(RECORD, ("ovs1}", "ovs1, type: gateway-wildcard}")),
        "gateway-wildcard",
        "LookupRecord blue/far: spec.customerAddress: 10.1.2.30: that of a gateway-wildcard record is"
        " 0.0.0.0 or ::",
    ),
    case(
        "record_addresses_fit_their_type",
        at_the_end(RECORD, ("10.1.2.30", '"::"'), ("ovs1}", "ovs1, type: dynamic}")),
        "dynamic",
        "LookupRecord blue/far: spec.customerAddress: ::: that of a dynamic record is an address of its own",
    ),
    case(
        "record_addresses_fit_their_type",
        at_the_end(RECORD, ("10.1.2.30", "10.1.1.30")),
        "10.1.1.30",
        "LookupRecord blue/far: spec.customerAddress: 10.1.1.30 is in no prefix of VMSubnet blue/Blue2",
    ),
    case(
        "record_addresses_fit_their_type",
        at_the_end(RECORD, ("10.1.2.30", "10.1.2.254")),
        "10.1.2.254, mac",
        "LookupRecord blue/far: spec.customerAddress: 10.1.2.254 is the gateway of 10.1.2.0/24",
    ),
    case(
        "records_are_unique_in_a_subnet",
        at_the_end(RECORD, ("10.1.2.30", "10.1.2.20")),
        "10.1.2.20, mac",
        "LookupRecord blue/far: spec.customerAddress: 10.1.2.20 is an address of Port blue/db"
        " at net.yaml:78 already",
    ),
    case(
        "records_are_unique_in_a_subnet",
        at_the_end(f"{RECORD}---\n{RECORD.replace('far', 'far2').replace('ovs1}', 'ovs1} # 2')}"),
        " # 2",
        "LookupRecord blue/far2: spec.customerAddress: 10.1.2.30 is the customer address of LookupRecord"
        " blue/far at net.yaml:87 already",
    ),
    case(
        "record_macs_are_unique_in_a_subnet",
        at_the_end(RECORD, ("00:00:30", "00:01:20")),
        "10.1.2.30",
        "LookupRecord blue/far: spec.macAddress: 02:bb:00:00:01:20 is the MAC of Port blue/db"
        " at net.yaml:78 already",
    ),
    case(
        "record_macs_are_unique_in_a_subnet",
        [
            before_first(
                "kind: Host\nmetadata: {name: ovs2}\nspec: {site: rack1, managed: false,"
                " providerAddresses: [192.168.77.8]}\n"
            ),
            at_the_end(
                f"{RECORD}---\n"
                + changed(RECORD, ("far", "far2"), ("10.1.2.30", "10.1.2.31"), ("ovs1", "ovs2"))
            ),
        ],
        "10.1.2.31",
        "LookupRecord blue/far2: spec.macAddress: 02:bb:00:00:00:30 is the MAC of LookupRecord blue/far"
        " at net.yaml:91 already",
    ),
    case(
        "records_are_where_their_port_is",
        at_the_end(RECORD, ("host: ovs1", "host: h1")),
        "10.1.2.30",
        "LookupRecord blue/far: spec.port: missing: Host h1 is managed, and knows addresses behind its"
        " ports only",
    ),
    case(
        "records_are_where_their_port_is",
        at_the_end(RECORD, *BEHIND_WEB, ("host: h1", "host: h2")),
        "host: h2, port: web",
        "LookupRecord blue/far: spec.host: Port blue/web at net.yaml:59 is on Host h1, not on Host h2",
    ),
    case(
        "records_are_where_their_port_is",
        at_the_end(RECORD, *BEHIND_WEB[2:]),
        "10.1.2.30",
        "LookupRecord blue/far: spec.virtualSubnetId: Port blue/web at net.yaml:59 is in VMSubnet blue/Blue1,"
        " not in VMSubnet blue/Blue2",
    ),
    case(
        "records_are_where_their_port_is",
        at_the_end(RECORD, *BEHIND_WEB, ("bb:00:00:00:10", "bb:00:00:00:11")),
        "10.1.1.30",
        "LookupRecord blue/far: spec.macAddress: Port blue/web at net.yaml:59 has MAC 02:bb:00:00:00:10,"
        " not 02:bb:00:00:00:11",
    ),
    case(
        "rewrite_records_have_a_pa_of_their_own",
        at_the_end(RECORD, *BEHIND_WEB, ("web}", "web, rule: rewrite}")),
        "10.1.1.30",
        "LookupRecord blue/far: spec.providerAddress: missing: under rewrite each customer address has one"
        " of its own",
    ),
    case(
        "rewrite_records_have_a_pa_of_their_own",
        at_the_end(RECORD, *BEHIND_WEB, ("web}", 'web, rule: rewrite, providerAddress: "fd77::30"}')),
        "10.1.1.30",
        "LookupRecord blue/far: spec.providerAddress: fd77::30 is not of the family of 10.1.1.30, which"
        " rewrite can't change",
    ),
    case(
        "rewrite_records_have_a_pa_of_their_own",
        at_the_end(
            RECORD,
            *BEHIND_WEB,
            ("10.1.1.30", "0.0.0.0"),
            ("web}", "web, type: gateway-wildcard, rule: rewrite}"),
        ),
        "rule: rewrite",
        "LookupRecord blue/far: spec.rule: a gateway-wildcard record has no address that could be rewritten:"
        " nvgre",
    ),
    case(
        "rewrite_records_have_a_pa_of_their_own",
        at_the_end(RECORD, ("ovs1}", "ovs1, rule: rewrite, providerAddress: 192.168.77.30}")),
        "rule: rewrite",
        "LookupRecord blue/far: spec.host: Host ovs1 is unmanaged and speaks NVGRE only, but the record is"
        " carried by rewrite",
    ),
    case(
        "nvgre_records_lead_to_their_host",
        at_the_end(RECORD, ("ovs1}", "ovs1, providerAddress: 192.168.77.101}")),
        "host: ovs1, provider",
        "LookupRecord blue/far: spec.providerAddress: 192.168.77.101 is no shared provider address of"
        " Host ovs1 at net.yaml:31 but of Host h1 at net.yaml:17",
    ),
    case(
        "nvgre_records_lead_to_their_host",
        [
            ("  providerAddresses: [192.168.77.101]\n", ""),
            at_the_end(RECORD, *BEHIND_WEB, ("web}", "web, providerAddress: 192.168.77.3}")),
        ],
        "192.168.77.3}",
        "LookupRecord blue/far: spec.providerAddress: 192.168.77.3 is no shared provider address of"
        " Host h1 at net.yaml:17",
    ),
    case(
        "peers_have_the_family_of_stated_pas",
        [
            (OVS_PA, 'providerAddresses: [192.168.77.9, "fd77::9"]'),
            at_the_end(RECORD, ("ovs1}", 'ovs1, providerAddress: "fd77::9"}')),
        ],
        "10.1.2.30",
        "LookupRecord blue/far: spec.providerAddress: Host h1 is in VMNetwork blue/Blue_VMNet too, but has no"
        " IPv6 provider address",
        "LookupRecord blue/far: spec.providerAddress: Host h2 is in VMNetwork blue/Blue_VMNet too, but has no"
        " IPv6 provider address",
    ),
    case(
        "hosts_of_records_are_on_the_logical_network",
        [
            before_first(
                "kind: LogicalNetwork\nmetadata: {name: other}\n---\n"
                + RACK2.replace("NET", "other")
                + "---\nkind: Host\nmetadata: {name: ovs2}\nspec: {site: rack2, managed: false,"
                " providerAddresses: [192.168.78.9]}\n"
            ),
            at_the_end(RECORD, ("ovs1", "ovs2")),
        ],
        "host: ovs2",
        "LookupRecord blue/far: spec.host: Host ovs2 is on other, but VMNetwork blue/Blue_VMNet on fabric",
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
