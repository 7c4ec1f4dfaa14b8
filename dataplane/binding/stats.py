"""Counters and drop reasons of the packet core."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache

from dataplane.binding._ffi import ffi, lib


@dataclass(frozen=True, slots=True)
class DropReason:
    """One line of drop.def."""

    name: str
    text: str


@cache
def drop_reasons() -> tuple[DropReason, ...]:
    """Every reason for which a packet dies, in the order of drop.def, after index 0, "none"."""
    return tuple(
        DropReason(ffi.string(lib.dp_drop_name(i)).decode(), ffi.string(lib.dp_drop_text(i)).decode())
        for i in range(lib.dp_drop_count())
    )


@cache
def _order() -> dict[str, int]:
    return {reason.name: at for at, reason in enumerate(drop_reasons())}


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of one port, or their sum over ports: packets, except rx_bytes and tx_bytes.

    received, dropped and consumed count at the port where the packet came in, sent where it left.
    """

    received: int = 0
    originated: int = 0
    sent: int = 0
    dropped: int = 0
    consumed: int = 0
    held: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_gso: int = 0
    rx_csum_partial: int = 0
    tx_gso: int = 0
    tx_csum_partial: int = 0
    rx_kernel: int = 0
    """Lost in the kernel before the core received them, so outside the balance; up to a second behind.
    AF_PACKET ports only: a TAP's are its device's tx_dropped, which descriptors do not tell."""
    icmp_limited: int = 0
    """Packets dropped without the ICMP error that was due: their port had been told of too many."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Packets by drop reason, only those above 0, in the order of drop.def."""

    def __add__(self, other: "Counters") -> "Counters":
        summed = {name: getattr(self, name) + getattr(other, name) for name in _NUMBERS}
        both = Counter(self.drops) + Counter(other.drops)
        return Counters(**summed, drops={name: both[name] for name in sorted(both, key=_order().__getitem__)})

    def balance(self) -> int:
        """received + originated - sent - dropped - consumed - held: 0 over all ports, workers at rest."""
        return self.received + self.originated - self.sent - self.dropped - self.consumed - self.held


_NUMBERS = tuple(f.name for f in fields(Counters) if f.name != "drops")


@dataclass(frozen=True, slots=True)
class SubnetCounters:
    """Packets and bytes that tenant ports of one virtual subnet sent and were given."""

    vsid: int
    from_port: int
    from_port_bytes: int
    to_port: int
    to_port_bytes: int


@dataclass(frozen=True, slots=True)
class TableStats:
    """What the tables hold; overflow and displaced count records outside their first bucket."""

    records4: int
    records6: int
    rewrites: int
    pas: int
    subnets: int
    routes: int
    next_hops: int
    bytes: int
    overflow: int
    displaced: int
