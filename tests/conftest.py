"""Shared by all tests: the core under test, and which drop reasons they reached."""

import os
import signal
import subprocess
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from sys import modules
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.package.installed import Installed

ROOT = Path(__file__).resolve().parent.parent
SEEDS = ROOT / "build" / "hypothesis-seeds"

pytest_plugins = ["tests.skips", "tests.workers"]
pytest.register_assert_rewrite("tests.netns", "tests.vm")  # what tests share says, too, what it found

# A machine that is busy, or an engine that maps its arena, is slow now and then: no failure. Examples are
# random in CI, too, by the seed that the header names.
settings.register_profile("isolane", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("isolane")


def _choose_core() -> None:
    """ISOLANE_TEST_CORE names another build of the extension; else build/py is brought up to date with csrc
    (ISOLANE_NO_BUILD=1 keeps the last good one).
    """
    if core := os.environ.get("ISOLANE_TEST_CORE"):
        _use_extension(core)
    elif not os.environ.get("ISOLANE_NO_BUILD") and "PYTEST_XDIST_WORKER" not in os.environ:
        build = subprocess.run([ROOT / "tools" / "build.sh"], capture_output=True, text=True, check=False)
        if build.returncode != 0:
            raise SystemExit(f"csrc does not build:\n{build.stdout}{build.stderr}")


def _use_extension(path: str) -> None:
    spec = spec_from_file_location("dataplane.binding._core", path)
    assert spec and spec.loader and spec.name not in modules
    modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(modules[spec.name])


_choose_core()  # before a conftest of a folder is read, which may import it


def pytest_configure(config: pytest.Config) -> None:
    from tests import reached

    _hear_signals()
    reached.watch_engines()
    config.pluginmanager.register(reached)


def pytest_report_header(config: pytest.Config) -> str:
    """Names hypothesis' seed, and keeps it for when the terminal is gone."""
    if not (seed := config.getoption("--hypothesis-seed")):
        return "hypothesis seed: none given, another for each test (make test SEED=N)"
    SEEDS.parent.mkdir(exist_ok=True)
    with SEEDS.open("a") as kept:
        kept.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {seed}\n")
    return f"hypothesis seed: {seed} (again: make test SEED={seed}; all of them: {SEEDS.relative_to(ROOT)})"


def _hear_signals() -> None:
    """A shell's background job ignores what a terminal sends, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.package.installed import build_wheel

    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> "Installed":
    """`isolane` as a user has it who installed the wheel."""
    from tests.package.installed import install

    return install(wheel, tmp_path_factory.mktemp("installed"))
