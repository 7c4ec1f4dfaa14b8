"""What labs are made of, in files written before anything is made, and how it is removed again.

/run/isolane/labs/<prefix>.json names the namespaces and processes of a lab: `down` finds what there is
whatever happened to `up`, and ends nothing else.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dataplane.host import locks, netns
from dataplane.process import instances
from policy.store import sqlite_file
from tools.run.processes import readable

STATE_DIRECTORY = Path("/run/isolane/labs")
STOP_SECONDS = 10.0


class LabError(Exception):
    """Whoever asked for the lab must act."""


class NoLabError(LabError):
    """There is none of that name."""


@dataclass
class Process:
    """An `isolane up`. start: its start time in clock ticks, which tells it from a later process of the same
    id.
    """

    host: str
    instance: str
    pid: int
    start: int


@dataclass
class State:
    """What `down` removes, and what `status` prints once the lab is up."""

    prefix: str
    namespaces: list[str] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    status: dict[str, Any] | None = None

    @property
    def path(self) -> Path:
        return STATE_DIRECTORY / f"{self.prefix}.json"

    @property
    def store(self) -> Path:
        """Of intent, that all hosts follow."""
        return STATE_DIRECTORY / f"{self.prefix}.store"

    def log(self, host: str) -> Path:
        return STATE_DIRECTORY / f"{self.prefix}.{host}.log"

    def create(self) -> None:
        locks.make(STATE_DIRECTORY)
        try:
            self.path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            hint = f"isolane lab down --prefix {self.prefix}"
            raise LabError(f"a lab with prefix {self.prefix} is there already; `{hint}` removes it") from None
        self.save()

    def save(self) -> None:
        """In one step: a reader sees the old or the new state."""
        scratch = self.path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(self)))
        scratch.rename(self.path)

    @classmethod
    def load(cls, prefix: str) -> "State":
        try:
            fields = json.loads((STATE_DIRECTORY / f"{prefix}.json").read_text())
        except FileNotFoundError:
            raise NoLabError(f"no lab with prefix {prefix}") from None
        return cls(**{**fields, "processes": [Process(**process) for process in fields["processes"]]})


def remove(state: State) -> None:
    _end(state.processes)
    for name in state.namespaces:
        netns.remove(name)
        state.log(name.removeprefix(state.prefix)).unlink(missing_ok=True)
    for process in state.processes:
        instance = process.instance
        for directory in (instances.socket_path(instance).parent, locks.agent_directory(instance)):
            for left in directory.glob("*"):  # if the process had to be killed
                with contextlib.suppress(OSError):
                    left.unlink()
            _remove_if_empty(directory)
    sqlite_file.remove(state.store)
    state.path.unlink(missing_ok=True)
    _remove_if_empty(STATE_DIRECTORY)
    _remove_if_empty(STATE_DIRECTORY.parent)


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def _end(processes: Iterable[Process]) -> None:
    """SIGTERM, and SIGKILL for what does not go: to these very processes, never to later ones of the same
    id.
    """
    with contextlib.ExitStack() as stack:
        waiting = set()
        for process in processes:
            try:
                fd = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, fd)
            if start_time(process.pid) == process.start:
                signal.pidfd_send_signal(fd, signal.SIGTERM)
                waiting.add(fd)
        waiting = _wait_for_exits(waiting)
        for fd in waiting:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        _wait_for_exits(waiting)
    for process in processes:
        with contextlib.suppress(ChildProcessError):  # not ours but another `lab up`'s
            os.waitpid(process.pid, os.WNOHANG)


def _wait_for_exits(pidfds: set[int]) -> set[int]:
    """Those that have not exited after STOP_SECONDS."""
    end = time.monotonic() + STOP_SECONDS
    left = set(pidfds)
    while left and (patience := end - time.monotonic()) > 0:
        left -= readable(left, patience)
    return left


def start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; the command before it may hold spaces and parentheses."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[19])
