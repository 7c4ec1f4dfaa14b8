"""`isolane lab`, `isolane up` and `isolane node`, as an operator meets them."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pyroute2 import IPRoute

from dataplane import links, netns
from dataplane.client import Client, ClientError
from tests.netns.labs import wait_until
from tools import lab, lab_state
from tools.cli import main

MANIFEST = """
kind: LogicalNetwork
metadata: {name: fabric}
---
kind: NetworkSite
metadata: {name: rack1}
spec:
  logicalNetwork: fabric
  subnets:
    - {prefix: 192.168.77.0/24, paPool: 192.168.77.100-192.168.77.250}
    - {prefix: "fd77::/64", paPool: "fd77::100-fd77::250"}
---
kind: Host
metadata: {name: h1}
spec:
  site: rack1
  providerAddresses: [192.168.77.101]
  underlay: {interface: u1, mac: "02:00:00:00:77:01", mtu: 1600}
---
kind: Host
metadata: {name: h2}
spec:
  site: rack1
  providerAddresses: [192.168.77.102]
  underlay: {interface: u2, mac: "02:00:00:00:77:02", mtu: 1600}
---
kind: Host
metadata: {name: ovs1}
spec:
  site: rack1
  managed: false
  providerAddresses: [192.168.77.9]
  underlay: {mac: "02:00:00:00:77:09", mtu: 1600}
---
kind: VMNetwork
metadata: {name: Net, tenant: blue}
spec: {logicalNetwork: fabric}
---
kind: VMSubnet
metadata: {name: One, tenant: blue}
spec: {vmNetwork: Net, prefixes: [10.1.1.0/24, "fd00:1:1::/64"], vsid: 5001, translation: rewrite}
---
kind: VMSubnet
metadata: {name: Two, tenant: blue}
spec: {vmNetwork: Net, prefixes: [10.1.2.0/24, "fd00:1:2::/64"], vsid: 5002, translation: nvgre}
---
kind: Port
metadata: {name: web, tenant: blue}
spec: {vmSubnet: One, host: h1, addresses: [10.1.1.10, "fd00:1:1::10"], mac: "02:bb:00:00:00:10",
       providerAddresses: [192.168.77.110, "fd77::110"], attach: {tap: eth0, netns: web}}
---
kind: Port
metadata: {name: app, tenant: blue}
spec: {vmSubnet: One, host: h2, addresses: [10.1.1.20, "fd00:1:1::20"], mac: "02:bb:00:00:00:20",
       providerAddresses: [192.168.77.120, "fd77::120"], attach: {veth: eth0, netns: app}}
---
kind: Port
metadata: {name: db, tenant: blue}
spec: {vmSubnet: Two, host: h2, addresses: [10.1.2.20, "fd00:1:2::20"], mac: "02:bb:00:00:01:20",
       attach: {tap: eth0, netns: db}}
---
kind: Port
metadata: {name: far, tenant: blue}
spec: {vmSubnet: Two, host: ovs1, addresses: [10.1.2.9], mac: "02:bb:00:00:01:09",
       attach: {veth: eth0, netns: far}}
"""

ISOLANE = Path(sysconfig.get_path("scripts"), "isolane")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def prefix() -> Iterator[str]:
    """A lab's prefix; what is left of the lab at the end is removed."""
    prefix = f"dev{os.getpid()}."
    yield prefix
    with contextlib.suppress(lab.LabError):
        lab.down(prefix)


def isolane(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ISOLANE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def traces(prefix: str) -> list[str]:
    """Names of namespaces, files and processes that carry the prefix."""
    found = [path.name for path in netns.DIRECTORY.glob(f"{prefix}*")]
    found += [str(path) for path in Path("/run/isolane").rglob(f"*{prefix}*")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if prefix.encode() in path.read_bytes():
                found.append(str(path))
    return found


def device(namespace: str, name: str) -> dict[str, Any]:
    """What a device is in its namespace, with its addresses and default routes."""

    def read() -> dict[str, Any]:
        with IPRoute() as ip:
            link = links.get(ip, name)
            return {
                "mac": link.mac,
                "mtu": link.mtu,
                "up": link.up,
                "addresses": sorted(
                    f"{m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}" for m in ip.get_addr(index=link.index)
                ),
                "gateways": sorted(
                    m.get_attr("RTA_GATEWAY")
                    for family in (2, 10)
                    for m in ip.get_routes(family=family)
                    if m["dst_len"] == 0 and m.get_attr("RTA_OIF") == link.index
                ),
            }

    return netns.call(namespace, read)


def devices(namespace: str) -> set[str]:
    def read() -> set[str]:
        with IPRoute() as ip:
            return {m.get_attr("IFLA_IFNAME") for m in ip.get_links()}

    return netns.call(namespace, read)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lab_from_up_to_down(manifest: Path, prefix: str, workers: int) -> None:
    done = isolane("lab", "up", "-f", manifest, "--prefix", prefix, "--workers", workers)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    shown = isolane("lab", "status", "--prefix", prefix, "-o", "json")
    assert json.loads(shown.stdout) == expected_status(prefix)
    check_hosts(prefix)
    check_vms(prefix)
    check_traffic(prefix)
    again = isolane("lab", "up", "-f", manifest, "--prefix", prefix)
    assert again.returncode == 1
    assert f"a lab with prefix {prefix} is there already" in again.stderr
    assert devices(f"{prefix}h1") >= {"u1"}, "the second up has not touched it"
    assert isolane("lab", "down", "--prefix", prefix).returncode == 0
    assert traces(prefix) == []
    gone = isolane("lab", "down", "--prefix", prefix)
    assert (gone.returncode, gone.stderr) == (1, f"Error: no lab with prefix {prefix}\n")


def test_a_lab_follows_other_commands(manifest: Path, prefix: str, tmp_path: Path) -> None:
    """Status says what is so now, and `lab apply` gives a VM its addresses whoever has moved it."""
    assert isolane("lab", "up", "-f", manifest, "--prefix", prefix).returncode == 0
    store = f"/run/isolane/labs/{prefix}.store"
    moved = tmp_path / "moved.yaml"
    moved.write_text(manifest.read_text().replace("host: h1", "host: h2", 1))
    before = {
        port["name"]: port
        for port in json.loads(isolane("lab", "status", "--prefix", prefix, "-o", "json").stdout)["ports"]
    }
    there = isolane("apply", "--store", store, "-f", moved, "--wait")
    assert there.returncode == 0, there.stderr
    after = {
        port["name"]: port
        for port in json.loads(isolane("lab", "status", "--prefix", prefix, "-o", "json").stdout)["ports"]
    }
    (name,) = {name for name in before if before[name] != after[name]}
    assert (before[name]["host"], after[name]["host"]) == ("h1", "h2")
    namespace, vm = after[name]["netns"], after[name]["device"]
    assert set(after[name]["addresses"]) - {
        address.partition("/")[0] for address in device(namespace, vm)["addresses"]
    }
    assert isolane("lab", "apply", "-f", moved, "--prefix", prefix).returncode == 0
    found = device(namespace, vm)
    assert set(after[name]["addresses"]) <= {address.partition("/")[0] for address in found["addresses"]}
    assert found["gateways"]


def expected_status(prefix: str) -> dict[str, Any]:
    hosts = [
        {
            "name": name,
            "netns": f"{prefix}{name}",
            "managed": name != "ovs1",
            "underlay": {"device": interface, "mac": f"02:00:00:00:77:0{number}", "mtu": 1600},
            "providerAddresses": [pa],
            "socket": None if name == "ovs1" else f"/run/isolane/{prefix}{name}/dataplane.sock",
        }
        for name, interface, number, pa in (
            ("h1", "u1", 1, "192.168.77.101"),
            ("h2", "u2", 2, "192.168.77.102"),
            ("ovs1", "eth0", 9, "192.168.77.9"),
        )
    ]
    ports = [
        {
            "name": name,
            "tenant": "blue",
            "netns": f"{prefix}{name}",
            "device": "eth0",
            "mac": mac,
            "addresses": addresses,
            "host": host,
            "virtualSubnetId": vsid,
            "providerAddresses": pas,
        }
        for name, mac, addresses, host, vsid, pas in (
            (
                "app",
                "02:bb:00:00:00:20",
                ["10.1.1.20", "fd00:1:1::20"],
                "h2",
                5001,
                ["192.168.77.120", "fd77::120"],
            ),
            ("db", "02:bb:00:00:01:20", ["10.1.2.20", "fd00:1:2::20"], "h2", 5002, []),
            ("far", "02:bb:00:00:01:09", ["10.1.2.9"], "ovs1", 5002, []),
            (
                "web",
                "02:bb:00:00:00:10",
                ["10.1.1.10", "fd00:1:1::10"],
                "h1",
                5001,
                ["192.168.77.110", "fd77::110"],
            ),
        )
    ]
    return {"prefix": prefix, "hosts": hosts, "ports": ports}


def check_hosts(prefix: str) -> None:
    for host, name, number in (("h1", "u1", 1), ("h2", "u2", 2), ("ovs1", "eth0", 9)):
        assert device(f"{prefix}{host}", name) == {
            "mac": f"02:00:00:00:77:0{number}", "mtu": 1600, "up": True, "addresses": [], "gateways": [],
        }  # fmt: skip
    assert devices(f"{prefix}ovs1") == {"lo", "eth0"}, "bare"
    assert devices(f"{prefix}far") == {"lo"}, "for whatever runs on the unmanaged host"
    assert "br0" in devices(f"{prefix}fabric")


def check_vms(prefix: str) -> None:
    for name, mac, subnet, number in (
        ("web", "00:10", 1, 10),
        ("app", "00:20", 1, 20),
        ("db", "01:20", 2, 20),
    ):
        seen = device(f"{prefix}{name}", "eth0")
        link_local = next(address for address in seen["addresses"] if address.startswith("fe80::bb:ff:fe00:"))
        assert seen == {
            "mac": f"02:bb:00:00:{mac}", "mtu": 1500, "up": True,
            "addresses": [f"10.1.{subnet}.{number}/24", f"fd00:1:{subnet}::{number}/64", link_local],
            "gateways": [f"10.1.{subnet}.1", f"fd00:1:{subnet}::1"],
        }  # fmt: skip


def check_traffic(prefix: str) -> None:
    for address in ("10.1.1.20", "fd00:1:1::20", "10.1.2.20", "fd00:1:2::20", "10.1.1.1", "fd00:1:1::1"):
        done = netns.call(
            f"{prefix}web",
            subprocess.run,
            ["ping", "-c1", "-W5", address],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    document = json.loads(isolane("node", "counters", "--instance", f"{prefix}h1", "-o", "json").stdout)
    assert document["ports"]["web"]["received"] > 0
    assert document["ports"]["underlay"]["sent"] > 0
    pa = isolane("node", "ping-pa", "192.168.77.102", "--instance", f"{prefix}h1")
    assert pa.stdout == "192.168.77.102 is at 02:00:00:00:77:02\n", pa.stderr
    nobody = isolane("node", "ping-pa", "192.168.77.9", "--seconds", "0.2", "--instance", f"{prefix}h1")
    assert (nobody.returncode, nobody.stderr) == (1, "Error: ping-pa: 192.168.77.9 does not answer\n")
    own = isolane("node", "ping-pa", "192.168.77.101", "--instance", f"{prefix}h1")
    assert (own.returncode, own.stderr) == (1, "Error: ping-pa: 192.168.77.101 is this host's own\n")
    for query in ("status", "ports", "records", "routes", "neighbours", "counters"):
        for output in ("table", "json"):
            shown = CliRunner().invoke(main, ["node", query, "--instance", f"{prefix}h2", "-o", output])
            assert shown.exit_code == 0, shown.output
            assert shown.stdout


def test_a_host_that_fails_leaves_nothing(manifest: Path, prefix: str) -> None:
    manifest.write_text(MANIFEST.replace("attach: {tap: eth0, netns: db}", "attach: {device: absent0}"))
    done = isolane("lab", "up", "-f", manifest, "--prefix", prefix)
    assert done.returncode == 1
    assert "Error: host h2: isolane up ended: device absent0: no such device\n" in done.stderr
    assert traces(prefix) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["namespaces", "starting", "duplicate"])
def test_a_signal_leaves_nothing(manifest: Path, prefix: str, number: int, moment: str) -> None:
    command = [ISOLANE, "lab", "up", "-f", manifest, "--prefix", prefix]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if moment in line:
                process.send_signal(number)
        assert process.wait() != 0
    assert traces(prefix) == []


def test_what_a_killed_up_left_goes_with_down(manifest: Path, prefix: str) -> None:
    command = [ISOLANE, "lab", "up", "-f", manifest, "--prefix", prefix]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "duplicate" in line:
                process.kill()
    half = isolane("lab", "status", "--prefix", prefix)
    assert (half.returncode, "is not up" in half.stderr) == (1, True)
    assert isolane("lab", "down", "--prefix", prefix).returncode == 0
    assert traces(prefix) == []


def test_a_host_that_no_state_names_makes_nothing(manifest: Path, prefix: str) -> None:
    """`up` is killed when it has started a host and has not yet noted that."""

    def die() -> None:
        noted = lab_state.State.save

        def save(state: lab_state.State) -> None:
            if state.processes:
                os.kill(os.getpid(), signal.SIGKILL)
            noted(state)

        pytest.MonkeyPatch().setattr(lab_state.State, "save", save)
        lab.up([manifest], prefix)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    wait_until(lambda: not any(trace.startswith("/proc/") for trace in traces(prefix)), "an orphan is left")
    assert devices(f"{prefix}web") == {"lo"}
    lab.down(prefix)
    assert traces(prefix) == []


def test_down_ends_only_what_is_named(prefix: str) -> None:
    """A process id that now belongs to another process, and one that does not heed SIGTERM."""
    stubborn = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    )
    bystander = subprocess.Popen(["sleep", "60"])
    named = subprocess.Popen(["python3", "-c", stubborn], stdout=subprocess.PIPE)
    assert named.stdout is not None
    named.stdout.readline()
    started = [lab_state.start_time(process.pid) or 0 for process in (bystander, named)]
    state = lab_state.State(prefix, [], [
        lab_state.Process("h1", f"{prefix}h1", bystander.pid, started[0] - 1),
        lab_state.Process("h2", f"{prefix}h2", named.pid, started[1]),
    ])  # fmt: skip
    state.create()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_state, "STOP_SECONDS", 0.2)
        lab.down(prefix)
    assert bystander.poll() is None
    assert not Path(f"/proc/{named.pid}").exists()
    bystander.kill()
    bystander.wait()
    named.returncode = -signal.SIGKILL
    named.stdout.close()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("netns: web}", "netns: h2}", "h2 would be the namespace of two things"),
        ("providerAddresses: [192.168.77.9]", "providerAddresses: [192.168.99.9]", "192.168.99.9"),
    ],
)
def test_what_no_lab_can_be_made_of(manifest: Path, prefix: str, old: str, new: str, text: str) -> None:
    manifest.write_text(MANIFEST.replace(old, new))
    done = isolane("lab", "up", "-f", manifest, "--prefix", prefix)
    assert done.returncode == 1
    assert text in done.stderr
    assert traces(prefix) == []


def test_another_namespace_of_the_name_is_left_alone(manifest: Path, prefix: str) -> None:
    netns.create(f"{prefix}web")
    try:
        done = isolane("lab", "up", "-f", manifest, "--prefix", prefix)
        assert done.returncode == 1
        assert f"a network namespace {prefix}web is there already" in done.stderr
        assert traces(prefix) == [f"{prefix}web"]
    finally:
        netns.remove(f"{prefix}web")


# ---- isolane up --------------------------------------------------------------------------------------------


def test_up_on_a_store_needs_one_and_its_host(manifest: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    done = isolane("up", "--store", store, "--host", "h1")
    assert (done.returncode, done.stderr) == (1, f"{store}: no store is there\n")
    assert not store.exists()
    assert isolane("apply", "-f", manifest, "--store", store).returncode == 0
    done = isolane("up", "--store", store, "--host", "h9")
    assert (done.returncode, done.stderr) == (1, "unknown host: h9; hosts isolane runs on: h1, h2\n")


class Host:
    """A namespace with an underlay device, and `isolane up` in it."""

    def __init__(self, prefix: str, manifest: Path) -> None:
        self.namespace = f"{prefix}h1"
        options = {"-f": manifest, "--host": "h1", "--instance": self.namespace, "--netns-prefix": prefix}
        self._command = [ISOLANE, "up", *(word for option in options.items() for word in option)]
        for name in (self.namespace, f"{prefix}web"):
            netns.create(name)
        netns.call(self.namespace, self._make_underlay)

    @staticmethod
    def _make_underlay() -> None:
        with IPRoute() as ip:
            ip.link(
                "add", ifname="u1", kind="veth", address="02:00:00:00:77:01", mtu=1600, peer={"ifname": "p1"}
            )
        for name in ("u1", "p1"):
            links.set_state(name, "up")

    def start(self) -> subprocess.Popen[str]:
        return netns.call(self.namespace, subprocess.Popen, self._command, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def running(host: Host) -> Iterator[subprocess.Popen[str]]:
    with host.start() as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def host(manifest: Path, prefix: str) -> Iterator[Host]:
    made = Host(prefix, manifest)
    yield made
    shutil.rmtree(Path("/run/isolane", made.namespace), ignore_errors=True)  # of one that was killed
    for path in netns.DIRECTORY.glob(f"{prefix}*"):
        netns.remove(path.name)


def ingress_filters(namespace: str) -> str:
    command = ["tc", "filter", "show", "dev", "u1", "ingress"]
    return netns.call(namespace, subprocess.run, command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_removes_what_it_made(host: Host, prefix: str, number: int) -> None:
    with running(host) as process:
        assert "eth0" in devices(f"{prefix}web")
        assert "isolane_divert" in ingress_filters(host.namespace)
        with Client(host.namespace) as client:
            seen = client.call("status")
            assert seen["host"] == "h1"
            assert seen["providerAddresses"] == ["192.168.77.101", "192.168.77.110", "fd77::110"]
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert devices(f"{prefix}web") == {"lo"}
    assert ingress_filters(host.namespace) == ""
    assert not Path("/run/isolane", host.namespace).exists()


def test_up_after_a_crash_takes_over(host: Host, prefix: str) -> None:
    with running(host) as process:
        process.kill()
        process.wait()
    assert "eth0" in devices(f"{prefix}web"), "the VM keeps its device"
    assert "isolane_divert" in ingress_filters(host.namespace)
    with running(host) as process:
        process.terminate()
        assert process.wait(10) == 0
    assert devices(f"{prefix}web") == {"lo"}
    assert ingress_filters(host.namespace) == ""


def test_up_runs_once(host: Host) -> None:
    with running(host), host.start() as second:
        _, words = second.communicate(timeout=10)
        assert (second.returncode, words) == (1, f"Error: instance {host.namespace} is running already\n")


def ask(host: Host) -> dict[str, Any] | None:
    """The status, once data plane and agent are both there."""
    with contextlib.suppress(ClientError), Client(host.namespace) as client:
        status: dict[str, Any] = client.status()
        if status["agent"] and Path(f"/proc/{status['agent']['pid']}").exists():
            return status
    return None


def _notify(pid: int, words: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(words, f"\0isolane-up-{pid}")


def index_of(namespace: str, name: str) -> int:
    def read() -> int:
        with IPRoute() as ip:
            return links.get(ip, name).index

    return netns.call(namespace, read)


@pytest.mark.parametrize("victims", [("agent",), ("pid",), ("agent", "pid")])
def test_up_starts_again_what_dies(host: Host, prefix: str, victims: tuple[str, ...]) -> None:
    """The VM keeps its device, and at the end nothing is left, whoever opened it."""

    def is_all_there() -> bool:
        status = ask(host)
        if status is None or status["agent"].get("state") != "applied":
            return False
        pids = {"agent": status["agent"]["pid"], "pid": status["pid"]}
        with Client(host.namespace) as client:
            ports = {port["name"]: port["device"] for port in client.ports()}
        return ports == {"web": "eth0"} and all(pids[name] != before[name] for name in victims)

    with running(host) as process:
        index = index_of(f"{prefix}web", "eth0")
        for _ in range(2):
            status = ask(host)
            assert status is not None
            before = {"agent": status["agent"]["pid"], "pid": status["pid"]}
            for name in victims:
                os.kill(before[name], signal.SIGKILL)
            wait_until(is_all_there, "it does not come back", seconds=20)
            assert index_of(f"{prefix}web", "eth0") == index
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read().count("starting it again") == 2 * len(victims)
    assert devices(f"{prefix}web") == {"lo"}
    assert ingress_filters(host.namespace) == ""
    assert not Path("/run/isolane", host.namespace).exists()


def test_up_heeds_no_notification_of_others(host: Host, prefix: str) -> None:
    with running(host) as process:
        for words in (b"\xff", b"READY=1"):
            netns.call(host.namespace, _notify, process.pid, words)
        status = ask(host)
        assert status is not None
        process.terminate()
        assert process.wait(10) == 0
    assert devices(f"{prefix}web") == {"lo"}


@pytest.mark.parametrize("victim", ["agent", "pid"])
def test_up_ends_while_a_process_of_it_is_dead(host: Host, prefix: str, victim: str) -> None:
    with running(host) as process:
        status = ask(host)
        assert status is not None
        os.kill(status["agent"]["pid"] if victim == "agent" else status["pid"], signal.SIGKILL)
        process.terminate()
        assert process.wait(20) == 0
    assert devices(f"{prefix}web") == {"lo"}
    assert ingress_filters(host.namespace) == ""


def test_up_of_an_unknown_host_names_the_known(manifest: Path) -> None:
    done = isolane("up", "-f", manifest, "--host", "h9")
    assert done.returncode == 1
    assert "h1, h2" in done.stderr


def test_an_instance_is_no_path(manifest: Path) -> None:
    done = isolane("up", "-f", manifest, "--host", "h1", "--instance", "../h1")
    assert done.returncode == 2


def test_nobody_answers_for_an_instance_that_does_not_run() -> None:
    done = isolane("node", "status", "--instance", "nowhere")
    assert done.returncode == 1
    assert "no isolane runs as instance nowhere" in done.stderr
