"""UDP super-packets by real sockets: datagrams that leave in one call, and what comes of them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from dataplane.host import netns
from tools.demo.vms import Vm

SOL_UDP, UDP_SEGMENT = 17, 103
SIZE = 1200
PAYLOAD = bytes(range(251)) * 48
"""Of ten datagrams, the last one shorter."""
DATAGRAMS = [PAYLOAD[at : at + SIZE] for at in range(0, len(PAYLOAD), SIZE)]


@contextmanager
def udp_socket(namespace: str, address: str, port: int = 0) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.call(namespace, socket.socket, family, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        opened.bind((address, port))
        yield opened


def send_at_once(sender: socket.socket, destination: tuple[str, int]) -> None:
    """All DATAGRAMS in one system call, which the kernel cuts as late as it can."""
    sender.setsockopt(SOL_UDP, UDP_SEGMENT, SIZE)
    assert sender.sendto(PAYLOAD, destination) == len(PAYLOAD)


def receive_all(receiver: socket.socket) -> list[bytes]:
    return [receiver.recv(4 * SIZE) for _ in DATAGRAMS]


def sent_at_once(sending: Vm, vm: Vm, version: int) -> list[bytes]:
    """What comes to one VM of DATAGRAMS that another sends it."""
    with (
        udp_socket(vm.namespace, str(vm.addresses[version])) as receiver,
        udp_socket(sending.namespace, str(sending.addresses[version])) as sender,
    ):
        send_at_once(sender, receiver.getsockname()[:2])
        return receive_all(receiver)
