"""Capture files as others write them, damaged in every way, and written for others to read."""

import struct
import subprocess
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter, PcapWriter, RawPcapReader

from tests.golden import captures as plain
from tools.verbs import captures
from tools.verbs.captures import SECOND, CaptureError, Packet, Writer

T0 = 1_700_000_000 * SECOND
PACKETS: list[Packet] = [
    (T0 + 1_000, bytes(range(60))),
    (T0 + 999_999_000, b"x" * 1514),
    (T0 - 5 * SECOND, b""),
    (T0, b"y" * 61),
]
"""In us; one falls back in time, one is empty, one has a length that pcapng pads."""

MAGIC_US, MAGIC_NS, MAGIC_PATCHED = 0xA1B2_C3D4, 0xA1B2_3C4D, 0xA1B2_CD34


def read(data: bytes) -> list[Packet]:
    return list(captures.read(BytesIO(data), "port p"))


def refuse(data: bytes, text: str) -> None:
    with pytest.raises(CaptureError) as caught:
        read(data)
    assert text in str(caught.value)


def refuse_at_once(data: bytes, text: str) -> None:
    with pytest.raises(CaptureError) as caught:
        captures.read(BytesIO(data), "port p")
    assert str(caught.value) == text


def header(
    magic: int = MAGIC_NS,
    order: str = "<",
    version: tuple[int, int] = (2, 4),
    snap: int = 262_144,
    link: int = 1,
) -> bytes:
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, snap, link)


def record(
    packet: Packet, order: str = "<", unit: int = 1, captured: int | None = None, more: bytes = b""
) -> bytes:
    time, data = packet
    kept = data if captured is None else data[:captured]
    numbers = (time // SECOND, time % SECOND // unit, len(kept), len(data))
    return struct.pack(order + "IIII", *numbers) + more + kept


# ---- pcap, as others write it


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit"), [(MAGIC_US, 1000), (MAGIC_NS, 1)])
def test_pcap_in_both_units_and_orders(order: str, magic: int, unit: int) -> None:
    packets = [(time + (123 if unit == 1 else 0), data) for time, data in PACKETS]
    assert read(header(magic, order) + b"".join(record(p, order, unit) for p in packets)) == packets


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_that_scapy_wrote(tmp_path: Path, order: str, nano: bool) -> None:
    with PcapWriter(str(tmp_path / "c"), linktype=1, endianness=order, nano=nano) as writer:
        writer.write_header(None)
        for time, data in PACKETS[:2]:
            fraction = time % SECOND if nano else time % SECOND // 1000
            writer.write_packet(data, sec=time // SECOND, usec=fraction)
    assert read((tmp_path / "c").read_bytes()) == PACKETS[:2]


def test_patched_pcap_has_longer_headers() -> None:
    packets = b"".join(record(p, unit=1000, more=bytes(8)) for p in PACKETS)
    assert read(header(MAGIC_PATCHED) + packets) == PACKETS


def test_frame_check_sequence_bits_are_no_link_type() -> None:
    assert read(header(link=1 | 0x2400_0000) + record(PACKETS[0])) == PACKETS[:1]


def test_snap_length_that_is_not_true() -> None:
    """What counts is what is there."""
    assert read(header(snap=0) + record(PACKETS[1])) == PACKETS[1:2]


def test_file_without_packets() -> None:
    assert read(header()) == []
    assert read(section() + interface()) == []


def test_longest_packet_and_last_second() -> None:
    packet = (2**32 * SECOND - 1, bytes(262_144))
    assert read(header() + record(packet)) == [packet]
    late = struct.pack("<IIII", 2**32 - 1, SECOND, 0, 0)
    refuse(header() + late, "port p, packet 1: a timestamp that a capture file can't hold")


# ---- pcapng


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    total = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + total + body + total


def section(order: str = "<", version: tuple[int, int] = (1, 0), magic: int = 0x1A2B_3C4D) -> bytes:
    return block(0x0A0D_0D0A, struct.pack(order + "IHHq", magic, *version, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str = "<", link: int = 1, snap: int = 0, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def enhanced(
    stamp: int, data: bytes, order: str = "<", number: int = 0, length: int | None = None, more: bytes = b""
) -> bytes:
    words = (number, stamp >> 32, stamp & 0xFFFF_FFFF, len(data), len(data) if length is None else length)
    padded = data + bytes(-len(data) % 4)
    return block(6, struct.pack(order + "IIIII", *words) + padded + more, order)


def tsresol(value: int) -> bytes:
    return option(9, bytes([value]))


@pytest.mark.parametrize("order", "<>")
def test_pcapng_in_both_orders(order: str) -> None:
    comment = option(1, b"seen", order) + option(0, b"", order)
    packets = b"".join(enhanced(time // 1000, data, order, more=comment) for time, data in PACKETS)
    assert read(section(order) + interface(order) + block(5, bytes(12), order) + packets) == PACKETS


@pytest.mark.parametrize(
    ("options", "stamp", "time"),
    [
        (b"", 5_000_123, 5_000_123_000),
        (tsresol(6), 5_000_123, 5_000_123_000),
        (tsresol(9), 5_000_123, 5_000_123),
        (tsresol(12), 5_000_123, 5_000),
        (tsresol(0), 7, 7 * SECOND),
        (tsresol(0x80 | 10), 1024 + 512, SECOND * 3 // 2),
        (tsresol(0x80 | 63), 2**62 + 1, SECOND // 2),
        (tsresol(127), 2**64 - 1, 0),
        (option(14, struct.pack("<q", 1_700_000_000)), 1, T0 + 1000),
        (option(14, struct.pack("<q", -4)) + tsresol(9), 5 * SECOND, SECOND),
        (option(2, b"eth0") + tsresol(9) + option(0, b"") + tsresol(0), 3, 3),
    ],
)
def test_interface_says_what_a_timestamp_is(options: bytes, stamp: int, time: int) -> None:
    assert read(section() + interface(options=options) + enhanced(stamp, b"abc")) == [(time, b"abc")]


def test_each_interface_has_its_own_unit_and_each_section_its_own_interfaces() -> None:
    first = section() + interface(snap=10) + interface(snap=20, options=tsresol(9))
    first += enhanced(1, b"abc", number=1) + enhanced(1, b"abc", number=0)
    second = section(">", (1, 2)) + interface(">") + enhanced(2, b"abc", ">")
    assert read(first + second) == [(1, b"abc"), (1000, b"abc"), (2000, b"abc")]
    refuse(first + section() + enhanced(1, b""), "port p, packet 3: a packet arrived on interface 0, but")


def test_simple_and_obsolete_packets() -> None:
    simple = block(3, struct.pack("<I", 5) + b"abcde")
    old = block(2, struct.pack("<HHIIII", 0, 9, 0, 7, 5, 5) + b"abcde")
    assert read(section() + interface(snap=5) + simple + old) == [(0, b"abcde"), (7000, b"abcde")]
    snapped = section() + interface(snap=4) + block(3, struct.pack("<I", 5) + b"abcd")
    refuse(snapped, "port p, packet 1: snapped to 4 of 5 bytes")


def test_pcapng_that_scapy_wrote(tmp_path: Path) -> None:
    with PcapNgWriter(str(tmp_path / "c")) as writer:
        for _, data in PACKETS[:2]:
            packet = Ether(data)
            packet.time = 5.25
            writer.write(packet)
    assert read((tmp_path / "c").read_bytes()) == [(5_250_000_000, data) for _, data in PACKETS[:2]]


@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "pcapng", "modpcap"])
def test_files_that_editcap_wrote(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").write_bytes(plain.encode(PACKETS))
    subprocess.run(["editcap", "-F", kind, tmp_path / "in", tmp_path / "out"], check=True)
    assert read((tmp_path / "out").read_bytes()) == PACKETS


# ---- files that are no use


def test_no_capture_file() -> None:
    refuse_at_once(b"", "truncated dump file; tried to read 4 file header bytes, only got 0")
    refuse_at_once(b"no capture", "unknown file format")
    refuse_at_once(b"\n\r\r\n", "unknown file format")
    refuse_at_once(b"\n\r\r\n\x1c\0\0\0text", "unknown file format")
    refuse_at_once(header()[:20], "truncated dump file; tried to read 24 file header bytes, only got 16")
    refuse_at_once(header(version=(2, 5)), "unsupported pcap savefile version 2.5")
    refuse_at_once(header(version=(1, 0)), "unsupported pcap savefile version 1.0")
    refuse_at_once(section(version=(2, 0)), "unsupported pcapng savefile version 2.0")
    refuse_at_once(section(), "the capture file has no Interface Description Blocks")
    early = "the capture file has a packet block before any Interface Description Blocks"
    refuse_at_once(section() + enhanced(0, b"") + interface(), early)


@pytest.mark.parametrize(("link", "name"), [(113, "LINUX_SLL"), (101, "RAW"), (7, "7")])
def test_not_ethernet(link: int, name: str) -> None:
    refuse_at_once(header(link=link), f"link type {name}, not Ethernet")
    refuse_at_once(section() + interface(link=link), f"link type {name}, not Ethernet")
    refuse(section() + interface() + interface(link=link), f"port p, packet 1: link type {name}, not")


def test_damaged_pcap() -> None:
    good = header() + record(PACKETS[0])
    refuse(good + record((T0, bytes(100)), captured=96), "port p, packet 2: snapped to 96 of 100 bytes")
    refuse(good[:-1], "packet 1: truncated dump file; tried to read 60 captured bytes, only got 59")
    refuse(good + bytes(3), "packet 2: truncated dump file; tried to read 16 header bytes, only got 3")
    long = struct.pack("<IIII", 0, 0, 262_145, 262_145)
    refuse(header() + long, "packet 1: invalid packet capture length 262145, bigger than maximum of 262144")


def test_damaged_pcapng() -> None:
    start = section() + interface()
    good = start + enhanced(0, b"abcd")
    refuse(start + enhanced(0, b"abcd", length=5), "port p, packet 1: snapped to 4 of 5 bytes")
    refuse(start + enhanced(0, b"a", number=1), "packet 1: a packet arrived on interface 1, but there's no")
    refuse(good[:-1], "packet 1: truncated pcapng dump file; tried to read 28 bytes, only got 27")
    refuse(good + bytes(7), "packet 2: truncated pcapng dump file; tried to read 8 bytes, only got 7")
    refuse(good + struct.pack("<II", 5, 8), "packet 2: block in pcapng dump file has a length of 8")
    refuse(good + struct.pack("<II", 5, 14), "has a length of 14")
    refuse(good + struct.pack("<II", 5, 0xFFFF_FFFC), "has a length of 4294967292")
    refuse(good[:-4] + bytes(4), "block total length in header 36 and trailer don't match")
    short = struct.pack("<IIIII", 0, 0, 0, 5, 5)
    refuse(start + block(6, short + b"abcd"), "block of type 6 in pcapng dump file is too short")
    refuse(start + block(6, short[:16]), "block of type 6 in pcapng dump file is too short")
    refuse(start + block(2, short[:16]), "block of type 2 in pcapng dump file is too short")
    refuse(start + block(3, b""), "block of type 3 in pcapng dump file is too short")
    refuse(start + block(6, struct.pack("<IIIII", 0, 0, 0, 2**32 - 1, 2**32 - 1)), "bigger than maximum of")
    refuse_at_once(section() + block(1, bytes(4)), "block of type 1 in pcapng dump file is too short")
    cut = struct.pack("<HHI", 1, 0, 0) + option(9, b"")
    refuse_at_once(section() + block(1, cut), "block of type 1 in pcapng dump file is too short")
    before = interface(options=option(14, struct.pack("<q", -2)))
    refuse(section() + before + enhanced(0, b""), "packet 1: a timestamp that a capture file can't hold")
    refuse(good + section(magic=1), "packet 2: unknown file format")


WHOLE = [
    header(MAGIC_US) + b"".join(record(p, unit=1000) for p in PACKETS),
    header(MAGIC_NS, ">") + b"".join(record(p, ">") for p in PACKETS),
    section() + interface(options=tsresol(9)) + b"".join(enhanced(t, d) for t, d in PACKETS),
    section(">") + interface(">") + b"".join(enhanced(t // 1000, d, ">") for t, d in PACKETS),
]


@settings(max_examples=500)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, 400),
)
@example(WHOLE[2], [(32, b"\x01\0\0\0")], 400)
def test_damage_is_an_error_and_nothing_else(
    data: bytes, damage: list[tuple[int, bytes]], length: int
) -> None:
    """Some packets, then the end or CaptureError."""
    damaged = bytearray(data)
    for at, value in damage:
        damaged[at : at + len(value)] = value
    kept = bytes(damaged[:length])
    try:
        packets = read(kept)
    except CaptureError:
        return
    assert sum(len(frame) + 16 for _, frame in packets) <= len(kept)
    assert all(0 <= time < 2**32 * SECOND for time, _ in packets)


@settings(max_examples=200)
@given(st.sampled_from([b"\n\r\r\n", header()[:4], header(order=">")[:4], b""]), st.binary(max_size=200))
def test_noise_is_an_error_or_nothing(start: bytes, noise: bytes) -> None:
    with suppress(CaptureError):
        read(start + noise)


@pytest.mark.timeout(60)
def test_a_block_full_of_options_takes_no_time() -> None:
    """The largest block there may be, of empty options."""
    options = option(1, b"") * ((16 << 20) // 4 - 8)
    assert read(section() + interface(options=options) + enhanced(1, b"")) == [(1000, b"")]


# ---- out


def test_written_as_others_read_it(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.write(PACKETS[:1])
        writer.write([])
        writer.write(iter(PACKETS[1:]))
    assert path.read_bytes() == plain.encode(PACKETS)
    assert read(path.read_bytes()) == PACKETS
    with RawPcapReader(str(path)) as reader:
        assert [data for data, _ in reader] == [data for _, data in PACKETS]


def test_a_full_disk_is_an_error() -> None:
    with pytest.raises(OSError, match="No space"), Path("/dev/full").open("wb") as file:
        Writer(file).write(PACKETS)
