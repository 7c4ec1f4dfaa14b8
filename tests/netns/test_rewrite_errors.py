"""ICMP errors by IP rewrite, of VMs and of routers between hosts, as sockets of real stacks hear of them."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from dataplane.host import netns
from policy.kinds.model import ROUTER_MAC
from tests.netns.labs import Lab, wait_until
from tests.netns.programs import run
from tools.demo.isolation import send_frames
from tools.demo.vms import Vm

CLOSED = 33434
AT_ONCE = 1.0
"""Seconds: far below what a stack waits for before it tries once more."""

RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
MTU = {4: (socket.IPPROTO_IP, 14), 6: (socket.IPPROTO_IPV6, 24)}
TTL = {4: (socket.IPPROTO_IP, socket.IP_TTL), 6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)}
DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
"""IP_MTU_DISCOVER and IPV6_MTU_DISCOVER: 2 sets DF."""

SAME_SUBNET, ROUTED = "blue-web:blue-app", "blue-web:blue-db"
PAIRS = [SAME_SUBNET, "blue-app:blue-web", ROUTED, "blue-db:blue-web"]
pairs = pytest.mark.parametrize("pair", PAIRS)
versions = pytest.mark.parametrize("version", [4, 6])


class Told(NamedTuple):
    """What a socket's error queue says: type and code of the message, and who sent it."""

    kind: int
    code: int
    teller: str


@contextmanager
def talking(lab: Lab, pair: str, version: int) -> Iterator[tuple[socket.socket, Vm, Vm]]:
    """A socket of the first VM, connected to a closed port of the second."""
    client, server = (lab.vms[name] for name in pair.split(":"))
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with netns.call(client.namespace, socket.socket, family, socket.SOCK_DGRAM) as opened:
        opened.settimeout(AT_ONCE)
        opened.connect((str(server.addresses[version]), CLOSED))
        yield opened, client, server


def next_error(opened: socket.socket) -> Told:
    with pytest.raises(OSError):
        opened.recv(1)  # an error wakes it
    _, ancillary, _, _ = opened.recvmsg(0, 512, socket.MSG_ERRQUEUE)
    body = next(data for level, kind, data in ancillary if (level, kind) in RECVERR.values())
    _, _, kind, code = struct.unpack_from("=IBBB", body)
    sockaddr = body[16:]
    if int.from_bytes(sockaddr[:2], "little") == socket.AF_INET:
        return Told(kind, code, socket.inet_ntop(socket.AF_INET, sockaddr[4:8]))
    return Told(kind, code, socket.inet_ntop(socket.AF_INET6, sockaddr[8:24]))


@pairs
@versions
def test_a_closed_port_refuses_at_once(lab: Lab, pair: str, version: int) -> None:
    with talking(lab, pair, version) as (opened, _, _), lab.dropping({}):
        opened.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            opened.recv(1)


@pytest.mark.parametrize("pair", [ROUTED, "blue-db:blue-web"])
@versions
def test_the_first_hop_of_a_traceroute_is_the_gateway(lab: Lab, pair: str, version: int) -> None:
    with talking(lab, pair, version) as (opened, client, _):
        opened.setsockopt(*RECVERR[version], 1)
        opened.setsockopt(*TTL[version], 1)
        with lab.dropping({(client.host, client.name, "ttl-exceeded"): 1}):
            opened.send(b"who is there?")
            exceeded = (11, 0) if version == 4 else (3, 0)
            assert next_error(opened) == (*exceeded, str(lab.gateways[client.vsid][version]))


@pairs
@versions
def test_the_last_hop_of_a_traceroute_is_the_destination(lab: Lab, pair: str, version: int) -> None:
    """Its probes have one hop more each; those that come to their end are answered by the VM there."""
    with talking(lab, pair, version) as (opened, client, server), lab.dropping({}):
        opened.setsockopt(*RECVERR[version], 1)
        opened.setsockopt(*TTL[version], 1 if client.vsid == server.vsid else 2)
        opened.send(b"who is there?")
        unreachable = (3, 3) if version == 4 else (1, 4)
        assert next_error(opened) == (*unreachable, str(server.addresses[version]))


def too_big(version: int, mtu: int, quoted: tuple[str, str], ports: tuple[int, int]) -> Packet:
    """About a datagram of 1,400 bytes, as much of it as there is room for."""
    source, destination = quoted
    datagram = UDP(sport=ports[0], dport=ports[1]) / Raw(bytes(1400))
    if version == 4:
        whole = bytes(IP(src=source, dst=destination, flags="DF", ttl=63) / datagram)
        return ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(whole[:548])
    whole = bytes(IPv6(src=source, dst=destination, hlim=63) / datagram)
    return ICMPv6PacketTooBig(mtu=mtu) / Raw(whole[:1232])


def path_mtu(opened: socket.socket, version: int) -> int:
    return opened.getsockopt(*MTU[version])


@contextmanager
def forgotten(vm: Vm) -> Iterator[None]:
    """What the VM learns of paths inside is forgotten at the end."""
    try:
        yield
    finally:
        run(vm.namespace, "ip", "route", "flush", "cache")
        run(vm.namespace, "ip", "-6", "route", "flush", "cache")


@pairs
@versions
def test_a_smaller_mtu_behind_the_other_vm(lab: Lab, pair: str, version: int) -> None:
    """As a VM tells it that forwards to where less fits."""
    with talking(lab, pair, version) as (opened, client, server), forgotten(client):
        opened.setsockopt(*DISCOVER[version], 2)
        before = path_mtu(opened, version)
        here, there = str(client.addresses[version]), str(server.addresses[version])
        error = too_big(version, 1300, (here, there), (opened.getsockname()[1], CLOSED))
        header = IP(src=there, dst=here) if version == 4 else IPv6(src=there, dst=here)
        mac = client.mac if client.vsid == server.vsid else ROUTER_MAC
        with lab.dropping({}):
            send_frames(
                server.namespace, server.device, [bytes(Ether(src=server.mac, dst=mac) / header / error)]
            )
            wait_until(lambda: path_mtu(opened, version) == 1300, "the socket has not heard of it")
        assert before > 1300


# ---- a router of the provider network, between two hosts


PROVIDER_ROUTER = {4: "203.0.113.1", 6: "2001:db8::1"}
PROVIDER_ROUTER_MAC = "02:00:00:00:77:fe"


def from_router(lab: Lab, client: Vm, version: int, error: Packet) -> bytes:
    """To the client's PA."""
    source, pa = PROVIDER_ROUTER[version], str(client.provider_addresses[version])
    header = IP(src=source, dst=pa) if version == 4 else IPv6(src=source, dst=pa)
    mac = lab.hosts[client.host]["underlay"]["mac"]
    return bytes(Ether(src=PROVIDER_ROUTER_MAC, dst=mac) / header / error)


@pairs
@versions
def test_a_smaller_mtu_in_the_provider_network(lab: Lab, pair: str, version: int) -> None:
    """The socket's next datagram has to be smaller; it hears of it from its own gateway."""
    with talking(lab, pair, version) as (opened, client, server), forgotten(client):
        opened.setsockopt(*DISCOVER[version], 2)
        opened.setsockopt(*RECVERR[version], 1)
        pas = str(client.provider_addresses[version]), str(server.provider_addresses[version])
        error = too_big(version, 1300, pas, (opened.getsockname()[1], CLOSED))
        with lab.dropping({}):
            send_frames(*lab.fabric(), [from_router(lab, client, version, error)])
            kind = (3, 4) if version == 4 else (2, 0)
            assert next_error(opened) == (*kind, str(lab.gateways[client.vsid][version]))
        assert path_mtu(opened, version) == 1300


@versions
def test_a_router_that_does_not_know_what_was_sent(lab: Lab, version: int) -> None:
    """It knows the PAs of two tenants: neither hears of the other."""
    blue, green = lab.vms["blue-web"], lab.vms["green-app"]
    pas = str(blue.provider_addresses[version]), str(green.provider_addresses[version])
    error = too_big(version, 1300, pas, (1, CLOSED))
    with lab.dropping({("h1", "underlay", "icmp-error"): 1}):
        send_frames(*lab.fabric(), [from_router(lab, blue, version, error)])
