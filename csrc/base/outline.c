/* outline.c: what bytes a change set has, before any of it is applied or checked. */
#include "base/outline.h"
#include <stdio.h>

enum { OUTLINE_SAMPLES = 1024 };

const size_t row_sizes[ROW_KINDS] = {
    [DP_ROW_PA] = sizeof(struct dp_row_pa),
    [DP_ROW_PROVIDER_ROUTE] = sizeof(struct dp_row_provider_route),
    [DP_ROW_SUBNET] = sizeof(struct dp_row_subnet),
    [DP_ROW_PREFIX] = sizeof(struct dp_row_prefix),
    [DP_ROW_PORT] = sizeof(struct dp_row_port),
    [DP_ROW_SOURCE] = sizeof(struct dp_row_source),
    [DP_ROW_RECORD] = sizeof(struct dp_row_record),
    [DP_ROW_ROUTE] = sizeof(struct dp_row_route),
    [DP_ROW_MOVE] = sizeof(struct dp_row_move),
    [DP_ROW_FLOOD] = sizeof(struct dp_row_flood),
};
_Static_assert(sizeof(struct dp_change_header) == 24 && sizeof(struct dp_section) == 8,
               "rows are 8-byte aligned");
_Static_assert(sizeof(struct dp_row_pa) == 32 && sizeof(struct dp_row_provider_route) == 40 &&
                   sizeof(struct dp_row_subnet) == 16 && sizeof(struct dp_row_prefix) == 40 &&
                   sizeof(struct dp_row_port) == 40 && sizeof(struct dp_row_source) == 24 &&
                   sizeof(struct dp_row_record) == 64 && sizeof(struct dp_row_route) == 48 &&
                   sizeof(struct dp_row_move) == 32 && sizeof(struct dp_row_flood) == 32,
               "rows without holes");

int outline_fail(struct dp_change_error *error, uint32_t section, uint32_t row, int code, const char *text)
{
    error->section = section;
    error->row = row;
    snprintf(error->text, sizeof error->text, "%s", text);
    return code;
}

/* Of a section's records, how many are IPv6: from a sample. */
static void outline_records(struct outline *outline, const struct dp_row_record *rows, uint32_t count)
{
    uint32_t step = count / OUTLINE_SAMPLES + 1, n = 0, v6 = 0;
    for (uint32_t i = 0; i < count; i += step, n++)
        v6 += rows[i].family == DP_IPV6;
    outline->records[1] += (uint64_t)count * v6 / n;
    outline->records[0] += count - (uint64_t)count * v6 / n;
}

static int outline_section(struct outline *outline, const uint8_t *at, size_t left, uint32_t index,
                           struct dp_change_error *error, size_t *len)
{
    const struct dp_section *section = (const struct dp_section *)at;
    if (left < sizeof *section)
        return outline_fail(error, index, 0, DP_EFORMAT, "the change set ends before this section");
    if (section->kind == 0 || section->kind >= ROW_KINDS)
        return outline_fail(error, index, 0, DP_EFORMAT, "unknown kind of row");
    if (section->op != DP_PUT && section->op != DP_DEL)
        return outline_fail(error, index, 0, DP_EFORMAT, "op is neither put nor delete");
    *len = sizeof *section + section->count * row_sizes[section->kind];
    if (left < *len)
        return outline_fail(error, index, 0, DP_EFORMAT,
                            "the change set ends before the last row of this section");
    outline->rows += section->count;
    outline->bytes += section->count * row_sizes[section->kind];
    if (section->kind == DP_ROW_RECORD && section->op == DP_PUT && section->count)
        outline_records(outline, (const struct dp_row_record *)(at + sizeof *section), section->count);
    return DP_OK;
}

int outline_of(struct outline *outline, const uint8_t *bytes, size_t len, struct dp_change_error *error)
{
    const struct dp_change_header *header = (const struct dp_change_header *)bytes;
    if ((uintptr_t)bytes % 8)
        return outline_fail(error, 0, 0, DP_EINVAL, "the change set is not 8-byte aligned in memory");
    if (len < sizeof *header)
        return outline_fail(error, 0, 0, DP_EFORMAT, "shorter than its header");
    if (header->magic != DP_CHANGE_MAGIC || header->version != DP_CHANGE_VERSION)
        return outline_fail(error, 0, 0, DP_EFORMAT, "not a change set of this version");
    if (header->flags & ~DP_CHANGE_ATOMIC || header->pad)
        return outline_fail(error, 0, 0, DP_EFORMAT, "unknown flags");
    *outline = (struct outline){.header = header};
    size_t at = sizeof *header;
    for (uint32_t i = 0; i < header->sections; i++) {
        size_t section_len = 0;
        int code = outline_section(outline, bytes + at, len - at, i, error, &section_len);
        if (code)
            return code;
        at += section_len;
    }
    return at == len ? DP_OK
                     : outline_fail(error, header->sections, 0, DP_EFORMAT, "bytes behind the last section");
}
