/*
 * outline.h: a change set as bytes: its header, sections and rows (dp_api.h). Bytes in, an outline or what
 * is wrong with them out. Called by control/, which applies it, and run/, which compares it with the tables.
 */
#ifndef OUTLINE_H
#define OUTLINE_H
#include <stddef.h>
#include <stdint.h>
#include "dp_api.h"

enum { ROW_KINDS = DP_ROW_FLOOD + 1 };
extern const size_t row_sizes[ROW_KINDS];   /* by enum dp_row_kind */

/* What a change set holds. */
struct outline {
    const struct dp_change_header *header;
    uint64_t rows;
    size_t bytes;                   /* of all rows */
    uint64_t records[2];            /* to put, by family; estimated */
};

/* 0, or the error is told: the bytes are no change set. What its rows say is not looked at. */
int outline_of(struct outline *outline, const uint8_t *bytes, size_t len, struct dp_change_error *error);
/* Of as many rows as its count says. */
static inline const void *outline_row(const struct dp_section *section, uint32_t row)
{
    return (const uint8_t *)(section + 1) + row * row_sizes[section->kind];
}
static inline const struct dp_section *outline_next(const struct dp_section *section)
{
    return outline_row(section, section->count);
}

/* Returns code. */
int outline_fail(struct dp_change_error *error, uint32_t section, uint32_t row, int code, const char *text);

#endif
