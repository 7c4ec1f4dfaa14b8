"""Tables under a memory limit: what does not fit is refused, and the process lives on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.binding import memory

LIMIT = 256 << 20

LOADER = """
import sys
import numpy as np
from dataplane.binding import memory, tables
from dataplane.binding.core import Config, Dataplane
from dataplane.binding.errors import HostError
from dataplane.binding.tables import ChangeSet, Op, PaRow, RowKind, Section, SubnetRow, put

budget = memory.table_budget(512 * 4096) if sys.argv[1] == "limited" else 0
config = Config(1, bytes.fromhex("02150a000001"), (1, 2), slots=512, table_budget=budget)
pa = bytes([10, 0, 0, 1]).ljust(16, b"\\0")

def records(first, n):
    rows = np.zeros(n, tables.ROW_DTYPES[RowKind.RECORD])
    octets = np.zeros((n, 16), "u1")
    octets[:, :4] = (0x0B000000 + first + np.arange(n)).astype(">u4").view("u1").reshape(n, 4)
    rows["ca"] = octets.view("V16")[:, 0]
    rows["provider_address"] = np.void(pa)
    rows["vsid"], rows["host"], rows["mac"] = 5001, 2, np.void(bytes([2, 0, 0, 0, 0, 1]))
    rows["family"] = rows["pa_family"] = 4
    rows["translation"] = rows["type"] = 1
    return Section(RowKind.RECORD, Op.PUT, rows.tobytes())

with Dataplane(config) as core:
    core.apply(ChangeSet(1, (put([PaRow(pa, 2, 4, 1, 0)]), put([SubnetRow(5001, 1)]))).encode())
    held, step, refused = 0, 200_000, 0
    while refused < 3:
        change_set = ChangeSet(2, (records(held, step),), atomic=refused == 1).encode()
        try:
            core.apply(change_set)
        except HostError as error:
            assert "out of memory" in str(error), error
            refused += 1
            continue
        core.holds(change_set)
        core.verified()
        held += step
    assert core.table_stats().records4 == held > 0
    for first in range(0, held, step):
        core.holds(ChangeSet(2, (records(first, step),)).encode())
    print(held, "records held,", core.table_stats().bytes >> 20, "MiB of", budget >> 20)
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """With LIMIT bytes; of version 2 or 1, whichever this process may make."""
    name = f"isolane-test-{os.getpid()}"
    for parent, limit in (
        (memory.CGROUPS, "memory.max"),
        (memory.CGROUPS / "memory", "memory.limit_in_bytes"),
    ):
        made = parent / name
        try:
            made.mkdir()
        except OSError:
            continue
        try:
            if not (made / "cgroup.procs").exists() or not (made / limit).exists():
                continue
            (made / limit).write_text(str(LIMIT))
            yield made
            return
        finally:
            made.rmdir()
    pytest.skip("no cgroup with a memory limit can be made here: not root, or not delegated")


def run_in(cgroup: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    join = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh"]
    command = [*join, sys.executable, "-c", LOADER, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_tables_that_do_not_fit_are_refused(cgroup: Path) -> None:
    done = run_in(cgroup, "limited")
    print(done.stdout)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    assert "records held" in done.stdout


def test_limits_are_found(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    membership.write_text("0::/a/b\n")
    assert memory.memory_limit(membership, tmp_path) is None
    (inner / "memory.max").write_text("max\n")
    (tmp_path / "a" / "memory.max").write_text("5000\n")
    assert memory.memory_limit(membership, tmp_path) == 5000
    (inner / "memory.max").write_text("4000\n")
    assert memory.memory_limit(membership, tmp_path) == 4000
    old = tmp_path / "memory" / "x"
    old.mkdir(parents=True)
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{(1 << 63) - 4096}\n")
    (old / "memory.limit_in_bytes").write_text("3000\n")
    membership.write_text("4:cpu,memory:/x\n0::/\n")
    assert memory.memory_limit(membership, tmp_path) == 3000
    assert memory.memory_limit(tmp_path / "nothing", tmp_path) is None
