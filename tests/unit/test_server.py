"""The data-plane process's socket and its client."""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import Mock

import pytest

from dataplane import client as client_module
from dataplane import server, wire
from dataplane.client import Client, ClientError, GoneError
from dataplane.process import Service
from dataplane.server import InstanceError, Kind, Reply, RequestError, looks_only, of_tables, serve


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(server, "RUN_DIRECTORY", tmp_path / "run")
    return tmp_path / "run"


def refuse(what: str) -> None:
    raise RequestError(f"no {what}")


METHODS: dict[str, Any] = {
    "echo": lambda **params: params,
    "refuse": refuse,
    "big": lambda size: "x" * size,
    "mistaken": lambda: len(3),  # type: ignore[arg-type]
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
    with pytest.raises(ClientError, match=r"^refuse: .*unexpected keyword"):
        client.call("refuse", what="records", other=1)
    with pytest.raises(ClientError, match=r"^mistaken: TypeError: ") as caught:
        client.call("mistaken")
    assert caught.value.kind == Kind.INTERNAL, "the client has made no mistake"
    assert client.call("echo", a=1) == {"a": 1}


def test_what_was_not_asked_for_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an agent from a data plane that was broken into."""
    (read, write) = os.pipe()
    methods = {"leak": lambda: Reply(fds=(write,)), "long": lambda: Reply(payload=bytes(5000)), **METHODS}
    monkeypatch.setattr(client_module, "MAX_ANSWER", 4000)
    monkeypatch.setattr(wire, "MAX_PAYLOAD", 1000)
    with serve("h1", methods):
        with Client("h1") as client, pytest.raises(GoneError, match="1 descriptors, more than 0"):
            client.call("leak")
        assert os.read(read, 1) == b"", "nobody holds its other end"
        with Client("h1") as client, pytest.raises(GoneError, match="an answer of more than 4000 bytes"):
            client.call("long")
        with Client("h1") as client:
            monkeypatch.setattr(server, "_send_reply", lambda to, _: wire.send(to, {"results": 1}))
            with pytest.raises(ClientError, match=r"^echo: no answer$"):
                client.call("echo")
    os.close(read)


@pytest.fixture
def raw(client: Client) -> Iterator[socket.socket]:
    """A connection that says what it likes."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(server.socket_path("h1")))
        raw.settimeout(10)
        yield raw


@pytest.mark.parametrize("header", [{}, {"method": 1, "params": {}}, {"method": "echo"}, {"method": []}])
def test_what_is_no_request_is_refused(raw: socket.socket, header: dict[str, Any]) -> None:
    wire.send(raw, header)
    assert wire.receive(raw).header["kind"] == "request"
    wire.send(raw, {"method": "echo", "params": {"a": 1}})  # it was a frame: the connection goes on
    assert wire.receive(raw).header == {"result": {"a": 1}}


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (struct.pack("!IIHxx", wire.MAX_HEADER + 1, 0, 0), "a header of 16777217 and a payload of 0 bytes"),
        (struct.pack("!IIHxx", 2, wire.MAX_PAYLOAD + 1, 0), "a payload of 268435457 bytes"),
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
    reply = wire.receive(raw).header
    assert (reply["kind"], text in reply["error"]) == ("request", True), reply
    with pytest.raises((EOFError, ConnectionResetError)):  # reset: not all of it was read
        wire.receive(raw)
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

    @looks_only
    def look() -> str:
        return "seen"

    with TemporaryDirectory() as directory, monkeypatch.context() as patch:
        patch.setattr(server, "RUN_DIRECTORY", Path(directory))
        patch.setattr(server, "USER", user)
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


@looks_only
@of_tables
def look_at_rows() -> Reply:
    return Reply(payload=bytes(16 << 20))


@pytest.fixture
def nobody_may_look(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    with TemporaryDirectory() as directory:
        monkeypatch.setattr(server, "RUN_DIRECTORY", Path(directory))
        monkeypatch.setattr(server, "USER", "nobody")
        monkeypatch.setattr(server, "PATIENCE", 0.5)
        monkeypatch.setattr(server, "TURN_PATIENCE", 0.1)
        Path(directory).chmod(0o755)
        with serve("h1", {**METHODS, "rows": look_at_rows, "look": looks_only(lambda **_: "seen")}):
            for path in Path(directory).rglob("*"):
                path.chmod(0o777)
            yield


@pytest.mark.usefixtures("nobody_may_look")
def test_who_only_looks_asks_briefly() -> None:
    """What a request has in memory before it is understood is bounded by who asks."""
    assert words_to_nobody("look", text="x" * 60_000) == "seen"
    assert "not a request: a header of" in words_to_nobody("look", text="x" * 70_000)
    payload = as_nobody(lambda: Client("h1")._call("look", {}, b"x").header)
    assert "not a request: a header of" in payload and "a payload of 1 bytes" in payload
    with Client("h1") as root:
        assert root.call("look", text="x" * 70_000) == "seen"


@pytest.mark.usefixtures("nobody_may_look")
def test_who_only_looks_has_one_table_in_memory() -> None:
    """Who does not read on is dropped, and meanwhile others of the user wait, but not root."""

    def ask_and_read_nothing() -> str:
        slow = Client("h1")
        wire.send(slow._socket, {"method": "rows", "params": {}})
        slow._socket.recv(1, socket.MSG_PEEK)  # it is being answered
        said, end = set(), time.monotonic() + 10
        while time.monotonic() < end:
            try:
                said.add(str(len(Client("h1")._call("rows", {}).payload)))
                break
            except ClientError as error:
                said.add(str(error))
        return ", then ".join(sorted(said, reverse=True))

    assert as_nobody(ask_and_read_nothing) == f"others of this user are being answered, then {16 << 20}"
    with Client("h1") as root:
        assert len(root._call("rows", {}).payload) == 16 << 20


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
    path = server.socket_path("h1")
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
    methods = Service("h1", Mock(), 1).methods
    assert {name for name, method in methods.items() if not hasattr(method, "looks_only")} == {
        "attach",
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
