/*
 * port.h: what a kind of port must do. port_mem.c, port_pcap.c, port_tap.c and port_packet.c each fill in one port_ops.
 *
 * rx gives packets of one slot chain each, frame at data with POOL_HEADROOM before it in the first slot, `time` and `in_port`
 * set, offload fields validated as far as the kernel's header goes (parse.c checks them against the packet). It counts
 * received, rx_bytes, rx_gso and rx_csum_partial, and drops what it can't take (short of slots: no-slot).
 * tx takes every packet it is given: it counts sent (or drops: tx-full, tx-error) and frees the slots. Packets stand in order.
 */
#ifndef PORT_H
#define PORT_H
#include "pkt.h"
#include "stats.h"

struct worker;
struct port;

struct port_ops {
    void (*rx)(struct port *port, struct worker *worker, struct batch *batch);          /* up to worker->batch_limit packets */
    void (*tx)(struct port *port, struct worker *worker, struct pkt *const *pkts, uint32_t n);
    void (*detach)(struct port *port);
};

struct port {
    const struct port_ops *ops;
    void *state;                        /* of the kind */
    uint32_t id;
    uint32_t offloads;                  /* enum dp_offload */
    uint32_t mtu;
    uint32_t queues;
    int fds[DP_MAX_QUEUES];             /* queue q belongs to worker q % workers; a worker sends by queue id % queues */
    uint8_t mac[6];
    uint8_t kind;
    char name[DP_NAME_LEN];
};

/* Each returns 0 or a DP_E code and sets port->ops and port->state. `config` was checked. */
int port_mem_attach(struct port *port, const struct dp_port_config *config);
int port_pcap_attach(struct port *port, const struct dp_port_config *config);
int port_tap_attach(struct port *port, const struct dp_port_config *config);
int port_packet_attach(struct port *port, const struct dp_port_config *config);

#endif
