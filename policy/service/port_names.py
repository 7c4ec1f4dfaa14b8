"""Which ports the lookup records of a data plane are of, by what a store says: rows name ports of their own
host alone.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

from policy.compile import port_rows
from policy.kinds import documents, keys
from policy.kinds.model import LookupRecord, VMSubnet
from policy.kinds.steps import counted
from policy.store.reading import Reading


class Place(NamedTuple):
    """What tells a record from all others, as it is written, and whose it is: a store that is ahead of a data
    plane, or behind it, may have another VM at the address.
    """

    vsid: int
    customer_address: str
    mac: str
    host: str


def names_of(reading: Reading, vsids: Collection[int]) -> dict[Place, str]:
    """TENANT/NAME of the ports of these virtual subnets, as compiler.compile_host has them; "": a record that
    is no Port's. What can't be read is left out.
    """
    subnets = {
        item.id: item.vsid
        for item in documents.read(reading.under(keys.objects_of("VMSubnet")), complete=True).objects
        if isinstance(item, VMSubnet) and item.vsid in vsids
    }
    names: dict[Place, str] = {}
    for tenant in sorted({subnet.tenant for subnet in subnets}):
        of_tenant = {subnet.name: vsid for subnet, vsid in subnets.items() if subnet.tenant == tenant}
        documents_of = reading.under(keys.objects_of("Port", tenant)).items()
        for key, value in counted(documents_of, f"reading ports of {tenant}"):
            with suppress(port_rows.DecodeError):
                names |= dict.fromkeys(_places(value, of_tenant), keys.object_id(key).qualified_name)
    return names | dict(_stated(reading, vsids))


def _places(document: bytes, vsids: dict[str, int]) -> Iterator[Place]:
    port = port_rows.decode(document)
    vsid = vsids.get(port.spec.vmSubnet)
    if vsid is not None:
        for address in port.spec.addresses or port.given.addresses:
            yield Place(vsid, address, port.spec.mac or port.given.mac, port.spec.host)


def _stated(reading: Reading, vsids: Collection[int]) -> Iterator[tuple[Place, str]]:
    """Records that are objects of their own."""
    for each in documents.read(reading.under(keys.objects_of("LookupRecord")), complete=True).objects:
        if isinstance(each, LookupRecord) and each.virtual_subnet_id in vsids:
            place = Place(
                each.virtual_subnet_id, str(each.customer_address), str(each.mac_address), each.host
            )
            yield place, each.port_id.qualified_name if each.port else ""
