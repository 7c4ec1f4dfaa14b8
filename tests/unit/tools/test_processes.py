"""What the commands that run until a signal have in common."""

import fcntl
import os
import resource
from collections.abc import Iterator

import pytest

from tools.run.processes import readable

HIGH = 2000
"""More than select() can take."""


@pytest.fixture
def high() -> Iterator[tuple[int, int]]:
    """A pipe whose reading end has a high number."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], HIGH + 10), limits[1]))
    read, write = os.pipe()
    moved = fcntl.fcntl(read, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(read)
    yield moved, write
    os.close(moved)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_descriptors_of_any_number_are_waited_for(high: tuple[int, int]) -> None:
    read, write = high
    assert readable([read], 0) == set() == readable([read], -1)
    os.write(write, b"x")
    assert readable([read], 10) == {read}
    os.read(read, 1)
    os.close(write)
    assert readable([read], 10) == {read}, "ended"
