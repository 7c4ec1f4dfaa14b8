"""`logs`: of labs' hosts from their files, of units from the journal."""

from pathlib import Path

import pytest

from tests.unit.tools.shell import Shell
from tools.lab import state
from tools.verbs import logs


def test_of_a_lab(shell: Shell, capfd: pytest.CaptureFixture[str]) -> None:
    lab = state.State("isl-")
    lab.path.parent.mkdir()
    lab.path.touch()
    lab.log("h1").write_text("one\ntwo\nthree\n")
    shell("logs", "isl-h1", "-n", "2")
    assert capfd.readouterr().out == "two\nthree\n"


def test_of_units(shell: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """With a journalctl that prints what it is asked for."""
    journalctl = shell.file("journalctl", '#!/bin/sh\necho "$@"\n')
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shell.directory}:/usr/bin:/bin")
    monkeypatch.setattr(logs, "JOURNAL", shell.directory)
    shell("logs", "h1")
    units = "--unit=isolane-agent@h1 --unit=isolane-dataplane@h1"
    assert capfd.readouterr().out == f"--no-pager --lines=50 {units}\n"
    shell("logs", "h1", "-p", "agent", "-n", "5")
    assert capfd.readouterr().out == "--no-pager --lines=5 --unit=isolane-agent@h1\n"


def test_of_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "JOURNAL", Path("/no/such/directory"))
    error = shell("logs", "h9", status=1).stderr
    assert error.splitlines()[0] == "error: no logs of h9 here: neither a lab's host nor units of systemd"
