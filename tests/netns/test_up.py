"""`isolane up`, as an operator meets it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from dataplane.host import links, netns
from dataplane.process.client import Client, ClientError
from tests.netns.lab_commands import ISOLANE, devices, isolane
from tests.netns.labs import wait_until


@pytest.fixture
def prefix(lab_prefix: str) -> str:
    return lab_prefix


def test_up_on_a_store_needs_one_and_its_host(manifest: Path, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    done = isolane("up", "--store", store, "--host", "h1")
    assert (done.returncode, done.stderr) == (1, f"error: {store}: no store is there\n")
    assert not store.exists()
    assert isolane("apply", "-f", manifest, "--store", store).returncode == 0
    done = isolane("up", "--store", store, "--host", "h9")
    assert (done.returncode, done.stderr) == (1, "error: unknown host: h9; hosts isolane runs on: h1, h2\n")


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


WAITING = """\
---
kind: Port
metadata: {name: theirs, tenant: blue}
spec: {vmSubnet: Two, host: h1, addresses: [10.1.2.30], attach: {device: rd0}}
---
kind: Port
metadata: {name: ours, tenant: blue}
spec: {vmSubnet: Two, host: h1, addresses: [10.1.2.31], attach: {vm: vm0}}
"""


def test_up_does_not_wait_for_vms_that_are_off(manifest: Path, host: Host) -> None:
    manifest.write_text(manifest.read_text() + WAITING)
    with running(host) as process:
        assert {"vm0", "rd0"} & devices(host.namespace) == {"vm0"}
        with Client(host.namespace) as client:
            agent = client.status()["agent"]
        waits = ["TAP vm0: no hypervisor has opened it", "device rd0: no such device"]
        assert (agent["state"], agent["problems"], agent["waiting"]) == ("applied", [], waits)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert "vm0" not in devices(host.namespace)


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
        assert (second.returncode, words) == (1, f"error: instance {host.namespace} is running already\n")


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
        return ports == {"blue/web": "eth0"} and all(pids[name] != before[name] for name in victims)

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
