"""The bpf() system call as far as the underlay needs it: one map of Provider Addresses and programs that look
there.

Nothing but the kernel is needed at run time. Descriptors are plain ints that the caller closes; PaMap owns
its own. Errors are OSError with the verifier's last words, if it has any.
"""

import contextlib
import ctypes
import enum
import ipaddress
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

_SYS_BPF = 321  # x86-64
_MAP_CREATE, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD = 0, 2, 3, 5
_MAP_TYPE_HASH = 1
_F_NO_PREALLOC = 1
_PSEUDO_MAP_FD = 1
_LICENSE = b"Apache-2.0"
_LOG_SIZE = 64 * 1024
_KEY_SIZE = 20
_MAX_PAS = 1 << 16

_libc = ctypes.CDLL(None, use_errno=True)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ProgramType(enum.IntEnum):
    SOCKET_FILTER = 1
    SCHED_CLS = 3


@dataclass(frozen=True)
class Program:
    name: str  # at most 15 characters
    type: ProgramType
    code: bytes  # 8-byte instructions
    map_loads: tuple[int, ...] = field(default=())  # instructions that want the descriptor of the map


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = _libc.syscall(_SYS_BPF, command, buffer, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _map_key(address: Address) -> bytes:
    """struct address of pa_filter.bpf.c."""
    return struct.pack("=B3x16s", address.version, address.packed)


class PaMap:
    """The set of Provider Addresses, shared by every program loaded with it. Add an address before it is
    announced.
    """

    def __init__(self) -> None:
        self.fd = _bpf(
            _MAP_CREATE,
            struct.pack(
                "=IIIIIII16s", _MAP_TYPE_HASH, _KEY_SIZE, 1, _MAX_PAS, _F_NO_PREALLOC, 0, 0, b"isolane_pas"
            ),
        )
        self._addresses: set[Address] = set()

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(self._addresses)

    def replace(self, addresses: Iterable[Address]) -> None:
        """Make `addresses` the whole set; new ones go in before old ones go out."""
        wanted = set(addresses)
        for address in wanted - self._addresses:
            self._update(address)
            self._addresses.add(address)
        for address in self._addresses - wanted:
            self._delete(address)
        self._addresses = wanted

    def _update(self, address: Address) -> None:
        key = ctypes.create_string_buffer(_map_key(address), _KEY_SIZE)
        value = ctypes.create_string_buffer(b"\x01", 1)
        _bpf(_MAP_UPDATE, struct.pack("=I4xQQQ", self.fd, ctypes.addressof(key), ctypes.addressof(value), 0))

    def _delete(self, address: Address) -> None:
        key = ctypes.create_string_buffer(_map_key(address), _KEY_SIZE)
        _bpf(_MAP_DELETE, struct.pack("=I4xQ", self.fd, ctypes.addressof(key)))

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place_map(program: Program, map_fd: int) -> bytes:
    code = bytearray(program.code)
    for index in program.map_loads:
        code[index * 8 + 1] = code[index * 8 + 1] & 0x0F | _PSEUDO_MAP_FD << 4
        struct.pack_into("=i", code, index * 8 + 4, map_fd)
    return bytes(code)


def load(program: Program, pas: PaMap | None = None) -> int:
    """Load a program and return its descriptor; `pas` is needed if the program looks there."""
    if program.map_loads and pas is None:
        raise ValueError(f"program {program.name} needs a map")
    code = _place_map(program, pas.fd if pas else -1)
    try:
        return _load(program, code, None)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_SIZE)
        with contextlib.suppress(OSError):
            os.close(_load(program, code, log))
        lines = log.value.decode(errors="replace").strip().splitlines()
        words = [line for line in lines if not line.startswith("processed ")]
        detail = f": {words[-1]}" if words else ""
        text = f"can't load BPF program {program.name}: {error.strerror}{detail}"
        raise OSError(error.errno, text) from None


def _load(program: Program, code: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    """With a log the verifier explains itself there; a log too small for that fails a good program."""
    instructions = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(_LICENSE)
    attributes = struct.pack(
        "=IIQQIIQII16s",
        program.type,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_),
        1 if log else 0,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
        0,
        0,
        program.name.encode(),
    )
    return _bpf(_PROG_LOAD, attributes)
