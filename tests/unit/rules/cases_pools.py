"""Of policy/rules/pools.py."""

from tests.unit.rules.case import MACS, POOL, Case, added, case

CASES: list[Case] = [
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
        "IPPool blue/pool2: spec.range: overlaps the pool of IPPool blue/pool at net.yaml:3",
    ),
    case(
        "pools_do_not_overlap",
        added(
            "kind: IPPool\nmetadata: {name: more}\n"
            "spec: {site: rack1, range: 192.168.77.250-192.168.77.252}\n"
        ),
        "192.168.77.250-192.168.77.252",
        "IPPool more: spec.range: overlaps the pool of NetworkSite rack1 at net.yaml:14",
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
        "MACPool more: spec.range: overlaps the pool of MACPool macs at net.yaml:3",
    ),
]
