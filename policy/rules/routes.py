"""CustomerRoutes and ProviderRoutes, and which of them leads to an address."""

from collections.abc import Iterable
from typing import NamedTuple

from policy.errors import ObjectId
from policy.kinds.model import Address, Intent, NetworkSite, Prefix, VMSubnet
from policy.rules.uses import Problems, Use, holder, in_turn, misfit_of, used_twice, where


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
            first, again = in_turn(intent, on_link, Use(route.prefix, route.id, "spec.prefix"))
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
    for first, again in used_twice(intent, routes):
        _, prefix, metric = again.value
        text = f"{holder(intent, first)} leads to {prefix} with metric {metric} already"
        yield intent.problem(again.owner, again.path, text)


def customer_routes_name_the_subnet_of_their_next_hop(intent: Intent) -> Problems:
    """Where they state a VSID."""
    for route in intent.customer_routes:
        subnets = intent.subnets_by_network.get(route.network_id, [])
        hop, vsid = route.next_hop, route.virtual_subnet_id
        home = next((subnet for subnet in subnets if hop and subnet.prefix_of(hop)), None)
        if home and home.vsid and vsid and home.vsid != vsid:
            text = f"{hop} is in {home.id}{where(intent, home.id)} with VSID {home.vsid}, not {vsid}"
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
    return misfit_of(address, prefix, subnet.gateway_of(prefix))
