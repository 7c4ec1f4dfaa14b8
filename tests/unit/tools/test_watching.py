"""`get -w` and `events -w`: in a process of its own, which Ctrl-C ends well."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from selectors import EVENT_READ, DefaultSelector

from policy.store.locations import open_store
from tests.native import BIN
from tests.unit.tools.shell import MINE, Shell

PATIENCE = 20.0


class Watcher:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.process = process
        self._fd = process.stdout.fileno()
        self._left = b""

    def line(self) -> str:
        """The next one."""
        with DefaultSelector() as selector:
            selector.register(self._fd, EVENT_READ)
            while b"\n" not in self._left:
                assert selector.select(PATIENCE), f"nothing more than {self._left!r}"
                data = os.read(self._fd, 65536)
                assert data, "it has ended"
                self._left += data
        line, _, self._left = self._left.partition(b"\n")
        return line.decode().rstrip()


@contextmanager
def watching(shell: Shell, *words: str) -> Iterator[Watcher]:
    environment = {**os.environ, "ISOLANE_STORE": shell.location, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([BIN / "isolane", *words], stdout=subprocess.PIPE, env=environment)
    try:
        yield Watcher(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_what_changes_is_printed(applied: Shell) -> None:
    applied("apply", "-", stdin=MINE)
    with watching(applied, "get", "ports", "-l", "app", "-w") as watcher:
        assert watcher.line().split()[-2:] == ["STATE", "AGE"]
        assert watcher.line().split()[:2] == ["blue", "mine"]
        applied("apply", "-", stdin=MINE.replace("mine", "more"))
        assert watcher.line().split()[:4] == ["blue", "more", "Blue_VMSubnet1", "h1"]
        applied("apply", "-", stdin=MINE.replace("h1", "h2"))
        assert watcher.line().split()[3] == "h2"
        store = open_store(applied.location)
        store.commit({"host/h2": json.dumps({"revision": 99, "state": "applied", "problems": []}).encode()})
        store.close()
        line = watcher.line().split()
        assert (line[1], line[-2]) == ("mine", "applied")
        applied("label", "port/blue/more", "app-")
        line = watcher.line().split()
        assert (line[1], line[-2]) == ("more", "deleted")
        applied("delete", "port/blue/mine")
        assert watcher.line().split()[-2] == "deleted"


def test_a_link_that_changes_is_printed(applied: Shell) -> None:
    said = json.dumps({"revision": 99, "state": "applied", "problems": []}).encode()
    with watching(applied, "get", "port/blue/blue-web", "-o", "jsonpath={.status.link}", "-w") as watcher:
        store = open_store(applied.location)
        watcher.line()
        store.commit({"host/h1": said, "links/h1": b'{"links": {}}'})
        assert watcher.line() == "up"
        store.commit({"links/h1": b'{"links": {"blue/blue-web": "down"}}'})
        assert watcher.line() == "down"
        store.close()


def test_documents_one_after_the_other(applied: Shell) -> None:
    with watching(applied, "get", "host/h1", "-o", "jsonpath={.spec.underlay.mtu}", "-w") as watcher:
        assert watcher.line() == "1600"
        text = applied("get", "host/h1", "-o", "yaml").stdout
        applied("apply", "-", stdin=text.replace("mtu: 1600", "mtu: 1590"))
        assert watcher.line() == "1590"


def test_events_as_they_happen(applied: Shell) -> None:
    applied("apply", "-", stdin=MINE)
    with watching(applied, "events", "-w", "port/blue/mine") as watcher:
        assert watcher.line().split()[0] == "AGE"
        assert "1 created" in watcher.line()
        applied("label", "host/h1", "a=b")
        applied("delete", "port/blue/mine")
        assert watcher.line().split()[-2:] == ["Port", "blue/mine"]
