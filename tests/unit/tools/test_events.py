"""`events`, `history`, `rollback`, `label`, `wait`."""

import json

import pytest

from policy.service import events, host_state
from policy.service.events import Event
from policy.store.locations import open_store
from tests.unit.tools.shell import MINE, Shell


def tell(shell: Shell, host: str, **state: object) -> None:
    """As the host's agent does."""
    said = {"state": host_state.APPLIED, "problems": [], **state}
    key, value = events.item(Event(1.0, f"host {host}", "applied revision 1", {}, (f"Host {host}",)))
    store = open_store(shell.location)
    store.commit({f"host/{host}": json.dumps(said).encode(), key: value})
    store.close()


def rows(shell: Shell, *words: object) -> list[list[str]]:
    return [line.split() for line in shell(*words, "--no-headers").stdout.splitlines()]


# ---- events and history --------------------------------------------------------------------------


def test_events(applied: Shell) -> None:
    tell(applied, "h1", revision=1)
    applied("apply", "-", stdin=MINE)
    applied("delete", "port/blue/mine")
    lines = applied("events").stdout.splitlines()
    assert lines[0].split() == ["AGE", "SOURCE", "WHAT", "OBJECTS"]
    assert max(map(len, lines)) <= 100
    assert [line.split()[1] for line in lines[1:]] == ["host", "apply", "apply", "delete"]
    assert "17 created" in lines[2] and "+16" in lines[2]
    mine = applied("events", "port/blue/mine").stdout.splitlines()
    assert len(mine) == 3 and "1 created" in mine[1] and "1 deleted" in mine[2]
    assert len(rows(applied, "events", "hosts")) == 2
    assert len(rows(applied, "events", "-t", "red")) == 1
    assert len(rows(applied, "events", "-n", "2")) == 2
    listed = json.loads(applied("events", "host/h1", "-o", "json").stdout)
    assert [each["source"] for each in listed] == ["host h1", "apply"]
    assert "there is no Port mine" in applied("events", "port", "mine", status=1).stderr


def test_history_and_the_way_back(applied: Shell) -> None:
    applied("apply", "-", stdin=MINE)
    tell(applied, "h1", revision=1)
    applied("label", "port/blue/mine", "app=back")
    applied("delete", "port/red/red-api")
    told = rows(applied, "history")
    assert [row[2] for row in told] == ["apply", "apply", "label", "delete"]
    assert [row[0] for row in told] == ["1", "2", "4", "5"]
    assert [row[0] for row in rows(applied, "history", "port/blue/mine")] == ["2", "4"]
    dry = applied("rollback", "--to-revision", "2", "--dry-run").stdout.splitlines()
    assert dry == ["port/blue/mine changed (dry run)", "port/red/red-api created (dry run)"]
    applied("rollback", "--to-revision", "2")
    labels = applied("get", "port/blue/mine", "-o", "jsonpath={.metadata.labels.app}").stdout
    assert labels == "front\n" and applied("get", "port/red-api", "-o", "name").stdout
    applied("rollback", "--to-revision", "1")
    assert "there is no Port mine" in applied("get", "port", "mine", status=1).stderr
    again = applied("rollback", "--to-revision", "1")
    assert (again.stdout, again.stderr) == ("", "nothing has changed since\n")
    error = applied("rollback", "--to-revision", "99", status=1).stderr
    assert error.startswith("error: can't go back to revision 99")
    assert [row[2] for row in rows(applied, "history")][-2:] == ["rollback", "rollback"]


# ---- label ---------------------------------------------------------------------------------------


def test_label(applied: Shell) -> None:
    applied("apply", "-", stdin=MINE)
    assert applied("label", "port/blue/mine", "tier=db", "app-").stdout == "port/blue/mine changed\n"
    assert applied("label", "port/blue/mine", "tier=db").stdout == "port/blue/mine unchanged\n"
    assert applied("get", "ports", "-l", "tier=db,!app", "-o", "name").stdout == "port/blue/mine\n"
    both = applied("label", "ports", "blue-web", "blue-api", "tier=web", "--dry-run").stdout
    assert both == "port/blue/blue-api changed (dry run)\nport/blue/blue-web changed (dry run)\n"
    assert applied("get", "ports", "-l", "tier=web", "-o", "name").stdout == ""


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["port/blue/blue-web"], "no label is given"),
        (["a=b"], "no object is named"),
        (["ports", "a=b"], "no name is given"),
        (["port/blue/blue-web", "a=b c"], "is not a label"),
        (["port/blue/blue-web", "=b"], "is not a label's key"),
        (["port/blue/blue-web", "a=b", "a-"], "both set and removed: a"),
    ],
)
def test_what_labels_nothing(applied: Shell, words: list[str], error: str) -> None:
    assert error in applied("label", *words, status=2).stderr


# ---- wait ----------------------------------------------------------------------------------------


def test_wait_for_applied(applied: Shell) -> None:
    late = applied("wait", "port/red/red-web", "--for=applied", "--timeout", "0", status=1).stderr
    assert late.startswith("error: not applied after 0 s by: ")
    for host in ("h1", "h2"):
        tell(applied, host, revision=1)
    assert applied("wait", "port/red/red-web", "host/h1", "--for=applied").output == ""
    tell(applied, "h1", revision=1, state=host_state.FAILED, problems=["u1: is down"])
    failed = applied("wait", "host/h1", "--for=applied", "--timeout", "0", status=1).stderr
    assert failed == "error: host h1: u1: is down\n"


def test_wait_for_deleted(applied: Shell) -> None:
    assert applied("wait", "port/none", "--for=deleted").output == ""
    late = applied("wait", "port/red-web", "--for", "deleted", "--timeout", "0s", status=1).stderr
    assert "still there after 0 s: Port red/red-web" in late
    applied("wait", "port/red-web", status=2)
