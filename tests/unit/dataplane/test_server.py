"""The data-plane process's socket and its client."""

import contextlib
import os
import select
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane.binding.core import Config
from dataplane.process import framing, instances, server
from dataplane.process.client import Client, ClientError
from dataplane.process.instances import InstanceError
from dataplane.process.methods import RequestError, read_only, takes_payload
from dataplane.process.protocol import Kind
from dataplane.process.server import Reply, serve
from dataplane.process.service import Service


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(instances, "RUN_DIRECTORY", tmp_path / "run")
    return tmp_path / "run"


def refuse(what: str) -> None:
    raise RequestError(f"no {what}")


METHODS: dict[str, Any] = {
    "echo": lambda **params: params,
    "refuse": refuse,
    "big": lambda size: "x" * size,
    "mistaken": lambda: len(3),  # type: ignore[arg-type]
    "wrong": lambda: int("x"),
    "sink": takes_payload(lambda payload=b"": len(payload)),
}


@pytest.fixture
def client() -> Iterator[Client]:
    with serve("h1", METHODS), Client("h1") as client:
        yield client


def test_calls_are_answered_in_turn(client: Client) -> None:
    assert client.call("echo", a=1, b=["ü", None]) == {"a": 1, "b": ["ü", None]}
    assert client.call("big", size=3_000_000) == "x" * 3_000_000
    assert client.call("echo") == {}


def test_errors_are_the_servers_words_and_end_nothing(client: Client) -> None:
    with pytest.raises(ClientError, match=r"^refuse: no records$"):
        client.call("refuse", what="records")
    with pytest.raises(ClientError, match=r"^nonsense: no such method$"):
        client.call("nonsense")
    with pytest.raises(ClientError, match=r"^refuse: .*unknown field `other`"):
        client.call("refuse", what="records", other=1)
    with pytest.raises(ClientError, match=r"^refuse: Expected `str`, got `int` - at `\$.what`"):
        client.call("refuse", what=3)
    with pytest.raises(ClientError, match=r"^refuse: .*missing required field `what`"):
        client.call("refuse")
    with pytest.raises(ClientError, match=r"^wrong: ValueError: ") as wrong:
        client.call("wrong")
    assert wrong.value.kind == Kind.INTERNAL, "nor here"
    with pytest.raises(ClientError, match=r"^mistaken: TypeError: ") as caught:
        client.call("mistaken")
    assert caught.value.kind == Kind.INTERNAL, "the client has made no mistake"
    assert client.call("echo", a=1) == {"a": 1}


def test_a_payload_is_for_those_who_take_one(client: Client) -> None:
    """Known before it is in memory."""
    assert client._call("sink", {}, bytes(1 << 20)).header["result"] == 1 << 20
    with pytest.raises(ClientError, match=r"^not a request: a payload of 2097152 bytes$"):
        client._call("echo", {}, bytes(2 << 20))


@pytest.fixture
def raw(client: Client) -> Iterator[socket.socket]:
    """A connection that says what it likes."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(instances.socket_path("h1")))
        raw.settimeout(10)
        yield raw


@pytest.mark.parametrize("header", [{}, {"method": 1, "params": {}}, {"method": "echo"}, {"method": []}])
def test_what_is_no_request_is_refused(raw: socket.socket, header: dict[str, Any]) -> None:
    framing.send(raw, header)
    assert framing.receive(raw).header["kind"] == "request"
    framing.send(raw, {"method": "echo", "params": {"a": 1}})  # it was a frame: the connection goes on
    assert framing.receive(raw).header == {"result": {"a": 1}}


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (
            struct.pack("!IIHxx", framing.MAX_HEADER + 1, 0, 0),
            "a header of 16777217 and a payload of 0 bytes",
        ),
        (struct.pack("!IIHxx", 2, framing.MAX_PAYLOAD + 1, 0), "a payload of 268435457 bytes"),
        (struct.pack("!IIHxx", 2, 0, 1) + b"{}", "0 descriptors came instead of 1"),
        (struct.pack("!IIHxx", 1, 0, 0) + b"{", "no JSON"),
        (struct.pack("!IIHxx", 2, 0, 0) + b"[]", "no JSON object"),
        (struct.pack("!IIHxx", 3, 0, 0) + b'"\xff"', "no JSON"),
        (struct.pack("!IIHxx", 1 << 20, 0, 0) + b"[" * (1 << 20), "no JSON"),
        (b"\xff" * 12, "bytes"),
    ],
)
def test_what_is_no_frame_ends_its_connection_only(
    client: Client, raw: socket.socket, frame: bytes, text: str
) -> None:
    raw.sendall(frame)
    reply = framing.receive(raw).header
    assert (reply["kind"], text in reply["error"]) == ("request", True), reply
    with pytest.raises((EOFError, ConnectionResetError)):  # reset: not all of it was read
        framing.receive(raw)
    assert client.call("echo", a=1) == {"a": 1}


def test_clients_do_not_wait_for_each_other() -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        leave.wait(10)

    with serve("h1", {**METHODS, "wait": wait}), Client("h1") as one, Client("h1") as other:
        thread = threading.Thread(target=one.call, args=("wait",))
        thread.start()
        entered.wait(10)
        assert other.call("echo", a=1) == {"a": 1}
        leave.set()
        thread.join()


@pytest.mark.parametrize(
    ("user", "method", "words"),
    [
        ("isolane", "look", "only root may ask"),
        ("nobody", "echo", "echo: only root may ask for this"),
        ("nobody", "nonsense", "nonsense: no such method"),
        ("nobody", "look", "seen"),
    ],
)
def test_only_root_may_ask_for_all(
    monkeypatch: pytest.MonkeyPatch, user: str, method: str, words: str
) -> None:
    """user: who may look. Nobody asks."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")

    @read_only
    def look() -> str:
        return "seen"

    with TemporaryDirectory() as directory, monkeypatch.context() as patch:
        patch.setattr(instances, "RUN_DIRECTORY", Path(directory))
        patch.setattr(instances, "USER", user)
        with serve("h1", {**METHODS, "look": look}):
            for path in (
                Path(directory),
                *Path(directory).rglob("*"),
            ):  # the lock on the door is not the only one
                path.chmod(0o777)
            assert words_to_nobody(method) == words
            with Client("h1") as root:
                assert (root.call("look"), root.call("echo", a=1)) == ("seen", {"a": 1})


def words_to_nobody(method: str, **params: object) -> str:
    return as_nobody(lambda: Client("h1").call(method, **params))


def as_nobody(body: Callable[[], object]) -> str:
    """What it returns or raises, in a process of that user."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            os.write(write, str(body()).encode())
        except ClientError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as words:
        text = words.read()
    os.waitpid(pid, 0)
    return text


TABLE = bytes(16 << 20)


@read_only
def look_at_rows() -> Reply:
    return Reply(payload=TABLE)


@pytest.fixture
def nobody_may_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    with TemporaryDirectory() as directory:
        monkeypatch.setattr(instances, "RUN_DIRECTORY", Path(directory))
        monkeypatch.setattr(instances, "USER", "nobody")
        monkeypatch.setattr(server, "USER_PATIENCE", 0.5)
        monkeypatch.setattr(server, "TURN_PATIENCE", 0.1)
        Path(directory).chmod(0o755)
        with serve("h1", {**METHODS, "rows": look_at_rows, "look": read_only(lambda **_: "seen")}):
            for path in Path(directory).rglob("*"):
                path.chmod(0o777)
            yield


@pytest.mark.usefixtures("nobody_may_look")
def test_who_only_looks_asks_briefly() -> None:
    """What a request has in memory before it is understood is bounded by who asks."""
    assert words_to_nobody("look", text="x" * 60_000) == "seen"
    assert "not a request: a header of" in words_to_nobody("look", text="x" * 70_000)
    payload = as_nobody(lambda: Client("h1")._call("look", {}, b"x").header)
    assert "not a request: a payload of 1 bytes" in payload
    with Client("h1") as root:
        assert root.call("look", text="x" * 70_000) == "seen"


@pytest.mark.usefixtures("nobody_may_look")
def test_who_only_looks_has_few_answers_in_memory() -> None:
    """Who reads a byte now and then is dropped like one who reads none; others of the user wait meanwhile,
    but not root.
    """

    def ask_and_read_slowly() -> str:
        slow = [Client("h1") for _ in range(server.USER_ANSWERS)]
        for each in slow:
            framing.send(each._socket, {"method": "rows", "params": {}})
            each._socket.recv(1, socket.MSG_PEEK)  # it is being answered
        said, end = [], time.monotonic() + 10
        while time.monotonic() < end:
            for each in slow[1:]:
                each._socket.recv(1)
            try:
                said.append(str(len(Client("h1")._call("rows", {}, answer=1 << 30).payload)))
                break
            except ClientError as error:
                said.append(str(error))
        return ", then ".join(sorted(set(said), reverse=True))

    assert as_nobody(ask_and_read_slowly) == f"others of this user are being answered, then {16 << 20}"
    with Client("h1") as root:
        assert len(root._call("rows", {}, answer=1 << 30).payload) == 16 << 20


@pytest.mark.usefixtures("nobody_may_look")
def test_readers_share_what_they_read() -> None:
    """The memory of many who read slowly is that of one, and of what lies in their sockets."""
    readers = [Client("h1") for _ in range(40)]
    tracemalloc.start()
    try:
        for reader in readers:
            framing.send(reader._socket, {"method": "rows", "params": {}})
            reader._socket.recv(1, socket.MSG_PEEK)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
        for reader in readers:
            reader.close()


@pytest.mark.usefixtures("nobody_may_look")
def test_who_asks_slowly_is_dropped() -> None:
    """A byte before each is due, and never the whole request."""

    def ask() -> str:
        slow = Client("h1")
        begun = time.monotonic()
        slow._socket.sendall(struct.pack("!IIHxx", 60_000, 0, 0))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while not select.select([slow], [], [], 0.05)[0] and time.monotonic() < begun + 10:
                slow._socket.sendall(b" ")
        return "dropped" if time.monotonic() < begun + 5 else "still there"

    assert as_nobody(ask) == "dropped"


def test_an_instance_runs_once_and_leaves_nothing(run_directory: Path) -> None:
    with serve("h1", METHODS):
        with pytest.raises(InstanceError, match=r"^instance h1 is running already$"), serve("h1", METHODS):
            pytest.fail("a second one ran")
        with Client("h1") as client:
            assert client.call("echo") == {}
    assert list(run_directory.iterdir()) == []
    with pytest.raises(ClientError, match=r"^no isolane runs as instance h1: .*No such file"):
        Client("h1")


def test_what_a_crash_left_is_taken_over() -> None:
    path = instances.socket_path("h1")
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ClientError, match="Connection refused"):
        Client("h1")
    with serve("h1", METHODS), Client("h1") as client:
        assert client.call("echo") == {}


def test_a_server_that_goes_away_is_an_error() -> None:
    with serve("h1", METHODS):
        client = Client("h1")
    client._socket.shutdown(socket.SHUT_RDWR)
    with client, pytest.raises(ClientError, match=r"^echo: the data plane closed the connection"):
        client.call("echo")


def test_what_may_be_looked_at_changes_nothing() -> None:
    """Every method of the data plane, so that a new one is thought of."""
    methods = Service("h1", Mock(), Config(1, bytes(6), (1, 2))).methods
    assert {name for name, method in methods.items() if not hasattr(method, "read_only")} == {
        "memory",
        "attach",
        "spin",
        "take",
        "detach",
        "apply",
        "verify",
        "rollback",
        "digest_step",
        "set_names",
        "report",
        "announce",
        "ping_pa",
    }
