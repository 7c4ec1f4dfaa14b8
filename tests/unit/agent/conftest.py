"""A world in which an agent runs on a clock that is moved by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.host import locks
from tests.unit.agent.world import World


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path)
    return tmp_path


@pytest.fixture
def world(directory: Path) -> Iterator[World]:
    made = World(directory)
    made.up()
    assert made.is_right()
    yield made
