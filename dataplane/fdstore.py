"""Ports kept by systemd (FileDescriptorStoreMax=): the process and its agent may both die, and a later
process has the ports again. Without systemd nothing is kept.

A port is its descriptors, port-ID.0 and so on, and a file in memory, port-ID.state, that says how many there
are and what for. One that came only in part is given up: its device is opened anew by the agent.
"""

import json
import os
import re
from collections import defaultdict
from contextlib import suppress

from dataplane import wire
from dataplane.handover import Handover
from dataplane.notify import barrier, notify

FIRST_FD = 3
"""Where systemd puts descriptors (sd_listen_fds(3))."""

_NAME = re.compile(r"port-(\d+)\.(state|\d+)")


def keep(port: int, handover: Handover) -> None:
    """Hand an attached port's descriptors to systemd."""
    if "NOTIFY_SOCKET" not in os.environ:
        return
    state = os.memfd_create(f"port-{port}")
    try:
        document = {**handover.encode(), "fds": len(handover.fds)}
        with os.fdopen(state, "w", closefd=False) as file:
            json.dump(document, file)
        for name, fd in zip(_names(port, len(handover.fds)), (*handover.fds, state), strict=True):
            notify("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=(fd,))  # a TAP that is down polls as broken
    finally:
        os.close(state)


def forget(port: int, count: int) -> None:
    """Let systemd close a port that had so many descriptors, which may be opened anew at once."""
    for name in _names(port, count):
        _remove(name)
    barrier()


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
    wire.close_all(tuple(files.values()))
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
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")
