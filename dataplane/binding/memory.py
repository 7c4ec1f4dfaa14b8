"""How much memory this process may have, by the cgroup it runs in, and what of it is left for tables; and the
memory that packets lie in.

A process that touches more than its cgroup may have is ended by the kernel, and with it every port; tables
are refused before.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
OTHERS = 160 << 20
"""Bytes for all else: the interpreter, a change set of 64 MiB that comes while another one is kept."""
_UNLIMITED = 1 << 60
"""Where cgroups of version 1 say a number for no limit, it is larger."""


SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def packet_memory(size: int) -> int:
    """A descriptor of so many bytes, the caller's, that keeps its size: in huge pages if there are any to
    reserve.
    """
    with suppress(OSError):
        huge = _memory(size, os.MFD_HUGETLB)
        try:
            mmap.mmap(huge, size).close()
            return huge
        except OSError:
            os.close(huge)
    return _memory(size, 0)


def _memory(size: int, flags: int) -> int:
    fd = os.memfd_create("isolane-packets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALED)
    except BaseException:
        os.close(fd)
        raise
    return fd


def table_budget(packets: int) -> int:
    """Bytes that tables may hold if packet slots take so many; 0: there is no limit."""
    limit = memory_limit()
    return 0 if limit is None else max(limit - packets - OTHERS, limit // 8)


def memory_limit(membership: Path = MEMBERSHIP, root: Path = CGROUPS) -> int | None:
    """The least of all limits, this process's cgroup's and those above. None: there is none."""
    return min(_limits(membership, root), default=None)


def _limits(membership: Path, root: Path) -> Iterator[int]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            yield from _on_the_way(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _on_the_way(root / "memory", path, "memory.limit_in_bytes")


def _on_the_way(root: Path, path: str, name: str) -> Iterator[int]:
    at = root / path.lstrip("/")
    while at.is_relative_to(root):
        try:
            text = (at / name).read_text().strip()
        except OSError:
            text = "max"  # not there, as at the root
        if text != "max" and int(text) < _UNLIMITED:
            yield int(text)
        at = at.parent
