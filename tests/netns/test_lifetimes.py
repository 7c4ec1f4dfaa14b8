"""Devices that outlive a crash, go with a clean stop, or are others' and stay."""

import errno
import fcntl
import struct

import pytest

from dataplane.binding.core import PortKind
from dataplane.host import netns
from dataplane.host.device import Device, Terms, host_end_name
from dataplane.host.existing import open_existing
from dataplane.host.links import DeviceError, Link
from dataplane.host.tap import open_tap
from dataplane.host.undo import _STEPS
from dataplane.host.veth import open_veth
from tests.native import ROOT
from tests.netns.rig import (
    MACS,
    MakeNamespace,
    Opener,
    add_addresses,
    address_flags,
    crash,
    drops,
    link_of,
    run,
)


def test_tap_goes_with_a_clean_stop_and_outlives_a_crash(make_namespace: MakeNamespace) -> None:
    vm = make_namespace("vm")
    crash(lambda: open_tap("eth0", Terms(MACS[0], 1500, queues=2), namespace=vm))
    left = link_of(vm, "eth0")
    assert left is not None
    add_addresses(vm, "eth0", "10.1.1.1/24", "fd01::1/64")
    with open_tap("eth0", Terms(MACS[1], 1450, queues=2), namespace=vm) as device:
        again = link_of(vm, "eth0")
        assert again is not None
        assert (again.index, again.mac, again.mtu) == (left.index, MACS[1], 1450), "taken over, not made anew"
        assert {"10.1.1.1", "fd01::1"} <= address_flags(vm, "eth0").keys(), "the VM notices nothing"
        assert device.kind is PortKind.TAP
        with pytest.raises(DeviceError, match=r"TAP eth0 in namespace .*: a process holds it already"):
            open_tap("eth0", Terms(MACS[0], 1500), namespace=vm)
    assert link_of(vm, "eth0") is None


@pytest.mark.parametrize(("queues", "alone"), [(1, True), (2, False)])
def test_who_opens_a_tap_besides(make_namespace: MakeNamespace, queues: int, alone: bool) -> None:
    """As a hypervisor does, with one queue and with two: of a TAP with one it is told, and does not get onto
    the stack of its namespace unseen.
    """
    vm = make_namespace("vm")
    with open_tap("eth0", Terms(MACS[0], 1500, queues=queues), namespace=vm) as device:
        one, many = (second_opener(vm, flags) for flags in (0, IFF_MULTI_QUEUE))
        assert (one, many) == ((errno.EBUSY, errno.EINVAL) if alone else (errno.EINVAL, 0))
        link = link_of(vm, "eth0")
        assert link is not None
        assert (link.tap_is_multi_queue, len(device.fds)) == (not alone, queues)
        with pytest.raises(DeviceError, match=r"^TAP eth0 in namespace .*: a process holds it already$"):
            open_tap("eth0", Terms(MACS[0], 1500, queues=queues), namespace=vm)


IFF_MULTI_QUEUE = 0x0100


def second_opener(namespace: str, flags: int) -> int:
    """What the kernel tells it; 0: it has a queue."""

    def attempt() -> int:
        with open("/dev/net/tun", "r+b", buffering=0) as tun:  # noqa: PTH123  # no file to seek in
            try:
                fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1002 | flags))
            except OSError as error:
                return error.errno or -1
            return 0

    return netns.call(namespace, attempt)


@pytest.mark.parametrize(("made_with", "opened_with", "has"), [(1, 3, 1), (3, 1, 1), (2, 3, 3), (1, 1, 1)])
def test_a_tap_is_taken_over_by_a_data_plane_of_other_width(
    make_namespace: MakeNamespace, made_with: int, opened_with: int, has: int
) -> None:
    """The kernel lets nobody open a TAP with one queue for several, nor the other way round (EINVAL), and the
    VM is to keep it.
    """
    vm = make_namespace("vm")
    crash(lambda: open_tap("eth0", Terms(MACS[0], 1500, queues=made_with), namespace=vm))
    left = link_of(vm, "eth0")
    with open_tap("eth0", Terms(MACS[0], 1500, queues=opened_with), namespace=vm) as device:
        again = link_of(vm, "eth0")
        assert left is not None and again is not None
        assert again.index == left.index
        assert (len(device.fds), device.queues_of(opened_with)) == (has, has), "nothing to open anew"
    assert link_of(vm, "eth0") is None


@pytest.mark.parametrize("opener", [open_tap, open_veth], ids=["tap", "veth"])
def test_the_hosts_own_namespace_is_no_vm(make_namespace: MakeNamespace, opener: Opener) -> None:
    """By any of its names."""
    host = make_namespace("host")
    for namespace in (host, ""):
        with pytest.raises(
            DeviceError, match="the namespace is the host's own, whose kernel would be the VM"
        ):
            netns.call(host, opener, "eth0", Terms(MACS[0], 1500), namespace=namespace)
    assert link_of(host, "eth0") is None


def test_operators_tap_stays(make_namespace: MakeNamespace) -> None:
    vm = make_namespace("vm")
    run(vm, "ip", "tuntap", "add", "eth0", "mode", "tap", "multi_queue", "vnet_hdr")
    open_tap("eth0", Terms(MACS[0], 1500), namespace=vm).close()
    assert link_of(vm, "eth0") is not None


def test_veth_goes_with_a_clean_stop_and_outlives_a_crash(make_namespace: MakeNamespace) -> None:
    host, vm = make_namespace("host"), make_namespace("vm")
    host_end = host_end_name("eth0", vm)

    def open_it() -> Device:
        return netns.call(host, open_veth, "eth0", Terms(MACS[0], 1500), namespace=vm)

    crash(open_it)
    assert drops(host, host_end) == ["isolane_drop"], "the drop outlives the process"
    left = link_of(host, host_end)
    device = open_it()
    assert link_of(host, host_end) == left
    assert drops(host, host_end) == ["isolane_drop"]
    netns.call(host, device.close)
    assert link_of(host, host_end) is None
    assert link_of(vm, "eth0") is None


def test_veth_is_silent_to_the_end(make_namespace: MakeNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device goes before its drop: between the two the host would answer what a VM keeps sending."""
    host, vm = make_namespace("host"), make_namespace("vm")
    host_end = host_end_name("eth0", vm)
    left: list[Link | None] = []
    monkeypatch.setitem(_STEPS, "drop", lambda name: left.append(link_of(host, name)))
    device = netns.call(host, open_veth, "eth0", Terms(MACS[0], 1500), namespace=vm)
    assert drops(host, host_end) == ["isolane_drop"]
    netns.call(host, device.close)
    assert left == [None]


def test_a_device_of_a_vm_stays_sealed(make_namespace: MakeNamespace) -> None:
    """Until it goes, or the host's operator gives it to the host: docs/operations.md."""
    host = make_namespace("host")
    run(host, "ip", "link", "add", "vnet0", "type", "veth", "peer", "name", "guest0")
    ipv6 = ("cat", "/proc/sys/net/ipv6/conf/vnet0/disable_ipv6", "/proc/sys/net/ipv4/conf/vnet0/arp_ignore")
    device = netns.call(host, open_existing, "vnet0", Terms(MACS[0], 9000))
    assert device.mtu == 1500, "never more than the device takes"
    assert run(host, *ipv6).stdout.split() == ["1", "8"]
    assert drops(host, "vnet0") == ["isolane_drop"]
    netns.call(host, device.close)
    assert run(host, *ipv6).stdout.split() == ["1", "8"]
    assert drops(host, "vnet0") == ["isolane_drop"]
    link = link_of(host, "vnet0")
    assert link is not None
    assert not link.up, "as it was found"
    given = run(host, "sh", "-ec", given_to_the_host("vnet0"))
    assert given.returncode == 0, given.stderr
    assert run(host, *ipv6).stdout.split() == ["0", "0"]
    assert drops(host, "vnet0") == []


def given_to_the_host(name: str) -> str:
    """As the handbook has it."""
    text = (ROOT / "docs" / "operations.md").read_text()
    commands = text[text.index("tc filter del dev vnet7") :].partition("```")[0]
    return commands.replace("vnet7", name)


def test_a_tap_has_no_queue_but_the_cores(make_namespace: MakeNamespace) -> None:
    """One that an earlier version left with queues of its own gets rid of them, which keeps hosts small."""
    vm = make_namespace("vm")
    run(vm, "ip", "tuntap", "add", "eth0", "mode", "tap", "multi_queue", "vnet_hdr")
    run(vm, "ip", "link", "set", "eth0", "up")
    assert "qdisc mq" in run(vm, "tc", "qdisc", "show", "dev", "eth0").stdout
    for _ in range(2):
        with open_tap("eth0", Terms(MACS[0], 1500), namespace=vm):
            shown = run(vm, "tc", "qdisc", "show", "dev", "eth0").stdout.split()
            assert shown[:2] == ["qdisc", "noqueue"] and "mq" not in shown


def test_another_ports_device_is_not_a_host_device(make_namespace: MakeNamespace) -> None:
    """Whoever named it as his own would hear another tenant's VM."""
    host, vm = make_namespace("host"), make_namespace("vm")
    veth = netns.call(host, open_veth, "eth0", Terms(MACS[0], 1500), namespace=vm)
    name = host_end_name("eth0", vm)
    with pytest.raises(DeviceError, match=f"^device {name}: is another port's$"):
        netns.call(host, open_existing, name, Terms(MACS[1], 1500))
    assert len(drops(host, name)) == 1
    netns.call(host, veth.close)


def test_operators_filters_stay(make_namespace: MakeNamespace) -> None:
    host = make_namespace("host")
    run(host, "ip", "link", "add", "vnet0", "type", "veth", "peer", "name", "guest0")
    run(host, "tc", "qdisc", "add", "dev", "vnet0", "clsact")
    run(host, "tc", "filter", "add", "dev", "vnet0", "egress", "prio", "5", "u32", "match", "u8", "0", "0")
    netns.call(host, netns.call(host, open_existing, "vnet0", Terms(MACS[0], 1500)).close)
    assert drops(host, "vnet0") == ["isolane_drop"]
    assert "u32" in run(host, "tc", "filter", "show", "dev", "vnet0", "egress").stdout
