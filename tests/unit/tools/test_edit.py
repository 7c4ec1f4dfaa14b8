"""`edit`: with scripts for editors."""

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.native import BIN
from tests.unit.tools.shell import MINE, Shell


@pytest.fixture
def mine(applied: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    applied("apply", "-", stdin=MINE)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("TMPDIR", str(applied.directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    return applied


def editor(shell: Shell, monkeypatch: pytest.MonkeyPatch, *scripts: str) -> None:
    """Each time the next of these sed scripts; what was shown stands in shown-N."""
    turn = shell.directory / "turn"
    turn.write_text("0")
    cases = "\n".join(f"{number}) sed -i '{script}' \"$1\";;" for number, script in enumerate(scripts))
    script = (
        "#!/bin/sh",
        f"n=$(cat {turn})",
        f"echo $((n + 1)) > {turn}",
        f'cp "$1" {shell.directory}/shown-$n',
    )
    path = shell.file("editor", "\n".join([*script, "case $n in", cases, "*) exit 9;;", "esac", ""]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("EDITOR", str(path))


def shown(shell: Shell, turn: int) -> str:
    return (shell.directory / f"shown-{turn}").read_text()


def kept(shell: Shell) -> list[Path]:
    return list(shell.directory.glob("isolane-edit-*"))


def test_what_is_saved_is_applied(mine: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(mine, monkeypatch, "s/app: front/app: back/; s/host: h1/host: h2/")
    result = mine("edit", "port/blue/mine")
    assert (result.stdout, result.stderr) == ("port/blue/mine changed\n", "")
    assert (
        mine("get", "port/mine", "-o", "jsonpath={.spec.host} {.metadata.labels.app}").stdout == "h2 back\n"
    )
    assert "vmSubnet: Blue_VMSubnet1" in shown(mine, 0) and "given" not in shown(mine, 0)
    assert kept(mine) == []


def test_several_objects(mine: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(mine, monkeypatch, "s/mtu: 1600/mtu: 1500/")
    assert mine("edit", "hosts", "h1", "h2").stdout == "host/h1 changed\nhost/h2 changed\n"


def test_no_change(mine: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(mine, monkeypatch, "s/none/none/")
    result = mine("edit", "port", "mine")
    assert (result.stdout, result.stderr) == ("", "no change\n")
    assert kept(mine) == []


def test_problems_stand_on_top(mine: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(mine, monkeypatch, "s/host: h1/host: h9/", "s/host: h9/host: h2/")
    assert mine("edit", "port", "mine").stdout == "port/blue/mine changed\n"
    again = shown(mine, 1).splitlines()
    number = next(index for index, line in enumerate(again, start=1) if "host: h9" in line)
    assert again[1] == f"#! line {number}: Port blue/mine: spec.host: there is no Host h9"


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        ("s/host: h1/host: h9/", "there is no Host h9"),
        ("s/host: h1/hots: h1/", "hots"),
        ("s/name: mine/name: other/", "another object than was opened"),
        ("s/^kind.*/kind: [/", "isolane-edit-"),
    ],
)
def test_nothing_is_lost(mine: Shell, monkeypatch: pytest.MonkeyPatch, first: str, problem: str) -> None:
    """Who leaves it as wrong as it was has the file still."""
    editor(mine, monkeypatch, first, "")
    error = mine("edit", "port", "mine", status=1)
    assert problem in error.stderr
    [path] = kept(mine)
    assert f"your edit is kept: {path}" in error.stderr
    assert path.read_text() == shown(mine, 1)
    assert oct(path.stat().st_mode)[-3:] == "600"
    assert mine("get", "port", "mine", "-o", "jsonpath={.spec.host}").stdout == "h1\n"


def test_a_stale_edit_is_refused(mine: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else is faster, while the editor is open."""
    other = mine.file("other.yaml", MINE.replace("front", "other"))
    script = mine.file(
        "editor",
        "#!/bin/sh\nsed -i 's/app: front/app: back/' \"$1\"\n"
        f"env -u EDITOR {BIN / 'isolane'} apply {other} --store {mine.location}\n",
    )
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    error = mine("edit", "port", "mine", status=1)
    [path] = kept(mine)
    lines = error.stderr.splitlines()
    assert lines[0] == f"your edit is kept: {path}"
    assert lines[-1] == "hint: isolane edit shows it as it is now"
    assert "app: back" in path.read_text()
    assert mine("get", "port", "mine", "-o", "jsonpath={.metadata.labels.app}").stdout == "other\n"


def test_editors_that_fail(mine: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "false")
    assert "error: false: exit status 1" in mine("edit", "port", "mine", status=1).stderr
    monkeypatch.setenv("VISUAL", "/no/such/editor -x")
    assert "hint: VISUAL or EDITOR names an editor" in mine("edit", "port", "mine", status=1).stderr
    assert kept(mine) == []


@pytest.mark.parametrize("script", ["printf '\\377' >> \"$1\"", 'rm "$1"; mkdir "$1"'])
def test_what_can_not_be_read_is_told(mine: Shell, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = mine.file("editor", f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(path))
    error = mine("edit", "port", "mine", status=1)
    [kept_] = kept(mine)
    assert error.stderr.startswith(f"your edit is kept: {kept_}\nerror: {kept_}: ")


def test_a_file_that_the_editor_removed_is_told(mine: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mine.file("editor", '#!/bin/sh\nrm "$1"\n')
    path.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(path))
    assert "No such file" in mine("edit", "port", "mine", status=1).stderr


def test_ctrl_c_is_the_editors(mine: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """vi takes it for the end of a command; it comes to all processes of the terminal."""
    script = mine.file(
        "editor",
        '#!/bin/sh\ntrap \'sed -i "s/app: front/app: back/" "$1"\' INT\nkill -INT 0\nsleep 0.1\n',
    )
    script.chmod(0o755)
    environment = {**os.environ, "EDITOR": str(script), "ISOLANE_STORE": mine.location}
    done = subprocess.run(
        [BIN / "isolane", "edit", "port/blue/mine"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("port/blue/mine changed\n", "", 0)
