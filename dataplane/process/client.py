"""The other end of the data-plane process's socket."""

import contextlib
import math
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, NoReturn, Self, TypeVar

import msgspec

from dataplane.binding.core import PortConfig
from dataplane.binding.handover import Handover
from dataplane.binding.tables import ROW_FORMATS, RowKind
from dataplane.process import framing, instances, protocol, views
from dataplane.process.protocol import (
    AllCounters,
    Count,
    Found,
    Hello,
    Kind,
    Names,
    NeighbourView,
    PortView,
    ProtocolError,
    Status,
    StrangerView,
)
from dataplane.process.text import printable

_T = TypeVar("_T")
_SHORT = 1 << 20
"""Bytes of a header, where it is not that of counters or of a long list."""


class ClientError(Exception):
    """Whoever asked must act: no such instance, not allowed, or the request can't be met.

    kind: of a refusal, one of protocol.Kind; else "gone".
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


class GoneError(ClientError):
    """The data-plane process is not there, or ended amid the call: whether it was carried out is unknown."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "gone")


class Client:
    """A connection to an instance; calls are answered in turn. One thread at a time.

    Every method: ClientError in the process's own words, GoneError when it went away or answers what was not
    asked for: it may have been broken into. patience: seconds for a reply to begin, and for every MiB of it,
    else ClientError.
    """

    def __init__(self, instance: str, patience: float | None = None) -> None:
        self._patience = patience
        path = instances.socket_path(instance)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connect(str(path))
        except OSError as error:
            self._socket.close()
            if isinstance(error, BlockingIOError):
                raise GoneError(f"{path}: the data plane does not accept connections") from None
            if isinstance(error, PermissionError):
                raise ClientError(f"{path}: only root may ask: run this as root", "not-allowed") from None
            raise GoneError(f"no isolane runs as instance {instance}: {path}: {error.strerror}") from None

    def _connect(self, path: str) -> None:
        """BlockingIOError: too many wait to be accepted, for longer than our patience."""
        self._limit_connecting(self._patience or 0.0)
        self._socket.connect(path)
        self._limit_connecting(0.0)

    def _limit_connecting(self, seconds: float) -> None:
        """0: for ever."""
        whole, rest = divmod(seconds, 1)
        limit = struct.pack("ll", int(whole), int(rest * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

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
        """The result of a method that takes and gives nothing but JSON, whatever it is."""
        return self._call(method, params, header=framing.MAX_HEADER).header["result"]

    def _get(self, method: str, type_: type[_T], *, header: int = _SHORT, **params: object) -> _T:
        """A result of that type, in a header of so many bytes at most."""
        result = self._call(method, params, header=header).header["result"]
        with self._understood(method):
            return protocol.checked(result, type_)

    @contextlib.contextmanager
    def _understood(self, method: str) -> Iterator[None]:
        """What is said in here is not what was asked for."""
        try:
            yield
        except (ProtocolError, ValueError, KeyError) as error:
            self._give_up(method, f"answers what was not asked for: {error}")

    def _give_up(self, method: str, why: str) -> NoReturn:
        self.close()
        raise GoneError(f"{method}: the data plane {printable(why, 300)}") from None

    # ---- ports

    def hello(self) -> Hello:
        """What runs. No two ports have an id or a name in common."""
        hello = self._get("hello", Hello)
        with self._understood("hello"):
            for key in ("id", "name"):
                if len({port[key] for port in hello["ports"]}) < len(hello["ports"]):
                    raise ProtocolError(f"two ports of the same {key}")
        return hello

    def memory(self) -> int:
        """A descriptor of what packets lie in, the caller's: AF_XDP sockets that are attached are of it."""
        frame = self._call("memory", {}, takes=1)
        with self._understood("memory"):
            if len(frame.fds) != 1:
                raise ProtocolError(f"{len(frame.fds)} descriptors")
        return frame.fds[0]

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

    def spin(self, port: int, on: bool) -> None:
        """Whether idle workers may look on for the port's packets before they sleep; nothing is lost."""
        self._get("spin", type(None), port=port, on=on)

    def take(self, port: int) -> Handover:
        """What attach() gave, with descriptors of the caller's own, to close when it is done with them.

        The port stays attached and forwards on: whoever dies in between, nothing is lost.
        """
        frame = self._call("take", {"port": port}, takes=framing.MAX_FDS)
        try:
            with self._understood("take"):
                return Handover.decode(frame.header["result"], frame.fds)
        except BaseException:
            framing.close_all(frame.fds)
            raise

    def detach(self, port: int) -> None:
        """Takes a port's device away and closes the process's descriptors of it; its rows stay."""
        self._get("detach", type(None), port=port)

    # ---- policy

    def apply(self, change_set: bytes) -> int:
        """Applies an encoded ChangeSet (up to wire.MAX_PAYLOAD bytes), whole or not at all; the generation
        afterwards. kind "change-set": refused, the text names section and row.
        """
        result = self._call("apply", {}, change_set).header["result"]
        with self._understood("apply"):
            return protocol.checked(result, Count)

    def generation(self) -> int:
        """Of the last change set applied."""
        return self.hello()["generation"]

    def rows(self, kind: RowKind) -> bytes:
        """All rows of a kind as the tables hold them, packed, in any order (`tables.unpack_rows`)."""
        size = ROW_FORMATS[kind].size
        rows = self._call("rows", {"kind": kind}, answer=protocol.MAX_ANSWER).payload
        if len(rows) % size:
            self._give_up("rows", f"answers {len(rows)} bytes, in rows of {size}")
        return rows

    def verify(self) -> None:
        """The rows of the last change set applied are read back. kind "change-set": one is not as it says,
        the text names section and row; then there is rollback().
        """
        self._get("verify", type(None))

    def rollback(self) -> int:
        """The last change set is taken back, if it is not verified; the generation afterwards."""
        return self._get("rollback", Count)

    def digest_step(self, anew: bool = False) -> dict[RowKind, int] | None:
        """Has the process look at some more rows: None, or the digests of all that it holds now, as
        `tables.digest` makes them. anew: every row is looked at, not just what changed since the last time.
        """
        result = self._call("digest_step", {"anew": anew}).header["result"]
        with self._understood("digest_step"):
            return protocol.digests(result)

    def digest(self) -> dict[RowKind, int]:
        """Of all rows anew, in many steps: all of them within our patience."""
        end = math.inf if self._patience is None else time.monotonic() + self._patience
        found = self.digest_step(anew=True)
        while found is None:
            if time.monotonic() > end:
                self._hangs("digest")
            found = self.digest_step()
        return found

    def set_names(self, names: Names) -> None:
        """What ids in rows are called; kept until the process ends, used for what operators see."""
        self._call("set_names", {}, msgspec.json.encode(names))

    def names(self) -> Names:
        """What set_names() said last; all empty before."""
        payload = self._call("names", {}, answer=framing.MAX_PAYLOAD).payload
        with self._understood("names"):
            return protocol.decode_names(payload)

    def report(self, report: Mapping[str, Any]) -> None:
        """What an agent says of itself, for status()."""
        self._get("report", type(None), report=report)

    # ---- neighbours of the underlay

    def announce(self) -> None:
        """Announces every local PA and asks for every provider next hop in use."""
        self._get("announce", type(None))

    def neighbours(self) -> list[NeighbourView]:
        """Provider next hops, sorted by address."""
        found = self._get("neighbours", list[NeighbourView], header=framing.MAX_HEADER)
        with self._understood("neighbours"):
            for each in found:
                ip_address(each["address"])
        return found

    def ping_pa(self, address: str, seconds: float = 3.5) -> Found:
        """Resolves a provider next hop now."""
        return self._get("ping_pa", Found, address=address, seconds=seconds)

    # ---- what `isolane node` shows, in the form that `-o json` prints

    def status(self) -> Status:
        status = self._get("status", Status, header=framing.MAX_HEADER)
        with self._understood("status"):
            for address in status["providerAddresses"]:
                ip_address(address)
        agent = status["agent"]
        for key in ("state", "store"):
            if key in agent:
                agent[key] = printable(agent[key])
        for texts in (agent.get("problems", []), agent.get("waiting", [])):
            texts[:] = map(printable, texts)
        return status

    def ports(self) -> list[PortView]:
        return self._get("ports", list[PortView])

    def counters(self) -> AllCounters:
        """The sum over all ports, and each port's; of subnets what their tenant ports sent and got."""
        return self._get("counters", AllCounters, header=framing.MAX_HEADER)

    def strangers(self) -> list[StrangerView]:
        """Ports that have got frames from another MAC than their own."""
        return self._get("strangers", list[StrangerView], header=framing.MAX_HEADER)

    def records(self) -> list[dict[str, Any]]:
        records, pas, names = self.rows(RowKind.RECORD), self.rows(RowKind.PA), self.names()
        with self._understood("rows"):
            return views.records(records, pas, names)

    def routes(self) -> dict[str, list[dict[str, Any]]]:
        tables = {
            kind: self.rows(kind)
            for kind in (RowKind.SUBNET, RowKind.PREFIX, RowKind.ROUTE, RowKind.PROVIDER_ROUTE)
        }
        names = self.names()
        with self._understood("rows"):
            return views.routes(tables, names)

    def _call(
        self,
        method: str,
        params: Mapping[str, object],
        payload: bytes = b"",
        fds: tuple[int, ...] = (),
        takes: int = 0,
        header: int = _SHORT,
        answer: int = 0,
    ) -> framing.Frame:
        """The reply; descriptors in it, up to `takes`, are the caller's. header, answer: bytes that a header
        and the whole payload may have; that may come in several frames.
        """
        limits = framing.Limits(header, framing.any_payload if answer else framing.no_payload, takes)
        try:
            with contextlib.suppress(BrokenPipeError):  # why may stand in a last reply
                framing.send(self._socket, {"method": method, "params": params}, payload, fds, self._patience)
            self._await_reply(method)
            frame, whole = self._receive(limits, answer)
        except TimeoutError:
            self._hangs(method)
        except ValueError as error:
            raise ClientError(f"{method}: {error}", Kind.REQUEST) from None
        except (OSError, EOFError, framing.WireError) as error:
            self._give_up(method, f"closed the connection: {error}")
        if "result" not in frame.header:
            framing.close_all(frame.fds)
            text, kind = protocol.refusal(frame.header)
            raise ClientError(text, kind)
        return framing.Frame(frame.header, whole, frame.fds)

    def _receive(self, limits: framing.Limits, most: int) -> tuple[framing.Frame, bytes]:
        """The last frame of a reply, and the payload of all. One that is followed by another is a whole part:
        whoever sends less, each time just before our patience ends, is given up.
        """
        parts: list[bytes] = []
        length = 0
        while True:
            frame = framing.receive(self._socket, self._patience, limits)
            parts.append(frame.payload)
            length += len(frame.payload)
            more = frame.header.get("more") is True
            is_part = len(frame.payload) >= framing.PART and not frame.fds
            if length > most or (more and not is_part):
                framing.close_all(frame.fds)
                raise framing.WireError(
                    f"an answer of more than {most} bytes"
                    if length > most
                    else f"part of an answer of {len(frame.payload)} bytes and {len(frame.fds)} descriptors"
                )
            if not more:
                return frame, parts[0] if len(parts) == 1 else b"".join(parts)
            if not self._await():
                raise TimeoutError

    def _await_reply(self, method: str) -> None:
        if not self._await():
            self._hangs(method)

    def _await(self) -> bool:
        """Whether there is something to read within our patience."""
        if self._patience is None:
            return True
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(self._patience * 1000))

    def _hangs(self, method: str) -> NoReturn:
        self.close()  # a late reply would be taken for that of the next call
        text = f"{method}: no answer within {self._patience:g} s: the data plane hangs, or has much to do"
        raise ClientError(text, Kind.BUSY) from None
