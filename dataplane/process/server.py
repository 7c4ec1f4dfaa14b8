"""Answers on the data-plane process's Unix socket, /run/isolane/<instance>/dataplane.sock.

Request: a frame of framing.py with the header {"method", "params"}; reply: {"result"}, or {"error", "kind"},
a text for the operator and who must act. A long payload: several frames, all but the last with "more".
Requests of a connection are answered in turn, each connection on a thread of its own: who does not read, or
sends a byte now and then, holds up nobody else and is dropped. Root may ask for everything, the user
`isolane` for what only reads: the directory and the peer's credentials see to it.
"""

import contextlib
import errno
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from dataplane.process import framing
from dataplane.process.instances import Listener, listening
from dataplane.process.methods import Method, RequestError, convert_params
from dataplane.process.protocol import Kind

MAX_CONNECTIONS = 64
MAX_OF_USER = 16
"""Of these, so that root finds one."""
PATIENCE = 30.0
"""Seconds that a peer may take for a MiB of a frame."""
USER_PATIENCE = 5.0
"""Seconds that the user may take for it, and in which nobody reads what comes next."""
USER_ANSWERS = 4
"""That the user has in memory at a time."""
TURN_PATIENCE = 10.0
"""Seconds that one waits for that."""
ROOT_HEADER, USER_HEADER = 1 << 20, 1 << 16
"""Bytes of a request, which is in memory before it is understood."""
_SHORT_OF_DESCRIPTORS = 0.1
"""Seconds until the next try."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A result with bytes, which may be others' too, or with descriptors, which are closed once they are
    sent.
    """

    result: Any = None
    payload: bytes | memoryview = b""
    fds: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Peer:
    """Who is connected, and what it may call."""

    is_root: bool
    allowed: Set[str]
    limits: framing.Limits
    patience: float


class _Server:
    """What the connections of a listener share."""

    def __init__(self, listener: Listener, methods: Mapping[str, Method]) -> None:
        self._listener = listener
        self._methods = methods
        self._read_only = {name for name, method in methods.items() if hasattr(method, "read_only")}
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._users_room = threading.BoundedSemaphore(MAX_OF_USER)
        self._users_answers = threading.BoundedSemaphore(USER_ANSWERS)
        self._users_turn = threading.Lock()

    # ---- connections

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.socket.accept()
            except OSError as error:
                if error.errno == errno.EINVAL:  # shut down
                    return
                time.sleep(_SHORT_OF_DESCRIPTORS)
                continue
            with contextlib.suppress(OSError, RuntimeError):  # it went away, or there is no room for a thread
                self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as unless_started:
            unless_started.enter_context(connection)
            peer = self._peer(connection)
            rooms = [self._room] if peer.is_root else [self._users_room, self._room]
            for room in rooms:
                if not room.acquire(blocking=False):
                    most = MAX_CONNECTIONS if room is self._room else MAX_OF_USER
                    _refuse(connection, peer, f"{most} connections are open already", Kind.BUSY)
                    return
                unless_started.callback(room.release)
            arguments = (connection, peer, rooms)
            threading.Thread(target=self._converse, args=arguments, name="client", daemon=True).start()
            unless_started.pop_all()

    def _peer(self, connection: socket.socket) -> _Peer:
        uid = _uid(connection)
        if uid == 0:
            limits = framing.Limits(ROOT_HEADER, self._payload_limit, framing.MAX_FDS)
            return _Peer(True, self._methods.keys(), limits, PATIENCE)
        allowed = self._read_only if uid == self._listener.viewer else frozenset[str]()
        return _Peer(False, allowed, framing.Limits(USER_HEADER, framing.no_payload, 0), USER_PATIENCE)

    def _payload_limit(self, header: Mapping[str, Any]) -> int:
        """Of a request of root's, by what it is for."""
        method = self._methods.get(str(header.get("method")))
        return framing.MAX_PAYLOAD if hasattr(method, "takes_payload") else 0

    def _converse(
        self, connection: socket.socket, peer: _Peer, rooms: Sequence[threading.BoundedSemaphore]
    ) -> None:
        try:
            with connection, contextlib.suppress(EOFError, OSError):  # the client goes away
                if peer.allowed:
                    self._answer_all(connection, peer)
                else:
                    _refuse(connection, peer, "only root may ask", Kind.NOT_ALLOWED)
        finally:
            for room in rooms:
                room.release()

    # ---- requests

    def _answer_all(self, connection: socket.socket, peer: _Peer) -> None:
        while True:
            try:
                request = framing.receive(connection, peer.patience, peer.limits)
            except framing.WireError as error:
                _refuse(connection, peer, f"not a request: {error}", Kind.REQUEST)
                return
            if peer.is_root:
                reply = self._answer(peer, request)
                del request  # up to 64 MiB, while a slow client reads
                _send_reply(connection, peer, reply)
                del reply
            else:
                self._answer_user(connection, peer, request)

    def _answer_user(self, connection: socket.socket, peer: _Peer, request: framing.Frame) -> None:
        """Few answers are in memory at a time, and one is made at a time: who asks for many, or reads slowly,
        has others of the user wait, and nobody else.
        """
        if not self._users_answers.acquire(timeout=TURN_PATIENCE):
            _refuse(connection, peer, "others of this user are being answered", Kind.BUSY)
            return
        try:
            with self._users_turn:
                reply = self._answer(peer, request)
            _send_reply(connection, peer, reply)
        finally:
            self._users_answers.release()

    def _answer(self, peer: _Peer, request: framing.Frame) -> Reply | RequestError:
        """The descriptors of a request that failed are closed."""
        try:
            result = self._call(peer, request)
        except RequestError as error:
            framing.close_all(request.fds)
            return error
        return result if isinstance(result, Reply) else Reply(result)

    def _call(self, peer: _Peer, request: framing.Frame) -> Any:
        match request.header:
            case {"method": str(name), "params": dict(params)} if name in peer.allowed:
                pass
            case {"method": str(name), "params": dict()} if name in self._methods:
                raise RequestError(f"{name}: only root may ask for this", Kind.NOT_ALLOWED)
            case {"method": str(name), "params": dict()}:
                raise RequestError(f"{name}: no such method")
            case _:
                raise RequestError("not a request")
        carried: dict[str, Any] = {"payload": request.payload, "fds": request.fds}
        method = self._methods[name]
        try:
            arguments = convert_params(method, params, {key for key, value in carried.items() if value})
            return method(**arguments, **{key: value for key, value in carried.items() if value})
        except RequestError as error:
            raise RequestError(f"{name}: {error}", error.kind) from None
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise RequestError(f"{name}: {type(error).__name__}: {error}", Kind.INTERNAL) from None


@contextlib.contextmanager
def serve(instance: str, methods: Mapping[str, Method]) -> Iterator[None]:
    """Answer requests on the instance's socket until the context ends. InstanceError."""
    with listening(instance) as listener, answering(listener, methods):
        yield


@contextlib.contextmanager
def answering(listener: Listener, methods: Mapping[str, Method]) -> Iterator[None]:
    """Answer requests until the context ends; nobody can connect afterwards."""
    thread = threading.Thread(target=_Server(listener, methods).accept, name="server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.socket.shutdown(socket.SHUT_RDWR)  # accept() returns
        thread.join()


def _send_reply(connection: socket.socket, peer: _Peer, reply: Reply | RequestError) -> None:
    """In parts, of which the first that is not read in time is the last."""
    if isinstance(reply, RequestError):
        _refuse(connection, peer, str(reply), reply.kind)
        return
    try:
        rest = memoryview(reply.payload)
        while len(rest) > framing.PART:
            framing.send(connection, {"more": True}, rest[: framing.PART], patience=peer.patience)
            rest = rest[framing.PART :]
        framing.send(connection, {"result": reply.result}, rest, reply.fds, peer.patience)
    except ValueError as error:  # nothing was sent
        _refuse(connection, peer, f"the answer is too long: {error}", Kind.INTERNAL)
    finally:
        framing.close_all(reply.fds)


def _refuse(connection: socket.socket, peer: _Peer, text: str, kind: Kind) -> None:
    framing.send(connection, {"error": text, "kind": kind}, patience=peer.patience)


def _uid(connection: socket.socket) -> int:
    """The peer's user id."""
    _, uid, _ = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)
