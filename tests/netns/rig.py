"""What tests of devices share: addresses, a relay between two devices, frames, and what hangs at a device."""

import os
import selectors
import signal
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute

from dataplane.host import links, netns
from dataplane.host.device import Device
from dataplane.host.links import Link
from tests.netns.labs import wait_until

MakeNamespace = Callable[[str], str]

DAD_FAILED, TENTATIVE = 0x08, 0x40  # linux/if_addr.h

MACS = ["02:bb:00:00:00:01", "02:bb:00:00:00:02"]


def link_of(namespace: str, name: str) -> Link | None:
    def find() -> Link | None:
        with IPRoute() as ip:
            return links.find(ip, name)

    return netns.call(namespace, find)


def add_addresses(namespace: str, name: str, *addresses: str) -> None:
    def add() -> None:
        with IPRoute() as ip:
            index = links.get(ip, name).index
            for address in addresses:
                host, length = address.split("/")
                ip.addr("add", index=index, address=host, prefixlen=int(length))

    netns.call(namespace, add)


def address_flags(namespace: str, name: str) -> dict[str, int]:
    """Address -> IFA_F_ flags."""

    def read() -> dict[str, int]:
        with IPRoute() as ip:
            found = ip.get_addr(index=links.get(ip, name).index)
            return {m.get_attr("IFA_ADDRESS"): m.get_attr("IFA_FLAGS") for m in found}

    return netns.call(namespace, read)


def wait_for_dad(namespace: str, name: str) -> list[str]:
    """Wait for the end of duplicate address detection; the addresses that turned out to be another's."""

    def done() -> bool:
        return not any(
            flags & (TENTATIVE | DAD_FAILED) == TENTATIVE for flags in address_flags(namespace, name).values()
        )

    wait_until(done, "duplicate address detection goes on")
    return [address for address, flags in address_flags(namespace, name).items() if flags & DAD_FAILED]


def run(namespace: str, *command: str) -> subprocess.CompletedProcess[str]:
    return netns.call(namespace, subprocess.run, command, capture_output=True, text=True, check=False)


class Relay:
    """Copies what comes out of one device into the other, virtio_net_hdr and all, on a thread of its own."""

    def __init__(self, one: Device, other: Device) -> None:
        self.seen: Counter[str] = Counter()
        self.frames: list[bytes] = []
        self._selector = selectors.DefaultSelector()
        for source, sink in ((one, other), (other, one)):
            for fd in source.fds:
                self._selector.register(fd, selectors.EVENT_READ, sink.fds[0])
        self._stop = os.eventfd(0)
        self._selector.register(self._stop, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                self._copy(key.fd, key.data)

    def _copy(self, source: int, sink: int) -> None:
        while True:
            try:
                data = os.read(source, 70_000)
            except BlockingIOError:
                return
            flags, gso = struct.unpack_from("=BB", data)
            self.seen.update(frames=1, partial=flags & 1, gso=gso != 0)
            self.frames.append(data)
            os.write(sink, data)

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._selector.close()
        os.close(self._stop)


@contextmanager
def relayed(one: Device, other: Device) -> Iterator[Relay]:
    relay = Relay(one, other)
    try:
        yield relay
    finally:
        relay.close()


def send_stream(sender: str, receiver: str, address: str, size: int) -> None:
    """Send `size` bytes by TCP from one namespace to an address in another and check that they arrive."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        netns.call(receiver, socket.create_server, (address, 0), family=family) as server,
        netns.call(sender, socket.socket, family) as client,
    ):
        client.settimeout(10)
        server.settimeout(10)
        client.connect(server.getsockname()[:2])
        accepted, _ = server.accept()
        data = os.urandom(size)
        writer = threading.Thread(target=client.sendall, args=(data,))
        writer.start()
        with accepted:
            accepted.settimeout(10)
            got = b""
            while len(got) < size and (part := accepted.recv(1 << 16)):
                got += part
        writer.join()
    assert got == data


Opener = Callable[..., Device]


def is_ipv4(data: bytes) -> bool:
    return data[22:24] == b"\x08\x00"


def udp4_frame(port: int, sequence: int) -> bytes:
    ethernet = bytes.fromhex("020000000099" + MACS[0].replace(":", "") + "0800")
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 36, 0, 0, 64, 17, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    )
    return ethernet + ip + struct.pack("!HHHHII", port, 9, 16, 0, sequence, 0)


def drain(fd: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(fd, 70_000)
        except BlockingIOError:
            return


def receive(fds: Sequence[int], count: int, match: Callable[[bytes], bool]) -> list[tuple[int, bytes]]:
    """All frames that come until `count` of them match: descriptor and frame with its virtio_net_hdr."""
    found: list[tuple[int, bytes]] = []
    with selectors.DefaultSelector() as selector:
        for fd in fds:
            selector.register(fd, selectors.EVENT_READ)
        while sum(match(data) for _, data in found) < count:
            ready = selector.select(10)
            assert ready, f"{found} and no more"
            found += [(key.fd, data) for key, _ in ready for data in drain(key.fd)]
    return found


def crash(action: Callable[[], object]) -> None:
    """Do something in a process that is then killed."""
    ready = os.eventfd(0)
    pid = os.fork()
    if pid == 0:
        try:
            kept = action()  # noqa: F841
            os.eventfd_write(ready, 1)
            signal.pause()
        finally:
            os._exit(1)
    os.eventfd_read(ready)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ready)


def drops(namespace: str, name: str) -> list[str]:
    """Names of the programs at a device's ingress."""

    def read() -> list[str]:
        with IPRoute() as ip:
            index = links.get(ip, name).index
            filters = ip.get_filters(index=index, parent=0xFFFFFFF2)
            return [m.get_nested("TCA_OPTIONS", "TCA_BPF_NAME") for m in filters if m["handle"]]

    return netns.call(namespace, read)


def qdiscs(namespace: str, name: str) -> list[str]:
    def read() -> list[str]:
        with IPRoute() as ip:
            return [m.get_attr("TCA_KIND") for m in ip.get_qdiscs(index=links.get(ip, name).index)]

    return netns.call(namespace, read)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
