"""`isolane dataplane`: packets flow on, whichever of the process and its clients dies, and when."""

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dataplane.binding.handover import Handover
from dataplane.binding.tables import ChangeSet
from dataplane.host import netns
from dataplane.host.device import ALL_OFFLOADS, Device, Terms
from dataplane.host.tap import open_tap
from dataplane.process import framing, instances, privileges
from dataplane.process.client import Client, ClientError, GoneError
from policy.compile import compiler
from policy.compile.tables import Tables
from policy.service import resolve
from tests.native import BIN
from tests.netns.dataplanes import (
    IDS,
    Flow,
    MakeNamespace,
    attach,
    connect,
    descriptors,
    killed,
    open_vm,
    push,
    running,
)
from tests.netns.labs import wait_until
from tests.netns.two_vms import MACS, TWO_VMS

IDLE_SECONDS = 2


@pytest.fixture
def instance() -> str:
    return f"dpp-{os.getpid()}"


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    (tmp_path / "two.yaml").write_text(TWO_VMS)
    return compiler.compile_host(resolve.load([tmp_path / "two.yaml"]), "h1")


@pytest.fixture
def vms(make_namespace: MakeNamespace) -> dict[str, str]:
    return {name: make_namespace(name) for name in MACS}


def test_a_port_by_descriptors(
    instance: str, vms: dict[str, str], tables: Tables, cleanup: ExitStack
) -> None:
    process = cleanup.enter_context(running(instance, workers=2))
    client = cleanup.enter_context(connect(instance))
    for name, namespace in vms.items():
        device = cleanup.enter_context(open_vm(name, namespace, queues=2))
        attach(client, name, device)
    push(client, tables)
    flow = Flow(cleanup, vms)
    flow.wait()

    hello = client.hello()
    assert (hello["pid"], hello["instance"], hello["generation"]) == (process.pid, instance, 1)
    assert hello["ports"][0] == {
        "id": 1,
        "name": "one",
        "kind": "tap",
        "mac": MACS["one"],
        "mtu": 1500,
        "offloads": [str(offload.name).lower() for offload in ALL_OFFLOADS],
        "queues": 2,
        "xsks": 0,
    }
    counters = client.counters()
    assert counters["ports"]["one"]["received"] >= 20
    assert counters["subnets"][0]["virtualSubnetId"] == 5001
    assert counters["subnets"][0]["to_port"] >= 20
    account = privileges.account()
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        assert {int(uid) for uid in status["Uid"].split()} == {account.uid}
        assert {int(gid) for gid in status["Gid"].split()} == {account.gid}
        assert status["Groups"].split() == []
        assert {int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
        assert status["NoNewPrivs"] == "1"

    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not instances.socket_path(instance).exists()
    with pytest.raises(GoneError):
        client.hello()


def test_an_instance_runs_once(instance: str) -> None:
    with running(instance) as first:
        connect(instance).close()
        with running(instance) as second:
            assert second.wait(20) == 1
            assert second.stderr is not None
            assert second.stderr.read() == f"error: instance {instance} is running already\n"
        first.send_signal(signal.SIGTERM)
        assert first.wait(10) == 0


def half_a_frame(client: Client, method: str, fds: tuple[int, ...]) -> None:
    """Descriptors have arrived, the request has not."""
    start = framing._PREFIX.pack(500, 0, len(fds)) + f'{{"method": "{method}"'.encode()
    socket.send_fds(client._socket, [start], fds)


def request_only(client: Client, method: str, port: int, handover: Handover | None = None) -> None:
    """Nobody reads the reply."""
    params = {"port": port, **(handover.encode() if handover else {})}
    framing.send(client._socket, {"method": method, "params": params}, fds=handover.fds if handover else ())


STEPS: dict[str, Callable[[Client, Device], object]] = {
    "connected": lambda client, device: None,
    "attach begun": lambda client, device: half_a_frame(client, "attach", device.fds),
    "attach asked": lambda client, device: request_only(
        client, "attach", 2, Handover(device.port_config("two"), {"lock": device.fds[0]}, None)
    ),
    "attached": lambda client, device: attach(client, "two", device),
    "take asked": lambda client, device: request_only(client, "take", 1),
    "taken": lambda client, device: client.take(1),
    "took twice": lambda client, device: (client.take(1), client.take(1)),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_client_killed_at_any_step_loses_nothing(
    instance: str, vms: dict[str, str], tables: Tables, cleanup: ExitStack, step: str
) -> None:
    """Port one's agent is dead from the start; port two's, which may be there already, dies at the step."""
    process = cleanup.enter_context(running(instance))
    cleanup.enter_context(connect(instance))
    attached_before = step in ("connected", "take asked", "taken", "took twice")

    def first() -> None:
        client = Client(instance)
        for name in ("one", "two") if attached_before else ("one",):
            attach(client, name, open_vm(name, vms[name]))
        push(client, tables)

    killed(first)
    flow = None
    if attached_before:
        flow = Flow(cleanup, vms)
        flow.wait()
    before = descriptors(process.pid)
    killed(lambda: STEPS[step](Client(instance), open_vm("two", vms["two"]) if not attached_before else None))

    client = cleanup.enter_context(Client(instance))
    names = {port["name"] for port in client.hello()["ports"]}
    if step == "attach asked":
        wait_until(lambda: len(client.hello()["ports"]) == 2)
    elif step == "attach begun":
        assert names == {"one"}
        wait_until(lambda: descriptors(process.pid) <= before + 1, "descriptors leak")
        attach(client, "two", open_vm("two", vms["two"]))
    else:
        assert names == {"one", "two"}
    if flow is None:
        flow = Flow(cleanup, vms)
    for port in (1, 2):
        handover = client.take(port)
        assert handover.config.name == {1: "one", 2: "two"}[port]
        for fd in handover.fds:
            assert Path(f"/proc/self/fd/{fd}").readlink() == Path("/dev/net/tun")
            cleanup.callback(os.close, fd)
    flow.wait()
    assert flow.lost() == set()


def test_ports_come_and_go_while_packets_flow(
    instance: str, vms: dict[str, str], tables: Tables, cleanup: ExitStack, make_namespace: MakeNamespace
) -> None:
    process = cleanup.enter_context(running(instance, workers=2))
    client = cleanup.enter_context(connect(instance))
    for name, namespace in vms.items():
        attach(client, name, cleanup.enter_context(open_vm(name, namespace, queues=2)))
    push(client, tables)
    third = cleanup.enter_context(
        open_tap("eth0", Terms("02:bb:00:00:00:30", 1500), namespace=make_namespace("three"))
    )
    flow = Flow(cleanup, vms)
    flow.wait()
    before = descriptors(process.pid)
    slowest = 0.0
    for number in range(50):
        begun = time.monotonic()
        client.attach(3, third.port_config(f"three{number}"), {"lock": third.fds[0]})
        client.detach(3)
        slowest = max(slowest, time.monotonic() - begun)
    flow.wait()
    assert flow.lost() == set()
    assert descriptors(process.pid) == before
    assert slowest < 1
    with pytest.raises(ClientError, match=r"^detach: port 3 is not attached$"):
        client.detach(3)


def test_a_port_whose_workers_no_longer_spin_loses_nothing(
    instance: str, vms: dict[str, str], tables: Tables, cleanup: ExitStack
) -> None:
    cleanup.enter_context(running(instance))
    client = cleanup.enter_context(connect(instance))
    for name, namespace in vms.items():
        attach(client, name, cleanup.enter_context(open_vm(name, namespace)))
    push(client, tables)
    flow = Flow(cleanup, vms)
    flow.wait()
    for number in range(50):
        client.spin(IDS["one"], bool(number % 2))
        flow.wait(1)
    assert flow.lost() == set()
    client.spin(IDS["two"], False)
    for name in IDS:
        kept = client.take(IDS[name])
        framing.close_all(kept.fds)
        assert kept.config.spins == (name == "one")
    with pytest.raises(ClientError, match=r"^spin: port 3 is not attached$"):
        client.spin(3, True)


def cpu_seconds(pid: int) -> float:
    """Of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_data_plane_uses_no_more_than_a_50th_of_a_cpu(
    instance: str, vms: dict[str, str], tables: Tables, cleanup: ExitStack
) -> None:
    process = cleanup.enter_context(running(instance, workers=2))
    client = cleanup.enter_context(connect(instance))
    for name, namespace in vms.items():
        attach(client, name, cleanup.enter_context(open_vm(name, namespace, queues=2)))
    push(client, tables)
    with ExitStack() as busy:
        Flow(busy, vms).wait(200)
    received = client.counters()["received"]
    before, begun = cpu_seconds(process.pid), time.monotonic()
    wait_until(lambda: time.monotonic() > begun + IDLE_SECONDS, seconds=2 * IDLE_SECONDS)
    used, passed = cpu_seconds(process.pid) - before, time.monotonic() - begun
    assert used <= 0.02 * passed
    assert client.counters()["received"] - received < 100, "it was idle"


def test_a_data_plane_killed_is_followed_by_another(
    instance: str, vms: dict[str, str], tables: Tables, cleanup: ExitStack
) -> None:
    opened = {name: cleanup.enter_context(open_vm(name, namespace)) for name, namespace in vms.items()}
    process = cleanup.enter_context(running(instance))
    client = cleanup.enter_context(connect(instance))
    for name, device in opened.items():
        attach(client, name, device)
    push(client, tables)
    flow = Flow(cleanup, vms)
    flow.wait()
    assert select.select([client], [], [], 0)[0] == []
    process.kill()
    begun = time.monotonic()
    assert select.select([client], [], [], 5)[0] == [client]
    assert time.monotonic() - begun < 1
    with pytest.raises(GoneError):
        client.hello()
    process.wait(5)  # until then its socket may take a connection that it resets

    cleanup.enter_context(running(instance))
    successor = cleanup.enter_context(connect(instance))
    assert successor.hello()["ports"] == []
    for name, device in opened.items():
        attach(successor, name, device)
    push(successor, tables)
    flow.wait()


class Systemd:
    """The service manager as this process sees it: notifications, and a store of descriptors."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._socket = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._socket.bind(str(path))
        path.chmod(0o777)
        self.environment = {"NOTIFY_SOCKET": str(path)}
        self.said: list[str] = []
        self.kept: dict[str, int] = {}
        self.reads = threading.Event()
        self.reads.set()
        thread = threading.Thread(target=self._run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self._end, path)
        stack.callback(lambda: framing.close_all(list(self.kept.values())))

    def _end(self, path: Path) -> None:
        self.reads.set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(b"END=1", str(path))

    def _run(self) -> None:
        while "END=1" not in self.said:
            data, fds, _, _ = socket.recv_fds(self._socket, 4096, 10)
            self.reads.wait()
            said = data.decode().splitlines()
            fields = dict(line.split("=", 1) for line in said)
            if "FDSTORE" in fields:
                (self.kept[fields["FDNAME"]],) = fds
            elif "FDSTOREREMOVE" in fields:
                fd = self.kept.pop(fields["FDNAME"], None)
                framing.close_all([] if fd is None else [fd])
            else:
                framing.close_all(fds)  # of a barrier
            self.said += said

    @contextmanager
    def restarted(self, instance: str) -> Iterator[subprocess.Popen[bytes]]:
        """The process again, with all that was kept from descriptor 3 on."""
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in self.kept.values()]
        program = (
            "import os, sys\n"
            "moved = [int(fd) for fd in sys.argv[2:]]\n"
            "for place, fd in enumerate(moved, start=3): os.dup2(fd, place)\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            f"os.execv(sys.argv[1], [sys.argv[1], 'dataplane', '--instance', '{instance}'])\n"
        )
        names = {"LISTEN_FDS": str(len(moved)), "LISTEN_FDNAMES": ":".join(self.kept)}
        command = [sys.executable, "-c", program, str(BIN / "isolane"), *map(str, moved)]
        environ = {**os.environ, **self.environment, **names}
        with subprocess.Popen(command, env=environ, pass_fds=moved) as process:
            framing.close_all(moved)
            try:
                yield process
            finally:
                process.kill()


def test_systemd_keeps_ports_over_the_death_of_all(
    instance: str, vms: dict[str, str], tables: Tables, cleanup: ExitStack
) -> None:
    place = Path(cleanup.enter_context(TemporaryDirectory()))
    place.chmod(0o755)  # as /run/systemd
    systemd = Systemd(cleanup, place / "notify")
    process = cleanup.enter_context(running(instance, **systemd.environment, WATCHDOG_USEC="60000"))
    connect(instance).close()
    wait_until(lambda: systemd.said.count("WATCHDOG=1") > 2, "no sign of life")
    assert systemd.said[0] == "READY=1"

    def agent() -> None:
        client = Client(instance)
        for name in IDS:
            attach(client, name, open_vm(name, vms[name]))
        push(client, tables)
        device = open_vm("one", vms["three"])
        client.attach(3, device.port_config("three"))
        client.detach(3)

    vms["three"] = vms["one"].removesuffix("one") + "three"
    netns.create(vms["three"])
    killed(agent)
    flow = Flow(cleanup, vms)
    flow.wait()
    wait_until(
        lambda: systemd.kept.keys() == {f"port-{port}.{key}" for port in (1, 2) for key in ("0", "state")}
    )
    process.kill()
    process.wait()
    os.close(systemd.kept.pop("port-2.0"))  # lost on the way: the port is given up
    systemd.kept["port-2.1"] = os.dup(0)

    cleanup.enter_context(systemd.restarted(instance))
    client = cleanup.enter_context(connect(instance))
    assert [port["name"] for port in client.hello()["ports"]] == ["one"]
    wait_until(lambda: systemd.kept.keys() == {"port-1.0", "port-1.state"})
    push(client, tables)
    attach(client, "two", cleanup.enter_context(open_vm("two", vms["two"])))
    flow.wait()
    os.kill(client.hello()["pid"], signal.SIGTERM)
    wait_until(lambda: "STOPPING=1" in systemd.said)


def test_a_manager_that_reads_nothing_holds_up_nobody(
    instance: str, vms: dict[str, str], cleanup: ExitStack
) -> None:
    """Nor does it have the watchdog kill the process: requests are answered meanwhile. When it reads again it
    hears all, in order.
    """
    place = Path(cleanup.enter_context(TemporaryDirectory()))
    place.chmod(0o755)
    systemd = Systemd(cleanup, place / "notify")
    cleanup.enter_context(running(instance, **systemd.environment))
    client, other = (cleanup.enter_context(connect(instance)) for _ in range(2))
    device = cleanup.enter_context(open_vm("one", vms["one"]))
    attach(client, "one", device)
    wait_until(lambda: systemd.kept.keys() == {"port-1.0", "port-1.state"})
    systemd.reads.clear()

    slowest = 0.0
    for number in range(1, 400):  # more than a socket holds
        begun = time.monotonic()
        client.attach(1, device.port_config(f"one{number}"), replace=True)
        slowest = max(slowest, time.monotonic() - begun)
    assert slowest < 0.5
    detaching = threading.Thread(target=client.detach, args=(1,))
    detaching.start()
    asked = 0
    while detaching.is_alive():
        begun = time.monotonic()
        other.hello()
        assert time.monotonic() - begun < 0.5
        asked += 1
    assert asked > 10, "it waits for the manager, for a while"
    assert other.hello()["ports"] == []

    systemd.reads.set()
    wait_until(lambda: systemd.said.count("FDSTORE=1") == 2 * 400, seconds=20)
    wait_until(lambda: systemd.kept == {}, seconds=20)
    client.attach(1, device.port_config("again"))
    wait_until(lambda: systemd.kept.keys() == {"port-1.0", "port-1.state"})


def test_an_apply_refused_says_which_row(instance: str, tables: Tables, cleanup: ExitStack) -> None:
    cleanup.enter_context(running(instance))
    client = cleanup.enter_context(connect(instance))
    sections = tables.change_set().sections[::-1]
    with pytest.raises(ClientError, match=r"^apply: section 0, row 0: ") as refused:
        client.apply(ChangeSet(1, sections).encode())
    assert refused.value.kind == "change-set"
    assert client.hello()["generation"] == 0
