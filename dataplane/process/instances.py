"""An instance of the data plane: its directory under /run/isolane, held by one process at a time, and the
socket in it. Imports nothing that starts threads: see privileges.bound().

The directory is the data plane's, where it may do what it likes: root follows no link there.
"""

import contextlib
import os
import pwd
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataplane.host import locks
from dataplane.process import privileges

RUN_DIRECTORY = Path("/run/isolane")
USER = "isolane"
"""May look, where there is such a user."""


def socket_path(instance: str) -> Path:
    return RUN_DIRECTORY / instance / "dataplane.sock"


class InstanceError(Exception):
    """Whoever named the instance must act: it runs already, or its socket can't be made."""


@dataclass(frozen=True)
class Listener:
    """A socket, and the id of the user that may look; None: there is none."""

    socket: socket.socket
    viewer: int | None


@contextlib.contextmanager
def directory_removed(instance: str) -> Iterator[None]:
    """At the end, by root: the data plane is nobody when it ends, and leaves its directory."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            socket_path(instance).parent.rmdir()


@contextlib.contextmanager
def listening(instance: str) -> Iterator[Listener]:
    """The instance's socket; whoever connects waits for server.answering(). InstanceError."""
    path = socket_path(instance)
    with _locked(path.parent, instance) as directory, socket.socket(socket.AF_UNIX) as listener:
        before = os.umask(0o117)
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            _give(path)
            _give_directory(directory)
        except OSError as error:
            raise InstanceError(f"{path}: {error.strerror or error}") from None
        finally:
            os.umask(before)
        listener.listen()
        try:
            yield Listener(listener, user.pw_uid if (user := _user()) else None)
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


def _owner() -> tuple[int, int]:
    """User and group of what only the data plane and those who may look are to reach; -1: as it is."""
    account, user = privileges.account(), _user()
    return account.uid if os.geteuid() == 0 else -1, account.gid if user is None else user.pw_gid


def _give(path: Path) -> None:
    with contextlib.suppress(PermissionError):  # not root, nor in the group
        os.chown(path, *_owner(), follow_symlinks=False)


def _give_directory(fd: int) -> None:
    with contextlib.suppress(PermissionError):
        os.fchown(fd, *_owner())
        os.fchmod(fd, 0o710)  # who may read it could lock it


@contextlib.contextmanager
def _locked(directory: Path, instance: str) -> Iterator[int]:
    """The instance's directory, held by one process at a time and given up by its death; for now it is this
    process's alone, not the data plane's of before.
    """
    try:
        fd = locks.of_directory(directory)
        if fd is not None:
            os.fchown(fd, os.geteuid(), -1)
            os.fchmod(fd, 0o700)
    except OSError as error:
        raise InstanceError(f"{directory}: {error.strerror or error}") from None
    if fd is None:
        raise InstanceError(f"instance {instance} is running already")
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):  # once it is not root any more it may not
            directory.rmdir()
        os.close(fd)
