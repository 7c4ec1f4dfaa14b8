"""What a service tells systemd (sd_notify(3)); without systemd, nothing."""

import contextlib
import os
import select
import socket
from collections.abc import Sequence

_PATIENCE = 1.0
"""Seconds; a manager that reads nothing for longer holds up nobody."""


def notify(*assignments: str, fds: Sequence[int] = ()) -> None:
    """Sends lines like READY=1, and descriptors for FDSTORE=1. A failure is systemd's to notice."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.settimeout(_PATIENCE)
        to.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        socket.send_fds(to, ["\n".join(assignments).encode()], fds)


def barrier() -> None:
    """Until systemd has done what it was told before (sd_notify_barrier(3)), a second at most."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    done, held = os.pipe2(os.O_CLOEXEC)
    try:
        notify("BARRIER=1", fds=(held,))
    finally:
        os.close(held)
    poller = select.poll()
    poller.register(done, 0)  # hung up when nobody holds the other end
    poller.poll(_PATIENCE * 1000)
    os.close(done)


def watchdog_seconds() -> float | None:
    """How often systemd wants WATCHDOG=1 at the least; None: never."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 1e6 if microseconds else None
