/*
 * port.h: the contract of a kind of port. port_mem.c, port_tap.c, port_packet.c and port_xdp.c each fill in
 * one port_ops; port.c has what they share, io.h what a port sees of a worker. Called by workers (rx, tx,
 * reap) and the engine (attach, stop, reclaim).
 *
 * Queues are objects with one owner each, the only thread that calls a function on them: receive queue q is
 * worker q % workers', transmit queue w is worker w's. A kind whose device takes one producer a queue has as
 * many as there are workers, or refuses. Attaching, stop and reclaim are the control thread's.
 *
 * A port's life: attach; rx, tx and reap; stop, once no worker can hold it any more: from here on nothing is
 * received or sent; the caller closes its descriptors; reclaim, which gives back all slots, those too that
 * the device had (it has let go of them by the close), and frees the queues. A kind that keeps nothing in
 * flight does not mind the order of the last two.
 *
 * rx, into io->batch, empty before: packets of POOL_HEADROOM and any number of segments (pool.h), all slots
 * their own; a VLAN tag that the kernel keeps apart is put back into the headroom; `time` and `in_port` set,
 * offload fields as the peer states them (the parser's caller checks). It ends when nothing is left or
 * io_turn_over(), and returns how many came, dropped ones too. Slots that wait for packets are armed: they
 * stay with the queue between calls, and only those that were used are replaced. It counts by io_received()
 * and port_count_rx(), and drops what it can't take: short of slots no-slot; a header that says what it may
 * not, or a frame beyond POOL_FRAME_MAX, bad-offload.
 *
 * tx takes every packet it is given, in order, and asks port_prepare() for each first. It counts sent when
 * its device has taken the packet (or drops: tx-full, tx-error). Without ops->keeps it has read the packets
 * and given back their slots when it returns, so what they borrow is there. With ops->keeps packets stay with
 * the port, all their bytes their own: until reap() finds that the device is done with them (txq->in_flight
 * says how many there are; their worker reaps every round, and does not sleep longer than a millisecond
 * meanwhile), or until reclaim. In front of a frame at least PORT_TX_HEADROOM bytes are tx's.
 */
#ifndef PORT_H
#define PORT_H
#include "base/drop.h"
#include "pkt/pool.h"
#include "step/gso.h"

struct io;
struct iovec;
struct port;

/* What a port can do; the low ones are what dp_port_config says of its peer, the rest is its kind's. */
enum port_cap {
    PORT_CSUM = DP_OFFLOAD_CSUM,        /* takes partial checksums */
    PORT_TSO4 = DP_OFFLOAD_TSO4,        /* takes TCP super-packets */
    PORT_TSO6 = DP_OFFLOAD_TSO6,
    PORT_MERGE = DP_OFFLOAD_MERGE,      /* gets segments as super-packets */
    PORT_NVGRE = DP_OFFLOAD_NVGRE,      /* takes super-packets under an outer header */
    PORT_USO = DP_OFFLOAD_USO,          /* takes UDP super-packets */
    PORT_XDP_SG = DP_XDP_SG,            /* packets of several descriptors pass */
    PORT_SG = 64,                       /* takes packets of up to max_segs segments, else of one */
    /* metadata of checksums and super-packets crosses; without, none of the above */
    PORT_VNET = 128,
};
/*
 * Segments that a port takes at least if it takes several: a super-packet as it was received, its segment, a
 * train.
 */
enum { PORT_SEGS = 64 };
_Static_assert((int)PORT_SEGS > (int)POOL_CHAIN_MAX, "the longest frame and headers before it");
enum { PORT_TX_HEADROOM = 64 };
enum { PORT_IP_MAX = 65535 };           /* bytes of an IP packet */

struct port_rxq {
    struct port *port;
    uint32_t id;
    int fd;                             /* readable when there are packets; -1: no worker waits for any */
    bool more;                          /* rx has ended with packets at hand that fd does not show */
    /*
     * The worker's: when it last had a turn, and whether that was a whole one; something came since it was
     * last tidied; errors, see worker.c.
     */
    uint32_t round;
    bool heavy, used;
    uint64_t pause, retry;
    /*
     * A super-packet that takes several turns, and where it is cut; slots 0: none. Counted is what has been
     * cut off, the rest as if it were still to come.
     */
    struct pkt whole;
    struct gso_cut cut;
};

struct port_txq {
    struct port *port;
    uint32_t id;                        /* of the worker */
    int fd;
    uint32_t in_flight;                 /* packets that reap() will give back */
};

struct port_ops {
    uint32_t (*rx)(struct port_rxq *rxq, struct io *io);
    void (*tx)(struct port_txq *txq, struct io *io, struct pkt *const *pkts, uint32_t n);
    /* With `keeps`, or NULL: gives back slots whose packets have left. Returns how many packets. */
    uint32_t (*reap)(struct port_txq *txq, struct io *io);
    /*
     * Packets that the kernel lost in front of the queue since it was last asked; NULL: this kind's kernel
     * does not say.
     */
    uint64_t (*lost)(struct port_rxq *rxq);
    /* A burst is over: gives back slots that were armed for it. NULL: there are none. */
    void (*rest)(struct port_rxq *rxq, struct pool *pool);
    void (*stop)(struct port *port);                        /* NULL: there is nothing to stop */
    void (*reclaim)(struct port *port, struct pool *pool);
    uint32_t work;                      /* of a packet that is received, beside IO_PACKET_WORK */
    bool keeps;
};

/* The engine's ports by id; any thread. */
typedef struct port *_Atomic port_slot;
static inline struct port *port_at(const port_slot *ports, uint32_t id)
{
    return __atomic_load_n((struct port *const *)&ports[id], __ATOMIC_ACQUIRE);
}

struct port {
    const struct port_ops *ops;
    void *state;                        /* of the kind */
    struct arena *arena;
    uint32_t id;
    uint32_t workers;                   /* of the engine */
    uint32_t caps;                      /* enum port_cap */
    uint32_t max_segs;
    uint32_t mtu;
    uint32_t queues;                    /* receive queues */
    uint32_t xsks;                      /* AF_XDP sockets: the last of fds */
    struct port_rxq *rxqs[DP_MAX_FDS];
    struct port_txq *txqs[DP_MAX_WORKERS];
    int fds[DP_MAX_FDS];                /* as they were given */
    uint8_t mac[6];
    uint8_t kind;
    bool sleeps;                        /* see port_sleeps() */
    char name[DP_NAME_LEN];
    _Atomic uint64_t errors;            /* when it may be told of as many refusals as ever: limit.h's time */
    /* The last source MAC that was not the VM's, as mac_word() has it; 0: none. Written by workers. */
    uint64_t stranger;
};

/*
 * Each returns 0 or a DP_E code (DP_ESYS: errno, nothing is kept) and sets ops, queues, and caps and max_segs
 * of the kind. The rest of *port is set and was checked.
 */
int port_mem_attach(struct port *port);
int port_tap_attach(struct port *port);
int port_packet_attach(struct port *port);
int port_xdp_attach(struct port *port);

/* No worker goes on looking for its packets (base/spin.h). Set by the control thread at any time. */
static inline bool port_sleeps(const struct port *port)
{
    return __atomic_load_n(&port->sleeps, __ATOMIC_RELAXED);
}
static inline void port_set_sleeps(struct port *port, bool sleeps)
{
    __atomic_store_n(&port->sleeps, sleeps, __ATOMIC_RELAXED);
}

/* ---- for kinds of ports ---------------------------------------------------------------------- */

/*
 * Queues of these sizes (struct port_rxq and port_txq come first in them), all zero but for port, id and fd:
 * receive queue q has fds[q], transmit queue w fds[w % queues]. 0 or DP_ENOMEM.
 */
int port_queues_new(struct port *port, size_t rxq, size_t txq);
void port_queues_free(struct port *port);

/*
 * The packet may go to the port whole: it is no super-packet, or the port takes them. Of more than PORT_SEGS
 * datagrams, as tunnels may bring, no port does: the kernel would refuse it.
 */
static inline bool port_takes_gso(const struct port *port, const struct pkt *pkt)
{
    static const uint8_t caps[] = {
        [DP_GSO_TCP4] = PORT_TSO4, [DP_GSO_TCP6] = PORT_TSO6, [DP_GSO_UDP] = PORT_USO};
    if (__builtin_expect(pkt->gso == DP_GSO_NONE, 1))
        return true;
    bool tunnels = !(pkt->flags & PKT_TUNNELLED) || port->caps & PORT_NVGRE;
    uint32_t most = pkt->csum_start + UDP_LEN + pkt->gso_size * (uint32_t)PORT_SEGS; /* 2.9.6 */
    return port->caps & caps[pkt->gso] && tunnels && (pkt->gso != DP_GSO_UDP || pkt->len <= most);
}

/*
 * The same of a parsed packet under a tunnel's header of `header_len` bytes. One segment is none: the kernel
 * would take it for a plain packet, and not know where its checksum is.
 */
static inline bool port_takes_tunnelled(const struct port *port, const struct pkt *pkt, uint32_t header_len)
{
    return pkt->gso == DP_GSO_NONE ||
           (port->caps & PORT_NVGRE && port_takes_gso(port, pkt) && gso_segments(pkt) > 1 &&
            header_len - ETH_LEN + pkt->l3_end <= PORT_IP_MAX);
}

/*
 * Before a packet is sent: completes what the port's peer does not, a partial checksum; if the port keeps
 * packets, makes all bytes its own. DROP_NONE, no-slot, or tx-error: a super-packet that the port can't take.
 */
enum drop port_prepare(const struct port *port, struct pool *pool, struct pkt *pkt);
/*
 * The packet's segments, at most max_segs: it is copied together if there are more. How many, 0: drop it,
 * tx-error.
 */
int port_iov(const struct port *port, struct pool *pool, struct pkt *pkt, struct iovec *iov);

/* struct virtio_net_hdr, legacy layout, host byte order. */
struct vnet_hdr {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
_Static_assert(sizeof(struct vnet_hdr) == 10, "as on the descriptor");
enum { PORT_VNET_UDP = 5 };             /* VIRTIO_NET_HDR_GSO_UDP_L4, since Linux 6.2 */
/*
 * Sets the packet's offload fields. DROP_NONE, or bad-offload: a segmentation type that was never agreed on.
 */
enum drop port_vnet_read(struct pkt *pkt, const struct vnet_hdr *hdr);
void port_vnet_write(const struct pkt *pkt, struct vnet_hdr *hdr);

/* Slots that wait for packets, used from the front. */
enum { PORT_ARMED = POOL_CHAIN_MAX };
struct port_armed {
    uint32_t n, used;                   /* slots[used..n) wait */
    uint32_t slots[PORT_ARMED];
};
/*
 * Arms slots[0..used) again and then up to `want` of them, as far as the pool has slots: n may be less, even
 * 0; used is 0. Changed are those before the old `used`, and those behind the old n.
 */
void port_arm(struct port_armed *armed, struct pool *pool, uint32_t want);
/* Gives back all but the first `keep` (0: all, those in use are not among them). */
void port_disarm(struct port_armed *armed, struct pool *pool, uint32_t keep);
/*
 * Makes the first of n slots, in which a frame was received, *pkt's: as many as `len` bytes need; returns how
 * many. What had no room in them lies at `beyond` and is copied into new slots. 0, a packet without slots,
 * and all are still the caller's: too long, or short of slots.
 */
uint32_t port_fill(struct pool *pool, const uint32_t *slots, uint32_t n, struct pkt *pkt, uint32_t len,
                   const uint8_t *beyond);
/* Why a packet of `len` bytes got no slots. */
static inline enum drop port_refused(uint32_t len) /* 4.5.1, 4.5.2 */
{
    return len > POOL_FRAME_MAX ? DROP_BAD_OFFLOAD : DROP_NO_SLOT;
}

/* ---- of kinds with a caller in place of a device: control thread, workers at rest ------------ */

/* Slots of what is collected go to the pool. */
int port_mem_inject(struct port *port, const struct dp_frame *frame, const uint8_t *bytes);
int port_mem_collect(struct port *port, struct pool *pool, struct dp_frame *frame, uint8_t *bytes,
                     uint32_t capacity);

#endif
