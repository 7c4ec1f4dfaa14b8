"""A doorbell between processes of one machine: a file that whoever has news writes to, watched by inotify.

A ring may be missed (whoever should have rung was killed): look for news now and then all the same.
"""

import os
import select
from pathlib import Path

from dataplane.inotify import MODIFY, Inotify


def ring(path: Path) -> None:
    """Wake everybody who listens. OSError: the file can't be written."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, b"\n", 0)
    finally:
        os.close(fd)


class Listener:
    """Hears every ring after it was made. One thread at a time; close it."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._inotify = Inotify(path, MODIFY)

    def wait(self, timeout: float) -> bool:
        """Whether it has rung since the last call, after at most `timeout` seconds."""
        poller = select.poll()  # select() knows no descriptor above 1023
        poller.register(self._inotify, select.POLLIN)
        rung = bool(poller.poll(max(timeout, 0) * 1000))
        if rung:
            self._inotify.names()
        return rung

    def close(self) -> None:
        self._inotify.close()
