"""Man pages and completion: of every command, and right in the eyes of the programs that read them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.native import BIN
from tools import manual
from tools.cli import main


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("man")
    manual.write(path)
    return path


def commands(context: click.Context) -> Iterator[click.Context]:
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if not command.hidden:
            inside = click.Context(command, context, name)
            yield inside
            if isinstance(command, click.Group):
                yield from commands(inside)


ALL = list(commands(click.Context(main, info_name="isolane")))
PAGES = ["isolane", *(each.command_path for each in ALL if isinstance(each.command, click.Group))]


def shown(page: Path) -> str:
    command = ["mandoc", "-T", "ascii", "-O", "width=1000", page]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    return subprocess.run(["col", "-bx"], input=text, capture_output=True, text=True, check=True).stdout


def run(*command: str | Path, **environment: str) -> str:
    path = f"{BIN}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path} | environment
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_page_for_every_group(directory: Path) -> None:
    assert {path.name for path in directory.iterdir()} == {f"{name.replace(' ', '-')}.1" for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_right(directory: Path, name: str) -> None:
    page = directory / f"{name.replace(' ', '-')}.1"
    assert run("mandoc", "-T", "lint", "-W", "warning", page) == ""
    assert run("groff", "-ww", "-man", "-T", "utf8", "-z", page) == ""


@pytest.mark.parametrize("context", ALL, ids=lambda context: context.command_path)
def test_every_command_and_option_is_there(directory: Path, context: click.Context) -> None:
    assert context.parent
    text = shown(directory / f"{context.parent.command_path.replace(' ', '-')}.1")
    section = text.partition(f"\n   {context.command_path}\n")[2].partition(
        f"\n   {context.parent.command_path}"
    )[0]
    assert section
    if isinstance(context.command, click.Group):
        assert f"{context.command_path.replace(' ', '-')}(1)" in section
        return
    for parameter in context.command.params:
        if isinstance(parameter, click.Option) and parameter.hidden:
            continue
        assert all(option in section for option in parameter.opts if option.startswith("-"))
    assert "xample" in section


def test_text_for_roff() -> None:
    assert manual.roff(".so `a\\b` -x … 'y'\n'z") == "\\&.so \\fBa\\eb\\fR \\-x \\[u2026] 'y'\n\\&'z"


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    script = tmp_path / f"isolane.{request.param}"
    script.write_text(run(BIN / "isolane", "completion", request.param))
    return request.param, script


def test_shells_complete(shell: tuple[str, Path]) -> None:
    name, script = shell
    run(name, "-n", script)
    ask = {
        "bash": f"source {script}; COMP_WORDS=(isolane no); COMP_CWORD=1; _isolane_completion isolane;"
        " echo ${COMPREPLY[@]}",
        "fish": f"source {script}; complete -C 'isolane no'",
        "zsh": "env COMP_WORDS='isolane no' COMP_CWORD=1 _ISOLANE_COMPLETE=zsh_complete isolane",
    }
    assert "node" in run(name, "-c", ask[name], TERM="dumb").split()
