"""Capture files, by the plainest means: nanosecond pcap of Ethernet, in the byte order of x86."""

import struct
from pathlib import Path

_HEADER = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")
_FILE_HEADER = _HEADER.pack(0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)
_SECOND = 1_000_000_000

Frames = list[tuple[int, bytes]]
"""(ns, frame)"""


def encode(frames: Frames) -> bytes:
    records = (_RECORD.pack(*divmod(time, _SECOND), len(frame), len(frame)) + frame for time, frame in frames)
    return _FILE_HEADER + b"".join(records)


def decode(data: bytes) -> Frames:
    """AssertionError: not a file as encode() makes them."""
    assert data[: _HEADER.size] == _FILE_HEADER
    frames: Frames = []
    at = _HEADER.size
    while at < len(data):
        seconds, nanoseconds, captured, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size + captured
        assert captured == length and at <= len(data)
        frames.append((seconds * _SECOND + nanoseconds, data[at - captured : at]))
    return frames


def directory(path: Path) -> dict[str, Frames]:
    """Port -> frames, of every PORT.pcap that is not empty."""
    files = {file.stem: decode(file.read_bytes()) for file in sorted(path.glob("*.pcap"))}
    return {port: frames for port, frames in files.items() if frames}
