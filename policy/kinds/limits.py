"""Sections that say how much may be sent: by a port, and to all of a subnet."""

from dataclasses import dataclass
from typing import Annotated

from policy.kinds.declare import Field, Values, section
from policy.kinds.scalars import BOOLEAN, BYTE_RATE, BYTES, PACKETS
from policy.kinds.values import DEFAULT_BROADCAST_RATE, MAX_BURST, MIN_BURST_BYTES, MIN_BURST_PACKETS
from policy.kinds.yaml_reader import Fields


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Of what a port sends; 0: not stated. Without its rate a burst means nothing."""

    packets_per_second: Annotated[
        int, Field(PACKETS, "Packets a second.", "20000", left_out="as many as it likes")
    ] = 0
    bytes_per_second: Annotated[
        int,
        Field(
            BYTE_RATE,
            "Bytes a second, of whole Ethernet frames without FCS.",
            "125000000",
            left_out="as many as it likes",
        ),
    ] = 0
    burst_packets: Annotated[
        int,
        Field(
            PACKETS,
            "Packets at once, after a time of silence.",
            "2000",
            left_out=f"those of a tenth of a second, at least {MIN_BURST_PACKETS}",
        ),
    ] = 0
    burst_bytes: Annotated[
        int,
        Field(
            BYTES,
            "Bytes at once, after a time of silence.",
            "12500000",
            left_out=f"those of a tenth of a second, at least {MIN_BURST_BYTES}",
        ),
    ] = 0

    @property
    def whole(self) -> "RateLimit":
        """With the bursts that hold when none is stated: a tenth of a second, and what a super-packet is."""
        packets, octets = self.packets_per_second, self.bytes_per_second
        return RateLimit(
            packets,
            octets,
            (self.burst_packets or max(MIN_BURST_PACKETS, packets // 10)) if packets else 0,
            (self.burst_bytes or max(MIN_BURST_BYTES, min(octets // 10, MAX_BURST))) if octets else 0,
        )


def _rate_limit(values: Values, fields: Fields | None) -> RateLimit:
    limit = RateLimit(**{name: value or 0 for name, value in values.items()})
    if fields is None:
        return limit
    rates = ("packetsPerSecond", "bytesPerSecond")
    if not any(map(fields.has, rates)):
        fields.report("", f"expected {' or '.join(rates)}, or both")
    for rate, burst in zip(rates, ("burstPackets", "burstBytes"), strict=True):
        if fields.has(burst) and not fields.has(rate):
            fields.report(burst, f"means nothing without {rate}")
    return limit


RATE_LIMIT = section(RateLimit, _rate_limit)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What becomes of broadcast and multicast in a subnet; burst_packets 0: not stated."""

    enabled: Annotated[
        bool,
        Field(
            BOOLEAN,
            "Whether each VM of the subnet gets a copy of what one of them sends to all or to a group.",
            "false",
            left_out="true",
        ),
    ] = True
    packets_per_second: Annotated[
        int,
        Field(
            PACKETS,
            "How many such packets a second a host takes from its VMs, and as many from other hosts.",
            "200",
            left_out=str(DEFAULT_BROADCAST_RATE),
        ),
    ] = DEFAULT_BROADCAST_RATE
    burst_packets: Annotated[
        int,
        Field(
            PACKETS,
            "Such packets at once, after a time of silence.",
            "50",
            left_out=f"those of a tenth of a second, at least {MIN_BURST_PACKETS}",
        ),
    ] = 0

    @property
    def burst(self) -> int:
        return self.burst_packets or max(MIN_BURST_PACKETS, self.packets_per_second // 10)


BROADCAST = section(Broadcast)
USUAL_BROADCAST = Broadcast()
