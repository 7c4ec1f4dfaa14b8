"""From stored Port documents to packed rows, a hundred thousand at a time.

Ports on other hosts are nearly all that the tables of a host hold, so their rows are not made object by
object but column by column. They say what compiler.compile_host says of the same ports, in canonical form.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from socket import AF_INET, AF_INET6, inet_pton
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from dataplane.binding.tables import ROW_DTYPES, PaKind, RecordType, RowKind, Rows, Translation, pack_address
from policy.kinds import model
from policy.kinds.documents import STORAGE_VERSION
from policy.kinds.model import Host, VMSubnet
from policy.rules.peers import nvgre_family

CHUNK = 1 << 16
"""Documents that are decoded at a time: what bounds the memory for it."""

Texts = tuple[str, ...]
_Columns = npt.NDArray[np.int64]
_Octets = npt.NDArray[np.uint8]


class _Given(msgspec.Struct, frozen=True, gc=False):
    addresses: Texts = ()
    mac: str = ""
    providerAddresses: Texts = ()


class _Spec(msgspec.Struct, frozen=True, gc=False):
    vmSubnet: str
    host: str
    addresses: Texts = ()
    mac: str = ""
    providerAddresses: Texts = ()


class _Document(msgspec.Struct, frozen=True, gc=False):
    """What matters here of what documents.dump writes."""

    spec: _Spec
    given: _Given = _Given()
    version: Annotated[int, msgspec.Meta(le=STORAGE_VERSION)] = STORAGE_VERSION


DecodeError = msgspec.MsgspecError
"""A document is not what documents.dump writes."""

ERRORS = (DecodeError, LookupError, ValueError, OSError)
"""Of rows_of: one of the documents is not."""

decode = msgspec.json.Decoder(_Document).decode


class _Place(msgspec.Struct, frozen=True, gc=False):
    vmSubnet: str
    host: str


class _Placed(msgspec.Struct, frozen=True, gc=False):
    spec: _Place


class _Home(msgspec.Struct, frozen=True, gc=False):
    host: str


class _Housed(msgspec.Struct, frozen=True, gc=False):
    spec: _Home


_decode_place = msgspec.json.Decoder(_Placed).decode
decode_home = msgspec.json.Decoder(_Housed).decode
"""Of a Port document the host that it names, `.spec.host`. DecodeError."""

_HEX = np.zeros(256, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)


def home(document: bytes) -> tuple[str, str]:
    """The VM subnet (of the port's tenant) and the host that a Port document names. DecodeError."""
    spec = _decode_place(document).spec
    return spec.vmSubnet, spec.host


class Places:
    """What Port documents name: the VM subnets that one host's tables have, by tenant and name, and hosts."""

    def __init__(self, subnets: Iterable[VMSubnet], hosts: Iterable[Host], own: Host) -> None:
        listed = list(subnets)
        self.subnet_ids = [subnet.id for subnet in listed]
        self.subnets: dict[str, dict[str, int]] = {}
        for index, subnet in enumerate(listed):
            self.subnets.setdefault(subnet.tenant, {})[subnet.name] = index
        rewrite = model.Translation.REWRITE
        self.vsids = np.array([subnet.vsid for subnet in listed], np.uint32)
        self.rewrites = np.array([subnet.translation is rewrite for subnet in listed], np.bool_)
        owners = list(hosts)
        self.host_names = [owner.name for owner in owners]
        self.hosts = {name: index for index, name in enumerate(self.host_names)}
        self.own = self.hosts[own.name]
        pas = [owner.shared_pa(nvgre_family(own, owner)) for owner in owners]
        self.shared = _octets(b"".join(pack_address(pa) if pa else bytes(16) for pa in pas), 16)
        self.shared_families = np.array([pa.version if pa else 0 for pa in pas], np.uint8)


@dataclass(frozen=True, slots=True)
class PortRows:
    """Of ports on other hosts. In `host` is the index of a host in the Places until `number` has put its id
    there. homes: of each port the index of its subnet times the number of hosts, and that of its host.
    """

    records: Rows
    pas: Rows
    homes: npt.NDArray[np.int64]

    def number(self, ids: npt.NDArray[np.uint32]) -> None:
        for rows in (self.records, self.pas):
            rows["host"] = ids[rows["host"]]


def rows_of(tenants: Mapping[str, Iterable[bytes]], places: Places) -> PortRows:
    """tenants: their Port documents. Left out: those on the places' own host, and
    whose subnet or host is not there."""
    parts = [
        _rows_of_part(part, places.subnets[tenant], places)
        for tenant, values in tenants.items()
        if tenant in places.subnets
        for part in _parts(values)
    ]
    return PortRows(
        _joined(RowKind.RECORD, [part.records for part in parts]),
        _joined(RowKind.PA, [part.pas for part in parts]),
        np.concatenate([np.zeros(0, np.int64), *(part.homes for part in parts)]),
    )


def _joined(kind: RowKind, parts: Sequence[Rows]) -> Rows:
    """numpy's concatenate would leave the padding out."""
    return np.frombuffer(bytearray().join(part.data for part in parts), ROW_DTYPES[kind])


def _parts(values: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(values)
    return iter(lambda: list(islice(rest, CHUNK)), [])


def _rows_of_part(values: Sequence[bytes], subnets: Mapping[str, int], places: Places) -> PortRows:
    found = list(map(decode, values))
    names = [each.spec.vmSubnet for each in found]
    hosts = [each.spec.host for each in found]
    subnet_of: _Columns = np.fromiter(map(subnets.get, names, repeat(-1)), np.int64, len(found))
    host_of: _Columns = np.fromiter(map(places.hosts.get, hosts, repeat(-1)), np.int64, len(found))
    chosen = np.flatnonzero((subnet_of >= 0) & (host_of >= 0) & (host_of != places.own))
    if len(chosen) < len(found):
        found = [found[index] for index in chosen.tolist()]
        subnet_of, host_of = subnet_of[chosen], host_of[chosen]
    addresses = [each.spec.addresses or each.given.addresses for each in found]
    counts: _Columns = np.fromiter(map(len, addresses), np.int64)
    return PortRows(
        *_address_rows(found, list(chain.from_iterable(addresses)), counts, subnet_of, host_of, places),
        subnet_of * len(places.host_names) + host_of,
    )


def _address_rows(
    found: Sequence[_Document],
    addresses: Sequence[str],
    counts: _Columns,
    subnet_of: _Columns,
    host_of: _Columns,
    places: Places,
) -> tuple[Rows, Rows]:
    """A record for every address, and under rewrite the row of its PA."""
    subnets, hosts = np.repeat(subnet_of, counts), np.repeat(host_of, counts)
    rewrites = places.rewrites[subnets]
    records = np.zeros(len(addresses), ROW_DTYPES[RowKind.RECORD])
    records["ca"], records["family"] = _pack(addresses)
    records["vsid"], records["host"] = places.vsids[subnets], hosts
    records["mac"] = np.repeat(_macs([each.spec.mac or each.given.mac for each in found]), counts)
    records["provider_address"] = places.shared[hosts].view("V16").ravel()
    records["pa_family"] = places.shared_families[hosts]
    records["translation"] = np.where(rewrites, Translation.REWRITE, Translation.NVGRE)
    records["type"] = RecordType.STATIC
    pas = np.zeros(np.count_nonzero(rewrites), ROW_DTYPES[RowKind.PA])
    if not len(pas):
        return records, pas
    provider = [each.spec.providerAddresses or each.given.providerAddresses for each in found]
    pas["address"], pas["family"] = _pack(list(chain.from_iterable(provider)))
    pas["host"], pas["kind"] = hosts[rewrites], PaKind.REWRITE
    records["provider_address"][rewrites], records["pa_family"][rewrites] = pas["address"], pas["family"]
    return records, pas


def _pack(addresses: Sequence[str]) -> tuple[npt.NDArray[np.void], _Octets]:
    """As address fields, and their families."""
    if ":" not in "".join(addresses):
        fields = np.zeros((len(addresses), 16), np.uint8)
        fields[:, :4] = _octets(b"".join(map(inet_pton, repeat(AF_INET), addresses)), 4)
        return fields.view("V16").ravel(), np.full(len(addresses), 4, np.uint8)
    six: npt.NDArray[np.bool_] = np.fromiter((":" in each for each in addresses), np.bool_)
    fields = np.zeros((len(addresses), 16), np.uint8)
    fields[~six, :4] = _octets(b"".join(inet_pton(AF_INET, each) for each in addresses if ":" not in each), 4)
    fields[six] = _octets(b"".join(inet_pton(AF_INET6, each) for each in addresses if ":" in each), 16)
    return fields.view("V16").ravel(), np.where(six, np.uint8(6), np.uint8(4))


def _macs(macs: Sequence[str]) -> npt.NDArray[np.void]:
    digits = _HEX[_octets("".join(macs).encode(), 17)]
    packed = np.ascontiguousarray(digits[:, 0::3] << 4 | digits[:, 1::3])
    return packed.view("V6").ravel()


def _octets(data: bytes, width: int) -> _Octets:
    return np.frombuffer(data, np.uint8).reshape(-1, width)
