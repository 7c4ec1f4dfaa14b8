"""Of policy/rules/fabric.py."""

from tests.unit.rules.case import (
    BEHIND_WEB,
    H1_PA,
    H2_PA,
    RECORD,
    SHARED,
    WEB_PA,
    Case,
    at_the_end,
    case,
    site_subnet,
)

CASES: list[Case] = [
    case(
        "site_subnets_do_not_overlap",
        site_subnet("prefix: 192.168.77.128/25"),
        "192.168.77.128/25",
        "NetworkSite rack1: spec.subnets[2].prefix:"
        " 192.168.77.128/25 overlaps 192.168.77.0/24 of NetworkSite rack1 at net.yaml:9",
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
        " at net.yaml:20 already",
    ),
    case(
        "provider_addresses_are_unique",
        (WEB_PA, 'providerAddresses: [192.168.77.9, "fd77::110"]'),
        "192.168.77.9,",
        "Port blue/web: spec.providerAddresses[0]: 192.168.77.9 is a provider address of Host ovs1"
        " at net.yaml:35 already",
    ),
    case(
        "underlay_macs_are_unique",
        ("02:00:00:00:77:02", "02:00:00:00:77:01"),
        "interface: u2",
        "Host h2: spec.underlay.mac: 02:00:00:00:77:01 is the MAC of Host h1 at net.yaml:21 already",
    ),
    case(
        "underlay_macs_are_unique",
        ("02:00:00:00:77:02", "02-00-00-00-77-FE"),
        "interface: u2",
        "Host h2: spec.underlay.mac:"
        " 02:00:00:00:77:fe is the MAC of the gateway of NetworkSite rack1 at net.yaml:12 already",
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
        " at net.yaml:65 already",
    ),
    case(
        "provider_addresses_are_unique",
        at_the_end(
            RECORD, *BEHIND_WEB, ("port: web", "port: web, rule: rewrite, providerAddress: 192.168.77.101")
        ),
        "rule: rewrite",
        "LookupRecord blue/far: spec.providerAddress: 192.168.77.101 is a provider address of Host h1"
        " at net.yaml:20 already",
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
]
