"""Of policy/rules/tenant.py."""

from tests.unit.rules.case import OVS_ON_RACK2, RACK2, WEB_CA, WEB_PA, Case, before_first, case

CASES: list[Case] = [
    case(
        "prefixes_do_not_overlap_in_a_vm_network",
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.0/24, 10.1.1.64/26]"),
        "10.1.1.64/26",
        "VMSubnet blue/Blue2: spec.prefixes[1]: 10.1.1.64/26 overlaps 10.1.1.0/24 of VMSubnet"
        " blue/Blue1 at net.yaml:46"
        " in VMNetwork blue/Blue_VMNet",
    ),
    case(
        "prefixes_do_not_overlap_in_a_vm_network",
        ("prefixes: [10.1.2.0/24]", "prefixes: [10.1.2.0/24, 10.1.2.0/24]"),
        "prefixes: [10.1.2.0/24",
        "VMSubnet blue/Blue2: spec.prefixes[1]: 10.1.2.0/24 overlaps 10.1.2.0/24 of VMSubnet"
        " blue/Blue2 at net.yaml:54"
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
        ("vsid: 5002", "vsid: 5001 # again"),
        "# again",
        "VMSubnet blue/Blue2: spec.vsid: 5001 is the VSID of VMSubnet blue/Blue1 at net.yaml:47 already",
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
        "Port blue/web: spec.addresses[0]: 10.1.1.20 is an address of Port blue/app at net.yaml:73 already",
    ),
    case(
        "customer_addresses_are_unique_in_a_subnet",
        ("addresses: [10.1.1.20]", 'addresses: ["fd00:1:1::20", "fd00:1:1::0020"]'),
        "fd00:1:1::0020",
        "Port blue/app: spec.addresses[1]: fd00:1:1::20 is an address of Port blue/app at"
        " net.yaml:73 already",
    ),
    case(
        "macs_are_unique_in_a_subnet",
        ("02:bb:00:00:00:10", "02:BB:00:00:00:20"),
        "02:BB",
        "Port blue/web: spec.mac: 02:bb:00:00:00:20 is the MAC of Port blue/app at net.yaml:74 already",
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
        "Port blue/web: spec.attach.tap: eth0 is the device of Port blue/app at net.yaml:75 already",
    ),
    case(
        "devices_are_used_once",
        ("{tap: eth0, netns: blue-web}", "{device: u1}"),
        "{device: u1}",
        "Port blue/web: spec.attach.device: u1 is the underlay of Host h1 at net.yaml:21 already",
    ),
    case(
        "devices_are_used_once",
        ("{tap: eth0, netns: blue-web}", "{vm: u1}"),
        "{vm: u1}",
        "Port blue/web: spec.attach.vm: u1 is the underlay of Host h1 at net.yaml:21 already",
    ),
    case(
        "devices_of_the_host_are_no_host_ends",
        ("{tap: eth0, netns: blue-web}", "{vm: il0123456789ab}"),
        "{vm: il",
        "Port blue/web: spec.attach.vm: il0123456789ab is a name of isolane's own devices",
    ),
    case(
        "devices_of_the_host_are_no_host_ends",
        ("{tap: eth0, netns: blue-web}", "{device: il0123456789ab}"),
        "{device: il",
        "Port blue/web: spec.attach.device: il0123456789ab is a name of isolane's own devices",
    ),
]
