"""Fills in what an intent leaves out: gateways, VSIDs, customer addresses, MACs, provider addresses. Pure.

Nothing is remembered: a value follows from the name of its object, so that it stays when other objects come
and go. Names that hash to the same value are sorted out in rounds: in round n everyone without a value asks
for the nth choice of its name; of several that ask for one value, the first by name gets it. So an object
that got its first choice keeps it, unless a newcomer with a name before its own has the same first choice.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from itertools import chain

from policy.errors import ManifestError, ObjectId, Problem
from policy.model import (
    FIRST_VSID,
    LAST_VSID,
    ROUTER_MAC,
    Address,
    AddressRange,
    Host,
    Intent,
    Mac,
    NetworkSite,
    Policy,
    Port,
    Prefix,
    Translation,
    VMSubnet,
)
from policy.validate import gateway_of

Ranges = Sequence[range]

_ROUNDS = 16
_LOCAL_MACS = range(0x02_00_00_00_00_00, 0x03_00_00_00_00_00)  # locally administered, unicast


def allocate(intent: Intent) -> Policy:
    """The complete policy of an intent that check_intent passed. ManifestError: no pool, or one used up."""
    subnets = _with_vsids([replace(subnet, gateways=_gateways(subnet)) for subnet in intent.vm_subnets])
    problems: list[Problem] = []
    filled = replace(intent, vm_subnets=subnets)
    filled = replace(filled, ports=_with_macs(filled, _with_addresses(filled, problems)))
    filled = replace(filled, hosts=_with_shared_pas(filled, problems))
    filled = replace(filled, ports=_with_rewrite_pas(filled, problems))
    if problems:
        raise ManifestError(problems)
    return Policy(filled)


def spread(claims: Mapping[str, Ranges], taken: Iterable[int]) -> dict[str, int]:
    """A value of its own for every claim, from its ranges and not in `taken`; none where nothing is free."""
    used = set(taken)
    granted: dict[str, int] = {}
    pending = sorted(claims)
    for attempt in range(_ROUNDS):
        wishes: dict[int, str] = {}
        for name in pending:
            value = _choice(name, attempt, claims[name])
            if value is not None and value not in used:
                wishes.setdefault(value, name)
        used.update(wishes)
        granted.update((name, value) for value, name in wishes.items())
        pending = [name for name in pending if name not in granted]
    for name in pending:  # ranges that are nearly full, or small
        free = next((value for value in chain(*claims[name]) if value not in used), None)
        if free is not None:
            used.add(free)
            granted[name] = free
    return granted


def _choice(name: str, attempt: int, ranges: Ranges) -> int | None:
    size = sum(values.stop - values.start for values in ranges)
    if not size:
        return None
    index = int.from_bytes(blake2b(f"{name}#{attempt}".encode(), digest_size=16).digest()) % size
    for values in ranges:
        if index < values.stop - values.start:
            return values.start + index
        index -= values.stop - values.start
    return None


# ---- tenant networks -----------------------------------------------------------------------------


def _gateways(subnet: VMSubnet) -> tuple[Address, ...]:
    return tuple(gateway_of(subnet, prefix) for prefix in subnet.prefixes)


def _with_vsids(subnets: Sequence[VMSubnet]) -> tuple[VMSubnet, ...]:
    claims = {str(subnet.id): [range(FIRST_VSID, LAST_VSID + 1)] for subnet in subnets if not subnet.vsid}
    vsids = spread(claims, (subnet.vsid for subnet in subnets))
    return tuple(replace(subnet, vsid=subnet.vsid or vsids[str(subnet.id)]) for subnet in subnets)


def _with_addresses(intent: Intent, problems: list[Problem]) -> list[Port]:
    """Ports that state no address get one of each prefix of their subnet."""
    granted: dict[ObjectId, tuple[Address, ...]] = {}
    for subnet in intent.vm_subnets:
        ports = intent.ports_by_subnet.get(subnet.id, [])
        bare = [port for port in ports if not port.addresses]
        for prefix, gateway in zip(subnet.prefixes, subnet.gateways, strict=True):
            taken = [gateway, *(address for port in ports for address in port.addresses if address in prefix)]
            values = spread({port.name: [_host_values(prefix)] for port in bare}, map(int, taken))
            for port in bare:
                if port.name in values:
                    address = _address(prefix.version, values[port.name])
                    granted[port.id] = (*granted.get(port.id, ()), address)
                else:
                    text = f"left out, but {prefix} is used up"
                    problems.append(intent.problem(port.id, "spec.addresses", text))
    return [replace(port, addresses=port.addresses or granted.get(port.id, ())) for port in intent.ports]


def _with_macs(intent: Intent, ports: Sequence[Port]) -> tuple[Port, ...]:
    stated = [
        ROUTER_MAC,
        *(port.mac for port in ports if port.mac),
        *(host.underlay.mac for host in intent.hosts if host.underlay.mac),
    ]
    macs = spread({port.name: [_LOCAL_MACS] for port in ports if not port.mac}, map(_mac_value, stated))
    return tuple(port if port.mac else replace(port, mac=_mac(macs[port.name])) for port in ports)


# ---- provider network ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Request:
    """A provider address wanted: by whom, what for (a site subnet or a CA), from which pools of the site."""

    owner: ObjectId
    purpose: str
    site: NetworkSite
    version: int
    pools: tuple[AddressRange, ...]

    @property
    def name(self) -> str:
        return f"{self.owner} {self.purpose}"


def _with_shared_pas(intent: Intent, problems: list[Problem]) -> tuple[Host, ...]:
    """Hosts that state no shared PA get one of each subnet of their site that has a pool."""
    requests = []
    for host in intent.hosts:
        site = intent.site_by_name[host.site]
        pools = [(subnet.prefix, subnet.pa_pool) for subnet in site.subnets if subnet.pa_pool]
        if host.provider_addresses:
            continue
        if not pools:
            text = f"left out, but no subnet of {site.id} has a paPool"
            problems.append(intent.problem(host.id, "spec.providerAddresses", text))
        requests += [_Request(host.id, str(prefix), site, prefix.version, (pool,)) for prefix, pool in pools]
    granted = _grant(intent, requests, problems)
    return tuple(
        replace(host, provider_addresses=host.provider_addresses or granted.get(host.id, ()))
        for host in intent.hosts
    )


def _with_rewrite_pas(intent: Intent, problems: list[Problem]) -> tuple[Port, ...]:
    """Ports of rewrite subnets that state no PA get one for each CA, of its family."""
    requests = []
    for port in intent.ports:
        rewrite = intent.subnet_by_id[port.subnet_id].translation is Translation.REWRITE
        if port.provider_addresses or not rewrite:
            continue
        site = intent.site_by_name[intent.host_by_name[port.host].site]
        for address in port.addresses:
            pools = tuple(
                subnet.pa_pool
                for subnet in site.subnets
                if subnet.pa_pool and subnet.prefix.version == address.version
            )
            if pools:
                requests.append(_Request(port.id, str(address), site, address.version, pools))
            else:
                text = f"left out, but no IPv{address.version} subnet of {site.id} has a paPool"
                problems.append(intent.problem(port.id, "spec.providerAddresses", text))
    granted = _grant(intent, requests, problems)
    return tuple(
        replace(port, provider_addresses=port.provider_addresses or granted.get(port.id, ()))
        for port in intent.ports
    )


def _grant(
    intent: Intent, requests: Sequence[_Request], problems: list[Problem]
) -> dict[ObjectId, tuple[Address, ...]]:
    """Owner -> its addresses in the order of its requests."""
    taken = set(_taken_pas(intent))
    values = {
        version: spread(
            {
                request.name: [pool.values() for pool in request.pools]
                for request in requests
                if request.version == version
            },
            (int(address) for address in taken if address.version == version),
        )
        for version in (4, 6)
    }
    granted: dict[ObjectId, tuple[Address, ...]] = {}
    for request in requests:
        value = values[request.version].get(request.name)
        if value is None:
            pools = " and ".join(map(str, request.pools))
            text = f"left out, but {pools} of {request.site.id} is used up"
            problems.append(intent.problem(request.owner, "spec.providerAddresses", text))
        else:
            granted[request.owner] = (*granted.get(request.owner, ()), _address(request.version, value))
    return granted


def _taken_pas(intent: Intent) -> Iterator[Address]:
    for site in intent.sites:
        for subnet in site.subnets:
            yield subnet.prefix.network_address
            yield subnet.prefix.broadcast_address
            if subnet.gateway:
                yield subnet.gateway
    for host in intent.hosts:
        yield from host.provider_addresses
    for port in intent.ports:
        yield from port.provider_addresses


# ---- values --------------------------------------------------------------------------------------


def _host_values(prefix: Prefix) -> range:
    """What a host in the prefix may have, as integers; an IPv6 prefix has no broadcast address."""
    first, last = int(prefix.network_address) + 1, int(prefix.broadcast_address)
    return range(first, last + (prefix.version == 6))


def _address(version: int, value: int) -> Address:
    return IPv4Address(value) if version == 4 else IPv6Address(value)


def _mac(value: int) -> Mac:
    return Mac(value.to_bytes(6).hex(":"))


def _mac_value(mac: Mac) -> int:
    return int(mac.replace(":", ""), 16)
