"""Nothing of a VM gets to the host's stack, and nothing of the host to a VM, by whatever a port is attached:
before the agent has attached it, while it is, and after. The host forwards, IPv4 and IPv6, and answers ARP
for others.
"""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from dataplane.host import bpf_programs, links, netns
from dataplane.host.device import host_end_name
from dataplane.host.filters import Way, has_filter
from tests.netns.hypervisor import arp, open_tap
from tests.netns.labs import wait_until
from tests.netns.probing import HOST_MAC, listening, make_router, probes, until
from tests.netns.rig import MACS, link_of, run
from tests.netns.sites import FABRIC, FIRST_RUN, Site, Vm
from tests.netns.wires import one_cpu, wait_for_carrier

VM = Vm("probe", "blue", "h1", 2)
TAP = "vnet7"
GATEWAY = socket.inet_aton("10.0.0.1")
ROUTER_MAC = bytes.fromhex("02150a000001")
MARK = b"\xff" * 12 + b"\x88\xb5" + bytes(46)


def port(attach: str) -> str:
    """Its MAC and address are those of the probes."""
    return f"""
---
kind: Port
metadata: {{name: {VM.name}, tenant: {VM.tenant}}}
spec: {{vmSubnet: sub, host: h1, addresses: [10.1.1.2], mac: "{MACS[0]}", attach: {attach}}}
"""


class Hypervisor:
    """Holds a TAP in the host's namespace as QEMU does, and has set it up as libvirt does: what is written
    comes from the VM.
    """

    def __init__(self, host: str, name: str) -> None:
        self._host, self._name = host, name
        self._fd = netns.call(host, open_tap, name)
        take_host_mac(host, name)
        self._set_up()

    def _set_up(self) -> None:
        netns.call(self._host, links.set_state, self._name, "up")

    def send(self, frame: bytes) -> None:
        try:
            os.write(self._fd, frame)
        except OSError as error:  # an agent that found it down, before it was set up, gave it back so
            if error.errno != errno.EIO:
                raise
            self._set_up()
            os.write(self._fd, frame)

    def until(self, mark: bytes) -> Iterator[bytes]:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                frame = os.read(self._fd, 4000)
                if frame == mark:
                    return
                yield frame
        raise AssertionError("no mark came")

    def pass_over(self) -> None:
        """What the host said of itself when the device came up, before it was sealed."""
        with suppress(BlockingIOError):
            while True:
                os.read(self._fd, 4000)

    def close(self) -> None:
        os.close(self._fd)


class Guest:
    """The kernel of a namespace whose eth0 is the VM's."""

    def __init__(self, namespace: str, kind: str) -> None:
        if kind == "veth":
            wait_for_carrier(namespace, "eth0")
        self._socket = netns.call(namespace, listening, "eth0")

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def until(self, mark: bytes) -> Iterator[bytes]:
        return until(self._socket, mark)

    def close(self) -> None:
        self._socket.close()


def take_host_mac(host: str, name: str) -> None:
    """The one that the probes are for."""
    run(host, "ip", "link", "set", name, "address", HOST_MAC)


MAC = bytes.fromhex(MACS[0].replace(":", ""))
OWN = socket.inet_aton("10.1.1.2")
ASK = b"\xff" * 6 + MAC + arp(1, MAC, OWN, bytes(6), GATEWAY)
ANSWER = MAC + ROUTER_MAC + arp(2, ROUTER_MAC, GATEWAY, MAC, OWN)


def leaks(host: str, vm: Hypervisor | Guest, device: str | None, attached: bool) -> list[bytes]:
    """Send the probes from the VM: what came back but the answer of isolane's gateway, which comes last and
    has to if it is attached, and what went beyond the host.

    device: the host's that leads to the VM. On one CPU what the host makes of a frame is under way before
    the mark that is sent after it.
    """
    with ExitStack() as stack:
        stack.enter_context(one_cpu())
        beyond = stack.enter_context(netns.call(host, listening, "out1"))
        leaving = stack.enter_context(netns.call(host, listening, "out0"))
        for frame in probes():
            vm.send(frame)
        found: list[bytes] = []
        if attached:
            vm.send(ASK)
            found += (frame for frame in vm.until(ANSWER))
        if device is not None:
            stack.enter_context(netns.call(host, listening, device)).send(MARK)
            found += vm.until(MARK)
        leaving.send(MARK)
        return found + list(until(beyond, MARK))


@pytest.fixture
def site(prefix: str, tmp_path: Path, cleanup: ExitStack) -> Iterator[Site]:
    made = Site(prefix, tmp_path, cleanup, [VM])
    make_router(made.nodes["h1"].namespace)
    run(f"{prefix}{VM.name}", "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    yield made
    assert not made.log.exists() or "Traceback" not in made.log.read_text()


def host_of(site: Site) -> str:
    return site.nodes["h1"].namespace


def is_sealed(host: str, name: str) -> bool:
    def look() -> bool:
        with IPRoute() as ip:
            there = links.find(ip, name)
            silence = links.mute_sysctls(name)
            return (
                there is not None
                and has_filter(ip, there, Way.IN, bpf_programs.DROP)
                and {key: links.read_sysctl(key) for key in silence} == silence
            )

    return netns.call(host, look)


def names(namespace: str) -> set[str]:
    def read() -> set[str]:
        with IPRoute() as ip:
            return {message.get_attr("IFLA_IFNAME") for message in ip.get_links()}

    return netns.call(namespace, read)


def test_the_host_answers_who_is_not_sealed(site: Site) -> None:
    """The control of all others here."""
    host = host_of(site)
    with closing(Hypervisor(host, TAP)) as vm:
        wait_until(lambda: len(leaks(host, vm, TAP, attached=False)) >= 8, "the host says nothing")


def test_a_hypervisors_tap(site: Site) -> None:
    host = host_of(site)
    site.commit(FABRIC + port(f"{{device: {TAP}}}"))
    site.start_agent("h1")
    agent_is_up = "away from the start is told after 3 s"
    wait_until(lambda: site.states().get("h1", {}).get("state") == "failed", agent_is_up, FIRST_RUN)

    vm = Hypervisor(host, TAP)  # and no data plane
    wait_until(lambda: is_sealed(host, TAP), "not sealed")
    vm.pass_over()
    assert leaks(host, vm, TAP, attached=False) == []

    site.start_dataplane("h1")
    wait_until(lambda: site.is_so("h1"), "not attached", FIRST_RUN)
    assert leaks(host, vm, TAP, attached=True) == []

    vm.close()
    wait_until(lambda: not site.is_so("h1"))
    vm = Hypervisor(host, TAP)  # the VM is started again
    wait_until(lambda: is_sealed(host, TAP), "not sealed")
    wait_until(lambda: site.is_so("h1"), "not attached")
    vm.pass_over()
    assert leaks(host, vm, TAP, attached=True) == []

    site.change(VM, None)
    wait_until(lambda: site.is_so("h1"), "not detached")
    assert leaks(host, vm, TAP, attached=False) == []

    site.commit(port(f"{{device: {TAP}}}"))
    wait_until(lambda: site.is_so("h1"), "not attached again")
    assert leaks(host, vm, TAP, attached=True) == []

    site.kill_agent("h1")
    site.kill_dataplane("h1")
    assert leaks(host, vm, TAP, attached=False) == []
    vm.close()


def test_a_tap_that_isolane_makes_for_a_hypervisor(site: Site) -> None:
    """From before it is opened until it goes with its port; whoever dies meanwhile."""
    host = host_of(site)
    site.commit(FABRIC + port(f"{{vm: {TAP}}}"))
    site.start_dataplane("h1")
    site.start_agent("h1")
    wait_until(lambda: site.is_so("h1"), "not attached", FIRST_RUN)
    assert is_sealed(host, TAP)
    made = link_of(host, TAP)
    for _ in range(2):  # the VM is started again
        with closing(Hypervisor(host, TAP)) as vm:
            assert leaks(host, vm, TAP, attached=True) == []
    vm = Hypervisor(host, TAP)
    site.kill_agent("h1")
    site.kill_dataplane("h1")
    assert leaks(host, vm, TAP, attached=False) == []
    site.start_dataplane("h1")
    site.start_agent("h1")
    wait_until(lambda: site.is_so("h1"), "not attached again", FIRST_RUN)
    assert leaks(host, vm, TAP, attached=True) == []
    there = link_of(host, TAP)
    assert made is not None and there is not None and there.index == made.index
    site.change(VM, None)
    wait_until(lambda: TAP not in names(host), "not removed")
    vm.close()


@pytest.mark.parametrize("kind", ["tap", "veth"])
def test_a_device_of_a_namespace(site: Site, kind: str) -> None:
    """Before and after there is none; in between the host has the end of a veth and nothing of a TAP."""
    host, namespace = host_of(site), f"{site.prefix}{VM.name}"
    before = names(host), names(namespace)
    device = host_end_name("eth0", namespace) if kind == "veth" else None
    site.commit(FABRIC)
    site.start_dataplane("h1")
    site.start_agent("h1")
    wait_until(lambda: site.is_so("h1"), "not up", FIRST_RUN)
    for _ in range(2):
        assert (names(host), names(namespace)) == before
        site.commit(port(f"{{{kind}: eth0, netns: {VM.name}}}"))
        wait_until(lambda: site.is_so("h1"), "not attached")
        assert names(host) - before[0] == ({device} if device else set())
        if device is not None:
            take_host_mac(host, device)
        with closing(Guest(namespace, kind)) as vm:
            assert leaks(host, vm, device, attached=True) == []
        site.change(VM, None)
        wait_until(lambda: site.is_so("h1"), "not detached")
    assert (names(host), names(namespace)) == before

    site.commit(port(f"{{{kind}: eth0, netns: {VM.name}}}"))
    wait_until(lambda: site.is_so("h1"), "not attached")
    with closing(Guest(namespace, kind)) as vm:
        site.kill_agent("h1")
        site.kill_dataplane("h1")
        if device is not None:  # a TAP that nobody holds takes no frame
            take_host_mac(host, device)
            assert leaks(host, vm, device, attached=False) == []
    assert names(host) - before[0] == ({device} if device else set())
