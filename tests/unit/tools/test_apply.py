"""`check`, `diff` and `apply`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from policy.kinds import manifest
from policy.service import events, host_state, rollout
from policy.service.events import Event
from policy.store.locations import open_store
from tests.unit.manifests import EXAMPLE
from tests.unit.tools.shell import MINE, Shell
from tools.cli import main
from tools.verbs.apply import apply, diff


def test_check(shell: Shell) -> None:
    result = shell("check", "-f", EXAMPLE)
    assert result.stdout == ""
    assert result.stderr == "no problems in 17 objects, checked alone, without a store\n"
    assert not Path(shell.location).exists(), "nothing is made"
    wrong = shell.file("wrong.yaml", MINE)
    assert (
        "wrong.yaml:3: Port blue/mine: spec.vmSubnet: there is no VMSubnet"
        in shell("check", "-f", wrong, status=1).stderr
    )


def test_check_together_with_a_store(applied: Shell) -> None:
    mine = applied.file("mine.yaml", MINE)
    result = applied("check", "-f", mine, "--store", applied.location)
    assert result.stderr == "no problems in 1 object\n"


def test_no_store_is_made_for_what_is_wrong(shell: Shell) -> None:
    wrong = "{kind: VMNetwork, metadata: {name: n, tenant: t}, spec: {logicalNetwork: none}}"
    assert "there is no LogicalNetwork none" in shell("apply", "-f", "-", stdin=wrong, status=1).stderr
    assert not Path(shell.location).exists()


def test_apply_says_what_became_of_each_object(shell: Shell) -> None:
    lines = shell("apply", "-f", EXAMPLE).stdout.splitlines()
    assert len(lines) == 17
    assert lines[0] == "logicalnetwork/fabric created" and lines[-1] == "port/red/red-web created"
    again = shell("apply", "-f", EXAMPLE).stdout.splitlines()
    assert {line.rpartition(" ")[2] for line in again} == {"unchanged"}


def test_dry_run_changes_nothing(shell: Shell) -> None:
    shell("apply", "-f", "-", stdin="{kind: LogicalNetwork, metadata: {name: other}}")
    lines = shell("apply", "-f", EXAMPLE, "--dry-run").stdout.splitlines()
    assert lines[0] == "logicalnetwork/fabric created (dry run)"
    assert shell("get", "ports", "-o", "json").stdout == "[]\n"


@pytest.mark.parametrize(
    "words",
    [
        ["get", "ports"],
        ["describe", "port", "blue-web"],
        ["check", "-f", EXAMPLE, "--store", "{location}"],
        ["delete", "port", "blue-web"],
        ["delete", "-f", EXAMPLE],
        ["apply", "-f", EXAMPLE, "--dry-run"],
        ["diff", "-f", EXAMPLE],
    ],
)
def test_apply_alone_makes_a_store(shell: Shell, words: list[str | Path]) -> None:
    shell.location = str(shell.directory / "new" / "store.db")
    status = 2 if words[0] == "diff" else 1
    result = shell(*(str(word).format(location=shell.location) for word in words), status=status)
    hint = "isolane apply FILE makes one; --store PATH or ISOLANE_STORE names another"
    assert result.stdout == ""
    assert result.stderr == f"error: {shell.location}: no store is there\nhint: {hint}\n"
    assert not list(shell.directory.iterdir())
    shell("apply", "-f", EXAMPLE)
    assert shell("get", "hosts", "-o", "name").stdout == "host/h1\nhost/h2\n"


def test_before_the_first_apply(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be changed can be seen, where the store is going to be by default."""
    missing = shell.directory / "none" / "store.db"
    for command in (apply, diff):
        option = next(each for each in command.params if each.name == "location")
        monkeypatch.setattr(option, "default", str(missing))
    runner = CliRunner(env={"ISOLANE_STORE": None})
    lines = [f"{missing}: no store is there yet: taken as empty"]
    dry = runner.invoke(main, ["apply", "-f", str(EXAMPLE), "--dry-run"])
    assert (dry.exit_code, dry.stderr.splitlines(), len(dry.stdout.splitlines())) == (0, lines, 17)
    different = runner.invoke(main, ["diff", "-f", str(EXAMPLE)])
    assert (different.exit_code, different.stderr.splitlines()) == (1, [*lines, "17 created"])
    assert not missing.parent.exists()


def test_a_location_is_not_empty(shell: Shell) -> None:
    for words in (["get", "ports"], ["apply", "-f", EXAMPLE], ["check", "-f", EXAMPLE]):
        assert "it is the location of a store" in shell(*words, "--store", "", status=2).stderr
    shell.location = ""
    for words in (["get", "ports"], ["apply", "-f", EXAMPLE]):
        assert "it is the location of a store" in shell(*words, status=2).stderr
    shell("check", "-f", EXAMPLE)


def test_apply_reads_standard_input_and_directories(applied: Shell) -> None:
    assert applied("apply", "-f", "-", stdin=MINE).stdout == "port/blue/mine created\n"
    directory = applied.directory / "team"
    directory.mkdir()
    (directory / "b.yaml").write_text(MINE.replace("mine", "more"))
    (directory / "a.yaml").write_text(MINE.replace("front", "back"))
    (directory / "notes.txt").write_text("no manifest")
    lines = applied("apply", "-f", directory).stdout.splitlines()
    assert lines == ["port/blue/mine changed", "port/blue/more created"]
    empty = applied.directory / "empty"
    empty.mkdir()
    assert "no *.yaml in" in applied("apply", "-f", empty, status=2).stderr


def test_apply_of_something_wrong_changes_nothing(applied: Shell) -> None:
    wrong = applied.file("wrong.yaml", MINE + "---\n" + MINE.replace("h1", "h9").replace("mine", "bad"))
    error = applied("apply", "-f", wrong, status=1)
    assert "wrong.yaml:7: Port blue/bad: spec.host: there is no Host h9" in error.stderr
    assert (error.stdout, "mine" in applied("get", "ports").stdout) == ("", False)


@pytest.mark.parametrize(
    "words", [["apply"], ["apply", "--prune", "-l", "app=front"], ["diff"], ["delete"], ["check"]]
)
def test_files_without_objects(applied: Shell, words: list[str]) -> None:
    """Such as what a generator leaves that fails."""
    applied("apply", "-f", "-", stdin=MINE)
    verb, *options = words
    empty, comment = applied.file("empty.yaml", ""), applied.file("comment.yaml", "---\n# nothing\n")
    status = 2 if verb == "diff" else 1
    error = applied(verb, "-f", empty, "-f", comment, *options, status=status)
    assert (error.stdout, error.stderr) == ("", f"error: no objects in {empty}, {comment}\n")
    assert applied(verb, "-f", "-", *options, stdin="", status=status).stderr.endswith(
        "no objects in standard input\n"
    )
    assert applied("get", "port", "mine", "-o", "name").stdout == "port/blue/mine\n"


def test_prune(applied: Shell) -> None:
    mine = applied.file("mine.yaml", MINE)
    more = applied.file("more.yaml", MINE.replace("mine", "more"))
    applied("apply", "-f", mine, "-f", more)
    result = applied("apply", "-f", mine, "--prune", "-l", "app=front")
    assert result.stdout.splitlines() == ["port/blue/mine unchanged", "port/blue/more deleted"]
    for words in (["--prune"], ["-l", "app=front"], ["--prune", "-l", "app"]):
        applied("apply", "-f", mine, *words, status=2)


def test_wait(applied: Shell) -> None:
    mine = applied.file("mine.yaml", MINE)
    late = applied("apply", "-f", mine, "--wait", "--timeout", "0", status=1)
    assert late.stderr.splitlines() == [
        "no agent is there: h1, h2",
        "error: not applied after 0 s by: h1 (no agent is there), h2 (no agent is there)",
    ]
    store = open_store(applied.location)
    state = {"revision": 99, "state": host_state.APPLIED, "problems": []}
    store.commit({f"host/{host}": json.dumps(state).encode() for host in ("h1", "h2")})
    store.close()
    assert applied("apply", "-f", mine, "--wait").stderr == ""
    for wrong in ("abc", "nan", "inf", "-1", "-inf", "1e300", "9e307h", ""):
        error = applied("apply", "-f", mine, "--wait", f"--timeout={wrong}", status=2).stderr
        assert f"'{wrong}' is not a number of seconds" in error
    assert f"after {rollout.RECOVERY_SECONDS:.0f} s, when" in applied("apply", "--help").stdout


def test_wait_for_what_was_applied_before(applied: Shell) -> None:
    """Hosts' states make revisions, too, which no host applies."""
    store = open_store(applied.location)
    for host in ("h1", "h2"):
        state = {"revision": 1, "state": host_state.APPLIED, "problems": []}
        key, value = events.item(Event(1.0, f"host {host}", "applied revision 1: …", {}))
        store.commit({f"host/{host}": json.dumps(state).encode(), key: value})
    applied("apply", "-f", EXAMPLE, "--wait", "--timeout", "0")
    applied("delete", "port", "red-api")
    text = EXAMPLE.read_text().split("---")
    left = applied.file("left.yaml", "---".join(part for part in text if "name: red-api" not in part))
    late = applied("apply", "-f", left, "--wait", "--timeout", "0", status=1)
    assert late.stderr == "error: not applied after 0 s by: h1, h2\n"
    store.close()


def test_diff(applied: Shell) -> None:
    same = applied("diff", "-f", EXAMPLE)
    assert (same.stdout, same.stderr) == ("", "17 unchanged\n")
    mine = applied.file("mine.yaml", MINE)
    short = applied("diff", mine, status=1)
    assert (short.stdout, short.stderr) == ("+ Port blue/mine\n", "1 created\n")
    lines = applied("diff", "--full", "-f", mine, status=1).stdout.splitlines()
    assert lines[:2] == ["--- store: Port blue/mine", "+++ stated: Port blue/mine"]
    assert "+kind: Port" in lines
    applied("apply", "-f", mine)
    changed = applied.file("mine.yaml", MINE.replace("h1", "h2"))
    lines = applied("diff", "-f", changed, status=1).stdout.splitlines()
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-  host: h1", "+  host: h2"]
    wrong = applied.file("wrong.yaml", MINE.replace("h1", "h9"))
    trouble = applied("diff", "-f", wrong, status=2)
    assert trouble.stdout == "" and "there is no Host h9" in trouble.stderr


def test_manifests_have_a_bound(applied: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MOST_BYTES", 1 << 20)
    for words in (["apply", "-f", "/dev/zero"], ["check", "/dev/zero"], ["delete", "-f", "/dev/zero"]):
        error = applied(*words, status=1).stderr
        assert error == "error: /dev/zero: larger than 1 MiB, the most that a manifest may be\n"
    error = applied("apply", "-", stdin="#" * ((1 << 20) + 1), status=1).stderr
    assert error == "error: -: larger than 1 MiB, the most that a manifest may be\n"
    applied("apply", "-", stdin=MINE + "#" * ((1 << 20) - len(MINE)))
