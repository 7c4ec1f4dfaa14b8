"""The skips that CI accepts, and a pytest plugin that fails a run in which anything else is skipped.

`pytest --only-listed-skips`, as .ci/run calls it: what nobody expects to be skipped is not quietly left out.
"""

import re
from typing import NamedTuple

import pytest


class Accepted(NamedTuple):
    """Tests of a file may be skipped with a reason that begins so."""

    path: str
    reason: str
    why: str


ACCEPTED = (
    Accepted(
        "tests/netns/test_fairness.py",
        "this machine is busy",
        "latency says something only where no other program takes the CPU",
    ),
    Accepted(
        "tests/codecheck/test_instructions.py",
        "NOT JUDGED",
        "instructions are compared with those of the same compiler only",
    ),
    Accepted(
        "tests/unit/dataplane/test_memory.py",
        "no cgroup with a memory limit",
        "some containers may not make cgroups; the limit is then tried on developers' machines only",
    ),
    Accepted(
        "tests/vm/test_guests.py",
        "no guest boots here",
        "QEMU can't be installed everywhere; tools/setup.sh says so",
    ),
)


class Skip(NamedTuple):
    test: str
    reason: str

    def is_accepted(self) -> bool:
        return any(
            self.test.split("::")[0] == each.path and self.reason.startswith(each.reason) for each in ACCEPTED
        )


class OnlyListed:
    """Collects skips; those that are not listed make the run fail."""

    def __init__(self) -> None:
        self._unlisted: list[Skip] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._see(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._see(report)

    def _see(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            # longrepr of a skip: (file, line, "Skipped: reason")
            _, _, text = report.longrepr  # type: ignore[misc]
            skip = Skip(report.nodeid, re.sub("^Skipped: ", "", str(text)))
            if not skip.is_accepted():
                self._unlisted.append(skip)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._unlisted:
            terminalreporter.section("skips that tests/skips.py does not list: this run has failed", "!")
            for test, reason in self._unlisted:
                terminalreporter.line(f"{test}: {reason}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--only-listed-skips",
        action="store_true",
        help="fail by a skip that tests/skips.py does not list",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--only-listed-skips"):
        config.pluginmanager.register(OnlyListed())
