"""The line that says how far a command has come."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from policy.kinds.steps import counted, step, told_to
from tests.unit.tools.shell import Shell
from tools import progress
from tools.cli import main
from tools.progress import PATIENCE, Line


class World:
    """A terminal that is none, and a clock that is moved."""

    def __init__(self) -> None:
        self.now = 100.0
        self.terminal = io.StringIO()
        self.line = Line(self.terminal, lambda: self.now)

    def later(self, seconds: float) -> str:
        """What the terminal shows then."""
        self.now += seconds
        self.line.tick()
        return self.shown()

    def shown(self) -> str:
        return self.terminal.getvalue().rpartition("\r")[2]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with told_to(made.line):
        yield made


def test_a_line_says_step_how_far_and_how_long(world: World) -> None:
    with step("planning"):
        assert world.later(PATIENCE - 0.1) == ""
        assert world.later(0.1) == "planning, 2 s"
        for number in counted(range(200), "objects"):
            if number == 50:
                assert world.later(60) == "planning, objects 25 %, 62 s"
        assert world.later(1) == "planning, 63 s"
    assert world.shown() == ""
    assert world.later(1) == "", "between steps the line is the command's"
    assert set(world.terminal.getvalue().split("\r")[-2]) == {" "}, "nothing is left of it"


def test_short_steps_one_after_the_other_are_long(world: World) -> None:
    shown = set()
    for number in range(30):
        with step(f"step {number}"):
            shown.add(world.later(0.125))
    assert shown == {"", *(f"step {number}, {(number + 1) / 8:.0f} s" for number in range(15, 30))}
    world.later(progress._PAUSE + 0.1)
    with step("another"):
        assert world.later(1) == "", "after a pause it is something else that takes long"


def test_what_fails_leaves_no_line(world: World) -> None:
    with pytest.raises(ValueError, match="wrong"), step("reading a\x1bfile"):
        assert world.later(3) == "reading a\\x1bfile, 3 s"
        raise ValueError("wrong")
    assert world.shown() == ""


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard error is one; its other end."""
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", 0), os.fdopen(theirs, "w") as written:
        monkeypatch.setattr(sys, "stderr", written)
        yield ours


def test_on_a_terminal_it_is_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    ticked = []

    class Hasty(Line):
        """For whom everything takes long: it is shown before each step ends."""

        def end(self, step: progress.Step) -> None:
            self.tick()
            ticked.append(step.text)
            super().end(step)

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "Line", Hasty)
    path = shell.file("net.yaml", "kind: LogicalNetwork\nmetadata: {name: fabric}\n")
    with terminal(monkeypatch) as seen:
        main(["apply", "--store", shell.location, str(path)], standalone_mode=False)
        text = os.read(seen, 1 << 16).decode()
    assert f"reading {path}"[:60] in text
    assert {"reading objects", "looking at what is there", "allocating", "writing to the store"} <= {*ticked}
    assert text.rpartition("\r")[2] == ""


def test_a_step_that_somebody_holds_leaves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_EVERY", 0.001)
    items = counted(range(3), "objects")
    with terminal(monkeypatch) as seen:
        with progress.shown():
            next(items)
            assert os.read(seen, 1 << 16).decode().endswith("objects 0 %, 0 s")
        assert os.read(seen, 1 << 16).decode().rpartition("\r")[2] == ""
        items.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["check", "apply", "diff", "delete", "get", "compile", "describe"])
def test_elsewhere_it_is_not(applied: Shell, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("stderr is no terminal")

    monkeypatch.setattr(progress, "Line", forbidden)
    path = applied.file("net.yaml", "kind: LogicalNetwork\nmetadata: {name: fabric}\n")
    words = {
        "delete": ["delete", "port/blue/blue-web"],
        "get": ["get", "all"],
        "describe": ["describe", "host", "h1"],
        "compile": ["compile", "examples/blue-red.yaml", "--host", "h1"],
    }.get(command, [command, str(path)])
    done = CliRunner().invoke(main, words, env={"ISOLANE_STORE": applied.location})
    assert done.exit_code == 0 and "\r" not in done.output
