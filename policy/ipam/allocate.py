"""Fills in what an intent leaves out: gateways, VSIDs, customer addresses, MACs, provider addresses. Pure.

What an object has been granted before, by the ledger, it keeps. What it is granted for the first time follows
from its name, so that it is the same without a ledger as long as no two names want the same value.

Whoever writes intent completes it and writes both in one transaction: nothing can be granted twice or get
lost in between.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from policy.errors import ManifestError, ObjectId, Problem
from policy.ipam.ledger import (
    Grant,
    Grants,
    Ledger,
    Notation,
    Ranges,
    Request,
    Steps,
    Value,
    answered,
    vsid_value,
)
from policy.kinds import keys
from policy.kinds.model import (
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

_VSIDS = (range(FIRST_VSID, LAST_VSID + 1),)
_LOCAL_MACS = range(0x02_00_00_00_00_00, 0x03_00_00_00_00_00)  # locally administered, unicast


_VSID = Notation(str, int)
_MAC = Notation(lambda value: str(_mac(value)), lambda text: mac_value(Mac(text)))
_ADDRESS = {
    4: Notation(lambda value: str(IPv4Address(value)), lambda text: int(IPv4Address(text))),
    6: Notation(lambda value: str(IPv6Address(value)), lambda text: int(IPv6Address(text))),
}


def allocate(intent: Intent) -> Policy:
    """The complete policy of an intent that check_intent passed, where nothing has been granted before.

    ManifestError: no pool, one used up.
    """
    return answered(_allocated(intent, Ledger()), lambda _: {})


def complete(intent: Intent, grants: Grants, now: float) -> tuple[Policy, dict[Value, Grant]]:
    """The policy of an intent that check_intent passed, and all grants there are then.

    grants: all there are; now: Unix seconds. ManifestError: no pool, one used up, or a value that is stated
    by one object and granted to another.
    """
    return answered(_completed(intent, Ledger(grants, now)), lambda _: {})


def complete_part(intent: Intent, grants: Grants, now: float) -> Steps[tuple[Policy, dict[Value, Grant]]]:
    """Like complete, of a part of an intent and the grants of the objects in it: it asks what others have."""
    return _completed(intent, Ledger(grants, now, is_part=True))


def _completed(intent: Intent, ledger: Ledger) -> Steps[tuple[Policy, dict[Value, Grant]]]:
    _state(intent, ledger)
    policy = yield from _allocated(intent, ledger)
    return policy, ledger.close()


def _allocated(intent: Intent, ledger: Ledger) -> Steps[Policy]:
    subnets = [replace(subnet, gateways=_gateways(subnet)) for subnet in intent.vm_subnets]
    problems: list[Problem] = []
    vm_subnets = yield from _with_vsids(intent, subnets, ledger, problems)
    filled = replace(intent, vm_subnets=vm_subnets)
    _state_raw(filled, ledger)
    ports = yield from _with_addresses(filled, ledger, problems)
    filled = replace(filled, ports=(yield from _with_macs(filled, ports, ledger, problems)))
    filled = replace(filled, hosts=(yield from _with_shared_pas(filled, ledger, problems)))
    filled = replace(filled, ports=(yield from _with_rewrite_pas(filled, ledger, problems)))
    problems += [_conflict(intent, *conflict) for conflict in ledger.conflicts]
    if problems:
        raise ManifestError(problems)
    return Policy(filled)


# ---- what is stated ------------------------------------------------------------------------------


def _state(intent: Intent, ledger: Ledger) -> None:
    """MACs are left out: those that are stated are unique in their subnets only."""
    for subnet in intent.vm_subnets:
        if subnet.vsid:
            ledger.state(vsid_value(subnet.vsid), str(subnet.id), "")
    for subnet_id, ports in intent.ports_by_subnet.items():
        subnet = intent.subnet_by_id[subnet_id]
        for port in ports:
            owner = str(port.id)
            for address in port.addresses:
                ledger.state(_ca_value(subnet, address), owner, str(subnet.prefix_of(address)))
            for address, pa in zip(port.addresses, port.provider_addresses, strict=False):
                ledger.state(_pa_value(_site(intent, port.host), pa), owner, str(address))
    for host in intent.hosts:
        site = intent.site_by_name[host.site]
        for pa in host.provider_addresses:
            subnet_of_pa = site.subnet_of(pa)
            assert subnet_of_pa, "fabric.provider_addresses_are_on_site"
            ledger.state(_pa_value(site, pa), str(host.id), str(subnet_of_pa.prefix))


def _state_raw(intent: Intent, ledger: Ledger) -> None:
    """Of LookupRecords and ProviderAddresses; of the intent with all VSIDs, by which records name subnets."""
    for record in intent.lookup_records:
        subnet, ca, pa = intent.subnet_of(record), record.customer_address, record.provider_address
        if subnet and ca and not ca.is_unspecified:
            ledger.state(_ca_value(subnet, ca), str(record.id), str(subnet.prefix_of(ca)))
        if pa and record.rule is Translation.REWRITE:
            ledger.state(_pa_value(_site(intent, record.host), pa), str(record.id), str(ca))
    for each in intent.provider_addresses:
        site, pa = _site(intent, each.host), each.provider_address
        subnet_of_pa = site.subnet_of(pa) if pa else None
        if pa and subnet_of_pa:
            ledger.state(_pa_value(site, pa), str(each.id), str(subnet_of_pa.prefix))


def _conflict(intent: Intent, value: Value, owner: str, stated_by: str) -> Problem:
    text = f"states {value.text}, which has been granted to {owner}"
    return intent.problem(ObjectId.parse(stated_by), "", text)


def _used_up(pool: str, held: Sequence[float]) -> str:
    """held: when the holds of its values end."""
    text = f"left out, but {pool} is used up"
    if not held:
        return text
    first = datetime.fromtimestamp(held[0], UTC)
    return f"{text}: {len(held)} of it held for who had it before, until {first:%H:%M:%S}Z the first"


def _ca_pool(subnet: VMSubnet, version: int) -> str:
    return keys.ca_pool(subnet.tenant, subnet.name, version)


def _ca_value(subnet: VMSubnet, address: Address) -> Value:
    return Value(_ca_pool(subnet, address.version), str(address))


def _pa_pool(site: NetworkSite, version: int) -> str:
    return keys.pa_pool(site.name, version)


def _pa_value(site: NetworkSite, pa: Address) -> Value:
    return Value(_pa_pool(site, pa.version), str(pa))


def _site(intent: Intent, host: str) -> NetworkSite:
    return intent.site_by_name[intent.host_by_name[host].site]


# ---- tenant networks -----------------------------------------------------------------------------


def _gateways(subnet: VMSubnet) -> tuple[Address, ...]:
    return tuple(subnet.gateway_of(prefix) for prefix in subnet.prefixes)


def _with_vsids(
    intent: Intent, subnets: Sequence[VMSubnet], ledger: Ledger, problems: list[Problem]
) -> Steps[tuple[VMSubnet, ...]]:
    requests = [Request(str(subnet.id), "", str(subnet.id), _VSIDS) for subnet in subnets if not subnet.vsid]
    stated = (subnet.vsid for subnet in subnets if subnet.vsid)
    vsids = yield from ledger.reserve(keys.VSID_POOL, _VSID, requests, stated)
    for subnet in subnets:
        if not subnet.vsid and str(subnet.id) not in vsids:
            text = _used_up("the pool of VSIDs", ledger.held(keys.VSID_POOL, _VSIDS))
            problems.append(intent.problem(subnet.id, "spec.vsid", text))
    return tuple(replace(subnet, vsid=subnet.vsid or vsids.get(str(subnet.id), 0)) for subnet in subnets)


def _with_addresses(intent: Intent, ledger: Ledger, problems: list[Problem]) -> Steps[list[Port]]:
    """Ports that state no address get one of each prefix of their subnet."""
    granted: dict[ObjectId, tuple[Address, ...]] = {}
    for subnet in intent.vm_subnets:
        ports = intent.ports_by_subnet.get(subnet.id, [])
        bare = [port for port in ports if not port.addresses]
        raw = [record.customer_address for record in intent.records_by_subnet.get(subnet.id, ())]
        for prefix, gateway in zip(subnet.prefixes, subnet.gateways, strict=True) if bare else ():
            taken = [gateway, *(address for port in ports for address in port.addresses if address in prefix)]
            taken += [address for address in raw if address and address in prefix]
            ranges = _ca_ranges(intent, subnet, prefix)
            requests = [Request(str(port.id), str(prefix), port.name, ranges) for port in bare]
            pool = _ca_pool(subnet, prefix.version)
            values = yield from ledger.reserve(pool, _ADDRESS[prefix.version], requests, map(int, taken))
            for port in bare:
                if port.name in values:
                    address = _address(prefix.version, values[port.name])
                    granted[port.id] = (*granted.get(port.id, ()), address)
                else:
                    text = _used_up(str(prefix), ledger.held(pool, ranges))
                    problems.append(intent.problem(port.id, "spec.addresses", text))
    return [
        port if port.addresses else replace(port, addresses=granted.get(port.id, ())) for port in intent.ports
    ]


def _ca_ranges(intent: Intent, subnet: VMSubnet, prefix: Prefix) -> Ranges:
    """Of the subnet's pools in the prefix; where there is none, all that a host may have."""
    pools = [
        pool
        for pool in intent.ip_pools_by_place.get(subnet.id, ())
        if pool.range and pool.range.first in prefix
    ]
    return [values for pool in pools for values in ranges_of(pool)] if pools else [_host_values(prefix)]


def _with_macs(
    intent: Intent, ports: Sequence[Port], ledger: Ledger, problems: list[Problem]
) -> Steps[tuple[Port, ...]]:
    ranges = [pool.range.values() for pool in intent.mac_pools if pool.range] or [_LOCAL_MACS]
    requests = [Request(str(port.id), "", str(port.id), ranges) for port in ports if not port.mac]
    stated = _stated_macs(intent, ports) if requests else ()
    macs = yield from ledger.reserve(keys.MAC_POOL, _MAC, requests, map(mac_value, stated))
    for port in ports:
        if not port.mac and str(port.id) not in macs:
            text = _used_up("the pool of MACs", ledger.held(keys.MAC_POOL, ranges))
            problems.append(intent.problem(port.id, "spec.mac", text))
    return tuple(port if port.mac else replace(port, mac=_mac(macs.get(str(port.id), 0))) for port in ports)


def _stated_macs(intent: Intent, ports: Sequence[Port]) -> Iterator[Mac]:
    yield ROUTER_MAC
    yield from (port.mac for port in ports if port.mac)
    yield from (host.underlay.mac for host in intent.hosts if host.underlay.mac)
    yield from (each.mac_address for each in intent.lookup_records if each.mac_address and not each.port)


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


class _Wish(NamedTuple):
    """A provider address wanted: by whom, what for (a site subnet or a CA), from which pools of the site."""

    owner: ObjectId
    purpose: str
    site: NetworkSite
    version: int
    pools: tuple[_Pool, ...]

    @property
    def request(self) -> Request:
        owner = str(self.owner)
        return Request(owner, self.purpose, f"{owner} {self.purpose}", self.ranges)

    @property
    def ranges(self) -> Ranges:
        return [values for pool in self.pools for values in pool.ranges]


def _with_shared_pas(intent: Intent, ledger: Ledger, problems: list[Problem]) -> Steps[tuple[Host, ...]]:
    """Hosts that state no shared PA get one of each subnet of their site that has a pool."""
    wishes = []
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
        wishes += [_Wish(host.id, str(prefix), site, prefix.version, there) for prefix, there in pools]
    granted = yield from _granted_pas(intent, wishes, ledger, problems)
    return tuple(
        replace(host, provider_addresses=granted[host.id]) if host.id in granted else host
        for host in intent.hosts
    )


def _with_rewrite_pas(intent: Intent, ledger: Ledger, problems: list[Problem]) -> Steps[tuple[Port, ...]]:
    """Ports of rewrite subnets that state no PA get one for each CA, of its family."""
    wishes = []
    pools_of = cache(partial(_pools_of_family, intent))
    for port in intent.ports:
        rewrite = intent.subnet_by_id[port.subnet_id].translation is Translation.REWRITE
        if port.provider_addresses or not rewrite:
            continue
        site = _site(intent, port.host)
        for address in port.addresses:
            if pools := pools_of(site.name, address.version):
                wishes.append(_Wish(port.id, str(address), site, address.version, pools))
            else:
                text = f"left out, but no IPv{address.version} subnet of {site.id} has a paPool"
                problems.append(intent.problem(port.id, "spec.providerAddresses", text))
    granted = yield from _granted_pas(intent, wishes, ledger, problems)
    return tuple(
        replace(port, provider_addresses=granted[port.id]) if port.id in granted else port
        for port in intent.ports
    )


def _pools_of_family(intent: Intent, site_name: str, version: int) -> tuple[_Pool, ...]:
    site = intent.site_by_name[site_name]
    subnets = (subnet for subnet in site.subnets if subnet.prefix.version == version)
    return tuple(pool for subnet in subnets for pool in _site_pools(intent, site, subnet))


def _granted_pas(
    intent: Intent, wishes: Sequence[_Wish], ledger: Ledger, problems: list[Problem]
) -> Steps[dict[ObjectId, tuple[Address, ...]]]:
    """Owner -> its addresses in the order of its wishes."""
    taken = _taken_pas(intent) if wishes else {}
    requests: dict[tuple[str, int], list[Request]] = {}
    for wish in wishes:
        requests.setdefault((_pa_pool(wish.site, wish.version), wish.version), []).append(wish.request)
    values: dict[str, int] = {}
    for (pool, version), wanted in sorted(requests.items()):
        values |= yield from ledger.reserve(pool, _ADDRESS[version], wanted, taken.get(pool, ()))
    granted: dict[ObjectId, tuple[Address, ...]] = {}
    for wish in wishes:
        value = values.get(wish.request.name)
        if value is None:
            pools = " and ".join(str(pool.stated) for pool in wish.pools)
            held = ledger.held(_pa_pool(wish.site, wish.version), wish.ranges)
            text = _used_up(f"{pools} of {wish.site.id}", held)
            problems.append(intent.problem(wish.owner, "spec.providerAddresses", text))
        else:
            granted[wish.owner] = (*granted.get(wish.owner, ()), _address(wish.version, value))
    return granted


def _taken_pas(intent: Intent) -> dict[str, list[int]]:
    """By pool: what nobody can be given, as it is stated or has been given already."""
    taken: dict[str, list[int]] = {}

    def take(site: NetworkSite, addresses: Iterable[Address]) -> None:
        for address in addresses:
            taken.setdefault(_pa_pool(site, address.version), []).append(int(address))

    for site in intent.sites:
        for subnet in site.subnets:
            take(site, (subnet.prefix.network_address, subnet.prefix.broadcast_address))
            take(site, [subnet.gateway] if subnet.gateway else ())
    for host in intent.hosts:
        take(intent.site_by_name[host.site], host.provider_addresses)
    for port in intent.ports:
        if port.provider_addresses:
            take(_site(intent, port.host), port.provider_addresses)
    raw = [(each.host, each.provider_address) for each in intent.provider_addresses]
    raw += [(record.host, record.provider_address) for record in intent.lookup_records]
    for host_name, pa in raw:
        take(_site(intent, host_name), [pa] if pa is not None else ())
    return taken


# ---- values --------------------------------------------------------------------------------------


def _host_values(prefix: Prefix) -> range:
    """What a host in the prefix may have, as integers; an IPv6 prefix has no broadcast address."""
    first, last = int(prefix.network_address) + 1, int(prefix.broadcast_address)
    return range(first, last + (prefix.version == 6))


def _address(version: int, value: int) -> Address:
    return IPv4Address(value) if version == 4 else IPv6Address(value)


def _mac(value: int) -> Mac:
    return Mac(value.to_bytes(6).hex(":"))
