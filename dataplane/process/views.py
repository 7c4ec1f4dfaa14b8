"""Rows of the tables, the names of their ids, neighbours and counters as `-o json` prints them. Pure.

An id without a name shows as its number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from ipaddress import ip_network
from typing import Any

from dataplane.binding import tables
from dataplane.binding.core import Neighbour
from dataplane.binding.stats import SubnetCounters
from dataplane.binding.tables import (
    NO_ADDRESS,
    Address,
    PaKind,
    PaRow,
    RowKind,
    Translation,
    unpack_address,
)
from dataplane.process.protocol import Names

SELF_HOST = 1
"""The id of this host in the tables of a data-plane process, whatever the names say of others."""


def no_names() -> Names:
    return {"hosts": {}, "routingDomains": {}, "ports": {}, "host": None}


def by_id(names: Mapping[str, int]) -> dict[int, str]:
    return {number: name for name, number in names.items()}


def self_host(names: Names) -> int:
    """The id of this host."""
    return names["hosts"].get(names["host"] or "", SELF_HOST)


def own_addresses(pa_rows: bytes, own: int = SELF_HOST) -> list[PaRow]:
    """The rows of this host's PAs, IPv4 first, then by address."""
    rows = (row for row in tables.unpack_rows(RowKind.PA, pa_rows) if isinstance(row, PaRow))
    return sorted((row for row in rows if row.host == own), key=lambda row: (row.family, row.address))


def records(record_rows: bytes, pa_rows: bytes, names: Names) -> list[dict[str, Any]]:
    """The lookup records. The port of a record of another host is not known here: null. KeyError, ValueError:
    rows that no core has.
    """
    hosts, ports = by_id(names["hosts"]), by_id(names["ports"])
    own = self_host(names)
    shared = [row for row in own_addresses(pa_rows, own) if row.kind == PaKind.SHARED]
    own_pa = str(unpack_address(shared[0].address, shared[0].family)) if shared else None
    translations = {translation.value: translation.name.lower() for translation in Translation}
    types = {kind.value: kind.name.lower().replace("_", "-") for kind in tables.RecordType}

    def view(row: tables.RecordRow) -> dict[str, Any]:
        has_pa = row.provider_address != NO_ADDRESS
        return {
            "virtualSubnetId": row.vsid,
            "customerAddress": str(unpack_address(row.ca, row.family)),
            "macAddress": row.mac.hex(":"),
            "providerAddress": str(unpack_address(row.provider_address, row.pa_family)) if has_pa else own_pa,
            "translation": translations[row.translation],
            "type": types[row.type],
            "host": hosts.get(row.host, str(row.host)),
            "port": ports.get(row.port, str(row.port)) if row.host == own else None,
        }

    rows = tables.unpack_rows(RowKind.RECORD, record_rows)
    return _sorted(view(row) for row in rows if isinstance(row, tables.RecordRow))


def routes(packed: Mapping[RowKind, bytes], names: Names) -> dict[str, list[dict[str, Any]]]:
    """Customer routes (the prefixes on link too) by routing domain, and provider routes.

    packed: rows of SUBNET, PREFIX, ROUTE and PROVIDER_ROUTE. ValueError: such as no core has.
    """
    domains = by_id(names["routingDomains"])
    rows = {kind: list(tables.unpack_rows(kind, data)) for kind, data in packed.items()}
    domain_of = {row.vsid: row.rdid for row in rows[RowKind.SUBNET] if isinstance(row, tables.SubnetRow)}

    def customer(rdid: int, prefix: bytes, row: tables.PrefixRow | tables.RouteRow) -> dict[str, Any]:
        hop = row.next_hop if isinstance(row, tables.RouteRow) else NO_ADDRESS
        return {
            "routingDomain": domains.get(rdid, str(rdid)),
            "prefix": _prefix(prefix, row.family, row.prefix_len),
            "nextHop": str(unpack_address(hop, row.family)),
            "metric": 0,
        }

    on_link = [
        customer(domain_of.get(row.vsid, 0), row.prefix, row)
        for row in rows[RowKind.PREFIX]
        if isinstance(row, tables.PrefixRow)
    ]
    by_next_hop = [
        customer(row.rdid, row.prefix, row) for row in rows[RowKind.ROUTE] if isinstance(row, tables.RouteRow)
    ]
    provider = [
        {
            "prefix": _prefix(row.prefix, row.family, row.prefix_len),
            "nextHop": str(unpack_address(row.next_hop, row.family)),
        }
        for row in rows[RowKind.PROVIDER_ROUTE]
        if isinstance(row, tables.ProviderRouteRow)
    ]
    return {"customerRoutes": _sorted(on_link + by_next_hop), "providerRoutes": _sorted(provider)}


def _prefix(field: bytes, family: int, length: int) -> str:
    return str(ip_network((unpack_address(field, family), length)))


def _sorted(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the values of their fields as they are written."""
    return sorted(rows, key=lambda row: tuple("" if value is None else value for value in row.values()))


def subnet_view(subnet: SubnetCounters) -> dict[str, Any]:
    view = asdict(subnet)
    return {"virtualSubnetId": view.pop("vsid"), **view}


def neighbour_view(neighbour: Neighbour) -> dict[str, Any]:
    return {
        "address": str(neighbour.address),
        "mac": neighbour.mac.hex(":") if any(neighbour.mac) else None,
        "state": neighbour.state.name.lower(),
        "held": neighbour.held,
    }


def address_order(address: Address) -> tuple[int, int]:
    return address.version, int(address)
