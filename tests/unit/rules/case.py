"""A right manifest made wrong in one place, and what is then reported: the parts that cases are made of."""

from dataclasses import dataclass


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
