"""The predicate of the underlay in BPF against a plain twin: by test runs of the program, and on a real
device.
"""

import ctypes
import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroute2 import IPRoute

from dataplane.host import bpf, bpf_compile, bpf_programs, links, netns, packet_socket
from dataplane.host.filters import Way, set_filter
from dataplane.host.undo import Undo
from tests.netns.wires import one_cpu, wait_for_carrier

PA4 = [IPv4Address("192.168.77.101"), IPv4Address("10.0.0.1")]
PA6 = [IPv6Address("fd77::101"), IPv6Address("fd77::1:2:3")]
PAS: list[bpf.Address] = [*PA4, *PA6]
HOPS4, HOPS6 = [IPv4Address("192.168.77.102"), IPv4Address("10.0.0.254")], [IPv6Address("fd77::102")]
HOPS: list[bpf.Address] = [*HOPS4, *HOPS6]
NEAR4 = [*PA4, *HOPS4, IPv4Address("192.168.77.103"), IPv4Address("224.0.0.1")]
NEAR6 = [*PA6, *HOPS6, IPv6Address("fd77::103"), IPv6Address("ff02::1:ff00:101"),
         IPv6Address("::ffff:10.0.0.1")]  # fmt: skip
SHOT, UNSPEC = 2, -1
WHOLE, NOTHING = -1, 0


class Fate(NamedTuple):
    """Whether the socket takes a frame, and whether it is left to the host."""

    taken: bool
    left: bool


def fate(frame: bytes, vlan_id: int | None = None) -> Fate:
    """The twin: frame without its outer 802.1Q tag, whose VLAN ID stands beside it."""
    ethertype, packet = frame[12:14], frame[14:]

    def names(addresses: list[bpf.Address], offset: int, length: int) -> bool:
        return packet[offset : offset + length] in [address.packed for address in addresses]

    alone = too = False
    if vlan_id:
        pass
    elif ethertype == b"\x08\x00":
        alone = names(PAS, 16, 4)
    elif ethertype == b"\x08\x06":
        alone, too = names(PAS, 24, 4), names(HOPS, 14, 4)
    elif ethertype == b"\x86\xdd":
        message = packet[40:41] if packet[6:7] == b"\x3a" else b""
        about_pa = message in (b"\x87", b"\x88") and names(PAS, 48, 16)
        alone, too = names(PAS, 24, 16) or about_pa, message == b"\x88" and names(HOPS, 48, 16)
    else:
        alone = vlan_id == 0 and ethertype in (b"\x81\x00", b"\x88\xa8")
    return Fate(alone or too, not alone)


ADDRESS4 = st.sampled_from(NEAR4) | st.ip_addresses(v=4)
ADDRESS6 = st.sampled_from(NEAR6) | st.ip_addresses(v=6)


@st.composite
def ipv4_frames(draw: st.DrawFn) -> bytes:
    options = draw(st.binary(max_size=40).map(lambda b: b[: len(b) // 4 * 4]))
    header = bytes([0x40 | 5 + len(options) // 4]) + draw(st.binary(min_size=11, max_size=11))
    return b"\x08\x00" + header + draw(ADDRESS4).packed + draw(ADDRESS4).packed + options


@st.composite
def arp_frames(draw: st.DrawFn) -> bytes:
    head = bytes.fromhex("0001080006040001") + draw(st.binary(min_size=6, max_size=6))
    return b"\x08\x06" + head + draw(ADDRESS4).packed + bytes(6) + draw(ADDRESS4).packed


@st.composite
def ipv6_frames(draw: st.DrawFn) -> bytes:
    next_header = draw(st.sampled_from([58, 58, 58, 47, 0]))
    head = struct.pack("!IHBB", 6 << 28, 24, next_header, 255)
    icmp = bytes([draw(st.sampled_from([133, 134, 135, 136, 137, 128]))]) + draw(
        st.binary(min_size=7, max_size=7)
    )
    return b"\x86\xdd" + head + draw(ADDRESS6).packed + draw(ADDRESS6).packed + icmp + draw(ADDRESS6).packed


@st.composite
def frames(draw: st.DrawFn, shortest: int) -> bytes:
    """A frame, perhaps cut short, but not so far that the kernel refuses it."""
    rest = draw(ipv4_frames() | arp_frames() | ipv6_frames() | st.binary(min_size=60, max_size=80))
    frame = bytes.fromhex("ffffffffffff020000000099") + rest
    return frame[: draw(st.integers(shortest, 200))]


def test_the_shipped_programs_are_what_the_source_compiles_to() -> None:
    if shutil.which(bpf_compile.CLANG) is None:
        pytest.skip(f"no {bpf_compile.CLANG}")
    objects = map(bpf_compile.compile_object, bpf_compile.SOURCES)
    assert bpf_compile.generate(objects) == bpf_compile.OUTPUT.read_text()


def run_program(fd: int, frame: bytes) -> int:
    """BPF_PROG_TEST_RUN of a classifier: what it returns."""
    data = ctypes.create_string_buffer(frame, len(frame))
    attributes = bytearray(
        struct.pack("=IIIIQQIIIIQQ", fd, 0, len(frame), 0, ctypes.addressof(data), *[0] * 7)
    )
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(321, 10, buffer, len(attributes)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(struct.unpack_from("=i", attributes, 4)[0])


def judge(programs: tuple[int, int], frame: bytes) -> Fate:
    """What the two programs say. A test run takes an Ethernet header off before a socket's filter runs."""
    accept, divert = programs
    accepted, verdict = run_program(accept, bytes(14) + frame), run_program(divert, frame)
    assert accepted in (WHOLE, NOTHING)
    assert verdict in (SHOT, UNSPEC)
    return Fate(accepted == WHOLE, verdict == UNSPEC)


@pytest.fixture(scope="module")
def programs() -> Iterator[tuple[int, int]]:
    with bpf.PaMap() as pas:
        pas.replace(PAS, HOPS)
        accept, divert = (bpf.load(each, pas) for each in (bpf_programs.ACCEPT, bpf_programs.DIVERT))
        yield accept, divert
        os.close(accept)
        os.close(divert)


@given(frame=frames(shortest=54))
@settings(max_examples=1000, deadline=None)
def test_programs_agree_with_twin(programs: tuple[int, int], frame: bytes) -> None:
    assert judge(programs, frame) == fate(frame)


ALONE, TOO, NOT_OURS = Fate(True, False), Fate(True, True), Fate(False, True)
HOP6, OTHER6 = "fd77" + "00" * 12 + "0102", "fd77" + "00" * 12 + "0103"
ALL_NODES = "ff02" + "00" * 13 + "01"


@pytest.mark.parametrize(
    ("expected", "frame"),
    [
        (ALONE, "0800 4500001400000000402f0000 c0a84d63 c0a84d65"),
        (NOT_OURS, "0800 4500001400000000402f0000 c0a84d65 c0a84d63"),
        (NOT_OURS, "0800 4500001400000000402f0000 c0a84d66 c0a84d63"),
        (NOT_OURS, "0800 4500001400000000402f0000 c0a84d63 c0a84d66"),
        (ALONE, "0806 0001080006040001 020000000099 c0a84d63 000000000000 c0a84d65"),
        (NOT_OURS, "0806 0001080006040001 020000000099 c0a84d65 000000000000 c0a84d63"),
        (TOO, "0806 0001080006040001 020000000099 c0a84d66 000000000000 c0a84d66"),
        (TOO, "0806 0001080006040002 020000000099 c0a84d66 ffffffffffff c0a84d66"),
        (TOO, "0806 0001080006040001 020000000099 c0a84d66 000000000000 c0a84d63"),
        (ALONE, "0806 0001080006040001 020000000099 c0a84d66 000000000000 c0a84d65"),
        (NOT_OURS, "0806 0001080006040001 020000000099 c0a84d63 000000000000 c0a84d66"),
        (ALONE, "86dd 6000000000002fff" + "fd77" + "00" * 13 + "99" + "fd77" + "00" * 12 + "0101"),
        (ALONE, "86dd 6000000000183aff" + "00" * 16 + "ff02" + "00" * 9 + "01ff000101" + "8700000000000000"
         + "fd77" + "00" * 12 + "0101"),
        (NOT_OURS, "86dd 6000000000183aff" + "00" * 16 + "ff02" + "00" * 9 + "01ff000101"
         + "8700000000000000" + "fe80" + "00" * 12 + "0101"),
        (TOO, "86dd 6000000000203aff" + HOP6 + ALL_NODES + "8800000020000000" + HOP6),
        (NOT_OURS, "86dd 6000000000203aff" + HOP6 + ALL_NODES + "8800000020000000" + OTHER6),
        (NOT_OURS, "86dd 6000000000203aff" + HOP6 + ALL_NODES + "8700000000000000" + HOP6),
        (NOT_OURS, "86dd 6000000000202fff" + HOP6 + ALL_NODES + "8800000020000000" + HOP6),
    ],
    ids=["ipv4-to", "ipv4-from", "ipv4-from-hop", "ipv4-to-hop", "arp-target", "arp-sender", "arp-of-hop",
         "arp-reply-of-hop", "arp-of-hop-to-other", "arp-of-hop-to-pa", "arp-for-hop", "ipv6-to",
         "ns-target", "ns-of-the-same-group", "na-of-hop", "na-of-other", "ns-for-hop", "no-icmpv6"],
)  # fmt: skip
def test_named_cases(programs: tuple[int, int], expected: Fate, frame: str) -> None:
    data = bytes.fromhex("ffffffffffff020000000099" + frame.replace(" ", ""))
    assert fate(data) == expected
    assert judge(programs, data) == expected


def test_a_program_that_the_kernel_refuses_says_why() -> None:
    broken = replace(bpf_programs.DROP, code=bytes.fromhex("9500000000000000"))  # exit without a result
    with pytest.raises(OSError, match=r"can't load BPF program isolane_drop: .*: R0 !read_ok"):
        bpf.load(broken)
    with pytest.raises(ValueError, match=r"^program isolane_divert needs map pas$"):
        bpf.load(bpf_programs.DIVERT)


def test_addresses_come_and_go() -> None:
    frame = bytes.fromhex("ffffffffffff020000000099 0800 4500001400000000402f0000 c0a84d63") + PA4[0].packed
    with bpf.PaMap() as pas:
        fd = bpf.load(bpf_programs.DIVERT, pas)
        assert run_program(fd, frame) == UNSPEC
        pas.replace(PA4)
        assert run_program(fd, frame) == SHOT
        pas.replace(PA6, [*HOPS, *PA4])
        assert run_program(fd, frame) == UNSPEC, "a PA that has moved to another host"
        assert pas.addresses == frozenset(PA6)
        pas.replace(PA4, PA4)
        assert run_program(fd, frame) == SHOT, "a PA of this host is no next hop"
        assert pas.addresses == frozenset(PA4)
        pas.replace([])
        assert run_program(fd, frame) == UNSPEC
        os.close(fd)


def test_a_map_is_read_back_and_goes_on() -> None:
    """More rows than are read at a time, of both families and roles, with addresses that differ in family
    alone.
    """
    pas = [make(number) for number in range(1, 5000) for make in (IPv4Address, IPv6Address)]
    hops = [make(number) for number in range(6000, 9000) for make in (IPv4Address, IPv6Address)]
    with bpf.PaMap() as first:
        with bpf.PaMap(first.fd) as empty:
            assert empty.addresses == frozenset()
        first.replace(pas, hops)
        with bpf.PaMap(first.fd) as second:
            assert second.addresses == frozenset(pas)
            assert second._roles == first._roles
            second.replace(hops[:10], pas[:10])
            with bpf.PaMap(first.fd) as third:
                assert third._roles == second._roles
                assert third.addresses == frozenset(hops[:10])


def test_who_only_keeps_a_map_changes_nothing() -> None:
    """And a later process that may, changes it again, by what was kept."""
    with bpf.PaMap() as first:
        first.replace([PA4[0]])
        kept = first.read_only()
    with bpf.PaMap(kept) as second:
        assert second.addresses == {PA4[0]}
        writable, second.fd = second.fd, kept
        with pytest.raises(PermissionError):
            second.replace([PA4[1]])
        assert second.addresses == {PA4[0]}
        second.fd = writable
        second.replace([PA4[1]])
    with bpf.PaMap(kept) as third:
        assert third.addresses == {PA4[1]}
    os.close(kept)


def test_what_is_no_map_of_pas_is_refused() -> None:
    with Path(os.devnull).open("rb") as null, pytest.raises(OSError, match=r"Errno"):
        bpf.PaMap(null.fileno())


@pytest.mark.parametrize(("key", "value", "name"), [(64, 4096, b"isolane_pas"), (20, 1, b"other")])
def test_a_map_of_other_rows_is_not_read(key: int, value: int, name: bytes) -> None:
    """The kernel writes rows of the map's own size: it would write past what is made for ours."""
    attributes = struct.pack("=IIIIIII16s", 1, key, value, 100, 1, 0, 0, name)
    fd = bpf._bpf(bpf._MAP_CREATE, bytearray(attributes))
    try:
        with pytest.raises(ValueError, match="another map"):
            bpf.PaMap(fd)
    finally:
        os.close(fd)


# ---- on a device -------------------------------------------------------------------------------------------


class Wire:
    """A veth pair: frames are sent on one end; on the other `taken` has the filter and `host` is behind the
    drop.
    """

    def __init__(self, undo: Undo, stack: ExitStack) -> None:
        with IPRoute() as ip, bpf.PaMap() as pas:
            pas.replace(PAS, HOPS)
            ip.link("add", ifname="a", kind="veth", peer={"ifname": "b"})
            for name in ("a", "b"):
                undo.set_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")
                links.set_state(name, "up")
            wait_for_carrier(None, "a")
            set_filter(undo, ip, links.get(ip, "b"), Way.IN, bpf_programs.DIVERT, pas)
            accept = bpf.load(bpf_programs.ACCEPT, pas)
            (self.taken,) = undo.own(*packet_socket.open_queues("b", 1, accept))
            os.close(accept)
        self.sender = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self.sender.bind(("a", 0))
        self.host = [stack.enter_context(self._by_protocol(p)) for p in (0x0800, 0x0806, 0x86DD)]

    @staticmethod
    def _by_protocol(protocol: int) -> socket.socket:
        """A socket bound to an EtherType sees what is left behind the ingress drop."""
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        opened.bind(("b", protocol))
        opened.settimeout(5)
        return opened

    def send(self, frame: bytes) -> tuple[list[bytes], list[bytes]]:
        """What the socket took and what was left to the host, of one frame."""
        marks = [frame[:12] + t + bytes(40) for t in (b"\x08\x00", b"\x08\x06", b"\x86\xdd")]
        for data in (frame, *marks):
            self.sender.send(data)
        left = [data for opened, mark in zip(self.host, marks, strict=True) for data in _until(opened, mark)]
        taken = []
        while True:
            try:
                taken.append(os.read(self.taken, 2000)[10:])
            except BlockingIOError:
                return taken, left


def _until(opened: socket.socket, mark: bytes) -> Iterator[bytes]:
    while (data := opened.recv(2000)) != mark:
        yield data


@pytest.fixture
def wire(make_namespace: Callable[[str], str]) -> Iterator[Wire]:
    with one_cpu(), Undo() as undo, ExitStack() as stack:
        yield netns.call(make_namespace("wire"), Wire, undo, stack)


@pytest.mark.parametrize(
    "tags", ["8100 0000 8100 0000", "8100 e000 8100 0000 8100 0000", "8100 0000 88a8 0000"]
)
def test_priority_tags_hide_nothing(wire: Wire, tags: str) -> None:
    """The kernel strips as many as there are."""
    packet = bytes.fromhex("0800 4500001400000000402f0000 c0a84d63 c0a84d65") + bytes(26)
    outer, *inner = bytes.fromhex("020000000001020000000099"), bytes.fromhex(tags.replace(" ", "")), packet
    taken, left = wire.send(outer + b"".join(inner))
    assert (len(taken), left) == (1, [])


@given(frame=frames(shortest=20), vlan_id=st.sampled_from([None, None, 0, 5, 4095]))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_device_agrees_with_twin(wire: Wire, frame: bytes, vlan_id: int | None) -> None:
    """Every frame is taken, left to the host, or both, as the twin says; tags are in the skb by then."""
    tag = b"" if vlan_id is None else b"\x81\x00" + struct.pack("!H", 0xE000 | vlan_id)
    taken, left = wire.send(frame[:12] + tag + frame[12:])
    known = frame[12:14] in (b"\x08\x00", b"\x08\x06", b"\x86\xdd")
    expected = fate(frame, vlan_id)
    assert taken == [frame] * expected.taken
    assert left == [frame] * (expected.left and known)


def test_the_filter_of_a_queue_is_nobodys_to_change(make_namespace: Callable[[str], str]) -> None:
    """Not even of one who has all capabilities, and a duplicate."""
    namespace = make_namespace("locked")
    (fd,) = netns.call(namespace, packet_socket.open_queues, "lo", 1, None)
    program = bpf.load(bpf_programs.DROP)
    with socket.socket(fileno=fd) as opened:
        for option, value in ((50, program), (27, 0), (44, 0)):  # attach another, detach, unlock
            with pytest.raises(PermissionError):
                opened.setsockopt(socket.SOL_SOCKET, option, value)
    os.close(program)
