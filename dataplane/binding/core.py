"""The packet core as a context manager over its handle.

Threads: one thread at a time may call a Dataplane's methods; `port_counters` and `neighbours` may also be
called from any other thread while the engine lives. Workers run beside them and never hold the GIL; it is
released inside every call.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from enum import IntEnum, IntFlag
from functools import reduce
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Self

from dataplane.binding._ffi import ffi, lib
from dataplane.binding.benching import BenchConfig, BenchOp, BenchResult, BenchRound, Roof
from dataplane.binding.errors import check
from dataplane.binding.stats import Counters, SubnetCounters, TableStats, drop_reasons
from dataplane.binding.tables import ROW_FORMATS, Address, RowKind, pack_address, unpack_address

if TYPE_CHECKING:
    from dataplane.binding._ffi import Handle

UNDERLAY: int = lib.DP_UNDERLAY
ALL_ROWS = (1 << 64) - 1
SLOT = 4096
"""Bytes of a packet slot."""
NEVER = 2**64 - 1
"""Of next_timer(): there is none."""

Packet = tuple[int, bytes]
"""A frame without offloads: (ns, bytes)."""

_PACKET = struct.Struct("=QI12x")
"""struct dp_frame with time and len alone."""
_COLLECT_FRAMES, _COLLECT_BYTES = 256, 1 << 20
"""What one call of the core hands over at most."""


class Flags(IntFlag):
    NONE = 0
    FLOWID_OFF = lib.DP_FLOWID_OFF
    """FlowID 0 in every NVGRE key (RFC 7637 section 3.2)."""


class PortKind(IntEnum):
    MEM = lib.DP_PORT_MEM
    TAP = lib.DP_PORT_TAP
    PACKET = lib.DP_PORT_PACKET
    XDP = lib.DP_PORT_XDP


class Offload(IntFlag):
    """What may be sent to a port: partial checksums, TCP and UDP super-packets; and that its AF_XDP
    sockets take packets of several slots.
    """

    NONE = 0
    CSUM = lib.DP_OFFLOAD_CSUM
    TSO4 = lib.DP_OFFLOAD_TSO4
    TSO6 = lib.DP_OFFLOAD_TSO6
    MERGE = lib.DP_OFFLOAD_MERGE
    NVGRE = lib.DP_OFFLOAD_NVGRE
    USO = lib.DP_OFFLOAD_USO
    XDP_SG = lib.DP_XDP_SG


class Gso(IntEnum):
    NONE = lib.DP_GSO_NONE
    TCP4 = lib.DP_GSO_TCP4
    TCP6 = lib.DP_GSO_TCP6
    UDP = lib.DP_GSO_UDP


class NeighbourState(IntEnum):
    IDLE = lib.DP_NEIGH_IDLE
    ASKING = lib.DP_NEIGH_ASKING
    KNOWN = lib.DP_NEIGH_KNOWN
    FAILED = lib.DP_NEIGH_FAILED
    FIXED = lib.DP_NEIGH_FIXED


@dataclass(frozen=True, slots=True)
class Config:
    """Of one engine.

    slots: 4 KiB packet slots, 0 for a default. spin_us: how long an idle worker polls, at most, before it
    blocks. router_mac: the virtual router's, the same on every host. hash_key: the table hash's secret, two
    64-bit numbers, random in production. table_budget: bytes that tables may hold, 0 for no limit.
    slots_fd: 0, or 1 + a descriptor of slots * SLOT bytes for packets to lie in, of which others make AF_XDP
    sockets.
    """

    self_host: int
    router_mac: bytes
    hash_key: tuple[int, int]
    workers: int = 1
    slots: int = 0
    flags: Flags = Flags.NONE
    spin_us: int = 0
    table_budget: int = 0
    slots_fd: int = 0


@dataclass(frozen=True, slots=True)
class PortConfig:
    """Of one port.

    fds: one ready descriptor a queue, then `xsks` AF_XDP sockets. The caller keeps them open until
    stop_port() or detach() has returned; AF_XDP sockets are closed in between, by all who have them.
    mtu: bytes of the largest IP packet that leaves by it. mac: the underlay device's own, or the VM's.
    spins: see set_spins().
    """

    name: str
    kind: PortKind
    mac: bytes
    mtu: int = 1500
    offloads: Offload = Offload.NONE
    fds: Sequence[int] = ()
    xsks: int = 0
    spins: bool = True

    @property
    def queues(self) -> int:
        """Without AF_XDP sockets."""
        return len(self.fds) - self.xsks


@dataclass(frozen=True, slots=True)
class Frame:
    """What a memory port's peer hands over or takes, with the virtio-net view of it.

    time: ns, of the packet (inject) or of the packet that caused it (collect). csum_start and csum_offset: of
    the partial checksum when csum_partial. flow picks the worker on inject.
    """

    data: bytes
    time: int = 0
    csum_partial: bool = False
    csum_start: int = 0
    csum_offset: int = 0
    gso: Gso = Gso.NONE
    gso_size: int = 0
    flow: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A provider next hop; held: packets that wait for it."""

    address: Address
    mac: bytes
    state: NeighbourState
    held: int


class Dataplane:
    """An engine. HostError: the CPU or the memory does not suffice."""

    def __init__(self, config: Config) -> None:
        c = ffi.new("struct dp_config *")
        for name in Config.__slots__:
            setattr(c, name, getattr(config, name))
        out = ffi.new("struct dp **")
        check(lib.dp_create(c, out), "creating the packet core")
        self._handle: Handle | None = out[0]
        self._workers = config.workers
        self._ports: set[int] = set()
        self._frames = ffi.new("struct dp_frame[]", _COLLECT_FRAMES)
        self._bytes = ffi.new("uint8_t[]", _COLLECT_BYTES)

    def close(self) -> None:
        """Stops workers, frees everything; descriptors stay the caller's. No thread may be inside a call."""
        if self._handle is not None:
            lib.dp_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _engine(self) -> "Handle":
        if self._handle is None:
            raise ValueError("the engine is closed")
        return self._handle

    def _check(self, code: int, what: str, row: tuple[int, int] | None = None) -> int:
        return check(code, what, errno=lib.dp_last_errno(self._engine) if code < 0 else 0, row=row)

    # ---- ports

    def attach(self, port: int, config: PortConfig) -> None:
        """Gives port id `port` a device; its policy comes by a change set, before or after."""
        c = ffi.new("struct dp_port_config *")
        c.name = config.name.encode()
        c.kind = config.kind
        c.offloads = config.offloads
        c.mtu = config.mtu
        c.queues = config.queues
        c.xsks = config.xsks
        c.fds = list(config.fds)
        c.mac = config.mac
        self._check(lib.dp_port_attach(self._engine, port, c), f"attaching port {port}, {config.name}")
        self._ports.add(port)
        if not config.spins:
            self.set_spins(port, False)

    def set_spins(self, port: int, spins: bool) -> None:
        """Whether idle workers may look on for its packets before they sleep; at any time."""
        self._check(lib.dp_port_spin(self._engine, port, spins), f"port {port}")

    def stop_port(self, port: int) -> None:
        """Nothing is received from the port or sent to it any more. Its descriptors can be closed; what they
        still had comes back by detach(), until which the port id is in use."""
        self._check(lib.dp_port_stop(self._engine, port), f"stopping port {port}")

    def detach(self, port: int) -> None:
        """The end of a port, stopped or not."""
        self._check(lib.dp_port_detach(self._engine, port), f"detaching port {port}")

    # ---- running

    def start(self) -> None:
        """Starts the worker threads; until stop(), poll, inject and collect raise CallError."""
        self._check(lib.dp_start(self._engine), "starting workers")

    def stop(self) -> None:
        self._check(lib.dp_stop(self._engine), "stopping workers")

    def poll(self, now: int) -> int:
        """Runs every worker's loop once on this thread at time `now` (ns, never falling): due timers, then
        all that memory ports hold. Returns the packets received."""
        return self._check(lib.dp_poll(self._engine, now), "polling")

    def next_timer(self) -> int:
        """When poll() next has a timer to run: ns, 0 at once, NEVER. NEVER too while workers run."""
        return lib.dp_next_timer(self._engine)

    def inject(self, port: int, frame: Frame) -> None:
        """Hands a frame to a memory port; the next poll() receives it."""
        c = ffi.new("struct dp_frame *")
        c.time = frame.time
        c.len = len(frame.data)
        c.csum_partial = frame.csum_partial
        c.csum_start = frame.csum_start
        c.csum_offset = frame.csum_offset
        c.gso = frame.gso
        c.gso_size = frame.gso_size
        c.flow = frame.flow
        data = ffi.from_buffer("uint8_t[]", frame.data)
        self._check(lib.dp_inject(self._engine, port, c, 1, data), f"injecting into port {port}")

    def inject_packets(self, port: int, packets: Sequence[Packet]) -> None:
        """Hands many frames to a memory port, in one call of the core."""
        pack = _PACKET.pack
        heads = b"".join([pack(time, len(data)) for time, data in packets])
        frames = ffi.from_buffer("struct dp_frame[]", heads)
        data = b"".join([data for _, data in packets])
        code = lib.dp_inject(self._engine, port, frames, len(packets), data)
        if code < 0:
            self._check(code, f"injecting into port {port}")

    def collect(self, port: int) -> list[Frame]:
        """All frames that have left by a memory port since the last call, oldest first."""
        return [
            Frame(
                data=data,
                time=time,
                csum_partial=bool(c.csum_partial),
                csum_start=c.csum_start,
                csum_offset=c.csum_offset,
                gso=Gso(c.gso),
                gso_size=c.gso_size,
            )
            for packets in self._collected(port)
            for c, (time, data) in zip(self._frames, packets, strict=False)
        ]

    def collect_packets(self, port: int) -> list[Packet]:
        """The same, without what they say of offloads."""
        return [packet for packets in self._collected(port) for packet in packets]

    def _collected(self, port: int) -> Iterator[list[Packet]]:
        """Packets as often as there are more; meanwhile self._frames has what the core says of them."""
        what = f"collecting from port {port}"
        frames, data = self._frames, self._bytes
        while count := self._check(
            lib.dp_collect(self._engine, port, frames, _COLLECT_FRAMES, data, _COLLECT_BYTES), what
        ):
            heads = list(_PACKET.iter_unpack(ffi.buffer(frames, count * _PACKET.size)))
            ends = list(accumulate(size for _, size in heads))
            taken = bytes(ffi.buffer(data, ends[-1]))
            yield [(time, taken[end - size : end]) for (time, size), end in zip(heads, ends, strict=True)]

    # ---- neighbours of the underlay

    def set_neighbour(self, address: Address, mac: bytes) -> None:
        """A fixed MAC for a provider next hop; without one it is resolved by ARP or ND."""
        field = pack_address(address)
        self._check(lib.dp_neigh_set(self._engine, address.version, field, mac), f"neighbour {address}")

    def probe_neighbour(self, address: Address) -> None:
        """Asks a provider next hop now, whether it is in use or not."""
        code = lib.dp_neigh_probe(self._engine, address.version, pack_address(address))
        self._check(code, f"probing neighbour {address}")

    def announce(self) -> None:
        """Announces every local PA (gratuitous ARP, unsolicited NA) and asks for every next hop in use."""
        self._check(lib.dp_announce(self._engine), "announcing")

    def neighbours(self) -> list[Neighbour]:
        count = capacity = 64
        while True:
            rows = ffi.new("struct dp_neigh[]", capacity)
            count = self._check(lib.dp_neigh_read(self._engine, rows, capacity), "reading neighbours")
            if count <= capacity:
                break
            capacity = count
        return [
            Neighbour(
                unpack_address(bytes(row.address), row.family),
                bytes(row.mac),
                NeighbourState(row.state),
                row.held,
            )
            for row in rows[0:count]
        ]

    # ---- policy

    def apply(self, change_set: bytes) -> None:
        """Applies an encoded ChangeSet, whole or not at all. ChangeSetError names the row refused."""
        error = ffi.new("struct dp_change_error *")
        code = lib.dp_apply(self._engine, ffi.from_buffer("uint8_t[]", change_set), len(change_set), error)
        self._check(code, ffi.string(error.text).decode(), (error.section, error.row))

    @property
    def generation(self) -> int:
        """The generation of the last change set applied."""
        return lib.dp_generation(self._engine)

    def rows(self, kind: RowKind) -> bytes:
        """All rows of a kind that the tables hold, packed (`tables.unpack_rows`), in any order and in
        canonical form (`tables.canonical`). Workers may run."""
        return bytes(self.packed(kind))

    def packed(self, kind: RowKind) -> memoryview:
        """As rows(), which copies them once more."""
        count = self._check(lib.dp_rows_read(self._engine, kind, b"", 0), f"counting {kind.name} rows")
        size = count * ROW_FORMATS[kind].size
        out = ffi.new("uint8_t[]", size)
        self._check(lib.dp_rows_read(self._engine, kind, out, size), f"reading {kind.name} rows")
        return memoryview(ffi.buffer(out))

    def holds(self, change_set: bytes) -> None:
        """ChangeSetError: the tables don't hold what an encoded ChangeSet says, which was just applied. Costs
        by its rows. Workers may run."""
        error = ffi.new("struct dp_change_error *")
        rows = ffi.from_buffer("uint8_t[]", change_set)
        code = lib.dp_rows_check(self._engine, rows, len(change_set), error)
        self._check(code, ffi.string(error.text).decode(), (error.section, error.row))

    def rollback(self) -> None:
        """Puts back what the last change set changed, generation included, until verified() or another one.
        CallError: there is none to put back. HostError: no memory, nothing is changed."""
        self._check(lib.dp_rollback(self._engine), "rolling back")

    def verified(self) -> None:
        """The last change set stays: what a rollback would need is freed."""
        lib.dp_verified(self._engine)

    def digest_step(self, rows: int, anew: bool = False) -> dict[RowKind, int] | None:
        """Looks at so many rows or a few more that are not looked at yet or have changed since (anew: at none
        yet). None: some are left; else the digests of the tables as they are now. Workers may run."""
        if anew:
            self._check(lib.dp_digest_begin(self._engine), "beginning a digest")
        out = ffi.new("uint64_t[]", len(RowKind) + 1)
        if not self._check(lib.dp_digest_step(self._engine, rows, out), "taking a digest"):
            return None
        return {kind: out[kind] for kind in RowKind}

    def digest(self, kind: RowKind) -> int:
        """`tables.digest` of rows(kind), made by the core of all rows anew. Workers may run."""
        digests = self.digest_step(ALL_ROWS, anew=True)
        assert digests is not None
        return digests[kind]

    def table_stats(self) -> TableStats:
        c = ffi.new("struct dp_table_stats *")
        self._check(lib.dp_table_stats(self._engine, c), "reading table statistics")
        return TableStats(**{name: getattr(c, name) for name in TableStats.__slots__})

    # ---- counters

    def port_counters(self, port: int) -> Counters:
        c = ffi.new("struct dp_counters *")
        reasons = drop_reasons()
        drops = ffi.new("uint64_t[]", len(reasons))
        self._check(lib.dp_counters_read(self._engine, port, c, drops), f"reading counters of port {port}")
        return Counters(
            **{name: getattr(c, name) for name in Counters.__slots__ if name != "drops"},
            drops={reason.name: n for reason, n in zip(reasons, drops, strict=True) if n},
        )

    def stranger(self, port: int) -> bytes | None:
        """The source MAC of the last frame that was dropped as src-mac since the port was attached."""
        mac = int(lib.dp_port_stranger(self._engine, port))
        return mac.to_bytes(6, "little") if mac else None

    def counters(self) -> Counters:
        """The sum over every port attached so far; its balance() is 0 when workers are at rest."""
        return reduce(add, (self.port_counters(port) for port in sorted(self._ports)), Counters())

    def subnet_counters(self) -> list[SubnetCounters]:
        """Of every virtual subnet, by VSID. Not beside apply() in another thread."""
        capacity = 64
        while True:
            rows = ffi.new("struct dp_vsid_counters[]", capacity)
            count = self._check(
                lib.dp_vsid_counters_read(self._engine, rows, capacity), "reading subnet counters"
            )
            if count <= capacity:
                break
            capacity = count
        return sorted(
            (
                SubnetCounters(row.vsid, row.from_port, row.from_port_bytes, row.to_port, row.to_port_bytes)
                for row in rows[0:count]
            ),
            key=astuple,
        )

    def wakeups(self) -> list[int]:
        """How often each worker has blocked for want of packets and gone on. Workers may run."""
        return [lib.dp_wakeups(self._engine, worker) for worker in range(self._workers)]

    # ---- bench

    @contextmanager
    def roof(self, op: BenchOp, port: int) -> Iterator[Roof]:
        """The roof of an IPv4 operation, over the tables as they are now."""
        out = ffi.new("struct dp_roof **")
        self._check(lib.dp_roof_create(self._engine, op, port, out), f"making the roof of {op.name}")
        try:
            yield Roof(out[0])
        finally:
            lib.dp_roof_destroy(out[0])

    def bench(self, config: BenchConfig, frames: bytes, roof: Roof | None = None) -> BenchResult:
        """Times frames (of frame_len bytes each, cycled) through a port's path or a roof; nothing is sent."""
        c = ffi.new("struct dp_bench_config *")
        for name in BenchConfig.__slots__:
            setattr(c, name, getattr(config, name))
        c.frames = len(frames) // config.frame_len
        rounds = ffi.new("struct dp_bench_round[]", config.rounds * max(config.workers, 1))
        digest, dropped = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        pool = ffi.from_buffer("uint8_t[]", frames)
        handle = roof.handle if roof else ffi.NULL
        self._check(lib.dp_bench(self._engine, handle, c, pool, rounds, digest, dropped), "bench")
        timed = tuple(BenchRound(*(getattr(r, name) for name in BenchRound.__slots__)) for r in rounds)
        return BenchResult(timed, digest[0], dropped[0])
