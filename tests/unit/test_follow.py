"""What an agent hears of the store, whatever becomes of its file."""

import os
import queue
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from policy import agent
from policy.happenings import Happening, Stored, StoreState, follow
from policy.store import Batch, Store, open_store

PATIENCE = 20.0
PUT_BACK = [
    'rm "$0" "$0-wal" "$0-shm"; sleep 0.1; cp "$1" "$0.new" && mv "$0.new" "$0"',
    'sqlite3 "$0" ".restore $1"',
]
"""The two ways of docs/operations.md."""


class Follower:
    def __init__(self, path: Path) -> None:
        self.happenings: queue.Queue[Happening] = queue.Queue(256)
        arguments = (lambda: open_store(str(path), create=False), self.happenings)
        threading.Thread(target=follow, args=arguments, daemon=True).start()

    def hears(self, kind: type[Happening]) -> Happening:
        while True:
            heard = self.happenings.get(timeout=PATIENCE)
            if isinstance(heard, kind):
                return heard


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
    first = follower.hears(Stored)
    assert isinstance(first, Stored) and first.revision == 2
    follower.hears(StoreState)
    subprocess.run(["sh", "-ec", command, path, backup], check=True)
    again = follower.hears(Stored)
    assert isinstance(again, Stored)
    assert (again.revision, again.items) == (1, {"intent/Host/h1": b"1"})
    follower.hears(StoreState)
    store.commit({"intent/Host/h3": b"3"})
    heard = follower.hears(Batch)
    assert isinstance(heard, Batch) and heard.revision == 2
    store.close()


def test_a_store_that_is_not_there_or_empty_says_nothing(path: Path) -> None:
    follower = Follower(path)
    assert follower.happenings.get(timeout=PATIENCE) == StoreState(f"{path}: no store is there")
    store = open_store(str(path))
    assert follower.happenings.get(timeout=PATIENCE) == StoreState("nothing was ever written to it")
    store.commit({"intent/Host/h1": b"1"})
    first = follower.happenings.get(timeout=PATIENCE)
    assert isinstance(first, Stored) and first.revision == 1
    store.close()


def test_an_agent_that_hears_nothing_more_ends() -> None:
    def open_it() -> Store:
        raise KeyError("a mistake of ours")

    options = agent.Options("h1", f"none-{os.getpid()}")
    with pytest.raises(KeyError, match="a mistake of ours"):
        agent.run(open_it, options, {signal.SIGUSR2}, lambda: None)
