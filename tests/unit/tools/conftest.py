"""A store for the commands."""

from pathlib import Path

import pytest

from dataplane.host import locks
from dataplane.process import instances
from tests.unit.manifests import EXAMPLE
from tests.unit.tools.shell import Shell
from tools.lab import state


@pytest.fixture(autouse=True)
def nothing_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever labs and data planes this machine has."""
    monkeypatch.setattr(state, "STATE_DIRECTORY", tmp_path / "labs")
    monkeypatch.setattr(instances, "RUN_DIRECTORY", tmp_path / "run")
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path / "run-agent")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def applied(shell: Shell) -> Shell:
    shell("apply", "-f", EXAMPLE)
    return shell
