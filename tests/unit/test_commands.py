"""The commands on intent, as an operator types them."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result

from dataplane import client, server
from dataplane.client import ClientError
from policy import events, intent
from policy.events import Event
from policy.schema import KINDS
from policy.store import open_store
from tests.native import BIN, ROOT
from tests.unit.manifests import EXAMPLE
from tools.apply import apply, diff
from tools.cli import COMMANDS, main

MINE = """\
kind: Port
metadata: {name: mine, tenant: blue, labels: {app: front}}
spec: {vmSubnet: Blue_VMSubnet1, host: h1}
"""


class Shell:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.location = str(directory / "store.db")

    def __call__(self, *words: object, stdin: str | None = None, status: int = 0) -> Result:
        environment = {"ISOLANE_STORE": self.location}
        result = CliRunner().invoke(main, [str(word) for word in words], stdin, env=environment)
        assert result.exit_code == status, result.output
        return result

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def applied(shell: Shell) -> Shell:
    shell("apply", "-f", EXAMPLE)
    return shell


# ---- check, apply, diff --------------------------------------------------------------------------


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
    assert lines[0] == "LogicalNetwork fabric created" and lines[-1] == "Port red/red-web created"
    again = shell("apply", "-f", EXAMPLE).stdout.splitlines()
    assert {line.rpartition(" ")[2] for line in again} == {"unchanged"}


def test_dry_run_changes_nothing(shell: Shell) -> None:
    shell("apply", "-f", "-", stdin="{kind: LogicalNetwork, metadata: {name: other}}")
    lines = shell("apply", "-f", EXAMPLE, "--dry-run").stdout.splitlines()
    assert lines[0] == "LogicalNetwork fabric created (dry run)"
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
    assert (result.stdout, result.stderr) == ("", f"{shell.location}: no store is there\n")
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
    assert (different.exit_code, different.stderr.splitlines()) == (1, lines)
    assert not missing.parent.exists()


def test_a_location_is_not_empty(shell: Shell) -> None:
    for words in (["get", "ports"], ["apply", "-f", EXAMPLE], ["check", "-f", EXAMPLE]):
        assert "it is the location of a store" in shell(*words, "--store", "", status=2).stderr
    shell.location = ""
    for words in (["get", "ports"], ["apply", "-f", EXAMPLE]):
        assert "it is the location of a store" in shell(*words, status=2).stderr
    shell("check", "-f", EXAMPLE)


def test_apply_reads_standard_input_and_directories(applied: Shell) -> None:
    assert applied("apply", "-f", "-", stdin=MINE).stdout == "Port blue/mine created\n"
    directory = applied.directory / "team"
    directory.mkdir()
    (directory / "b.yaml").write_text(MINE.replace("mine", "more"))
    (directory / "a.yaml").write_text(MINE.replace("front", "back"))
    (directory / "notes.txt").write_text("no manifest")
    lines = applied("apply", "-f", directory).stdout.splitlines()
    assert lines == ["Port blue/mine changed", "Port blue/more created"]
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
    assert (error.stdout, error.stderr) == ("", f"no objects in {empty}, {comment}\n")
    assert applied(verb, "-f", "-", *options, stdin="", status=status).stderr.endswith(
        "no objects in standard input\n"
    )
    assert applied("get", "port", "mine", "-o", "name").stdout == "port/blue/mine\n"


def test_prune(applied: Shell) -> None:
    mine = applied.file("mine.yaml", MINE)
    more = applied.file("more.yaml", MINE.replace("mine", "more"))
    applied("apply", "-f", mine, "-f", more)
    result = applied("apply", "-f", mine, "--prune", "-l", "app=front")
    assert result.stdout.splitlines() == ["Port blue/mine unchanged", "Port blue/more deleted"]
    for words in (["--prune"], ["-l", "app=front"], ["--prune", "-l", "app"]):
        applied("apply", "-f", mine, *words, status=2)


def test_wait(applied: Shell) -> None:
    mine = applied.file("mine.yaml", MINE)
    late = applied("apply", "-f", mine, "--wait", "0", status=1)
    assert late.stderr.splitlines() == [
        "no agent has been there: h1, h2",
        "not applied after 0 s by: h1 (no agent has been there), h2 (no agent has been there)",
    ]
    store = open_store(applied.location)
    state = {"revision": 99, "state": intent.APPLIED, "problems": []}
    store.commit({f"host/{host}": json.dumps(state).encode() for host in ("h1", "h2")})
    store.close()
    assert applied("apply", "-f", mine, "--wait").stderr == ""
    for wrong in ("abc", "nan"):
        error = applied("apply", "-f", mine, "--wait", wrong, status=2).stderr
        assert f"'{wrong}' is not a number of seconds" in error
    assert f"after {intent.RECOVERY_SECONDS:.0f} s, when" in applied("apply", "--help").stdout


def test_wait_for_what_was_applied_before(applied: Shell) -> None:
    """Hosts' states make revisions, too, which no host applies."""
    store = open_store(applied.location)
    for host in ("h1", "h2"):
        state = {"revision": 1, "state": intent.APPLIED, "problems": []}
        key, value = events.item(Event(1.0, f"host {host}", "applied revision 1: …", {}))
        store.commit({f"host/{host}": json.dumps(state).encode(), key: value})
    applied("apply", "-f", EXAMPLE, "--wait", "0")
    applied("delete", "port", "red-api")
    text = EXAMPLE.read_text().split("---")
    left = applied.file("left.yaml", "---".join(part for part in text if "name: red-api" not in part))
    late = applied("apply", "-f", left, "--wait", "0", status=1)
    assert late.stderr == "not applied after 0 s by: h1, h2\n"
    store.close()


def test_diff(applied: Shell) -> None:
    assert applied("diff", "-f", EXAMPLE).output == ""
    mine = applied.file("mine.yaml", MINE)
    lines = applied("diff", "-f", mine, status=1).stdout.splitlines()
    assert lines[:2] == ["--- store: Port blue/mine", "+++ stated: Port blue/mine"]
    assert "+kind: Port" in lines
    applied("apply", "-f", mine)
    changed = applied.file("mine.yaml", MINE.replace("h1", "h2"))
    lines = applied("diff", "-f", changed, status=1).stdout.splitlines()
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-  host: h1", "+  host: h2"]
    wrong = applied.file("wrong.yaml", MINE.replace("h1", "h9"))
    trouble = applied("diff", "-f", wrong, status=2)
    assert trouble.stdout == "" and "there is no Host h9" in trouble.stderr


# ---- delete --------------------------------------------------------------------------------------


def test_delete(applied: Shell) -> None:
    refused = applied("delete", "vmsubnet", "Blue_VMSubnet2", status=1)
    assert "still referred to by Port blue/blue-cache: spec.vmSubnet" in refused.stderr
    assert applied("delete", "ports", "blue-cache", "blue/blue-db").stdout.splitlines() == [
        "Port blue/blue-db deleted",
        "Port blue/blue-cache deleted",
    ]
    applied("delete", "VMSUBNET", "blue/Blue_VMSubnet2")
    assert "there is no Port blue-cache" in applied("delete", "port", "blue-cache", status=1).stderr
    lines = applied("delete", "vmnetwork", "Red_VMNet", "--cascade").stdout.splitlines()
    assert lines[-1] == "VMNetwork red/Red_VMNet deleted" and len(lines) == 5


def test_delete_a_tenant(shell: Shell) -> None:
    shell("apply", "-f", ROOT / "examples" / "walkthrough")
    refused = shell("delete", "tenant", "red", status=1)
    assert "Tenant red is still referred to by Port red/red-web: metadata.tenant" in refused.stderr
    assert "used by: Port red/red-web" in shell("describe", "tenant", "red").stdout.splitlines()
    lines = shell("delete", "tenant", "red", "--cascade").stdout.splitlines()
    assert len(lines) == 6 and lines[-1] == "Tenant red deleted"
    assert shell("get", "ports", "--tenant", "red", status=1).stderr == "there is no Tenant red\n"


def test_delete_dry(applied: Shell) -> None:
    lines = applied("delete", "vmnetwork", "Red_VMNet", "--cascade", "--dry-run").stdout.splitlines()
    assert lines[-1] == "VMNetwork red/Red_VMNet deleted (dry run)" and len(lines) == 5
    assert len(applied("delete", "-f", EXAMPLE, "--dry-run").stdout.splitlines()) == 17
    refused = applied("delete", "vmnetwork", "Red_VMNet", "--dry-run", status=1)
    assert "still referred to by" in refused.stderr
    again = applied("apply", "-f", EXAMPLE).stdout.splitlines()
    assert {line.rpartition(" ")[2] for line in again} == {"unchanged"}


def test_delete_what_may_not_be_there(applied: Shell) -> None:
    words = ["delete", "port", "none", "blue/none", "red-api", "--ignore-missing"]
    assert applied(*words).stdout == "Port red/red-api deleted\n"
    assert applied(*words).output == ""
    several = applied.file("several.yaml", MINE + "---\n" + MINE.replace("mine", "two"))
    applied("apply", "-f", "-", stdin=MINE)
    assert "there is no Port blue/two" in applied("delete", "-f", several, status=1).stderr
    assert applied("delete", "-f", several, "--ignore-missing").stdout == "Port blue/mine deleted\n"
    applied("apply", "-f", EXAMPLE)
    left = applied("delete", "-f", EXAMPLE, "-f", several, "--ignore-missing")
    assert len(left.stdout.splitlines()) == 17


def test_delete_what_a_file_states(applied: Shell) -> None:
    assert len(applied("delete", "-f", EXAMPLE).stdout.splitlines()) == 17
    for kind in ("ports", "hosts", "logicalnetworks"):
        assert applied("get", kind).stdout == ""


def test_delete_of_files_that_are_not_right(applied: Shell) -> None:
    wrong = applied.file("wrong.yaml", EXAMPLE.read_text().replace("kind: Port", "kind: Prot", 1))
    assert "'Prot' is not a kind" in applied("delete", "-f", wrong, status=1).stderr
    assert len(applied("get", "hosts", "-o", "name").stdout.splitlines()) == 2


@pytest.mark.parametrize("words", [[], ["port"], ["port", "x", "-f", str(EXAMPLE)], ["prot", "x"]])
def test_delete_of_what(shell: Shell, words: list[str]) -> None:
    shell("delete", *words, status=2)


# ---- get, describe, explain ----------------------------------------------------------------------


def test_get_a_table(applied: Shell) -> None:
    lines = applied("get", "ports", "--tenant", "red").stdout.splitlines()
    assert lines[0].split()[:2] == ["TENANT", "NAME"]
    assert [line.split()[1] for line in lines[1:]] == ["red-api", "red-app", "red-web"]
    assert "02:bb:00:00:00:11" in lines[1]


def test_get_json_and_yaml_say_what_was_stated_and_what_was_allocated(applied: Shell) -> None:
    document = json.loads(applied("get", "port", "blue-web", "-o", "json").stdout)
    assert document["spec"]["addresses"] == ["10.1.1.10", "fd00:1:1::10"]
    assert list(document["allocated"]) == ["providerAddresses"]
    assert document == yaml.safe_load(applied("get", "port", "blue/blue-web", "-o", "yaml").stdout)
    listed = json.loads(applied("get", "PORTS", "-o", "json").stdout)
    assert [each["metadata"]["name"] for each in listed][:2] == ["blue-api", "blue-app"]
    assert document in listed


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_what_get_prints_can_be_applied(shell: Shell, output: str) -> None:
    shell("apply", "-f", ROOT / "examples" / "walkthrough")
    printed = {kind: shell("get", kind, "-o", output).stdout for kind in KINDS}
    files = [shell.file(f"{kind}.{output}", text) for kind, text in printed.items()]
    words = [word for path in files for word in ("-f", path)]
    lines = shell("apply", *words).stdout.splitlines()
    assert len(lines) == 21 and {line.rpartition(" ")[2] for line in lines} == {"unchanged"}
    one = shell("get", "port", "blue-web", "-o", output).stdout
    assert shell("diff", "-f", "-", stdin=one).output == ""
    if output == "yaml":
        everything = "".join(printed.values())
        assert everything.count("---\n") == 21
        assert shell("diff", "-f", "-", stdin=everything).output == ""


def test_get_names_and_labels(applied: Shell) -> None:
    applied("apply", "-f", "-", stdin=MINE)
    assert applied("get", "port", "-l", "app=front", "-o", "name").stdout == "port/blue/mine\n"
    assert applied("get", "port", "-l", "app=back", "-o", "json").stdout == "[]\n"
    assert applied("get", "host", "h1", "-o", "name").stdout == "host/h1\n"
    assert "there is no Host h9" in applied("get", "host", "h9", status=1).stderr
    assert "'prot' is not a kind; kinds: Tenant, LogicalNetwork" in applied("get", "prot", status=2).stderr


def test_get_of_nothing(applied: Shell) -> None:
    def error(*words: str, status: int = 0) -> str:
        result = applied("get", *words, status=status)
        assert result.stdout == ""
        return result.stderr

    assert error("ippools") == "no IPPools\n"
    assert error("provideraddress") == "no ProviderAddresses\n"
    assert error("ippools", "--tenant", "blue") == "no IPPools of tenant blue\n"
    assert error("ports", "-l", "app=x") == "no Ports with these labels\n"
    assert error("ippools", "-o", "name") == error("ippools", "-o", "yaml") == ""
    assert error("ports", "--tenant", "nope", status=1) == "there is no Tenant nope\n"
    assert error("ports", "--tenant", "nope", "-o", "json", status=1) == "there is no Tenant nope\n"


def test_get_of_a_name_within_what_is_asked_for(applied: Shell) -> None:
    for words, expected in (
        (["blue-web", "--tenant", "red"], "red/blue-web"),
        (["blue/blue-web", "--tenant", "red"], "blue/blue-web of tenant red"),
        (["blue-web", "-l", "app=x", "-o", "json"], "blue-web with these labels"),
    ):
        error = applied("get", "port", *words, status=1)
        assert (error.stdout, error.stderr) == ("", f"there is no Port {expected}\n")
    network = MINE.replace("Port", "VMNetwork").replace("mine", "Red_VMNet").partition("spec")[0]
    applied("apply", "-f", "-", stdin=network + "spec: {logicalNetwork: fabric}")
    words = ["get", "vmnetwork", "Red_VMNet", "-o", "name"]
    assert "several tenants have a VMNetwork Red_VMNet" in applied(*words, status=1).stderr
    assert applied(*words, "--tenant", "red").stdout == "vmnetwork/red/Red_VMNet\n"


def test_describe(applied: Shell) -> None:
    lines = applied("describe", "port", "blue-web").stdout.splitlines()
    assert lines[0].startswith("Port blue/blue-web: A VM's network interface.")
    assert any(
        line.startswith("provider addresses: 192.168.77.") and line.endswith("(allocated)") for line in lines
    )
    assert "host h1: no agent has been there" in lines
    store = open_store(applied.location)
    for host, state in (
        ("h1", {"revision": 0, "state": "applied", "problems": []}),
        ("h2", {"revision": 1, "state": "failed", "problems": ["u2: is down"]}),
    ):
        store.commit({f"host/{host}": json.dumps(state).encode()})
    store.close()
    lines = applied("describe", "vmsubnet", "Red_VMSubnet1").stdout.splitlines()
    assert "used by: Port red/red-web" in lines
    assert lines[-3:-1] == ["host h1: behind, at revision 0", "host h2: failed: u2: is down"]
    assert re.fullmatch(r"event \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: apply: 17 created", lines[-1])


def test_describe_tells_the_newest_events(applied: Shell) -> None:
    for number in range(12):
        applied("apply", "-f", applied.file("mine.yaml", MINE.replace("front", f"front{number}")))

    def events_of(*words: str) -> list[str]:
        lines = applied("describe", "port", "mine", *words).stdout.splitlines()
        return [line for line in lines if "event" in line]

    shown = events_of()
    assert shown[0] == "older events: 2 are left out, --events 12 prints them too"
    assert len(shown) == 11 and all(line.endswith("apply: 1 changed") for line in shown[1:])
    every = events_of("--events", "12")
    assert every[0].endswith("apply: 1 created") and every[2:] == shown[1:]
    assert events_of("--events", "1")[1:] == shown[-1:]
    assert events_of("--events", "0") == []


def test_what_holds_where_nothing_is_stated(applied: Shell) -> None:
    assert "translation: nvgre (default)" in applied("describe", "vmsubnet", "Red_VMSubnet1").stdout
    assert "translation: rewrite\n" in applied("describe", "vmsubnet", "Blue_VMSubnet1").stdout
    assert "managed: yes (default)" in applied("describe", "host", "h1").stdout
    route = """\
kind: CustomerRoute
metadata: {name: far, tenant: blue}
spec: {vmNetwork: Blue_VMNet, prefix: 10.9.0.0/16, nextHop: 10.1.1.10}
"""
    applied("apply", "-f", "-", stdin=route)
    heading, row = applied("get", "customerroutes").stdout.splitlines()
    assert heading.endswith("METRIC  VIRTUAL SUBNET ID") and row.split()[-2:] == ["0", "-"]
    lines = applied("describe", "customerroute", "far").stdout.splitlines()
    assert "metric: 0 (default)" in lines and not any("virtual subnet" in line for line in lines)


def test_explain(shell: Shell) -> None:
    assert "Host: A machine with a place in the provider network" in shell("explain").stdout
    assert "left out: one that nobody has" in shell("explain", "vmsubnet.vsid").stdout
    assert "fields there: vmSubnet" in shell("explain", "port.x", status=2).stderr
    assert json.loads(shell("explain", "port", "-o", "json").stdout)["properties"]["kind"] == {
        "const": "Port"
    }


def test_the_manifest_reference_is_up_to_date(shell: Shell) -> None:
    assert shell("explain", "-o", "markdown").stdout == (ROOT / "docs" / "manifests.md").read_text()


# ---- node ----------------------------------------------------------------------------------------


class FakeClient:
    """A data plane with one Provider Address, on a network of one more."""

    def __init__(self, instance: str, patience: float) -> None:
        assert instance == "h1" and patience > 0

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return {"providerAddresses": ["fd77::1"], "tables": {"routes": 1, "next_hops": 2}, "agent": None}

    def ping_pa(self, address: str, seconds: float) -> dict[str, Any]:
        if address != "fd77::2":
            raise ClientError(f"ping_pa: {address} does not answer", "refused")
        return {"address": address, "mac": "02:00:00:00:77:02", "seconds": seconds}


def test_node(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "Client", FakeClient)
    status = json.loads(shell("node", "status", "--instance", "h1", "-o", "json").stdout)
    assert status["tables"] == {"routes": 1, "nextHops": 2}

    def ping(address: str, status: int = 0) -> Result:
        return shell("node", "ping-pa", address, "--instance", "h1", status=status)

    assert ping("fd77:0::2").stdout == "fd77::2 is at 02:00:00:00:77:02\n"
    assert ping("fd77::3", 1).stderr == "Error: ping-pa: fd77::3 does not answer\n"
    assert ping("fd77::1", 1).stderr == "Error: ping-pa: fd77::1 is this host's own\n"
    assert "'fd77' is not an IP address" in ping("fd77", 2).stderr


# ---- the documents -------------------------------------------------------------------------------


def test_operations(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of its console blocks, in order, and what it says that they print."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "operations.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        for step in re.split(r"^# ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = step.partition("\n")
            assert command.startswith("isolane ")
            result = CliRunner().invoke(main, shlex.split(command)[1:], env={"ISOLANE_STORE": shell.location})
            parts = (r"\s+".join(map(re.escape, part.split())) for part in printed.split("…"))
            expected = ".*".join(parts)
            assert re.fullmatch(expected, result.output.strip(), re.DOTALL), (command, result.output)


def test_documents_speak_of_what_there_is() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    reasons = set(
        re.findall(r'^DROP\(\w+, "([^"]+)"', (ROOT / "csrc" / "base" / "drop.def").read_text(), re.MULTILINE)
    )
    table = text.partition("| drop | means")[2].partition("\n\n")[0]
    named = {
        reason
        for row in table.splitlines()
        for reason in re.findall(r"`([^`]+)`", row.split("|")[1:2][0] if row else "")
    }
    assert len(named) > 20 and named <= reasons
    said = "".join(source.read_text() for source in (ROOT / "policy").glob("*.py"))
    logged = set(re.findall(r'log\.\w+\(\s*"([^"]+)"', said))
    table = text.partition("| event | further")[2].partition("\n\n")[0]
    assert logged == set(
        re.findall(r"`([^`]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    )
    shown = "".join(re.findall(r"```\w+\n(.*?)```", text, re.DOTALL))
    commands = set(re.findall(r"^(?:# )?isolane (\w+)(?: ([a-z-]+))?", shown, re.MULTILINE))
    assert {verb for verb, _ in commands} <= COMMANDS.keys()
    node = main.get_command(None, "node")  # type: ignore[arg-type]
    assert {query for verb, query in commands if verb == "node"} <= node.commands.keys()  # type: ignore[union-attr]
    for document in ("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").iterdir())):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
            assert (ROOT / document).parent.joinpath(link).exists(), (document, link)


# ---- all commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_every_help_has_an_example(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    assert f"isolane {verb}" in result.output.partition("Example")[2]


def test_a_store_that_is_none(shell: Shell) -> None:
    Path(shell.location).write_text("no database, but long enough to look like a file of one" * 20)
    assert shell("get", "ports", status=1).stderr == f"{shell.location}: file is not a database\n"


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
    monkeypatch.setattr(server, "RUN_DIRECTORY", tmp_path)
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
