"""A tenant's subnets and ports, and the hosts that have them."""

import re
from collections import Counter
from itertools import chain, groupby
from operator import attrgetter

from policy.errors import ObjectId
from policy.kinds.model import Address, AttachKind, Intent, Prefix, Translation, VMNetwork, VMSubnet
from policy.rules.uses import Problems, Use, doubled, holder, mended_at, misfit_of, overlaps, used_twice

MAX_LOCAL_PORTS = 1023
"""Tenant ports of one host: DP_MAX_PORTS less the underlay."""


_HOST_END = re.compile(r"il[0-9a-f]{12}")
"""As dataplane.devices.host_end_name makes them."""


def prefixes_do_not_overlap_in_a_vm_network(intent: Intent) -> Problems:
    by_network = attrgetter("network_id")
    for network, subnets in groupby(sorted(intent.vm_subnets, key=by_network), by_network):
        stated = [
            Use(prefix, subnet.id, f"spec.prefixes[{index}]")
            for subnet in subnets
            for index, prefix in enumerate(subnet.prefixes)
        ]
        for first, again in overlaps(intent, stated):
            text = f"{again.value} overlaps {first.value} of {holder(intent, first)} in {network}"
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
            if misfit := misfit_of(gateway, prefix):
                yield intent.problem(subnet.id, path, misfit)
            if prefix in taken:
                yield intent.problem(subnet.id, path, f"a second gateway of {prefix}")
            taken.add(prefix)


def vsids_are_unique(intent: Intent) -> Problems:
    stated = (Use(subnet.vsid, subnet.id, "spec.vsid") for subnet in intent.vm_subnets if subnet.vsid)
    for first, again in used_twice(intent, stated):
        text = f"{again.value} is the VSID of {holder(intent, first)} already"
        yield intent.problem(again.owner, again.path, text)


def addresses_fit_their_subnet(intent: Intent) -> Problems:
    for subnet_id, ports in intent.ports_by_subnet.items():
        subnet = intent.subnet_by_id.get(subnet_id)
        if subnet is None or not subnet.prefixes:
            continue
        rooms = _rooms(subnet)
        for port in ports:
            for index, address in enumerate(port.addresses):
                if not _has_room(rooms, address):
                    text = f"{_misfit(subnet, address)}{mended_at(intent, port.id, subnet.id)}"
                    yield intent.problem(port.id, f"spec.addresses[{index}]", text)


_Rooms = dict[int, list[tuple[int, int, int]]]
"""IP version -> of each prefix what lies around its hosts' addresses, and its gateway, as integers."""


def _rooms(subnet: VMSubnet) -> _Rooms:
    rooms: _Rooms = {4: [], 6: []}
    for prefix in subnet.prefixes:
        last = int(prefix.broadcast_address) + (prefix.version == 6)
        room = int(prefix.network_address), last, int(subnet.gateway_of(prefix))
        rooms[prefix.version].append(room)
    return rooms


def _has_room(rooms: _Rooms, address: Address) -> bool:
    value = int(address)
    return any(first < value < last and value != gateway for first, last, gateway in rooms[address.version])


def _misfit(subnet: VMSubnet, address: Address) -> str:
    prefix = subnet.prefix_of(address)
    if prefix is None:
        return f"{address} is in no prefix of {subnet.id}"
    return misfit_of(address, prefix, subnet.gateway_of(prefix))


def customer_addresses_are_unique_in_a_subnet(intent: Intent) -> Problems:
    for ports in intent.ports_by_subnet.values():
        twice = doubled(address for port in ports for address in port.addresses)
        stated = (
            Use(address, port.id, f"spec.addresses[{index}]")
            for port in ports
            for index, address in enumerate(port.addresses)
            if address in twice
        )
        for first, again in used_twice(intent, stated):
            text = f"{again.value} is an address of {holder(intent, first)} already"
            yield intent.problem(again.owner, again.path, text)


def macs_are_unique_in_a_subnet(intent: Intent) -> Problems:
    for ports in intent.ports_by_subnet.values():
        twice = doubled(port.mac for port in ports if port.mac)
        stated = (Use(port.mac, port.id, "spec.mac") for port in ports if port.mac in twice)
        for first, again in used_twice(intent, stated):
            text = f"{again.value} is the MAC of {holder(intent, first)} already"
            yield intent.problem(again.owner, again.path, text)


def rewrite_addresses_pair_up(intent: Intent) -> Problems:
    """A stated PA for every CA, in the CAs' order and of their families, in rewrite subnets only."""
    for port in intent.ports:
        subnet = intent.subnet_by_id.get(port.subnet_id) if port.provider_addresses else None
        if subnet is None:
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
    for subnet_id, ports in intent.ports_by_subnet.items():
        subnet = intent.subnet_by_id.get(subnet_id)
        for port in ports if subnet and subnet.translation is Translation.REWRITE else ():
            host = intent.host_by_name.get(port.host)
            if host and not host.managed:
                text = f"{host.id} is unmanaged and speaks NVGRE only, but {subnet_id} is carried by rewrite"
                yield intent.problem(port.id, "spec.host", text)


def hosts_are_on_the_logical_network(intent: Intent) -> Problems:
    known = {network.name for network in intent.logical_networks}
    for subnet_id, ports in intent.ports_by_subnet.items():
        subnet = intent.subnet_by_id.get(subnet_id)
        texts = {host: off_the_network(intent, known, subnet, host) for host in {port.host for port in ports}}
        if any(texts.values()):
            for port in ports:
                if text := texts[port.host]:
                    yield intent.problem(port.id, "spec.host", text)


def off_the_network(intent: Intent, known: set[str], subnet: VMSubnet | None, host_name: str) -> str:
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
    for first, again in used_twice(intent, chain(underlays, devices)):
        what = "the underlay" if first.owner.kind == "Host" else "the device"
        text = f"{again.value[-1]} is {what} of {holder(intent, first)} already"
        yield intent.problem(again.owner, again.path, text)


def devices_of_the_host_are_no_host_ends(intent: Intent) -> Problems:
    """Not the host ends of other ports' veths."""
    for port in intent.ports:
        attach = port.attach
        is_hosts = attach and attach.kind in (AttachKind.DEVICE, AttachKind.VM)
        if attach and is_hosts and _HOST_END.fullmatch(attach.device):
            text = f"{attach.device} is a name of isolane's own devices"
            yield intent.problem(port.id, f"spec.attach.{attach.kind}", text)


def hosts_hold_their_ports(intent: Intent) -> Problems:
    """The core's limit of a managed host; the first port beyond it is reported, those of the store first."""
    counts = Counter(port.host for port in intent.ports)
    full = {host.name: host for host in intent.hosts if host.managed and counts[host.name] > MAX_LOCAL_PORTS}
    there: dict[str, list[ObjectId]] = {name: [] for name in full}
    for port in intent.ports if full else ():
        if port.host in full:
            there[port.host].append(port.id)
    for name, host in full.items():
        beyond = sorted(there[name], key=lambda port: not intent.is_stored(port))[MAX_LOCAL_PORTS]
        text = f"{host.id} has {MAX_LOCAL_PORTS} ports already, the limit"
        yield intent.problem(beyond, "spec.host", text)
