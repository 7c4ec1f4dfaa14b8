/*
 * row.h: rows of dp_api.h out of what the tables hold, in canonical form. An entry, or a row's key, in; the
 * row out. Called by control/, for what a row replaces, and by run/, which reads and compares rows.
 */
#ifndef ROW_H
#define ROW_H
#include "base/outline.h"
#include "table/tables.h"

union table_row {
    struct dp_row_pa pa;
    struct dp_row_provider_route provider_route;
    struct dp_row_subnet subnet;
    struct dp_row_prefix prefix;
    struct dp_row_port port;
    struct dp_row_source source;
    struct dp_row_record record;
    struct dp_row_route route;
    struct dp_row_move move;
    struct dp_row_flood flood;
};

/* By kind: the maps whose entries are its rows. Rows of policies have none: the last is before the first. */
struct row_maps { enum table first, last; };
extern const struct row_maps row_maps[ROW_KINDS];

/* An entry. Act 0: there is none of the key. */
struct row_entry {
    enum table table;
    const uint64_t *key;
    struct map_value value;
};

/*
 * Into *row, which is all 0. False: the entry is no row of the kind. What PA a local record has says its
 * port: row_own().
 */
bool row_of_entry(const struct tables *tables, uint16_t kind, const struct row_entry *entry,
                  union table_row *row);
/* own: the record's CA among its port's sources, NULL: it is none. */
void row_own(struct dp_row_record *record, const struct port_source *own);
void row_port(uint32_t port, uint32_t vsid, const uint8_t *mac, const struct port_limit *limit,
              union table_row *row);
/* False: an own CA, which is a record's. */
bool row_source(uint32_t port, const struct port_source *source, union table_row *row);

/* Of kinds that have maps: where the row is, by its key, which any bytes are. Room for three words. */
enum table row_key(const struct tables *tables, uint16_t kind, const union table_row *row, uint64_t *key);
struct row_entry row_find(const struct tables *tables, uint16_t kind, const union table_row *like,
                          uint64_t *key);

#endif
