/*
 * attach.h: makes a port. What dp_port_attach() was given in, a port whose kind is ready out. Called by the
 * engine.
 */
#ifndef ATTACH_H
#define ATTACH_H
#include "port/port.h"

bool attach_config_ok(const struct dp_port_config *config);
/* Of a config that is. 0, DP_ENOMEM, or what the kind says: DP_ESYS, errno. */
int attach_port(struct arena *arena, uint32_t workers, uint32_t id, const struct dp_port_config *config,
                struct port **port);

#endif
