"""Numbered datagrams between the VMs of a site, and which of them came."""

import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from dataplane.host import netns
from tests.netns.labs import wait_until
from tests.netns.sites import Site, Vm


class Flow:
    """Numbered datagrams from one VM to another."""

    def __init__(self, name: str, sender: socket.socket, receiver: socket.socket) -> None:
        self.name = name
        self.sender = sender
        self.receiver = receiver
        self.target = receiver.getsockname()[:2]
        self.sent = 0
        self.came: set[int] = set()
        self.last = 0.0


class Traffic:
    """Both ways between pairs of VMs, one datagram a millisecond and way, until it is closed."""

    def __init__(self, site: Site, pairs: Sequence[tuple[Vm, Vm]], seconds: float = 0.001) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self.flows = []
        with ExitStack() as unless_started:
            for one, other in pairs:
                sockets = [_socket(site, vm) for vm in (one, other)]
                for each in sockets:
                    unless_started.enter_context(each)
                self.flows.append(Flow(f"{one.name} to {other.name}", *sockets))
                self.flows.append(Flow(f"{other.name} to {one.name}", *reversed(sockets)))
            self._stack = unless_started.pop_all()
        self._threads = [threading.Thread(target=each) for each in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._stack.close()

    def __enter__(self) -> "Traffic":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, more: int = 20, seconds: float = 10) -> None:
        """Until that many more have come of every flow."""
        before = [len(flow.came) for flow in self.flows]

        def has_come() -> bool:
            return all(len(f.came) >= n + more for f, n in zip(self.flows, before, strict=True))

        wait_until(has_come, f"nothing comes: {self.summary()}", seconds)

    def came_since(self, when: float) -> bool:
        """Whether of every flow something came after that time."""
        return all(flow.last > when for flow in self.flows)

    def lost(self) -> dict[str, list[int]]:
        """By flow, of all that were sent by now."""
        marks = [(flow, flow.sent) for flow in self.flows]
        with suppress(AssertionError):
            wait_until(lambda: all(len(flow.came) >= sent for flow, sent in marks), seconds=5)
        lost = {flow.name: sorted(set(range(sent)) - flow.came) for flow, sent in marks}
        return {name: numbers for name, numbers in lost.items() if numbers}

    def summary(self) -> dict[str, str]:
        return {flow.name: f"{len(flow.came)} of {flow.sent}" for flow in self.flows}

    @property
    def sent(self) -> int:
        return sum(flow.sent for flow in self.flows)

    def _send(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0)):
            due = max(due + self._seconds, time.monotonic() - 0.1)
            for flow in self.flows:
                with suppress(BlockingIOError):  # so many wait that nobody reads: too long for any test
                    flow.sender.sendto(b"%d" % flow.sent, flow.target)
                flow.sent += 1

    def _receive(self) -> None:
        by_fd = {flow.receiver.fileno(): flow for flow in self.flows}
        with select.epoll() as poll:
            for fd in by_fd:
                poll.register(fd, select.EPOLLIN)
            while not self._ended.is_set():
                for fd, _ in poll.poll(0.1):
                    flow = by_fd[fd]
                    with suppress(BlockingIOError):
                        while True:
                            flow.came.add(int(flow.receiver.recv(100)))
                            flow.last = time.monotonic()


def _socket(site: Site, vm: Vm) -> socket.socket:
    namespace = f"{site.prefix}{vm.netns or vm.name}"
    made = netns.call(namespace, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: the test may be slow, not the network
    made.bind((vm.address, 0))
    return made
