"""`delete`."""

from typing import Any

import pytest

from policy.errors import ObjectId, UnavailableError
from policy.kinds import keys
from policy.store.contract import Limits
from policy.store.locations import open_store
from policy.store.reading import snapshot_of
from policy.store.sqlite import SqliteStore
from tests.native import ROOT
from tests.unit.manifests import EXAMPLE
from tests.unit.tools.shell import MINE, Shell


def test_delete(applied: Shell) -> None:
    refused = applied("delete", "vmsubnet", "Blue_VMSubnet2", status=1)
    assert "still referred to by Port blue/blue-cache: spec.vmSubnet" in refused.stderr
    assert applied("delete", "ports", "blue-cache", "blue/blue-db").stdout.splitlines() == [
        "port/blue/blue-db deleted",
        "port/blue/blue-cache deleted",
    ]
    applied("delete", "VMSUBNET", "blue/Blue_VMSubnet2")
    assert "there is no Port blue-cache" in applied("delete", "port", "blue-cache", status=1).stderr
    lines = applied("delete", "vmnetwork", "Red_VMNet", "--cascade").stdout.splitlines()
    assert lines[-1] == "vmnetwork/red/Red_VMNet deleted" and len(lines) == 5


def test_delete_a_tenant(shell: Shell) -> None:
    shell("apply", "-f", ROOT / "examples" / "walkthrough")
    refused = shell("delete", "tenant", "red", status=1)
    assert "Tenant red is still referred to by Port red/red-web: metadata.tenant" in refused.stderr
    assert "used by: Port red/red-web" in shell("describe", "tenant", "red").stdout.splitlines()
    lines = shell("delete", "tenant", "red", "--cascade").stdout.splitlines()
    assert len(lines) == 6 and lines[-1] == "tenant/red deleted"
    assert shell("get", "ports", "--tenant", "red", status=1).stderr == "error: there is no Tenant red\n"


def test_delete_dry(applied: Shell) -> None:
    lines = applied("delete", "vmnetwork", "Red_VMNet", "--cascade", "--dry-run").stdout.splitlines()
    assert lines[-1] == "vmnetwork/red/Red_VMNet deleted (dry run)" and len(lines) == 5
    assert len(applied("delete", "-f", EXAMPLE, "--dry-run").stdout.splitlines()) == 17
    refused = applied("delete", "vmnetwork", "Red_VMNet", "--dry-run", status=1)
    assert "still referred to by" in refused.stderr
    again = applied("apply", "-f", EXAMPLE).stdout.splitlines()
    assert {line.rpartition(" ")[2] for line in again} == {"unchanged"}


def test_delete_what_may_not_be_there(applied: Shell) -> None:
    words = ["delete", "port", "none", "blue/none", "red-api", "--ignore-not-found"]
    assert applied(*words).stdout == "port/red/red-api deleted\n"
    assert applied(*words).output == ""
    several = applied.file("several.yaml", MINE + "---\n" + MINE.replace("mine", "two"))
    applied("apply", "-f", "-", stdin=MINE)
    assert "there is no Port blue/two" in applied("delete", "-f", several, status=1).stderr
    assert applied("delete", "-f", several, "--ignore-not-found").stdout == "port/blue/mine deleted\n"
    applied("apply", "-f", EXAMPLE)
    left = applied("delete", "-f", EXAMPLE, "-f", several, "--ignore-not-found")
    assert len(left.stdout.splitlines()) == 17


def test_delete_what_a_file_states(applied: Shell) -> None:
    assert len(applied("delete", "-f", EXAMPLE).stdout.splitlines()) == 17
    for kind in ("ports", "hosts", "logicalnetworks"):
        assert applied("get", kind).stdout == ""


def test_delete_of_files_that_are_not_right(applied: Shell) -> None:
    wrong = applied.file("wrong.yaml", EXAMPLE.read_text().replace("kind: Port", "kind: Prot", 1))
    assert "'Prot' is not a kind" in applied("delete", "-f", wrong, status=1).stderr
    assert len(applied("get", "hosts", "-o", "name").stdout.splitlines()) == 2


@pytest.mark.parametrize(
    "words", [[], ["port"], ["port", "x", "-f", str(EXAMPLE)], ["prot", "x"], [","], ["port", ""]]
)
def test_delete_of_what(shell: Shell, words: list[str]) -> None:
    shell("delete", *words, status=2)


def test_a_delete_that_was_interrupted_is_repeated(applied: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, left = SqliteStore.commit, [1]

    def once(store: SqliteStore, *arguments: Any, **options: Any) -> int:
        if not left:
            raise UnavailableError("the machine stopped")
        left.pop()
        return commit(store, *arguments, **options)

    names = applied("get", "ports", "-o", "name").stdout.split()
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "limits", lambda _: Limits(ops=60, size=20_000, value=10_000))
        patch.setattr(SqliteStore, "commit", once)
        applied("delete", *names, status=1)
    assert 0 < len(applied("get", "ports", "-o", "name").stdout.split()) < len(names)
    refused = applied("delete", *names, "port/blue/none", status=1)
    assert refused.stderr == "error: there is no Port blue/none\n"
    applied("delete", *names)
    assert applied("get", "ports", "-o", "name").stdout == ""
    assert "there is no Port" in applied("delete", *names, status=1).stderr


def test_what_can_not_be_read_can_be_deleted(applied: Shell) -> None:
    store = open_store(applied.location)
    odd = keys.object_key(ObjectId("Port", "blue", "blue-web"))
    store.commit({odd: b'{"spec": {}, "version": 99}'})
    refused = applied("delete", "port", "blue-web", status=1)
    assert "storage version 99" in refused.stderr
    assert "hint: --force deletes what can't be read and is named" in refused.stderr
    dry = applied("delete", "port", "blue-web", "--force", "--dry-run").stdout
    assert dry == "port/blue/blue-web deleted (dry run)\n"
    assert applied("delete", "port", "blue-web", "--force").stdout == "port/blue/blue-web deleted\n"
    left = snapshot_of(store)
    assert odd not in left.items
    index = (key for key in left.items if key.startswith(keys.INDEX) and "/blue-web" in key)
    assert {key.split("/")[1] for key in index} == {"quarantine"}, "what it had is held down"
    applied("apply", "-f", EXAMPLE)
    subnet = keys.object_key(ObjectId("VMSubnet", "blue", "Blue_VMSubnet2"))
    store.commit({subnet: b"{"})
    needed = applied("delete", "vmsubnet/Blue_VMSubnet2", "--force", status=1)
    assert "VMSubnet blue/Blue_VMSubnet2 is still referred to by Port blue/blue-db: spec.vm" in needed.stderr
    assert needed.stderr.endswith("hint: name these too\n")
    applied("delete", "vmsubnet/Blue_VMSubnet2", "--force", "--cascade", status=2)
    together = ("vmsubnet/Blue_VMSubnet2", "port/blue-db", "port/blue-cache", "--force")
    assert len(applied("delete", *together).stdout.splitlines()) == 3
    again = applied("apply", "-f", EXAMPLE).stdout
    assert again.count("created") == 3 and again.count("unchanged") == 14
    store.close()
