"""The data-plane process's Unix socket, /run/isolane/<instance>/dataplane.sock.

A message is a 4-byte length in network order and that many bytes of JSON. Request: {"method", "params"};
reply: {"result"} or {"error"}: a text for the operator. Requests of a connection are answered in turn, each
connection on a thread of its own. Only root may connect: the directory and the peer's credentials see to it.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

RUN_DIRECTORY = Path("/run/isolane")
MAX_MESSAGE = 256 << 20
"""Bytes; a million records are about 200 MiB of JSON."""

_REFUSAL = {"error": "only root may ask"}

Method = Callable[..., Any]
"""Takes the request's params by keyword and returns what JSON can say. RequestError becomes the reply's
error.
"""


class RequestError(Exception):
    """Whoever sent the request must act."""


class InstanceError(Exception):
    """Whoever named the instance must act: it runs already."""


def socket_path(instance: str) -> Path:
    return RUN_DIRECTORY / instance / "dataplane.sock"


def send_message(connection: socket.socket, message: object) -> None:
    data = json.dumps(message, separators=(",", ":")).encode()
    connection.sendall(struct.pack("!I", len(data)) + data)


def receive_message(connection: socket.socket) -> Any:
    """The next message; EOFError when the peer has closed, ValueError for what is none."""
    (length,) = struct.unpack("!I", _receive(connection, 4))
    if length > MAX_MESSAGE:
        raise ValueError(f"a message of {length} bytes")
    return json.loads(_receive(connection, length))


def _receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = connection.recv(min(length - len(data), 1 << 20))
        if not part:
            raise EOFError("the peer closed the connection")
        data += part
    return bytes(data)


def _answer(methods: Mapping[str, Method], request: Any) -> dict[str, Any]:
    match request:
        case {"method": str(name), "params": dict(params)} if name in methods:
            try:
                return {"result": methods[name](**params)}
            except (RequestError, TypeError, ValueError) as error:
                return {"error": f"{name}: {error}"}
        case {"method": str(name)}:
            return {"error": f"{name}: no such method"}
    return {"error": "not a request"}


@contextlib.contextmanager
def serve(instance: str, methods: Mapping[str, Method]) -> Iterator[None]:
    """Answer requests on the instance's socket until the context ends.

    InstanceError: another process serves it; OSError: the socket can't be made.
    """
    path = socket_path(instance)
    with _locked(path.parent, instance), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_accept, args=(listener, methods), name="server", daemon=True)
        thread.start()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            listener.shutdown(socket.SHUT_RDWR)  # accept() returns
            thread.join()


def _accept(listener: socket.socket, methods: Mapping[str, Method]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_converse, args=(connection, methods), name="client", daemon=True).start()


def _converse(connection: socket.socket, methods: Mapping[str, Method]) -> None:
    with connection, contextlib.suppress(EOFError, ConnectionError):  # the client goes away
        _, uid, _ = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        while True:
            try:
                request = receive_message(connection)
            except ValueError as error:
                send_message(connection, {"error": f"not a request: {error}"})
                return
            send_message(connection, _answer(methods, request) if uid == 0 else _REFUSAL)


@contextlib.contextmanager
def _locked(directory: Path, instance: str) -> Iterator[None]:
    """The instance's directory, held by one process at a time and given up by its death."""
    fd = _lock(directory)
    if fd is None:
        raise InstanceError(f"instance {instance} is running already")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            directory.rmdir()
        os.close(fd)


def _lock(directory: Path) -> int | None:
    while True:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), directory.stat()):
                return fd
        os.close(fd)  # its last owner has removed it meanwhile
