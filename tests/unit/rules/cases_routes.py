"""Of policy/rules/routes.py."""

from tests.unit.rules.case import PROVIDER_ROUTE, ROUTE, Case, added, at_the_end, case

CASES: list[Case] = [
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
        "ProviderRoute way2: spec.prefix: ProviderRoute way at net.yaml:3 leads to 192.168.78.0/24"
        " with metric 0 already",
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
        "CustomerRoute blue/route2: spec.prefix: CustomerRoute blue/route at net.yaml:3 leads to"
        " 10.9.0.0/16 with metric 0"
        " already",
    ),
    case(
        "customer_routes_name_the_subnet_of_their_next_hop",
        at_the_end(ROUTE, ("10.1.1.10}", "10.1.1.10, virtualSubnetId: 5002}")),
        "virtualSubnetId",
        "CustomerRoute blue/route: spec.virtualSubnetId: 10.1.1.10 is in VMSubnet blue/Blue1 at net.yaml:43"
        " with VSID 5001, not 5002",
    ),
]
