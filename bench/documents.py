"""Documents of `isolane bench core|control|tcp|latency|ports --json`, read back from files and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1, le=1 << 40)]
Machine = dict[str, Any]
"""Facts by name, whatever they are: they are shown as they stand."""


class Unreadable(Exception):
    """A file is none of these documents; the text names it."""


class Spread(Struct, frozen=True):
    median: float
    min: float
    max: float

    def __post_init__(self) -> None:
        if not self.min <= self.median <= self.max:
            raise ValueError("the median is not between min and max")


class Percentiles(Struct, frozen=True):
    p50: float
    p99: float
    min: float
    max: float
    count: int


# ---- core --------------------------------------------------------------------------------------------------


class Roof(Struct, frozen=True):
    clocks: Spread


class Scaling(Struct, frozen=True):
    """Packets that so many workers pass at once, of what one passes alone; and the roof's."""

    workers: int
    ratio: Spread
    roof: Spread | None = None


class CoreResult(Struct, frozen=True):
    op: str
    keys: str
    family: int
    records: Count
    flows: int
    hosts: int
    frame: int
    rounds: int
    packets: int
    clocks: Spread
    mpps: Spread
    drops: int
    pa_family: int = 0
    reason: str = ""
    sources: int | None = None
    roof: Roof | None = None
    ratio: float | None = None
    bar: float | None = None
    instructions: float | None = None
    scaling: Scaling | None = None

    @property
    def case(self) -> str:
        """What a packet of it is, but for how many records and flows there are."""
        text = self.op
        pa_family = self.pa_family or self.family
        if (self.family, pa_family) != (4, 4):
            text += f", IPv{self.family}"
        if pa_family != self.family:
            text += f" over IPv{pa_family}"
        return text if self.sources is None else f"{text}, {self.sources:,} sources"


class Counted(Struct, frozen=True):
    by: str
    compiler: str


class CoreDocument(Struct, frozen=True):
    machine: Machine
    results: list[CoreResult]
    counted: Counted | None = None


# ---- contests ----------------------------------------------------------------------------------------------


class Contest(Struct, frozen=True):
    profile: str
    rounds: int
    repeated: int
    steal: Spread


class ContestDocument(Struct, frozen=True, kw_only=True):
    """skipped: contestants that could not take part, and why."""

    machine: Machine
    versions: dict[str, str] = {}
    skipped: dict[str, str] = {}


class Throughput(Struct, frozen=True, rename="camel"):
    """of_own_at_1600: on a wire of 9,000 bytes, to the same on one of 1,600."""

    gbps: Spread
    ratio: Spread
    retransmits: Spread
    cpu_seconds_per_gbit: Spread
    wake_ups_per_gbit: Spread | None = None
    of_own_at_1600: Spread | None = None


class TcpResult(Contest, frozen=True):
    contestants: Annotated[dict[str, Throughput], Meta(min_length=1)]


class TcpDocument(ContestDocument, frozen=True, kw_only=True):
    results: list[TcpResult]
    congestion: str = ""


class RoundTrips(Struct, frozen=True, rename="camel"):
    p50: Spread
    p99: Spread
    ratio: Spread
    lost: Spread
    cpu_microseconds_per_trip: Spread
    wake_ups_per_trip: Spread | None = None


class LatencyResult(Contest, frozen=True, rename="camel"):
    pause_milliseconds: float
    count: int
    contestants: Annotated[dict[str, RoundTrips], Meta(min_length=1)]


class LatencyDocument(ContestDocument, frozen=True, kw_only=True):
    results: list[LatencyResult]


class Passed(Struct, frozen=True, rename="camel"):
    """lost: a share of what was offered; wire_frame: bytes without FCS, where it is known; of_peak: what
    passes under overload, of what passes at most, and offered_of_peak: what is offered then, of the same.
    """

    kpps: Spread
    ratio: Spread
    offered_kpps: Spread
    lost: Spread
    cpu_seconds_per_million: Spread
    wire_frame: Spread | None = None
    of_peak: Spread | None = None
    offered_of_peak: Spread | None = None


_TITLES = {
    "frames": "Frames of {} bytes through one device",
    "overload": "Frames of {} bytes through one device, ten times what passes",
    "datagrams": "UDP in frames of {} bytes between VMs",
    "no-loss": "UDP in frames of {} bytes between VMs, at most 0.1 % lost",
    "overload-datagrams": "UDP in frames of {} bytes between VMs, up to ten times what passes",
}


def ports_title(load: str, frame: int) -> str:
    """What a PortsResult is about."""
    words = _TITLES.get(load)
    return words.format(frame) if words else f"{load}, {frame} bytes"


class PortsResult(Contest, frozen=True):
    load: str
    frame: Count
    contestants: Annotated[dict[str, Passed], Meta(min_length=1)]


class PortsDocument(ContestDocument, frozen=True, kw_only=True):
    results: list[PortsResult]


# ---- control -----------------------------------------------------------------------------------------------


class Fill(Struct, frozen=True, rename="camel"):
    seconds: float
    records_per_second: int


class Rate(Struct, frozen=True, rename="camel"):
    seconds: Spread
    records_per_second: int


class Load(Rate, frozen=True):
    """Its parts, and until `isolane node status` shows it."""

    read: Spread
    view: Spread
    push: Spread
    wall: Spread


class Change(Percentiles, frozen=True):
    add: Percentiles | None = None
    move: Percentiles | None = None


class ControlResult(Struct, frozen=True, rename="camel"):
    records: Count
    hosts: int
    fill: Fill
    load: Load
    compile: Rate
    push: Rate
    table: Rate
    new_host: Percentiles
    apply: Percentiles
    change: Change
    agent_rss: int
    agent_rss_loaded: int
    agent_rss_peak: int


class ControlDocument(Struct, frozen=True):
    machine: Machine
    results: list[ControlResult]


# ---- files -------------------------------------------------------------------------------------------------

Document = CoreDocument | ControlDocument | TcpDocument | LatencyDocument | PortsDocument


@dataclass(frozen=True)
class Source:
    """name: of the file, as it was given."""

    name: str
    document: Document


def read(path: Path) -> Source:
    """Unreadable: it is something else, or lacks something."""
    name = str(path).encode("utf-8", "replace").decode()
    try:
        found = msgspec.json.decode(path.read_bytes())
        kind = _kind(found)
        if kind is None:
            raise Unreadable(f"{name}: no document of isolane bench core, control, tcp, latency or ports")
        return Source(name, msgspec.convert(found, kind))
    except OSError as error:
        raise Unreadable(f"{name}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"{name}: {error}") from None


def _kind(found: object) -> type[Document] | None:
    """By what only its results have."""
    result = _first(_mapping(found).get("results"))
    if "op" in result:
        return CoreDocument
    if {"records", "change"} <= result.keys():
        return ControlDocument
    figures = _first(list(_mapping(result.get("contestants")).values()))
    if "gbps" in figures:
        return TcpDocument
    if "kpps" in figures:
        return PortsDocument
    return LatencyDocument if {"p50", "p99"} <= figures.keys() else None


def _first(found: object) -> Mapping[str, Any]:
    return _mapping(found[0] if isinstance(found, list) and found else None)


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}
