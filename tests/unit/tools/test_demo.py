"""`isolane demo` around its checks: what is printed, and with which exit status, in a lab that is none."""

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from tools.demo import checks as demo_checks
from tools.demo import command
from tools.demo import lab as demo_lab
from tools.demo.vms import TrafficError


class FakeLab:
    """Goes up and down, or not."""

    up_error: Exception | None = None
    down_error: Exception | None = None
    ups = downs = 0

    def __init__(self, *_: object) -> None:
        pass

    def up(self) -> None:
        FakeLab.ups += 1
        if self.up_error:
            raise self.up_error

    def down(self) -> str:
        FakeLab.downs += 1
        if self.down_error:
            raise self.down_error
        return "nothing is left"


@pytest.fixture(autouse=True)
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeLab]]:
    monkeypatch.setattr(demo_lab, "DemoLab", FakeLab)
    monkeypatch.setattr(command.os, "geteuid", lambda: 0)
    monkeypatch.setattr(FakeLab, "ups", 0)
    monkeypatch.setattr(FakeLab, "downs", 0)
    yield FakeLab
    assert FakeLab.downs == 1


def run(monkeypatch: pytest.MonkeyPatch, checks: dict[str, demo_checks.Checked], *options: str) -> Result:
    monkeypatch.setattr(demo_checks, "CHECKS", checks)
    return CliRunner().invoke(command.command, options)


def fails(_: object) -> str:
    raise TrafficError("no\n answer")


def breaks(_: object) -> str:
    raise KeyError("red-web")


GOOD = {"a": lambda _: "seen", "b": lambda _: "seen too"}


def test_json_of_good_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, GOOD, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "ok": True,
        "checks": [
            {"name": "a", "ok": True, "detail": "seen"},
            {"name": "b", "ok": True, "detail": "seen too"},
            {"name": "cleanup", "ok": True, "detail": "nothing is left"},
        ],
    }


def test_a_failed_check_fails_the_demo_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {"bad": fails, "worse": breaks, **GOOD}, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert [(check["name"], check["ok"], check["detail"]) for check in document["checks"]] == [
        ("bad", False, "no answer"),
        ("worse", False, "KeyError: 'red-web'"),
        ("a", True, "seen"),
        ("b", True, "seen too"),
        ("cleanup", True, "nothing is left"),
    ]


def test_without_a_lab_no_check_runs(monkeypatch: pytest.MonkeyPatch, lab: type[FakeLab]) -> None:
    monkeypatch.setattr(lab, "up_error", demo_lab.LabError("no room"))
    result = run(monkeypatch, GOOD, "--json")
    assert result.exit_code == 1
    details = {check["name"]: check["detail"] for check in json.loads(result.stdout)["checks"]}
    assert details == {"a": "not run: no room", "b": "not run: no room", "cleanup": "nothing is left"}


def test_what_is_left_behind_fails_the_demo(monkeypatch: pytest.MonkeyPatch, lab: type[FakeLab]) -> None:
    monkeypatch.setattr(lab, "down_error", TrafficError("left behind: demo1-h1"))
    assert run(monkeypatch, GOOD).exit_code == 1


def test_table_on_stdout_progress_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {"bad": fails, **GOOD})
    assert result.stdout.splitlines() == [
        "FAILED  bad      no answer",
        "ok      a        seen",
        "ok      b        seen too",
        "ok      cleanup  nothing is left",
        "4 checks, 1 failed",
    ]
    assert [line for line in result.stderr.splitlines() if not line.startswith("lab ")] == [
        "FAILED bad",
        "ok     a",
        "ok     b",
    ]


def test_a_signal_stops_it_between_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> str:
        command.signal.raise_signal(command.signal.SIGINT)
        return "done in spite of it"

    before = command.signal.getsignal(command.signal.SIGINT)
    result = run(monkeypatch, {"first": interrupted, **GOOD}, "--json")
    assert command.signal.getsignal(command.signal.SIGINT) is before
    assert result.exit_code == 1
    checks = json.loads(result.stdout)["checks"]
    assert [(check["name"], check["ok"]) for check in checks] == [
        ("first", True), ("a", False), ("b", False), ("cleanup", True),
    ]  # fmt: skip
    assert checks[1]["detail"] == "not run: interrupted"
