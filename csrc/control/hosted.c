/*
 * hosted.c: what hangs on each host. In: a shared PA's way or a rewrite; out: its host's chain with it, or
 * without. Called by entry.c as entries come and go; paths.c reads the chains.
 */
#include "control/changes.h"

struct hosted *hosted_find(const struct tables_writer *w, uint32_t host)
{
    const uint64_t key = (uint64_t)host + 1;
    struct map_value value;
    return map_get(w->hosts, &key, &value) ? &w->hosted[value.act - 1] : NULL;
}

void hosted_touch(struct tables_writer *w, struct hosted *host)
{
    if (host->touched)
        return;
    host->touched = true;
    host->next_touched = w->touched;
    w->touched = (uint32_t)(host - &w->hosted[0]);
}

void hosted_link(struct change *change, uint32_t index, bool in)
{
    struct tables_writer *w = change->writer;
    struct way *way = &w->ways[index];
    struct hosted *host = hosted_find(w, change->next->next_hops[index].host);
    uint32_t *at = &host->first_way;
    while (*at != INDEX_NONE && w->ways[*at].order < way->order)
        at = &w->ways[*at].behind;
    if (in)
        way->behind = *at;
    *at = in ? index : way->behind;
    hosted_touch(w, host);
}

uint32_t hosted_shared(const struct tables_writer *w, const struct tables *t, uint32_t number,
                       unsigned family)
{
    const struct hosted *host = hosted_find(w, number);
    for (uint32_t at = host ? host->first_way : INDEX_NONE; at != INDEX_NONE; at = w->ways[at].behind)
        if (t->next_hops[at].family == family)
            return at;
    return INDEX_NONE;
}

void hosted_join(struct change *change, uint32_t index, bool in)
{
    struct tables_writer *w = change->writer;
    const struct rewrite *rewrite = &change->next->rewrites[index];
    struct bond *bond = &w->bonds[index];
    if (!change_is_remote(change, rewrite))
        return;
    struct hosted *host = hosted_find(w, rewrite->host);
    if (in) {
        bond->before = INDEX_NONE;
        bond->behind = host->first_rewrite;
    }
    uint32_t *at = bond->before == INDEX_NONE ? &host->first_rewrite : &w->bonds[bond->before].behind;
    *at = in ? index : bond->behind;
    if (bond->behind != INDEX_NONE)
        w->bonds[bond->behind].before = in ? index : bond->before;
    if (change_is_own(change->next, rewrite))
        change_way_ref(change, rewrite->next_hop, in ? 1 : -1);
}
