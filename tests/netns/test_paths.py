"""What stacks and tools hear of the virtual router: the path, refusals at once, and MTUs that settle."""

import errno
import json
import os
import re
import socket
from collections.abc import Iterator

import pytest

from dataplane.host import netns
from tests.netns.labs import EXAMPLE, Lab, running_lab
from tests.netns.programs import attempt, iperf3, run
from tools.demo.vms import Vm

AT_ONCE = 1.0
"""Seconds: far below what a stack waits for before it tries once more."""

RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
"""IP_RECVERR, IPV6_RECVERR: a UDP socket hears of errors that may pass, too."""
versions = pytest.mark.parametrize("version", [4, 6])
FAR = pytest.mark.parametrize("far", ["blue-cache", "blue-db"])
"""In the other subnet: on the same host, by IP rewrite."""
NARROW = EXAMPLE.replace("mtu: 1600", "mtu: 1500")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The example over an underlay of 1,500 bytes, as are Red's VMs: the lab has told them of 1,458."""
    manifest = tmp_path_factory.mktemp("narrow") / "narrow.yaml"
    manifest.write_text(NARROW)
    with running_lab(manifest, f"nrw{os.getpid()}-") as lab:
        for name in ("red-web", "red-app"):
            run(lab.vms[name].namespace, "ip", "link", "set", lab.vms[name].device, "mtu", "1500")
        yield lab


def gateway(lab: Lab, vm: Vm, version: int) -> str:
    return str(lab.gateways[vm.vsid][version])


# ---- the path ----------------------------------------------------------------------------------------------


@versions
@FAR
@pytest.mark.parametrize("probe", ["--udp", "--icmp", "--tcp"])
def test_traceroute_shows_router_and_vm(lab: Lab, far: str, version: int, probe: str) -> None:
    client, to = lab.vms["blue-web"], lab.vms[far].addresses[version]
    seen = run(client.namespace, "traceroute", probe, "-n", "-w", "2", "-m", "4", str(to))
    hops = re.findall(r"^ +\d+ +(.*)$", seen, re.M)
    assert [hop.split()[0] for hop in hops] == [gateway(lab, client, version), str(to)], seen
    assert "*" not in seen


@versions
@FAR
def test_tracepath_shows_router_vm_and_mtu(lab: Lab, far: str, version: int) -> None:
    client, to = lab.vms["blue-web"], lab.vms[far].addresses[version]
    seen = run(client.namespace, "tracepath", "-n", "-m", "4", str(to))
    assert re.search(rf"^ 1:\s+{gateway(lab, client, version)} ", seen, re.M), seen
    assert re.search(rf"^ 2:\s+{to} .*reached", seen, re.M), seen
    assert re.search(r"Resume: pmtu 1500 hops 2 back 2", seen), seen


@versions
def test_mtr_loses_nothing(lab: Lab, version: int) -> None:
    """Five rounds within a second or two, of two hops."""
    client, to = lab.vms["blue-web"], lab.vms["blue-db"].addresses[version]
    command = ["mtr", f"-{version}", "--json", "--no-dns", "--interval", "0.2", "--report-cycles", "5"]
    report = json.loads(run(client.namespace, *command, str(to)))["report"]
    assert [hub["host"] for hub in report["hubs"]] == [gateway(lab, client, version), str(to)]
    assert [hub["Loss%"] for hub in report["hubs"]] == [0, 0]


# ---- refused at once ---------------------------------------------------------------------------------------


def refusal(vm: Vm, kind: socket.SocketKind, to: tuple[str, int]) -> int:
    """The error that a socket of the VM gets when it speaks to an address, within a second."""
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    with netns.call(vm.namespace, socket.socket, family, kind) as opened:
        opened.settimeout(AT_ONCE)
        opened.setsockopt(*RECVERR[family], 1)
        try:
            opened.connect(to)
            opened.send(b"anybody?")
            opened.recv(1)
        except OSError as error:
            return error.errno or 0
    return 0


@versions
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_the_gateway_has_no_services(lab: Lab, kind: socket.SocketKind, version: int) -> None:
    vm = lab.vms["red-web"]
    with lab.dropping({("h1", vm.name, "router-local"): 1}):
        assert refusal(vm, kind, (gateway(lab, vm, version), 33435)) == errno.ECONNREFUSED


@versions
@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_nobody_is_unreachable(lab: Lab, kind: socket.SocketKind, version: int) -> None:
    """In the other subnet, by the router."""
    vm, nobody = lab.vms["blue-web"], {4: "10.1.2.99", 6: "fd00:1:2::99"}[version]
    with lab.dropping({("h1", vm.name, "no-record"): 1}):
        assert refusal(vm, kind, (nobody, 80)) == errno.EHOSTUNREACH


@versions
def test_nowhere_is_unreachable(lab: Lab, version: int) -> None:
    vm, nowhere = lab.vms["blue-web"], {4: "203.0.113.9", 6: "2001:db8::9"}[version]
    with lab.dropping({("h1", vm.name, "no-route"): 1}):
        assert refusal(vm, socket.SOCK_DGRAM, (nowhere, 80)) == errno.ENETUNREACH


# ---- MTUs --------------------------------------------------------------------------------------------------


@versions
def test_a_ping_that_is_too_big_is_told_what_fits(narrow: Lab, version: int) -> None:
    """An IP packet of 1,500 bytes over an underlay of 1,500."""
    client, to = narrow.vms["red-web"], narrow.vms["red-app"].addresses[version]
    size = str(1500 - (28 if version == 4 else 48))
    done = attempt(client.namespace, "ping", "-n", "-M", "do", "-c", "1", "-W", "1", "-s", size, str(to))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert f"From {gateway(narrow, client, version)}" in said, said
    assert ("Frag needed and DF set (mtu = 1458)" if version == 4 else "Packet too big: mtu=1458") in said
    fits = str(1458 - (28 if version == 4 else 48))
    run(client.namespace, "ping", "-n", "-M", "do", "-c", "1", "-W", "1", "-s", fits, str(to))


@versions
@pytest.mark.parametrize("pair", ["red-web:red-app", "red-app:red-web"])
def test_tcp_settles_over_an_underlay_that_is_too_small(narrow: Lab, pair: str, version: int) -> None:
    """Its first full segments die, of TAPs in super-packets; it hears of it and sends shorter ones."""
    client, server = (narrow.vms[name] for name in pair.split(":"))
    for vm in (client, server):
        run(vm.namespace, "ip", "route", "flush", "cache")
        run(vm.namespace, "ip", "-6", "route", "flush", "cache")
    report = iperf3(client.namespace, server.namespace, str(server.addresses[version]), 1)
    assert report["end"]["sum_received"]["bytes"] > 10_000_000
    assert " mtu 1458" in run(client.namespace, "ip", "route", "get", str(server.addresses[version]))
