"""What VMs of a lab do: pings, TCP connections and streams between them, by sockets opened in their
namespaces.

No process is started: what a socket of this process does inside a namespace ends with the socket. Every
wait has an end.
"""

import hashlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any

from dataplane.host import netns
from tools.demo.frames import ICMP, ICMPV6, Address, checksum

TIMEOUT = 4.0
"""Seconds until an answer that should come in microseconds is missing."""

_ECHO = {4: (8, 0), 6: (128, 129)}


class TrafficError(Exception):
    """What a VM wanted to do did not work; the text is for the table."""


@dataclass(frozen=True, slots=True)
class Vm:
    """A port of the lab and the namespace behind it. addresses and provider_addresses: by IP version."""

    name: str
    tenant: str
    namespace: str
    device: str
    mac: str
    host: str
    vsid: int
    addresses: Mapping[int, Address]
    provider_addresses: Mapping[int, Address]


def vm_of(port: Mapping[str, Any]) -> Vm:
    """From one of the ports of `isolane lab status -o json`."""
    return Vm(
        name=port["name"],
        tenant=port["tenant"],
        namespace=port["netns"],
        device=port["device"],
        mac=port["mac"],
        host=port["host"],
        vsid=port["virtualSubnetId"],
        addresses=_by_version(port["addresses"]),
        provider_addresses=_by_version(port["providerAddresses"]),
    )


def _by_version(addresses: list[str]) -> dict[int, Address]:
    return {address.version: address for address in map(ip_address, addresses)}


# ---- ping --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Echo:
    """The answers to a series of pings: their TTL and the round trips in seconds."""

    ttl: int
    round_trips: tuple[float, ...]

    @property
    def text(self) -> str:
        low, high = min(self.round_trips) * 1e6, max(self.round_trips) * 1e6
        count = len(self.round_trips)
        return f"{count} of {count} answers, TTL {self.ttl}, {low:.0f}-{high:.0f} us"


def ping(vm: Vm, destination: Address, count: int = 5, payload: bytes = bytes(56)) -> Echo:
    """Pings one after the other. TrafficError: an answer is missing, or is not the same as the request."""
    with netns.call(vm.namespace, _icmp_socket, destination.version) as opened:
        opened.bind((str(vm.addresses[destination.version]), 0))
        opened.connect((str(destination), 0))
        answers = [_echo(opened, destination, number, payload) for number in range(count)]
    ttls = {ttl for ttl, _ in answers}
    if len(ttls) != 1:
        raise TrafficError(f"{destination} answers {vm.name} with TTLs {sorted(ttls)}")
    return Echo(ttls.pop(), tuple(seconds for _, seconds in answers))


def _icmp_socket(version: int) -> socket.socket:
    if version == 4:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, ICMP)
    opened = socket.socket(socket.AF_INET6, socket.SOCK_RAW, ICMPV6)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    return opened


def _echo(opened: socket.socket, destination: Address, number: int, payload: bytes) -> tuple[int, float]:
    """One ping: (TTL of the answer, seconds)."""
    request_type, reply_type = _ECHO[destination.version]
    identifier = threading.get_native_id() & 0xFFFF
    body = struct.pack("!HH", identifier, number) + payload
    total = checksum(bytes([request_type, 0, 0, 0]) + body)  # the kernel makes that of ICMPv6
    started = time.perf_counter()
    opened.send(struct.pack("!BBH", request_type, 0, total) + body)
    while (left := started + TIMEOUT - time.perf_counter()) > 0:
        if not _is_readable(opened, left):
            break
        message, ttl = _receive_echo(opened, destination.version)
        if message[0] == reply_type and message[4:8] == body[:4]:
            if message[4:] != body:
                raise TrafficError(f"{destination} answers with other bytes than it was sent")
            return ttl, time.perf_counter() - started
    raise TrafficError(f"{destination} does not answer ping {number + 1} within {TIMEOUT:.0f} s")


def _is_readable(opened: socket.socket, seconds: float) -> bool:
    """Within so long; whatever its number: select(2) knows descriptors below 1024 only."""
    with selectors.DefaultSelector() as selector:
        selector.register(opened, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _receive_echo(opened: socket.socket, version: int) -> tuple[bytes, int]:
    """The next ICMP message and its TTL."""
    data, ancillary, _, _ = opened.recvmsg(70_000, 64)
    if version == 4:
        return data[(data[0] & 15) * 4 :], data[8]
    (ttl,) = struct.unpack("=i", ancillary[0][2])
    return data, ttl


# ---- TCP and UDP -------------------------------------------------------------------------------------------


@contextmanager
def connection(client: Vm, server: Vm, version: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: (the client's end, the server's end)."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    where = str(server.addresses[version])
    listen = partial(socket.create_server, (where, 0), family=family)
    try:
        with (
            netns.call(server.namespace, listen) as listener,
            netns.call(client.namespace, socket.socket, family) as ours,
        ):
            listener.settimeout(TIMEOUT)
            ours.settimeout(TIMEOUT)
            ours.connect((where, listener.getsockname()[1]))
            theirs, _ = listener.accept()
            with theirs:
                theirs.settimeout(TIMEOUT)
                yield ours, theirs
    except OSError as error:
        raise TrafficError(f"TCP {client.name} to {server.name}, {where}: {error}") from error


def echo_by_tcp(client: Vm, server: Vm, version: int, data: bytes) -> str:
    """Sends data there and back and compares it."""
    started = time.perf_counter()
    with connection(client, server, version) as (ours, theirs):
        _pump(data, ours, theirs)
        _pump(data, theirs, ours)
    milliseconds = (time.perf_counter() - started) * 1e3
    digest = hashlib.sha256(data).hexdigest()[:8]
    return f"{len(data) >> 10} KiB there and back, SHA-256 {digest}..., {milliseconds:.0f} ms"


def _pump(data: bytes, sender: socket.socket, receiver: socket.socket) -> None:
    """Sends from one end, receives at the other, without a thread: neither end may block."""
    sent, got = 0, bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(receiver, selectors.EVENT_READ)
        selector.register(sender, selectors.EVENT_WRITE)
        while len(got) < len(data):
            ready = {key.fileobj for key, _ in selector.select(TIMEOUT)}
            if not ready:
                raise TrafficError(f"TCP stalls after {len(got)} of {len(data)} bytes")
            if sender in ready:
                sent += sender.send(memoryview(data)[sent : sent + 65536], socket.MSG_DONTWAIT)
                if sent == len(data):
                    selector.unregister(sender)
            if receiver in ready:
                part = receiver.recv(1 << 20, socket.MSG_DONTWAIT)
                if not part:
                    raise TrafficError(f"TCP ends after {len(got)} of {len(data)} bytes")
                got += part
    if got != data:
        raise TrafficError("TCP delivers other bytes than were sent")


def stream(client: Vm, server: Vm, version: int, seconds: float, stop: threading.Event) -> float:
    """One TCP stream for so long, or until `stop` is set: bits a second at the receiver."""
    with connection(client, server, version) as (ours, theirs):
        sender = threading.Thread(target=_send_until, args=(ours, time.monotonic() + seconds, stop))
        sender.start()
        try:
            buffer = bytearray(1 << 20)
            total, started = 0, time.perf_counter()
            while got := theirs.recv_into(buffer):
                total += got
            return total * 8 / (time.perf_counter() - started)
        finally:
            with suppress(OSError):
                theirs.shutdown(socket.SHUT_RDWR)  # frees a sender that is stuck
            sender.join()


def _send_until(opened: socket.socket, end: float, stop: threading.Event) -> None:
    data = bytes(1 << 18)
    try:
        while time.monotonic() < end and not stop.is_set():
            opened.sendall(data)
        opened.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the receiver says what went wrong


def send_udp(client: Vm, server: Vm, version: int, port: int, payload: bytes) -> None:
    """One datagram between two sockets of the same port number. TrafficError: it does not arrive."""
    kind = (socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    with (
        netns.call(server.namespace, socket.socket, *kind) as theirs,
        netns.call(client.namespace, socket.socket, *kind) as ours,
    ):
        theirs.settimeout(TIMEOUT)
        theirs.bind((str(server.addresses[version]), port))
        ours.bind((str(client.addresses[version]), port))
        ours.sendto(payload, theirs.getsockname())
        try:
            got = theirs.recv(65535)
        except TimeoutError:
            raise TrafficError(f"UDP {client.name} to {server.name}, port {port}: nothing arrives") from None
    if got != payload:
        raise TrafficError(f"UDP {client.name} to {server.name}, port {port}: other bytes arrive")
