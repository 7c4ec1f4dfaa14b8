"""What an agent hears of the store, whatever becomes of its file."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from policy.agent.environment import Options
from policy.agent.sources import AgentEvent, QueuedInbox, Resync, StoreState, inform
from policy.agent.start import run
from policy.store.contract import PAGE, Batch, Change, Store
from policy.store.locations import followed_path, open_store

PATIENCE = 20.0
PUT_BACK = [
    'rm "$0" "$0-wal" "$0-shm"; sleep 0.1; cp "$1" "$0.new" && mv "$0.new" "$0"',
    'sqlite3 "$0" ".restore $1"',
]
"""The two ways of docs/operations.md."""


class Follower:
    def __init__(self, path: Path) -> None:
        self._inbox = QueuedInbox()
        self._heard: list[AgentEvent] = []
        arguments = (lambda: open_store(str(path), create=False), self._inbox)
        threading.Thread(target=inform, args=arguments, daemon=True).start()

    def hears(self, kind: type[AgentEvent]) -> AgentEvent:
        while True:
            heard = self.next()
            if isinstance(heard, kind):
                return heard

    def next(self) -> AgentEvent:
        self._heard = self._heard or self._inbox.wait(PATIENCE)
        assert self._heard, "nothing is heard"
        return self._heard.pop(0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.mark.parametrize("command", PUT_BACK)
def test_a_store_that_is_put_back_is_read_again(path: Path, command: str) -> None:
    store = open_store(str(path))
    store.commit({"intent/Host/h1": b"1"})
    backup = path.with_name("backup.db")
    subprocess.run(["sqlite3", path, f".backup {backup}"], check=True)
    store.commit({"intent/Host/h2": b"2"})
    follower = Follower(path)
    first = follower.hears(Resync)
    assert isinstance(first, Resync) and first.revision == 2
    follower.hears(StoreState)
    subprocess.run(["sh", "-ec", command, path, backup], check=True)
    again = follower.hears(Resync)
    assert isinstance(again, Resync)
    assert again.items == {"intent/Host/h1": b"1"} and again.revision > first.revision
    follower.hears(StoreState)
    store.commit({"intent/Host/h3": b"3"})
    heard = follower.hears(Batch)
    assert isinstance(heard, Batch) and heard.revision == again.revision + 1
    store.close()


def test_a_store_that_was_out_of_reach_is_followed_from_where_it_was_left(path: Path) -> None:
    store = open_store(str(path))
    store.commit({"intent/Host/h1": b"1"})
    follower = Follower(path)
    follower.hears(Resync)
    follower.hears(StoreState)
    path.rename(path.with_name("away.db"))
    gone = follower.hears(StoreState)
    assert gone == StoreState(f"{path}: no store is there")
    path.with_name("away.db").rename(path)
    store.commit({"intent/Host/h2": b"2"})
    heard = [follower.next()]
    while not isinstance(heard[-1], Batch):
        heard.append(follower.next())
    assert heard[-1] == Batch(2, (Change("intent/Host/h2", b"2"),))
    assert {type(each) for each in heard[:-1]} == {StoreState}, "nothing was read again"
    store.close()


def test_a_large_commit_is_heard_whole(path: Path) -> None:
    store = open_store(str(path))
    store.commit({"intent/Host/h0": b""})
    follower = Follower(path)
    follower.hears(StoreState)
    keys = sorted(f"intent/Port/blue/p{number}" for number in range(2 * PAGE + 1))
    store.commit({**dict.fromkeys(keys, b"x"), "grant/mac/1": b""})
    assert follower.hears(Batch) == Batch(2, tuple(Change(key, b"x") for key in keys))
    store.close()


def test_a_store_that_is_not_there_or_empty_says_nothing(path: Path) -> None:
    follower = Follower(path)
    assert follower.next() == StoreState(f"{path}: no store is there")
    store = open_store(str(path))
    assert follower.next() == StoreState("nothing was ever written to it")
    store.commit({"intent/Host/h1": b"1"})
    first = follower.next()
    assert isinstance(first, Resync) and first.revision == 1
    store.close()


def test_an_agent_that_hears_nothing_more_ends() -> None:
    options = Options("h1", f"none-{os.getpid()}", location="/nowhere/\udcff.db")
    told = []

    def open_it() -> Store:
        told.append(followed_path(options.instance).read_bytes())
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError, match="a mistake of ours"):
        run(open_it, options, {signal.SIGUSR2}, lambda: None)
    assert told[0] == b"/nowhere/\xff.db", "no name of a file is wrong"
