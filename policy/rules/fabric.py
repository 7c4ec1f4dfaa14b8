"""The provider network: sites, their subnets, and whose the addresses and MACs of the underlay are."""

from collections.abc import Iterator
from itertools import chain

from policy.errors import ObjectId
from policy.kinds.model import Address, Host, Intent, Translation
from policy.rules.uses import Problems, Use, holder, mended_at, misfit_of, overlaps, used_twice


def site_subnets_do_not_overlap(intent: Intent) -> Problems:
    stated = [
        Use(subnet.prefix, site.id, f"spec.subnets[{index}].prefix")
        for site in intent.sites
        for index, subnet in enumerate(site.subnets)
    ]
    for first, again in overlaps(intent, stated):
        text = f"{again.value} overlaps {first.value} of {holder(intent, first)}"
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
            if misfit := misfit_of(subnet.gateway, subnet.prefix):
                yield intent.problem(site.id, f"{path}.gateway", misfit)
            if subnet.gateway.version in with_gateway:
                text = f"a second IPv{subnet.gateway.version} gateway of the site"
                yield intent.problem(site.id, f"{path}.gateway", text)
            with_gateway.add(subnet.gateway.version)


def provider_addresses_are_on_site(intent: Intent) -> Problems:
    """Every stated PA lies in a subnet of its host's site and is no one else's there."""
    for owner, host, path, pa in stated_pas(intent):
        site = intent.site_of(host) if host else None
        if host is None or site is None or not site.subnets:
            continue
        subnet = site.subnet_of(pa)
        if subnet is None:
            text = f"{pa} is in no subnet of {site.id}{mended_at(intent, owner, site.id)}, where {host.id} is"
            yield intent.problem(owner, path, text)
        elif misfit := misfit_of(pa, subnet.prefix, subnet.gateway):
            yield intent.problem(owner, path, f"{misfit}{mended_at(intent, owner, site.id)}")


def provider_addresses_are_unique(intent: Intent) -> Problems:
    stated = (Use(pa, owner, path) for owner, _, path, pa in stated_pas(intent))
    for first, again in used_twice(intent, stated):
        text = f"{again.value} is a provider address of {holder(intent, first)} already"
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
    for first, again in used_twice(intent, chain(gateways.values(), stated)):
        whose = "the gateway of " if first.owner.kind == "NetworkSite" else ""
        text = f"{again.value} is the MAC of {whose}{holder(intent, first)} already"
        yield intent.problem(again.owner, again.path, text)


def stated_pas(intent: Intent) -> Iterator[tuple[ObjectId, Host | None, str, Address]]:
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
