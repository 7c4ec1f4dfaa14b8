"""The floors of csrc: who includes whom, who calls whom, and how that is drawn into csrc/README.md.

`python -m tests.codecheck.c_floors` writes the drawing.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.codecheck.c_functions import code_lines

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
BEGIN, END = "<!-- floors -->", "<!-- /floors -->"


class Floor(NamedTuple):
    name: str
    budget: int
    """Lines of code, DESIGN.md section 8."""
    what: str


FLOORS = (
    Floor("base", 904, "wire formats, addresses, sums, hash, quiescence, memory, rows as bytes, drops"),
    Floor("pkt", 1000, "a packet, a batch, slots and their pool, parse, offloads"),
    Floor("table", 1310, "maps and keys, what readers see, lookups"),
    Floor("step", 1812, "packets and const tables in, a verdict out: nvgre, rewrite, gso, icmp; rows"),
    Floor("port", 2200, "ports: TAP, AF_PACKET, AF_XDP, memory; ways in and out"),
    Floor("host", 900, "neighbours, and what the provider network sees of us"),
    Floor("router", 900, "what the virtual router says and does besides forwarding"),
    Floor("path", 995, "from tenant, from provider, and the ways out they share"),
    Floor("control", 2052, "change sets: the only writer of tables"),
    Floor("run", 1000, "workers, the engine, dp_api.h"),
)
NAMES = [floor.name for floor in FLOORS]


class Edge(NamedTuple):
    """From a file, as FLOOR/FILE, to another."""

    user: str
    used: str


def includes(csrc: Path) -> list[Edge]:
    """Every #include "..." of a file of a floor by a file of a floor."""
    edges = []
    for path in sorted(csrc.rglob("*.[ch]")):
        user = path.relative_to(csrc).as_posix()
        if "/" in user:
            found = re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
            edges += [Edge(user, used) for used in found if "/" in used]
    return edges


def calls(library: Path) -> list[Edge]:
    """Every use of another file's symbol, of the objects in a static library: FLOOR_FILE.c.o."""
    listed = subprocess.run(["gcc-nm", "-A", library], capture_output=True, text=True, check=True).stdout
    uses: list[tuple[str, str]] = []
    where = {}
    for line in listed.splitlines():
        match = re.search(r"[:/]((\w+?)_(\w+)\.c\.o):\s*[0-9a-f]* (\w) (\S+)$", line)
        if match and match[2] in NAMES:
            file = f"{match[2]}/{match[3]}.c"
            if match[4] == "U":
                uses.append((file, match[5]))
            elif match[4].isupper():
                where[match[5]] = file
    return sorted({Edge(user, where[s]) for user, s in uses if s in where and where[s] != user})


def upward(edges: Iterable[Edge]) -> list[str]:
    """What points from a floor to a higher one, or to none that there is."""

    def level(file: str) -> int:
        name = file.split("/")[0]
        return NAMES.index(name) if name in NAMES else len(NAMES)

    return [f"{e.user} -> {e.used}" for e in edges if level(e.used) > level(e.user)]


def cycles(edges: Iterable[Edge]) -> list[list[str]]:
    """Groups of files that reach each other, each sorted (Tarjan)."""
    graph: dict[str, set[str]] = {}
    for edge in edges:
        graph.setdefault(edge.user, set()).add(edge.used)
    found: list[list[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(file: str) -> None:
        number[file] = lowest[file] = len(number)
        stack.append(file)
        for used in graph.get(file, ()):
            if used not in number:
                visit(used)
                lowest[file] = min(lowest[file], lowest[used])
            elif used in stack:
                lowest[file] = min(lowest[file], number[used])
        if lowest[file] == number[file]:
            at = stack.index(file)
            if len(stack) - at > 1 or file in graph.get(file, ()):
                found.append(sorted(stack[at:]))
            del stack[at:]

    for file in sorted(graph):
        if file not in number:
            visit(file)
    return found


def lines_of(csrc: Path) -> Mapping[str, int]:
    """Lines of code by floor; drop.def counts as code of its floor."""
    return {
        name: sum(
            code_lines(p.read_text())
            for p in sorted((csrc / name).iterdir())
            if p.suffix in {".c", ".h", ".def"}
        )
        for name in NAMES
    }


def drawing(csrc: Path) -> str:
    """The floors, the highest first: a line each with its files."""
    used: dict[str, set[str]] = {name: set() for name in NAMES}
    for edge in includes(csrc):
        used[edge.user.split("/")[0]].add(edge.used.split("/")[0])
    rows = ["| floor | what is there | files | stands on |", "| --- | --- | --- | --- |"]
    for floor in reversed(FLOORS):
        files = sorted({p.stem for p in (csrc / floor.name).iterdir() if p.suffix in {".c", ".h", ".def"}})
        below = [name for name in NAMES if name in used[floor.name] - {floor.name}]
        rows.append(f"| **{floor.name}** | {floor.what} | {' '.join(files)} | {' '.join(below) or '-'} |")
    return "\n".join(rows)


def with_drawing(readme: str, drawn: str) -> str:
    """The page with what stands between its marks replaced."""
    head, rest = readme.split(BEGIN)
    return f"{head}{BEGIN}\n{drawn}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    page = CSRC / "README.md"
    page.write_text(with_drawing(page.read_text(), drawing(CSRC)))
