"""A doorbell between processes of one machine: a file that whoever has news writes to, watched by inotify.

A ring may be missed (whoever should have rung was killed): look for news now and then all the same.
"""

import ctypes
import os
import select
from pathlib import Path

_IN_MODIFY = 0x2
_IN_CLOEXEC, _IN_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK
_libc = ctypes.CDLL(None, use_errno=True)


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
        self._fd = _check(_libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK), path)
        try:
            _check(_libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY), path)
        except OSError:
            os.close(self._fd)
            raise

    def wait(self, timeout: float) -> bool:
        """Whether it has rung since the last call, after at most `timeout` seconds."""
        poller = select.poll()  # select() knows no descriptor above 1023
        poller.register(self._fd, select.POLLIN)
        rung = bool(poller.poll(max(timeout, 0) * 1000))
        if rung:
            os.read(self._fd, 65536)
        return rung

    def close(self) -> None:
        os.close(self._fd)


def _check(result: int, path: Path) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return result
