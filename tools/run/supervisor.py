"""Processes of isolane that one command keeps running."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tools.run.processes import readable, stop_signals
from tools.run.relay import Relay, say

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
_LATE_SECONDS = 1.0
_MESSAGES = 256
"""That are read before anything else is looked at."""
_HARMLESS = frozenset(("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ"))
"""What of our environment a process that is not trusted has."""
FIRST_DELAY, LAST_DELAY = 0.05, 5.0
"""Seconds until a process that died is started again; twice as long each time, unless it has lived longer."""


class StoppedError(Exception):
    """A signal asks for it."""


class ChildError(Exception):
    """A process can't do its work; it has said why, or the text does."""


@dataclass
class _Child:
    """A process that is kept running. watchdog: seconds for which it may say nothing. is_trusted: it may have
    our environment, and write where we do.
    """

    name: str
    arguments: list[str]
    watchdog: float
    is_trusted: bool
    relay: Relay | None = None
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    begun: float = 0.0
    heard: float = 0.0
    delay: float = FIRST_DELAY
    due: float = 0.0
    ready: bool = False

    @property
    def silent(self) -> float:
        """When it has been so for too long."""
        return self.heard + self.watchdog


class Supervisor:
    """Starts processes one after the other, ends them the other way round, and starts those that die again.

    They die with the thread that starts them.
    """

    def __init__(self) -> None:
        self._children: list[_Child] = []
        self.have_ended = True
        """At the end: whether each process has, and so has removed what it made."""
        self._stack = contextlib.ExitStack()
        self._notified = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # anybody may send to it
        self._notified.bind(f"\0isolane-up-{os.getpid()}")
        self._stop, write = os.pipe()
        self._stack.callback(os.close, self._stop)
        stop = stop_signals()

        def wait() -> None:
            signal.sigwait(stop)
            os.write(write, b".")

        threading.Thread(target=wait, name="signals", daemon=True).start()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._stack.close()

    def start(
        self, name: str, arguments: list[str], *first: str, watchdog: float, is_trusted: bool = True
    ) -> None:
        """Until it says that it is ready. ChildError: it ends before. StoppedError: a signal came.

        first: more arguments, of this first start. watchdog: seconds after which a process that says nothing
        is killed. is_trusted: not one that may be broken into; that has nothing of us, neither our
        environment nor a descriptor of a terminal, and what it writes is shown with care.
        """
        child = _Child(name, arguments, watchdog, is_trusted)
        self._children.append(child)
        self._spawn(child, first)
        end = time.monotonic() + READY_SECONDS
        while not child.ready:
            found = self._wait(end)
            if self._stop in found:
                raise StoppedError
            if child.pidfd in found:
                self._reap(child)
                self._children.remove(child)
                raise ChildError
            for other in self._children[:-1]:
                if other.pidfd in found:
                    raise ChildError(f"{other.name} ended ({self._reap(other)}) while {name} started")
            if time.monotonic() >= end:
                raise ChildError(f"{name}: not ready after {READY_SECONDS:.0f} s")

    def run(self) -> None:
        """Keep them running until a signal comes."""
        while True:
            dues = [child.due if child.process is None else child.silent for child in self._children]
            found = self._wait(min(dues))
            if self._stop in found:
                return
            now = time.monotonic()
            if now > min(dues) + _LATE_SECONDS:  # it is we who were stopped: what they said meanwhile is lost
                for child in self._children:
                    child.heard = now
            for child in self._children:
                if child.pidfd in found:
                    code = self._reap(child)
                    say(f"{child.name} ended ({code}): starting it again")
                elif child.process is None:
                    if now >= child.due:
                        self._spawn(child)
                elif now >= child.silent:
                    say(f"{child.name} said nothing for {child.watchdog:g} s: killing it")
                    child.process.kill()
                    child.heard = now

    def end(self) -> None:
        """One that has died, or dies meanwhile, is started once more: it has to remove what it made."""
        alive = [child for child in self._children if child.process and child.process.poll() is None]
        if not alive and len(self._children) > 1:  # nobody knows any more what that is: it is made again
            for child in self._children:
                self._start_again(child)
        while self._children:
            child = self._children[-1]
            if not self._finish(child):
                self._spawn(child)
                self.have_ended &= self._finish(child)
            self._children.pop()

    def _start_again(self, child: _Child) -> None:
        """Until it is ready, or for as long as a stop may take."""
        if child.process is not None:
            self._reap(child)
        child.ready = False
        self._spawn(child)
        end = time.monotonic() + STOP_SECONDS
        while not child.ready and child.process is not None and child.process.poll() is None:
            if time.monotonic() >= end:
                return
            self._wait(end, child)

    def _finish(self, child: _Child) -> bool:
        """Whether it ended as it should."""
        if child.process is None:
            return False
        child.process.terminate()
        end = time.monotonic() + STOP_SECONDS
        while child.process.poll() is None and time.monotonic() < end:
            self._wait(end, child)  # what nobody takes from the socket holds up who notifies
        if child.process.poll() is None:
            child.process.kill()
        return self._reap(child) == 0

    def _wait(self, end: float, only: _Child | None = None) -> Collection[int]:
        """What has happened: the descriptors of ended children, of the stop; notifications are taken. only:
        that child, and no stop.
        """
        waiting = [self._notified.fileno(), *([] if only else [self._stop])]
        waiting += [child.pidfd for child in ([only] if only else self._children) if child.process]
        open_relays = (each.relay for each in self._children if each.relay and not each.relay.has_ended)
        relays = {relay.fd: relay for relay in open_relays}
        found = readable([*waiting, *relays], end - time.monotonic())
        for fd in found & relays.keys():
            relays[fd].read()
        if self._notified.fileno() in found:
            with contextlib.suppress(BlockingIOError):
                for _ in range(_MESSAGES):  # anybody may send, and more than we can read
                    self._hear(*self._notified.recvmsg(4096, 1024, socket.MSG_DONTWAIT)[:2])
        return found

    def _hear(self, data: bytes, control: list[tuple[int, int, bytes]]) -> None:
        sender = _sender(control)
        for child in self._children:
            if child.process is not None and child.process.pid == sender:
                child.heard = time.monotonic()
                child.ready |= b"READY=1" in data.splitlines()

    def _spawn(self, child: _Child, more: tuple[str, ...] = ()) -> None:
        program = Path(sysconfig.get_path("scripts"), "isolane")
        bound = ("--die-with", str(os.getpid()))
        child.relay = None if child.is_trusted else Relay()
        output = child.relay.write_end if child.relay else None
        child.process = subprocess.Popen(
            [sys.executable, str(program), *child.arguments, *bound, *more],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environ(child),
            start_new_session=True,  # a terminal's Ctrl-C is for us alone
        )
        if child.relay:
            child.relay.writer_has_it()
        child.pidfd = os.pidfd_open(child.process.pid)
        child.begun = child.heard = time.monotonic()

    def _reap(self, child: _Child) -> int:
        assert child.process is not None
        code = child.process.wait()
        os.close(child.pidfd)
        if child.relay:
            child.relay.close()
        child.process, child.relay, child.pidfd = None, None, -1
        lived = time.monotonic() - child.begun
        child.delay = FIRST_DELAY if lived > LAST_DELAY else min(2 * child.delay, LAST_DELAY)
        child.due = time.monotonic() + child.delay
        return code


def _environ(child: _Child) -> dict[str, str]:
    """As systemd says it (sd_notify(3))."""
    ours = {"NOTIFY_SOCKET": f"@isolane-up-{os.getpid()}", "WATCHDOG_USEC": str(int(child.watchdog * 1e6))}
    kept = os.environ.keys() - {"WATCHDOG_PID"} if child.is_trusted else _HARMLESS & os.environ.keys()
    return {**{name: os.environ[name] for name in kept}, **ours}


def _sender(control: list[tuple[int, int, bytes]]) -> int | None:
    """The process id that the kernel vouches for; descriptors that came along are closed."""
    sender = None
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            sender, _, _ = struct.unpack("=iII", data[:12])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            for (fd,) in struct.iter_unpack("=i", data[: len(data) // 4 * 4]):
                os.close(fd)
    return sender
