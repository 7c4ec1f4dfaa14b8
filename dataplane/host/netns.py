"""Named network namespaces, as `ip netns` keeps them: bind mounts of nsfs under /run/netns.

No function leaves the calling thread in another namespace: work is done in a thread of its own that ends
there. What that thread opens (sockets, TAP queues) or forks (processes) belongs to the namespace;
/proc/sys/net is the namespace's too.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _in_thread(body: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(body())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def path(name: str) -> Path:
    """Where a namespace is. Raises FileNotFoundError if there is none of that name."""
    if name in ("", ".", "..") or "/" in name or not (DIRECTORY / name).exists():
        raise FileNotFoundError(f"no network namespace {name!r} in {DIRECTORY}")
    return DIRECTORY / name


def identity(name: str | None) -> int:
    """Tells a namespace, as long as it exists, from a later one of the same name; None is the caller's own.

    Raises FileNotFoundError if there is no such namespace.
    """
    return (Path("/proc/thread-self/ns/net") if name is None else path(name)).stat().st_ino


def call(name: str | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` inside namespace `name` and return its result; None is the caller's own namespace.

    Raises FileNotFoundError if there is no such namespace, else what `function` raises.
    """

    def body() -> T:
        if name is not None:
            fd = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                _check(_libc.setns(fd, _CLONE_NEWNET), f"network namespace {name!r}")
            finally:
                os.close(fd)
        return function(*args, **kwargs)

    return _in_thread(body)


def create(name: str) -> None:
    """Make an empty namespace (loopback down). Raises FileExistsError if the name is taken."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    _share_directory()
    target = DIRECTORY / name
    target.touch(mode=0o444, exist_ok=False)

    def bind() -> None:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        source = b"/proc/thread-self/ns/net"
        _check(_libc.mount(source, os.fsencode(target), b"none", _MS_BIND, None), f"mount {target}")

    try:
        _in_thread(bind)
    except BaseException:
        target.unlink()
        raise


def remove(name: str) -> None:
    """Take the name away; the namespace goes with its last process and descriptor. A missing name is no
    error.
    """
    target = DIRECTORY / name
    _libc.umount2(os.fsencode(target), _MNT_DETACH)
    target.unlink(missing_ok=True)


def _share_directory() -> None:
    """Let mounts under /run/netns show up in every mount namespace, as iproute2 does it."""
    directory = os.fsencode(DIRECTORY)
    if _libc.mount(b"", directory, b"none", _MS_SHARED | _MS_REC, None) != 0:
        _check(_libc.mount(directory, directory, b"none", _MS_BIND | _MS_REC, None), f"mount {DIRECTORY}")
        _check(_libc.mount(b"", directory, b"none", _MS_SHARED | _MS_REC, None), f"mount {DIRECTORY}")
