"""Devices opened for the core, tested with a plain relay in place of it."""

import os
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from dataplane.host import netns
from dataplane.host.device import Terms
from dataplane.host.existing import open_existing
from dataplane.host.links import DeviceError
from dataplane.host.tap import open_tap
from dataplane.host.underlay import open_underlay
from dataplane.host.veth import open_veth
from tests.netns.rig import (
    MACS,
    MakeNamespace,
    Opener,
    add_addresses,
    is_ipv4,
    link_of,
    open_files,
    qdiscs,
    receive,
    relayed,
    run,
    send_stream,
    udp4_frame,
    wait_for_dad,
)
from tests.netns.wires import wait_for_carrier


@pytest.mark.parametrize("opener", [open_tap, open_veth], ids=["tap", "veth"])
@pytest.mark.parametrize("queues", [1, 2])
def test_two_vms_talk_through_a_relay(
    make_namespace: MakeNamespace, cleanup: ExitStack, opener: Opener, queues: int
) -> None:
    host, *vms = (make_namespace(name) for name in ("host", "vm1", "vm2"))
    opened = [
        netns.call(host, opener, "eth0", Terms(mac, 1400, queues=queues), namespace=vm)
        for vm, mac in zip(vms, MACS, strict=True)
    ]
    for device in opened:
        cleanup.callback(netns.call, host, device.close)
    for number, (vm, mac) in enumerate(zip(vms, MACS, strict=True), 1):
        link = link_of(vm, "eth0")
        assert link is not None
        assert (link.mac, link.mtu, link.up) == (mac, 1400, True)
        assert len(opened[number - 1].fds) == queues
    with relayed(*opened) as relay:
        for number, vm in enumerate(vms, 1):
            add_addresses(vm, "eth0", f"10.1.1.{number}/24", f"fd01::{number}/64")
        for vm in vms:  # duplicate address detection ran on the relay and found none
            assert wait_for_dad(vm, "eth0") == []
        for address in ("10.1.1.2", "fd01::2"):
            done = run(vms[0], "ping", "-c", "2", "-i", "0.01", "-W", "5", address)
            assert done.returncode == 0, done.stdout
            send_stream(vms[0], vms[1], address, 1_000_000)
        assert relay.seen["gso"] > 10, "super-packets come whole"
        assert relay.seen["partial"] >= relay.seen["gso"]


def test_duplicate_address_is_found(make_namespace: MakeNamespace, cleanup: ExitStack) -> None:
    """The kernel's own detection works on our devices: the second VM with an address loses."""
    vms = [make_namespace("vm1"), make_namespace("vm2")]
    opened = [
        cleanup.enter_context(open_tap("eth0", Terms(mac, 1500), namespace=vm))
        for vm, mac in zip(vms, MACS, strict=True)
    ]
    with relayed(*opened):
        for vm in vms:
            add_addresses(vm, "eth0", "fd01::1/64")
            wait_for_dad(vm, "eth0")
        assert wait_for_dad(vms[0], "eth0") == []
        assert wait_for_dad(vms[1], "eth0") == ["fd01::1"]


@pytest.mark.parametrize("queues", [2, 3])
def test_queues_share_flows(make_namespace: MakeNamespace, cleanup: ExitStack, queues: int) -> None:
    """Every frame from the VM comes out of exactly one queue, a flow's always of the same; what we send, of
    none.
    """
    host, vm = make_namespace("host"), make_namespace("vm")
    device = netns.call(host, open_veth, "eth0", Terms(MACS[0], 1500, queues=queues), namespace=vm)
    cleanup.callback(netns.call, host, device.close)
    wait_for_carrier(vm, "eth0")
    sender = cleanup.enter_context(netns.call(vm, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0))
    sender.bind(("eth0", 0))
    os.write(
        device.fds[0], bytes(10) + bytes.fromhex(MACS[0].replace(":", "") + "020000000099" + "88b5") + b"ours"
    )
    for port in range(40):
        for sequence in range(3):
            sender.send(udp4_frame(port, sequence))
    flows: dict[int, set[int]] = {}
    total = 0
    for fd, data in receive(device.fds, 120, is_ipv4):
        assert b"ours" not in data
        if is_ipv4(data):
            total += 1
            flows.setdefault(struct.unpack_from("!H", data, 10 + 34)[0], set()).add(fd)
    assert total == 120
    assert all(len(used) == 1 for used in flows.values())
    assert len({fd for used in flows.values() for fd in used}) == queues


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("TAP eth0 in namespace nowhere: no network namespace 'nowhere' in /run/netns",
         lambda: open_tap("eth0", Terms(MACS[0], 1500), namespace="nowhere")),
        ("veth eth0 in namespace nowhere: no network namespace 'nowhere' in /run/netns",
         lambda: open_veth("eth0", Terms(MACS[0], 1500), namespace="nowhere")),
        ("device absent0: no such device", lambda: open_existing("absent0", Terms(MACS[0], 1500))),
        ("device lo: is the loopback", lambda: open_existing("lo", Terms(MACS[0], 1500))),
        ("device v0: the host has address 10.9.9.9 on it; there must be none",
         lambda: open_existing("v0", Terms(MACS[0], 1500))),
        ("underlay absent0: no such device", lambda: open_underlay("absent0", Terms("", 1500))),
        ("underlay v0: the manifest says MAC 02:00:00:00:77:01, the device has 02:00:00:00:77:02",
         lambda: open_underlay("v0", Terms("02:00:00:00:77:01", 1500))),
        ("underlay v0: the manifest says MTU 1600, the device has 1500",
         lambda: open_underlay("v0", Terms("", 1600))),
        ("underlay v0: provider address 10.9.9.9 is an address of this host already",
         lambda: open_underlay("v0", Terms("", 1500), pas=[IPv4Address("10.9.9.9")])),
        ("underlay lo: is the loopback", lambda: open_underlay("lo", Terms("", 1500))),
        ("device v1: is part of a bridge or the like; it must not be",
         lambda: open_existing("v1", Terms(MACS[0], 1500))),
        ("underlay v1: is down", lambda: open_underlay("v1", Terms("", 1500))),
    ],
    ids=lambda value: value.partition(":")[0].replace(" ", "-") if isinstance(value, str) else "",
)  # fmt: skip
def test_errors_say_what_to_do(
    make_namespace: MakeNamespace, text: str, action: Callable[[], object]
) -> None:
    host = make_namespace("host")
    run(
        host,
        "ip",
        "link",
        "add",
        "v0",
        "address",
        "02:00:00:00:77:02",
        "up",
        "type",
        "veth",
        "peer",
        "name",
        "v1",
    )
    add_addresses(host, "v0", "10.9.9.9/24")
    run(host, "ip", "link", "add", "b0", "type", "bridge")
    run(host, "ip", "link", "set", "v1", "master", "b0")
    before = open_files()
    with pytest.raises(DeviceError) as error:
        netns.call(host, action)
    assert str(error.value) == text
    assert open_files() == before
    assert qdiscs(host, "v0") == ["noqueue"], "nothing is left behind"
    assert "clsact" not in qdiscs(host, "v1")
