"""Device features by the ethtool ioctl (linux/ethtool.h): what `ethtool -k` shows, under the same names.

Every function works on a device of the calling thread's network namespace and raises OSError.
"""

import array
import ctypes
import fcntl
import functools
import socket
import struct
from collections.abc import Iterable

_SIOCETHTOOL = 0x8946
_GSTRINGS, _GSSET_INFO, _GFEATURES, _SFEATURES, _GCHANNELS = 0x1B, 0x37, 0x3A, 0x3B, 0x3C
_CHANNELS = struct.Struct("=9I")
_SS_FEATURES = 4
_NAME_LEN = 32


def _ioctl(device: str, request: bytes) -> bytes:
    data = ctypes.create_string_buffer(request, len(request))
    ifreq = struct.pack("16sQ16x", device.encode(), ctypes.addressof(data))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, ifreq)
    return data.raw


@functools.cache
def _bits() -> dict[str, int]:
    """Feature name -> bit; the same for every device of a running kernel, so the loopback is asked."""
    info = _ioctl("lo", struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
    (count,) = struct.unpack_from("=I", info, 16)
    reply = _ioctl("lo", struct.pack("=III", _GSTRINGS, _SS_FEATURES, count) + bytes(count * _NAME_LEN))
    names = [reply[12 + i * _NAME_LEN :][:_NAME_LEN].rstrip(b"\0").decode() for i in range(count)]
    return {name: bit for bit, name in enumerate(names) if name}


def active(device: str) -> frozenset[str]:
    """The features that are on."""
    blocks = max(_bits().values()) // 32 + 1
    reply = _ioctl(device, struct.pack("=II", _GFEATURES, blocks) + bytes(blocks * 16))
    words = array.array("I", reply[8:])
    return frozenset(name for name, bit in _bits().items() if words[bit // 32 * 4 + 2] >> bit % 32 & 1)


def receive_queues(device: str) -> int:
    """That are in use; 1 of a device that does not say."""
    try:
        counts = _CHANNELS.unpack(_ioctl(device, _CHANNELS.pack(_GCHANNELS, *[0] * 8)))
    except OSError:
        return 1
    alone, combined = int(counts[5]), int(counts[8])
    return max(alone + combined, 1)


def switch(device: str, names: Iterable[str], on: bool) -> frozenset[str]:
    """Switch features on or off and return those that changed; names unknown to this kernel are left out."""
    bits = [_bits()[name] for name in names if name in _bits()]
    words = array.array("I", bytes((max(_bits().values()) // 32 + 1) * 8))
    for bit in bits:
        words[bit // 32 * 2] |= 1 << bit % 32
        words[bit // 32 * 2 + 1] |= on << bit % 32
    before = active(device)
    _ioctl(device, struct.pack("=II", _SFEATURES, len(words) // 2) + words.tobytes())
    return before ^ active(device)
