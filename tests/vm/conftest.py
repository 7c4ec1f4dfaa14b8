"""Two hosts with a guest of QEMU each, in a network by NVGRE and in one by rewrite."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dataplane.host import netns
from tests.vm.pairs import Pair


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "/vm/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="module")
def running_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The guests are booted once for a file."""
    prefix = f"vm{os.getpid()}-"
    with ExitStack() as stack:
        stack.callback(_remove_namespaces, prefix)
        directory: Path = tmp_path_factory.mktemp("guests")
        pair = Pair(prefix, directory, stack)
        pair.up()
        yield pair
        assert "Traceback" not in pair.site.log.read_text()


@pytest.fixture
def pair(running_pair: Pair) -> Iterator[Pair]:
    """Counters balance after the test."""
    yield running_pair
    running_pair.assert_balanced()


@pytest.fixture
def losing_nothing(pair: Pair) -> Iterator[Pair]:
    """isolane drops nothing during the test."""
    before = pair.drops()
    yield pair
    assert pair.drops() - before == {}


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """Things to close at the end, last first."""
    with ExitStack() as stack:
        yield stack


def _remove_namespaces(prefix: str) -> None:
    for path in netns.DIRECTORY.glob(f"{prefix}*"):
        netns.remove(path.name)
