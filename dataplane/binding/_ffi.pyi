"""Made from dp_api.h by tests/codecheck/stub.py; a test keeps the two in step."""

from collections.abc import Iterator, Sequence
from typing import Final, Generic, Literal, TypeVar, overload

_T = TypeVar("_T")

class Handle:
    """struct dp * or struct dp_roof *"""

class CString:
    """const char *, for ffi.string()"""

class Array(Generic[_T]):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Array[_T]: ...
    def __setitem__(self, index: int, value: _T) -> None: ...

class _ArrayField:
    def __get__(self, instance: object, owner: object = None) -> Array[int]: ...
    def __set__(self, instance: object, value: bytes | Sequence[int]) -> None: ...

class dp_bench_config:
    op: int
    port: int
    frames: int
    frame_len: int
    rounds: int
    first: int
    counter: int
    workers: int
    packets: int

class dp_bench_round:
    packets: int
    clocks: int
    elapsed_clocks: int
    nanoseconds: int
    preempted: int

class dp_change_error:
    section: int
    row: int
    text: _ArrayField

class dp_change_header:
    magic: int
    version: int
    flags: int
    generation: int
    sections: int
    pad: int

class dp_config:
    workers: int
    slots: int
    flags: int
    self_host: int
    spin_us: int
    router_mac: _ArrayField
    pad: _ArrayField
    slots_fd: int
    pad2: _ArrayField
    hash_key: _ArrayField
    table_budget: int

class dp_counters:
    received: int
    originated: int
    sent: int
    dropped: int
    consumed: int
    held: int
    rx_bytes: int
    tx_bytes: int
    rx_gso: int
    rx_csum_partial: int
    tx_gso: int
    tx_csum_partial: int
    rx_kernel: int
    icmp_limited: int

class dp_frame:
    time: int
    len: int
    csum_start: int
    csum_offset: int
    gso_size: int
    gso: int
    csum_partial: int
    flow: int

class dp_neigh:
    address: _ArrayField
    mac: _ArrayField
    family: int
    state: int
    held: int

class dp_port_config:
    name: _ArrayField
    kind: int
    offloads: int
    mtu: int
    queues: int
    xsks: int
    fds: _ArrayField
    mac: _ArrayField
    pad: _ArrayField

class dp_row_flood:
    provider_address: _ArrayField
    vsid: int
    host: int
    family: int
    pad: _ArrayField

class dp_row_move:
    ca: _ArrayField
    vsid: int
    host: int
    family: int
    pad: _ArrayField

class dp_row_pa:
    address: _ArrayField
    host: int
    family: int
    kind: int
    prefix_len: int
    pad: _ArrayField

class dp_row_port:
    port: int
    vsid: int
    mac: _ArrayField
    pad: _ArrayField
    bytes_per_second: int
    burst_bytes: int
    packets_per_second: int
    burst_packets: int

class dp_row_prefix:
    prefix: _ArrayField
    gateway: _ArrayField
    vsid: int
    family: int
    prefix_len: int
    pad: _ArrayField

class dp_row_provider_route:
    prefix: _ArrayField
    next_hop: _ArrayField
    family: int
    prefix_len: int
    pad: _ArrayField

class dp_row_record:
    ca: _ArrayField
    provider_address: _ArrayField
    vsid: int
    host: int
    port: int
    mac: _ArrayField
    family: int
    pa_family: int
    translation: int
    type: int
    pad: _ArrayField

class dp_row_route:
    prefix: _ArrayField
    next_hop: _ArrayField
    rdid: int
    vsid: int
    family: int
    prefix_len: int
    pad: _ArrayField

class dp_row_source:
    prefix: _ArrayField
    port: int
    family: int
    prefix_len: int
    pad: _ArrayField

class dp_row_subnet:
    vsid: int
    rdid: int
    flood_per_second: int
    flood_burst: int

class dp_section:
    kind: int
    op: int
    count: int

class dp_table_stats:
    records4: int
    records6: int
    rewrites: int
    pas: int
    subnets: int
    routes: int
    next_hops: int
    bytes: int
    overflow: int
    displaced: int

class dp_vsid_counters:
    vsid: int
    pad: int
    from_port: int
    from_port_bytes: int
    to_port: int
    to_port_bytes: int

class _FFI:
    NULL: Handle
    @overload
    def new(self, cdecl: Literal["struct dp **", "struct dp_roof **"]) -> Array[Handle]: ...
    @overload
    def new(
        self,
        cdecl: Literal["uint8_t[]", "uint32_t[]", "uint64_t[]", "uint64_t *"],
        init: int | Sequence[int] | None = None,
    ) -> Array[int]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_bench_config *"]) -> dp_bench_config: ...
    @overload
    def new(self, cdecl: Literal["struct dp_bench_config[]"], init: int) -> Array[dp_bench_config]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_bench_round *"]) -> dp_bench_round: ...
    @overload
    def new(self, cdecl: Literal["struct dp_bench_round[]"], init: int) -> Array[dp_bench_round]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_change_error *"]) -> dp_change_error: ...
    @overload
    def new(self, cdecl: Literal["struct dp_change_error[]"], init: int) -> Array[dp_change_error]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_change_header *"]) -> dp_change_header: ...
    @overload
    def new(self, cdecl: Literal["struct dp_change_header[]"], init: int) -> Array[dp_change_header]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_config *"]) -> dp_config: ...
    @overload
    def new(self, cdecl: Literal["struct dp_config[]"], init: int) -> Array[dp_config]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_counters *"]) -> dp_counters: ...
    @overload
    def new(self, cdecl: Literal["struct dp_counters[]"], init: int) -> Array[dp_counters]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_frame *"]) -> dp_frame: ...
    @overload
    def new(self, cdecl: Literal["struct dp_frame[]"], init: int) -> Array[dp_frame]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_neigh *"]) -> dp_neigh: ...
    @overload
    def new(self, cdecl: Literal["struct dp_neigh[]"], init: int) -> Array[dp_neigh]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_port_config *"]) -> dp_port_config: ...
    @overload
    def new(self, cdecl: Literal["struct dp_port_config[]"], init: int) -> Array[dp_port_config]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_flood *"]) -> dp_row_flood: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_flood[]"], init: int) -> Array[dp_row_flood]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_move *"]) -> dp_row_move: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_move[]"], init: int) -> Array[dp_row_move]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_pa *"]) -> dp_row_pa: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_pa[]"], init: int) -> Array[dp_row_pa]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_port *"]) -> dp_row_port: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_port[]"], init: int) -> Array[dp_row_port]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_prefix *"]) -> dp_row_prefix: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_prefix[]"], init: int) -> Array[dp_row_prefix]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_provider_route *"]) -> dp_row_provider_route: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_provider_route[]"], init: int) -> Array[dp_row_provider_route]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_record *"]) -> dp_row_record: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_record[]"], init: int) -> Array[dp_row_record]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_route *"]) -> dp_row_route: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_route[]"], init: int) -> Array[dp_row_route]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_source *"]) -> dp_row_source: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_source[]"], init: int) -> Array[dp_row_source]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_subnet *"]) -> dp_row_subnet: ...
    @overload
    def new(self, cdecl: Literal["struct dp_row_subnet[]"], init: int) -> Array[dp_row_subnet]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_section *"]) -> dp_section: ...
    @overload
    def new(self, cdecl: Literal["struct dp_section[]"], init: int) -> Array[dp_section]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_table_stats *"]) -> dp_table_stats: ...
    @overload
    def new(self, cdecl: Literal["struct dp_table_stats[]"], init: int) -> Array[dp_table_stats]: ...
    @overload
    def new(self, cdecl: Literal["struct dp_vsid_counters *"]) -> dp_vsid_counters: ...
    @overload
    def new(self, cdecl: Literal["struct dp_vsid_counters[]"], init: int) -> Array[dp_vsid_counters]: ...
    def string(self, cdata: CString | Array[int]) -> bytes: ...
    def buffer(self, cdata: object, size: int = -1) -> bytes: ...
    @overload
    def from_buffer(self, cdecl: Literal["uint8_t[]"], data: bytes) -> Array[int]: ...
    @overload
    def from_buffer(self, cdecl: Literal["struct dp_frame[]"], data: bytes) -> Array[dp_frame]: ...
    def sizeof(self, cdecl: str) -> int: ...
    def offsetof(self, cdecl: str, field: str) -> int: ...

class _Lib:
    DP_BATCH: Final = 64
    DP_BENCH_LOOKUP: Final = 5
    DP_BENCH_POP: Final = 2
    DP_BENCH_PUSH: Final = 1
    DP_BENCH_REWRITE_IN: Final = 4
    DP_BENCH_REWRITE_OUT: Final = 3
    DP_CHANGE_ATOMIC: Final = 1
    DP_CHANGE_MAGIC: Final = 827085641
    DP_CHANGE_VERSION: Final = 2
    DP_DEL: Final = 2
    DP_DYNAMIC: Final = 2
    DP_EBUSY: Final = -8
    DP_ECPU: Final = -7
    DP_EEXIST: Final = -4
    DP_EFORMAT: Final = -5
    DP_EFULL: Final = -9
    DP_EINVAL: Final = -1
    DP_ENOENT: Final = -3
    DP_ENOMEM: Final = -2
    DP_ESYS: Final = -6
    DP_FLOWID_OFF: Final = 1
    DP_GATEWAY_WILDCARD: Final = 4
    DP_GSO_NONE: Final = 0
    DP_GSO_TCP4: Final = 1
    DP_GSO_TCP6: Final = 2
    DP_GSO_UDP: Final = 3
    DP_IPV4: Final = 4
    DP_IPV6: Final = 6
    DP_L2ONLY: Final = 3
    DP_MAX_FDS: Final = 16
    DP_MAX_PORTS: Final = 1024
    DP_MAX_QUEUES: Final = 8
    DP_MAX_WORKERS: Final = 8
    DP_NAME_LEN: Final = 128
    DP_NEIGH_ASKING: Final = 1
    DP_NEIGH_FAILED: Final = 3
    DP_NEIGH_FIXED: Final = 4
    DP_NEIGH_IDLE: Final = 0
    DP_NEIGH_KNOWN: Final = 2
    DP_NVGRE: Final = 1
    DP_OFFLOAD_CSUM: Final = 1
    DP_OFFLOAD_MERGE: Final = 8
    DP_OFFLOAD_NVGRE: Final = 16
    DP_OFFLOAD_TSO4: Final = 2
    DP_OFFLOAD_TSO6: Final = 4
    DP_OFFLOAD_USO: Final = 32
    DP_OK: Final = 0
    DP_PA_REWRITE: Final = 2
    DP_PA_SHARED: Final = 1
    DP_PORT_MEM: Final = 0
    DP_PORT_PACKET: Final = 3
    DP_PORT_TAP: Final = 2
    DP_PORT_XDP: Final = 4
    DP_PUT: Final = 1
    DP_REWRITE: Final = 2
    DP_ROW_FLOOD: Final = 10
    DP_ROW_MOVE: Final = 9
    DP_ROW_PA: Final = 1
    DP_ROW_PORT: Final = 5
    DP_ROW_PREFIX: Final = 4
    DP_ROW_PROVIDER_ROUTE: Final = 2
    DP_ROW_RECORD: Final = 7
    DP_ROW_ROUTE: Final = 8
    DP_ROW_SOURCE: Final = 6
    DP_ROW_SUBNET: Final = 3
    DP_STATIC: Final = 1
    DP_UNDERLAY: Final = 0
    DP_XDP_SG: Final = 256
    def dp_announce(self, a0: Handle, /) -> int: ...
    def dp_apply(self, a0: Handle, a1: bytes | Array[int], a2: int, a3: dp_change_error | Array[dp_change_error], /) -> int: ...
    def dp_bench(self, a0: Handle, a1: Handle, a2: dp_bench_config | Array[dp_bench_config], a3: bytes | Array[int], a4: dp_bench_round | Array[dp_bench_round], a5: Array[int], a6: Array[int], /) -> int: ...
    def dp_collect(self, a0: Handle, a1: int, a2: dp_frame | Array[dp_frame], a3: int, a4: bytes | Array[int], a5: int, /) -> int: ...
    def dp_counters_read(self, a0: Handle, a1: int, a2: dp_counters | Array[dp_counters], a3: Array[int], /) -> int: ...
    def dp_create(self, a0: dp_config | Array[dp_config], a1: Array[Handle], /) -> int: ...
    def dp_destroy(self, a0: Handle, /) -> None: ...
    def dp_digest_begin(self, a0: Handle, /) -> int: ...
    def dp_digest_step(self, a0: Handle, a1: int, a2: Array[int], /) -> int: ...
    def dp_drop_count(self, /) -> int: ...
    def dp_drop_name(self, a0: int, /) -> CString: ...
    def dp_drop_text(self, a0: int, /) -> CString: ...
    def dp_error_name(self, a0: int, /) -> CString: ...
    def dp_generation(self, a0: Handle, /) -> int: ...
    def dp_inject(self, a0: Handle, a1: int, a2: dp_frame | Array[dp_frame], a3: int, a4: bytes | Array[int], /) -> int: ...
    def dp_last_errno(self, a0: Handle, /) -> int: ...
    def dp_neigh_probe(self, a0: Handle, a1: int, a2: bytes | Array[int], /) -> int: ...
    def dp_neigh_read(self, a0: Handle, a1: dp_neigh | Array[dp_neigh], a2: int, /) -> int: ...
    def dp_neigh_set(self, a0: Handle, a1: int, a2: bytes | Array[int], a3: bytes | Array[int], /) -> int: ...
    def dp_next_timer(self, a0: Handle, /) -> int: ...
    def dp_poll(self, a0: Handle, a1: int, /) -> int: ...
    def dp_port_attach(self, a0: Handle, a1: int, a2: dp_port_config | Array[dp_port_config], /) -> int: ...
    def dp_port_detach(self, a0: Handle, a1: int, /) -> int: ...
    def dp_port_spin(self, a0: Handle, a1: int, a2: int, /) -> int: ...
    def dp_port_stop(self, a0: Handle, a1: int, /) -> int: ...
    def dp_port_stranger(self, a0: Handle, a1: int, /) -> int: ...
    def dp_rollback(self, a0: Handle, /) -> int: ...
    def dp_roof_create(self, a0: Handle, a1: int, a2: int, a3: Array[Handle], /) -> int: ...
    def dp_roof_destroy(self, a0: Handle, /) -> None: ...
    def dp_rows_check(self, a0: Handle, a1: bytes | Array[int], a2: int, a3: dp_change_error | Array[dp_change_error], /) -> int: ...
    def dp_rows_read(self, a0: Handle, a1: int, a2: bytes | Array[int], a3: int, /) -> int: ...
    def dp_start(self, a0: Handle, /) -> int: ...
    def dp_stop(self, a0: Handle, /) -> int: ...
    def dp_table_stats(self, a0: Handle, a1: dp_table_stats | Array[dp_table_stats], /) -> int: ...
    def dp_verified(self, a0: Handle, /) -> int: ...
    def dp_vsid_counters_read(self, a0: Handle, a1: dp_vsid_counters | Array[dp_vsid_counters], a2: int, /) -> int: ...
    def dp_wakeups(self, a0: Handle, a1: int, /) -> int: ...

ffi: Final[_FFI]
lib: Final[_Lib]
