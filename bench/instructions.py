"""Instructions a packet: what does not depend on how busy a machine is, and so can be judged anywhere.

Every operation runs over a fixed input (8,192 records, 16,384 packets of 64 bytes; 100 sources where they
matter) in a small program, bench/count.c. The CPU's own counter counts where the kernel gives it out, else
valgrind does; the stored baseline is valgrind's, so that every machine can judge by it.

After a change that is worth its instructions: .venv/bin/python -m bench.instructions
"""

import json
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import core, workload
from dataplane.binding.tables import pack_address

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "build" / "py" / "bench" / "count"
BASELINE = Path(__file__).with_name("instructions.json")
LIMIT = 1.03
"""Times the baseline: more is a regression."""
PACKETS = 1 << 14
SOURCES = 100
CASE = struct.Struct("<IIIIII6s6s6s6s16s")
"""struct count_case of bench/count.c."""


class Uncounted(Exception):
    """There is nothing to count with, or a case did not do what it is there for."""


@dataclass(frozen=True)
class Counts:
    """instructions: a packet, by case, an operation and a family ("push/4")."""

    by: str
    compiler: str
    instructions: dict[str, float]


def baseline() -> Counts:
    return Counts(**json.loads(BASELINE.read_text()))


def comparable(old: Counts, new: Counts) -> bool:
    """The same way of counting, and a compiler of the same major version."""
    return _way(old.by) == _way(new.by) and _major(old.compiler) == _major(new.compiler)


def _way(by: str) -> str:
    return by.split("-", maxsplit=1)[0]


def _major(compiler: str) -> str:
    return compiler.split(".", maxsplit=1)[0]


def risen(old: Counts, new: Counts) -> list[str]:
    """What costs more than LIMIT times what it did, a line each."""
    return [
        f"{case}: {old.instructions[case]:.1f} -> {now:.1f} instructions a packet"
        f" ({now / old.instructions[case] - 1:+.1%})"
        for case, now in new.instructions.items()
        if case in old.instructions and now > old.instructions[case] * LIMIT
    ]


def cases(operations: Sequence[str] | None = None) -> list[tuple[str, int]]:
    return [(name, family) for name in operations or core.OPERATIONS for family in (4, 6)]


def count(wanted: Sequence[tuple[str, int]], valgrind: bool = False) -> Counts:
    """Takes some seconds. valgrind: even where the CPU has a counter. Uncounted: this machine can't."""
    if not PROGRAM.exists():
        raise Uncounted(f"only a checkout has the program that counts: tools/build.sh makes {PROGRAM.name}")
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "cases"
        with data.open("wb") as file:
            for name, family in wanted:
                file.writelines(_case(name, family))
        counts = None if valgrind else _by_counter(data)
        by = "perf" if counts else _valgrind_version()
        counts = counts or _by_valgrind(data, Path(directory))
    result = {}
    for (name, family), (packets, dropped, instructions) in zip(wanted, counts, strict=True):
        if dropped != (packets if core.OPERATIONS[name].reason else 0):
            raise Uncounted(f"{name}/{family}: {dropped} of {packets} packets were dropped")
        result[f"{name}/{family}"] = round(instructions / packets, 1)
    return Counts(by, compiler(), result)


def compiler() -> str:
    """Of the core that is counted, as "gcc 12.2.0"."""
    return _run([str(PROGRAM), "--compiler"]).stdout.strip()


def _case(name: str, family: int) -> Iterator[bytes]:
    operation = core.OPERATIONS[name]
    todo = core.work(name, core.Settings(family=family, sources=SOURCES), PACKETS)
    sets = list(workload.change_sets(todo.plan))
    yield CASE.pack(
        operation.op,
        operation.port_in,
        family,
        *todo.frames.shape,
        len(sets),
        workload.ROUTER_MAC,
        workload.UNDERLAY_MAC,
        workload.PORT_MAC,
        workload.GATEWAY_MAC,
        pack_address(workload.NETWORKS[family].gateway),
    )
    for change_set in sets:
        yield len(change_set).to_bytes(4, "little") + change_set
    yield todo.frames.tobytes()


def _by_counter(data: Path) -> list[tuple[int, int, int]] | None:
    """Of each case packets, dropped, instructions; None: the CPU's counter can't be had, or stands still."""
    ran = _run([str(PROGRAM), "--perf", str(data)])
    counts = _cases(ran.stdout) if ran.returncode == 0 else []
    return counts if counts and all(instructions for *_, instructions in counts) else None


def _by_valgrind(data: Path, directory: Path) -> list[tuple[int, int, int]]:
    """The same by the totals that valgrind writes after each case."""
    out = directory / "callgrind.out"
    watch = ("--toggle-collect=bench_path*", "--toggle-collect=bench_find*", "--dump-before=count_done")
    command = ["valgrind", "--tool=callgrind", *watch, f"--callgrind-out-file={out}", str(PROGRAM), str(data)]
    ran = _run(command)
    if ran.returncode:
        raise Uncounted(f"{PROGRAM.name}: exit status {ran.returncode}: {ran.stderr}")
    dumps = sorted(directory.glob("callgrind.out.*"), key=lambda path: int(path.suffix[1:]))
    totals = [int(total) for dump in dumps for total in re.findall(r"^totals: (\d+)", dump.read_text(), re.M)]
    return [(*case[:2], total) for case, total in zip(_cases(ran.stdout), totals, strict=True)]


def _cases(text: str) -> list[tuple[int, int, int]]:
    rows = (map(int, line.split()) for line in text.splitlines())
    return [(packets, dropped, instructions) for packets, dropped, instructions in rows]


def _valgrind_version() -> str:
    if not shutil.which("valgrind"):
        raise Uncounted("neither the CPU's counter nor valgrind is here")
    return _run(["valgrind", "--version"]).stdout.strip()


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    BASELINE.write_text(json.dumps(asdict(count(cases(), valgrind=True)), indent=2) + "\n")
    print(BASELINE.read_text(), end="")
