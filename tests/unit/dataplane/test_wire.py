"""Frames as hostile, slow and dying clients send them: no descriptor is left, nobody else waits."""

import json
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dataplane.process import framing, instances, server
from dataplane.process.client import Client, ClientError, GoneError
from dataplane.process.methods import RequestError, takes_payload
from dataplane.process.protocol import Kind
from dataplane.process.server import Reply, serve
from tests.netns.labs import wait_until

PREFIX = struct.Struct("!IIHxx")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def conversations() -> list[threading.Thread]:
    """Threads of the server that have connections."""
    return [thread for thread in threading.enumerate() if thread.name == "client"]


@takes_payload
def keep(fds: tuple[int, ...] = (), payload: bytes = b"") -> int:
    """Takes the descriptors, to say that they came, and closes them."""
    framing.close_all(fds)
    return len(fds)


def refuse(fds: tuple[int, ...] = ()) -> None:
    raise RequestError("no")


def give(count: int) -> Reply:
    return Reply(fds=tuple(os.dup(0) for _ in range(count)))


METHODS: dict[str, Any] = {
    "echo": lambda **params: params,
    "keep": keep,
    "refuse": refuse,
    "fail": lambda **_: 1 / 0,
    "big": lambda size: Reply(payload=bytes(size)),
    "give": give,
}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(instances, "RUN_DIRECTORY", tmp_path / "run")
    wait_until(lambda: not conversations(), "earlier tests' connections are still open")
    with serve("h1", METHODS), Client("h1") as client:
        assert client.call("echo") == {}  # its thread runs
        yield client


@contextmanager
def connection() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(instances.socket_path("h1")))
        raw.settimeout(10)
        yield raw


def request(method: str, *, fds: int = 0, payload: int = 0, **params: object) -> bytes:
    """The bytes of a request that says it comes with so many descriptors."""
    header = json.dumps({"method": method, "params": params}).encode()
    return PREFIX.pack(len(header), payload, fds) + header + bytes(payload)


def in_parts(raw: socket.socket, *parts: tuple[bytes, list[int]]) -> None:
    for data, fds in parts:
        socket.send_fds(raw, [data], fds)


FOUR = [0, 0, 0, 0]
HOSTILE: dict[str, Callable[[socket.socket], object]] = {
    "no such method": lambda raw: in_parts(raw, (request("nobody", fds=4), FOUR)),
    "method that takes none": lambda raw: in_parts(raw, (request("give", fds=4, count=1), FOUR)),
    "method that refuses": lambda raw: in_parts(raw, (request("refuse", fds=4), FOUR)),
    "method that fails": lambda raw: in_parts(raw, (request("fail", fds=4), FOUR)),
    "more than said": lambda raw: in_parts(raw, (request("keep", fds=3), FOUR)),
    "fewer than said": lambda raw: in_parts(raw, (request("keep", fds=5), FOUR)),
    "most": lambda raw: in_parts(raw, (request("keep", fds=32), FOUR * 8)),
    "too many": lambda raw: in_parts(raw, (request("keep", fds=33), FOUR * 8 + [0])),
    "far too many": lambda raw: in_parts(raw, (request("keep", fds=253), [0] * 253)),
    "too many in parts": lambda raw: in_parts(
        raw, (request("keep", fds=40)[:4], [0] * 20), (request("keep", fds=40)[4:], [0] * 20)
    ),
    "prefix in parts": lambda raw: in_parts(
        raw, (request("keep", fds=4)[:4], FOUR[:2]), (request("keep", fds=4)[4:], FOUR[:2])
    ),
    "amid the header": lambda raw: in_parts(
        raw, (request("keep", fds=4)[:20], FOUR), (request("keep", fds=4)[20:], FOUR)
    ),
    "amid the payload": lambda raw: in_parts(
        raw, (request("keep", fds=4, payload=100)[:-50], FOUR), (bytes(50), FOUR)
    ),
    "no JSON": lambda raw: in_parts(raw, (PREFIX.pack(1, 0, 4) + b"{", FOUR)),
    "too long a header": lambda raw: in_parts(raw, (PREFIX.pack(framing.MAX_HEADER + 1, 0, 4), FOUR)),
    "too long a payload": lambda raw: in_parts(raw, (PREFIX.pack(2, framing.MAX_PAYLOAD + 1, 4), FOUR)),
    "ends in the prefix": lambda raw: in_parts(raw, (b"\0\0\0\2", FOUR)),
    "ends in the header": lambda raw: in_parts(raw, (request("keep", fds=4)[:-2], FOUR)),
    "ends in the payload": lambda raw: in_parts(raw, (request("keep", fds=4, payload=9)[:-2], FOUR)),
    "reply unread": lambda raw: in_parts(raw, (request("give", count=20), [])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_descriptor_is_left(client: Client, name: str) -> None:
    before = descriptors()
    for _ in range(5):
        with connection() as raw:
            HOSTILE[name](raw)
            raw.shutdown(socket.SHUT_WR)
            with suppress(EOFError, ConnectionError, framing.WireError):
                while True:
                    framing.close_all(framing.receive(raw).fds)
        wait_until(lambda: descriptors() == before, f"{descriptors() - before} descriptors are left")
    assert client.call("echo", a=1) == {"a": 1}


def test_anything_at_all_ends_its_connection_only(client: Client) -> None:
    """Requests with bytes changed, cut off, repeated; each with descriptors."""
    chance = random.Random(1)
    valid = [
        request("keep", fds=2, payload=7),
        request("give", fds=2, count=3),
        request("echo", fds=2, a=[1]),
    ]
    before = descriptors()
    for _ in range(300):
        data = bytearray(chance.choice(valid))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = data[: chance.randrange(1, len(data) + 1)] * chance.randrange(1, 3)
        with connection() as raw:
            in_parts(raw, (bytes(data), [0, 0]))
    wait_until(lambda: descriptors() == before, "descriptors are left")
    assert client.call("echo", a=1) == {"a": 1}


def test_descriptors_come_and_go_with_frames(client: Client) -> None:
    before = descriptors()
    read, write = os.pipe()
    assert client._call("keep", {}, fds=(read, write)).header == {"result": 2}
    reply = client._call("give", {"count": 32}, takes=framing.MAX_FDS)
    assert len(reply.fds) == 32
    framing.close_all((*reply.fds, read, write))
    wait_until(lambda: descriptors() == before, "descriptors are left")
    with pytest.raises(ClientError, match=r"^keep: descriptors of 33, more than 32$"):
        client._call("keep", {}, fds=(0,) * 33)
    with pytest.raises(ClientError, match=r"^keep: payload and fds are no params$"):
        client.call("keep", fds=[0, 1, 2])
    with pytest.raises(ClientError, match=r"^fail: ZeroDivisionError") as internal:
        client.call("fail")
    assert internal.value.kind == Kind.INTERNAL
    assert client.call("echo") == {}


def test_a_process_short_of_descriptors_says_so(client: Client) -> None:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connection() as raw:
        raw.sendall(request("echo"))
        assert framing.receive(raw).header == {"result": {}}
        before = descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 1, limit[1]))
        try:
            in_parts(raw, (request("keep", fds=4), FOUR))
            assert "descriptors" in framing.receive(raw).header["error"]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    wait_until(lambda: descriptors() == before - 2, "descriptors are left")


def test_a_long_payload_comes_in_several_frames(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_PAYLOAD", 1000)
    monkeypatch.setattr(framing, "PART", 1000)
    for size in (0, 1, 999, 1000, 1001, 2000, 5500):
        assert client._call("big", {"size": size}, answer=5500).payload == bytes(size)
    with pytest.raises(ClientError, match=r"^keep: a payload of 1001, more than 1000$"):
        client._call("keep", {}, bytes(1001))


def test_who_does_not_read_holds_up_nobody(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PATIENCE", 1.0)
    threads = threading.active_count()
    with connection() as deaf, connection() as slow:
        deaf.sendall(request("big", size=8 << 20))
        slow.sendall(request("echo", a=1)[:-1])
        wait_until(lambda: threading.active_count() == threads + 2, "nobody talks to them")
        assert client.call("echo", a=1) == {"a": 1}
        wait_until(lambda: threading.active_count() <= threads, "their threads still wait")
        with pytest.raises((framing.WireError, ConnectionError)):
            framing.receive(deaf)
    assert client.call("echo", a=1) == {"a": 1}


def test_connections_are_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [Client("h1") for _ in range(server.MAX_CONNECTIONS - 1)]
    assert others[-1].call("echo") == {}
    with Client("h1") as one_too_many:
        with pytest.raises(ClientError, match=r"^64 connections are open already$") as refused:
            one_too_many.call("echo")
        assert refused.value.kind == Kind.BUSY
    for _ in range(20):
        Client("h1").close()  # not even there to be refused
    others.pop().close()

    def fits() -> bool:
        with Client("h1") as another, suppress(ClientError):
            return bool(another.call("echo") == {})
        return False

    wait_until(fits, "its place is not free")
    for other in others:
        other.close()


def test_a_dead_server_is_gone_not_wrong(client: Client) -> None:
    here, there = socket.socketpair()
    client._socket.close()
    client._socket = here
    there.close()
    with pytest.raises(GoneError):
        client.call("echo")
