"""The data-plane process's Unix socket, /run/isolane/<instance>/dataplane.sock.

Request: a frame of wire.py with the header {"method", "params"}; reply: {"result"}, or {"error", "kind"},
a text for the operator and who must act. A long payload: several frames, all but the last with "more".
Requests of a connection are answered in turn, each connection on a thread of its own: who does not read or
ends amid a frame holds up nobody else. Root may ask for everything, the user `isolane` for what looks only:
the directory and the peer's credentials see to it. The directory is the data plane's, where it may do what it
likes: root follows no link there.
"""

import contextlib
import errno
import inspect
import os
import pwd
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from dataplane import locks, privileges, wire

RUN_DIRECTORY = Path("/run/isolane")
USER = "isolane"
"""May look, where there is such a user."""
MAX_CONNECTIONS = 64
MAX_OF_USER = 16
"""Of these, so that root finds one."""
PATIENCE = 30.0
"""Seconds that a peer may take for its next byte amid a frame, and to read a frame of ours."""
USER_LIMITS = wire.Limits(header=1 << 16, payload=0, fds=0)
"""Of a request, which is in memory before it is understood."""
_SHORT_OF_DESCRIPTORS = 0.1
"""Seconds until the next try."""

Method = Callable[..., Any]
"""Takes the request's params by keyword, and `payload` (bytes) and `fds` if the request has any: descriptors
are the method's own once it returns. Returns what JSON can say, or a Reply. Its RequestError and ValueError
become the reply's error; any other is a mistake of ours.
"""


_Call = TypeVar("_Call", bound=Method)


def looks_only(method: _Call) -> _Call:
    """Marks a method that changes nothing and gives no descriptor away."""
    vars(method)["looks_only"] = True
    return method


def of_tables(method: _Call) -> _Call:
    """Marks one that copies a whole table: the user has one at a time in memory."""
    vars(method)["of_tables"] = True
    return method


TURN_PATIENCE = 10.0
"""Seconds that one waits for that."""
_user_of_tables = threading.BoundedSemaphore(1)


class Kind(StrEnum):
    """Who must act on an error."""

    REQUEST = "request"
    CHANGE_SET = "change-set"
    HOST = "host"
    NOT_ALLOWED = "not-allowed"
    BUSY = "busy"
    INTERNAL = "internal"


class RequestError(Exception):
    """Whoever sent the request must act, or who `kind` says."""

    def __init__(self, text: str, kind: Kind = Kind.REQUEST) -> None:
        super().__init__(text)
        self.kind = kind


class InstanceError(Exception):
    """Whoever named the instance must act: it runs already, or its socket can't be made."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A result with bytes, or with descriptors, which are closed once they are sent."""

    result: Any = None
    payload: bytes = b""
    fds: tuple[int, ...] = ()


def socket_path(instance: str) -> Path:
    return RUN_DIRECTORY / instance / "dataplane.sock"


@contextlib.contextmanager
def directory_removed(instance: str) -> Iterator[None]:
    """At the end, by root: the data plane is nobody when it ends, and leaves its directory."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            socket_path(instance).parent.rmdir()


@contextlib.contextmanager
def serve(instance: str, methods: Mapping[str, Method]) -> Iterator[None]:
    """Answer requests on the instance's socket until the context ends. InstanceError."""
    with listening(instance) as listener, answering(listener, methods):
        yield


@contextlib.contextmanager
def listening(instance: str) -> Iterator[socket.socket]:
    """The instance's socket; whoever connects waits for answering(). InstanceError."""
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
            yield listener
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def answering(listener: socket.socket, methods: Mapping[str, Method]) -> Iterator[None]:
    """Answer requests until the context ends; nobody can connect afterwards."""
    thread = threading.Thread(target=_accept, args=(listener, methods), name="server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # accept() returns
        thread.join()


def _accept(listener: socket.socket, methods: Mapping[str, Method]) -> None:
    room, of_user = threading.BoundedSemaphore(MAX_CONNECTIONS), threading.BoundedSemaphore(MAX_OF_USER)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno == errno.EINVAL:  # shut down
                return
            time.sleep(_SHORT_OF_DESCRIPTORS)
            continue
        with contextlib.suppress(OSError, RuntimeError):  # it went away, or there is no room for a thread
            _admit(connection, methods, [room] if _peer(connection) == 0 else [of_user, room])


def _admit(
    connection: socket.socket, methods: Mapping[str, Method], rooms: Sequence[threading.BoundedSemaphore]
) -> None:
    with contextlib.ExitStack() as unless_started:
        unless_started.enter_context(connection)
        for room in rooms:
            if not room.acquire(blocking=False):
                most = MAX_CONNECTIONS if room is rooms[-1] else MAX_OF_USER
                _refuse(connection, f"{most} connections are open already", Kind.BUSY)
                return
            unless_started.callback(room.release)
        arguments = (connection, methods, rooms)
        threading.Thread(target=_converse, args=arguments, name="client", daemon=True).start()
        unless_started.pop_all()


def _converse(
    connection: socket.socket, methods: Mapping[str, Method], rooms: Sequence[threading.BoundedSemaphore]
) -> None:
    try:
        with connection, contextlib.suppress(EOFError, OSError):  # the client goes away
            allowed = _allowed(connection, methods)
            if allowed:
                _answer_all(connection, methods, allowed, is_root=_peer(connection) == 0)
            else:
                _refuse(connection, "only root may ask", Kind.NOT_ALLOWED)
    finally:
        for room in rooms:
            room.release()


def _answer_all(
    connection: socket.socket, methods: Mapping[str, Method], allowed: Set[str], is_root: bool
) -> None:
    while True:
        try:
            request = wire.receive(connection, PATIENCE, None if is_root else USER_LIMITS)
        except wire.WireError as error:
            _refuse(connection, f"not a request: {error}", Kind.REQUEST)
            return
        with contextlib.ExitStack() as held:
            if not is_root and hasattr(methods.get(str(request.header.get("method"))), "of_tables"):
                if not _user_of_tables.acquire(timeout=TURN_PATIENCE):
                    _refuse(connection, "others of this user are being answered", Kind.BUSY)
                    continue
                held.callback(_user_of_tables.release)
            reply = _answer(methods, allowed, request)
            del request  # up to 64 MiB, while a slow client reads
            try:
                _send_reply(connection, reply)
            finally:
                if isinstance(reply, Reply):
                    wire.close_all(reply.fds)
                del reply


def _answer(methods: Mapping[str, Method], allowed: Set[str], request: wire.Frame) -> Reply | RequestError:
    """The descriptors of a request that failed are closed."""
    try:
        result = _call(methods, allowed, request)
    except RequestError as error:
        wire.close_all(request.fds)
        return error
    return result if isinstance(result, Reply) else Reply(result)


def _call(methods: Mapping[str, Method], allowed: Set[str], request: wire.Frame) -> Any:
    match request.header:
        case {"method": str(name), "params": dict(params)} if name in allowed:
            pass
        case {"method": str(name), "params": dict()} if name in methods:
            raise RequestError(f"{name}: only root may ask for this", Kind.NOT_ALLOWED)
        case {"method": str(name), "params": dict()}:
            raise RequestError(f"{name}: no such method")
        case _:
            raise RequestError("not a request")
    carried: dict[str, Any] = {"payload": request.payload, "fds": request.fds}
    if params.keys() & carried.keys():
        raise RequestError(f"{name}: payload and fds are no params")
    method, arguments = methods[name], params | {key: value for key, value in carried.items() if value}
    try:
        inspect.signature(method).bind(**arguments)
    except TypeError as error:
        raise RequestError(f"{name}: {error}") from None
    try:
        return method(**arguments)
    except RequestError as error:
        raise RequestError(f"{name}: {error}", error.kind) from None
    except ValueError as error:
        raise RequestError(f"{name}: {error}") from None
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        raise RequestError(f"{name}: {type(error).__name__}: {error}", Kind.INTERNAL) from None


def _send_reply(connection: socket.socket, reply: Reply | RequestError) -> None:
    connection.settimeout(PATIENCE)
    if isinstance(reply, RequestError):
        _refuse(connection, str(reply), reply.kind)
        return
    rest = memoryview(reply.payload)
    while len(rest) > wire.MAX_PAYLOAD:
        wire.send(connection, {"more": True}, rest[: wire.MAX_PAYLOAD])
        rest = rest[wire.MAX_PAYLOAD :]
    try:
        wire.send(connection, {"result": reply.result}, rest, reply.fds)
    except ValueError as error:  # nothing was sent
        _refuse(connection, f"the answer is too long: {error}", Kind.INTERNAL)


def _refuse(connection: socket.socket, text: str, kind: Kind) -> None:
    connection.settimeout(PATIENCE)
    wire.send(connection, {"error": text, "kind": kind})


# ---- who may ask -------------------------------------------------------------------------------------------


def _user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        return None


def _peer(connection: socket.socket) -> int:
    """Its user id."""
    _, uid, _ = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def _allowed(connection: socket.socket, methods: Mapping[str, Method]) -> Set[str]:
    """The methods that the peer may call."""
    uid = _peer(connection)
    if uid == 0:
        return methods.keys()
    user = _user()
    if user is None or uid != user.pw_uid:
        return frozenset()
    return {name for name, method in methods.items() if hasattr(method, "looks_only")}


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


# ---- one process an instance -------------------------------------------------------------------------------


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
