"""Namespaces for tests: names of this test run's own, always removed."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from dataplane.host import links, netns
from tests.netns.lab_commands import MANIFEST
from tests.netns.labs import PROOF, Lab, running_lab
from tools.lab import build

_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if "/netns/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def prefix() -> Iterator[str]:
    """A prefix for names of namespaces; whatever carries it is removed afterwards."""
    prefix = f"dev{os.getpid()}-{next(_numbers)}-"
    yield prefix
    if netns.DIRECTORY.exists():
        for path in netns.DIRECTORY.glob(f"{prefix}*"):
            netns.remove(path.name)


@pytest.fixture
def make_namespace(prefix: str) -> Callable[[str], str]:
    """Makes a namespace with its loopback up and returns its name."""

    def make(name: str) -> str:
        netns.create(prefix + name)
        netns.call(prefix + name, links.set_state, "lo", "up")
        return prefix + name

    return make


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def lab_prefix() -> Iterator[str]:
    """A lab's prefix; what is left of the lab at the end is removed."""
    prefix = f"dev{os.getpid()}."
    yield prefix
    with suppress(build.LabError):
        build.down(prefix)


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """Things to close at the end, last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def proof_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all tests that only need some: the example, a foreign host, a third tenant."""
    manifest = tmp_path_factory.mktemp("proof") / "proof.yaml"
    manifest.write_text(PROOF)
    with running_lab(manifest, f"prf{os.getpid()}-") as lab:
        yield lab


@pytest.fixture
def lab(proof_lab: Lab) -> Iterator[Lab]:
    """proof_lab; its counters balance after the test."""
    yield proof_lab
    proof_lab.assert_balanced()
