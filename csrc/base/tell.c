/* tell.c: what is wrong with a row, as text. */
#include "base/tell.h"
#include <stdarg.h>
#include <stdio.h>

int tell(const struct tell *where, int code, const char *format, ...)
{
    struct dp_change_error *error = where->error;
    va_list args;
    if (where->told)
        return code;
    error->section = where->section;
    error->row = where->row;
    va_start(args, format);
    int n = snprintf(error->text, sizeof error->text, "%s: ", where->row_name);
    vsnprintf(error->text + n, sizeof error->text - (size_t)n, format, args);
    va_end(args);
    return code;
}

int tell_no_memory(const struct tell *where, int code)
{
    return tell(where, code, code == DP_EFULL ? "too many of them" : "out of memory");
}

struct tell_text tell_address(unsigned family, const uint8_t *address)
{
    struct tell_text text;
    inet_ntop(family == DP_IPV4 ? AF_INET : AF_INET6, address, text.s, sizeof text.s);
    return text;
}
