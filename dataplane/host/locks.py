"""Locks that no other user can take first: of directories and files that others can't open. A lock is held
by a descriptor and its duplicates, in whatever processes, and given up when the last one is closed.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

DIRECTORY = Path("/run/isolane-agent")
"""What is in it is root's alone."""


def agent_directory(instance: str) -> Path:
    """Of an agent, there while it runs or has left something to undo."""
    return DIRECTORY / instance


def make(directory: Path) -> None:
    """With the directory that it is in, which others may look into, whatever the umask. OSError."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # somebody else's
        directory.parent.chmod(0o755)
    directory.mkdir(mode=0o700, exist_ok=True)


def of_directory(directory: Path) -> int | None:
    """Made if it is not there; who holds the lock may remove it. None: somebody else has it. OSError."""
    return _held(directory, os.O_DIRECTORY, lambda: make(directory))


def underlay_path(namespace: int, index: int) -> Path:
    """Of the lock of a device in a network namespace, by the namespace's identity. No instance's name begins
    like it.
    """
    return DIRECTORY / f".underlay-{namespace}-{index}"


def of_underlay(namespace: int, index: int) -> int | None:
    """None: somebody else has it. OSError."""
    path = underlay_path(namespace, index)
    return _held(path, os.O_CREAT, lambda: path.parent.mkdir(mode=0o700, parents=True, exist_ok=True))


def sweep(namespace: int) -> None:
    """Removes the files of what nobody holds there."""
    for path in DIRECTORY.glob(underlay_path(namespace, 0).name.removesuffix("0") + "*"):
        with contextlib.suppress(OSError):
            lock = _held(path, 0, lambda: None)
            if lock is not None:
                path.unlink()
                os.close(lock)


def _held(path: Path, flags: int, ready: Callable[[], None]) -> int | None:
    while True:
        ready()
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        os.close(fd)  # its last owner has removed it meanwhile
