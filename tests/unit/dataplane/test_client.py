"""What a data plane that was broken into can tell its clients: a valid value, or a ClientError in words."""

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataplane.binding.handover import Handover
from dataplane.binding.tables import ROW_FORMATS, RowKind
from dataplane.process import framing, instances
from dataplane.process.client import Client, ClientError, GoneError
from dataplane.process.protocol import Kind

PREFIX = struct.Struct("!IIHxx")
CONFIG = {
    "name": "web",
    "kind": "tap",
    "mac": "02:bb:00:00:00:10",
    "mtu": 1500,
    "offloads": ["csum"],
    "xsks": 0,
}
PORT = {"id": 1, **CONFIG, "queues": 1}
HELLO = {"pid": 7, "version": "1", "instance": "h1", "generation": 3, "workers": 1, "ports": [PORT]}
COUNTS = dict.fromkeys(
    ("received", "originated", "sent", "dropped", "consumed", "held", "rx_bytes", "tx_bytes", "rx_gso",
     "rx_csum_partial", "tx_gso", "tx_csum_partial", "rx_kernel", "icmp_limited"), 1,
)  # fmt: skip
COUNTERS = {
    **COUNTS,
    "drops": {"no-record": 1},
    "ports": {"web": {**COUNTS, "drops": {}}},
    "subnets": [
        {"virtualSubnetId": 5001, "from_port": 1, "from_port_bytes": 1, "to_port": 1, "to_port_bytes": 1}
    ],
}
STATUS = {
    "instance": "h1",
    "host": None,
    "pid": 7,
    "generation": 3,
    "underlay": {
        "device": "u1",
        "mac": "02:00:00:00:77:01",
        "mtu": 1600,
        "kind": "packet",
        "reason": "as stated",
    },
    "providerAddresses": ["192.168.77.101"],
    "tables": {"records": 1},
    "agent": {"pid": 8, "revision": 3, "state": "applied", "problems": ["web: no such device"], "store": ""},
}
NEIGHBOUR = {"address": "192.168.77.102", "mac": "02:00:00:00:77:02", "state": "known", "held": 0}
VIEW = {
    "name": "web", "id": 1, "virtualSubnetId": 5001, "mac": "", "kind": None, "reason": None, "device": None,
    "mtu": None, "queues": 0,
}  # fmt: skip
STRANGER = {"name": "web", "mac": "52:54:00:12:34:56", "received": 3, "refused": 2}
NAMES = {"hosts": {"h1": 1}, "routingDomains": {"blue": 1}, "ports": {"web": 1}, "host": "h1"}
HANDOVER = {"config": CONFIG, "held": [], "note": {"device": "eth0"}}

CALLS: dict[str, Callable[[Client], object]] = {
    "hello": Client.hello,
    "take": lambda client: close_taken(client.take(1)),
    "detach": lambda client: client.detach(1),
    "spin": lambda client: client.spin(1, False),
    "apply": lambda client: client.apply(b""),
    "rows": lambda client: client.rows(RowKind.RECORD),
    "records": Client.records,
    "routes": Client.routes,
    "verify": Client.verify,
    "rollback": Client.rollback,
    "digest": Client.digest_step,
    "names": Client.names,
    "neighbours": Client.neighbours,
    "strangers": Client.strangers,
    "ping": lambda client: client.ping_pa("192.168.77.102"),
    "status": Client.status,
    "ports": Client.ports,
    "counters": Client.counters,
}


def close_taken(handover: Handover) -> Handover:
    framing.close_all(handover.fds)
    return handover


def frame(header: bytes, payload: bytes = b"", fds: int = 0) -> bytes:
    return PREFIX.pack(len(header), len(payload), fds) + header + payload


def result(value: object, payload: bytes = b"") -> bytes:
    return frame(json.dumps({"result": value}).encode(), payload)


@contextmanager
def answered(answers: bytes, fds: tuple[int, ...] = ()) -> Iterator[Client]:
    """A client whose data plane says this, whatever is asked, and then goes."""
    ours, theirs = socket.socketpair()

    def say() -> None:
        with theirs, suppress(OSError):
            if fds:
                sent = socket.send_fds(theirs, [answers], fds)
            theirs.sendall(answers[sent if fds else 0 :])
            theirs.shutdown(socket.SHUT_WR)
            while theirs.recv(1 << 16):
                pass

    thread = threading.Thread(target=say)
    thread.start()
    client = Client.__new__(Client)
    client._socket, client._patience = ours, 5.0
    try:
        with client:
            yield client
    finally:
        thread.join(10)


def outcome(method: str, answers: bytes, fds: tuple[int, ...] = ()) -> object:
    """What the client makes of it; any exception but ClientError is the test's."""
    with answered(answers, fds) as client:
        try:
            return CALLS[method](client)
        except ClientError as error:
            assert str(error).replace("\n", "").isprintable() and len(str(error)) < 10_000
            return error


ROWS = result(None, bytes(ROW_FORMATS[RowKind.RECORD].size))
GOOD: dict[str, bytes] = {
    "hello": result(HELLO),
    "detach": result(None),
    "spin": result(None),
    "apply": result(4),
    "rows": ROWS,
    "verify": result(None),
    "rollback": result(3),
    "digest": result({kind.name: 1 << 63 for kind in RowKind}),
    "names": result(None, json.dumps(NAMES).encode()),
    "neighbours": result([NEIGHBOUR, {**NEIGHBOUR, "mac": None}]),
    "strangers": result([STRANGER]),
    "ping": result({**NEIGHBOUR, "seconds": 0.1}),
    "status": result(STATUS),
    "ports": result([VIEW]),
    "counters": result(COUNTERS),
}


@pytest.mark.parametrize("method", GOOD)
def test_what_is_asked_for_is_taken(method: str) -> None:
    found = outcome(method, GOOD[method])
    assert not isinstance(found, ClientError), found


def test_a_handover_is_taken() -> None:
    read, write = os.pipe()
    said = json.dumps({"result": HANDOVER}).encode()
    found = outcome("take", frame(said, fds=1), (write,))
    assert isinstance(found, Handover) and found.config.name == "web" and found.note == {"device": "eth0"}
    os.close(write)
    assert os.read(read, 1) == b"", "closed here, and nobody else has it"
    os.close(read)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
DOCUMENTS: list[Any] = [HELLO, STATUS, COUNTERS, [NEIGHBOUR], [VIEW], HANDOVER, NAMES]


def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with one thing in it replaced, left out or added."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        choice = draw(st.integers(0, 3))
        if choice == 0:
            return {name: each for name, each in value.items() if name != key}
        if choice == 1:
            return {**value, draw(st.text(max_size=10)): draw(json_values)}
        return {**value, key: mutated(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [mutated(draw, value[0]), *value]
    return draw(json_values)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Nearly what was asked for, or anything."""
    value = mutated(draw, draw(st.sampled_from(DOCUMENTS))) if draw(st.booleans()) else draw(json_values)
    header: object = {draw(st.sampled_from(["result", "error", "more", "kind"])): value}
    if draw(st.booleans()):
        header = {"result": value, "more": draw(json_values), "error": draw(json_values)}
    head = json.dumps(header).encode() if draw(st.booleans()) else draw(st.binary(max_size=60))
    payload = draw(st.binary(max_size=200))
    if draw(st.booleans()):
        payload = json.dumps(mutated(draw, NAMES)).encode()
    whole = frame(head, payload)
    return whole if draw(st.booleans()) else whole[: draw(st.integers(0, len(whole)))]


@given(st.sampled_from(sorted(CALLS)), st.lists(answers() | st.binary(max_size=300), max_size=5))
@example("hello", [b""])
@example("hello", [result({**HELLO, "ports": [PORT, PORT]})])
@example("status", [frame(b'{"result":' + b"[" * 5000)])
@example("status", [frame(b'{"result":{"generation":1' + b"0" * 5000 + b"}}")])
@example("counters", [frame(b'{"result":NaN}')])
@example("hello", [frame(b'{"error":"\xff"}')])
@example("hello", [frame(b'{"error":"\\u001b[2J","kind":"\\u001b"}')])
@example("hello", [frame(b'{"more":true}')] * 5)
@example("names", [result(None, b'{"hosts":{"\\u001b":1},"routingDomains":{},"ports":{},"host":null}')])
@example("rows", [result(None, bytes(7))])
@example("digest", [result({"PA": 1})])
@example("neighbours", [result([{**NEIGHBOUR, "address": "web"}])])
@example("strangers", [result([{**STRANGER, "mac": "\\u001b[2J"}])])
def test_any_answer_is_a_value_or_an_error_in_words(method: str, said: list[bytes]) -> None:
    outcome(method, b"".join(said))


@given(st.binary(max_size=400), st.binary(max_size=400), st.lists(st.integers(0, 255), max_size=8))
def test_any_rows_are_shown_or_refused(records: bytes, pas: bytes, kinds: list[int]) -> None:
    """Of records and PAs, and of what routes are made of."""

    def rows(kind: RowKind, data: bytes) -> bytes:
        size = ROW_FORMATS[kind].size
        return result(None, (data * size)[: len(data) // 8 * size])

    names = GOOD["names"]
    outcome("records", rows(RowKind.RECORD, records) + rows(RowKind.PA, pas) + names)
    tables = (RowKind.SUBNET, RowKind.PREFIX, RowKind.ROUTE, RowKind.PROVIDER_ROUTE)
    outcome("routes", b"".join(rows(kind, records + bytes(kinds)) for kind in tables) + names)


@given(st.lists(st.sampled_from(["held", "config", "note"]), unique=True), st.data())
def test_any_handover_is_one_or_refused(parts: list[str], data: st.DataObject) -> None:
    """And its descriptors are closed, or the caller's."""
    document = dict(HANDOVER)
    for part in parts:
        document[part] = data.draw(json_values)
    read, write = os.pipe()
    try:
        outcome("take", frame(json.dumps({"result": document}).encode(), fds=1), (write,))
        os.close(write)
        assert os.read(read, 1) == b""
    finally:
        os.close(read)


def test_descriptors_that_nobody_asked_for_are_closed() -> None:
    read, write = os.pipe()
    found = outcome("hello", frame(b'{"result":null}', fds=1), (write,))
    assert isinstance(found, GoneError) and "1 descriptors, more than 0" in str(found)
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)


def test_an_answer_has_an_end() -> None:
    """Parts without bytes are none, and those with them are counted."""
    more = frame(b'{"more":true}')
    assert "part of an answer of 0 bytes" in str(outcome("rows", more * 3))
    assert "a payload of 1 bytes" in str(outcome("rollback", frame(b'{"more":true}', b"x")))


def test_parts_are_not_small() -> None:
    """Else each could come just in time, for ever."""
    found = outcome("rows", frame(b'{"more":true}', b"x" * (framing.PART - 1)) + ROWS)
    assert isinstance(found, GoneError) and f"part of an answer of {framing.PART - 1} bytes" in str(found)
    size = ROW_FORMATS[RowKind.RECORD].size
    assert framing.PART % size == 0
    whole = outcome("rows", frame(b'{"more":true}', bytes(framing.PART)) + ROWS)
    assert whole == bytes(framing.PART + size)


def test_looking_at_rows_has_an_end() -> None:
    """A data plane that has always more to look at."""
    with answered(result(None) * 100_000) as client:
        client._patience = 0.2
        begun = time.monotonic()
        with pytest.raises(ClientError, match="no answer within") as found:
            client.digest()
        assert found.value.kind is Kind.BUSY
        assert time.monotonic() - begun < 3


def test_nobody_who_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data plane that hangs: whoever comes after those that wait already has to wait for them."""
    monkeypatch.setattr(instances, "RUN_DIRECTORY", tmp_path)
    path = instances.socket_path("h1")
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(GoneError, match="does not accept"):
            Client("h1", 0.1)


def test_a_refusal_moves_no_cursor_and_claims_nothing() -> None:
    found = outcome("hello", frame(b'{"error":"a\\u001b[2Jb\\u202e","kind":"gone"}'))
    assert isinstance(found, ClientError) and not isinstance(found, GoneError)
    assert (str(found), found.kind) == ("a?[2Jb?", Kind.INTERNAL)


def test_addresses_are_some() -> None:
    for method, said in (
        ("neighbours", [{**NEIGHBOUR, "address": "web"}]),
        ("status", {**STATUS, "providerAddresses": ["web"]}),
    ):
        assert "'web' does not appear to be an IPv4 or IPv6 address" in str(outcome(method, result(said)))


def test_what_the_agent_said_moves_no_cursor() -> None:
    agent = {"pid": 8, "state": "\x1b[2J", "problems": ["a\x1bb"], "waiting": ["\x1bc"], "store": "\x9b"}
    found = outcome("status", result({**STATUS, "agent": agent}))
    assert isinstance(found, dict)
    assert found["agent"] == {
        "pid": 8,
        "state": "?[2J",
        "problems": ["a?b"],
        "waiting": ["?c"],
        "store": "?",
    }
