"""Tables of what was measured: every figure of a document, as text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from bench.documents import (
    Contest,
    ControlDocument,
    ControlResult,
    CoreDocument,
    CoreResult,
    LatencyDocument,
    LatencyResult,
    Passed,
    Percentiles,
    PortsDocument,
    PortsResult,
    Rate,
    RoundTrips,
    Scaling,
    Source,
    Spread,
    TcpDocument,
    TcpResult,
    Throughput,
)

F = TypeVar("F")
Columns = Mapping[str, Callable[[F], str]]
"""By title."""


class Table(NamedTuple):
    """The first cell of a row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def spread(figures: Spread, digits: int) -> str:
    """As people write it: median (min-max)."""
    median, least, most = (f"{each:,.{digits}f}" for each in (figures.median, figures.min, figures.max))
    return f"{median} ({least}-{most})"


def _without_empty(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Columns in which nothing stands are left out."""
    kept = [number for number in range(len(head)) if any(row[number] for row in rows)]
    return Table([head[number] for number in kept], [[row[number] for number in kept] for row in rows])


# ---- contests ----------------------------------------------------------------------------------------------

_TCP: Columns[Throughput] = {
    "Gb/s": lambda each: spread(each.gbps, 2),
    "of kernel VXLAN": lambda each: spread(each.ratio, 2),
    "of own at 1,600": lambda each: spread(each.of_own_at_1600, 2) if each.of_own_at_1600 else "",
    "retransmits": lambda each: spread(each.retransmits, 0),
    "CPU s/Gbit": lambda each: spread(each.cpu_seconds_per_gbit, 3),
    "wake-ups/Gbit": lambda each: spread(each.wake_ups_per_gbit, 0) if each.wake_ups_per_gbit else "",
}
_LATENCY: Columns[RoundTrips] = {
    "p50 µs": lambda each: spread(each.p50, 1),
    "p99 µs": lambda each: spread(each.p99, 1),
    "p50 of kernel VXLAN": lambda each: spread(each.ratio, 2),
    "lost": lambda each: spread(each.lost, 0),
    "CPU µs/trip": lambda each: spread(each.cpu_microseconds_per_trip, 1),
    "wake-ups/trip": lambda each: spread(each.wake_ups_per_trip, 2) if each.wake_ups_per_trip else "",
}
_PORTS: Columns[Passed] = {
    "kpps": lambda each: spread(each.kpps, 0),
    "of kernel VXLAN": lambda each: spread(each.ratio, 2),
    "offered, kpps": lambda each: spread(each.offered_kpps, 0),
    "lost": lambda each: f"{each.lost.median:.2%} ({each.lost.min:.2%}-{each.lost.max:.2%})",
    "CPU s/Mpkt": lambda each: spread(each.cpu_seconds_per_million, 2),
    "of its peak": lambda each: spread(each.of_peak, 2) if each.of_peak else "",
    "offered, times its peak": lambda each: spread(each.offered_of_peak, 1) if each.offered_of_peak else "",
    "on the wire, bytes": lambda each: f"{each.wire_frame.median:.0f}" if each.wire_frame else "",
}


def tcp(result: TcpResult) -> Table:
    return _without_empty(*_contest(_TCP, result.contestants))


def latency(result: LatencyResult) -> Table:
    found = _contest(_LATENCY, result.contestants)
    return _without_empty(found.head, found.rows)


def ports(result: PortsResult) -> Table:
    return _without_empty(*_contest(_PORTS, result.contestants))


def _contest(columns: Columns[F], contestants: Mapping[str, F]) -> Table:
    rows = [[name, *(text(figures) for text in columns.values())] for name, figures in contestants.items()]
    return Table(["contestant", *columns], rows)


def rounds(contest: Contest) -> str:
    steal = contest.steal
    return (
        f"{contest.rounds} rounds, {contest.repeated} repeated,"
        f" steal {steal.median:.1%} ({steal.min:.1%}-{steal.max:.1%})"
    )


# ---- core --------------------------------------------------------------------------------------------------

_CORE: Columns[CoreResult] = {
    "records": lambda each: f"{each.records:,}",
    "flows": lambda each: f"{each.flows:,}",
    "clocks": lambda each: spread(each.clocks, 1),
    "roof": lambda each: spread(each.roof.clocks, 1) if each.roof else "",
    "ratio": lambda each: _optional(each.ratio, 2),
    "bar": lambda each: _optional(each.bar, 2),
    "Mpps": lambda each: spread(each.mpps, 1),
    "workers at once, of one": lambda each: _scaling(each.scaling),
    "instructions": lambda each: _optional(each.instructions, 1),
    "rounds": lambda each: f"{each.rounds:,}",
    "packets": lambda each: f"{each.packets:,}",
    "drops": lambda each: f"{each.drops:,}",
    "dropped for": lambda each: each.reason,
}


def core(results: Sequence[tuple[str, CoreResult]]) -> Table:
    """Of results and the files that have them."""
    rows = [[each.case, name, *(text(each) for text in _CORE.values())] for name, each in results]
    return _without_empty(["operation", "file", *_CORE], rows)


def _scaling(found: Scaling | None) -> str:
    if not found:
        return ""
    roof = f", roof {spread(found.roof, 2)}" if found.roof else ""
    return f"{found.workers}: {spread(found.ratio, 2)}{roof}"


def _optional(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


# ---- control -----------------------------------------------------------------------------------------------

_CONTROL: Columns[ControlResult] = {
    "hosts": lambda each: f"{each.hosts:,}",
    "change p50, ms": lambda each: f"{each.change.p50:.2f}",
    "change p99, ms": lambda each: f"{each.change.p99:.2f}",
    "change least-most, ms": lambda each: f"{each.change.min:.2f}-{each.change.max:.2f}",
    "changes": lambda each: f"{each.change.count:,}",
    "a port appears: p50, p99, ms": lambda each: _percentiles(each.change.add, 2),
    "a port moves: p50, p99, ms": lambda each: _percentiles(each.change.move, 2),
    "commit: p50, p99, ms": lambda each: _percentiles(each.apply, 2),
    "new host: p50, p99, ms": lambda each: _percentiles(each.new_host, 3),
    "load, s": lambda each: spread(each.load.seconds, 2),
    "load, records/s": lambda each: f"{each.load.records_per_second:,}",
    "load: store read, s": lambda each: spread(each.load.read, 2),
    "load: rows made, s": lambda each: spread(each.load.view, 2),
    "load: rows pushed, s": lambda each: spread(each.load.push, 2),
    "load until shown, s": lambda each: spread(each.load.wall, 2),
    "compile": lambda each: _rate(each.compile),
    "push": lambda each: _rate(each.push),
    "table": lambda each: _rate(each.table),
    "fill the store, s": lambda each: f"{each.fill.seconds:,.2f}",
    "fill the store, records/s": lambda each: f"{each.fill.records_per_second:,}",
    "agent, MiB": lambda each: _mebibytes(each.agent_rss),
    "agent when loaded, MiB": lambda each: _mebibytes(each.agent_rss_loaded),
    "agent at its peak, MiB": lambda each: _mebibytes(each.agent_rss_peak),
}


def control(document: ControlDocument) -> Table:
    """A column for each number of records."""
    head = ["records", *(f"{each.records:,}" for each in document.results)]
    return Table(
        head, [[title, *(text(each) for each in document.results)] for title, text in _CONTROL.items()]
    )


def _percentiles(figures: Percentiles | None, digits: int) -> str:
    return f"{figures.p50:.{digits}f}, {figures.p99:.{digits}f}" if figures else ""


def _rate(rate: Rate) -> str:
    return f"{spread(rate.seconds, 2)} s, {rate.records_per_second:,} records/s"


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.0f}"


# ---- what they were measured on ----------------------------------------------------------------------------

_FACTS: Mapping[str, Callable[[object], str]] = {
    "cpu": str,
    "cores": lambda value: f"{value} cores",
    "kernel": lambda value: f"Linux {value}",
    "tsc_mhz": lambda value: f"TSC of {value} MHz",
    "load": lambda value: f"load {', '.join(map(str, value)) if isinstance(value, list) else value}",
}
COMMANDS = {
    CoreDocument: "core",
    ControlDocument: "control",
    TcpDocument: "tcp",
    LatencyDocument: "latency",
    PortsDocument: "ports",
}


def facts(sources: Sequence[Source]) -> Table:
    """A row for each document: what it says of itself."""
    head = ["file", "measured by", "on", "versions", "rounds", "repeated", "steal", "left out"]
    return _without_empty(head, [[each.name, *_facts_of(each)] for each in sources])


def _facts_of(source: Source) -> Iterator[str]:
    document = source.document
    yield f"bench {COMMANDS[type(document)]}"
    known = [text(document.machine[fact]) for fact, text in _FACTS.items() if fact in document.machine]
    other = [f"{fact} {value}" for fact, value in document.machine.items() if fact not in _FACTS]
    yield ", ".join([*known, *other])
    if isinstance(document, TcpDocument | LatencyDocument | PortsDocument):
        yield ", ".join(f"{name} {version}" for name, version in document.versions.items())
        yield _range([each.rounds for each in document.results])
        yield str(sum(each.repeated for each in document.results))
        yield f"{max(each.steal.max for each in document.results):.1%} at most"
        yield "; ".join(f"{name}: {why}" for name, why in document.skipped.items())
        return
    if isinstance(document, CoreDocument):
        counted = document.counted
        yield f"{counted.compiler}, counted by {counted.by}" if counted else ""
        yield _range([each.rounds for each in document.results])
    else:
        yield from ("", "")
    yield from ("", "", "")


def _range(values: Sequence[int]) -> str:
    least, most = min(values), max(values)
    return f"{least:,}" if least == most else f"{least:,}-{most:,}"
