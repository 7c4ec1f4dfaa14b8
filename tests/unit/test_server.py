"""The data-plane process's socket and its client."""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dataplane import server
from dataplane.client import Client, ClientError
from dataplane.server import InstanceError, RequestError, serve


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(server, "RUN_DIRECTORY", tmp_path / "run")
    return tmp_path / "run"


def refuse(what: str) -> None:
    raise RequestError(f"no {what}")


METHODS: dict[str, Any] = {"echo": lambda **params: params, "refuse": refuse, "big": lambda size: "x" * size}


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
        client.call("refuse", other=1)
    assert client.call("echo", a=1) == {"a": 1}


@pytest.mark.parametrize(
    "request_bytes", [b"[]", b"{}", b'{"method": 1, "params": {}}', b'{"method": "echo"}', b"{"]
)
def test_what_is_no_request_is_refused(client: Client, request_bytes: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(server.socket_path("h1")))
        raw.sendall(struct.pack("!I", len(request_bytes)) + request_bytes)
        assert "error" in server.receive_message(raw)


def test_length_is_bounded(client: Client) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(server.socket_path("h1")))
        raw.sendall(struct.pack("!I", server.MAX_MESSAGE + 1))
        assert "a message of" in server.receive_message(raw)["error"]
        assert raw.recv(1) == b""


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


def test_only_root_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    with TemporaryDirectory() as directory, monkeypatch.context() as patch:
        patch.setattr(server, "RUN_DIRECTORY", Path(directory))
        with serve("h1", METHODS):
            for path in (
                Path(directory),
                *Path(directory).rglob("*"),
            ):  # the lock on the door is not the only one
                path.chmod(0o777)
            assert words_to_a_stranger() == "only root may ask"


def words_to_a_stranger() -> str:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            with Client("h1") as stranger:
                stranger.call("echo")
        except ClientError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as words:
        text = words.read()
    os.waitpid(pid, 0)
    return text


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


def test_messages_are_length_framed_json() -> None:
    here, there = socket.socketpair()
    with here, there:
        server.send_message(here, {"a": 1})
        assert there.recv(100) == b'\0\0\0\x07{"a":1}'
        there.sendall(b"\0\0\0\x02[]")
        assert server.receive_message(here) == json.loads("[]")
