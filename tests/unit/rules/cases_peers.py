"""Of policy/rules/peers.py."""

from tests.unit.rules.case import (
    H1_PA,
    OVS_ON_RACK2,
    OVS_PA,
    RACK2,
    RECORD,
    Case,
    at_the_end,
    before_first,
    case,
)

CASES: list[Case] = [
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
        " Host ovs1 and Host h1 are in one VM network, but have no PAs of one family; the same with 1 more",
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
    ),
    case(
        "peers_have_the_family_of_stated_pas",
        [
            (OVS_PA, 'providerAddresses: [192.168.77.9, "fd77::9"]'),
            at_the_end(RECORD, ("ovs1}", 'ovs1, providerAddress: "fd77::9"}')),
        ],
        "10.1.2.30",
        "LookupRecord blue/far: spec.providerAddress: Host h1 is in VMNetwork blue/Blue_VMNet too, but has no"
        " IPv6 provider address; nor have 1 more",
    ),
]
