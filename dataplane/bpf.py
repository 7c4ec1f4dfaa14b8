"""The bpf() system call as far as the underlay needs it: one map of provider addresses and programs that look
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
_MAP_CREATE, _PROG_LOAD, _MAP_UPDATE_BATCH, _MAP_DELETE_BATCH = 0, 5, 26, 27
_MAP_TYPE_HASH = 1
_F_NO_PREALLOC = 1
_PSEUDO_MAP_FD = 1
_LICENSE = b"Apache-2.0"
_LOG_SIZE = 64 * 1024
_KEY_SIZE = 20
_MAX_ROWS = 1 << 20  # as many as the core has neighbours

_libc = ctypes.CDLL(None, use_errno=True)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Role(enum.IntEnum):
    """enum role of pa_filter.bpf.c."""

    LOCAL_PA = 1
    NEXT_HOP = 2


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
    """This host's Provider Addresses and the provider next hops, shared by every program loaded with it. Add
    a PA before it is announced.
    """

    def __init__(self) -> None:
        self.fd = _bpf(
            _MAP_CREATE,
            struct.pack(
                "=IIIIIII16s", _MAP_TYPE_HASH, _KEY_SIZE, 1, _MAX_ROWS, _F_NO_PREALLOC, 0, 0, b"isolane_pas"
            ),
        )
        self._roles: dict[Address, Role] = {}

    @property
    def addresses(self) -> frozenset[Address]:
        """This host's PAs."""
        return frozenset(address for address, role in self._roles.items() if role is Role.LOCAL_PA)

    def replace(self, pas: Iterable[Address], next_hops: Iterable[Address] = ()) -> None:
        """Make these all there are; what is both is a PA. New ones go in before old ones go out."""
        wanted = dict.fromkeys(next_hops, Role.NEXT_HOP) | dict.fromkeys(pas, Role.LOCAL_PA)
        self._do(_MAP_UPDATE_BATCH, dict(wanted.items() - self._roles.items()))
        gone = self._roles.keys() - wanted.keys()
        self._do(_MAP_DELETE_BATCH, {address: self._roles[address] for address in gone})
        self._roles = wanted

    def _do(self, command: int, rows: dict[Address, Role]) -> None:
        """A batch command on all rows, of which deleting looks at the keys only."""
        if not rows:
            return
        keys = ctypes.create_string_buffer(b"".join(map(_map_key, rows)), len(rows) * _KEY_SIZE)
        values = ctypes.create_string_buffer(bytes(rows.values()), len(rows))
        where = ctypes.addressof(keys), ctypes.addressof(values)
        _bpf(command, struct.pack("=16xQQIIQQ", *where, len(rows), self.fd, 0, 0))

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
