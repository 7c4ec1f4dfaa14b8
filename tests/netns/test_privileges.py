"""What a process can still do once it is nobody, as the data plane is: tried by a process that is."""

import ctypes
import errno
import fcntl
import json
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dataplane.host import locks, netns
from dataplane.process import instances, privileges, seccomp
from tests.native import BIN

_PTRACE_ATTACH = 16


def attach(pid: int) -> None:
    """ptrace(2)."""
    call(101, _PTRACE_ATTACH, pid, 0, 0)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(number: int, *arguments: int | bytes | None) -> int:
    """A system call by its number on x86-64."""
    whole = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    result = int(_libc.syscall(ctypes.c_long(number), *whole))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def forked(number: int, *arguments: int) -> None:
    """fork(2) and its like, called past libc."""
    if call(number, *arguments) == 0:
        os._exit(0)


def as_nobody(
    directory: Path, attempts: Mapping[str, Callable[[], object]], restricted: bool = True
) -> dict[str, str]:
    """What becomes of each in a process that has given up what the data plane does: "done", or the error.
    restricted: system calls, too.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        found = {}
        try:
            privileges.bound(directory)
            privileges.drop()
            if restricted:
                seccomp.restrict()
            for name, attempt in attempts.items():
                try:
                    attempt()
                    found[name] = "done"
                except OSError as error:
                    found[name] = errno.errorcode.get(error.errno or 0, type(error).__name__)
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


def forbidden(
    packets: socket.socket, unix: socket.socket, directory: Path
) -> dict[str, Callable[[], object]]:
    """What no one needs to ask of the kernel to forward packets."""
    other = os.getppid()
    lock = os.open(directory, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    elsewhere = struct.pack("=HHiHBB8s", socket.AF_PACKET, 0x88B5, 1, 0, 0, 6, bytes(8))  # the loopback
    return {
        "open a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "list a directory": lambda: list(Path("/").iterdir()),
        "unlock": lambda: fcntl.flock(lock, fcntl.LOCK_UN),
        "lock by range": lambda: fcntl.fcntl(unix, 6, bytes(32)),
        "be told by signals": lambda: fcntl.fcntl(unix, 8, other),
        "bind a packet socket": lambda: packets.bind(("lo", 3)),
        "connect": lambda: unix.connect(b"\0isolane-nobody-listens"),
        "send elsewhere": lambda: call(44, packets.fileno(), bytes(64), 64, 0, elsewhere, len(elsewhere)),
        "change a socket": lambda: packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),
        "make a Unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "make an IP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "make a pair": lambda: [each.close() for each in socket.socketpair()],
        "fork": lambda: forked(57),
        "clone a process": lambda: forked(56, signal.SIGCHLD, 0, 0, 0, 0),
        "clone a namespace": lambda: forked(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
        "execute": lambda: call(59, b"/nowhere", None, None),
        "execute a descriptor": lambda: call(322, -1, b"", None, None, 0x1000),
        "bound another's resources": lambda: call(302, other, 7, None, bytes(16)),
        "its own, too": lambda: call(302, 0, 7, struct.pack("=QQ", 9, 9), None),
        "trace": lambda: attach(other),
        "read another's memory": lambda: call(310, other, None, 0, None, 0, 0),
        "signal another": lambda: os.kill(other, 0),
        "signal its thread": lambda: call(234, other, other, 0),
        "signal by descriptor": lambda: call(424, -1, 0, None, 0),
        "mount": lambda: call(165, b"none", b"/mnt", b"tmpfs", 0, None),
        "mount anew": lambda: call(430, b"tmpfs", 0),
        "bpf": lambda: call(321, 0, bytes(128), 128),
        "keys": lambda: call(250, 0, -1, 0),
        "add a key": lambda: call(248, b"user", b"isolane", b"x", 1, -3),
        "enter a namespace": lambda: call(308, -1, 0),
        "unshare": lambda: call(272, 0),
        "count events": lambda: call(298, None, 0, -1, -1, 0),
        "io_uring": lambda: call(425, 1, bytes(120)),
        "fault by hand": lambda: call(323, 0),
        "load a module": lambda: call(313, -1, b"", 0),
        "personality": lambda: call(135, 0x0040000),
        "be dumpable": lambda: call(157, 4, 1, 0, 0, 0),
        "memory to execute": lambda: call(9, 0, 4096, 7, 0x22, -1, 0),
        "code of another architecture": lambda: call(17 | 1 << 9, 0),
        "a root of its own": lambda: call(161, b"/tmp"),
        "another's descriptor": lambda: call(438, -1, 0, 0),
        "a terminal's input": lambda: fcntl.ioctl(unix, 0x5412, b"x"),
        "give a TAP to another": lambda: fcntl.ioctl(unix, 0x400454CC, 0),
    }


POSSIBLE = {
    *(
        "open a file",
        "list a directory",
        "unlock",
        "lock by range",
        "make a Unix socket",
        "make an IP socket",
    ),
    *("make a pair", "fork", "clone a process", "its own, too", "bind a packet socket", "send elsewhere"),
    *("change a socket", "unshare", "personality", "be dumpable", "memory to execute", "add a key"),
}
"""By a process without these bounds that is nobody already."""


def test_system_calls_that_it_never_needs(make_namespace: Callable[[str], str], anybodys: Path) -> None:
    def tried(restricted: bool) -> dict[str, str]:
        with (
            netns.call(
                make_namespace(f"calls{restricted}"), socket.socket, 17, socket.SOCK_RAW, 0
            ) as packets,
            socket.socket(socket.AF_UNIX) as unix,
        ):
            packets.bind(("lo", 0))
            return as_nobody(anybodys, forbidden(packets, unix, anybodys), restricted)

    before, after = tried(False), tried(True)
    assert {name for name, result in before.items() if result == "done"} >= POSSIBLE
    assert after == dict.fromkeys(after, "EPERM")


def test_threads_that_were_there_before_are_bound_too(anybodys: Path) -> None:
    """And later ones can be made."""
    found: list[str] = []
    go = threading.Event()

    def make_socket() -> None:
        go.wait(10)
        try:
            socket.socket(socket.AF_UNIX).close()
            found.append("done")
        except PermissionError:
            found.append("refused")

    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        threads = [threading.Thread(target=make_socket)]
        threads[0].start()
        privileges.bound(anybodys)
        privileges.drop()
        seccomp.restrict()
        threads.append(threading.Thread(target=make_socket))
        threads[1].start()
        go.set()
        for thread in threads:
            thread.join()
        os.write(write, json.dumps(found).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        assert json.load(file) == ["refused", "refused"]
    os.waitpid(pid, 0)


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
    with instances.directory_removed(instance):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: giving up what root may do: Operation not permitted: it becomes ")
