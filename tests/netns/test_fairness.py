"""A tenant that sends as fast as it can delays the others on its host by no more than turns of its queue."""

import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from dataplane.binding import core
from dataplane.binding.core import Dataplane, Offload, PortKind
from dataplane.host import netns
from dataplane.host.device import Terms
from dataplane.host.tap import open_tap
from dataplane.host.veth import open_veth
from policy.compile import compiler
from policy.service import resolve
from tests.netns.labs import wait_until
from tests.netns.rig import add_addresses
from tests.netns.two_vms import MACS, TWO_VMS

pytestmark = pytest.mark.alone

MakeNamespace = Callable[[str], str]
TAP, PACKET = PortKind.TAP, PortKind.PACKET
PINGS, MOST_TRIES = 200, 600
PAUSE = 0.002
LEAST_ROUNDS, MOST_ROUNDS = 3, 16
IDLE_MOST = 400.0
"""Microseconds: the p99 of a ping on a machine that has its CPUs for itself is a quarter of it."""
WAIT_MOST = 20.0
"""Microseconds: a ping during which whoever has to serve it waited longer for a CPU says nothing of us."""
FIRST_CPU = min(os.sched_getaffinity(0))

THREE_VMS = f"""{TWO_VMS}---
apiVersion: isolane/v1
kind: Port
metadata: {{name: three, tenant: t}}
spec: {{vmSubnet: sub, host: h1, addresses: [10.1.1.30, "fd00:1:1::30"], mac: "02:bb:00:00:00:30"}}
"""


@dataclass(frozen=True)
class Host:
    """VM `one` floods `two`, whose port takes no offloads and whose kernel drops it all; `three` pings."""

    dataplane: Dataplane
    namespaces: dict[str, str]
    ports: dict[str, int]
    workers: list[Path]
    """Their threads, in /proc."""


@contextmanager
def running(tmp_path: Path, make_namespace: MakeNamespace, flooder: PortKind) -> Iterator[Host]:
    file = tmp_path / "three.yaml"
    file.write_text(THREE_VMS)
    tables = compiler.compile_host(resolve.load([file]), "h1")
    kinds = {"one": flooder, "two": TAP, "three": TAP}
    macs = MACS | {"three": "02:bb:00:00:00:30"}
    names = {name: make_namespace(name) for name in kinds}
    config = core.Config(
        self_host=tables.ids.hosts["h1"], router_mac=bytes.fromhex("02150a000001"), hash_key=(1, 2)
    )
    with ExitStack() as stack:
        opened = {}
        for name, kind in kinds.items():
            open_it = open_tap if kind is TAP else open_veth
            opened[name] = open_it("eth0", Terms(macs[name], 1500), namespace=names[name])
            stack.callback(opened[name].close)
        add_addresses(names["three"], "eth0", "10.1.1.30/24")
        dataplane = stack.enter_context(core.Dataplane(config))
        for name, device in opened.items():
            port = device.port_config(name)
            if name == "two":
                port = replace(port, offloads=Offload.NONE)
            dataplane.attach(tables.ids.ports[f"t/{name}"], port)
        dataplane.apply(tables.change_set().encode())
        dataplane.start()
        host = Host(
            dataplane, names, {name: tables.ids.ports[f"t/{name}"] for name in names}, list(workers())
        )
        stack.enter_context(preferred(host))
        yield host
        dataplane.stop()


def workers() -> Iterator[Path]:
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # it has ended
            if (task / "comm").read_text().startswith("isolane-"):
                yield task


@contextmanager
def preferred(host: Host) -> Iterator[None]:
    """What else the machine does is not to be measured: workers come first, flood and pings are on another
    CPU than the workers. Linux may count nice values within a session alone: then it comes first.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    for task in host.workers:
        os.setpriority(os.PRIO_PROCESS, int(task.name), -20)
        os.sched_setaffinity(int(task.name), others or [first])
    session = Path("/proc/self/autogroup")
    found = re.search(r"nice (-?\d+)", session.read_text()) if session.exists() else None
    prefer_session("self", -20)
    try:
        yield
    finally:
        prefer_session("self", int(found[1]) if found else 0)


def prefer_session(process: int | str, nice: int) -> None:
    with suppress(OSError):  # there are none
        Path(f"/proc/{process}/autogroup").write_text(str(nice))


@contextmanager
def before_all_others() -> Iterator[None]:
    """This thread runs on the first CPU as soon as it has something to do."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [FIRST_CPU])
    with suppress(PermissionError):  # a container may have no real time; then some pings do not count
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, cpus)


def waited(host: Host) -> float:
    """Microseconds for which workers, or this thread, had work and no CPU."""
    tasks = [*host.workers, Path("/proc/thread-self")]
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e3


def frame(size: int, gso_size: int) -> bytes:
    """A TCP packet from `one` to `two` of `size` bytes behind a virtio-net header."""
    header = struct.pack("=BBHHHH", 1, 1 if gso_size else 0, 54, gso_size, 34, 16)
    addresses = socket.inet_aton("10.1.1.10") + socket.inet_aton("10.1.1.20")
    macs = bytes.fromhex((MACS["two"] + MACS["one"]).replace(":", ""))
    ip = struct.pack(">BBHHHBBH", 0x45, 0, size - 14, 1, 0x4000, 64, 6, 0) + addresses
    tcp = struct.pack(">HHIIBBHHH", 40000, 9, 1, 1, 0x50, 0x10, 1000, 0, 0)
    return header + macs + b"\x08\0" + ip + tcp + bytes(size - 54)


@contextmanager
def flood(host: Host, data: bytes) -> Iterator[None]:
    process = netns.call(
        host.namespaces["one"],
        subprocess.Popen,
        ["taskset", "-c", str(FIRST_CPU), sys.executable, "-m", "tests.netns.flood", "eth0"],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    prefer_session(process.pid, -15)
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.close()
        port = host.ports["one"]
        before = host.dataplane.port_counters(port).received
        wait_until(lambda: host.dataplane.port_counters(port).received > before + 1000, "no flood")
        yield
    finally:
        process.kill()
        process.wait(10)
        # A million segments, perhaps.
        wait_until(lambda: at_rest(host), "what the flood has left is still there", 30)


def at_rest(host: Host) -> bool:
    before = host.dataplane.counters()
    time.sleep(0.01)
    return host.dataplane.counters() == before


class Round(NamedTuple):
    """Pings from `three` to its gateway, us: 99th percentile of those that count, and the slowest of all."""

    p99: float
    slowest: float
    counted: int
    tried: int

    def __str__(self) -> str:
        return f"{self.p99:.0f} us ({self.counted} of {self.tried})"


def ping_socket() -> socket.socket:
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    sock.settimeout(10)
    sock.connect(("10.1.1.1", 0))
    return sock


def ping(host: Host) -> Round:
    """Pings until enough of them found the CPUs that they need, or there were too many."""
    took: list[float] = []
    slowest, tried = 0.0, 0
    with netns.call(host.namespaces["three"], ping_socket) as sock, before_all_others():
        for tried in range(1, MOST_TRIES + 1):
            time.sleep(PAUSE)
            before, start = waited(host), time.perf_counter()
            sock.send(struct.pack(">BBHHH", 8, 0, 0, 0, tried) + bytes(56))
            while struct.unpack_from(">H", sock.recv(1500), 6) != (tried,):
                pass
            time_taken = 1e6 * (time.perf_counter() - start)
            slowest = max(slowest, time_taken)
            if waited(host) - before <= WAIT_MOST:
                took.append(time_taken)
            if len(took) == PINGS:
                break
    took.sort()
    p99 = took[len(took) * 99 // 100] if len(took) == PINGS else slowest  # of too few it says nothing
    return Round(p99, slowest, len(took), tried)


def is_judged(rounds: Sequence[Round]) -> bool:
    """The best of them has pings enough."""
    return min(rounds).counted == PINGS


FLOODS = {
    "super-packets, gso_size 1448": frame(65000, 1448),
    "super-packets, gso_size 536": frame(65000, 536),
    "super-packets, gso_size 48": frame(65000, 48),
    "64-byte packets": frame(64, 0),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("flooder", [TAP, PACKET])
@pytest.mark.parametrize("name", FLOODS)
def test_another_vms_ping_beside_a_flood(
    tmp_path: Path, make_namespace: MakeNamespace, flooder: PortKind, name: str
) -> None:
    """At most 3 times idle plus 200 us. Of interleaved rounds the best counts, since what else runs only
    adds, and there are more of them until it meets the bar. Where every one was disturbed nothing is judged
    but that nobody starves.
    """
    with running(tmp_path, make_namespace, flooder) as host:
        ping(host)
        idle: list[Round] = []
        beside: list[Round] = []
        met = False
        while len(idle) < LEAST_ROUNDS or (not met and len(idle) < MOST_ROUNDS):
            idle.append(ping(host))
            with flood(host, FLOODS[name]):
                beside.append(ping(host))
            bar = 3 * min(idle).p99 + 200
            met = (
                is_judged(idle) and is_judged(beside) and min(idle).p99 < IDLE_MOST and min(beside).p99 < bar
            )
        print(f"{name} from {flooder.name}: p99 of a ping, of those that waited for no CPU")
        print(f"  idle {', '.join(map(str, idle))}")
        print(f"  beside the flood {', '.join(map(str, beside))}")
        print(f"  best {min(beside).p99 / min(idle).p99:.1f} times idle, bar {bar:.0f} us: {met}")
        assert min(r.slowest for r in beside) < bar + 20_000
        if not met and min(idle).p99 >= IDLE_MOST:
            pytest.skip(f"this machine is busy: the p99 of an idle ping is {min(idle)}")
        if not met and not (is_judged(idle) and is_judged(beside)):
            pytest.skip(f"this machine is busy: pings waited for a CPU in every round, {min(beside)}")
        assert met
