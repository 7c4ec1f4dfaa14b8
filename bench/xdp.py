"""A generator of small packets and what counts them, both in the kernel: frames of a test run that really
leave by a device (BPF_F_TEST_XDP_LIVE_FRAMES), and an XDP program that counts frames and drops them.

The programs are a few instructions each, written here, so that nothing but the kernel is needed. Every call
is about a device of the calling thread's network namespace and raises OSError.
"""

import ctypes
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from bench.control_net import BenchError
from dataplane.host import bpf, netns
from dataplane.host.bpf import Program, ProgramType

_SYS_BPF, _SYS_TGKILL = 321, 234  # x86-64
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _TEST_RUN = 0, 1, 2, 10
_MAP_TYPE_ARRAY, _LIVE_FRAMES = 2, 2
_ROW = struct.Struct("=QQQQ")
"""A Count; and of who sends ns between two frames, 0: none, and when the next one is due."""
_MOST_LATE = 1_000_000
"""ns: what is later than this is not made up for, or a generator that was held up would send all at once."""
_BATCH, _RUN = 64, 1 << 21
"""Frames of a burst and of a test run. It takes tens of milliseconds to set a run up and to end it, in which
nothing is sent: of short ones that would be the rate.
"""
_STOP = signal.SIGUSR1

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = _libc.syscall(_SYS_BPF, command, buffer, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _code(code: int, registers: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """An instruction (linux/bpf.h). registers: the destination's number, and the source's times 16."""
    return struct.pack("=BBhi", code, registers, offset, value)


# ---- what counts -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Count:
    """Of frames, and of their bytes without FCS."""

    frames: int
    octets: int

    def since(self, before: "Count") -> "Count":
        return Count(self.frames - before.frames, self.octets - before.octets)


class _Counter:
    """An XDP program with a row that has its Count, which it finds by _find_row(). interval: see _ROW."""

    def __init__(self, interval: int = 0) -> None:
        self.rows = _bpf(_MAP_CREATE, struct.pack("=5I", _MAP_TYPE_ARRAY, 4, _ROW.size, 1, 0))
        self._fds = [self.rows]
        if interval:
            self._row(_MAP_UPDATE, _ROW.pack(0, 0, interval, 0))

    def load(self, name: str, code: bytes) -> int:
        self._fds.append(bpf.load(Program(name, ProgramType.XDP, code)))
        return self._fds[-1]

    def attach(self, program: int, index: int) -> None:
        self._fds.append(bpf.attach_xdp(program, index))

    def count(self) -> Count:
        frames, octets, *_ = _ROW.unpack(self._row(_MAP_LOOKUP, bytes(_ROW.size)))
        return Count(frames, octets)

    def _row(self, command: int, value: bytes) -> bytes:
        key, row = ctypes.c_uint32(0), ctypes.create_string_buffer(value, _ROW.size)
        where = ctypes.addressof(key), ctypes.addressof(row)
        _bpf(command, struct.pack("=IxxxxQQQ", self.rows, *where, 0))
        return row.raw

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def _find_row(rows: int) -> bytes:
    """The address of a map's only row in r0; r1 to r5 are lost."""
    return b"".join(
        (
            _code(0x62, 0x0A, -4, 0),  # the key, 0
            _code(0xBF, 0xA2),  # r2 = r10
            _code(0x07, 0x02, 0, -4),  # r2 += -4
            _code(0x18, 0x11, 0, rows) + _code(0),  # r1 = the map
            _code(0x85, 0, 0, 1),  # r0 = bpf_map_lookup_elem()
            _code(0x55, 0x00, 2, 0),  # it is never null, but the verifier wants to see that
            _code(0xB7, 0x00, 0, 0),  # XDP_ABORTED
            _code(0x95),
        )
    )


def _count(row: int, size: int) -> bytes:
    """To the row at the address in register `row` a frame is added, and the bytes in register `size`. r1 is
    lost.
    """
    return b"".join(
        (
            _code(0xB7, 0x01, 0, 1),  # r1 = 1
            _code(0xDB, 0x10 | row, 0),  # lock frames += r1
            _code(0xDB, size << 4 | row, 8),  # lock octets += size
        )
    )


_LENGTH = b"".join(
    (
        _code(0x61, 0x12, 0),  # r2 = data
        _code(0x61, 0x13, 4),  # r3 = data_end
        _code(0xBF, 0x36),  # r6 = r3
        _code(0x1F, 0x26),  # r6 -= r2
    )
)


class Sink:
    """Frames with IPv4 that reach a device are counted and dropped as long as it is open; others pass, so
    that the device's host goes on answering ARP.
    """

    def __init__(self, index: int) -> None:
        """index: of the device."""
        self._counter = _Counter()
        try:
            program = self._counter.load("bench_sink", _sink(self._counter.rows))
            self._counter.attach(program, index)
        except OSError:
            self.close()
            raise

    def count(self) -> Count:
        return self._counter.count()

    def settled(self, seconds: float) -> Count:
        """When nothing has come for a moment, or after so long."""
        end = time.monotonic() + seconds
        before, now = None, self.count()
        while now != before and time.monotonic() < end:
            time.sleep(0.05)
            before, now = now, self.count()
        return now

    def close(self) -> None:
        self._counter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sink(rows: int) -> bytes:
    return b"".join(
        (
            _LENGTH,
            _code(0xBF, 0x24),  # r4 = r2
            _code(0x07, 0x04, 0, 14),  # r4 += 14
            _code(0xBD, 0x34, 2),  # if r4 > r3 pass
            _code(0xB7, 0x00, 0, 2),  # XDP_PASS
            _code(0x95),
            _code(0x69, 0x25, 12),  # r5 = EtherType, big-endian
            _code(0x15, 0x05, 2, 0x0008),  # if it is not IPv4's pass
            _code(0xB7, 0x00, 0, 2),  # XDP_PASS
            _code(0x95),
            _find_row(rows),
            _count(0, 6),
            _code(0xB7, 0x00, 0, 1),  # XDP_DROP
            _code(0x95),
        )
    )


# ---- what sends --------------------------------------------------------------------------------------------


def _source(rows: int, index: int) -> bytes:
    """Frames that are not due yet are made for nothing."""
    return b"".join(
        (
            _LENGTH,
            _find_row(rows),
            _code(0xBF, 0x07),  # r7 = r0
            _code(0x79, 0x78, 16),  # r8 = interval
            _code(0x15, 0x08, 11, 0),  # if it is 0 send
            _code(0x85, 0, 0, 5),  # r0 = bpf_ktime_get_ns()
            _code(0x79, 0x71, 24),  # r1 = when it is due
            _code(0xBD, 0x01, 2),  # if r1 <= r0 it is
            _code(0xB7, 0x00, 0, 1),  # XDP_DROP
            _code(0x95),
            _code(0xBF, 0x02),  # r2 = r0
            _code(0x1F, 0x12),  # r2 -= r1
            _code(0xB5, 0x02, 1, _MOST_LATE),  # if r2 is more
            _code(0xBF, 0x01),  # r1 = r0
            _code(0x0F, 0x81),  # r1 += r8
            _code(0x7B, 0x17, 24),  # the next one is due at r1
            _count(7, 6),
            _code(0xB7, 0x01, 0, index),  # r1 = index
            _code(0xB7, 0x02, 0, 0),  # r2 = no flags
            _code(0x85, 0, 0, 23),  # r0 = bpf_redirect()
            _code(0x95),
        )
    )


@contextmanager
def stoppable() -> Iterator[None]:
    """Generators can be stopped within. For the main thread."""
    before = signal.signal(_STOP, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(_STOP, before)


class Generator:
    """Sends copies of a frame out of a device, from a thread of its own on one CPU, until it is closed. Takes
    stoppable().
    """

    def __init__(self, namespace: str, index: int, frame: bytes, cpu: int, rate: float = 0.0) -> None:
        """index: of the device there. rate: frames a second; 0, or what it has no time for: as fast as the
        kernel goes from one to the next.
        """
        self._index, self._frame, self._cpu = index, frame, cpu
        self._ends = False
        self._error: OSError | None = None
        self._id = 0
        self._counter = _Counter(round(1e9 / rate) if rate else 0)
        self._thread = threading.Thread(target=self._enter, args=(namespace,))
        self._thread.start()

    def count(self) -> Count:
        """BenchError: it has failed."""
        if self._error:
            raise BenchError(f"frames can't be generated: {self._error}")
        return self._counter.count()

    def stop(self) -> None:
        self._ends = True
        while self._thread.is_alive():
            if self._id:  # the signal may come before the call that it is to end
                _libc.syscall(_SYS_TGKILL, os.getpid(), self._id, _STOP)
            self._thread.join(0.02)

    def _enter(self, namespace: str) -> None:
        try:
            netns.call(namespace, self._send)
        except InterruptedError:
            pass
        except OSError as error:
            self._error = error

    def _send(self) -> None:
        try:
            os.sched_setaffinity(0, {self._cpu})
            program = self._counter.load("bench_source", _source(self._counter.rows, self._index))
            self._id = threading.get_native_id()
            while not self._ends:
                _run(program, self._frame, _RUN)
        finally:
            self._id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._counter.close()


def _run(program: int, frame: bytes, count: int) -> None:
    data = ctypes.create_string_buffer(frame, len(frame))
    head = program, 0, len(frame), 0, ctypes.addressof(data), 0, count, 0
    _bpf(_TEST_RUN, struct.pack("=IIIIQQIIIIQQIIIxxxx", *head, 0, 0, 0, 0, _LIVE_FRAMES, 0, _BATCH))


def datagram(source: str, destination: str, addresses: bytes, size: int) -> bytes:
    """A frame of `size` bytes without FCS between MACs; addresses: its IPv4 source and destination. UDP to
    port 9 without a checksum (RFC 768).
    """
    length = size - 14
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, 17, 0)
    total = sum(struct.unpack("!10H", head + addresses))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", 0xFFFF - total)
    macs = bytes.fromhex((destination + source).replace(":", ""))
    udp = struct.pack("!HHHH", 4096, 9, length - 20, 0)
    frame = macs + b"\x08\x00" + head + addresses + udp
    return frame.ljust(size, b"\0")
