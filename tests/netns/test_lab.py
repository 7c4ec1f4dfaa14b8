"""`isolane lab` and `isolane node`, as an operator meets them."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pyroute2 import IPRoute

from dataplane.host import links, netns
from tests.netns.lab_commands import ISOLANE, MANIFEST, devices, isolane
from tests.netns.labs import wait_until
from tools.cli import main
from tools.lab import build as lab
from tools.lab import state as lab_state


@pytest.fixture
def prefix(lab_prefix: str) -> str:
    return lab_prefix


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


@pytest.mark.parametrize("workers", [1, 2])
def test_a_lab_from_up_to_down(manifest: Path, prefix: str, workers: int) -> None:
    done = isolane("lab", "up", "-f", manifest, "--prefix", prefix, "--workers", workers)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    shown = isolane("lab", "status", "--prefix", prefix, "-o", "json")
    assert json.loads(shown.stdout) == expected_status(prefix)
    check_hosts(prefix)
    check_vms(prefix)
    check_traffic(prefix)
    check_records(prefix, manifest)
    again = isolane("lab", "up", "-f", manifest, "--prefix", prefix)
    assert again.returncode == 1
    assert f"a lab with prefix {prefix} is there already" in again.stderr
    assert devices(f"{prefix}h1") >= {"u1"}, "the second up has not touched it"
    assert isolane("lab", "down", "--prefix", prefix).returncode == 0
    assert traces(prefix) == []
    gone = isolane("lab", "down", "--prefix", prefix)
    assert (gone.returncode, gone.stderr.splitlines()[0]) == (1, f"error: no lab with prefix {prefix}")


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
    assert document["ports"]["blue/web"]["received"] > 0
    assert document["ports"]["underlay"]["sent"] > 0
    pa = isolane("node", "ping-pa", "192.168.77.102", "--instance", f"{prefix}h1")
    assert pa.stdout == "192.168.77.102 is at 02:00:00:00:77:02\n", pa.stderr
    nobody = isolane("node", "ping-pa", "192.168.77.9", "--seconds", "0.2", "--instance", f"{prefix}h1")
    assert (nobody.returncode, nobody.stderr) == (1, "error: ping-pa: 192.168.77.9 does not answer\n")
    own = isolane("node", "ping-pa", "192.168.77.101", "--instance", f"{prefix}h1")
    assert (own.returncode, own.stderr) == (1, "error: ping-pa: 192.168.77.101 is this host's own\n")
    for query in ("status", "ports", "records", "routes", "neighbours", "counters"):
        for output in ("table", "json"):
            shown = CliRunner().invoke(main, ["node", query, "--instance", f"{prefix}h2", "-o", output])
            assert shown.exit_code == 0, shown.output
            assert shown.stdout


def check_records(prefix: str, manifest: Path) -> None:
    """Ports of other hosts too are named, by the store that the agent follows."""
    records = isolane("node", "records", "--instance", f"{prefix}h2", "-o", "json")
    assert not records.stderr
    compiled = json.loads(isolane("compile", manifest, "--host", "h2", "-o", "json").stdout)["records"]
    assert json.loads(records.stdout) == compiled


MANY = "".join(
    f"""\
---
kind: Port
metadata: {{name: v{number}, tenant: blue}}
spec: {{vmSubnet: Two, host: h2, attach: {{veth: eth0, netns: v{number}, driver: afxdp}}}}
"""
    for number in range(9)
)
"""More ports by AF_XDP than one packet thread has memory for."""


def test_a_host_that_fails_leaves_nothing(manifest: Path, prefix: str) -> None:
    manifest.write_text(MANIFEST + MANY)
    done = isolane("lab", "up", "-f", manifest, "--prefix", prefix)
    assert done.returncode == 1
    assert re.search(r"^error: host h2: isolane up ended: port blue/v\d: data plane: ", done.stderr, re.M)
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
