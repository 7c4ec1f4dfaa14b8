"""Drop reasons that any test of this session has seen rise: a run of all tests fails unless they are all.

Every read of an engine's counters in this process is noted by itself; a test that reads counters of another
process (counters.json, `node counters`) calls note(). What workers (tests/workers.py) have seen is put
together.
"""

from collections.abc import Iterable
from typing import Any

import pytest

from dataplane.binding.core import Dataplane
from dataplane.binding.stats import Counters, drop_reasons

REASONS: set[str] = set()
CHOOSING = ("keyword", "markexpr", "deselect", "collectonly", "lf", "stepwise")
"""Options by which a run is not one of all tests."""


def note(names: Iterable[str]) -> None:
    REASONS.update(names)


def watch_engines() -> None:
    read = Dataplane.port_counters

    def port_counters(self: Dataplane, port: int) -> Counters:
        counters = read(self, port)
        note(counters.drops)
        return counters

    Dataplane.port_counters = port_counters  # type: ignore[method-assign]


def pytest_testnodedown(node: Any) -> None:
    note(getattr(node, "workeroutput", {}).get("reached", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["reached"] = sorted(REASONS)
    elif ran_all(session) and (unreached := {reason.name for reason in drop_reasons()[1:]} - REASONS):
        fail(session, f"reasons of drop.def that no test has reached: {', '.join(sorted(unreached))}")


def ran_all(session: pytest.Session) -> bool:
    option = session.config.option
    chosen = any(getattr(option, name, None) for name in CHOOSING)
    ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    early = session.shouldfail or session.shouldstop
    return session.config.args_source.name == "TESTPATHS" and ended and not early and not chosen


def fail(session: pytest.Session, text: str) -> None:
    """As a test that fails: it counts in pytest's own last line."""
    name = "tests/reached.py"
    report = pytest.TestReport(name, (name, None, name), {}, "failed", text, "call")
    session.config.hook.pytest_runtest_logreport(report=report)
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
