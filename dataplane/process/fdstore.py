"""Ports kept by systemd (FileDescriptorStoreMax=): the process and its agent may both die, and a later
process has the ports again. Without systemd nothing is kept.

A port is its descriptors, port-ID.0 and so on, and a file in memory, port-ID.state, that says how many there
are and what for. One that came only in part is given up: its device is opened anew by the agent.
"""

import errno
import json
import os
import queue
import re
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from dataplane.binding.handover import Handover
from dataplane.process import framing, systemd
from dataplane.process.log import log

FIRST_FD = 3
"""Where systemd puts descriptors (sd_listen_fds(3))."""

_MOST_TASKS = 4096
"""That wait for a manager that reads nothing: each may hold the descriptors of a port."""

_NAME = re.compile(r"port-(\d+)\.(state|\d+)")


@dataclass(frozen=True)
class _Task:
    """handover: to keep; None: to forget. done: once systemd was told."""

    port: int
    handover: Handover | None
    fds: tuple[int, ...]
    done: threading.Event
    count: int = 0


class Keeper:
    """Has systemd keep ports and forget them, in the order of the calls, which wait for nothing: that is done
    by a thread of its own, so that a manager that reads nothing holds up nobody.
    """

    def __init__(self) -> None:
        self._tasks: queue.Queue[_Task | None] = queue.Queue(_MOST_TASKS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)
        self._is_on = "NOTIFY_SOCKET" in os.environ
        if self._is_on:
            self._thread.start()

    def keep(self, port: int, handover: Handover) -> None:
        """An attached port's descriptors, of which duplicates are taken. OSError: it is not kept."""
        if not self._is_on:
            return
        fds: list[int] = []
        try:
            fds.extend(map(os.dup, handover.fds))
            self._tasks.put_nowait(_Task(port, handover, tuple(fds), threading.Event()))
        except BaseException as error:
            framing.close_all(fds)
            if isinstance(error, queue.Full):
                raise OSError(errno.EAGAIN, "systemd has not read what it was told before") from None
            raise

    def forget(self, port: int, count: int) -> threading.Event:
        """A port that had so many descriptors. Set once systemd has closed them, or can't be told."""
        task = _Task(port, None, (), threading.Event(), count)
        try:
            if self._is_on:
                self._tasks.put_nowait(task)
                return task.done
        except queue.Full:
            pass
        task.done.set()
        return task.done

    def close(self) -> None:
        """After what is still to be told, if systemd reads it soon."""
        if self._is_on:
            with suppress(queue.Full):
                self._tasks.put_nowait(None)
            self._thread.join(2 * systemd.PATIENCE)
            self._stopping.set()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopping.is_set():
            try:
                if task.handover is None:
                    self._forget(task.port, task.count)
                else:
                    self._keep(task.port, task.handover, task.fds)
            except OSError as error:
                log("systemd is not told", port=task.port, problem=str(error))
            finally:
                framing.close_all(task.fds)
                task.done.set()

    def _keep(self, port: int, handover: Handover, fds: Sequence[int]) -> None:
        state = os.memfd_create(f"port-{port}")
        try:
            document = {**handover.encode(), "fds": len(fds)}
            with os.fdopen(state, "w", closefd=False) as file:
                json.dump(document, file)
            for name, fd in zip(_names(port, len(fds)), (*fds, state), strict=True):
                # a TAP that is down polls as broken
                self._tell("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=(fd,))
        finally:
            os.close(state)

    def _forget(self, port: int, count: int) -> None:
        for name in _names(port, count):
            self._tell("FDSTOREREMOVE=1", f"FDNAME={name}")
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                done = systemd.barrier()
                break
        else:
            return
        systemd.is_hung_up(done, systemd.PATIENCE)
        os.close(done)

    def _tell(self, *assignments: str, fds: Sequence[int] = ()) -> None:
        """However long it takes to be read."""
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                systemd.tell(*assignments, fds=fds)
                return


def recover() -> dict[int, Handover]:
    """The ports that systemd kept, by id. Call it once."""
    files: dict[int, dict[str, int]] = defaultdict(dict)
    for name, fd in _inherited():
        found = _NAME.fullmatch(name)
        if found:
            files[int(found[1])][found[2]] = fd
        else:
            os.close(fd)
    ports = {port: _recover(port, by_name) for port, by_name in files.items()}
    return {port: handover for port, handover in ports.items() if handover}


def _recover(port: int, files: dict[str, int]) -> Handover | None:
    with suppress(KeyError, ValueError), os.fdopen(files["state"], closefd=False) as file:
        file.seek(0)
        document = json.load(file)
        fds = [files[str(number)] for number in range(document["fds"])]
        if len(fds) == len(files) - 1:
            handover = Handover.decode(document, fds)
            os.close(files["state"])
            return handover
    framing.close_all(tuple(files.values()))
    for key in files:
        _remove(f"port-{port}.{key}")
    return None


def _inherited() -> list[tuple[str, int]]:
    """(name, descriptor) of what systemd handed over."""
    if os.environ.pop("LISTEN_PID", None) != str(os.getpid()):
        return []
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    fds = range(FIRST_FD, FIRST_FD + int(os.environ.pop("LISTEN_FDS", "0")))
    for fd in fds:
        os.set_inheritable(fd, False)
    return list(zip(names, fds, strict=True)) if fds else []


def _names(port: int, count: int) -> list[str]:
    """The state comes last: with it the port is whole."""
    return [*(f"port-{port}.{number}" for number in range(count)), f"port-{port}.state"]


def _remove(name: str) -> None:
    systemd.notify("FDSTOREREMOVE=1", f"FDNAME={name}")
