"""Frames on the data-plane process's Unix socket.

A frame is a prefix of 12 bytes in network order (header bytes, payload bytes, descriptors, 2 bytes 0), a JSON
object as header, and the payload: any bytes. Descriptors come by SCM_RIGHTS with the prefix. Lengths are
checked before memory is taken for them. Functions block; any thread may call, one at a time a direction.
"""

import contextlib
import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_HEADER = 16 << 20
"""Bytes; the counters of 100,000 subnets are about 12 MiB of JSON."""
MAX_PAYLOAD = 256 << 20
"""Bytes; a million rows of 64 bytes fit, and a million that they replace."""
MAX_FDS = 32


class Limits(NamedTuple):
    """Of what one takes from a peer: bytes of a header and a payload, descriptors."""

    header: int
    payload: int
    fds: int


_PREFIX = struct.Struct("!IIHxx")
_PART = 1 << 20


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
) -> None:
    """Sends a frame; the receiver gets duplicates of the descriptors. ValueError: too long, nothing sent."""
    head = json.dumps(header, separators=(",", ":")).encode()
    for what, length, limit in (
        ("a header", len(head), MAX_HEADER),
        ("a payload", len(payload), MAX_PAYLOAD),
        ("descriptors", len(fds), MAX_FDS),
    ):
        if length > limit:
            raise ValueError(f"{what} of {length}, more than {limit}")
    start = _PREFIX.pack(len(head), len(payload), len(fds)) + head
    sent = socket.send_fds(connection, [start], fds) if fds else 0
    connection.sendall(memoryview(start)[sent:])
    connection.sendall(payload)


def receive(connection: socket.socket, patience: float | None = None, limits: Limits | None = None) -> Frame:
    """The next frame, however long it takes to begin; patience: seconds without a byte of one that has begun;
    limits: less than a frame may have.

    EOFError: the peer has closed between frames. WireError, or OSError of the socket: give the connection up.
    No descriptor is left open by a failure.
    """
    fds: list[int] = []
    try:
        return _receive(connection, fds, patience, limits or Limits(MAX_HEADER, MAX_PAYLOAD, MAX_FDS))
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
    connection.settimeout(patience)
    while len(prefix) < _PREFIX.size:
        part = _receive_some(connection, _PREFIX.size - len(prefix), fds)
        if not part:
            raise WireError("a frame that ends in its prefix")
        prefix += part
    header_length, payload_length, count = _PREFIX.unpack(prefix)
    if header_length > limits.header or payload_length > limits.payload:
        raise WireError(f"a header of {header_length} and a payload of {payload_length} bytes")
    if len(fds) > limits.fds:
        raise WireError(f"{len(fds)} descriptors, more than {limits.fds}")
    if count != len(fds):
        raise WireError(f"{len(fds)} descriptors came instead of {count}")
    header = _decode(_receive_exactly(connection, header_length))
    return Frame(header, _receive_exactly(connection, payload_length), tuple(fds))


def _receive_some(connection: socket.socket, length: int, fds: list[int]) -> bytes:
    """Up to `length` bytes, and the descriptors that come with them."""
    data, came, flags, _ = socket.recv_fds(connection, length, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    fds += came
    if flags & socket.MSG_CTRUNC or len(fds) > MAX_FDS:
        raise WireError(f"more descriptors than this process can take: {MAX_FDS} a frame, or its limit")
    return data


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    """Descriptors that come amid these bytes are closed by the kernel: nobody asked for them."""
    data = bytearray(length)
    rest = memoryview(data)
    while rest:
        got = connection.recv_into(rest, min(len(rest), _PART))
        if not got:
            raise WireError("a frame that ends early")
        rest = rest[got:]
    return bytes(data)


def _decode(header: bytes) -> dict[str, Any]:
    try:
        document = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a header that is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise WireError("a header that is no JSON object")
    return document
