"""What a process can still do once it is nobody, as the data plane is: tried by a process that is."""

import ctypes
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dataplane import locks, netns, privileges, server
from tests.native import BIN

_PTRACE_ATTACH = 16


def attach(pid: int) -> None:
    """ptrace(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(_PTRACE_ATTACH, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def as_nobody(directory: Path, attempts: dict[str, Callable[[], object]]) -> dict[str, str]:
    """What becomes of each in a process that has given up what the data plane does: "done", or the error."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        found = {}
        try:
            privileges.bound(directory)
            privileges.drop()
            for name, attempt in attempts.items():
                try:
                    attempt()
                    found[name] = "done"
                except OSError as error:
                    found[name] = type(error).__name__
            os.write(write, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        found = json.load(file)
    os.waitpid(pid, 0)
    return dict(found)


@pytest.fixture
def agent() -> "subprocess.Popen[bytes]":
    """Stands for it: another process, of root."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


@pytest.fixture
def anybodys() -> Iterator[Path]:
    """A directory where all may do everything."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


def test_it_can_touch_nothing_of_the_host(anybodys: Path, agent: "subprocess.Popen[bytes]") -> None:
    store, own = anybodys / "store", anybodys / "own"
    for directory in (store, own):
        directory.mkdir(mode=0o700)
    open_to_all = anybodys / "open"
    for path in (store / "store.db", open_to_all):
        path.write_text("x")
    open_to_all.chmod(0o666)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(own / "dataplane.sock"))
        os.chown(own, *privileges.account())
        os.chown(own / "dataplane.sock", *privileges.account())
        undo_log = locks.agent_directory("nobody")
        undo_log.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            found = as_nobody(
                own,
                {
                    "read the store": (store / "store.db").read_bytes,
                    "write the store": lambda: (store / "store.db").write_text("y"),
                    "read the passwords": Path("/etc/shadow").read_bytes,
                    "read the undo log": lambda: list(undo_log.iterdir()),
                    "write the undo log": lambda: (undo_log / "devices").write_text("y"),
                    "write what is open to all": lambda: open_to_all.write_text("y"),
                    "truncate what is open to all": lambda: os.truncate(open_to_all, 0),
                    "make a file where all may": lambda: (anybodys / "new").touch(),
                    "make a link where all may": lambda: (anybodys / "link").symlink_to("/etc/shadow"),
                    "remove where all may": open_to_all.unlink,
                    "make a file beside the socket": lambda: (own / "devices").touch(),
                    "execute": lambda: os.execv("/bin/true", ["true"]),
                    "signal the agent": lambda: os.kill(agent.pid, signal.SIGTERM),
                    "trace the agent": lambda: attach(agent.pid),
                    "read the agent's memory": lambda: os.open(f"/proc/{agent.pid}/mem", os.O_RDONLY),
                    "be root again": lambda: os.setresuid(0, 0, 0),
                    "enter a namespace": lambda: netns.call("nobody", lambda: None),
                    "send raw frames": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
                    "remove its socket": (own / "dataplane.sock").unlink,
                },
            )
        finally:
            undo_log.rmdir()
            agent.communicate(b"\n")
    assert {name for name, result in found.items() if result == "done"} == {"remove its socket"}
    assert open_to_all.read_text() == "x" and agent.returncode == 0


@pytest.mark.parametrize(
    ("version", "denied", "length"),
    [(1, 0x1FF3, 8), (2, 0x3FF3, 8), (3, 0x7FF3, 8), (5, 0x7FF3, 8), (6, 0x7FF3, 24), (7, 0x7FF3, 24)],
)
def test_what_is_denied_is_what_a_kernel_knows(version: int, denied: int, length: int) -> None:
    """linux/landlock.h; a bit more is EINVAL. Bits 2 and 3 are to read."""
    ruleset = privileges._ruleset(version)
    assert int.from_bytes(ruleset[:8], sys.byteorder) == denied
    assert len(ruleset) == length


def test_without_a_user_it_has_ids_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_name: str) -> None:
        raise KeyError

    monkeypatch.setattr(privileges.pwd, "getpwnam", nobody)
    first = privileges.account()
    assert first == privileges.account() and first.uid == first.gid and 61184 <= first.uid <= 65519
    taken = [*pwd.getpwall(), pwd.struct_passwd(("x", "x", first.uid, 1, "", "/", ""))]
    monkeypatch.setattr(privileges.pwd, "getpwall", lambda: taken)
    assert privileges.account().uid not in (0, first.uid)


def test_who_may_not_become_another_is_told() -> None:
    """A root that lacks what that takes."""
    instance = f"told-{os.getpid()}"
    command = ["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid", str(BIN / "isolane"), "dataplane"]
    command += ["--instance", instance]
    with server.directory_removed(instance):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: giving up what root may do: Operation not permitted: it becomes ")
