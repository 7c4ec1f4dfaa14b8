"""What the data-plane process and its clients say to each other: how much at most, and the types of answers.

Whoever answers may have been broken into, and names come from tenants: what is read is one of these types, of
bounded size and without characters that move a terminal's cursor, or a ProtocolError.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from dataplane.binding._ffi import lib
from dataplane.binding.handover import MAX_NAME, MAX_QUEUES, OFFLOADS, OffloadName
from dataplane.binding.tables import RowKind
from dataplane.process.text import printable

MAX_PORTS: int = lib.DP_MAX_PORTS
MAX_WORKERS = 8
MAX_ANSWER = 2 << 30
"""Bytes: ten million rows and more."""


class Kind(StrEnum):
    """Who must act on an error."""

    REQUEST = "request"
    CHANGE_SET = "change-set"
    HOST = "host"
    NOT_ALLOWED = "not-allowed"
    BUSY = "busy"
    INTERNAL = "internal"


class ProtocolError(Exception):
    """What came is not what was asked for."""


_UNPRINTABLE = "\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_PRINTABLE = rf"\A[^{_UNPRINTABLE}]*\Z"
_MAC = r"\A([0-9a-f]{2}(:[0-9a-f]{2}){5})?\Z"

Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Id = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Word = Annotated[str, Meta(max_length=256, pattern=_PRINTABLE)]
PortName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME - 1, pattern=_PRINTABLE)]
PortId = Annotated[int, Meta(ge=0, le=MAX_PORTS - 1)]
Mac = Annotated[str, Meta(max_length=17, pattern=_MAC)]
Mtu = Annotated[int, Meta(ge=68, le=65535)]
Queues = Annotated[int, Meta(ge=0, le=MAX_QUEUES)]


class PortSummary(TypedDict):
    id: PortId
    name: PortName
    kind: Literal["tap", "packet", "xdp"]
    mac: Mac
    mtu: Mtu
    offloads: Annotated[list[OffloadName], Meta(max_length=len(OFFLOADS))]
    queues: Queues
    xsks: Queues


class Hello(TypedDict):
    """What runs; ports are sorted by id."""

    pid: Id
    version: Word
    instance: Word
    generation: Count
    workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS)]
    ports: Annotated[list[PortSummary], Meta(max_length=MAX_PORTS)]


class NeighbourView(TypedDict):
    """A provider next hop."""

    address: Word
    mac: Mac | None
    state: Word
    held: Count


class Found(NeighbourView):
    """The neighbour, and how long that took."""

    seconds: float


class UnderlayView(TypedDict):
    device: Word | None
    mac: Mac | None
    mtu: Mtu | None
    kind: Word | None
    reason: Word | None


class AgentReport(TypedDict, total=False):
    """What the agent said of itself last; nothing if none did."""

    pid: Id
    revision: Count | None
    state: str
    problems: list[str]
    waiting: list[str]
    link: str
    store: str


class WorkerView(TypedDict):
    """wakeUps: how often it has slept for want of packets and gone on."""

    wakeUps: Count


class Status(TypedDict):
    """workers: a data plane of before has none to tell of."""

    instance: Word
    host: Word | None
    pid: Id
    generation: Count
    underlay: UnderlayView
    providerAddresses: list[Word]
    tables: dict[Word, Count]
    workers: NotRequired[list[WorkerView]]
    agent: AgentReport


class PortView(TypedDict):
    name: Word
    id: Id
    virtualSubnetId: Id | None
    mac: Mac
    kind: Word | None
    reason: Word | None
    device: Word | None
    mtu: Mtu | None
    queues: Queues


class PortCounters(TypedDict):
    """As stats.Counters."""

    received: Count
    originated: Count
    sent: Count
    dropped: Count
    consumed: Count
    held: Count
    rx_bytes: Count
    tx_bytes: Count
    rx_gso: Count
    rx_csum_partial: Count
    tx_gso: Count
    tx_csum_partial: Count
    rx_kernel: Count
    icmp_limited: Count
    drops: Annotated[dict[Word, Count], Meta(max_length=1024)]


class StrangerView(TypedDict):
    """A port that has got frames from another MAC than its own: the last such MAC, what was received in all,
    and how much was refused for that.
    """

    name: PortName
    mac: Mac
    received: Count
    refused: Count


class SubnetCountersView(TypedDict):
    virtualSubnetId: Id
    from_port: Count
    from_port_bytes: Count
    to_port: Count
    to_port_bytes: Count


class AllCounters(PortCounters):
    """The sum over all ports that ever were, and each present port's; of subnets what their tenant ports sent
    and got.
    """

    ports: Annotated[dict[PortName, PortCounters], Meta(max_length=MAX_PORTS)]
    subnets: list[SubnetCountersView]


class Names(TypedDict):
    """Name -> id; host: this host's name."""

    hosts: dict[Word, Id]
    routingDomains: dict[Word, Id]
    ports: dict[Word, Id]
    host: Word | None


T = TypeVar("T")


def checked(value: object, type_: type[T]) -> T:
    """A value that JSON could say, as that type. ProtocolError: it is none."""
    try:
        return msgspec.convert(value, type_)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ProtocolError(str(error)) from None


def decode_names(encoded: bytes) -> Names:
    """Of JSON. ProtocolError: it is none, or no names."""
    try:
        return msgspec.json.decode(encoded, type=Names)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"names: {error}") from None


def digests(value: object) -> dict[RowKind, int] | None:
    """The answer of digest_step. ProtocolError."""
    found = checked(value, dict[str, int] | None)  # type: ignore[arg-type]
    if found is None:
        return None
    if found.keys() != {kind.name for kind in RowKind} or any(not 0 <= d < 1 << 64 for d in found.values()):
        raise ProtocolError("not a digest of 64 bits for every kind of row")
    return {kind: found[kind.name] for kind in RowKind}


def refusal(header: Mapping[str, Any]) -> tuple[str, str]:
    """Text and kind of an error: none of it is taken for more than it is."""
    text = header.get("error")
    text = printable(text) if isinstance(text, str) else "no answer"
    kind = header.get("kind")
    return text, kind if isinstance(kind, str) and kind in frozenset(Kind) else Kind.INTERNAL
