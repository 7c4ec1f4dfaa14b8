/*
 * port.h: what a kind of port must do. port_mem.c, port_tap.c and port_packet.c each fill in one port_ops; port.c has
 * what they share.
 *
 * rx gives packets of one slot chain each, frame at data with POOL_HEADROOM before it in the first slot (a VLAN tag that the
 * kernel keeps apart is put back into that), `time` and `in_port` set, offload fields as in the kernel's header (parse.c checks
 * them against the packet). It counts received, rx_bytes, rx_gso and rx_csum_partial, and drops what it can't take: short of
 * slots no-slot, a header that says what it may not or a frame beyond POOL_FRAME_MAX bad-offload.
 * tx takes every packet it is given: it counts sent (or drops: tx-full, tx-error) and frees the slots. Packets stand in order.
 * It first asks port_prepare() for each.
 *
 * Threads: rx of a queue is called by the queue's worker alone, tx by any worker with a queue of its own choice; attach and
 * detach by the control thread, detach when no worker can hold the port any more.
 */
#ifndef PORT_H
#define PORT_H
#include "base/drop.h"
#include "pkt/pool.h"

struct io;
struct port;

/* The engine's ports by id; any thread. */
typedef struct port *_Atomic port_slot;
static inline struct port *port_at(const port_slot *ports, uint32_t id)
{
    return __atomic_load_n((struct port *const *)&ports[id], __ATOMIC_ACQUIRE);
}

struct port_ops {
    /* Up to io->batch_limit packets of one queue, into an empty batch. Returns how many came, dropped ones too. */
    uint32_t (*rx)(struct port *port, struct io *io, uint32_t queue, struct batch *batch);
    void (*tx)(struct port *port, struct io *io, struct pkt *const *pkts, uint32_t n);
    void (*detach)(struct port *port);
};

struct port {
    const struct port_ops *ops;
    void *state;                        /* of the kind */
    struct arena *arena;
    uint32_t id;
    uint32_t workers;                   /* of the engine */
    uint32_t offloads;                  /* enum dp_offload */
    uint32_t mtu;
    uint32_t queues;                    /* a memory port has one a worker */
    int fds[DP_MAX_QUEUES];             /* queue q belongs to worker q % workers; a worker sends by queue id % queues */
    uint8_t mac[6];
    uint8_t kind;
    char name[DP_NAME_LEN];
};

/* Each returns 0 or a DP_E code (DP_ESYS: errno) and sets port->ops and port->state. The rest of *port is set and was checked. */
int port_mem_attach(struct port *port);
int port_tap_attach(struct port *port);
int port_packet_attach(struct port *port);

/* The packet may go to the port whole: it is no super-packet, or the port takes them. */
static inline bool port_takes_gso(const struct port *port, const struct pkt *pkt)
{
    uint32_t tso = pkt->gso == DP_GSO_TCP4 ? DP_OFFLOAD_TSO4 : DP_OFFLOAD_TSO6;
    return pkt->gso == DP_GSO_NONE || port->offloads & tso;
}

/* Completes what the port's peer does not: a partial checksum. DROP_NONE, or tx-error: a super-packet the port can't take. */
enum drop port_prepare(const struct port *port, struct pkt *pkt);

/* struct virtio_net_hdr, legacy layout, host byte order. */
struct vnet_hdr {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
_Static_assert(sizeof(struct vnet_hdr) == 10, "as on the descriptor");
/* Sets the packet's offload fields. DROP_NONE, or bad-offload: a segmentation type that was never agreed on. */
enum drop port_vnet_read(struct pkt *pkt, const struct vnet_hdr *hdr);
void port_vnet_write(const struct pkt *pkt, struct vnet_hdr *hdr);
/*
 * Receiving into slots before the length is known: a packet may fill up to n of them. port_take_slots() returns how many the
 * pool had; port_slots_iov() lays out iov for them; port_fill() makes the first ones, as many as `len` bytes need, *pkt's, and
 * returns that number, or 0 and a packet without slots when they don't suffice. The rest is still the caller's.
 */
uint32_t port_take_slots(struct pool *pool, uint32_t *slots, uint32_t n);
struct iovec;
void port_slots_iov(const struct arena *arena, const uint32_t *slots, uint32_t n, struct iovec *iov);
uint32_t port_fill(const struct arena *arena, const uint32_t *slots, uint32_t n, struct pkt *pkt, uint32_t len);
/* Why a packet of `len` bytes got no slots. */
static inline enum drop port_refused(uint32_t len) { return len > POOL_FRAME_MAX ? DROP_BAD_OFFLOAD : DROP_NO_SLOT; }

/* Memory ports, control thread, workers at rest. Slots of what is collected go to the pool. */
int port_mem_inject(struct port *port, const struct dp_frame *frame, const uint8_t *bytes);
int port_mem_collect(struct port *port, struct pool *pool, struct dp_frame *frame, uint8_t *bytes, uint32_t capacity);

#endif
