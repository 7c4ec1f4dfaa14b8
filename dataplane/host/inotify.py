"""Changes of a file or directory by inotify(7)."""

import ctypes
import os
import struct
from pathlib import Path

MODIFY, CREATE, DELETE = 0x2, 0x100, 0x200
_MOVED_FROM, _MOVED_TO = 0x40, 0x80
ENTRIES = CREATE | DELETE | _MOVED_FROM | _MOVED_TO
"""That a directory gets or loses."""

_EVENT = struct.Struct("=iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """fileno(): readable once something has changed. One thread at a time; close it."""

    def __init__(self, path: Path, mask: int) -> None:
        """OSError: there is none, or too many are watched."""
        self._fd = _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), path)
        try:
            _check(_libc.inotify_add_watch(self._fd, os.fsencode(path), mask), path)
        except OSError:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        return self._fd

    def names(self) -> set[str]:
        """Of the entries that have changed since the last call; "" is the path itself, or too much."""
        found: set[str] = set()
        try:
            while data := os.read(self._fd, 65536):
                at = 0
                while at < len(data):
                    *_, length = _EVENT.unpack_from(data, at)
                    at += _EVENT.size
                    found.add(os.fsdecode(data[at : at + length].rstrip(b"\0")))
                    at += length
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        os.close(self._fd)


def _check(result: int, path: Path) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return result
