"""Shared by all tests: the core under test, and which drop reasons they reached."""

import os
import signal
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from sys import modules

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
LAST = "tests/codecheck/test_drops_reached.py"

# A machine that is busy, or an engine that maps its arena, is slow now and then: no failure.
settings.register_profile("isolane", deadline=None)
settings.load_profile("isolane")


def pytest_configure(config: pytest.Config) -> None:
    """ISOLANE_TEST_CORE names another build of the extension; else build/py is brought up to date with csrc
    (ISOLANE_NO_BUILD=1 keeps the last good one)."""
    _hear_signals()
    if core := os.environ.get("ISOLANE_TEST_CORE"):
        _use_extension(core)
    elif not os.environ.get("ISOLANE_NO_BUILD"):
        build = subprocess.run([ROOT / "tools" / "build.sh"], capture_output=True, text=True, check=False)
        if build.returncode != 0:
            pytest.exit(f"csrc does not build:\n{build.stdout}{build.stderr}", returncode=1)
    from tests import reached

    reached.watch_engines()


def _hear_signals() -> None:
    """A shell's background job ignores what a terminal sends, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _use_extension(path: str) -> None:
    spec = spec_from_file_location("dataplane._core", path)
    assert spec and spec.loader
    modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(modules[spec.name])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.nodeid.startswith(LAST))
