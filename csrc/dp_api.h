/*
 * dp_api.h: all that Python sees of the packet core. This text is also the cffi declaration: fixed-width
 * structs, enums and prototypes, no inline code; lines that start with '#' are stripped. Called by Python
 * and the C tests; what it declares is in run/ and bench/.
 *
 * Byte order: addresses, MACs and everything else taken from a packet are bytes in network order; all
 * integers are in host order. A 16-byte address field holds an IPv4 address in its first 4 bytes, the rest 0.
 * Errors: every int function returns 0 (or a count) or a negative DP_E... code.
 * Threads: one control thread at a time may call functions that take `struct dp *` (they are the single
 * writer); dp_counters_read() and dp_neigh_read() may be called from any thread at any time. Workers run
 * beside them and never call back.
 */
#ifndef DP_API_H
#define DP_API_H
#include <stddef.h>
#include <stdint.h>

enum dp_limits {
    DP_MAX_PORTS = 1024,   /* port ids 0..1023 */
    DP_MAX_WORKERS = 8,
    DP_MAX_QUEUES = 8,
    DP_MAX_FDS = 16,
    DP_BATCH = 64,
    DP_UNDERLAY = 0,       /* the port id of the underlay */
    DP_NAME_LEN = 128,
};

enum dp_error {
    DP_OK = 0,
    DP_EINVAL = -1,        /* an argument is wrong: the caller's bug */
    DP_ENOMEM = -2,
    DP_ENOENT = -3,        /* a row refers to what is not there */
    DP_EEXIST = -4,
    DP_EFORMAT = -5,       /* a change set that can't be decoded */
    DP_ESYS = -6,          /* a system call failed; errno is kept, see dp_last_errno() */
    DP_ECPU = -7,          /* this CPU lacks what the core was built for */
    DP_EBUSY = -8,         /* not while workers run */
    DP_EFULL = -9,         /* a fixed limit is reached */
};

enum dp_family { DP_IPV4 = 4, DP_IPV6 = 6 };

/* ---- engine -------------------------------------------------------------------------------------------- */

struct dp;

enum dp_flags {
    DP_FLOWID_OFF = 1,     /* FlowID 0 in every NVGRE key (RFC 7637 section 3.2) */
};

struct dp_config {
    uint32_t workers;      /* 1..DP_MAX_WORKERS */
    uint32_t slots;        /* 4 KiB packet slots in the arena; 0: a default that fits the ports */
    uint32_t flags;        /* enum dp_flags */
    uint32_t self_host;    /* host id of this host */
    uint32_t spin_us;      /* how long an idle worker polls, at most, before it blocks (base/spin.h) */
    uint8_t router_mac[6]; /* the virtual router's MAC, the same on every host */
    uint8_t pad[2];
    /*
     * 1 + a descriptor of memory of slots * 4096 bytes, slots being given, in which packets lie then: AF_XDP
     * sockets are made over it by whoever opens devices. 0: none. It may be closed once dp_create() returns.
     */
    int32_t slots_fd;
    uint8_t pad2[4];
    uint64_t hash_key[2];  /* secret of the table hash; random in production, fixed in replay */
    /*
     * Bytes that tables may hold, with what a change set builds beside and keeps for a rollback: it is asked
     * before memory is touched, and DP_ENOMEM leaves the tables as they are. 0: no limit.
     */
    uint64_t table_budget;
};

int dp_create(const struct dp_config *config, struct dp **out);
void dp_destroy(struct dp *dp);
const char *dp_error_name(int code);
int dp_last_errno(const struct dp *dp);

/* ---- ports --------------------------------------------------------------------------------------------- */

enum dp_port_kind {
    DP_PORT_MEM = 0,       /* dp_inject() and dp_collect() */
    DP_PORT_TAP = 2,       /* TAP queues, 10-byte virtio_net_hdr in host order, non-blocking */
    /* AF_PACKET sockets, PACKET_VNET_HDR (10 bytes) and PACKET_AUXDATA on, non-blocking */
    DP_PORT_PACKET = 3,
    /*
     * The same, one a worker, and after them AF_XDP sockets, at most one a worker: of the memory that is
     * slots_fd, aligned chunks of 4096 bytes without headroom, rings of 4096, never used before. All who have
     * them close them before dp_port_detach(): what the kernel may still write to is given to others then.
     */
    DP_PORT_XDP = 4,
};

enum dp_offload {
    DP_OFFLOAD_CSUM = 1,   /* the port's peer takes partial checksums from us */
    DP_OFFLOAD_TSO4 = 2,   /* ... and TCP/IPv4 super-packets */
    DP_OFFLOAD_TSO6 = 4,
    DP_OFFLOAD_MERGE = 8,  /* ... and segments, or datagrams, merged to them where they follow each other */
    /* underlay: ... and such in NVGRE; the place of the checksum is counted from the outer frame on */
    DP_OFFLOAD_NVGRE = 16,
    DP_OFFLOAD_USO = 32,   /* ... and UDP super-packets */
    DP_XDP_SG = 256,       /* none of these, but its AF_XDP sockets are bound with XDP_USE_SG */
};

struct dp_port_config {
    char name[128];        /* NUL-terminated */
    uint32_t kind;         /* enum dp_port_kind */
    uint32_t offloads;     /* enum dp_offload: what may be sent to the port */
    uint32_t mtu;          /* largest IP packet that leaves by this port, bytes */
    uint32_t queues;       /* descriptors in fds, 0 for a memory port; without AF_XDP sockets */
    uint32_t xsks;         /* AF_XDP sockets, behind the others in fds */
    /* owned by the caller; must stay open until dp_port_stop() or dp_port_detach() returns */
    int32_t fds[16];
    uint8_t mac[6];        /* underlay: the device's MAC. Tenant ports: the VM's MAC */
    uint8_t pad[2];
};

/* Gives port id `port` a device. Its policy comes by rows of a change set, before or after. */
int dp_port_attach(struct dp *dp, uint32_t port, const struct dp_port_config *config);
/*
 * Whether an idle worker may look on for the port's packets before it blocks, which is so of a new one. on 0:
 * it blocks at once, unless packets of another port make it look on. At any time; nothing is lost.
 */
int dp_port_spin(struct dp *dp, uint32_t port, uint32_t on);
/*
 * Nothing is received from the port or sent to it any more; what it sent may still be on its way. Then the
 * caller closes its descriptors, and dp_port_detach() takes back what the device had. Until then the port id
 * is in use.
 */
int dp_port_stop(struct dp *dp, uint32_t port);
/* The end of a port, stopped or not. */
int dp_port_detach(struct dp *dp, uint32_t port);

/* ---- running ------------------------------------------------------------------------------------------- */

/* Worker threads. Between start and stop, dp_poll(), dp_inject() and dp_collect() return DP_EBUSY. */
int dp_start(struct dp *dp);
int dp_stop(struct dp *dp);

/*
 * Runs every worker's loop once on the caller's thread at time `now` (ns, any epoch, never falling): due
 * timers, then everything that memory ports hold. Returns the number of packets received, and of parts
 * of them that took a turn each.
 */
int dp_poll(struct dp *dp, uint64_t now);
/*
 * When dp_poll() next has a timer to run: ns of its epoch, 0 at once, UINT64_MAX never. Workers are at rest,
 * else it is UINT64_MAX.
 */
uint64_t dp_next_timer(const struct dp *dp);

/* What a memory port's peer hands over or takes: the virtio-net view of a packet. */
struct dp_frame {
    uint64_t time;         /* ns: of the packet (inject) or of the packet that caused it (collect) */
    uint32_t len;          /* bytes of the frame, 0..262144; more than a port takes: bad-offload */
    /* partial checksum when csum_partial: as in virtio_net_hdr, bytes from frame start */
    uint16_t csum_start;
    uint16_t csum_offset;
    uint16_t gso_size;
    uint8_t gso;           /* enum dp_gso */
    uint8_t csum_partial;
    uint32_t flow;         /* picks the worker on inject: flow % workers */
};

/* UDP: datagrams, over IPv4 or IPv6; no fragments of one (virtio's legacy UFO). */
enum dp_gso { DP_GSO_NONE = 0, DP_GSO_TCP4 = 1, DP_GSO_TCP6 = 2, DP_GSO_UDP = 3 };

/*
 * `n` frames; `bytes` has theirs one behind the other. DP_EINVAL: none was taken. DP_ENOMEM: the first of
 * them were.
 */
int dp_inject(struct dp *dp, uint32_t port, const struct dp_frame *frames, uint32_t n, const uint8_t *bytes);
/*
 * The oldest frames that left by the port, at most `n` and as many as fit into `capacity` bytes, one behind
 * the other. Returns how many, 0 when there is none, or DP_EINVAL when the oldest doesn't fit.
 */
int dp_collect(struct dp *dp, uint32_t port, struct dp_frame *frames, uint32_t n, uint8_t *bytes,
               uint32_t capacity);

/* ---- neighbours of the underlay ------------------------------------------------------------------------ */

/* A fixed MAC for a provider next hop (replay, tests); live hosts resolve by ARP and ND instead. */
int dp_neigh_set(struct dp *dp, uint32_t family, const uint8_t *address, const uint8_t *mac);
/*
 * Sends gratuitous ARP and unsolicited NA for every local PA, and asks for every provider next hop in use:
 * the worker does, 64 a millisecond; without threads dp_poll() asks.
 */
int dp_announce(struct dp *dp);

enum dp_neigh_state {
    DP_NEIGH_IDLE = 0, DP_NEIGH_ASKING = 1, DP_NEIGH_KNOWN = 2, DP_NEIGH_FAILED = 3, DP_NEIGH_FIXED = 4,
};

struct dp_neigh {
    uint8_t address[16];
    uint8_t mac[6];
    uint8_t family;
    uint8_t state;         /* enum dp_neigh_state */
    uint32_t held;         /* packets waiting for it */
};

/* Copies up to `capacity` entries; returns how many there are. */
int dp_neigh_read(const struct dp *dp, struct dp_neigh *out, uint32_t capacity);
/*
 * Asks a provider next hop now, whether in use or not known yet (node ping-pa, lab readiness). What is not
 * in use is forgotten 30 s after it has answered or failed to; 4,096 such at a time, else DP_EFULL.
 */
int dp_neigh_probe(struct dp *dp, uint32_t family, const uint8_t *address);

/* ---- policy: change sets ------------------------------------------------------------------------------- */

/*
 * A change set is struct dp_change_header, then `sections` sections, each struct dp_section followed by
 * `count` rows of its kind, 8-byte aligned. Rows are applied in the order they stand: put what is referred to
 * before what refers to it, delete in the opposite order. PUT of an existing key replaces it at once (a
 * reader sees the old or the new row, never a mix); DEL needs the key fields only and DP_ENOENT if there is
 * none. Either the whole change set is applied or none of it.
 *
 * What a reader may see of a change set that is refused: unless it is built beside, rows of it that are good
 * by themselves, from when they are put until they are taken back. Never the row that is refused; never
 * another subnet's record for a CA; never a gateway that is not one, nor a VM in a gateway's place. Each row
 * is checked in full before anything of it is written.
 */
enum dp_change_flags { DP_CHANGE_ATOMIC = 1 };  /* build beside and swap, whatever its size */
enum dp_change_magic { DP_CHANGE_MAGIC = 0x314c5349, DP_CHANGE_VERSION = 2 };
enum dp_op { DP_PUT = 1, DP_DEL = 2 };

struct dp_change_header {
    uint32_t magic;        /* DP_CHANGE_MAGIC */
    uint16_t version;      /* DP_CHANGE_VERSION */
    uint16_t flags;        /* enum dp_change_flags */
    uint64_t generation;   /* becomes the engine's when all rows are in */
    uint32_t sections, pad;
};

enum dp_row_kind {
    DP_ROW_PA = 1,
    DP_ROW_PROVIDER_ROUTE = 2,
    DP_ROW_SUBNET = 3,
    DP_ROW_PREFIX = 4,
    DP_ROW_PORT = 5,
    DP_ROW_SOURCE = 6,
    DP_ROW_RECORD = 7,
    DP_ROW_ROUTE = 8,
    DP_ROW_MOVE = 9,
    DP_ROW_FLOOD = 10,
};

struct dp_section {
    uint16_t kind;         /* enum dp_row_kind */
    uint16_t op;           /* enum dp_op */
    uint32_t count;
};

enum dp_pa_kind { DP_PA_SHARED = 1, DP_PA_REWRITE = 2 };

/*
 * Provider Address -> host. Key: address. A host's first shared PA of a family is the source of its NVGRE
 * packets. 32 bytes.
 */
struct dp_row_pa {
    uint8_t address[16];
    uint32_t host;
    uint8_t family;
    uint8_t kind;          /* enum dp_pa_kind */
    uint8_t prefix_len;
    uint8_t pad[9];
};

/* Route in PA space, longest prefix first. next_hop all zero: on link. Key: prefix, prefix_len. 40 bytes. */
struct dp_row_provider_route {
    uint8_t prefix[16];
    uint8_t next_hop[16];
    uint8_t family;
    uint8_t prefix_len;
    uint8_t pad[6];
};

/*
 * Virtual subnet -> routing domain. Key: vsid. 16 bytes. How many packets to groups are copied to all of its
 * VMs, README.md section 5: a rate of 0 is none, and then the burst is 0; else it is not.
 */
struct dp_row_subnet {
    uint32_t vsid;
    uint32_t rdid;         /* 1..65535, dense */
    uint32_t flood_per_second;
    uint32_t flood_burst;
};

/*
 * A CA prefix on link in a subnet, with its gateway CA. Key: rdid of the vsid, prefix, prefix_len. 40 bytes.
 */
struct dp_row_prefix {
    uint8_t prefix[16];
    uint8_t gateway[16];   /* all zero: none */
    uint32_t vsid;
    uint8_t family;
    uint8_t prefix_len;
    uint8_t pad[2];
};

/*
 * Policy of a tenant port. Key: port. 40 bytes. Rate limits of what it sends: README.md 2.14. A rate of 0
 * is no limit, and then the burst is 0; else it is not.
 */
struct dp_row_port {
    uint32_t port;
    uint32_t vsid;
    uint8_t mac[6];
    uint8_t pad[2];
    uint64_t bytes_per_second;
    uint64_t burst_bytes;  /* under 2^32 */
    uint32_t packets_per_second;
    uint32_t burst_packets;
};

/* One more source prefix that a port may send from (allowedSources). Key: all of it. 24 bytes. */
struct dp_row_source {
    uint8_t prefix[16];
    uint32_t port;
    uint8_t family;
    uint8_t prefix_len;
    uint8_t pad[2];
};

enum dp_translation { DP_NVGRE = 1, DP_REWRITE = 2 };
enum dp_record_type { DP_STATIC = 1, DP_DYNAMIC = 2, DP_L2ONLY = 3, DP_GATEWAY_WILDCARD = 4 };

/*
 * Lookup record (VSID, CA) -> MAC, PA, host, translation, type. Key: vsid, family, ca. 64 bytes.
 * host == self: port is the local port and becomes one of its source CAs; under nvgre it needs no PA
 * (pa_family 0). provider_address names a PA row of the same host: kind shared for nvgre, kind rewrite (this
 * CA's own) for rewrite. gateway-wildcard: ca all zero, catches what has no record.
 */
struct dp_row_record {
    uint8_t ca[16];
    uint8_t provider_address[16];
    uint32_t vsid;
    uint32_t host;
    uint32_t port;         /* local records only, else 0 */
    uint8_t mac[6];
    uint8_t family;        /* of ca */
    uint8_t pa_family;
    uint8_t translation;   /* enum dp_translation */
    /* enum dp_record_type: static, dynamic or gateway-wildcard; l2only is refused for now */
    uint8_t type;
    uint8_t pad[10];
};

/* Customer route by a next-hop CA in the same routing domain. Key: rdid, prefix, prefix_len. 48 bytes. */
struct dp_row_route {
    uint8_t prefix[16];
    uint8_t next_hop[16];
    uint32_t rdid;
    uint32_t vsid;         /* of the next hop */
    uint8_t family;
    uint8_t prefix_len;
    uint8_t pad[6];
};

/*
 * The record of (VSID, CA) is in a move: until this row goes, `host` is its home too (README.md 3.14). It may
 * stand without the record, and then says nothing. Key: vsid, family, ca. 32 bytes.
 */
struct dp_row_move {
    uint8_t ca[16];        /* all zero: the gateway-wildcard's */
    uint32_t vsid;
    uint32_t host;         /* where it was, or where it will be; may be this one */
    uint8_t family;
    uint8_t pad[7];
};

/*
 * What is sent to a group in the VSID goes to this host too, which is another one. Key: vsid,
 * provider_address. 32 bytes.
 */
struct dp_row_flood {
    uint8_t provider_address[16];   /* a shared PA of it */
    uint32_t vsid;
    uint32_t host;
    uint8_t family;        /* of the PA */
    uint8_t pad[7];
};

struct dp_change_error {
    uint32_t section;      /* index of the section and row that failed */
    uint32_t row;
    char text[120];        /* what is wrong with it */
};

int dp_apply(struct dp *dp, const uint8_t *change_set, size_t len, struct dp_change_error *error);
/*
 * Puts back what the last change set changed, and the generation with it: by its rows' inverse, which is kept
 * until dp_verified(), dp_rollback() or the next dp_apply(), whatever comes of that. Built beside if the
 * change set was. DP_ENOENT: there is none to put back. DP_ENOMEM: there is no memory to build beside; all is
 * as it was, and it may be tried again. Control thread.
 */
int dp_rollback(struct dp *dp);
/* The last change set stays: frees what a rollback would need. DP_ENOENT: there is none. Control thread. */
int dp_verified(struct dp *dp);
uint64_t dp_generation(const struct dp *dp);

/*
 * The rows of a kind (enum dp_row_kind) that the tables hold now, packed, in any order, made from what
 * packets are forwarded by. Copies as many as fit into `capacity` bytes; returns how many there are, or
 * DP_EINVAL: no such kind. Control thread; workers may run.
 * Canonical form: fields as they were put, and where the tables keep nothing of a field, always the same: a
 * PA's prefix_len is 0; a record's type is static unless its ca is zero (gateway-wildcard); a local record
 * under NVGRE has provider_address and pa_family 0; pads are 0. Rows in canonical form may be put again.
 */
int64_t dp_rows_read(const struct dp *dp, uint32_t kind, uint8_t *out, size_t capacity);
/*
 * Whether the tables hold what a change set says: each row's key is looked up as packets do, and what is
 * there compared with the row in canonical form; of a key that comes more than once the last row counts.
 * Costs by the rows of the change set. DP_OK: all of it; DP_ENOENT: not so, *error (may be NULL) names the
 * first row; DP_EFORMAT, DP_ENOMEM. Same threads.
 */
int dp_rows_check(const struct dp *dp, const uint8_t *change_set, size_t len, struct dp_change_error *error);
/*
 * The digest of a kind: the sum mod 2^64, over the same rows, of: hash = kind; for each 64-bit word of the
 * row (host order): hash = mix(hash ^ word), where mix(x) is splitmix64: x += 0x9e3779b97f4a7c15;
 * x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9; x = (x ^ x >> 27) * 0x94d049bb133111eb; x ^ x >> 31. No secret is
 * in it: it finds mistakes, not malice.
 *
 * It is taken in slices: each table falls into a thousand parts with a sum each. A step looks at parts that
 * are not known, or were written since they were looked at, until that were `rows` rows or more. Returns 1
 * when none is left: out[] (by enum dp_row_kind, DP_ROW_FLOOD + 1 of them) has the digests of the tables as
 * they are now; else 0: go on. Change sets may come in between. dp_digest_begin(): no part is known, each row
 * is looked at anew. Same threads.
 */
int dp_digest_begin(struct dp *dp);
int dp_digest_step(struct dp *dp, uint64_t rows, uint64_t *out);

/* What the tables hold, for status and memory accounting. */
struct dp_table_stats {
    uint64_t records4, records6, rewrites, pas, subnets, routes, next_hops;
    uint64_t bytes;        /* of all tables */
    uint64_t overflow;     /* records that live in overflow buckets */
    uint64_t displaced;    /* records that live in their second bucket */
};
int dp_table_stats(const struct dp *dp, struct dp_table_stats *out);

/* ---- counters ------------------------------------------------------------------------------------------ */

/* received + originated = sent + dropped + consumed + held, when workers are at rest. */
struct dp_counters {
    uint64_t received, originated, sent, dropped, consumed, held;
    uint64_t rx_bytes, tx_bytes;
    uint64_t rx_gso, rx_csum_partial;   /* super-packets and partial checksums that came in */
    uint64_t tx_gso, tx_csum_partial;   /* ... and left whole */
    /* lost in the kernel before it was received: AF_PACKET, as of a second ago */
    uint64_t rx_kernel;
    uint64_t icmp_limited;              /* dropped without the ICMP error that was due: README.md 2.15 */
};

struct dp_vsid_counters {
    uint32_t vsid, pad;
    uint64_t from_port, from_port_bytes;  /* accepted from tenant ports of the subnet */
    uint64_t to_port, to_port_bytes;      /* delivered to tenant ports of the subnet */
};

uint32_t dp_drop_count(void);                 /* how many reasons there are; reason 0 is "none" */
const char *dp_drop_name(uint32_t reason);    /* kebab-case, as in counters.json */
const char *dp_drop_text(uint32_t reason);

/* One port's counters, and its drops by reason (an array of dp_drop_count()). */
int dp_counters_read(const struct dp *dp, uint32_t port, struct dp_counters *out, uint64_t *drops);
/*
 * The source MAC of the last frame that was dropped as src-mac since the port was attached, its first byte in
 * the lowest 8 bits; 0: there was none, or there is no such port. Control thread.
 */
uint64_t dp_port_stranger(const struct dp *dp, uint32_t port);
/*
 * Copies up to `capacity` subnets' counters, of every subnet there is; returns how many there are. Control
 * thread: dp_apply() frees what it reads.
 */
int dp_vsid_counters_read(const struct dp *dp, struct dp_vsid_counters *out, uint32_t capacity);
/* How often a worker has blocked and gone on, for packets or a timer. Any thread. */
uint64_t dp_wakeups(const struct dp *dp, uint32_t worker);

/* ---- bench --------------------------------------------------------------------------------------------- */

enum dp_bench_op {
    DP_BENCH_PUSH = 1, DP_BENCH_POP = 2, DP_BENCH_REWRITE_OUT = 3, DP_BENCH_REWRITE_IN = 4,
    DP_BENCH_LOOKUP = 5,
};

/* Clocks from a filled rx batch to a batch ready for tx, over rounds; see bench/core.c. */
struct dp_bench_config {
    uint32_t op;           /* enum dp_bench_op */
    uint32_t port;         /* where the frames come in */
    uint32_t frames;       /* frames in the pool, a multiple of DP_BATCH */
    uint32_t frame_len;    /* bytes of each, without FCS */
    uint32_t rounds, first;  /* first: the frame to begin with */
    /* descriptor of a perf event that shall count in the timed region alone; 0: none */
    uint32_t counter;
    /* 0: the caller as worker 0. Else so many, each a thread on a CPU of its own; rounds begin at once */
    uint32_t workers;
    uint64_t packets;      /* to time, over all rounds of a worker */
};

struct dp_bench_round {
    uint64_t packets, clocks;              /* timed */
    uint64_t elapsed_clocks, nanoseconds;  /* the whole round by both clocks: the TSC's rate */
    uint64_t preempted;                    /* times the kernel gave the CPU to somebody else meanwhile */
};

/*
 * The roof of an operation: the least that any program must do for the same frames and the same output bytes,
 * IPv4 only; see bench/roof.h. Copies the engine's tables as they are now. 0, DP_EINVAL (an operation or port
 * without one), DP_ENOMEM, DP_EFULL.
 */
struct dp_roof;
int dp_roof_create(const struct dp *dp, uint32_t op, uint32_t port, struct dp_roof **out);
void dp_roof_destroy(struct dp_roof *roof);

/*
 * Runs `frames` (frames * frame_len bytes, cycled) through the path of the port, or through a roof made of
 * this engine; nothing is sent. What comes how often is the caller's choice of frames. Fills rounds[]: with
 * several workers the first round of each, then the second of each. *digest folds the first 64 bytes of what
 * comes out. DP_ESYS: there are no threads or CPUs for so many.
 */
int dp_bench(struct dp *dp, const struct dp_roof *roof, const struct dp_bench_config *config,
             const uint8_t *frames, struct dp_bench_round *rounds, uint64_t *digest, uint64_t *dropped);

#endif
