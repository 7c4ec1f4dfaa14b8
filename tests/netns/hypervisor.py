"""What a hypervisor does with a VM's TAP, as far as tests need one."""

import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from dataplane.host import netns

MULTI_QUEUE, VNET_HDR = 0x0100, 0x4000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_PLAIN = bytes(10)
"""A virtio_net_hdr that says nothing."""


def open_tap(name: str, flags: int = 0) -> int:
    """A queue of a TAP of this namespace, which is made if there is none."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        ask_for(fd, name, flags)
    except OSError:
        os.close(fd)
        raise
    return fd


def ask_for(fd: int, name: str, flags: int = 0) -> None:
    """By a descriptor of /dev/net/tun."""
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | flags))


def arp(operation: int, source: bytes, sender: bytes, target: bytes, asked: bytes) -> bytes:
    """From the EtherType on."""
    return bytes.fromhex("0806000108000604") + struct.pack("!H", operation) + source + sender + target + asked


class Hypervisor:
    """Has a TAP of a host's namespace open, with a queue or several; what is written comes from its VM."""

    def __init__(self, host: str, name: str, queues: int = 1) -> None:
        flags = VNET_HDR | (MULTI_QUEUE if queues > 1 else 0)
        self.fds = [netns.call(host, open_tap, name, flags) for _ in range(queues)]

    def asks(self, mac: str, address: str, gateway: str) -> Callable[[], bool]:
        """Whether the gateway answers its VM's ARP within a moment."""
        vm, own, asked = _octets(mac), socket.inet_aton(address), socket.inet_aton(gateway)
        router = bytes.fromhex("02150a000001")
        question = b"\xff" * 6 + vm + arp(1, vm, own, bytes(6), asked)
        answer = vm + router + arp(2, router, asked, vm, own)

        def ask() -> bool:
            with suppress(OSError):  # it is down
                os.write(self.fds[0], _PLAIN + question)
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                for fd in self.fds:
                    with suppress(OSError):
                        if os.read(fd, 4000)[len(_PLAIN) :] == answer:
                            return True
            return False

        return ask

    def sends(self, frame: bytes) -> None:
        os.write(self.fds[0], _PLAIN + frame)

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
