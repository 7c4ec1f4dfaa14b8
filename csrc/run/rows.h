/*
 * rows.h: all rows that the tables hold, their digest, and whether they are those of a change set: the bodies
 * of dp_rows_read(), dp_digest_...() and dp_rows_check(). Called by api.c. Control thread; nothing here
 * writes to a table.
 */
#ifndef ROWS_H
#define ROWS_H
#include "table/tables.h"

int64_t tables_rows(const struct tables *tables, uint32_t kind, uint8_t *out, size_t capacity);
int tables_check(const struct tables *tables, const uint8_t *change_set, size_t len,
                 struct dp_change_error *error);
void tables_digest_begin(const struct tables *tables);
int tables_digest_step(const struct tables *tables, uint64_t rows, uint64_t *out);

#endif
