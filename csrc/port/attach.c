/* attach.c: ports of all kinds from what dp_api.h says of them. */
#include "port/attach.h"
#include <errno.h>
#include <stdlib.h>

static bool attach_queues_ok(const struct dp_port_config *config)
{
    if (config->kind == DP_PORT_MEM)
        return config->queues == 0;
    if (config->queues > DP_MAX_QUEUES || config->xsks > DP_MAX_QUEUES)
        return false;
    for (uint32_t q = 0; q < config->queues + config->xsks; q++)
        if (config->fds[q] < 0)
            return false;
    if (config->kind < DP_PORT_TAP || config->kind > DP_PORT_XDP)
        return false;
    return config->queues >= 1 && (config->kind == DP_PORT_XDP) == (config->xsks != 0);
}

bool attach_config_ok(const struct dp_port_config *config)
{
    const uint32_t gso = DP_OFFLOAD_TSO4 | DP_OFFLOAD_TSO6 | DP_OFFLOAD_USO;
    const uint32_t of_gso = DP_OFFLOAD_MERGE | DP_OFFLOAD_NVGRE;
    const uint32_t all = config->kind == DP_PORT_XDP ? DP_XDP_SG : DP_OFFLOAD_CSUM | gso | of_gso;
    bool fits = config->offloads & DP_OFFLOAD_CSUM || !(config->offloads & gso);
    fits &= config->offloads & gso || !(config->offloads & of_gso);
    return memchr(config->name, 0, DP_NAME_LEN) && attach_queues_ok(config) && config->mtu >= 68 &&
           config->mtu <= 65535 && !(config->offloads & ~all) && fits && !mac_is_group(config->mac);
}

static int (*const attach_kinds[])(struct port *port) = {
    [DP_PORT_MEM] = port_mem_attach, [DP_PORT_TAP] = port_tap_attach, [DP_PORT_PACKET] = port_packet_attach,
    [DP_PORT_XDP] = port_xdp_attach,
};

int attach_port(struct arena *arena, uint32_t workers, uint32_t id, const struct dp_port_config *config,
                struct port **out)
{
    /* Each worker's socket of either kind is its own: port_xdp.c. */
    if (config->xsks && (config->queues != workers || config->xsks > workers))
        return DP_EINVAL;
    struct port *port = calloc(1, sizeof *port);
    if (!port)
        return DP_ENOMEM;
    port->arena = arena;
    port->workers = workers;
    port->id = id;
    port->kind = (uint8_t)config->kind;
    port->caps = config->offloads;
    port->mtu = config->mtu;
    port->queues = config->queues;
    port->xsks = config->xsks;
    memcpy(port->mac, config->mac, sizeof port->mac);
    memcpy(port->name, config->name, sizeof port->name);
    for (uint32_t q = 0; q < DP_MAX_FDS; q++)
        port->fds[q] = q < config->queues + config->xsks ? config->fds[q] : -1;
    int error = attach_kinds[port->kind](port);
    if (error) {
        int why = errno;
        free(port);
        errno = why;
        return error;
    }
    *out = port;
    return DP_OK;
}
