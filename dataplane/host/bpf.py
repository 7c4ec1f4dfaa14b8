"""The bpf() system call as far as devices need it: a map of provider addresses, one of AF_XDP sockets, and
programs that look there.

Nothing but the kernel is needed at run time. Descriptors are plain ints that the caller closes; PaMap owns
its own. Errors are OSError with the verifier's last words, if it has any.
"""

import contextlib
import ctypes
import enum
import ipaddress
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

_SYS_BPF = 321  # x86-64
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _MAP_GET_FD_BY_ID, _OBJ_GET_INFO, _LINK_CREATE = 0, 2, 5, 14, 15, 28
_MAP_LOOKUP_BATCH, _MAP_UPDATE_BATCH, _MAP_DELETE_BATCH = 24, 26, 27
_MAP_TYPE_HASH, _MAP_TYPE_XSKMAP = 1, 17
_F_NO_PREALLOC, _F_RDONLY = 1, 8
_PSEUDO_MAP_FD = 1
_ATTACH_XDP, _F_XDP_HAS_FRAGS = 37, 1 << 5
_LICENSE = b"Apache-2.0"
_LOG_SIZE = 64 * 1024
_KEY = struct.Struct("=B3x16s")
_MAX_ROWS = 1 << 20  # as many as the core has neighbours
_READ_ROWS = 4096  # at a time; more than ever share a bucket
_MAP_NAME, _XSKS_NAME = b"isolane_pas", b"isolane_xsks"
_INFO = struct.Struct("=IIIIII16s")  # struct bpf_map_info up to name: type, id, key, value, entries, flags
_BATCH = struct.Struct("=QQQQIIQQ")  # where from, where to go on, keys, values, count, map, flags, flags

_libc = ctypes.CDLL(None, use_errno=True)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Role(enum.IntEnum):
    """enum role of pa_filter.bpf.c."""

    LOCAL_PA = 1
    NEXT_HOP = 2


class ProgramType(enum.IntEnum):
    SOCKET_FILTER = 1
    SCHED_CLS = 3
    XDP = 6


@dataclass(frozen=True)
class Program:
    name: str  # at most 15 characters
    type: ProgramType
    code: bytes  # 8-byte instructions
    map_loads: tuple[tuple[int, str], ...] = field(default=())  # instructions that want a map's descriptor


def _bpf(command: int, attributes: bytearray) -> int:
    """The kernel may write into the attributes, also when it fails."""
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    result: int = _libc.syscall(_SYS_BPF, command, buffer, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _map_key(address: Address) -> bytes:
    """struct address of pa_filter.bpf.c."""
    return _KEY.pack(address.version, address.packed)


def _address(version: int, packed: bytes) -> Address:
    """Of a key. ValueError: it is another map's."""
    match version:
        case 4:
            return ipaddress.IPv4Address(packed[:4])
        case 6:
            return ipaddress.IPv6Address(packed)
    raise ValueError(f"an address of version {version}")


class PaMap:
    """This host's Provider Addresses and the provider next hops, shared by every program loaded with it. Add
    a PA before it is announced.
    """

    def __init__(self, fd: int | None = None) -> None:
        """fd: of such a map, which goes on as it is, and stays the caller's; else a new one is made.
        ValueError: it is another's.
        """
        self._roles: dict[Address, Role] = {} if fd is None else dict(_read_rows(fd))
        self.fd = _make_map() if fd is None else _open_map(fd, 0)

    def read_only(self) -> int:
        """A descriptor by which nobody changes it, the caller's: for a process that only keeps it."""
        return _open_map(self.fd, _F_RDONLY)

    @property
    def addresses(self) -> frozenset[Address]:
        """This host's PAs."""
        return frozenset(address for address, role in self._roles.items() if role is Role.LOCAL_PA)

    def replace(self, pas: Iterable[Address], next_hops: Iterable[Address] = ()) -> None:
        """Make these all there are; what is both is a PA. New ones go in before old ones go out."""
        wanted = dict.fromkeys(next_hops, Role.NEXT_HOP) | dict.fromkeys(pas, Role.LOCAL_PA)
        gone = self._roles.keys() - wanted.keys()
        try:
            self._do(_MAP_UPDATE_BATCH, dict(wanted.items() - self._roles.items()))
            self._do(_MAP_DELETE_BATCH, {address: self._roles[address] for address in gone})
        except OSError:
            self._roles = dict(_read_rows(self.fd))  # a batch may be done in part
            raise
        self._roles = wanted

    def _do(self, command: int, rows: dict[Address, Role]) -> None:
        """A batch command on all rows, of which deleting looks at the keys only."""
        if not rows:
            return
        keys = ctypes.create_string_buffer(b"".join(map(_map_key, rows)), len(rows) * _KEY.size)
        values = ctypes.create_string_buffer(bytes(rows.values()), len(rows))
        where = ctypes.addressof(keys), ctypes.addressof(values)
        _bpf(command, bytearray(_BATCH.pack(0, 0, *where, len(rows), self.fd, 0, 0)))

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make_map() -> int:
    attributes = struct.pack(
        "=IIIIIII16s", _MAP_TYPE_HASH, _KEY.size, 1, _MAX_ROWS, _F_NO_PREALLOC, 0, 0, _MAP_NAME
    )
    return _bpf(_MAP_CREATE, bytearray(attributes))


def _open_map(fd: int, flags: int) -> int:
    """Another descriptor of a map, whatever the first lets one do. Takes CAP_SYS_ADMIN."""
    return _bpf(_MAP_GET_FD_BY_ID, bytearray(struct.pack("=III", _check_map(fd), 0, flags)))


def _check_map(fd: int) -> int:
    """Its id. ValueError: it is none as we make it: its keys and values would not fit in where they are
    read.
    """
    return _check_kind(fd, _MAP_TYPE_HASH, _KEY.size, 1, _MAP_NAME)


def check_xsks(fd: int) -> None:
    """ValueError: it is none as make_xsks() makes it."""
    _check_kind(fd, _MAP_TYPE_XSKMAP, 4, 4, _XSKS_NAME)


def _check_kind(fd: int, *wanted: object) -> int:
    """The id of a map of that type, key size, value size and name."""
    info = ctypes.create_string_buffer(_INFO.size)
    _bpf(_OBJ_GET_INFO, bytearray(struct.pack("=IIQ", fd, len(info), ctypes.addressof(info))))
    kind, number, key_size, value_size, _, _, name = _INFO.unpack(info.raw)
    if (kind, key_size, value_size, name.rstrip(b"\0")) != wanted:
        raise ValueError(f"another map: type {kind}, {key_size} and {value_size} bytes, {name!r}")
    return int(number)


def _read_rows(fd: int) -> Iterator[tuple[Address, Role]]:
    """What a map holds that nobody changes meanwhile."""
    _check_map(fd)
    keys = ctypes.create_string_buffer(_READ_ROWS * _KEY.size)
    values = ctypes.create_string_buffer(_READ_ROWS)
    place = ctypes.create_string_buffer(4)
    where, start, more = [ctypes.addressof(each) for each in (place, keys, values)], 0, True
    while more:
        attributes = bytearray(_BATCH.pack(start, *where, _READ_ROWS, fd, 0, 0))
        try:
            _bpf(_MAP_LOOKUP_BATCH, attributes)
        except FileNotFoundError:  # these are the last
            more = False
        count = _BATCH.unpack(attributes)[4]
        for key, value in zip(_KEY.iter_unpack(keys.raw), values.raw[:count], strict=False):
            yield _address(*key), Role(value)
        start = where[0]


def make_xsks(queues: int) -> int:
    """A map from receive queue to AF_XDP socket, empty; the caller's."""
    attributes = struct.pack("=IIIIIII16s", _MAP_TYPE_XSKMAP, 4, 4, queues, 0, 0, 0, _XSKS_NAME)
    return _bpf(_MAP_CREATE, bytearray(attributes))


def set_xsk(xsks: int, queue: int, fd: int) -> None:
    """What the queue receives goes to a socket, which has its ring for that, until it is closed by all."""
    key, value = (ctypes.create_string_buffer(struct.pack("=I", number), 4) for number in (queue, fd))
    where = ctypes.addressof(key), ctypes.addressof(value)
    _bpf(_MAP_UPDATE, bytearray(struct.pack("=I4xQQQ", xsks, *where, 0)))


def attach_xdp(program: int, index: int) -> int:
    """Runs a program of type XDP on what a device receives, for as long as somebody has the descriptor that
    is returned: of a BPF link. OSError EBUSY: another program is there.
    """
    return _bpf(_LINK_CREATE, bytearray(struct.pack("=IIII", program, index, _ATTACH_XDP, 0)))


def _place_maps(program: Program, fds: Mapping[str, int]) -> bytes:
    code = bytearray(program.code)
    for index, name in program.map_loads:
        code[index * 8 + 1] = code[index * 8 + 1] & 0x0F | _PSEUDO_MAP_FD << 4
        struct.pack_into("=i", code, index * 8 + 4, fds[name])
    return bytes(code)


def load(program: Program, pas: PaMap | None = None, xsks: int | None = None) -> int:
    """Load a program and return its descriptor; the maps are needed if the program looks there."""
    fds = {"pas": pas.fd if pas else None, "xsks": xsks}
    given = {name: fd for name, fd in fds.items() if fd is not None}
    if missing := {name for _, name in program.map_loads} - given.keys():
        raise ValueError(f"program {program.name} needs map {missing.pop()}")
    code = _place_maps(program, given)
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
    is_xdp = program.type is ProgramType.XDP
    license_ = ctypes.create_string_buffer(_LICENSE)
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        program.type,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_),
        1 if log else 0,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
        0,
        _F_XDP_HAS_FRAGS if is_xdp else 0,
        program.name.encode(),
        0,
        _ATTACH_XDP if is_xdp else 0,
    )
    return _bpf(_PROG_LOAD, bytearray(attributes))
