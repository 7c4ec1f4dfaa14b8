"""The underlay device belongs to the operator too: his connections to the host go on, and the host's stack
keeps its hands off Provider Addresses, though it forwards and answers ARP for everybody.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from dataplane.host import links, netns
from tests.netns.intruders import is_reply
from tests.netns.labs import Lab, wait_until
from tests.netns.programs import run
from tools.demo import frames as frames
from tools.demo.isolation import send_frames
from tools.demo.vms import ping, stream
from tools.demo.wire import Capture

HOST, OPERATOR = {4: "192.168.77.21", 6: "fd77::21"}, {4: "192.168.77.22", 6: "fd77::22"}
LENGTHS = {4: 24, 6: 64}
FORWARDING = (
    "ipv4/ip_forward",
    "ipv4/conf/all/proxy_arp",
    "ipv4/conf/u1/proxy_arp",
    "ipv6/conf/all/forwarding",
)
SECONDS = 2.0


@pytest.fixture(scope="module")
def shared(proof_lab: Lab) -> Iterator[Lab]:
    """h1 has addresses on its underlay device and forwards; the operator is at the foreign host's place."""
    with ExitStack() as stack:
        for name, addresses in (("h1", HOST), ("ovs1", OPERATOR)):
            host = proof_lab.hosts[name]
            for version, address in addresses.items():
                words = (f"{address}/{LENGTHS[version]}", "dev", host["underlay"]["device"])
                run(host["netns"], "ip", "address", "add", *words, *(["nodad"] if version == 6 else []))
                stack.callback(run, host["netns"], "ip", "address", "del", *words)
        for name in FORWARDING:
            before = netns.call(proof_lab.hosts["h1"]["netns"], Path("/proc/sys/net", name).read_text)
            netns.call(proof_lab.hosts["h1"]["netns"], links.write_sysctl, name, "1")
            stack.callback(
                netns.call, proof_lab.hosts["h1"]["netns"], links.write_sysctl, name, before.strip()
            )
        yield proof_lab


def stack_counters(namespace: str) -> dict[str, int]:
    """What the host's stack forwarded and complained about."""

    def read() -> dict[str, int]:
        rows = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
        found = {
            f"{names[0]}{name}": int(value)
            for names, values in zip(rows[::2], rows[1::2], strict=True)
            for name, value in zip(names[1:], values[1:], strict=True)
        }
        found |= {
            name: int(value)
            for name, value in map(str.split, Path("/proc/thread-self/net/snmp6").read_text().splitlines())
        }
        wanted = (
            "Ip:ForwDatagrams",
            "Ip:InUnknownProtos",
            "Icmp:OutMsgs",
            "Ip6OutForwDatagrams",
            "Icmp6OutDestUnreachs",
        )
        return {name: found[name] for name in wanted}

    return netns.call(namespace, read)


@pytest.mark.parametrize("version", [4, 6])
def test_the_operators_connection_goes_on(shared: Lab, lab: Lab, version: int) -> None:
    """Lines typed into a connection to the host are echoed at once while both tenants move all they can."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    stop = threading.Event()
    with ExitStack() as stack:
        listener = stack.enter_context(
            netns.call(lab.hosts["h1"]["netns"], socket.create_server, (HOST[version], 0), family=family)
        )
        ours = stack.enter_context(netns.call(lab.hosts["ovs1"]["netns"], socket.socket, family))
        ours.settimeout(5)
        ours.connect(listener.getsockname()[:2])
        theirs = stack.enter_context(listener.accept()[0])
        theirs.settimeout(5)
        rates: dict[str, float] = {}

        def load(tenant: str) -> None:
            rates[tenant] = stream(lab.vms[f"{tenant}-web"], lab.vms[f"{tenant}-app"], version, SECONDS, stop)

        streams = [threading.Thread(target=load, args=(tenant,)) for tenant in ("blue", "red")]
        for thread in streams:
            thread.start()
        delays = []
        while any(thread.is_alive() for thread in streams):
            line = os.urandom(40)
            started = time.perf_counter()
            ours.sendall(line)
            theirs.sendall(theirs.recv(100))
            assert ours.recv(100) == line
            delays.append(time.perf_counter() - started)
        for thread in streams:
            thread.join()
    assert len(delays) > 20
    assert max(delays) < 1
    assert min(rates.values()) > 1e6


def test_the_stack_neither_forwards_nor_answers(shared: Lab, lab: Lab) -> None:
    """Traffic to PAs leaves no trace in the host's stack; what is no PA it does forward, so the check can
    fail.
    """
    host, outside = lab.hosts["h1"], lab.hosts["ovs1"]
    before = stack_counters(host["netns"])
    for tenant in ("blue", "red"):
        for version in (4, 6):
            ping(lab.vms[f"{tenant}-app"], lab.vms[f"{tenant}-web"].addresses[version])
    for pa in [ip_address(host["providerAddresses"][0]), *lab.vms["blue-web"].provider_addresses.values()]:
        packet = frames.udp(ip_address(OPERATOR[pa.version]), pa, (7, 7), b"not for the stack")
        frame = frames.ethernet(
            host["underlay"]["mac"], outside["underlay"]["mac"], frames.ETHERTYPES[pa.version], packet
        )
        send_frames(outside["netns"], outside["underlay"]["device"], [frame] * 3)
    assert stack_counters(host["netns"]) == before
    packet = frames.udp(ip_address(OPERATOR[4]), ip_address("192.168.77.77"), (7, 7), b"for the stack")
    frame = frames.ethernet(host["underlay"]["mac"], outside["underlay"]["mac"], 0x0800, packet)
    send_frames(outside["netns"], outside["underlay"]["device"], [frame])
    forwarded = before["Ip:ForwDatagrams"] + 1
    wait_until(
        lambda: stack_counters(host["netns"])["Ip:ForwDatagrams"] == forwarded, "it does not forward at all"
    )


def test_a_pa_is_answered_for_once(shared: Lab, lab: Lab) -> None:
    """By ARP and by ping, though the stack would answer for everybody."""
    host, outside = lab.hosts["h1"], lab.hosts["ovs1"]
    mine, pa = ip_address(OPERATOR[4]), ip_address(host["providerAddresses"][0])
    with Capture(outside["netns"], outside["underlay"]["device"]) as own:
        asking = frames.arp_request(outside["underlay"]["mac"], mine, pa)
        mark = os.urandom(16)
        echo = frames.ethernet(
            host["underlay"]["mac"], outside["underlay"]["mac"], 0x0800, frames.echo(mine, pa, mark)
        )
        control = frames.arp_request(outside["underlay"]["mac"], mine, ip_address(HOST[4]))
        send_frames(outside["netns"], outside["underlay"]["device"], [asking, echo, control])
        seen: list[bytes] = []

        def is_answered() -> bool:
            seen.extend(data for data, _ in own.frames())
            return any(is_reply(control, data) for data in seen) and sum(mark in data for data in seen) >= 2

        wait_until(is_answered, "no answer")
    assert sum(is_reply(asking, data) for data in seen) == 1
    assert sum(mark in data for data in seen) == 2, "the request and one answer"
