"""What a new host costs where so many CAs have a PA of their own: time of the one change set that brings it,
in an engine of this process.
"""

import time

import numpy as np
import numpy.typing as npt

from dataplane.binding import core
from dataplane.binding.core import Dataplane
from dataplane.binding.tables import (
    ROW_DTYPES,
    ChangeSet,
    Op,
    PaKind,
    PaRow,
    RowKind,
    Section,
    SubnetRow,
    Translation,
    put,
)
from dataplane.process.views import SELF_HOST
from policy.kinds.model import ROUTER_MAC, mac_value

ROWS = 1 << 19
"""Of a change set."""
_VSID, _FIRST_HOST = 5000, 100
_CAS, _REWRITE_PAS, _SHARED_PAS = 0x0B000000, 0x0A000000, 0xC0A80000


def new_hosts(records: int, hosts: int, rounds: int) -> list[float]:
    """Seconds of each new host, with its first shared PA."""
    config = core.Config(SELF_HOST, mac_value(ROUTER_MAC).to_bytes(6, "big"), hash_key=(1, 2))
    with core.Dataplane(config) as dataplane:
        _apply(dataplane, put([_shared(SELF_HOST, 0)]), put([SubnetRow(_VSID, 1)]))
        _apply(dataplane, put([_shared(_FIRST_HOST + host, 1 + host) for host in range(hosts)]))
        for first in range(0, records, ROWS):
            numbers = np.arange(first, min(first + ROWS, records), dtype=np.uint32)
            _apply(dataplane, _pas(numbers, hosts))
            _apply(dataplane, _records(numbers, hosts))
        return [_timed(dataplane, hosts + 1 + number) for number in range(rounds)]


def _timed(dataplane: Dataplane, number: int) -> float:
    encoded = ChangeSet(2, (put([_shared(_FIRST_HOST + number, number)]),)).encode()
    begun = time.perf_counter()
    dataplane.apply(encoded)
    return time.perf_counter() - begun


def _apply(dataplane: Dataplane, *sections: Section) -> None:
    dataplane.apply(ChangeSet(1, sections).encode())
    dataplane.verified()


def _shared(host: int, number: int) -> PaRow:
    address = (_SHARED_PAS + number).to_bytes(4, "big")
    return PaRow(address.ljust(16, b"\0"), host, 4, PaKind.SHARED, 0)


def _addresses(first: int, numbers: npt.NDArray[np.uint32]) -> npt.NDArray[np.void]:
    octets = np.zeros((len(numbers), 16), np.uint8)
    octets[:, :4] = (numbers + np.uint32(first)).astype(">u4").view(np.uint8).reshape(-1, 4)
    return octets.view("V16")[:, 0]


def _pas(numbers: npt.NDArray[np.uint32], hosts: int) -> Section:
    rows = np.zeros(len(numbers), ROW_DTYPES[RowKind.PA])
    rows["address"] = _addresses(_REWRITE_PAS, numbers)
    rows["host"] = _FIRST_HOST + numbers % hosts
    rows["family"], rows["kind"] = 4, PaKind.REWRITE
    return Section(RowKind.PA, Op.PUT, rows.tobytes())


def _records(numbers: npt.NDArray[np.uint32], hosts: int) -> Section:
    rows = np.zeros(len(numbers), ROW_DTYPES[RowKind.RECORD])
    rows["ca"], rows["provider_address"] = _addresses(_CAS, numbers), _addresses(_REWRITE_PAS, numbers)
    rows["vsid"], rows["host"], rows["mac"] = (
        _VSID,
        _FIRST_HOST + numbers % hosts,
        np.void(bytes.fromhex("02" * 6)),
    )
    rows["family"] = rows["pa_family"] = 4
    rows["translation"], rows["type"] = Translation.REWRITE, 1
    return Section(RowKind.RECORD, Op.PUT, rows.tobytes())
