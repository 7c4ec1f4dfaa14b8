"""One style of errors."""

import subprocess
from pathlib import Path

import pytest

from dataplane.process import instances
from tests.native import BIN
from tests.unit.tools.shell import Shell
from tools.lab import state

NONE_RUNS = "hint: none runs here; isolane up, isolane lab up or systemctl start isolane-dataplane@NAME"


@pytest.mark.parametrize(
    ("words", "status", "lines"),
    [
        (["aply"], 2, ["error: no such command: aply", "hint: did you mean apply?"]),
        (["node", "statsu"], 2, ["error: no such command: statsu", "hint: did you mean status?"]),
        (["bench", "cora"], 2, ["error: no such command: cora", "hint: did you mean core?"]),
        (
            ["get", "ports", "--no-header"],
            2,
            ["error: no such option: --no-header", "hint: did you mean --no-headers?"],
        ),
        (["get", "ports", "--xyz"], 2, ["error: no such option: --xyz", "hint: main get --help"]),
        (["apply"], 2, ["error: no manifest is named", "hint: FILE or -f FILE; - is standard input"]),
        (["explain", "prot"], 2, ["error: 'prot' is not a kind", "hint: did you mean port?"]),
        (["explain", "port.vmsubnet"], 2, ["hint: did you mean vmSubnet?"]),
        (["delete"], 2, ["error: either objects or -f FILE", "hint: isolane delete KIND/NAME…"]),
        (["delete", "port"], 2, ["error: no name is given", "hint: port NAME… or port/NAME…"]),
        (["lab", "down", "--prefix", "no-"], 1, ["hint: none is here; isolane lab up FILE makes one"]),
        (["node", "status", "--instance", "no"], 1, [NONE_RUNS]),
    ],
)
def test_what_is_wrong_and_what_helps(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, lines: list[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    result = shell(*words, status=status)
    assert result.stdout == ""
    printed = result.stderr.splitlines()
    assert printed[-len(lines) :] == lines
    assert printed[0].startswith("error: ") and len(printed) <= 2


def test_manifests_as_arguments_or_options(shell: Shell) -> None:
    text = "{kind: LogicalNetwork, metadata: {name: %s}}"
    one, two = shell.file("one.yaml", text % "one"), shell.file("two.yaml", text % "two")
    assert "no problems in 2 objects" in shell("check", one, "-f", two).stderr
    assert len(shell("apply", one, two).stdout.splitlines()) == 2
    assert shell("diff", "-f", one, two).stderr == "2 unchanged\n"
    assert shell("apply", "-", stdin=text % "one").stdout == "logicalnetwork/one unchanged\n"


def test_stores_that_are_here(shell: Shell) -> None:
    """A lab's is named to whoever names none."""
    labs = state.STATE_DIRECTORY
    labs.mkdir()
    for prefix in ("isl-", "test-"):
        (labs / f"{prefix}.json").touch()
        (labs / f"{prefix}.store").touch()
    error = shell("get", "ports", status=1).stderr.splitlines()
    first, second = labs / "isl-.store", labs / "test-.store"
    assert error[1] == f"hint: export ISOLANE_STORE={first}; also: {second}"
    assert shell("lab", "list").stdout == "isl-\ntest-\n"


def test_instances_that_are_here(shell: Shell) -> None:
    for name in ("isl-h1", "isl-h2"):
        (instances.RUN_DIRECTORY / name).mkdir(parents=True)
        (instances.RUN_DIRECTORY / name / "dataplane.sock").touch()
    error = shell("node", "status", status=1).stderr.splitlines()
    assert error[1] == "hint: --instance isl-h1; also: isl-h2"


def test_the_prefix_of_a_lab(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, else the usual one."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "error: no lab with prefix isl-\n" in shell("lab", "status", status=1).stderr
    monkeypatch.setenv("ISOLANE_PREFIX", "test-")
    assert "error: no lab with prefix test-\n" in shell("lab", "status", status=1).stderr
    assert "error: no lab with prefix x-\n" in shell("lab", "down", "--prefix", "x-", status=1).stderr


def test_output_that_has_no_room_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([BIN / "isolane", "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.stderr, done.returncode) == (b"error: No space left on device\n", 1)
