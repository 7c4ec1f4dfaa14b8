"""The ends of the wire in `isolane bench control`, in a process of their own: a VM that sends datagrams to
one CA after another, and the provider network behind the underlay device, which answers ARP for every PA and
sees when the first one comes.

Run as `python -m bench.control_probe CONTROL VM FAR`: descriptors of a socket pair, and of AF_PACKET sockets
of the VM's device and of the underlay's far end. CONTROL carries a JSON object a line: {"frame",
"customerAddress", "providerAddress"} to send that frame, {"sent": true} back once it was, and {"time"}, Unix
nanoseconds by the kernel, when one has come to that CA by that PA. It ends with CONTROL.
"""

import json
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

INTERVAL_SECONDS = 0.000_25
"""Between datagrams: what a measured time may be too long by."""

SO_TIMESTAMPNS = 35
_ARP, _IPV4, _GRE = 0x0806, 0x0800, 47
_ARP_REQUEST = bytes.fromhex("0001080006040001")
_ARP_REPLY = bytes.fromhex("0001080006040002")
_OUTER_DESTINATION = slice(30, 34)
_INNER_DESTINATION = slice(14 + 20 + 8 + 14 + 16, 14 + 20 + 8 + 14 + 20)
_PATIENCE = 1.0


@dataclass
class _Wanted:
    """due: of the next datagram, on the monotonic clock."""

    frame: bytes
    customer_address: bytes
    provider_address: bytes
    due: float = 0.0
    sent: bool = False


class Probe:
    def __init__(self, control: socket.socket, vm: socket.socket, far: socket.socket) -> None:
        self._control, self._vm, self._far = control, vm, far
        self._mac = far.getsockname()[4]
        self._wanted: _Wanted | None = None
        self._line = b""

    def run(self) -> None:
        while True:
            patience = _PATIENCE if self._wanted is None else max(self._wanted.due - time.monotonic(), 0.0)
            ready = select.select([self._control, self._far], [], [], patience)[0]
            if self._control in ready and not self._listen():
                return
            if self._far in ready:
                self._receive()
            if self._wanted is not None and time.monotonic() >= self._wanted.due:
                self._send(self._wanted)

    def _listen(self) -> bool:
        data = self._control.recv(65536)
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            wanted = json.loads(line)
            self._wanted = _Wanted(
                bytes.fromhex(wanted["frame"]),
                IPv4Address(wanted["customerAddress"]).packed,
                IPv4Address(wanted["providerAddress"]).packed,
            )
        return bool(data)

    def _send(self, wanted: _Wanted) -> None:
        self._vm.send(wanted.frame)
        now = time.monotonic()
        wanted.due = max(wanted.due + INTERVAL_SECONDS, now)
        if not wanted.sent:
            wanted.due = now + INTERVAL_SECONDS
            wanted.sent = True
            self._tell({"sent": True})

    def _receive(self) -> None:
        while True:
            try:
                frame, more, _, address = self._far.recvmsg(256, 64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if address[2] == socket.PACKET_OUTGOING:
                continue
            if address[1] == _ARP:
                self._answer(frame)
            elif self._wanted is not None and _is_wanted(frame, self._wanted):
                self._tell({"time": _kernel_time(more)})
                self._wanted = None

    def _answer(self, frame: bytes) -> None:
        sender, target = frame[22:32], frame[38:42]
        if frame[14:22] == _ARP_REQUEST and sender[6:] != target:
            ethernet = frame[6:12] + self._mac + struct.pack("!H", _ARP)
            self._far.send(ethernet + _ARP_REPLY + self._mac + target + sender)

    def _tell(self, what: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(what).encode() + b"\n")


def _is_wanted(frame: bytes, wanted: _Wanted) -> bool:
    """NVGRE with an IPv4 packet inside, both headers without options."""
    return (
        frame[23] == _GRE
        and frame[_OUTER_DESTINATION] == wanted.provider_address
        and frame[_INNER_DESTINATION] == wanted.customer_address
    )


def _kernel_time(more: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in more:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("=qq", data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    raise ValueError("a frame without a timestamp")


def main() -> None:
    control, vm, far = (socket.socket(fileno=int(word)) for word in sys.argv[1:4])
    Probe(control, vm, far).run()


if __name__ == "__main__":
    main()
