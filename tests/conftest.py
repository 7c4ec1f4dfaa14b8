"""Shared by all tests: the compiled core is brought up to date with csrc before the first import of it."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_sessionstart(session: pytest.Session) -> None:
    """Rebuild csrc as `make build` does; ISOLANE_NO_BUILD=1 keeps the last good build."""
    if os.environ.get("ISOLANE_NO_BUILD"):
        return
    build = subprocess.run([ROOT / "tools" / "build.sh"], capture_output=True, text=True, check=False)
    if build.returncode != 0:
        pytest.exit(f"csrc does not build:\n{build.stdout}{build.stderr}", returncode=1)
