"""What `isolane bench control` measures: a real data plane and a real agent on a host of their own, a VM that
sends, and the provider network behind the underlay device, all in network namespaces.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import IO, Any

from pyroute2 import IPRoute

from bench.control_plan import UNDERLAY_DEVICE, VM_DEVICE, VM_NAMESPACE
from bench.control_probe import SO_TIMESTAMPNS
from dataplane.host import links, netns
from dataplane.process import instances
from dataplane.process.client import Client, ClientError

START_SECONDS = 30.0
_TICK = 0.005
_GRACE = 15.0
_FAR_DEVICE = "far0"
_ALL_FRAMES = 0x0003
_RECEIVE_BUFFER = 4 << 20


class BenchError(Exception):
    """Whoever runs the bench must act: what is to be measured did not happen."""


def wait_until(is_so: Callable[[], bool], what: str, seconds: float) -> None:
    """BenchError: it is not so after all that time."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise BenchError(f"after {seconds:.0f} s: {what}")
        time.sleep(_TICK)


def time_of(event: Mapping[str, Any]) -> float:
    """Unix time of a line of the agent's log."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


class Wire:
    """Namespaces PREFIX+host, PREFIX+vm and PREFIX+far; the underlay device joins the first and the last."""

    def __init__(self, prefix: str, stack: ExitStack, underlay_mac: str, mtu: int) -> None:
        """stack: removes them."""
        self.prefix = prefix
        self.host, self.vm, self._far = prefix + "host", prefix + VM_NAMESPACE, prefix + "far"
        for name in (self.host, self.vm, self._far):
            netns.create(name)
            stack.callback(netns.remove, name)
            netns.call(name, links.set_state, "lo", "up")
        netns.call(self._far, self._make, mtu)
        netns.call(self.host, _set_up, UNDERLAY_DEVICE, mtu, underlay_mac)
        netns.call(self._far, _set_up, _FAR_DEVICE, mtu)

    def _make(self, mtu: int) -> None:
        links.write_sysctl("ipv6/conf/default/disable_ipv6", "1")
        with IPRoute() as ip:
            peer = {"ifname": UNDERLAY_DEVICE, "net_ns_fd": str(netns.path(self.host))}
            ip.link("add", ifname=_FAR_DEVICE, kind="veth", mtu=mtu, peer=peer)

    def far_socket(self) -> socket.socket:
        """All frames of the provider network, with the kernel's time of each."""

        def opened() -> socket.socket:
            found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES))
            found.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            found.bind((_FAR_DEVICE, _ALL_FRAMES))
            return found

        return netns.call(self._far, opened)

    def vm_socket(self) -> socket.socket:
        """The VM's device, for sending."""

        def opened() -> socket.socket:
            found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            found.bind((VM_DEVICE, 0))
            return found

        return netns.call(self.vm, opened)


def _set_up(device: str, mtu: int, mac: str = "") -> None:
    links.write_sysctl(f"ipv6/conf/{device}/disable_ipv6", "1")
    with IPRoute() as ip:
        index = links.get(ip, device).index
        if mac:
            ip.link("set", index=index, address=mac)
        ip.link("set", index=index, mtu=mtu, state="up")


@contextmanager
def running(
    namespace: str | None, *arguments: str, stderr: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """An `isolane` command in a namespace; it is ended with the context."""
    isolane = Path(sysconfig.get_path("scripts"), "isolane")
    with program(namespace, [sys.executable, str(isolane), *arguments], stderr) as process:
        yield process


@contextmanager
def program(
    namespace: str | None, command: Sequence[str], stderr: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """It is ended with the context."""
    process: subprocess.Popen[bytes] = netns.call(
        namespace,
        subprocess.Popen,
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    finally:  # also when somebody loses patience
        process.kill()
        process.wait()


@contextmanager
def dataplane(instance: str, namespace: str | None = None) -> Iterator[Client]:
    """A data-plane process and a connection to it."""
    command = ("dataplane", "--instance", instance)
    with (
        instances.directory_removed(instance),
        running(namespace, *command, stderr=subprocess.DEVNULL) as process,
    ):
        found: list[Client] = []

        def connects() -> bool:
            if process.poll() is not None:
                raise BenchError(f"isolane dataplane ended with status {process.returncode}")
            with suppress(ClientError):
                found.append(Client(instance))
            return bool(found)

        wait_until(connects, "no data plane answers", START_SECONDS)
        with found[0] as client:
            client.hello()  # its socket was there before its engine
            yield client


class Agent:
    """A running agent, by what it logs."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._rest: list[str] = []
        self._news = threading.Condition()
        assert process.stderr is not None
        threading.Thread(target=self._read, args=(process.stderr,), daemon=True).start()

    def _read(self, log: IO[bytes]) -> None:
        with log:
            for line in log:
                try:
                    event = json.loads(line)
                    name = event["event"]
                except (ValueError, KeyError, TypeError):
                    event, name = None, ""
                with self._news:
                    if event is None or event.get("level") in ("error", "warning"):
                        self._rest.append(line.decode(errors="replace").strip())
                    if event is not None:
                        self._events.setdefault(name, []).append(event)
                    self._news.notify_all()

    def first(self, event: str, seconds: float) -> dict[str, Any]:
        """The first event of that name. BenchError: none comes."""
        end = time.monotonic() + seconds
        with self._news:
            while event not in self._events:
                if self._process.poll() is not None or time.monotonic() > end:
                    said = "; ".join(self._rest[-5:]) or "nothing"
                    raise BenchError(f"the agent has not {event} after {seconds:.0f} s; it says: {said}")
                self._news.wait(0.2)
            return self._events[event][0]

    def memory(self) -> Mapping[str, int]:
        """Bytes: "rss" now and "peak" so far."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
        rss, peak = (int(fields[name].removesuffix("kB")) << 10 for name in ("VmRSS", "VmHWM"))
        return {"rss": rss, "peak": peak}


@contextmanager
def agent(namespace: str, prefix: str, instance: str, host: str, store: Path) -> Iterator[Agent]:
    """An agent in a namespace. prefix: of those of its VMs."""
    arguments = ("--store", f"sqlite:{store}", "--host", host, "--instance", instance, "--remove")
    with running(namespace, "agent", *arguments, "--netns-prefix", prefix) as process:
        yield Agent(process)


class Probe:
    """The process of control_probe.py. BenchError from every method: it has gone, or nothing comes."""

    def __init__(self, stack: ExitStack, wire: Wire) -> None:
        """stack: ends it."""
        self._control, theirs = socket.socketpair()
        stack.enter_context(self._control)
        with theirs, wire.vm_socket() as vm, wire.far_socket() as far:
            fds = [each.fileno() for each in (theirs, vm, far)]
            command = [sys.executable, "-m", "bench.control_probe", *map(str, fds)]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=fds, start_new_session=True, cwd=_ROOT
            )
        stack.callback(end, process)
        self._lines = b""

    def send(self, frame: bytes, customer_address: IPv4Address, provider_address: IPv4Address) -> None:
        """Send it again and again, from now on."""
        wanted = {
            "frame": frame.hex(),
            "customerAddress": str(customer_address),
            "providerAddress": str(provider_address),
        }
        self._control.sendall(json.dumps(wanted).encode() + b"\n")
        self._hear(START_SECONDS)

    def seen(self, seconds: float) -> int:
        """When the first datagram that was wanted came: Unix time in nanoseconds."""
        return int(self._hear(seconds)["time"])

    def _hear(self, seconds: float) -> dict[str, Any]:
        self._control.settimeout(seconds)
        while b"\n" not in self._lines:
            try:
                data = self._control.recv(4096)
            except TimeoutError:
                raise BenchError(f"no packet came by the change within {seconds:.0f} s") from None
            if not data:
                raise BenchError("the probe has ended")
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


_ROOT = Path(__file__).parents[1]


def check_root() -> None:
    if os.geteuid() != 0:
        raise BenchError("network namespaces and devices: run this as root")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP clean up as Ctrl-C does."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
