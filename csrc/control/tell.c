/*
 * tell.c: what is wrong with a change set, as text. In: a code and a format; out: dp_change_error. Called
 * by whatever checks or applies.
 */
#include <stdarg.h>
#include <stdio.h>
#include "control/changes.h"

int change_fail(struct change *change, int code, const char *format, ...)
{
    char text[sizeof change->error->text];
    va_list args;
    if (change->restoring)          /* what was wrong is told already */
        return code;
    va_start(args, format);
    int n = snprintf(text, sizeof text, "%s: ", change->row_name);
    vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    return outline_fail(change->error, change->section, change->row, code, text);
}

int change_no_memory(struct change *change, int code)
{
    return change_fail(change, code, code == DP_EFULL ? "too many of them" : "out of memory");
}

struct change_text change_address(unsigned family, const uint8_t *address)
{
    struct change_text text;
    inet_ntop(family == DP_IPV4 ? AF_INET : AF_INET6, address, text.s, sizeof text.s);
    return text;
}
