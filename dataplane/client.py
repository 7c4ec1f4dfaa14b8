"""The other end of the data-plane process's socket."""

import contextlib
import json
import select
import socket
from collections.abc import Mapping
from typing import Any, Self, TypedDict

from dataplane import server, views, wire
from dataplane.core import PortConfig
from dataplane.handover import Handover
from dataplane.server import Kind
from dataplane.tables import RowKind
from dataplane.views import Names


class ClientError(Exception):
    """Whoever asked must act: no such instance, not allowed, or the request can't be met.

    kind: of a refusal, one of server.Kind; else "gone".
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class GoneError(ClientError):
    """The data-plane process is not there, or ended amid the call: whether it was carried out is unknown."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "gone")


class PortSummary(TypedDict):
    """kind: tap or packet; offloads: of csum, tso4, tso6."""

    id: int
    name: str
    kind: str
    mac: str
    mtu: int
    offloads: list[str]
    queues: int


class Hello(TypedDict):
    """What runs; ports are sorted by id."""

    pid: int
    version: str
    instance: str
    generation: int
    workers: int
    ports: list[PortSummary]


MAX_ANSWER = 2 << 30
"""Bytes: ten million rows and more."""


class Client:
    """A connection to an instance; calls are answered in turn. One thread at a time.

    Every method: ClientError in the process's own words, GoneError when it went away. patience: seconds for a
    reply to begin, else ClientError.
    """

    def __init__(self, instance: str, patience: float | None = None) -> None:
        self._patience = patience
        path = server.socket_path(instance)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            if isinstance(error, PermissionError):
                raise ClientError(f"{path}: only root may ask: run this as root", "not-allowed") from None
            raise GoneError(f"no isolane runs as instance {instance}: {path}: {error.strerror}") from None

    def close(self) -> None:
        self._socket.close()

    def hang_up(self) -> None:
        """By any thread: whoever waits for the end of the connection sees it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def fileno(self) -> int:
        """Readable between calls only when the process has gone."""
        return self._socket.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, **params: object) -> Any:
        """The result of a method that takes and gives nothing but JSON."""
        return self._call(method, params).header["result"]

    # ---- ports

    def hello(self) -> Hello:
        hello: Hello = self.call("hello")
        return hello

    def attach(
        self,
        port: int,
        config: PortConfig,
        held: Mapping[str, int] | None = None,
        note: object = None,
        *,
        replace: bool = False,
    ) -> None:
        """Gives port id `port` a device. Descriptors are duplicated over: the caller's stay its own.

        held: further descriptors to keep open as long as the port is attached. note: what JSON can say; both
        come back by take(). replace: in place of what the port has, which stays if this is refused.
        """
        handover = Handover(config, held or {}, note)
        self._call("attach", {"port": port, **handover.encode(), "replace": replace}, fds=handover.fds)

    def take(self, port: int) -> Handover:
        """What attach() gave, with descriptors of the caller's own, to close when it is done with them.

        The port stays attached and forwards on: whoever dies in between, nothing is lost.
        """
        frame = self._call("take", {"port": port}, takes=wire.MAX_FDS)
        try:
            return Handover.decode(frame.header["result"], frame.fds)
        except BaseException:
            wire.close_all(frame.fds)
            raise

    def detach(self, port: int) -> None:
        """Takes a port's device away and closes the process's descriptors of it; its rows stay."""
        self.call("detach", port=port)

    # ---- policy

    def apply(self, change_set: bytes) -> int:
        """Applies an encoded ChangeSet (up to wire.MAX_PAYLOAD bytes), whole or not at all; the generation
        afterwards. kind "change-set": refused, the text names section and row.
        """
        generation: int = self._call("apply", {}, change_set).header["result"]
        return generation

    def generation(self) -> int:
        """Of the last change set applied."""
        return self.hello()["generation"]

    def rows(self, kind: RowKind) -> bytes:
        """All rows of a kind as the tables hold them, packed, in any order (`tables.unpack_rows`)."""
        return self._call("rows", {"kind": kind}).payload

    def verify(self) -> None:
        """The rows of the last change set applied are read back. kind "change-set": one is not as it says,
        the text names section and row; then there is rollback().
        """
        self.call("verify")

    def rollback(self) -> int:
        """The last change set is taken back, if it is not verified; the generation afterwards."""
        generation: int = self.call("rollback")
        return generation

    def digest_step(self, anew: bool = False) -> dict[RowKind, int] | None:
        """Has the process look at some more rows: None, or the digests of all that it holds now, as
        `tables.digest` makes them. anew: every row is looked at, not just what changed since the last time.
        """
        digests: dict[str, int] | None = self.call("digest_step", anew=anew)
        return None if digests is None else {RowKind[name]: value for name, value in digests.items()}

    def digest(self) -> dict[RowKind, int]:
        """Of all rows anew, in many steps."""
        found = self.digest_step(anew=True)
        while found is None:
            found = self.digest_step()
        return found

    def set_names(self, names: Names) -> None:
        """What ids in rows are called; kept until the process ends, used for what operators see."""
        self._call("set_names", {}, json.dumps(names).encode())

    def names(self) -> Names:
        """What set_names() said last; all empty before."""
        names: Names = json.loads(self._call("names", {}).payload)
        return names

    def report(self, report: Mapping[str, Any]) -> None:
        """What an agent says of itself, for status()."""
        self.call("report", report=report)

    # ---- neighbours of the underlay

    def announce(self) -> None:
        """Announces every local PA and asks for every provider next hop in use."""
        self.call("announce")

    def neighbours(self) -> list[dict[str, Any]]:
        """Provider next hops: {"address", "mac" | None, "state", "held"}, sorted by address."""
        neighbours: list[dict[str, Any]] = self.call("neighbours")
        return neighbours

    def ping_pa(self, address: str, seconds: float = 3.5) -> dict[str, Any]:
        """Resolves a provider next hop now: its neighbour, and the "seconds" it took."""
        neighbour: dict[str, Any] = self.call("ping_pa", address=address, seconds=seconds)
        return neighbour

    # ---- what `isolane node` shows, in the form that `-o json` prints

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.call("status")
        return status

    def ports(self) -> list[dict[str, Any]]:
        ports: list[dict[str, Any]] = self.call("ports")
        return ports

    def counters(self) -> dict[str, Any]:
        """The sum over all ports, and each port's; of subnets what their tenant ports sent and got."""
        counters: dict[str, Any] = self.call("counters")
        return counters

    def records(self) -> list[dict[str, Any]]:
        return views.records(self.rows(RowKind.RECORD), self.rows(RowKind.PA), self.names())

    def routes(self) -> dict[str, list[dict[str, Any]]]:
        tables = {
            kind: self.rows(kind)
            for kind in (RowKind.SUBNET, RowKind.PREFIX, RowKind.ROUTE, RowKind.PROVIDER_ROUTE)
        }
        return views.routes(tables, self.names())

    def _call(
        self,
        method: str,
        params: Mapping[str, object],
        payload: bytes = b"",
        fds: tuple[int, ...] = (),
        takes: int = 0,
    ) -> wire.Frame:
        """The reply; descriptors in it, up to `takes`, are the caller's. Its payload may come in several
        frames. Whoever answers may have been broken into: nothing is taken that was not asked for.
        """
        limits = wire.Limits(wire.MAX_HEADER, wire.MAX_PAYLOAD, takes)
        try:
            with contextlib.suppress(BrokenPipeError):  # why may stand in a last reply
                wire.send(self._socket, {"method": method, "params": params}, payload, fds)
            self._await_reply(method)
            frame = wire.receive(self._socket, self._patience, limits)
            parts, length = [frame.payload], len(frame.payload)
            while frame.header.get("more"):
                wire.close_all(frame.fds)
                frame = wire.receive(self._socket, self._patience, limits)
                parts.append(frame.payload)
                length += len(frame.payload)
                if length > MAX_ANSWER:
                    raise wire.WireError(f"an answer of more than {MAX_ANSWER} bytes")
        except ValueError as error:
            raise ClientError(f"{method}: {error}", "request") from None
        except (OSError, EOFError, wire.WireError) as error:
            self.close()
            raise GoneError(f"{method}: the data plane closed the connection: {error}") from None
        if "result" not in frame.header:
            wire.close_all(frame.fds)
            text = str(frame.header.get("error", f"{method}: no answer"))
            raise ClientError(text, str(frame.header.get("kind", Kind.INTERNAL)))
        return wire.Frame(frame.header, parts[0] if len(parts) == 1 else b"".join(parts), frame.fds)

    def _await_reply(self, method: str) -> None:
        if self._patience is None:
            return
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        if not poller.poll(self._patience * 1000):
            self.close()  # a late reply would be taken for that of the next call
            text = f"{method}: no answer within {self._patience:g} s: the data plane hangs, or has much to do"
            raise ClientError(text, Kind.BUSY)
