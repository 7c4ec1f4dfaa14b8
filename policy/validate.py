"""Rules that reach across objects. Each is a function named for what it holds true, from intent to problems.

`check_intent` looks at what is stated; what is left out, or could not be read, breaks no rule here.
`check_policy` looks at the complete policy, where only what depends on allocated addresses remains to be
checked.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby, pairwise, permutations, product
from operator import attrgetter
from typing import Any, NamedTuple

from policy.errors import ObjectId, Problem
from policy.model import (
    IPV6_MIN_MTU,
    NVGRE_OVERHEAD,
    UNDERLAY_PORT,
    Address,
    AttachKind,
    CustomerRoute,
    Host,
    Intent,
    IPPool,
    LookupRecord,
    NetworkSite,
    Policy,
    Port,
    Prefix,
    ProviderAddress,
    ProviderRoute,
    RecordType,
    Translation,
    VMNetwork,
    VMSubnet,
    mac_value,
)
from policy.notation import write_reserved

MAX_LOCAL_PORTS = 1023
"""Tenant ports of one host: DP_MAX_PORTS less the underlay."""

_HOST_END = re.compile(r"il[0-9a-f]{12}")
"""As dataplane.devices.host_end_name makes them."""

Problems = Iterator[Problem]


class Use(NamedTuple):
    """A value, such as an address or a prefix, and where it is stated: the object and the field's path."""

    value: Any
    owner: ObjectId
    path: str


def check_intent(intent: Intent) -> list[Problem]:
    return [problem for rule in INTENT_RULES for problem in rule(intent)]


def check_policy(policy: Policy) -> list[Problem]:
    return [problem for rule in POLICY_RULES for problem in rule(policy)]


def check_change(before: Intent, after: Intent) -> list[Problem]:
    """What is wrong with the way from one intent to the next; both are as stated."""
    return [problem for rule in CHANGE_RULES for problem in rule(before, after)]


# ---- references ----------------------------------------------------------------------------------


def references_exist(intent: Intent) -> Problems:
    for item in intent.by_id.values():
        for path, target in references(item):
            if target.name and target not in intent.by_id and target not in intent.sources:
                yield intent.problem(item.id, path, f"there is no {target}")


def references(item: object) -> Iterator[tuple[str, ObjectId]]:
    """The fields of an object that name others, and whom. An empty name: left out, or could not be read."""
    match item:
        case NetworkSite():
            yield "spec.logicalNetwork", ObjectId("LogicalNetwork", "", item.logical_network)
        case Host():
            yield "spec.site", ObjectId("NetworkSite", "", item.site)
        case VMNetwork():
            yield "spec.logicalNetwork", ObjectId("LogicalNetwork", "", item.logical_network)
        case VMSubnet():
            yield "spec.vmNetwork", item.network_id
        case Port():
            yield "spec.vmSubnet", item.subnet_id
            yield "spec.host", ObjectId("Host", "", item.host)
        case IPPool():
            yield "spec.site", ObjectId("NetworkSite", "", item.site)
            yield "spec.vmSubnet", item.subnet_id
        case CustomerRoute():
            yield "spec.vmNetwork", item.network_id
        case ProviderRoute():
            yield "spec.site", ObjectId("NetworkSite", "", item.site)
        case ProviderAddress():
            yield "spec.host", ObjectId("Host", "", item.host)
        case LookupRecord():
            yield "spec.host", ObjectId("Host", "", item.host)
            yield "spec.port", item.port_id
        case _:
            pass


def references_in(intent: Intent, item: object) -> Iterator[tuple[str, ObjectId]]:
    """Like references, and what an object names by a value of it that `intent` knows: a VSID."""
    yield from references(item)
    if isinstance(item, LookupRecord) and (subnet := intent.subnet_of(item)):
        yield "spec.virtualSubnetId", subnet.id


def tenants_exist(intent: Intent) -> Problems:
    """Where no Tenant is stated, tenants are whoever is named."""
    known = {tenant.name for tenant in intent.tenants}
    for item in intent.by_id.values() if known else ():
        if item.id.tenant and item.id.tenant not in known:
            yield intent.problem(item.id, "metadata.tenant", f"there is no Tenant {item.id.tenant}")


def port_names_are_unique(intent: Intent) -> Problems:
    twice = _doubled(port.name for port in intent.ports)
    named = (Use(port.name, port.id, "metadata.name") for port in intent.ports if port.name in twice)
    for first, again in _used_twice(intent, named):
        there = f"{first.owner}{_at(intent, first.owner)}"
        text = f"{there} has this name; Port names are unique over all tenants"
        yield intent.problem(again.owner, again.path, text)
    for port in intent.ports:
        if port.name == UNDERLAY_PORT:
            text = f"{UNDERLAY_PORT!r} is the name of the provider-facing port"
            yield intent.problem(port.id, "metadata.name", text)


# ---- provider network ----------------------------------------------------------------------------


def site_subnets_do_not_overlap(intent: Intent) -> Problems:
    stated = [
        Use(subnet.prefix, site.id, f"spec.subnets[{index}].prefix")
        for site in intent.sites
        for index, subnet in enumerate(site.subnets)
    ]
    for first, again in _overlaps(intent, stated):
        text = f"{again.value} overlaps {first.value} of {first.owner}"
        yield intent.problem(again.owner, again.path, text)


def site_subnet_addresses_fit(intent: Intent) -> Problems:
    """paPool and gateway lie in the subnet; one gateway a family, for there is one default route."""
    for site in intent.sites:
        with_gateway: set[int] = set()
        for index, subnet in enumerate(site.subnets):
            path = f"spec.subnets[{index}]"
            pool = subnet.pa_pool
            if pool and not (pool.first in subnet.prefix and pool.last in subnet.prefix):
                yield intent.problem(site.id, f"{path}.paPool", f"{pool} is not inside {subnet.prefix}")
            if subnet.gateway_mac and not subnet.gateway:
                yield intent.problem(site.id, f"{path}.gatewayMac", "there is no gateway that has it")
            if not subnet.gateway:
                continue
            if misfit := _misfit(subnet.gateway, subnet.prefix):
                yield intent.problem(site.id, f"{path}.gateway", misfit)
            if subnet.gateway.version in with_gateway:
                text = f"a second IPv{subnet.gateway.version} gateway of the site"
                yield intent.problem(site.id, f"{path}.gateway", text)
            with_gateway.add(subnet.gateway.version)


def provider_addresses_are_on_site(intent: Intent) -> Problems:
    """Every stated PA lies in a subnet of its host's site and is no one else's there."""
    for owner, host, path, pa in _stated_pas(intent):
        site = intent.site_of(host) if host else None
        if host is None or site is None or not site.subnets:
            continue
        subnet = site.subnet_of(pa)
        if subnet is None:
            text = (
                f"{pa} is in no subnet of {site.id}{_mended_at(intent, owner, site.id)}, where {host.id} is"
            )
            yield intent.problem(owner, path, text)
        elif misfit := _misfit(pa, subnet.prefix, subnet.gateway):
            yield intent.problem(owner, path, f"{misfit}{_mended_at(intent, owner, site.id)}")


def provider_addresses_are_unique(intent: Intent) -> Problems:
    stated = (Use(pa, owner, path) for owner, _, path, pa in _stated_pas(intent))
    for first, again in _used_twice(intent, stated):
        text = f"{again.value} is a provider address of {first.owner}{_at(intent, first.owner)} already"
        yield intent.problem(again.owner, again.path, text)


def underlay_macs_are_unique(intent: Intent) -> Problems:
    """Of hosts, and none is a gateway's; that may have one MAC in several subnets."""
    gateways = {
        subnet.gateway_mac: Use(subnet.gateway_mac, site.id, f"spec.subnets[{index}].gatewayMac")
        for site in intent.sites
        for index, subnet in enumerate(site.subnets)
        if subnet.gateway_mac
    }
    stated = (
        Use(host.underlay.mac, host.id, "spec.underlay.mac") for host in intent.hosts if host.underlay.mac
    )
    for first, again in _used_twice(intent, chain(gateways.values(), stated)):
        whose = f"the gateway of {first.owner}" if first.owner.kind == "NetworkSite" else str(first.owner)
        yield intent.problem(again.owner, again.path, f"{again.value} is the MAC of {whose} already")


def _stated_pas(intent: Intent) -> Iterator[tuple[ObjectId, Host | None, str, Address]]:
    for host in intent.hosts:
        for index, pa in enumerate(host.provider_addresses):
            yield host.id, host, f"spec.providerAddresses[{index}]", pa
    for port in intent.ports:
        for index, pa in enumerate(port.provider_addresses):
            yield port.id, intent.host_by_name.get(port.host), f"spec.providerAddresses[{index}]", pa
    for each in intent.provider_addresses:
        if each.provider_address is not None:
            home = intent.host_by_name.get(each.host)
            yield each.id, home, "spec.providerAddress", each.provider_address
    for record in intent.lookup_records:
        if record.provider_address is not None and record.rule is Translation.REWRITE:
            home = intent.host_by_name.get(record.host)
            yield record.id, home, "spec.providerAddress", record.provider_address


def provider_address_objects_fit_their_host(intent: Intent) -> Problems:
    """What a ProviderAddress says of its subnet and of its device is so."""
    for each in intent.provider_addresses:
        host = intent.host_by_name.get(each.host)
        site = intent.site_of(host) if host else None
        subnet = site.subnet_of(each.provider_address) if site and each.provider_address else None
        if site and subnet and each.prefix_length not in (0, subnet.prefix.prefixlen):
            text = f"{each.prefix_length} is not the prefix length of {subnet.prefix} of {site.id}"
            yield intent.problem(each.id, "spec.prefixLength", text)
        if host and each.mac_address and each.mac_address != host.underlay.mac:
            stated = host.underlay.mac or "which states none"
            text = f"{each.mac_address} is not the underlay MAC of {host.id}, {stated}"
            yield intent.problem(each.id, "spec.macAddress", text)


# ---- pools ---------------------------------------------------------------------------------------


def ip_pools_have_one_place(intent: Intent) -> Problems:
    for pool in intent.ip_pools:
        if bool(pool.site) == bool(pool.vm_subnet):
            found = "both" if pool.site else "neither"
            yield intent.problem(pool.id, "spec", f"expected one of site and vmSubnet, not {found}")
        elif pool.site and pool.tenant:
            yield intent.problem(pool.id, "metadata.tenant", "a site's pool belongs to no tenant")
        elif pool.vm_subnet and not pool.tenant:
            yield intent.problem(pool.id, "metadata.tenant", "missing: the tenant of the VM subnet")


def ip_pools_fit_their_place(intent: Intent) -> Problems:
    """A pool's range lies in one subnet of its place, what is reserved in the range; the gateway is the
    subnet's.
    """
    for pool in intent.ip_pools:
        prefixes = _prefixes_of_place(intent, pool)
        if pool.range is None or not prefixes or (pool.site and pool.vm_subnet):
            continue
        first, last = pool.range.first, pool.range.last
        around = next((prefix for prefix in prefixes if first in prefix and last in prefix), None)
        if around is None:
            names = ", ".join(map(str, prefixes))
            yield intent.problem(pool.id, "spec.range", f"{pool.range} is in none of {names}")
        for index, reserved in enumerate(pool.reserved):
            same_family = reserved.first.version == first.version
            if not same_family or int(reserved.first) < int(first) or int(reserved.last) > int(last):
                text = f"{write_reserved(reserved)} is not inside {pool.range}"
                yield intent.problem(pool.id, f"spec.reserved[{index}]", text)
        gateway = prefixes.get(around) if around else None
        if pool.gateway and around and pool.gateway != gateway:
            text = f"{pool.gateway} is not the gateway of {around}, {gateway or 'which has none'}"
            yield intent.problem(pool.id, "spec.gateway", text)


def pools_do_not_overlap(intent: Intent) -> Problems:
    """In one place; nor do the inline pools of sites. MAC pools are all in one place."""
    spans: dict[ObjectId, list[tuple[int, int, int, Use]]] = {}
    for pool in intent.ip_pools:
        if pool.range is not None:
            place = ObjectId("NetworkSite", "", pool.site) if pool.site else pool.subnet_id
            span = (pool.range.first.version, int(pool.range.first), int(pool.range.last))
            spans.setdefault(place, []).append((*span, Use("", pool.id, "spec.range")))
    for site in intent.sites:
        for index, subnet in enumerate(site.subnets):
            if subnet.pa_pool:
                span = (subnet.prefix.version, int(subnet.pa_pool.first), int(subnet.pa_pool.last))
                use = Use("", site.id, f"spec.subnets[{index}].paPool")
                spans.setdefault(site.id, []).append((*span, use))
    for macs in intent.mac_pools:
        if macs.range:
            first, last = mac_value(macs.range.first), mac_value(macs.range.last)
            spans.setdefault(_MACS, []).append((0, first, last, Use("", macs.id, "spec.range")))
    for place_spans in spans.values():
        for (version, _, end, low), (other, begin, _, high) in pairwise(sorted(place_spans)):
            if version == other and begin <= end:
                there, again = _in_turn(intent, low, high)
                yield intent.problem(again.owner, again.path, f"overlaps the pool of {there.owner}")


_MACS = ObjectId("", "", "")


def _prefixes_of_place(intent: Intent, pool: IPPool) -> dict[Prefix, Address | None]:
    """The prefixes of a pool's site or VM subnet, and their gateways; none where that is not there."""
    if pool.site:
        site = intent.site_by_name.get(pool.site)
        return {subnet.prefix: subnet.gateway for subnet in site.subnets} if site else {}
    subnet_of_pool = intent.subnet_by_id.get(pool.subnet_id)
    if subnet_of_pool is None:
        return {}
    return {prefix: gateway_of(subnet_of_pool, prefix) for prefix in subnet_of_pool.prefixes}


# ---- routes --------------------------------------------------------------------------------------


def customer_routes_lead_somewhere(intent: Intent) -> Problems:
    """The next hop is in a subnet of the VM network and no gateway; the prefix is not one on link there."""
    for route in intent.customer_routes:
        subnets = intent.subnets_by_network.get(route.network_id, [])
        if route.prefix is None or route.next_hop is None or not subnets:
            continue
        home = next((subnet for subnet in subnets if subnet.prefix_of(route.next_hop)), None)
        if route.prefix.version != route.next_hop.version:
            yield intent.problem(route.id, "spec.nextHop", f"{route.next_hop} is of another family")
        elif home is None:
            text = f"{route.next_hop} is in no subnet of {route.network_id}"
            yield intent.problem(route.id, "spec.nextHop", text)
        elif misfit := _misfit_in(home, route.next_hop):
            yield intent.problem(route.id, "spec.nextHop", misfit)
        owner = next((subnet for subnet in subnets if route.prefix in subnet.prefixes), None)
        if owner:
            on_link = Use(route.prefix, owner.id, f"spec.prefixes[{owner.prefixes.index(route.prefix)}]")
            first, again = _in_turn(intent, on_link, Use(route.prefix, route.id, "spec.prefix"))
            text = f"{route.prefix} is on link: it is a prefix of {owner.id}"
            if first.owner == route.id:
                text = f"{route.prefix} is where {route.id} leads already"
            yield intent.problem(again.owner, again.path, text)


def customer_routes_are_unique(intent: Intent) -> Problems:
    yield from _lead_twice(
        intent,
        (
            Use((route.network_id, route.prefix, route.metric), route.id, "spec.prefix")
            for route in intent.customer_routes
            if route.prefix is not None
        ),
    )


def _lead_twice(intent: Intent, routes: Iterable[Use]) -> Problems:
    """The values are places, prefixes and metrics."""
    for first, again in _used_twice(intent, routes):
        _, prefix, metric = again.value
        text = f"{first.owner} leads to {prefix} with metric {metric} already"
        yield intent.problem(again.owner, again.path, text)


def customer_routes_name_the_subnet_of_their_next_hop(intent: Intent) -> Problems:
    """Where they state a VSID."""
    for route in intent.customer_routes:
        subnets = intent.subnets_by_network.get(route.network_id, [])
        hop, vsid = route.next_hop, route.virtual_subnet_id
        home = next((subnet for subnet in subnets if hop and subnet.prefix_of(hop)), None)
        if home and home.vsid and vsid and home.vsid != vsid:
            text = f"{hop} is in {home.id}{_at(intent, home.id)} with VSID {home.vsid}, not {vsid}"
            yield intent.problem(route.id, "spec.virtualSubnetId", text)


def provider_routes_lead_somewhere(intent: Intent) -> Problems:
    """The next hop is on a subnet of the site; the prefix is none of those."""
    for route in intent.provider_routes:
        site = intent.site_by_name.get(route.site)
        if site is None or not site.subnets or route.prefix is None or route.next_hop is None:
            continue
        if route.prefix.version != route.next_hop.version:
            yield intent.problem(route.id, "spec.nextHop", f"{route.next_hop} is of another family")
        elif site.subnet_of(route.next_hop) is None:
            yield intent.problem(route.id, "spec.nextHop", f"{route.next_hop} is in no subnet of {site.id}")
        if taken := _taken_at(site, route.prefix):
            yield intent.problem(route.id, "spec.prefix", taken)


def provider_routes_are_unique(intent: Intent) -> Problems:
    yield from _lead_twice(
        intent,
        (
            Use((route.site, route.prefix, route.metric), route.id, "spec.prefix")
            for route in intent.provider_routes
            if route.prefix is not None
        ),
    )


class Way(NamedTuple):
    """A ProviderRoute of a site that states what it must."""

    owner: ObjectId
    prefix: Prefix
    next_hop: Address


def ways_of(intent: Intent, site: NetworkSite) -> list[Way]:
    """Of several to one prefix the one with the lowest metric."""
    ways: dict[Prefix, Way] = {}
    for route in sorted(intent.provider_routes, key=lambda route: route.metric):
        if route.site == site.name and route.prefix is not None and route.next_hop is not None:
            ways.setdefault(route.prefix, Way(route.id, route.prefix, route.next_hop))
    return list(ways.values())


def way_to(intent: Intent, site: NetworkSite, address: Address) -> Way | None:
    """The site's longest ProviderRoute to an address."""
    ways = (way for way in ways_of(intent, site) if address in way.prefix)
    return max(ways, key=lambda way: way.prefix.prefixlen, default=None)


def _taken_at(site: NetworkSite, prefix: Prefix) -> str:
    """Why a site has a way to the prefix already; "" if it has none."""
    if any(prefix == subnet.prefix for subnet in site.subnets):
        return f"{prefix} is on link at {site.id}"
    gateways = [subnet.gateway for subnet in site.subnets if subnet.gateway]
    if not prefix.prefixlen and any(gateway.version == prefix.version for gateway in gateways):
        return f"the gateway of {site.id} is the way to {prefix}"
    return ""


def _misfit_in(subnet: VMSubnet, address: Address) -> str:
    prefix = subnet.prefix_of(address)
    assert prefix is not None
    return _misfit(address, prefix, gateway_of(subnet, prefix))


# ---- tenant networks -----------------------------------------------------------------------------


def prefixes_do_not_overlap_in_a_vm_network(intent: Intent) -> Problems:
    by_network = attrgetter("network_id")
    for network, subnets in groupby(sorted(intent.vm_subnets, key=by_network), by_network):
        stated = [
            Use(prefix, subnet.id, f"spec.prefixes[{index}]")
            for subnet in subnets
            for index, prefix in enumerate(subnet.prefixes)
        ]
        for first, again in _overlaps(intent, stated):
            text = f"{again.value} overlaps {first.value} of {first.owner} in {network}"
            yield intent.problem(again.owner, again.path, text)


def gateways_fit_their_prefixes(intent: Intent) -> Problems:
    for subnet in intent.vm_subnets:
        taken: set[Prefix] = set()
        for index, gateway in enumerate(subnet.gateways if subnet.prefixes else ()):
            path = f"spec.gateways[{index}]"
            prefix = subnet.prefix_of(gateway)
            if prefix is None:
                yield intent.problem(subnet.id, path, f"{gateway} is in no prefix of the subnet")
                continue
            if misfit := _misfit(gateway, prefix):
                yield intent.problem(subnet.id, path, misfit)
            if prefix in taken:
                yield intent.problem(subnet.id, path, f"a second gateway of {prefix}")
            taken.add(prefix)


def vsids_are_unique(intent: Intent) -> Problems:
    stated = (Use(subnet.vsid, subnet.id, "spec.vsid") for subnet in intent.vm_subnets if subnet.vsid)
    for first, again in _used_twice(intent, stated):
        yield intent.problem(again.owner, again.path, f"{again.value} is the VSID of {first.owner} already")


def addresses_fit_their_subnet(intent: Intent) -> Problems:
    for port in intent.ports:
        subnet = intent.subnet_by_id.get(port.subnet_id)
        if subnet is None or not subnet.prefixes:
            continue
        for index, address in enumerate(port.addresses):
            path = f"spec.addresses[{index}]"
            prefix = subnet.prefix_of(address)
            if prefix is None:
                text = f"{address} is in no prefix of {subnet.id}{_mended_at(intent, port.id, subnet.id)}"
                yield intent.problem(port.id, path, text)
            elif misfit := _misfit(address, prefix, gateway_of(subnet, prefix)):
                yield intent.problem(port.id, path, f"{misfit}{_mended_at(intent, port.id, subnet.id)}")


def customer_addresses_are_unique_in_a_subnet(intent: Intent) -> Problems:
    for ports in intent.ports_by_subnet.values():
        twice = _doubled(address for port in ports for address in port.addresses)
        stated = (
            Use(address, port.id, f"spec.addresses[{index}]")
            for port in ports
            for index, address in enumerate(port.addresses)
            if address in twice
        )
        for first, again in _used_twice(intent, stated):
            text = f"{again.value} is an address of {first.owner} already"
            yield intent.problem(again.owner, again.path, text)


def macs_are_unique_in_a_subnet(intent: Intent) -> Problems:
    for ports in intent.ports_by_subnet.values():
        twice = _doubled(port.mac for port in ports if port.mac)
        stated = (Use(port.mac, port.id, "spec.mac") for port in ports if port.mac in twice)
        for first, again in _used_twice(intent, stated):
            text = f"{again.value} is the MAC of {first.owner} already"
            yield intent.problem(again.owner, again.path, text)


def rewrite_addresses_pair_up(intent: Intent) -> Problems:
    """A stated PA for every CA, in the CAs' order and of their families, in rewrite subnets only."""
    for port in intent.ports:
        subnet = intent.subnet_by_id.get(port.subnet_id)
        if subnet is None or not port.provider_addresses:
            continue
        path = "spec.providerAddresses"
        if subnet.translation is not Translation.REWRITE:
            yield intent.problem(port.id, path, f"{subnet.id} is carried by NVGRE, which uses the host's")
            continue
        versions = [address.version for address in port.addresses]
        if not versions and "spec.addresses" not in intent.sources.get(port.id, {}):
            yield intent.problem(port.id, path, "stated, but spec.addresses is left out")
        elif versions and versions != [pa.version for pa in port.provider_addresses]:
            wanted = ", ".join(f"IPv{version}" for version in versions)
            text = f"expected one for each of spec.addresses, in their order: {wanted}"
            yield intent.problem(port.id, path, text)


def unmanaged_hosts_have_no_rewrite_ports(intent: Intent) -> Problems:
    for port in intent.ports:
        subnet = intent.subnet_by_id.get(port.subnet_id)
        host = intent.host_by_name.get(port.host)
        if subnet and host and not host.managed and subnet.translation is Translation.REWRITE:
            text = f"{host.id} is unmanaged and speaks NVGRE only, but {subnet.id} is carried by rewrite"
            yield intent.problem(port.id, "spec.host", text)


def hosts_are_on_the_logical_network(intent: Intent) -> Problems:
    known = {network.name for network in intent.logical_networks}
    for port in intent.ports:
        subnet = intent.subnet_by_id.get(port.subnet_id)
        if text := _off_the_network(intent, known, subnet, port.host):
            yield intent.problem(port.id, "spec.host", text)


def hosts_of_records_are_on_the_logical_network(intent: Intent) -> Problems:
    known = {network.name for network in intent.logical_networks}
    for record in intent.lookup_records:
        if text := _off_the_network(intent, known, intent.subnet_of(record), record.host):
            yield intent.problem(record.id, "spec.host", text)


def _off_the_network(intent: Intent, known: set[str], subnet: VMSubnet | None, host_name: str) -> str:
    """Why a host can't have what is in the subnet; "" if it can, or if that can't be said."""
    network = intent.by_id.get(subnet.network_id) if subnet else None
    host = intent.host_by_name.get(host_name)
    site = intent.site_of(host) if host else None
    if not isinstance(network, VMNetwork) or host is None or site is None:
        return ""
    wanted, found = network.logical_network, site.logical_network
    if wanted == found or not {wanted, found} <= known:
        return ""
    return f"{host.id} is on {found}, but {network.id} on {wanted}"


def devices_are_used_once(intent: Intent) -> Problems:
    underlays = (
        Use((host.name, "", host.underlay.interface), host.id, "spec.underlay.interface")
        for host in intent.hosts
    )
    devices = (
        Use((port.host, at.netns, at.device), port.id, f"spec.attach.{at.kind}")
        for port in intent.ports
        if (at := port.attach) is not None
    )
    for first, again in _used_twice(intent, chain(underlays, devices)):
        what = "the underlay" if first.owner.kind == "Host" else "the device"
        text = f"{again.value[-1]} is {what} of {first.owner} already"
        yield intent.problem(again.owner, again.path, text)


def existing_devices_are_the_hosts(intent: Intent) -> Problems:
    """Not the host ends of other ports' veths."""
    for port in intent.ports:
        attach = port.attach
        if attach and attach.kind is AttachKind.DEVICE and _HOST_END.fullmatch(attach.device):
            text = f"{attach.device} is a name of isolane's own devices"
            yield intent.problem(port.id, "spec.attach.device", text)


def hosts_hold_their_ports(intent: Intent) -> Problems:
    """The core's limit of a managed host; the first port beyond it is reported, those of the store first."""
    counts = Counter(port.host for port in intent.ports)
    for host in intent.hosts:
        if not host.managed or counts[host.name] <= MAX_LOCAL_PORTS:
            continue
        there = [port.id for port in intent.ports if port.host == host.name]
        beyond = sorted(there, key=lambda port: not intent.is_stored(port))[MAX_LOCAL_PORTS]
        text = f"{host.id} has {MAX_LOCAL_PORTS} ports already, the limit"
        yield intent.problem(beyond, "spec.host", text)


# ---- lookup records ------------------------------------------------------------------------------
#
# Those that look at what others may have been given hold for what is stated, and once more for the policy.


def records_are_in_a_subnet_of_their_tenant(intent: Intent) -> Problems:
    """By a VSID that is stated or was given; which ones will be is not known before."""
    waiting = {subnet.tenant for subnet in intent.vm_subnets if not subnet.vsid}
    for record in intent.lookup_records:
        vsid = record.virtual_subnet_id
        owner = intent.subnet_by_vsid.get(vsid)
        if owner and owner.tenant != record.tenant:
            text = f"{vsid} is the VSID of {owner.id}{_at(intent, owner.id)}, of another tenant"
            yield intent.problem(record.id, "spec.virtualSubnetId", text)
        elif vsid and not owner and record.tenant not in waiting:
            text = f"no VMSubnet of tenant {record.tenant} has VSID {vsid}"
            yield intent.problem(record.id, "spec.virtualSubnetId", text)


def record_types_are_supported(intent: Intent) -> Problems:
    for record in intent.lookup_records:
        if record.type is RecordType.L2ONLY:
            text = "l2only records, of VMs whose addresses are still to be learned, are not supported yet"
            yield intent.problem(record.id, "spec.type", text)


def record_addresses_fit_their_type(intent: Intent) -> Problems:
    """0.0.0.0 or :: if it stands for many; else one that a port of the subnet could have."""
    path = "spec.customerAddress"
    for record in intent.lookup_records:
        address, subnet = record.customer_address, intent.subnet_of(record)
        if address is None:
            continue
        if record.type.is_of_no_address:
            if not address.is_unspecified:
                text = f"{address}: that of a {record.type} record is 0.0.0.0 or ::"
                yield intent.problem(record.id, path, text)
        elif address.is_unspecified:
            text = f"{address}: that of a {record.type} record is an address of its own"
            yield intent.problem(record.id, path, text)
        elif subnet and subnet.prefixes:
            prefix = subnet.prefix_of(address)
            if prefix is None:
                yield intent.problem(record.id, path, f"{address} is in no prefix of {subnet.id}")
            elif misfit := _misfit(address, prefix, gateway_of(subnet, prefix)):
                yield intent.problem(record.id, path, misfit)


def records_are_unique_in_a_subnet(intent: Intent) -> Problems:
    """One record for each customer address, and none for what a Port has by itself."""
    for subnet, records in intent.records_by_subnet.items():
        of_ports = {
            address: Use(address, port.id, f"spec.addresses[{index}]")
            for port in intent.ports_by_subnet.get(subnet, ())
            for index, address in enumerate(port.addresses)
        }
        of_records = (
            Use(record.customer_address, record.id, "spec.customerAddress")
            for record in records
            if record.customer_address is not None
        )
        for first, again in _used_twice(intent, chain(of_ports.values(), of_records)):
            what = "an address" if first.owner.kind == "Port" else "the customer address"
            text = f"{again.value} is {what} of {first.owner}{_at(intent, first.owner)} already"
            yield intent.problem(again.owner, again.path, text)


def record_macs_are_unique_in_a_subnet(intent: Intent) -> Problems:
    """A VM with several addresses has a record for each: those of one MAC are on one host, of one port."""
    for subnet, records in intent.records_by_subnet.items():
        ports = intent.ports_by_subnet.get(subnet, ())
        owners = {port.mac: (port.id, port.host, port.name) for port in ports if port.mac}
        for record in records:
            mac, host, port = record.mac_address, record.host, record.port
            if not mac or not host:
                continue
            first, *place = owners.setdefault(mac, (record.id, host, port))
            # a record that names the port of this MAC, on another host, is told so by another rule
            same = port == place[1] if first.kind == "Port" else [host, port] == place
            if not same:
                path = "spec.mac" if first.kind == "Port" else "spec.macAddress"
                uses = Use(mac, first, path), Use(mac, record.id, "spec.macAddress")
                there, again = _in_turn(intent, *uses)
                text = f"{mac} is the MAC of {there.owner}{_at(intent, there.owner)} already"
                yield intent.problem(again.owner, again.path, text)


def records_are_where_their_port_is(intent: Intent) -> Problems:
    """On its host, in its subnet, with its MAC; on a host that isolane runs on there is no other place."""
    for record in intent.lookup_records:
        host, port = intent.host_by_name.get(record.host), intent.by_id.get(record.port_id)
        stated = "spec.port" in intent.sources.get(record.id, {})
        if host and host.managed and not record.port and not stated:
            text = f"missing: {host.id} is managed, and knows addresses behind its ports only"
            yield intent.problem(record.id, "spec.port", text)
        if not isinstance(port, Port):
            continue
        where = f"{port.id}{_at(intent, port.id)}"
        if host and port.host != record.host:
            text = f"{where} is on Host {port.host}, not on {host.id}"
            yield intent.problem(record.id, "spec.host", text)
        subnet = intent.subnet_of(record)
        if subnet and port.subnet_id != subnet.id:
            text = f"{where} is in VMSubnet {port.subnet_id.qualified_name}, not in {subnet.id}"
            yield intent.problem(record.id, "spec.virtualSubnetId", text)
        if port.mac and record.mac_address and port.mac != record.mac_address:
            text = f"{where} has MAC {port.mac}, not {record.mac_address}"
            yield intent.problem(record.id, "spec.macAddress", text)


def rewrite_records_have_a_pa_of_their_own(intent: Intent) -> Problems:
    """Of the CA's family, on a host that rewrites; a gateway-wildcard has no address to rewrite."""
    for record in intent.lookup_records:
        host = intent.host_by_name.get(record.host)
        ca, pa = record.customer_address, record.provider_address
        if record.rule is not Translation.REWRITE:
            continue
        if record.type.is_of_no_address:
            text = f"a {record.type} record has no address that could be rewritten: nvgre"
            yield intent.problem(record.id, "spec.rule", text)
        elif "spec.providerAddress" not in intent.sources.get(record.id, {}) and pa is None:
            text = "missing: under rewrite each customer address has one of its own"
            yield intent.problem(record.id, "spec.providerAddress", text)
        elif pa and ca and pa.version != ca.version:
            text = f"{pa} is not of the family of {ca}, which rewrite can't change"
            yield intent.problem(record.id, "spec.providerAddress", text)
        if host and not host.managed:
            text = f"{host.id} is unmanaged and speaks NVGRE only, but the record is carried by rewrite"
            yield intent.problem(record.id, "spec.host", text)


def nvgre_records_lead_to_their_host(intent: Intent) -> Problems:
    """A stated PA is a shared one of the record's host, as far as the host's are known."""
    leading = [record for record in intent.lookup_records if record.rule is Translation.NVGRE]
    owners = {pa: owner for owner, _, _, pa in _stated_pas(intent)} if leading else {}
    for record in leading:
        pa, host = record.provider_address, intent.endpoint_by_name.get(record.host)
        if pa is None or host is None:
            continue
        if pa not in host.provider_addresses and not _gets_shared_pas(intent, record.host):
            whose = f" but of {owners[pa]}{_at(intent, owners[pa])}" if pa in owners else ""
            text = f"{pa} is no shared provider address of {host.id}{_at(intent, host.id)}{whose}"
            yield intent.problem(record.id, "spec.providerAddress", text)


def _gets_shared_pas(intent: Intent, host_name: str) -> bool:
    """Whether a host states no PA and is going to be given some."""
    host = intent.host_by_name[host_name]
    site = intent.site_of(host)
    if host.provider_addresses or site is None:
        return False
    return site.id in intent.ip_pools_by_place or any(subnet.pa_pool for subnet in site.subnets)


def records_keep_what_identifies_them(before: Intent, after: Intent) -> Problems:
    """As in HNV, where a record's VSID, CA, MAC and type are immutable."""
    immutable = ("virtualSubnetId", "customerAddress", "macAddress", "type")
    fixed = attrgetter("virtual_subnet_id", "customer_address", "mac_address", "type")
    for record in after.lookup_records:
        old = before.by_id.get(record.id)
        if not isinstance(old, LookupRecord):
            continue
        for name, was, is_now in zip(immutable, fixed(old), fixed(record), strict=True):
            if was != is_now:
                text = f"{was} can't be changed to {is_now}: delete the record first"
                yield after.problem(record.id, f"spec.{name}", text)


# ---- what depends on allocated addresses ---------------------------------------------------------


def underlay_mtus_carry_ipv6(policy: Policy) -> Problems:
    """Every underlay carries an NVGRE packet around an IPv6 packet of the least MTU there is."""
    for host in policy.endpoint_by_name.values():
        least = IPV6_MIN_MTU + max(NVGRE_OVERHEAD[pa.version] for pa in host.provider_addresses)
        if host.underlay.mtu < least:
            text = (
                f"{host.underlay.mtu} is too small: NVGRE around an IPv6 packet of {IPV6_MIN_MTU} is {least}"
            )
            yield policy.problem(host.id, "spec.underlay.mtu", text)


def peers_share_a_family(policy: Policy) -> Problems:
    for one, other in sorted({tuple(sorted(pair)) for pair in _peers(policy)}):
        if not nvgre_family(policy.endpoint_by_name[one], policy.endpoint_by_name[other]):
            text = f"Host {one} and Host {other} are in one VM network, but have no PAs of one family"
            uses = (Use("", ObjectId("Host", "", name), "spec.providerAddresses") for name in (one, other))
            _, again = _in_turn(policy, *uses)
            yield policy.problem(again.owner, again.path, text)


def peers_are_routed(policy: Policy) -> Problems:
    """The site of a managed host reaches PAs on other sites by a gateway of their family, or by routes."""
    for (name, peer_name), rewrite_versions in _peers(policy).items():
        host, peer = policy.endpoint_by_name[name], policy.endpoint_by_name[peer_name]
        site = policy.site_by_name[host.site]
        if peer.site == host.site or not host.managed:
            continue
        routed = {subnet.gateway.version for subnet in site.subnets if subnet.gateway}
        for version in sorted(({nvgre_family(host, peer)} | rewrite_versions) - routed - {0}):
            if _has_ways(policy, site, policy.site_by_name[peer.site], version):
                continue
            text = f"no IPv{version} gateway, by which {host.id} would reach {peer.id} on {peer.site}"
            yield policy.problem(site.id, "spec.subnets", text)


def peers_have_the_family_of_stated_pas(policy: Policy) -> Problems:
    """Whoever sends to a record's stated PA has a shared one of its family to send from."""
    hosts = _hosts_of_networks(policy)
    for record, subnet in _leading_records(policy):
        assert record.provider_address is not None
        version = record.provider_address.version
        for name in sorted(hosts[subnet.network_id].keys() - {record.host}):
            peer = policy.endpoint_by_name[name]
            if peer.managed and all(pa.version != version for pa in peer.provider_addresses):
                text = f"{peer.id} is in {subnet.network_id} too, but has no IPv{version} provider address"
                yield policy.problem(record.id, "spec.providerAddress", text)


def _leading_records(policy: Policy) -> Iterator[tuple[LookupRecord, VMSubnet]]:
    """The records that say by which shared PA their host is to be reached, and the subnets they are in."""
    for record in policy.lookup_records:
        subnet = policy.subnet_of(record)
        if subnet and record.provider_address is not None and record.rule is Translation.NVGRE:
            yield record, subnet


def _has_ways(policy: Policy, site: NetworkSite, other: NetworkSite, version: int) -> bool:
    """By ProviderRoutes to all of the other site's subnets of an IP version."""
    prefixes = [subnet.prefix for subnet in other.subnets if subnet.prefix.version == version]
    return all(way_to(policy, site, prefix.network_address) for prefix in prefixes)


def _peers(policy: Policy) -> dict[tuple[str, str], set[int]]:
    """(host, another with ports or records in the same VM network) -> IP versions of rewrite between them,
    and of the PAs that records of the other state.
    """
    networks = _hosts_of_networks(policy)
    pairs: dict[tuple[str, str], set[int]] = {}
    for network, hosts in networks.items():
        others = policy.elsewhere.get(network, {})
        everywhere = {host: hosts.get(host, set()) | others.get(host, set()) for host in {*hosts, *others}}
        for host, peer in permutations(hosts, 2):
            pairs.setdefault((host, peer), set()).update(everywhere[host] & everywhere[peer])
        for host, peer in product(hosts, others.keys() - hosts.keys()):
            pairs.setdefault((host, peer), set()).update(everywhere[host] & everywhere[peer])
            pairs.setdefault((peer, host), set()).update(everywhere[host] & everywhere[peer])
    for record, subnet in _leading_records(policy):
        assert record.provider_address is not None
        for host in networks[subnet.network_id].keys() - {record.host}:
            pairs[host, record.host].add(record.provider_address.version)
    return pairs


def _hosts_of_networks(policy: Policy) -> dict[ObjectId, dict[str, set[int]]]:
    """VM network -> hosts in it -> IP versions of their rewrite PAs there."""
    networks: dict[ObjectId, dict[str, set[int]]] = {}
    for port in policy.ports:
        hosts = networks.setdefault(policy.subnet_by_id[port.subnet_id].network_id, {})
        hosts.setdefault(port.host, set()).update(pa.version for pa in port.provider_addresses)
    for record in policy.lookup_records:
        if subnet := policy.subnet_of(record):
            versions = networks.setdefault(subnet.network_id, {}).setdefault(record.host, set())
            if record.rule is Translation.REWRITE and record.provider_address is not None:
                versions.add(record.provider_address.version)
    return networks


def nvgre_family(host: Host, peer: Host) -> int:
    """The IP version of the shared PAs between two hosts: 4 if both have one, else 6, else 0."""
    shared = {pa.version for pa in host.provider_addresses} & {pa.version for pa in peer.provider_addresses}
    return min(shared, default=0)


# ---- shared --------------------------------------------------------------------------------------


def gateway_of(subnet: VMSubnet, prefix: Prefix) -> Address:
    """The gateway of one prefix of the subnet: the stated one, else network address + 1."""
    stated = (gateway for gateway in subnet.gateways if gateway in prefix)
    return next(stated, prefix.network_address + 1)


def _in_turn(intent: Intent, one: Use, other: Use) -> tuple[Use, Use]:
    """Two that don't go together: who was first, and who is told. Where the store has one of them it is the
    other, which a file states: there it can be mended.
    """
    if intent.is_stored(other.owner) and not intent.is_stored(one.owner):
        return other, one
    return one, other


def _used_twice(intent: Intent, uses: Iterable[Use]) -> Iterator[tuple[Use, Use]]:
    """(first, again) for every value of which there can be one use only."""
    first: dict[Any, Use] = {}
    for use in uses:
        there = first.setdefault(use.value, use)
        if there is not use:
            first[use.value], again = _in_turn(intent, there, use)
            yield first[use.value], again


def _doubled(values: Iterable[Any]) -> set[Any]:
    """Those that are there more than once: of the million that all ports state hardly any, and only of those
    a rule needs to know the uses.
    """
    seen: set[Any] = set()
    doubled: set[Any] = set()
    for value in values:
        (doubled if value in seen else seen).add(value)
    return doubled


def _overlaps(intent: Intent, uses: Iterable[Use]) -> Iterator[tuple[Use, Use]]:
    """(first, again) for every prefix that lies in another one; prefixes overlap in no other way. Of two in
    files the one inside is told.
    """
    outer: Use | None = None
    for use in sorted(
        uses, key=lambda use: (use.value.version, int(use.value.network_address), use.value.prefixlen)
    ):
        if outer is not None and use.value.overlaps(outer.value):
            yield _in_turn(intent, outer, use)
        else:
            outer = use


def _misfit(address: Address, prefix: Prefix, gateway: Address | None = None) -> str:
    """Why a host or gateway in `prefix` can't have this address; "" if it can."""
    if address not in prefix:
        return f"{address} is not inside {prefix}"
    if address == gateway:
        return f"{address} is the gateway of {prefix}"
    if address == prefix.network_address:
        return f"{address} is the network address of {prefix}"
    if prefix.version == 4 and address == prefix.broadcast_address:
        return f"{address} is the broadcast address of {prefix}"
    return ""


def _mended_at(intent: Intent, told: ObjectId, other: ObjectId) -> str:
    """Where the other one is stated, if the one that is told of is in the store and was right there."""
    return _at(intent, other) if intent.is_stored(told) and not intent.is_stored(other) else ""


def _at(intent: Intent, subject: ObjectId) -> str:
    location = intent.problem(subject, "metadata.name", "").location
    return f" at {location}" if location else ""


INTENT_RULES: tuple[Callable[[Intent], Problems], ...] = (
    references_exist,
    tenants_exist,
    port_names_are_unique,
    site_subnets_do_not_overlap,
    site_subnet_addresses_fit,
    provider_addresses_are_on_site,
    provider_addresses_are_unique,
    provider_address_objects_fit_their_host,
    underlay_macs_are_unique,
    ip_pools_have_one_place,
    ip_pools_fit_their_place,
    pools_do_not_overlap,
    provider_routes_lead_somewhere,
    provider_routes_are_unique,
    customer_routes_lead_somewhere,
    customer_routes_are_unique,
    customer_routes_name_the_subnet_of_their_next_hop,
    prefixes_do_not_overlap_in_a_vm_network,
    gateways_fit_their_prefixes,
    vsids_are_unique,
    addresses_fit_their_subnet,
    customer_addresses_are_unique_in_a_subnet,
    macs_are_unique_in_a_subnet,
    rewrite_addresses_pair_up,
    unmanaged_hosts_have_no_rewrite_ports,
    hosts_are_on_the_logical_network,
    devices_are_used_once,
    existing_devices_are_the_hosts,
    hosts_hold_their_ports,
    hosts_of_records_are_on_the_logical_network,
    records_are_in_a_subnet_of_their_tenant,
    record_types_are_supported,
    record_addresses_fit_their_type,
    records_are_unique_in_a_subnet,
    record_macs_are_unique_in_a_subnet,
    records_are_where_their_port_is,
    rewrite_records_have_a_pa_of_their_own,
    nvgre_records_lead_to_their_host,
)
POLICY_RULES: tuple[Callable[[Policy], Problems], ...] = (
    underlay_mtus_carry_ipv6,
    peers_share_a_family,
    peers_are_routed,
    peers_have_the_family_of_stated_pas,
    hosts_of_records_are_on_the_logical_network,
    customer_routes_name_the_subnet_of_their_next_hop,
    records_are_in_a_subnet_of_their_tenant,
    record_addresses_fit_their_type,
    records_are_unique_in_a_subnet,
    record_macs_are_unique_in_a_subnet,
    records_are_where_their_port_is,
    nvgre_records_lead_to_their_host,
)
CHANGE_RULES: tuple[Callable[[Intent, Intent], Problems], ...] = (records_keep_what_identifies_them,)
