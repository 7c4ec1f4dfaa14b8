"""What commands of `isolane bench` have measured, from their documents: one page, and plots as files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench import plots, tables
from bench.documents import (
    ControlDocument,
    CoreDocument,
    CoreResult,
    LatencyDocument,
    PortsDocument,
    Source,
    TcpDocument,
    ports_title,
)
from bench.page import Part, page

D = TypeVar("D")
_SAME_MACHINE = ("cpu", "cores", "kernel")


@dataclass(frozen=True)
class Report:
    """plots: PNG files by name."""

    page: str
    plots: Mapping[str, bytes]


def make(sources: Sequence[Source]) -> Report:
    parts = list(_parts(sources))
    files = {f"{part.name}.png": part.plot.light for part in parts}
    return Report(page(tables.facts(sources), parts), files)


@dataclass
class _Names:
    """None is there twice, and none leads out of a directory: a document may say what it likes."""

    _given: set[str] = field(default_factory=set)

    def of(self, text: str) -> str:
        stem = name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        number = 1
        while name in self._given:
            number += 1
            name = f"{stem}-{number}"
        self._given.add(name)
        return name


def _parts(sources: Sequence[Source]) -> Iterator[Part]:
    names = _Names()
    for results in _comparable(_of(sources, CoreDocument)):
        first = results[0][1]
        title = f"Clocks a packet, frames of {first.frame} bytes, {first.hosts:,} hosts, {first.keys} keys"
        files = ", ".join(dict.fromkeys(name for name, _ in results))
        said = f"{files}. Of a slow round the whisker may leave the plot; the table has all."
        plot = plots.core(title, [each for _, each in results])
        yield Part(names.of("core"), title, said, plot, tables.core(results))
    for name, tcp in _of(sources, TcpDocument):
        for each in tcp.results:
            title = ", ".join(filter(None, ("One TCP stream", each.profile, tcp.congestion)))
            said = f"{name}: {tables.rounds(each)}"
            place = names.of(f"tcp-{each.profile}")
            yield Part(place, title, said, plots.tcp(title, each), tables.tcp(each))
    for name, latency in _of(sources, LatencyDocument):
        for trips in latency.results:
            pause = trips.pause_milliseconds
            schedule = f"every {pause:g} ms" if pause else "back to back"
            title = f"Round trips, {trips.profile}, {schedule}"
            said = f"{name}: {trips.count:,} requests a run, {tables.rounds(trips)}"
            place = names.of(f"latency-{trips.profile}-{schedule}")
            yield Part(place, title, said, plots.latency(title, trips), tables.latency(trips))
    for name, ports in _of(sources, PortsDocument):
        for passed in ports.results:
            title = ports_title(passed.load, passed.frame)
            said = f"{name}: {tables.rounds(passed)}"
            place = names.of(f"ports-{passed.load}")
            yield Part(place, title, said, plots.ports(title, passed), tables.ports(passed))
    for name, control in _of(sources, ControlDocument):
        title = "From the store to packets"
        plot = plots.control(title, control)
        yield Part(names.of("control"), title, name, plot, tables.control(control))


def _of(sources: Sequence[Source], kind: type[D]) -> Iterator[tuple[str, D]]:
    for each in sources:
        if isinstance(each.document, kind):
            yield each.name, each.document


def _comparable(documents: Iterator[tuple[str, CoreDocument]]) -> list[list[tuple[str, CoreResult]]]:
    """What may stand side by side, each with its file. A run has one number of records, so it takes several
    to show what more of them cost.
    """
    found: dict[tuple[object, ...], list[tuple[str, CoreResult]]] = {}
    for name, document in documents:
        machine = [str(document.machine.get(fact)) for fact in _SAME_MACHINE]
        for each in document.results:
            alike = (*machine, each.keys, each.frame, each.hosts)
            found.setdefault(alike, []).append((name, each))
    return list(found.values())
