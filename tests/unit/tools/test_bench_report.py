"""`isolane bench report`: a page and plots of documents as the commands print them."""

import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import bench
from bench import latency, plots, ports, tcp
from bench.contest import Contest
from bench.machine import described
from bench.passed import Run
from tests.native import BIN, ROOT
from tests.unit.tools.shell import Shell

Document = dict[str, Any]
CONTESTANTS = ("isolane-nvgre", "isolane-rewrite", "kernel-vxlan")

# ---- documents ---------------------------------------------------------------------------------------------


def tcp_document(*profiles: str, names: Sequence[str] = CONTESTANTS) -> Document:
    """Of isolane-nvgre 4, 3 and 5 Gb/s, of each next one 1 Gb/s more."""
    woken = {name: 600 if name.startswith("isolane") else None for name in names}
    runs = {
        name: [tcp.Run(1e9 * (gbps + number), 1.0, 1200 + gbps, 2.5, woken[name]) for gbps in (4, 3, 5)]
        for number, name in enumerate(names)
    }
    contest = Contest(runs, [0.001, 0.012, 0.004], repeated=2)
    return {
        "machine": described(),
        "versions": {"iperf3": "3.12"},
        "skipped": {"ovs-afxdp": "ovs-vswitchd not found"},
        "results": [contest.figures(each, partial(tcp._figures, contest)) for each in profiles],
    }


def latency_document(*pauses: float) -> Document:
    runs = {
        name: [latency.Run([30.0 + number] * 98 + [700.0] * 2, 101, 0.01, 400) for number in (0, 5, 2)]
        for name in CONTESTANTS
    }
    contest = Contest(runs, [0.0, 0.0, 0.0], repeated=0)
    figures = contest.figures("wire", partial(latency._figures, contest))
    results = [{"pauseMilliseconds": pause, "count": 101, **figures} for pause in pauses]
    return {"machine": described(), "versions": {}, "skipped": {}, "results": results}


def ports_document() -> Document:
    """Of isolane-nvgre 300, 250 and 350 kpps, of each next one 100 more, of a million offered."""
    runs = {
        name: [
            Run(1_000_000, 1000 * kpps, 1.0, 0.6, 106_000 * kpps)
            for kpps in (300 + 100 * number, 250 + 100 * number, 350 + 100 * number)
        ]
        for number, name in enumerate(CONTESTANTS)
    }
    contest = Contest(runs, [0.0, 0.0, 0.0], repeated=0)
    result = contest.figures("wire", partial(ports._figures, contest))
    results = [{"load": "frames", "frame": 64, **result}]
    return {"machine": described(), "versions": {}, "skipped": {}, "results": results}


def spread(median: float, least: float, most: float) -> dict[str, float]:
    return {"median": median, "min": least, "max": most}


def core_result(op: str, records: int, clocks: float, roof: float | None = None, **more: object) -> Document:
    result = {
        "op": op,
        "keys": "uniform",
        "family": 4,
        "pa_family": 4,
        "records": records,
        "flows": records,
        "hosts": 1000,
        "frame": 64,
        "rounds": 1500,
        "packets": 12_288_000,
        "digest": "00",
        "drops": 0,
        "clocks": spread(clocks, clocks - 5, clocks + 500),
        "mpps": spread(40.1, 20.2, 41.3),
    }
    if roof is not None:
        clocks_of_roof = {"clocks": spread(roof, roof - 1, roof + 1)}
        result |= {"roof": clocks_of_roof, "ratio": clocks / roof, "bar": 1.25}
    return result | more


def core_document(*results: Document, cpu: str = "Some CPU") -> Document:
    machine = {"cpu": cpu, "cores": 2, "kernel": "6.1.0-1", "tsc_mhz": 2400.1}
    return {"machine": machine, "results": list(results)}


def percentiles(p50: float, p99: float) -> Document:
    return {"p50": p50, "p99": p99, "min": p50 / 2, "max": p99 * 2, "count": 200}


def control_document(*counts: int) -> Document:
    rate = {"seconds": spread(1.5, 1.25, 2.0), "recordsPerSecond": 666_667}
    parts = {part: spread(0.5, 0.4, 0.6) for part in ("read", "view", "push", "wall")}
    results = [
        {
            "records": records,
            "hosts": 100,
            "fill": {"seconds": 3.2, "recordsPerSecond": 312_500},
            "load": {**rate, **parts},
            **dict.fromkeys(("compile", "push", "table"), rate),
            "newHost": percentiles(0.01, 0.02),
            "apply": percentiles(3, 5),
            "change": {
                **percentiles(4.25, 9.75),
                "add": percentiles(4, 9),
                "move": percentiles(4.5, 9.5),
            },
            **dict.fromkeys(("agentRss", "agentRssLoaded", "agentRssPeak"), 64 << 20),
        }
        for records in counts
    ]
    return {"machine": {**described(), "load": [0.1, 0.2, 0.3]}, "results": results}


CORE = core_document(core_result("push", 1001, 60.0, 50.0), core_result("lookup", 1001, 20.0))
EVERY = {
    "core": CORE,
    "tcp": tcp_document("wire", "offload"),
    "latency": latency_document(0.0, 2.0),
    "ports": ports_document(),
    "control": control_document(1000, 100_000),
}
PLOTS = {
    "core": ["core"],
    "tcp": ["tcp-wire", "tcp-offload"],
    "latency": ["latency-wire-back-to-back", "latency-wire-every-2-ms"],
    "ports": ["ports-frames"],
    "control": ["control"],
}


def saved(shell: Shell, name: str, document: Document) -> Path:
    return shell.file(name, json.dumps(document))


# ---- what is made ------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser would load, the cells of each table, and all that is to be read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.names: list[str] = []
        self.tags: set[str] = set()
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "action", "poster"):
                self.loaded.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "id":
                self.names.append(value or "")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.lasttag in ("td", "th") and data.strip():
            self.tables[-1][-1][-1] += data

    def columns(self, number: int) -> list[dict[str, str]]:
        """The rows of a table, by the titles of its head."""
        head, *rows = self.tables[number]
        return [dict(zip(head, row, strict=True)) for row in rows]


def reported(shell: Shell, *files: Path, png: Path | None = None) -> Page:
    out = shell.directory / "out.html"
    shell("bench", "report", *files, "-o", out, *(("--png", png) if png else ()))
    return Page(out.read_text(encoding="utf-8"))


def size_of_png(data: bytes) -> tuple[int, int]:
    """Of one whose every chunk and pixel is there."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks.append((kind, body))
        at += length + 12
    assert chunks[0][0] == b"IHDR" and chunks[-1] == (b"IEND", b"")
    width, height, depth, color = struct.unpack_from(">IIBB", chunks[0][1])
    pixels = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    assert (depth, color) == (8, 6) and len(pixels) == height * (1 + 4 * width)
    return width, height


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of plots: a light one and a dark one of each."""
    figures: list[Figure] = []

    def made(*args: Any, **settings: Any) -> Figure:
        figures.append(Figure(*args, **settings))
        return figures[-1]

    monkeypatch.setattr(plots, "Figure", made)
    return figures


# ---- pages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(EVERY))
def test_a_page_of_one_document_needs_nothing_else(shell: Shell, kind: str) -> None:
    png = shell.directory / "new" / "plots"
    page = reported(shell, saved(shell, "a.json", EVERY[kind]), png=png)
    assert "://" not in page.source and "url(" not in page.source and "@import" not in page.source
    assert not page.tags & {"script", "link", "iframe", "object", "base", "form"}
    assert len(page.loaded) == 2 * len(PLOTS[kind]), "each on white and on dark ground"
    assert all(re.fullmatch(r"data:image/png;base64,[A-Za-z0-9+/=]+", each) for each in page.loaded)
    assert len(set(page.loaded)) == len(page.loaded)
    assert page.names == PLOTS[kind] and page.links == [f"#{name}" for name in page.names]
    assert sorted(path.name for path in png.iterdir()) == sorted(f"{name}.png" for name in PLOTS[kind])
    for path in png.iterdir():
        width, height = size_of_png(path.read_bytes())
        assert width == plots.WIDTH * plots.DPI and 200 < height < width
        assert 4_000 < path.stat().st_size < 300_000
    assert len(page.tables) == 1 + len(PLOTS[kind])


def test_documents_of_all_kinds_are_on_one_page(shell: Shell) -> None:
    files = [saved(shell, f"{kind}.json", document) for kind, document in EVERY.items()]
    page = reported(shell, *files, saved(shell, "again.json", EVERY["tcp"]))
    assert page.names == [
        *PLOTS["core"],
        *(*PLOTS["tcp"], "tcp-wire-2", "tcp-offload-2"),
        *PLOTS["latency"],
        *PLOTS["ports"],
        *PLOTS["control"],
    ]
    rows = page.columns(0)
    assert [row["measured by"] for row in rows] == [f"bench {kind}" for kind in (*EVERY, "tcp")]
    assert [Path(row["file"]).name for row in rows] == [*(f"{kind}.json" for kind in EVERY), "again.json"]


def test_the_page_says_what_documents_say_of_themselves(shell: Shell) -> None:
    counted = {"counted": {"by": "valgrind-3.19.0", "compiler": "gcc 12.2.0"}}
    files = [saved(shell, "core.json", CORE | counted), saved(shell, "tcp.json", EVERY["tcp"])]
    core, tcp = reported(shell, *files, saved(shell, "control.json", EVERY["control"])).columns(0)[:2]
    assert core["on"] == "Some CPU, 2 cores, Linux 6.1.0-1, TSC of 2400.1 MHz"
    assert core["versions"] == "gcc 12.2.0, counted by valgrind-3.19.0"
    assert (core["rounds"], core["repeated"], core["steal"]) == ("1,500", "", "")
    assert tcp["versions"] == "iperf3 3.12"
    assert (tcp["rounds"], tcp["repeated"], tcp["steal"]) == ("3", "4", "1.2% at most")
    assert tcp["left out"] == "ovs-afxdp: ovs-vswitchd not found"


def test_a_document_need_not_say_versions_and_who_was_left_out(shell: Shell) -> None:
    document = {key: EVERY["tcp"][key] for key in ("machine", "results")}
    (row,) = reported(shell, saved(shell, "a.json", document)).columns(0)
    assert row.keys() == {"file", "measured by", "on", "rounds", "repeated", "steal"}


def test_what_a_document_says_is_text(shell: Shell) -> None:
    bad = '"><script>alert(1)</script>&amp;'
    document = tcp_document("../../" + bad, names=["kernel-vxlan", f"$x^{bad}"])
    document["machine"] = {"cpu": bad, bad: [bad]}
    document["skipped"] = {bad: bad}
    document["versions"] = {bad: bad}
    png = shell.directory / "plots"
    page = reported(shell, saved(shell, "<b>&.json", document), png=png)
    assert not page.tags & {"script", "b"}
    assert page.columns(1)[1]["contestant"] == f"$x^{bad}"
    assert bad in page.columns(0)[0]["on"] and "<b>&.json" in page.columns(0)[0]["file"]
    assert [path.name for path in png.iterdir()] == ["tcp-script-alert-1-script-amp.png"]
    assert not list(shell.directory.parent.glob("*.png"))


# ---- figures -----------------------------------------------------------------------------------------------


def test_throughput(shell: Shell, drawn: list[Figure]) -> None:
    page = reported(shell, saved(shell, "a.json", tcp_document("wire")))
    (axes,) = drawn[0].axes
    assert [bar.get_width() for bar in axes.patches] == [4, 5, 6]
    (whiskers,) = axes.collections
    assert [segment[:, 0].tolist() for segment in whiskers.get_segments()] == [[3, 5], [4, 6], [5, 7]]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(CONTESTANTS)
    ours, _, kernel = (bar.get_facecolor() for bar in axes.patches)
    assert ours != kernel
    assert page.columns(1)[0] == {
        "contestant": "isolane-nvgre",
        "Gb/s": "4.00 (3.00-5.00)",
        "of kernel VXLAN": "0.67 (0.60-0.71)",
        "retransmits": "1,204 (1,203-1,205)",
        "CPU s/Gbit": "0.625 (0.500-0.833)",
        "wake-ups/Gbit": "150 (120-200)",
    }
    assert "3 rounds, 2 repeated, steal 0.4% (0.1%-1.2%)" in page.text


def test_round_trips(shell: Shell, drawn: list[Figure]) -> None:
    page = reported(shell, saved(shell, "a.json", latency_document(0.0)))
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    p50, p99 = (container.lines[0].get_xdata().tolist() for container in axes.containers)
    assert p50 == [32, 32, 32] and p99 == [700, 700, 700]
    assert {label.get_text() for label in axes.get_xticklabels()} >= {"50", "100", "200", "500"}
    row = page.columns(1)[2]
    assert (row["p50 µs"], row["p99 µs"]) == ("32.0 (30.0-35.0)", "700.0 (700.0-700.0)")
    assert (row["p50 of kernel VXLAN"], row["lost"]) == ("1.00 (1.00-1.00)", "1 (1-1)")
    assert (row["CPU µs/trip"], row["wake-ups/trip"]) == ("100.0 (100.0-100.0)", "4.00 (4.00-4.00)")


def test_small_packets(shell: Shell, drawn: list[Figure]) -> None:
    page = reported(shell, saved(shell, "a.json", ports_document()))
    (axes,) = drawn[0].axes
    assert [bar.get_width() for bar in axes.patches] == [300, 400, 500]
    assert page.columns(1)[0] == {
        "contestant": "isolane-nvgre",
        "kpps": "300 (250-350)",
        "of kernel VXLAN": "0.60 (0.56-0.64)",
        "offered, kpps": "1,000 (1,000-1,000)",
        "lost": "70.00% (65.00%-75.00%)",
        "CPU s/Mpkt": "2.00 (1.71-2.40)",
        "on the wire, bytes": "106",
    }
    assert "Frames of 64 bytes through one device" in page.text


def test_clocks_of_runs_with_more_and_more_records_are_one_plot(shell: Shell, drawn: list[Figure]) -> None:
    more = core_document(core_result("push", 1_000_001, 90.0, 75.0), core_result("push-spoof", 1001, 30.0))
    more["results"][1] |= {"sources": 2, "reason": "src-address", "drops": 12}
    more["results"][0]["scaling"] = dict.fromkeys(("ratio", "roof"), spread(1.98, 1.9, 2.0)) | {"workers": 2}
    page = reported(shell, saved(shell, "a.json", more), saved(shell, "b.json", CORE))
    assert page.names == ["core"]
    push, *_ = drawn[0].axes
    titles = ["push", "push-spoof, 2 sources", "lookup"]
    assert [axes.get_title() for axes in drawn[0].axes] == titles
    assert [bar.get_height() for bar in push.patches] == [60, 50, 90, 75], "the roof is beside the path"
    assert [label.get_text() for label in push.get_xticklabels()] == ["1 k", "1 M"]
    assert push.get_ylim()[1] < 200, "one slow round does not flatten the picture"
    rows = page.columns(1)
    assert [(row["operation"], row["records"], row["clocks"]) for row in rows[:2]] == [
        ("push", "1,000,001", "90.0 (85.0-590.0)"),
        ("push-spoof, 2 sources", "1,001", "30.0 (25.0-530.0)"),
    ]
    assert (rows[0]["roof"], rows[0]["ratio"], rows[0]["bar"]) == ("75.0 (74.0-76.0)", "1.20", "1.25")
    assert rows[0]["workers at once, of one"] == "2: 1.98 (1.90-2.00), roof 1.98 (1.90-2.00)"
    assert (rows[1]["roof"], rows[1]["dropped for"], rows[1]["drops"]) == ("", "src-address", "12")
    assert "instructions" not in rows[0], "nobody has counted them"


def test_clocks_of_other_machines_and_other_frames_are_plots_of_their_own(shell: Shell) -> None:
    large = core_document(core_result("push", 1001, 61.0, frame=1500))
    other = core_document(core_result("push", 1001, 61.0), cpu="Another CPU")
    files = [saved(shell, f"{number}.json", each) for number, each in enumerate((CORE, large, other))]
    assert reported(shell, *files).names == ["core", "core-2", "core-3"]


def test_families_are_cases_of_their_own(shell: Shell, drawn: list[Figure]) -> None:
    families = [{"family": 6, "pa_family": 6}, {"family": 6, "pa_family": 4}, {"pa_family": 6}]
    results = [core_result("push", 1001, 61.0, **each) for each in families]
    reported(shell, saved(shell, "a.json", core_document(*results)))
    assert [axes.get_title() for axes in drawn[0].axes] == [
        "push, IPv6",
        "push, IPv6 over IPv4",
        "push, IPv4 over IPv6",
    ]


def test_control(shell: Shell, drawn: list[Figure]) -> None:
    page = reported(shell, saved(shell, "a.json", control_document(100_000, 1000)))
    change, load = drawn[0].axes
    assert change.get_xscale() == load.get_xscale() == "log"
    assert [line.get_ydata().tolist() for line in change.lines] == [[4.25, 4.25], [9.75, 9.75]]
    assert change.lines[0].get_xdata().tolist() == [1000, 100_000]
    assert load.containers[0].lines[0].get_ydata().tolist() == [1.5, 1.5]
    assert [label.get_text() for label in load.get_xticklabels()] == ["1 k", "100 k"]
    rows = {row["records"]: row for row in page.columns(1)}
    assert rows["change p99, ms"] == {"records": "change p99, ms", "100,000": "9.75", "1,000": "9.75"}
    assert rows["a port moves: p50, p99, ms"]["1,000"] == "4.50, 9.50"
    assert rows["load, s"]["1,000"] == "1.50 (1.25-2.00)"
    assert rows["agent, MiB"]["1,000"] == "64"


def test_what_the_bench_prints_is_read(shell: Shell) -> None:
    words = ("--op", "push", "--op", "push-miss", "--records", 500, "--seconds", 0.1, "--roof", "--json")
    printed = shell("bench", "core", *words).stdout
    page = reported(shell, shell.file("core.json", printed))
    push, miss = page.columns(1)
    result = json.loads(printed)["results"][0]
    assert push["roof"].startswith(f"{result['roof']['clocks']['median']:.1f} (")
    assert miss["dropped for"] == "no-record"


# ---- what is wrong -----------------------------------------------------------------------------------------


def without(document: Document, *path: str | int) -> Document:
    copy = json.loads(json.dumps(document))
    place = copy
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copy


WRONG = {
    "no JSON": ("# Measured", "malformed"),
    "no UTF-8": (b'{"results": "\xff"}', "UTF-8"),
    "too deep": ("[" * 100_000, "error: "),
    "a list": ([], "no document of isolane bench core, control, tcp, latency or ports"),
    "another command's": ({"ports": 7, "whole": {}, "change": {}, "bars": {}}, "no document of"),
    "empty": (CORE | {"results": []}, "no document of"),
    "no figures": (
        without(EVERY["latency"], "results", 0, "contestants", CONTESTANTS[0], "p50"),
        "no document",
    ),
    "no ratio": (
        without(EVERY["tcp"], "results", 0, "contestants", "kernel-vxlan", "ratio"),
        "missing required field `ratio` - at `$.results[0].contestants[...]`",
    ),
    "no steal": (without(EVERY["latency"], "results", 1, "steal"), "`steal` - at `$.results[1]`"),
    "no load": (without(EVERY["control"], "results", 0, "load"), "`load` - at `$.results[0]`"),
    "no machine": (without(CORE, "machine"), "`machine`"),
    "a median of none": (
        core_document(core_result("push", 10, 5.0, mpps=spread(5, 6, 7))),
        "the median is not between min and max - at `$.results[0].mpps`",
    ),
    "no records": (core_document(core_result("push", 0, 5.0)), "`$.results[0].records`"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_a_file_that_is_no_document_is_named_and_nothing_is_written(shell: Shell, case: str) -> None:
    content, said = WRONG[case]
    good, bad = saved(shell, "good.json", CORE), shell.directory / "bad.json"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    else:
        bad.write_text(content if isinstance(content, str) else json.dumps(content))
    out, png = shell.directory / "out.html", shell.directory / "plots"
    done = shell("bench", "report", good, bad, "-o", out, "--png", png, status=1)
    assert done.stderr.startswith(f"error: {bad}: ") and said in done.stderr
    assert not out.exists() and not png.exists()


def test_without_matplotlib(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plots", "page", "report"):
        monkeypatch.delitem(sys.modules, f"bench.{name}", raising=False)
        monkeypatch.delattr(bench, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = shell.directory / "out.html"
    done = shell("bench", "report", saved(shell, "a.json", CORE), "-o", out, status=1)
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: plots need matplotlib: ")
    assert hint.startswith("hint: pip install 'isolane[report]'") and "python3-matplotlib" in hint
    assert not out.exists()


def test_matplotlib_is_imported_by_no_other_command() -> None:
    program = "import sys, bench.documents, tools.verbs.bench; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([BIN / "python", "-c", program], cwd=ROOT, check=False).returncode == 0


def test_where_nothing_can_be_written(shell: Shell) -> None:
    out = shell.directory / "none" / "out.html"
    done = shell("bench", "report", saved(shell, "a.json", CORE), "-o", out, status=1)
    assert done.stderr == f"error: {out}: No such file or directory\n"


def test_usage(shell: Shell) -> None:
    assert "error: missing argument" in shell("bench", "report", status=2).stderr
    shell("bench", "report", shell.directory / "none.json", status=2)
