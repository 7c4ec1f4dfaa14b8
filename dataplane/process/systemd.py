"""What a service tells systemd (sd_notify(3)); without systemd, nothing."""

import contextlib
import functools
import os
import select
import socket
from collections.abc import Sequence

PATIENCE = 1.0
"""Seconds; a manager that reads nothing for longer holds up nobody."""


def connect() -> None:
    """For a process that can't later: notify() goes by this connection."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError):
            _connected(address)


@functools.cache
def _connected(address: str) -> socket.socket:
    to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    to.settimeout(PATIENCE)
    to.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
    return to


def notify(*assignments: str, fds: Sequence[int] = ()) -> None:
    """Sends lines like READY=1, and descriptors for FDSTORE=1. A failure is systemd's to notice."""
    with contextlib.suppress(OSError):
        tell(*assignments, fds=fds)


def tell(*assignments: str, fds: Sequence[int] = ()) -> None:
    """As notify(). TimeoutError: systemd reads nothing; OSError: it is not there."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        socket.send_fds(_connected(address), ["\n".join(assignments).encode()], fds)


def barrier() -> int:
    """A descriptor, the caller's to close, that hangs up when systemd has done what it was told before
    (sd_notify_barrier(3)). TimeoutError, OSError: as tell().
    """
    done, held = os.pipe2(os.O_CLOEXEC)
    try:
        tell("BARRIER=1", fds=(held,))
    except OSError:
        os.close(done)
        raise
    finally:
        os.close(held)
    return done


def is_hung_up(fd: int, seconds: float) -> bool:
    """Within that time."""
    poller = select.poll()
    poller.register(fd, 0)
    return bool(poller.poll(seconds * 1000))


def watchdog_seconds() -> float | None:
    """How often systemd wants WATCHDOG=1 at the least; None: never."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 1e6 if microseconds else None
