"""Plots of what was measured, as PNG files. Imports matplotlib, which not everybody has: import it late."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from io import BytesIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.documents import ControlDocument, CoreResult, LatencyResult, PortsResult, Spread, TcpResult

WIDTH, DPI = 8.0, 160
"""Inches, and dots of one."""
OURS = "isolane"
"""Contestants whose names begin so stand out."""
_COLUMNS = 3
_BARS = 0.75
"""Of the width of a group of them."""


@dataclass(frozen=True)
class Colors:
    page: str
    text: str
    grid: str
    ours: str
    second: str
    others: str


LIGHT = Colors("#ffffff", "#1c2530", "#dde2e8", "#1f6feb", "#d9730d", "#9aa5b1")
DARK = Colors("#14191f", "#dfe6ee", "#2c3540", "#5aa2ff", "#f0a04b", "#66717e")

Draw = Callable[[Figure, Colors], None]


@dataclass(frozen=True)
class Plot:
    """The same on white and on dark ground."""

    light: bytes
    dark: bytes


def _plot(title: str, height: float, draw: Draw) -> Plot:
    return Plot(_drawn(title, height, draw, LIGHT), _drawn(title, height, draw, DARK))


def _drawn(title: str, height: float, draw: Draw, colors: Colors) -> bytes:
    out = BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever somebody's matplotlibrc says
        _set_style(colors)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize="large", fontweight="bold")
        draw(figure, colors)
        figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def _set_style(colors: Colors) -> None:
    matplotlib.rc("text", color=colors.text, parse_math=False)  # names may have a $
    matplotlib.rc("figure", facecolor=colors.page)
    matplotlib.rc("axes", facecolor=colors.page, edgecolor=colors.grid, labelcolor=colors.text)
    matplotlib.rc("axes", axisbelow=True, grid=True, titlesize="medium")
    matplotlib.rc("axes.spines", top=False, right=False)
    matplotlib.rc("grid", color=colors.grid, linewidth=0.8)
    for axis in ("xtick", "ytick"):
        matplotlib.rc(axis, color=colors.grid, labelcolor=colors.text)
    matplotlib.rc("legend", frameon=False)
    matplotlib.rc("errorbar", capsize=3)


def _whiskers(spreads: Sequence[Spread]) -> list[list[float]]:
    return [[each.median - each.min for each in spreads], [each.max - each.median for each in spreads]]


def _amount(value: float, _: object = None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _short(count: int) -> str:
    """The table has it to the last digit."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _make_log(axis: Axis) -> None:
    """Its marks are numbers as people write them, several a decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(_amount))
    axis.set_minor_formatter(NullFormatter())


# ---- contests ----------------------------------------------------------------------------------------------


def tcp(title: str, result: TcpResult) -> Plot:
    return _rates(title, "Gb/s", 2, {name: each.gbps for name, each in result.contestants.items()})


def ports(title: str, result: PortsResult) -> Plot:
    return _rates(
        title, "thousand packets a second", 0, {name: each.kpps for name, each in result.contestants.items()}
    )


def _rates(title: str, unit: str, digits: int, rates: Mapping[str, Spread]) -> Plot:
    """A bar for each contestant."""
    spreads = list(rates.values())

    def draw(figure: Figure, colors: Colors) -> None:
        axes = figure.subplots()
        axes.barh(
            range(len(spreads)),
            [each.median for each in spreads],
            _BARS,
            xerr=_whiskers(spreads),
            color=[colors.ours if name.startswith(OURS) else colors.others for name in rates],
            ecolor=colors.text,
        )
        for place, each in enumerate(spreads):
            axes.annotate(
                f"{each.median:,.{digits}f}",
                (each.max, place),
                (6, 0),
                textcoords="offset points",
                va="center",
            )
        axes.margins(x=0.1)
        axes.set_xlabel(f"{unit}: median, least and most")
        _name_rows(axes, list(rates))

    return _plot(title, _height(rates), draw)


def latency(title: str, result: LatencyResult) -> Plot:
    """Two marks for each contestant."""
    figures = result.contestants.values()

    def draw(figure: Figure, colors: Colors) -> None:
        axes = figure.subplots()
        for spreads, label, mark, color in (
            ([each.p50 for each in figures], "p50", "o", colors.ours),
            ([each.p99 for each in figures], "p99", "D", colors.second),
        ):
            medians = [each.median for each in spreads]
            axes.errorbar(
                medians, range(len(spreads)), xerr=_whiskers(spreads), fmt=mark, color=color, label=label
            )
        axes.set_xscale("log")
        _make_log(axes.xaxis)
        axes.set_xlabel("microseconds: median, least and most of the rounds' percentiles")
        _name_rows(axes, list(result.contestants))
        figure.legend(loc="outside lower right", ncols=2)

    return _plot(title, _height(result.contestants) + 0.3, draw)


def _height(rows: Sized) -> float:
    return 1.2 + 0.42 * len(rows)


def _name_rows(axes: Axes, names: list[str]) -> None:
    """The first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


# ---- core --------------------------------------------------------------------------------------------------


def core(title: str, results: Sequence[CoreResult]) -> Plot:
    """For each operation bars by records, that of the roof beside the path's; two of the same stand in the
    order of the results.
    """
    cases: dict[str, list[CoreResult]] = {}
    for each in results:
        cases.setdefault(each.case, []).append(each)
    rows = -(-len(cases) // _COLUMNS)

    def draw(figure: Figure, colors: Colors) -> None:
        columns = min(len(cases), _COLUMNS)
        places = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (case, of_case) in zip(places, cases.items(), strict=False):
            axes.set_title(case)
            _bars(axes, of_case, colors)
        for axes in places[len(cases) :]:
            axes.set_axis_off()
        figure.supxlabel("records", fontsize="medium")
        figure.supylabel("clocks a packet: median, least and most", fontsize="medium")
        if any(each.roof for each in results):
            bars = [Patch(color=colors.ours, label="isolane"), Patch(color=colors.others, label="roof")]
            figure.legend(handles=bars, loc="outside lower right", ncols=2)

    return _plot(title, 1.2 + 2.3 * rows, draw)


def _bars(axes: Axes, results: Sequence[CoreResult], colors: Colors) -> None:
    counts = sorted({each.records for each in results})
    groups = [[each for each in results if each.records == count] for count in counts]
    stacks = [list(_path_and_roof(group, colors)) for group in groups]
    width = _BARS / max(len(stack) for stack in stacks)
    for at, stack in enumerate(stacks):
        spreads = [spread for spread, _ in stack]
        axes.bar(
            [at + (number - (len(stack) - 1) / 2) * width for number in range(len(stack))],
            [each.median for each in spreads],
            0.9 * width,
            yerr=_whiskers(spreads),
            color=[color for _, color in stack],
            ecolor=colors.text,
        )
    axes.set_xticks(range(len(counts)), [_short(count) for count in counts])
    axes.set_xlim(-0.7, len(counts) - 0.3)
    axes.set_ylim(0, _top([spread for stack in stacks for spread, _ in stack]))
    axes.grid(False, axis="x")


def _path_and_roof(results: Sequence[CoreResult], colors: Colors) -> Iterator[tuple[Spread, str]]:
    for each in results:
        yield each.clocks, colors.ours
        if each.roof:
            yield each.roof.clocks, colors.others


def _top(spreads: Sequence[Spread]) -> float:
    """Of one slow round among thousands the whisker leaves the picture."""
    highest = max(each.median for each in spreads)
    return max(min(1.05 * max(each.max for each in spreads), 1.6 * highest), 1e-9)


# ---- control -----------------------------------------------------------------------------------------------


def control(title: str, document: ControlDocument) -> Plot:
    results = sorted(document.results, key=lambda each: each.records)
    records = [each.records for each in results]
    loads = [each.load.seconds for each in results]

    def draw(figure: Figure, colors: Colors) -> None:
        change, load = figure.subplots(1, 2)
        change.set_title("a change, commit to packet: milliseconds")
        change.plot(records, [each.change.p50 for each in results], "o-", color=colors.ours, label="p50")
        change.plot(records, [each.change.p99 for each in results], "D-", color=colors.second, label="p99")
        change.legend()
        load.set_title("all records into a host: seconds")
        load.errorbar(
            records, [each.median for each in loads], yerr=_whiskers(loads), fmt="o-", color=colors.ours
        )
        for axes in (change, load):
            axes.set_xscale("log")
            axes.set_xticks(sorted(set(records)), [_short(each) for each in sorted(set(records))])
            axes.minorticks_off()
            axes.margins(x=0.12)
            axes.set_ylim(bottom=0)
            axes.set_xlabel("records")

    return _plot(title, 3.7, draw)
