"""Hosts with ports or records in one VM network reach each other. Of the complete policy: it depends on
addresses that are allocated.

A network can be on all hosts there are. So what is compared are never pairs of hosts but kinds of hosts, of
which there are few, and of each of them the first host by name is the one that is told of.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from operator import itemgetter
from typing import NamedTuple

from policy.errors import ObjectId
from policy.kinds.model import (
    IPV6_MIN_MTU,
    NVGRE_OVERHEAD,
    Host,
    LookupRecord,
    Policy,
    Prefix,
    Translation,
    VMSubnet,
)
from policy.rules.uses import Problems

Versions = frozenset[int]
"""IP versions."""


class Kind(NamedTuple):
    """What a host is in a VM network, as far as others there depend on it.

    shared: of its shared PAs; rewrite: of its rewrite PAs in the network; stated: of the shared PAs by which
    records there say that it is to be reached.
    """

    managed: bool
    shared: Versions
    rewrite: Versions
    stated: Versions

    def versions_to(self, peer: "Kind") -> set[int]:
        """Of the packets that it sends to hosts of another kind."""
        shared = min(self.shared & peer.shared, default=None)
        return {*(self.rewrite & peer.rewrite), *peer.stated, *(() if shared is None else (shared,))}


class Unreached(NamedTuple):
    """What a site has no way to: another site; and the hosts that need one. The first by name count."""

    site: str
    host: str
    peer: str


def underlay_mtus_carry_ipv6(policy: Policy) -> Problems:
    """Every underlay carries an NVGRE packet around an IPv6 packet of the least MTU there is."""
    for host in policy.endpoint_by_name.values():
        least = IPV6_MIN_MTU + max(NVGRE_OVERHEAD[pa.version] for pa in host.provider_addresses)
        if host.underlay.mtu < least:
            text = (
                f"{host.underlay.mtu} is too small: NVGRE around an IPv6 packet of {IPV6_MIN_MTU} is {least}"
            )
            yield policy.problem(host.id, "spec.underlay.mtu", text)


# ---- a family in common ----------------------------------------------------------------------------


def peers_share_a_family(policy: Policy) -> Problems:
    """Of the hosts that have PAs of one family only those are told who are stated in a file, where they can
    be mended, else the fewer ones; each once.
    """
    told: dict[str, list[str]] = {}
    for hosts in _hosts_of_networks(policy).values():
        only4, only6 = ([name for name in sorted(hosts) if _only(policy, name, each)] for each in (4, 6))
        if only4 and only6:
            few, many = sorted((only6, only4), key=lambda names: _reluctance(policy, names))
            stated = [name for name in few if not _is_stored(policy, name)]
            told |= {name: many for name in stated or few if name not in told}
    for name, others in sorted(told.items()):
        text = f"{_host(name)} and {_host(others[0])} are in one VM network, but have no PAs of one family"
        text += f"; the same with {len(others) - 1} more" if len(others) > 1 else ""
        yield policy.problem(_host(name), "spec.providerAddresses", text)


def _only(policy: Policy, host: str, version: int) -> bool:
    return {pa.version for pa in policy.endpoint_by_name[host].provider_addresses} == {version}


def _reluctance(policy: Policy, hosts: Iterable[str]) -> tuple[bool, int]:
    """Whom a problem is told to: the lower ones."""
    hosts = list(hosts)
    return all(_is_stored(policy, name) for name in hosts), len(hosts)


def _is_stored(policy: Policy, host: str) -> bool:
    return policy.is_stored(_host(host))


def nvgre_family(host: Host, peer: Host) -> int:
    """The IP version of the shared PAs between two hosts: 4 if both have one, else 6, else 0."""
    shared = {pa.version for pa in host.provider_addresses} & {pa.version for pa in peer.provider_addresses}
    return min(shared, default=0)


# ---- ways between sites ----------------------------------------------------------------------------


def peers_are_routed(policy: Policy) -> Problems:
    """The site of a managed host reaches PAs on other sites by a gateway of their family, or by routes."""
    found: dict[tuple[str, int], Unreached] = {}
    reach = _Reach(policy)
    for hosts in _kinds_of_networks(policy):
        for key, unreached in _unreached(hosts, reach):
            found[key] = min(found.get(key, unreached), unreached)
    for (site, version), (other, host, peer) in sorted(found.items()):
        text = f"no IPv{version} gateway, by which {_host(host)} would reach {_host(peer)} on {other}"
        yield policy.problem(policy.site_by_name[site].id, "spec.subnets", text)


FirstOfKind = Mapping[Kind, str]
"""The first host by name of each kind."""


def _unreached(
    sites: Mapping[str, FirstOfKind], reach: "_Reach"
) -> Iterator[tuple[tuple[str, int], Unreached]]:
    """Of one network, whose hosts are given by site: (site, IP version) and what it does not reach by it."""
    alike: dict[frozenset[Kind], list[str]] = {}
    for site in sorted(sites) if len(sites) > 1 else ():
        alike.setdefault(frozenset(sites[site]), []).append(site)
    for site, version in product(sorted(sites), (4, 6)):
        if reach.is_everywhere(site, version):
            continue
        for kinds, others in alike.items():
            if any(version in _needed(*pair) for pair in product(sites[site], kinds)):
                other = reach.first_beyond(site, others, version)
                if other is not None:
                    pairs = product(sites[site].items(), sites[other].items())
                    names = min((h, p) for (one, h), (peer, p) in pairs if version in _needed(one, peer))
                    yield (site, version), Unreached(other, *names)


def _needed(kind: Kind, peer: Kind) -> set[int]:
    return kind.versions_to(peer) if kind.managed else set()


class _Reach:
    """Which sites a site has a way to."""

    def __init__(self, policy: Policy) -> None:
        self._sites = policy.site_by_name
        self._prefixes: dict[tuple[str, int], list[Prefix]] = {}
        for route in policy.provider_routes:
            if route.prefix is not None:
                self._prefixes.setdefault((route.site, route.prefix.version), []).append(route.prefix)
        self._ways: dict[tuple[str, int], list[tuple[int, int]]] = {}

    def is_everywhere(self, site: str, version: int) -> bool:
        """Whether it has a way to all others: a gateway, or a route like one."""
        subnets = self._sites[site].subnets
        gateway = any(subnet.gateway and subnet.gateway.version == version for subnet in subnets)
        return gateway or any(not prefix.prefixlen for prefix in self._prefixes.get((site, version), ()))

    def first_beyond(self, site: str, others: Iterable[str], version: int) -> str | None:
        """The first of the other sites that it has no way to."""
        return next((each for each in others if each != site and not self._leads(site, each, version)), None)

    def _leads(self, site: str, other: str, version: int) -> bool:
        """By ProviderRoutes to all of the other site's subnets of an IP version."""
        if (site, version) not in self._ways:
            self._ways[site, version] = _joined(self._prefixes.get((site, version), ()))
        ways = self._ways[site, version]
        for subnet in self._sites[other].subnets:
            if subnet.prefix.version == version:
                first = int(subnet.prefix.network_address)
                place = bisect_right(ways, first, key=itemgetter(0)) - 1
                if place < 0 or ways[place][1] < first:
                    return False
        return True


def _joined(prefixes: Iterable[Prefix]) -> list[tuple[int, int]]:
    """First and last address of each that does not lie in another; in order."""
    joined: list[tuple[int, int]] = []
    for prefix in sorted(prefixes, key=lambda each: (int(each.network_address), each.prefixlen)):
        if not joined or joined[-1][1] < int(prefix.network_address):
            joined.append((int(prefix.network_address), int(prefix.broadcast_address)))
    return joined


def _kinds_of_networks(policy: Policy) -> Iterator[dict[str, dict[Kind, str]]]:
    """Of each VM network: site -> kinds of the hosts there -> the first host of the kind by name."""
    stated: dict[tuple[ObjectId, str], set[int]] = {}
    for record, subnet in _leading_records(policy):
        assert record.provider_address is not None
        stated.setdefault((subnet.network_id, record.host), set()).add(record.provider_address.version)
    shared = {
        name: frozenset(pa.version for pa in host.provider_addresses)
        for name, host in policy.endpoint_by_name.items()
    }
    for network, hosts in _hosts_of_networks(policy).items():
        sites: dict[str, dict[Kind, str]] = {}
        for name in sorted(hosts):
            host = policy.host_by_name[name]
            led = frozenset(stated.get((network, name), ()))
            kind = Kind(host.managed, shared[name], frozenset(hosts[name]), led)
            sites.setdefault(host.site, {}).setdefault(kind, name)
        yield sites


# ---- records that state a PA -----------------------------------------------------------------------


def peers_have_the_family_of_stated_pas(policy: Policy) -> Problems:
    """Whoever sends to a record's stated PA has a shared one of its family to send from."""
    leading = list(_leading_records(policy))
    hosts = _hosts_of_networks(policy) if leading else {}
    without: dict[tuple[ObjectId, int], dict[str, None]] = {}
    for record, subnet in leading:
        assert record.provider_address is not None
        version, network = record.provider_address.version, subnet.network_id
        if (network, version) not in without:
            without[network, version] = dict.fromkeys(_without(policy, hosts[network], version))
        names = without[network, version]  # host -> None, in order
        first = next((name for name in names if name != record.host), None)
        if first is not None:
            text = f"{_host(first)} is in {network} too, but has no IPv{version} provider address"
            more = len(names) - 1 - (record.host in names)
            text += f"; nor have {more} more" if more else ""
            yield policy.problem(record.id, "spec.providerAddress", text)


def _without(policy: Policy, hosts: Iterable[str], version: int) -> Iterator[str]:
    """Managed hosts without a shared PA of an IP version, by name."""
    for name in sorted(hosts):
        host = policy.endpoint_by_name[name]
        if host.managed and all(pa.version != version for pa in host.provider_addresses):
            yield name


def _leading_records(policy: Policy) -> Iterator[tuple[LookupRecord, VMSubnet]]:
    """The records that say by which shared PA their host is to be reached, and the subnets they are in."""
    for record in policy.lookup_records:
        subnet = policy.subnet_of(record)
        if subnet and record.provider_address is not None and record.rule is Translation.NVGRE:
            yield record, subnet


# ---- who is where ----------------------------------------------------------------------------------


def _hosts_of_networks(policy: Policy) -> dict[ObjectId, dict[str, set[int]]]:
    """VM network -> hosts in it, those elsewhere among them -> IP versions of their rewrite PAs there."""
    networks: dict[ObjectId, dict[str, set[int]]] = {}
    of_subnet: dict[ObjectId, dict[str, set[int]]] = {}
    for subnet in policy.vm_subnets:
        of_subnet[subnet.id] = networks.setdefault(subnet.network_id, {})
    for subnet_id, ports in policy.ports_by_subnet.items():
        hosts = of_subnet[subnet_id]
        for port in ports:
            versions = hosts.setdefault(port.host, set())
            if port.provider_addresses:
                versions.update(pa.version for pa in port.provider_addresses)
    for record in policy.lookup_records:
        if home := policy.subnet_of(record):
            versions = networks[home.network_id].setdefault(record.host, set())
            if record.rule is Translation.REWRITE and record.provider_address is not None:
                versions.add(record.provider_address.version)
    for network, others in policy.elsewhere.items():
        hosts = networks.setdefault(network, {})
        for name, versions in others.items():
            hosts.setdefault(name, set()).update(versions)
    return networks


def _host(name: str) -> ObjectId:
    return ObjectId("Host", "", name)
