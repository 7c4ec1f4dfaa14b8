/*
 * tell.h: what is wrong with a row of a change set, as text. A code and a format in, dp_change_error out.
 * Called by control/, by whatever checks or applies.
 */
#ifndef TELL_H
#define TELL_H
#include <arpa/inet.h>
#include <stdbool.h>
#include "dp_api.h"

/* The row at work, and where to tell. */
struct tell {
    const char *row_name;
    uint32_t section, row;
    bool told;                      /* what was wrong is told already */
    struct dp_change_error *error;
};

/* Returns code. */
int tell(const struct tell *where, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int tell_no_memory(const struct tell *where, int code);
struct tell_text { char s[INET6_ADDRSTRLEN]; };
struct tell_text tell_address(unsigned family, const uint8_t *address);

#endif
