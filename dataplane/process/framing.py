"""Frames on the data-plane process's Unix socket.

A frame is a prefix of 12 bytes in network order (header bytes, payload bytes, descriptors, 2 bytes 0), a JSON
object as header, and the payload: any bytes. Descriptors come by SCM_RIGHTS with the prefix. Lengths are
checked before memory is taken for them. Functions block; any thread may call, one at a time a direction.

Who is patient waits so long for every part of 1 MiB, not for every byte: a peer that sends, or reads, a byte
now and then is given up all the same.
"""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

MAX_HEADER = 16 << 20
"""Bytes; the counters of 100,000 subnets are about 12 MiB of JSON."""
MAX_PAYLOAD = 256 << 20
"""Bytes; a million rows of 64 bytes fit, and a million that they replace."""
MAX_FDS = 32


class Limits(NamedTuple):
    """Of what one takes from a peer: bytes of a header, of the payload that such a header may have,
    descriptors.
    """

    header: int
    payload: Callable[[Mapping[str, Any]], int]
    fds: int


def any_payload(_header: Mapping[str, Any]) -> int:
    return MAX_PAYLOAD


def no_payload(_header: Mapping[str, Any]) -> int:
    return 0


_PREFIX = struct.Struct("!IIHxx")
PART = 1 << 20
"""Bytes; but the last, also each part of a long answer."""


class WireError(Exception):
    """What came is no frame; nothing that follows on this connection can be told apart."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What came. The descriptors are the receiver's to close."""

    header: dict[str, Any]
    payload: bytes = b""
    fds: tuple[int, ...] = ()


def send(
    connection: socket.socket,
    header: Mapping[str, Any],
    payload: bytes | memoryview = b"",
    fds: Sequence[int] = (),
    patience: float | None = None,
) -> None:
    """Sends a frame; the receiver gets duplicates of the descriptors. ValueError: too long, nothing sent."""
    head = msgspec.json.encode(header)
    for what, length, limit in (
        ("a header", len(head), MAX_HEADER),
        ("a payload", len(payload), MAX_PAYLOAD),
        ("descriptors", len(fds), MAX_FDS),
    ):
        if length > limit:
            raise ValueError(f"{what} of {length}, more than {limit}")
    prefix = _PREFIX.pack(len(head), len(payload), len(fds))
    connection.settimeout(patience)
    sent = socket.send_fds(connection, [prefix], fds) if fds else 0
    for data in (memoryview(prefix)[sent:], memoryview(head), memoryview(payload)):
        for at in range(0, len(data), PART):
            connection.sendall(data[at : at + PART])  # in so much time altogether


def receive(connection: socket.socket, patience: float | None = None, limits: Limits | None = None) -> Frame:
    """The next frame, however long it takes to begin; patience: seconds for a part of one that has begun;
    limits: less than a frame may have.

    EOFError: the peer has closed between frames. WireError, or OSError of the socket: give the connection up.
    No descriptor is left open by a failure.
    """
    fds: list[int] = []
    try:
        return _receive(connection, fds, patience, limits or Limits(MAX_HEADER, any_payload, MAX_FDS))
    except BaseException:
        close_all(fds)
        raise


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _receive(connection: socket.socket, fds: list[int], patience: float | None, limits: Limits) -> Frame:
    connection.settimeout(None)
    prefix = _receive_some(connection, _PREFIX.size, fds)
    if not prefix:
        raise EOFError("the peer closed the connection")
    deadline = _Deadline(connection, patience)
    while len(prefix) < _PREFIX.size:
        deadline.near()
        part = _receive_some(connection, _PREFIX.size - len(prefix), fds)
        if not part:
            raise WireError("a frame that ends in its prefix")
        prefix += part
    header_length, payload_length, count = _PREFIX.unpack(prefix)
    if header_length > limits.header or payload_length > MAX_PAYLOAD:
        raise WireError(f"a header of {header_length} and a payload of {payload_length} bytes")
    if len(fds) > limits.fds:
        raise WireError(f"{len(fds)} descriptors, more than {limits.fds}")
    if count != len(fds):
        raise WireError(f"{len(fds)} descriptors came instead of {count}")
    header = _decode(_receive_exactly(connection, header_length, patience))
    if payload_length > limits.payload(header):
        raise WireError(f"a payload of {payload_length} bytes")
    return Frame(header, _receive_exactly(connection, payload_length, patience), tuple(fds))


class _Deadline:
    """The time in which something has to have come."""

    def __init__(self, connection: socket.socket, patience: float | None) -> None:
        self._connection = connection
        self._end = None if patience is None else time.monotonic() + patience

    def near(self) -> None:
        """The next operation takes no longer. TimeoutError."""
        if self._end is None:
            self._connection.settimeout(None)
            return
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)


def _receive_some(connection: socket.socket, length: int, fds: list[int]) -> bytes:
    """Up to `length` bytes, and the descriptors that come with them."""
    data, came, flags, _ = socket.recv_fds(connection, length, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    fds += came
    if flags & socket.MSG_CTRUNC or len(fds) > MAX_FDS:
        raise WireError(f"more descriptors than this process can take: {MAX_FDS} a frame, or its limit")
    return data


def _receive_exactly(connection: socket.socket, length: int, patience: float | None) -> bytes:
    """Descriptors that come amid these bytes are closed by the kernel: nobody asked for them."""
    data = bytearray(length)
    whole = memoryview(data)
    for at in range(0, length, PART):
        deadline, part = _Deadline(connection, patience), whole[at : at + PART]
        while part:
            deadline.near()
            got = connection.recv_into(part)
            if not got:
                raise WireError("a frame that ends early")
            part = part[got:]
    return bytes(data)


def _decode(header: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"a header that is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise WireError("a header that is no JSON object")
    return document
