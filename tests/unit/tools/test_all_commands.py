"""What holds for every command."""

import subprocess
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from dataplane.process import instances
from tests.native import BIN, ROOT
from tests.unit.tools.shell import Shell
from tools.cli import COMMANDS, main


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_help_has_an_example(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    assert f"isolane {verb}" in result.output.partition("Example")[2]


@pytest.mark.parametrize("group", ["node", "lab", "bench"])
def test_so_has_every_command_of_a_group(group: str) -> None:
    found = main.get_command(None, group)  # type: ignore[arg-type]
    assert isinstance(found, click.Group) and len(found.commands) > 1
    for name in found.commands:
        result = CliRunner().invoke(main, [group, name, "--help"])
        assert f"isolane {group} {name}" in result.output.partition("Example")[2]


@pytest.mark.parametrize(
    ("words", "bounds"),
    [
        (["bench", "core"], "0.1<=x<=600"),
        (["node", "ping-pa"], "0.1<=x<=60"),
        (["agent"], "x>=0.1"),
    ],
)
def test_help_says_from_where_to_where_seconds_are_taken(words: list[str], bounds: str) -> None:
    shown = " ".join(CliRunner().invoke(main, [*words, "--help"]).output.split())
    assert f"; {bounds}]" in shown


def test_a_store_that_is_none(shell: Shell) -> None:
    Path(shell.location).write_text("no database, but long enough to look like a file of one" * 20)
    assert shell("get", "ports", status=1).stderr == f"error: {shell.location}: not a database\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["isolane", "get", "vms"], ["VMSubnet"]),
        (["isolane", "get", "Port", "blue/blue-a"], ["blue/blue-api", "blue/blue-app"]),
        (["isolane", "delete", "port", "red-w"], ["red-web"]),
        (["isolane", "explain", "Port.att"], ["Port.attach"]),
        (["isolane", "desc"], ["describe"]),
        (["isolane", "get", "ports", "--tenant", "r"], ["red"]),
        (["isolane", "agent", "--host", "h"], ["h1", "h2"]),
        (["isolane", "compile", "examples/raw-records.yaml", "--host", ""], ["h1", "h2"]),
        (["isolane", "replay", "examples/none.yaml", "--host", ""], []),
        (["isolane", "replay", "README.md", "--host", ""], []),
    ],
)
def test_completion(applied: Shell, words: list[str], expected: list[str]) -> None:
    """As bash asks for it."""
    environment = {
        "_ISOLANE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "ISOLANE_STORE": applied.location,
    }
    done = subprocess.run(
        [BIN / "isolane"], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.partition(",")[2] for line in done.stdout.split()] == expected


def test_completion_without_a_store(shell: Shell) -> None:
    test_completion(shell, ["isolane", "get", "ports", "--tenant", ""], [])
    assert not Path(shell.location).exists()


def test_completion_of_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with a socket."""
    monkeypatch.setattr(instances, "RUN_DIRECTORY", tmp_path)
    for name in ("h1", "isl-h1", "h2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataplane.sock").touch()
    (tmp_path / "h3").mkdir()
    complete = BashComplete(main, {}, "isolane", "_ISOLANE_COMPLETE").get_completions
    for words in (
        ["node", "status", "--instance"],
        ["node", "ping-pa", "--instance"],
        ["agent", "--instance"],
    ):
        assert [item.value for item in complete(words, "h")] == ["h1", "h2"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: Shell, name: str) -> None:
    assert "_ISOLANE_COMPLETE" in shell("completion", name).stdout
