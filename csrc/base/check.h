/* check.h: fields of rows (dp_api.h). Bytes in; out: 0, or the error is told. Called by control/. */
#ifndef CHECK_H
#define CHECK_H
#include <stddef.h>
#include "base/tell.h"

int check_family(const struct tell *where, const char *field, unsigned family);
/* The bytes beyond a family's length are 0. */
int check_address(const struct tell *where, const char *field, unsigned family, const uint8_t *address);
int check_unicast(const struct tell *where, const char *field, unsigned family, const uint8_t *address);
int check_prefix(const struct tell *where, unsigned family, const uint8_t *prefix, unsigned len);
int check_zero(const struct tell *where, const uint8_t *pad, size_t len);
int check_mac(const struct tell *where, const uint8_t *mac);
int check_vsid(const struct tell *where, uint32_t vsid);
int check_port(const struct tell *where, uint32_t port);
int check_host(const struct tell *where, uint32_t host);

#endif
