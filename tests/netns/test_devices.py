"""Devices opened for the core, tested with a plain relay in place of it."""

import errno
import fcntl
import os
import selectors
import signal
import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from dataplane import devices, ethtool, links, netns
from dataplane.core import PortKind
from dataplane.devices import Device
from dataplane.groups import solicited_node
from dataplane.links import DeviceError, Link
from tests.native import ROOT
from tests.netns.labs import wait_until
from tests.netns.wires import one_cpu, wait_for_carrier

MakeNamespace = Callable[[str], str]
DAD_FAILED, TENTATIVE = 0x08, 0x40  # linux/if_addr.h
MACS = ["02:bb:00:00:00:01", "02:bb:00:00:00:02"]


def link_of(namespace: str, name: str) -> Link | None:
    def find() -> Link | None:
        with IPRoute() as ip:
            return links.find(ip, name)

    return netns.call(namespace, find)


def add_addresses(namespace: str, name: str, *addresses: str) -> None:
    def add() -> None:
        with IPRoute() as ip:
            index = links.get(ip, name).index
            for address in addresses:
                host, length = address.split("/")
                ip.addr("add", index=index, address=host, prefixlen=int(length))

    netns.call(namespace, add)


def address_flags(namespace: str, name: str) -> dict[str, int]:
    """Address -> IFA_F_ flags."""

    def read() -> dict[str, int]:
        with IPRoute() as ip:
            found = ip.get_addr(index=links.get(ip, name).index)
            return {m.get_attr("IFA_ADDRESS"): m.get_attr("IFA_FLAGS") for m in found}

    return netns.call(namespace, read)


def wait_for_dad(namespace: str, name: str) -> list[str]:
    """Wait for the end of duplicate address detection; the addresses that turned out to be another's."""

    def done() -> bool:
        return not any(
            flags & (TENTATIVE | DAD_FAILED) == TENTATIVE for flags in address_flags(namespace, name).values()
        )

    wait_until(done, "duplicate address detection goes on")
    return [address for address, flags in address_flags(namespace, name).items() if flags & DAD_FAILED]


def run(namespace: str, *command: str) -> subprocess.CompletedProcess[str]:
    return netns.call(namespace, subprocess.run, command, capture_output=True, text=True, check=False)


class Relay:
    """Copies what comes out of one device into the other, virtio_net_hdr and all, on a thread of its own."""

    def __init__(self, one: Device, other: Device) -> None:
        self.seen: Counter[str] = Counter()
        self.frames: list[bytes] = []
        self._selector = selectors.DefaultSelector()
        for source, sink in ((one, other), (other, one)):
            for fd in source.fds:
                self._selector.register(fd, selectors.EVENT_READ, sink.fds[0])
        self._stop = os.eventfd(0)
        self._selector.register(self._stop, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                self._copy(key.fd, key.data)

    def _copy(self, source: int, sink: int) -> None:
        while True:
            try:
                data = os.read(source, 70_000)
            except BlockingIOError:
                return
            flags, gso = struct.unpack_from("=BB", data)
            self.seen.update(frames=1, partial=flags & 1, gso=gso != 0)
            self.frames.append(data)
            os.write(sink, data)

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._selector.close()
        os.close(self._stop)


@contextmanager
def relayed(one: Device, other: Device) -> Iterator[Relay]:
    relay = Relay(one, other)
    try:
        yield relay
    finally:
        relay.close()


def send_stream(sender: str, receiver: str, address: str, size: int) -> None:
    """Send `size` bytes by TCP from one namespace to an address in another and check that they arrive."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        netns.call(receiver, socket.create_server, (address, 0), family=family) as server,
        netns.call(sender, socket.socket, family) as client,
    ):
        client.settimeout(10)
        server.settimeout(10)
        client.connect(server.getsockname()[:2])
        accepted, _ = server.accept()
        data = os.urandom(size)
        writer = threading.Thread(target=client.sendall, args=(data,))
        writer.start()
        with accepted:
            accepted.settimeout(10)
            got = b""
            while len(got) < size and (part := accepted.recv(1 << 16)):
                got += part
        writer.join()
    assert got == data


Opener = Callable[..., Device]


@pytest.mark.parametrize("opener", [devices.open_tap, devices.open_veth], ids=["tap", "veth"])
@pytest.mark.parametrize("queues", [1, 2])
def test_two_vms_talk_through_a_relay(
    make_namespace: MakeNamespace, cleanup: ExitStack, opener: Opener, queues: int
) -> None:
    host, *vms = (make_namespace(name) for name in ("host", "vm1", "vm2"))
    opened = [
        netns.call(host, opener, "eth0", namespace=vm, mac=mac, mtu=1400, queues=queues)
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
        cleanup.enter_context(devices.open_tap("eth0", namespace=vm, mac=mac, mtu=1500))
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
    device = netns.call(host, devices.open_veth, "eth0", namespace=vm, mac=MACS[0], mtu=1500, queues=queues)
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


def is_ipv4(data: bytes) -> bool:
    return data[22:24] == b"\x08\x00"


def udp4_frame(port: int, sequence: int) -> bytes:
    ethernet = bytes.fromhex("020000000099" + MACS[0].replace(":", "") + "0800")
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 36, 0, 0, 64, 17, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    )
    return ethernet + ip + struct.pack("!HHHHII", port, 9, 16, 0, sequence, 0)


def drain(fd: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(fd, 70_000)
        except BlockingIOError:
            return


def receive(fds: Sequence[int], count: int, match: Callable[[bytes], bool]) -> list[tuple[int, bytes]]:
    """All frames that come until `count` of them match: descriptor and frame with its virtio_net_hdr."""
    found: list[tuple[int, bytes]] = []
    with selectors.DefaultSelector() as selector:
        for fd in fds:
            selector.register(fd, selectors.EVENT_READ)
        while sum(match(data) for _, data in found) < count:
            ready = selector.select(10)
            assert ready, f"{found} and no more"
            found += [(key.fd, data) for key, _ in ready for data in drain(key.fd)]
    return found


# ---- lifetimes ---------------------------------------------------------------------------------------------


def test_tap_goes_with_a_clean_stop_and_outlives_a_crash(make_namespace: MakeNamespace) -> None:
    vm = make_namespace("vm")
    crash(lambda: devices.open_tap("eth0", namespace=vm, mac=MACS[0], mtu=1500, queues=2))
    left = link_of(vm, "eth0")
    assert left is not None
    add_addresses(vm, "eth0", "10.1.1.1/24", "fd01::1/64")
    with devices.open_tap("eth0", namespace=vm, mac=MACS[1], mtu=1450, queues=2) as device:
        again = link_of(vm, "eth0")
        assert again is not None
        assert (again.index, again.mac, again.mtu) == (left.index, MACS[1], 1450), "taken over, not made anew"
        assert {"10.1.1.1", "fd01::1"} <= address_flags(vm, "eth0").keys(), "the VM notices nothing"
        assert device.kind is PortKind.TAP
        with pytest.raises(DeviceError, match=r"TAP eth0 in namespace .*: a process holds it already"):
            devices.open_tap("eth0", namespace=vm, mac=MACS[0], mtu=1500)
    assert link_of(vm, "eth0") is None


@pytest.mark.parametrize(("queues", "alone"), [(1, True), (2, False)])
def test_who_opens_a_tap_besides(make_namespace: MakeNamespace, queues: int, alone: bool) -> None:
    """As a hypervisor does, with one queue and with two: of a TAP with one it is told, and does not get onto
    the stack of its namespace unseen.
    """
    vm = make_namespace("vm")
    with devices.open_tap("eth0", namespace=vm, mac=MACS[0], mtu=1500, queues=queues) as device:
        one, many = (second_opener(vm, flags) for flags in (0, IFF_MULTI_QUEUE))
        assert (one, many) == ((errno.EBUSY, errno.EINVAL) if alone else (errno.EINVAL, 0))
        link = link_of(vm, "eth0")
        assert link is not None
        assert (link.tap_is_multi_queue, len(device.fds)) == (not alone, queues)
        with pytest.raises(DeviceError, match=r"^TAP eth0 in namespace .*: a process holds it already$"):
            devices.open_tap("eth0", namespace=vm, mac=MACS[0], mtu=1500, queues=queues)


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
    crash(lambda: devices.open_tap("eth0", namespace=vm, mac=MACS[0], mtu=1500, queues=made_with))
    left = link_of(vm, "eth0")
    with devices.open_tap("eth0", namespace=vm, mac=MACS[0], mtu=1500, queues=opened_with) as device:
        again = link_of(vm, "eth0")
        assert left is not None and again is not None
        assert again.index == left.index
        assert (len(device.fds), device.queues_of(opened_with)) == (has, has), "nothing to open anew"
    assert link_of(vm, "eth0") is None


@pytest.mark.parametrize("opener", [devices.open_tap, devices.open_veth], ids=["tap", "veth"])
def test_the_hosts_own_namespace_is_no_vm(make_namespace: MakeNamespace, opener: Opener) -> None:
    """By any of its names."""
    host = make_namespace("host")
    for namespace in (host, ""):
        with pytest.raises(
            DeviceError, match="the namespace is the host's own, whose kernel would be the VM"
        ):
            netns.call(host, opener, "eth0", namespace=namespace, mac=MACS[0], mtu=1500)
    assert link_of(host, "eth0") is None


def test_operators_tap_stays(make_namespace: MakeNamespace) -> None:
    vm = make_namespace("vm")
    run(vm, "ip", "tuntap", "add", "eth0", "mode", "tap", "multi_queue", "vnet_hdr")
    devices.open_tap("eth0", namespace=vm, mac=MACS[0], mtu=1500).close()
    assert link_of(vm, "eth0") is not None


def test_veth_goes_with_a_clean_stop_and_outlives_a_crash(make_namespace: MakeNamespace) -> None:
    host, vm = make_namespace("host"), make_namespace("vm")
    host_end = devices.host_end_name("eth0", vm)

    def open_it() -> Device:
        return netns.call(host, devices.open_veth, "eth0", namespace=vm, mac=MACS[0], mtu=1500)

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
    host_end = devices.host_end_name("eth0", vm)
    left: list[Link | None] = []
    monkeypatch.setitem(links._STEPS, "drop", lambda name: left.append(link_of(host, name)))
    device = netns.call(host, devices.open_veth, "eth0", namespace=vm, mac=MACS[0], mtu=1500)
    assert drops(host, host_end) == ["isolane_drop"]
    netns.call(host, device.close)
    assert left == [None]


def crash(action: Callable[[], object]) -> None:
    """Do something in a process that is then killed."""
    ready = os.eventfd(0)
    pid = os.fork()
    if pid == 0:
        try:
            kept = action()  # noqa: F841
            os.eventfd_write(ready, 1)
            signal.pause()
        finally:
            os._exit(1)
    os.eventfd_read(ready)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ready)


def drops(namespace: str, name: str) -> list[str]:
    """Names of the programs at a device's ingress."""

    def read() -> list[str]:
        with IPRoute() as ip:
            index = links.get(ip, name).index
            filters = ip.get_filters(index=index, parent=0xFFFFFFF2)
            return [m.get_nested("TCA_OPTIONS", "TCA_BPF_NAME") for m in filters if m["handle"]]

    return netns.call(namespace, read)


def qdiscs(namespace: str, name: str) -> list[str]:
    def read() -> list[str]:
        with IPRoute() as ip:
            return [m.get_attr("TCA_KIND") for m in ip.get_qdiscs(index=links.get(ip, name).index)]

    return netns.call(namespace, read)


def test_a_device_of_a_vm_stays_sealed(make_namespace: MakeNamespace) -> None:
    """Until it goes, or the host's operator gives it to the host: docs/operations.md."""
    host = make_namespace("host")
    run(host, "ip", "link", "add", "vnet0", "type", "veth", "peer", "name", "guest0")
    ipv6 = ("cat", "/proc/sys/net/ipv6/conf/vnet0/disable_ipv6", "/proc/sys/net/ipv4/conf/vnet0/arp_ignore")
    device = netns.call(host, devices.open_existing, "vnet0", mac=MACS[0], mtu=9000)
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
        with devices.open_tap("eth0", namespace=vm, mac=MACS[0], mtu=1500):
            shown = run(vm, "tc", "qdisc", "show", "dev", "eth0").stdout.split()
            assert shown[:2] == ["qdisc", "noqueue"] and "mq" not in shown


def test_another_ports_device_is_not_a_host_device(make_namespace: MakeNamespace) -> None:
    """Whoever named it as his own would hear another tenant's VM."""
    host, vm = make_namespace("host"), make_namespace("vm")
    veth = netns.call(host, devices.open_veth, "eth0", namespace=vm, mac=MACS[0], mtu=1500)
    name = devices.host_end_name("eth0", vm)
    with pytest.raises(DeviceError, match=f"^device {name}: is another port's$"):
        netns.call(host, devices.open_existing, name, mac=MACS[1], mtu=1500)
    assert len(drops(host, name)) == 1
    netns.call(host, veth.close)


def test_operators_filters_stay(make_namespace: MakeNamespace) -> None:
    host = make_namespace("host")
    run(host, "ip", "link", "add", "vnet0", "type", "veth", "peer", "name", "guest0")
    run(host, "tc", "qdisc", "add", "dev", "vnet0", "clsact")
    run(host, "tc", "filter", "add", "dev", "vnet0", "egress", "prio", "5", "u32", "match", "u8", "0", "0")
    netns.call(host, netns.call(host, devices.open_existing, "vnet0", mac=MACS[0], mtu=1500).close)
    assert drops(host, "vnet0") == ["isolane_drop"]
    assert "u32" in run(host, "tc", "filter", "show", "dev", "vnet0", "egress").stdout


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("TAP eth0 in namespace nowhere: no network namespace 'nowhere' in /run/netns",
         lambda: devices.open_tap("eth0", namespace="nowhere", mac=MACS[0], mtu=1500)),
        ("veth eth0 in namespace nowhere: no network namespace 'nowhere' in /run/netns",
         lambda: devices.open_veth("eth0", namespace="nowhere", mac=MACS[0], mtu=1500)),
        ("device absent0: no such device", lambda: devices.open_existing("absent0", mac=MACS[0], mtu=1500)),
        ("device lo: is the loopback", lambda: devices.open_existing("lo", mac=MACS[0], mtu=1500)),
        ("device v0: the host has address 10.9.9.9 on it; there must be none",
         lambda: devices.open_existing("v0", mac=MACS[0], mtu=1500)),
        ("underlay absent0: no such device", lambda: devices.open_underlay("absent0", mac="", mtu=1500)),
        ("underlay v0: the manifest says MAC 02:00:00:00:77:01, the device has 02:00:00:00:77:02",
         lambda: devices.open_underlay("v0", mac="02:00:00:00:77:01", mtu=1500)),
        ("underlay v0: the manifest says MTU 1600, the device has 1500",
         lambda: devices.open_underlay("v0", mac="", mtu=1600)),
        ("underlay v0: provider address 10.9.9.9 is an address of this host already",
         lambda: devices.open_underlay("v0", mac="", mtu=1500, pas=[IPv4Address("10.9.9.9")])),
        ("underlay lo: is the loopback", lambda: devices.open_underlay("lo", mac="", mtu=1500)),
        ("device v1: is part of a bridge or the like; it must not be",
         lambda: devices.open_existing("v1", mac=MACS[0], mtu=1500)),
        ("underlay v1: is down", lambda: devices.open_underlay("v1", mac="", mtu=1500)),
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


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# ---- hygiene -----------------------------------------------------------------------------------------------

HOST_MAC = "02:00:00:00:00:fe"


def probes() -> list[bytes]:
    """What a VM may try against its host: every frame to the host end's MAC or a group."""
    vm, host = (bytes.fromhex(mac.replace(":", "")) for mac in (MACS[0], HOST_MAC))
    own4, own6 = socket.inet_aton("10.1.1.2"), socket.inet_pton(socket.AF_INET6, "fd01::2")
    found = []
    for target in (
        "192.168.50.1",
        "10.1.1.1",
        "127.0.0.1",
        "192.168.50.9",
    ):  # its addresses, and one it routes to
        request = bytes.fromhex("0001080006040001") + vm + own4 + bytes(6) + socket.inet_aton(target)
        found.append(b"\xff" * 6 + vm + b"\x08\x06" + request)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 1, 0) + own4 + socket.inet_aton(target)
        ip = ip[:10] + checksum(ip) + ip[12:]
        found.append(host + vm + b"\x08\x00" + ip + bytes.fromhex("0800f7fe00010000"))
    for text in ("fd50::1", "fe80::fe", "ff02::1", "fd50::9"):
        target6 = socket.inet_pton(socket.AF_INET6, text)
        echo = icmp6(own6, target6, bytes.fromhex("8000000000010001"))
        found.append((b"\x33\x33\x00\x00\x00\x01" if text == "ff02::1" else host) + vm + b"\x86\xdd" + echo)
        group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + target6[13:]
        solicit = icmp6(own6, group, bytes.fromhex("8700000000000000") + target6 + b"\x01\x01" + vm)
        found.append(b"\x33\x33\xff" + target6[13:] + vm + b"\x86\xdd" + solicit)
    return found


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)


def icmp6(source: bytes, target: bytes, message: bytes) -> bytes:
    pseudo = source + target + struct.pack("!II", len(message), 58)
    message = message[:2] + checksum(pseudo + message) + message[4:]
    return struct.pack("!IHBB", 6 << 28, len(message), 58, 255) + source + target + message


@pytest.fixture
def router(make_namespace: MakeNamespace) -> str:
    host = make_namespace("host")
    make_router(host)
    return host


def make_router(host: str) -> None:
    """A host that forwards, answers ARP for others, and has addresses on another device."""
    settings = (
        "ipv4.ip_forward=1 ipv4.conf.all.proxy_arp=1 ipv4.conf.default.proxy_arp=1 "
        "ipv4.neigh.default.proxy_delay=0 ipv4.conf.all.rp_filter=0 ipv4.conf.default.rp_filter=0 "
        "ipv6.conf.all.forwarding=1 ipv6.conf.default.accept_dad=0"
    )
    run(host, "sysctl", "-qw", *(f"net.{setting}" for setting in settings.split()))
    run(host, "ip", "link", "add", "out0", "up", "type", "veth", "peer", "name", "out1")
    run(host, "ip", "link", "set", "out1", "up")
    add_addresses(host, "out0", "192.168.50.1/24", "fd50::1/64", "fe80::fe/64", "10.1.1.1/24", "fd01::1/64")


def answers(host: str, vm: str, host_end: str) -> int:
    """Send the probes from the VM; how many frames came back or were forwarded before a mark that came after.

    On one CPU what comes in is worked off in order: the mark from the VM comes when the host is done with the
    probes, the marks that then go to the VM and beyond come after all that the host made of them.
    """
    mark = b"\xff" * 12 + b"\x88\xb5" + bytes(46)
    for namespace, name in ((vm, "eth0"), (host, host_end), (host, "out0")):
        wait_for_carrier(namespace, name)
    with (
        one_cpu(),
        netns.call(vm, listening, "eth0") as inside,
        netns.call(host, listening, "out1") as beyond,
        netns.call(host, listening, host_end) as arriving,
        netns.call(host, listening, "out0") as leaving,
    ):
        for frame in (*probes(), mark):
            inside.send(frame)
        arrived = list(until(arriving, mark))
        assert [probe for probe in probes() if probe in arrived] == probes(), "every probe left the VM"
        arriving.send(mark)
        leaving.send(mark)
        return sum(1 for opened in (inside, beyond) for _ in until(opened, mark))


def listening(name: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
    opened.bind((name, 3))
    opened.settimeout(5)
    return opened


def until(opened: socket.socket, mark: bytes) -> Iterator[bytes]:
    while (data := opened.recv(4000)) != mark:
        yield data


def test_a_plain_veth_lets_the_host_answer(router: str, make_namespace: MakeNamespace) -> None:
    """The control of the next test: the same probes, without us."""
    vm = make_namespace("vm")
    run(router, "ip", "link", "add", "host0", "address", HOST_MAC, "type", "veth",
        "peer", "name", "eth0", "address", MACS[0], "netns", vm)  # fmt: skip
    run(router, "ip", "link", "set", "host0", "up")
    run(vm, "ip", "link", "set", "eth0", "up")
    assert answers(router, vm, "host0") >= 5


def test_nothing_of_the_host_answers(router: str, make_namespace: MakeNamespace, cleanup: ExitStack) -> None:
    vm = make_namespace("vm")
    device = netns.call(router, devices.open_veth, "eth0", namespace=vm, mac=MACS[0], mtu=1500)
    cleanup.callback(netns.call, router, device.close)
    host_end = devices.host_end_name("eth0", vm)
    run(router, "ip", "link", "set", host_end, "address", HOST_MAC)
    run(vm, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    assert answers(router, vm, host_end) == 0
    assert address_flags(router, host_end) == {}, "no address, not even a link-local one"


# ---- underlay ----------------------------------------------------------------------------------------------

PA4, PA6 = IPv4Address("10.77.0.101"), IPv6Address("fd77::101")
UNDERLAY_MAC = "02:00:00:00:77:01"


@pytest.fixture
def provider(router: str, make_namespace: MakeNamespace) -> tuple[str, str]:
    """A host whose u1 leads to another namespace and has addresses of the host; routes make it a proxy for
    the PAs.
    """
    outside = make_namespace("net")
    run(router, "ip", "link", "add", "u1", "address", UNDERLAY_MAC, "mtu", "1600", "up", "type", "veth",
        "peer", "name", "p1", "netns", outside)  # fmt: skip
    run(outside, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.p1.accept_dad=0")
    run(outside, "ip", "link", "set", "p1", "mtu", "1600", "up")
    add_addresses(router, "u1", "10.77.0.10/24", "fd77::10/64")
    add_addresses(outside, "p1", "10.77.0.20/24", "fd77::20/64")
    run(router, "ip", "route", "add", f"{PA4}/32", "dev", "out0")
    for namespace, name in ((router, "u1"), (outside, "p1")):
        wait_for_dad(namespace, name)
    return router, outside


def open_underlay(host: str, cleanup: ExitStack) -> devices.Underlay:
    underlay = netns.call(host, devices.open_underlay, "u1", mac=UNDERLAY_MAC, mtu=1600)
    cleanup.callback(netns.call, host, underlay.close)
    return underlay


def arp_answered(outside: str, address: IPv4Address) -> bool:
    return run(outside, "arping", "-c", "1", "-w", "1", "-I", "p1", str(address)).returncode == 0


def test_underlay_is_shared_with_the_host(provider: tuple[str, str], cleanup: ExitStack) -> None:
    """The data plane sees what is for its PAs and nothing else; the host sees the rest and nothing of
    that.
    """
    host, outside = provider
    assert arp_answered(outside, PA4), "without us the kernel answers for the PA: the test would notice"
    underlay = open_underlay(host, cleanup)
    underlay.serve([PA4, PA6])
    send_stream(outside, host, "10.77.0.10", 300_000)
    send_stream(host, outside, "fd77::20", 300_000)
    assert list(drain(underlay.fds[0])) == []
    assert not arp_answered(outside, PA4)
    for family, source, address in ((4, "10.77.0.20", PA4), (6, "fd77::20", PA6)):
        run(outside, "ip", "neigh", "replace", str(address), "lladdr", UNDERLAY_MAC, "dev", "p1")
        done = run(
            outside, "ping", f"-{family}", "-c", "2", "-i", "0.01", "-W", "0.2", "-I", source, str(address)
        )
        assert "2 packets transmitted, 0 received" in done.stdout
    found = receive(underlay.fds, 5, lambda data: True)
    types = Counter(data[22:24] for _, data in found)
    assert types == {b"\x08\x06": 1, b"\x08\x00": 2, b"\x86\xdd": 2}
    netns.call(host, underlay.close)
    assert arp_answered(outside, PA4), "the drop is gone"
    assert "clsact" not in qdiscs(host, "u1")


def test_solicitations_for_a_pa_reach_the_data_plane(provider: tuple[str, str], cleanup: ExitStack) -> None:
    host, outside = provider
    underlay = open_underlay(host, cleanup)
    groups = ("cat", "/proc/net/igmp6")
    group = solicited_node(PA6).packed.hex()
    assert group not in run(host, *groups).stdout
    underlay.serve([PA6])
    assert group in run(host, *groups).stdout, "the host's IPv6 speaks MLD for it"
    run(outside, "ping", "-c", "1", "-W", "0.1", str(PA6))
    receive(underlay.fds, 1, lambda data: data[64:65] == b"\x87" and data[72:88] == PA6.packed)
    underlay.serve([])
    assert group not in run(host, *groups).stdout


def test_announcements_to_all_nodes_are_taken_without_the_hosts_ipv6(
    provider: tuple[str, str], cleanup: ExitStack
) -> None:
    host, _ = provider
    run(host, "sysctl", "-qw", "net.ipv6.conf.u1.disable_ipv6=1")
    groups, all_nodes = ("ip", "maddr", "show", "dev", "u1"), "link  33:33:00:00:00:01"
    assert all_nodes not in run(host, *groups).stdout
    open_underlay(host, cleanup)
    assert all_nodes in run(host, *groups).stdout


def test_without_ipv6_on_the_device_all_multicast_is_taken(
    provider: tuple[str, str], cleanup: ExitStack
) -> None:
    host, _ = provider
    run(host, "ip", "link", "set", "u1", "mtu", "1200")  # below 1280 a device has no IPv6 at all
    underlay = netns.call(host, devices.open_underlay, "u1", mac=UNDERLAY_MAC, mtu=1200)
    cleanup.callback(netns.call, host, underlay.close)
    assert "allmulti 0" in run(host, "ip", "-d", "link", "show", "u1").stdout
    underlay.serve([PA6])
    assert "allmulti 1" in run(host, "ip", "-d", "link", "show", "u1").stdout


def test_drop_of_pas_outlives_a_crash(provider: tuple[str, str], cleanup: ExitStack) -> None:
    host, outside = provider

    def open_and_serve() -> devices.Underlay:
        underlay = netns.call(host, devices.open_underlay, "u1", mac=UNDERLAY_MAC, mtu=1600)
        underlay.serve([PA4, PA6])
        return underlay

    crash(open_and_serve)
    assert drops(host, "u1") == ["isolane_divert"]
    assert not arp_answered(outside, PA4), "nobody answers for the PA of a data plane that died"
    underlay = netns.call(host, devices.open_underlay, "u1", mac=UNDERLAY_MAC, mtu=1600, pas=[PA4, PA6])
    cleanup.callback(netns.call, host, underlay.close)
    assert drops(host, "u1") == ["isolane_divert"]
    assert not arp_answered(outside, PA4), "nor while its successor has not got to serve()"
    with pytest.raises(DeviceError, match="underlay u1: another isolane uses it"):
        netns.call(host, devices.open_underlay, "u1", mac=UNDERLAY_MAC, mtu=1600)
    netns.call(host, underlay.close)
    assert drops(host, "u1") == []


def test_receive_merging_is_off_meanwhile(provider: tuple[str, str], cleanup: ExitStack) -> None:
    host, _ = provider
    assert netns.call(host, ethtool.switch, "u1", ["rx-gro"], True) == {"rx-gro"}
    before = netns.call(host, ethtool.active, "u1")
    underlay = open_underlay(host, cleanup)
    assert netns.call(host, ethtool.active, "u1") == before - {"rx-gro"}
    netns.call(host, underlay.close)
    assert netns.call(host, ethtool.active, "u1") == before
