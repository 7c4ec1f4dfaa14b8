"""Fills in what an intent leaves out: gateways, VSIDs, customer addresses, MACs, provider addresses. Pure.

What an object has been granted before, by the book, it keeps. What it is granted for the first time follows
from its name, so that it is the same without a book as long as no two names want the same value.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from policy.errors import ManifestError, ObjectId, Problem
from policy.grants import Book, Claim, Notation, Ranges, Value, ca_pool, pa_pool, vsid_value
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
    SiteSubnet,
    Translation,
    VMSubnet,
    mac_value,
    ranges_of,
)
from policy.validate import gateway_of

_LOCAL_MACS = range(0x02_00_00_00_00_00, 0x03_00_00_00_00_00)  # locally administered, unicast


_VSID = Notation(str, int)
_MAC = Notation(lambda value: str(_mac(value)), lambda text: mac_value(Mac(text)))
_ADDRESS = {
    4: Notation(lambda value: str(IPv4Address(value)), lambda text: int(IPv4Address(text))),
    6: Notation(lambda value: str(IPv6Address(value)), lambda text: int(IPv6Address(text))),
}


def allocate(intent: Intent, book: Book | None = None) -> Policy:
    """The complete policy of an intent that check_intent passed; the book is told of every value in it.

    ManifestError: no pool, one used up, or a value that is stated by one object and granted to another.
    """
    book = book or Book()
    _state(intent, book)
    subnets = [replace(subnet, gateways=_gateways(subnet)) for subnet in intent.vm_subnets]
    problems: list[Problem] = []
    filled = replace(intent, vm_subnets=_with_vsids(intent, subnets, book, problems))
    _state_raw(filled, book)
    filled = replace(
        filled, ports=_with_macs(filled, _with_addresses(filled, book, problems), book, problems)
    )
    filled = replace(filled, hosts=_with_shared_pas(filled, book, problems))
    filled = replace(filled, ports=_with_rewrite_pas(filled, book, problems))
    problems += [_conflict(intent, *conflict) for conflict in book.conflicts]
    if problems:
        raise ManifestError(problems)
    return Policy(filled)


# ---- what is stated ------------------------------------------------------------------------------


def _state(intent: Intent, book: Book) -> None:
    """MACs are left out: those that are stated are unique in their subnets only."""
    for subnet in intent.vm_subnets:
        if subnet.vsid:
            book.state(vsid_value(subnet.vsid), str(subnet.id), "")
    for port in intent.ports:
        subnet, owner = intent.subnet_by_id[port.subnet_id], str(port.id)
        for address in port.addresses:
            book.state(_ca_value(subnet, address), owner, str(subnet.prefix_of(address)))
        for address, pa in zip(port.addresses, port.provider_addresses, strict=False):
            book.state(_pa_value(_site(intent, port.host), pa), owner, str(address))
    for host in intent.hosts:
        site = intent.site_by_name[host.site]
        for pa in host.provider_addresses:
            subnet_of_pa = site.subnet_of(pa)
            assert subnet_of_pa, "validate.provider_addresses_are_on_site"
            book.state(_pa_value(site, pa), str(host.id), str(subnet_of_pa.prefix))


def _state_raw(intent: Intent, book: Book) -> None:
    """Of LookupRecords and ProviderAddresses; of the intent with all VSIDs, by which records name subnets."""
    for record in intent.lookup_records:
        subnet, ca, pa = intent.subnet_of(record), record.customer_address, record.provider_address
        if subnet and ca and not ca.is_unspecified:
            book.state(_ca_value(subnet, ca), str(record.id), str(subnet.prefix_of(ca)))
        if pa and record.rule is Translation.REWRITE:
            book.state(_pa_value(_site(intent, record.host), pa), str(record.id), str(ca))
    for each in intent.provider_addresses:
        site, pa = _site(intent, each.host), each.provider_address
        subnet_of_pa = site.subnet_of(pa) if pa else None
        if pa and subnet_of_pa:
            book.state(_pa_value(site, pa), str(each.id), str(subnet_of_pa.prefix))


def _conflict(intent: Intent, value: Value, owner: str, stated_by: str) -> Problem:
    subject = next(subject for subject in intent.by_id if str(subject) == stated_by)
    text = f"states {value.text}, which has been granted to {owner}"
    return intent.problem(subject, "", text)


def _ca_pool(subnet: VMSubnet, version: int) -> str:
    return ca_pool(subnet.tenant, subnet.name, version)


def _ca_value(subnet: VMSubnet, address: Address) -> Value:
    return Value(_ca_pool(subnet, address.version), str(address))


def _pa_pool(site: NetworkSite, version: int) -> str:
    return pa_pool(site.name, version)


def _pa_value(site: NetworkSite, pa: Address) -> Value:
    return Value(_pa_pool(site, pa.version), str(pa))


def _site(intent: Intent, host: str) -> NetworkSite:
    return intent.site_by_name[intent.host_by_name[host].site]


# ---- tenant networks -----------------------------------------------------------------------------


def _gateways(subnet: VMSubnet) -> tuple[Address, ...]:
    return tuple(gateway_of(subnet, prefix) for prefix in subnet.prefixes)


def _with_vsids(
    intent: Intent, subnets: Sequence[VMSubnet], book: Book, problems: list[Problem]
) -> tuple[VMSubnet, ...]:
    claims = [
        Claim(str(subnet.id), "", str(subnet.id), [range(FIRST_VSID, LAST_VSID + 1)])
        for subnet in subnets
        if not subnet.vsid
    ]
    vsids = book.claim("vsid", _VSID, claims, (subnet.vsid for subnet in subnets if subnet.vsid))
    for subnet in subnets:
        if not subnet.vsid and str(subnet.id) not in vsids:
            text = "left out, but the pool of VSIDs is used up"
            problems.append(intent.problem(subnet.id, "spec.vsid", text))
    return tuple(replace(subnet, vsid=subnet.vsid or vsids.get(str(subnet.id), 0)) for subnet in subnets)


def _with_addresses(intent: Intent, book: Book, problems: list[Problem]) -> list[Port]:
    """Ports that state no address get one of each prefix of their subnet."""
    granted: dict[ObjectId, tuple[Address, ...]] = {}
    for subnet in intent.vm_subnets:
        ports = intent.ports_by_subnet.get(subnet.id, [])
        bare = [port for port in ports if not port.addresses]
        raw = [record.customer_address for record in intent.records_by_subnet.get(subnet.id, ())]
        for prefix, gateway in zip(subnet.prefixes, subnet.gateways, strict=True):
            taken = [gateway, *(address for port in ports for address in port.addresses if address in prefix)]
            taken += [address for address in raw if address and address in prefix]
            ranges = _ca_ranges(intent, subnet, prefix)
            claims = [Claim(str(port.id), str(prefix), port.name, ranges) for port in bare]
            pool = _ca_pool(subnet, prefix.version)
            values = book.claim(pool, _ADDRESS[prefix.version], claims, map(int, taken))
            for port in bare:
                if port.name in values:
                    address = _address(prefix.version, values[port.name])
                    granted[port.id] = (*granted.get(port.id, ()), address)
                else:
                    text = f"left out, but {prefix} is used up"
                    problems.append(intent.problem(port.id, "spec.addresses", text))
    return [replace(port, addresses=port.addresses or granted.get(port.id, ())) for port in intent.ports]


def _ca_ranges(intent: Intent, subnet: VMSubnet, prefix: Prefix) -> Ranges:
    """Of the subnet's pools in the prefix; where there is none, all that a host may have."""
    pools = [
        pool
        for pool in intent.ip_pools_by_place.get(subnet.id, ())
        if pool.range and pool.range.first in prefix
    ]
    return [values for pool in pools for values in ranges_of(pool)] if pools else [_host_values(prefix)]


def _with_macs(
    intent: Intent, ports: Sequence[Port], book: Book, problems: list[Problem]
) -> tuple[Port, ...]:
    stated = [
        ROUTER_MAC,
        *(port.mac for port in ports if port.mac),
        *(host.underlay.mac for host in intent.hosts if host.underlay.mac),
        *(each.mac_address for each in intent.lookup_records if each.mac_address and not each.port),
    ]
    ranges = [pool.range.values() for pool in intent.mac_pools if pool.range] or [_LOCAL_MACS]
    claims = [Claim(str(port.id), "", port.name, ranges) for port in ports if not port.mac]
    macs = book.claim("mac", _MAC, claims, map(mac_value, stated))
    for port in ports:
        if not port.mac and port.name not in macs:
            text = "left out, but the pool of MACs is used up"
            problems.append(intent.problem(port.id, "spec.mac", text))
    return tuple(replace(port, mac=_mac(macs[port.name])) if port.name in macs else port for port in ports)


# ---- provider network ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pool:
    """Of a site: its range as it is stated, and what of it may be given out."""

    stated: AddressRange
    ranges: tuple[range, ...]


def _site_pools(intent: Intent, site: NetworkSite, subnet: SiteSubnet) -> tuple[_Pool, ...]:
    """The pools in one subnet of a site: its own, then IPPools."""
    inline = [_Pool(subnet.pa_pool, (subnet.pa_pool.values(),))] if subnet.pa_pool else []
    stated = [
        _Pool(pool.range, tuple(ranges_of(pool)))
        for pool in intent.ip_pools_by_place.get(site.id, ())
        if pool.range and pool.range.first in subnet.prefix
    ]
    return (*inline, *stated)


@dataclass(frozen=True, slots=True)
class _Request:
    """A provider address wanted: by whom, what for (a site subnet or a CA), from which pools of the site."""

    owner: ObjectId
    purpose: str
    site: NetworkSite
    version: int
    pools: tuple[_Pool, ...]

    @property
    def name(self) -> str:
        return f"{self.owner} {self.purpose}"


def _with_shared_pas(intent: Intent, book: Book, problems: list[Problem]) -> tuple[Host, ...]:
    """Hosts that state no shared PA get one of each subnet of their site that has a pool."""
    requests = []
    for host in intent.hosts:
        site = intent.site_by_name[host.site]
        if host.provider_addresses:
            continue
        pools = [
            (subnet.prefix, there) for subnet in site.subnets if (there := _site_pools(intent, site, subnet))
        ]
        if not pools and not intent.endpoint_by_name[host.name].provider_addresses:
            text = f"left out, but no subnet of {site.id} has a paPool"
            problems.append(intent.problem(host.id, "spec.providerAddresses", text))
        requests += [_Request(host.id, str(prefix), site, prefix.version, there) for prefix, there in pools]
    granted = _grant(intent, requests, book, problems)
    return tuple(
        replace(host, provider_addresses=host.provider_addresses or granted.get(host.id, ()))
        for host in intent.hosts
    )


def _with_rewrite_pas(intent: Intent, book: Book, problems: list[Problem]) -> tuple[Port, ...]:
    """Ports of rewrite subnets that state no PA get one for each CA, of its family."""
    requests = []
    for port in intent.ports:
        rewrite = intent.subnet_by_id[port.subnet_id].translation is Translation.REWRITE
        if port.provider_addresses or not rewrite:
            continue
        site = intent.site_by_name[intent.host_by_name[port.host].site]
        for address in port.addresses:
            pools = tuple(
                pool
                for subnet in site.subnets
                if subnet.prefix.version == address.version
                for pool in _site_pools(intent, site, subnet)
            )
            if pools:
                requests.append(_Request(port.id, str(address), site, address.version, pools))
            else:
                text = f"left out, but no IPv{address.version} subnet of {site.id} has a paPool"
                problems.append(intent.problem(port.id, "spec.providerAddresses", text))
    granted = _grant(intent, requests, book, problems)
    return tuple(
        replace(port, provider_addresses=port.provider_addresses or granted.get(port.id, ()))
        for port in intent.ports
    )


def _grant(
    intent: Intent, requests: Sequence[_Request], book: Book, problems: list[Problem]
) -> dict[ObjectId, tuple[Address, ...]]:
    """Owner -> its addresses in the order of its requests."""
    taken = set(_taken_pas(intent))
    claims: dict[tuple[str, int], list[Claim]] = {}
    for wish in requests:
        claim = Claim(
            str(wish.owner),
            wish.purpose,
            wish.name,
            [values for pool in wish.pools for values in pool.ranges],
        )
        claims.setdefault((_pa_pool(wish.site, wish.version), wish.version), []).append(claim)
    values: dict[str, int] = {}
    for (pool, version), wanted in sorted(claims.items()):
        used = (int(address) for address in taken if address.version == version)
        values |= book.claim(pool, _ADDRESS[version], wanted, used)
    granted: dict[ObjectId, tuple[Address, ...]] = {}
    for request in requests:
        value = values.get(request.name)
        if value is None:
            pools = " and ".join(str(pool.stated) for pool in request.pools)
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
    raw = [each.provider_address for each in intent.provider_addresses]
    raw += [record.provider_address for record in intent.lookup_records]
    yield from (pa for pa in raw if pa is not None)


# ---- values --------------------------------------------------------------------------------------


def _host_values(prefix: Prefix) -> range:
    """What a host in the prefix may have, as integers; an IPv6 prefix has no broadcast address."""
    first, last = int(prefix.network_address) + 1, int(prefix.broadcast_address)
    return range(first, last + (prefix.version == 6))


def _address(version: int, value: int) -> Address:
    return IPv4Address(value) if version == 4 else IPv6Address(value)


def _mac(value: int) -> Mac:
    return Mac(value.to_bytes(6).hex(":"))
