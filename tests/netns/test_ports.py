"""The core on real devices: super-packets, checksums and VLAN tags as TAP and AF_PACKET hand them over."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from dataplane.binding import core
from dataplane.binding.core import Dataplane, Offload, PortKind
from dataplane.binding.stats import Counters
from dataplane.host import links, netns
from dataplane.host.device import Device, Terms
from dataplane.host.tap import open_tap
from dataplane.host.veth import open_veth
from policy.compile import compiler
from policy.service import resolve
from tests.netns.labs import wait_until
from tests.netns.rig import add_addresses, wait_for_dad
from tests.netns.two_vms import ADDRESSES, MACS, TWO_VMS

MakeNamespace = Callable[[str], str]

SIZE = 20_000_000


class Vms:
    """Two VMs on one host, with whatever devices."""

    def __init__(self, dataplane: Dataplane, names: dict[str, str], ports: dict[str, int]) -> None:
        self.dataplane = dataplane
        self.namespaces = names
        self.ports = ports

    def counters(self, name: str) -> Counters:
        return self.dataplane.port_counters(self.ports[name])

    def assert_balanced(self) -> None:
        wait_until(lambda: self.dataplane.counters().balance() == 0)


@contextmanager
def running(
    tmp_path: Path,
    make_namespace: MakeNamespace,
    kinds: tuple[PortKind, PortKind],
    *,
    workers: int = 1,
    offloads: Offload | None = None,
) -> Iterator[Vms]:
    """offloads: None for all that the devices have."""
    file = tmp_path / "two.yaml"
    file.write_text(TWO_VMS)
    tables = compiler.compile_host(resolve.load([file]), "h1")
    names = {name: make_namespace(name) for name in MACS}
    with ExitStack() as stack:
        opened: dict[str, Device] = {}
        for (name, namespace), kind in zip(names.items(), kinds, strict=True):
            open_it = open_tap if kind is PortKind.TAP else open_veth
            opened[name] = open_it("eth0", Terms(MACS[name], 1500, queues=workers), namespace=namespace)
            stack.callback(opened[name].close)
            add_addresses(
                namespace, "eth0", *(f"{a}/{n}" for a, n in zip(ADDRESSES[name], (24, 64), strict=True))
            )
        config = core.Config(
            self_host=tables.ids.hosts["h1"],
            router_mac=bytes.fromhex("02150a000001"),
            hash_key=(1, 2),
            workers=workers,
            spin_us=20,
        )
        dataplane = stack.enter_context(core.Dataplane(config))
        for name, device in opened.items():
            port = device.port_config(name)
            if offloads is not None:
                port = replace(port, offloads=offloads)
            dataplane.attach(tables.ids.ports[f"t/{name}"], port)
        dataplane.apply(tables.change_set().encode())
        dataplane.start()
        vms = Vms(dataplane, names, {name: tables.ids.ports[f"t/{name}"] for name in names})
        for namespace in names.values():
            assert wait_for_dad(namespace, "eth0") == []
        yield vms
        vms.assert_balanced()
        dataplane.stop()


def opened(namespace: str, family: int, kind: int, *arguments: int) -> socket.socket:
    made = netns.call(namespace, socket.socket, family, kind, *arguments)
    made.settimeout(20)
    return made


def transfer(vms: Vms, sender: str, receiver: str, version: int) -> None:
    """SIZE bytes by one TCP connection arrive as they were sent."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    address = ADDRESSES[receiver][0 if version == 4 else 1]
    data = bytes(range(251)) * (SIZE // 251)
    with (
        opened(vms.namespaces[receiver], family, socket.SOCK_STREAM) as server,
        opened(vms.namespaces[sender], family, socket.SOCK_STREAM) as client,
    ):
        server.bind((address, 5001))
        server.listen(1)
        client.connect((address, 5001))
        talking = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        connection, _ = server.accept()
        connection.settimeout(20)
        talking.start()
        digest = hashlib.sha256()
        with connection:
            while part := connection.recv(1 << 20):
                digest.update(part)
        talking.join()
    assert digest.digest() == hashlib.sha256(data).digest()


TAP, PACKET = PortKind.TAP, PortKind.PACKET


@pytest.mark.parametrize("kinds", [(TAP, TAP), (TAP, PACKET), (PACKET, TAP), (PACKET, PACKET)])
@pytest.mark.parametrize("version", [4, 6])
def test_super_packets_cross_whole(
    tmp_path: Path, make_namespace: MakeNamespace, kinds: tuple[PortKind, PortKind], version: int
) -> None:
    with running(tmp_path, make_namespace, kinds) as vms:
        transfer(vms, "one", "two", version)
        sender, receiver = vms.counters("one"), vms.counters("two")
        assert sender.rx_gso > 100
        assert sender.rx_csum_partial >= sender.rx_gso
        assert receiver.tx_gso == sender.rx_gso
        assert receiver.tx_csum_partial >= receiver.tx_gso
        assert sender.rx_bytes > SIZE
        assert set(sender.drops) | set(receiver.drops) <= {"multicast"}


@pytest.mark.parametrize("kinds", [(TAP, PACKET), (PACKET, TAP)])
@pytest.mark.parametrize("version", [4, 6])
def test_a_port_without_offloads_gets_whole_segments(
    tmp_path: Path, make_namespace: MakeNamespace, kinds: tuple[PortKind, PortKind], version: int
) -> None:
    with running(tmp_path, make_namespace, kinds, offloads=Offload.NONE) as vms:
        transfer(vms, "one", "two", version)
        sender, receiver = vms.counters("one"), vms.counters("two")
        assert sender.rx_gso > 100
        assert sender.originated > sender.rx_gso  # segments beyond the first
        assert receiver.tx_gso == receiver.tx_csum_partial == 0
        assert set(sender.drops) | set(receiver.drops) <= {"multicast"}


def test_two_workers_share_the_queues(tmp_path: Path, make_namespace: MakeNamespace) -> None:
    with running(tmp_path, make_namespace, (TAP, PACKET), workers=2) as vms:
        for sender, receiver in (("one", "two"), ("two", "one")):
            for version in (4, 6):
                transfer(vms, sender, receiver, version)


ETH_P_ALL = 3


def send_frames(vms: Vms, *frames: bytes) -> None:
    with opened(vms.namespaces["one"], socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind(("eth0", 0))
        for frame in frames:
            raw.send(frame)


def ethernet(*tags: tuple[int, int], size: int = 100) -> bytes:
    """An IPv4 packet of VM one to VM two behind tags, each (TPID, TCI); its header checksum is wrong."""
    addresses = socket.inet_aton("10.1.1.10") + socket.inet_aton("10.1.1.20")
    ip = bytes([0x45, 0]) + (20 + size).to_bytes(2, "big") + bytes([0, 1, 0, 0, 64, 253, 0, 0]) + addresses
    macs = bytes.fromhex((MACS["two"] + MACS["one"]).replace(":", ""))
    words = [word.to_bytes(2, "big") for tag in tags for word in tag]
    return macs + b"".join(words) + b"\x08\0" + ip + bytes(size)


@pytest.mark.parametrize("kind", [TAP, PACKET])
def test_tags_are_seen_though_the_kernel_keeps_them_apart(
    tmp_path: Path, make_namespace: MakeNamespace, kind: PortKind
) -> None:
    with running(tmp_path, make_namespace, (kind, TAP)) as vms:
        before = vms.counters("one")
        sent = vms.counters("two").sent
        send_frames(
            vms,
            ethernet((0x8100, 5)),
            ethernet((0x8100, 0)),
            ethernet((0x8100, 5), (0x8100, 6)),
            ethernet((0x88A8, 5)),
            ethernet((0x88A8, 5), (0x8100, 6)),
        )
        wait_until(lambda: vms.counters("one").drops.get("vlan-stacked", 0) == 3)
        wait_until(lambda: vms.counters("two").sent >= sent + 2)
        assert vms.counters("one").drops.get("ethertype", 0) == before.drops.get("ethertype", 0)


@pytest.mark.parametrize("kind", [TAP, PACKET])
def test_tag_is_stripped_from_what_arrives(
    tmp_path: Path, make_namespace: MakeNamespace, kind: PortKind
) -> None:
    with (
        running(tmp_path, make_namespace, (kind, PACKET)) as vms,
        opened(vms.namespaces["two"], socket.AF_PACKET, socket.SOCK_RAW, 0) as raw,
    ):
        raw.bind(("eth0", ETH_P_ALL))
        send_frames(vms, ethernet((0x8100, 7), size=333))
        while (frame := raw.recv(2048)) != ethernet(size=333):
            assert frame[12:14] != b"\x81\0"


def test_what_the_kernel_lost_is_counted(tmp_path: Path, make_namespace: MakeNamespace) -> None:
    """While nobody receives, the socket fills up; what it did not take is rx_kernel, outside the balance."""
    with running(tmp_path, make_namespace, (PACKET, TAP)) as vms:
        vms.dataplane.stop()
        before = vms.counters("one")
        sent = 15_000
        send_frames(vms, *[ethernet(size=1400)] * sent)
        assert vms.counters("one").rx_kernel == before.rx_kernel
        vms.dataplane.start()

        def seen() -> int:
            now = vms.counters("one")
            return now.received + now.rx_kernel - before.received - before.rx_kernel

        wait_until(lambda: seen() >= sent)
        assert vms.counters("one").rx_kernel > before.rx_kernel


def test_what_the_kernel_lost_is_counted_at_the_end(tmp_path: Path, make_namespace: MakeNamespace) -> None:
    with running(tmp_path, make_namespace, (PACKET, TAP)) as vms:
        vms.dataplane.stop()
        before = vms.counters("one")
        send_frames(vms, *[ethernet(size=1400)] * 15_000)
        vms.dataplane.detach(vms.ports["one"])
        assert vms.counters("one").received == before.received
        assert vms.counters("one").rx_kernel > before.rx_kernel


def remove_device(name: str) -> None:
    with IPRoute() as ip:
        ip.link("del", index=links.get(ip, name).index)


@pytest.mark.parametrize("kind", [TAP, PACKET])
def test_a_device_that_goes_is_no_harm(tmp_path: Path, make_namespace: MakeNamespace, kind: PortKind) -> None:
    """Its port drops what it can't send, and the worker goes on sleeping."""
    with running(tmp_path, make_namespace, (PACKET, kind)) as vms:
        netns.call(vms.namespaces["two"], remove_device, "eth0")
        before = vms.counters("two").sent
        send_frames(vms, *[ethernet()] * 10)
        wait_until(lambda: vms.counters("one").drops.get("tx-error", 0) >= 10)
        assert vms.counters("two").sent == before
        cpu = time.process_time()
        time.sleep(0.3)
        assert time.process_time() - cpu < 0.01
