"""A data-plane process, its clients, and what flows through it."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pyroute2.netlink.exceptions import NetlinkError

from dataplane.host import netns
from dataplane.host.device import Device, Terms
from dataplane.host.tap import open_tap
from dataplane.process import instances
from dataplane.process.client import Client, ClientError
from policy.compile.tables import Tables
from tests.native import BIN
from tests.netns.labs import wait_until
from tests.netns.rig import add_addresses
from tests.netns.two_vms import ADDRESSES, MACS

MakeNamespace = Callable[[str], str]

IDS = {"one": 1, "two": 2}


@contextmanager
def running(instance: str, workers: int = 1, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The process; killed at the end if it still runs."""
    command = [BIN / "isolane", "dataplane", "--instance", instance, "--workers", str(workers)]
    environ = {**os.environ, **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
    with suppress(FileNotFoundError):
        instances.socket_path(instance).unlink()
    with suppress(OSError):
        instances.socket_path(instance).parent.rmdir()


def connect(instance: str) -> Client:
    found: list[Client] = []

    def try_it() -> bool:
        with suppress(ClientError):
            found.append(Client(instance))
        return bool(found)

    wait_until(try_it, "no data plane", seconds=20)
    return found[0]


def open_vm(name: str, namespace: str, queues: int = 1) -> Device:
    device = open_tap("eth0", Terms(MACS[name], 1500, queues=queues), namespace=namespace)
    with suppress(NetlinkError):  # there already: its last holder was killed
        add_addresses(namespace, "eth0", f"{ADDRESSES[name][0]}/24")
    return device


def attach(client: Client, name: str, device: Device) -> None:
    client.attach(IDS[name], device.port_config(name), note={"device": device.name})


def push(client: Client, tables: Tables) -> None:
    assert client.apply(tables.change_set().encode()) == 1
    client.set_names(
        {
            "hosts": tables.ids.hosts,
            "routingDomains": tables.ids.routing_domains,
            "ports": tables.ids.ports,
            "host": "h1",
        }
    )


class Flow:
    """Numbered datagrams from VM one to VM two, one a millisecond, and those that came."""

    def __init__(self, stack: ExitStack, vms: dict[str, str]) -> None:
        self._to = netns.call(vms["two"], socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._from = netns.call(vms["one"], socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        stack.enter_context(self._to)
        stack.enter_context(self._from)
        self._to.bind((ADDRESSES["two"][0], 7777))
        self._to.settimeout(0.1)
        self._ended = threading.Event()
        self.sent = 0
        self.came: set[int] = set()
        threads = [threading.Thread(target=each) for each in (self._send, self._receive)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(self._ended.set)

    def wait(self, more: int = 20) -> None:
        """Until that many more have come."""
        before = len(self.came)
        wait_until(lambda: len(self.came) >= before + more, "nothing comes", seconds=20)

    def lost(self) -> set[int]:
        """Of all that were sent by now."""
        sent = self.sent
        with suppress(AssertionError):
            wait_until(lambda: len(self.came) >= sent, seconds=1)
        return set(range(sent)) - self.came

    def _send(self) -> None:
        while not self._ended.wait(0.001):
            self._from.sendto(str(self.sent).encode(), (ADDRESSES["two"][0], 7777))
            self.sent += 1

    def _receive(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                self.came.add(int(self._to.recv(100)))


def killed(body: Callable[[], object]) -> None:
    """Runs it in a process of its own that is killed where it ends."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "it failed before it was killed"


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
