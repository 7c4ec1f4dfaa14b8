"""Processes of isolane that one command keeps running."""

import contextlib
import os
import select
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

import click

from tools.processes import stop_signals

READY_SECONDS = 30.0
STOP_SECONDS = 10.0
_TICK = 0.05
FIRST_DELAY, LAST_DELAY = 0.05, 5.0
"""Seconds until a process that died is started again; twice as long each time, unless it has lived longer."""


class StoppedError(Exception):
    """A signal asks for it."""


class ChildError(Exception):
    """A process can't do its work; it has said why, or the text does."""


@dataclass
class _Child:
    """A process that is kept running."""

    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    begun: float = 0.0
    delay: float = FIRST_DELAY
    due: float = 0.0
    ready: bool = False


class Supervisor:
    """Starts processes one after the other, ends them the other way round, and starts those that die again.

    They die with the thread that starts them.
    """

    def __init__(self) -> None:
        self._children: list[_Child] = []
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

    def start(self, name: str, arguments: list[str], *first: str) -> None:
        """Until it says that it is ready. ChildError: it ends before. StoppedError: a signal came.

        first: more arguments, of this first start.
        """
        child = _Child(name, arguments)
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
            waiting = [child.due for child in self._children if child.process is None]
            found = self._wait(min(waiting, default=None))
            if self._stop in found:
                return
            for child in self._children:
                if child.pidfd in found:
                    code = self._reap(child)
                    click.echo(f"{child.name} ended ({code}): starting it again", err=True)
                elif child.process is None and time.monotonic() >= child.due:
                    self._spawn(child)

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
                self._finish(child)
            self._children.pop()

    def _start_again(self, child: _Child) -> None:
        """Until it is ready, or for as long as a stop may take."""
        if child.process is not None:
            self._reap(child)
        child.ready = False
        self._spawn(child)
        end = time.monotonic() + STOP_SECONDS
        while not child.ready and time.monotonic() < end and child.process is not None:
            if child.process.poll() is not None:
                return
            self._wait(min(end, time.monotonic() + _TICK))

    def _finish(self, child: _Child) -> bool:
        """Whether it ended as it should."""
        if child.process is None:
            return False
        child.process.terminate()
        try:
            child.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.process.kill()
        return self._reap(child) == 0

    def _wait(self, end: float | None) -> Collection[int]:
        """What has happened: the descriptors of ended children, of the stop; notifications are taken."""
        waiting = [self._stop, self._notified.fileno()]
        waiting += [child.pidfd for child in self._children if child.process]
        patience = None if end is None else max(end - time.monotonic(), 0)
        found = set(select.select(waiting, [], [], patience)[0])
        if self._notified.fileno() in found:
            data, control, _, _ = self._notified.recvmsg(4096, 1024)
            sender = _sender(control)
            for child in self._children:
                if child.process is not None and child.process.pid == sender:
                    child.ready |= b"READY=1" in data.splitlines()
        return found

    def _spawn(self, child: _Child, more: tuple[str, ...] = ()) -> None:
        program = Path(sysconfig.get_path("scripts"), "isolane")
        bound = ("--die-with", str(os.getpid()))
        child.process = subprocess.Popen(
            [sys.executable, str(program), *child.arguments, *bound, *more],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": f"@isolane-up-{os.getpid()}"},
            start_new_session=True,  # a terminal's Ctrl-C is for us alone
        )
        child.pidfd = os.pidfd_open(child.process.pid)
        child.begun = time.monotonic()

    def _reap(self, child: _Child) -> int:
        assert child.process is not None
        code = child.process.wait()
        os.close(child.pidfd)
        child.process, child.pidfd = None, -1
        lived = time.monotonic() - child.begun
        child.delay = FIRST_DELAY if lived > LAST_DELAY else min(2 * child.delay, LAST_DELAY)
        child.due = time.monotonic() + child.delay
        return code


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
