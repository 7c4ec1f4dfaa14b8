/*
 * paths.c: Provider Addresses, and the ways to them. A shared PA has a next hop: its header, its neighbour.
 * A rewrite PA uses that of its host's shared PA when both go the same way, else one of its own. Called by
 * changes.c and records.c.
 */
#include <stdatomic.h>
#include "control/changes.h"
#include "step/rewrite.h"
#include "step/nvgre.h"
#include "table/lookup.h"

bool path_find(const struct change *change, unsigned family, const uint8_t *pa, struct map_value *value)
{
    uint64_t key[3];
    key_pa(key, family, pa);
    return map_get(change->next->maps[pas_of(family)], key, value);
}

/* The rewrite PA's rewrite, NULL: it is none. */
static const struct rewrite *path_rewrite(const struct change *change, unsigned family, const uint8_t *pa)
{
    struct map_value value;
    bool is = path_find(change, family, pa, &value) && act_kind(value.act) == ACT_PA_REWRITE;
    return is ? &change->next->rewrites[act_index(value.act)] : NULL;
}

/* A host's entry stays, so that linking can't fail. */
static int path_host_ready(struct change *change, uint32_t host)
{
    const uint64_t key = (uint64_t)host + 1;
    if (hosted_find(change->writer, host))
        return DP_OK;
    int code = change_ready(change, HOSTS);
    if (code)
        return code;
    if (map_ready(change->writer->hosts))
        return tell_no_memory(&change->tell, DP_ENOMEM);
    uint32_t index = objects_make(&change->writer->objects[HOSTS]);
    change->writer->hosted[index] = (struct hosted){INDEX_NONE, INDEX_NONE, INDEX_NONE, true, false};
    return map_put(change->writer->hosts, &key, &(struct map_value){.act = index + 1}, NULL);
}

/* ---- headers ------------------------------------------------------------------------------------------- */

static struct next_hop path_header(const struct tables_writer *w, const struct tables *t,
                                   const struct next_hop *nh)
{
    struct next_hop made;
    memset(&made, 0, sizeof made);
    nvgre_template(&made, nh->family, tables_shared_pa(t, nh->family), nh->pa, w->underlay_mac);
    if (is_any(nh->family, tables_shared_pa(t, nh->family)))
        made.header_len = 0;
    return made;
}

/*
 * Headers don't change, but for this: this host's own PA or MAC is a new one. Readers find the next hop
 * closed (length 0) while its header is written.
 */
static bool path_set_headers(const struct tables_writer *w, const struct tables *t, bool write)
{
    bool changed = false;
    for (uint32_t i = 0; i < w->objects[NEXT_HOPS].used; i++) {
        struct next_hop *nh = &t->next_hops[i];
        if (!w->ways[i].refs)
            continue;
        struct next_hop made = path_header(w, t, nh);
        if (nvgre_same(nh, &made))
            continue;
        if (write)
            nvgre_set(nh, &made);
        else
            __atomic_store_n(&nh->header_len, 0, __ATOMIC_RELEASE);
        changed = true;
    }
    return changed;
}

void path_headers(struct control *control, struct tables_writer *w, const struct tables *t)
{
    if (path_set_headers(w, t, false))
        qsbr_wait(control->qsbr);
    path_set_headers(w, t, true);
}

void tables_underlay(struct control *control, const uint8_t *mac)
{
    struct tables *t = control_tables(control);
    memcpy(t->writer->underlay_mac, mac, 6);
    path_headers(control, t->writer, t);
    neigh_underlay(control->neigh, mac);
}

/* ---- provider next hops -------------------------------------------------------------------------------- */

/* The way joins the neighbour that is its provider next hop. */
static int path_use(struct control *control, struct tables_writer *w, const struct tables *t, uint32_t index)
{
    struct next_hop *nh = &t->next_hops[index];
    struct way *way = &w->ways[index];
    bool known = lookup_provider_hop(t, nh->family, nh->pa, way->hop);
    uint32_t neigh = known ? neigh_use(control->neigh, nh->family, way->hop, index) : INDEX_NONE;
    __atomic_store_n(&nh->neigh, neigh, __ATOMIC_RELEASE);
    if (neigh == INDEX_NONE)
        atomic_store(&nh->eth, 0);
    return known && neigh == INDEX_NONE ? DP_ENOMEM : DP_OK;
}

static bool path_must_move(const struct tables_writer *w, const struct tables *t, uint32_t index)
{
    uint8_t hop[16];
    const struct next_hop *nh = &t->next_hops[index];
    bool known = lookup_provider_hop(t, nh->family, nh->pa, hop), had = nh->neigh != INDEX_NONE;
    return known != had || (known && memcmp(hop, w->ways[index].hop, 16));
}

/* Provider next hops of all ways by the routes of `t`. DP_ENOMEM: some have none. */
static int path_resolve(struct control *control, struct tables_writer *w, const struct tables *t)
{
    bool released = false;
    int code = DP_OK;
    for (uint32_t i = 0; i < w->objects[NEXT_HOPS].used; i++) {
        struct way *way = &w->ways[i];
        const struct next_hop *nh = &t->next_hops[i];
        way->moving = way->refs && nh->host != t->self_host && path_must_move(w, t, i);
        if (!way->moving || nh->neigh == INDEX_NONE)
            continue;
        neigh_release(control->neigh, nh->neigh, i);
        released = true;
    }
    if (released)
        qsbr_wait(control->qsbr);      /* neigh.h: only then may a next hop that was released be used again */
    for (uint32_t i = 0; i < w->objects[NEXT_HOPS].used; i++)
        if (w->ways[i].moving && path_use(control, w, t, i))
            code = DP_ENOMEM;
    return code;
}

/* ---- making next hops and rewrites --------------------------------------------------------------------- */

/* One that nothing refers to: given up again if this fails. */
static int path_make_way(struct change *change, unsigned family, const uint8_t *pa, uint32_t host,
                         uint32_t *index)
{
    struct tables_writer *w = change->writer;
    int code = change_ready(change, NEXT_HOPS);
    if (code)
        return code;
    *index = objects_make(&w->objects[NEXT_HOPS]);
    struct next_hop *nh = &change->next->next_hops[*index];
    nh->family = (uint8_t)family;
    memcpy(nh->pa, pa, 16);
    *nh = path_header(w, change->next, nh);
    nh->host = host;
    nh->neigh = nh->sibling = INDEX_NONE;
    w->ways[*index].order = w->order++;
    if (host == change->next->self_host || path_use(change->control, w, change->next, *index) == DP_OK)
        return DP_OK;
    objects_drop(&w->objects[NEXT_HOPS], *index);
    return tell_no_memory(&change->tell, DP_ENOMEM);
}

/* Where a remote rewrite goes, INDEX_NONE: by a way of its own; *shared: for NVGRE to its CA. */
static uint32_t path_choose(const struct change *change, const struct rewrite *rewrite, uint32_t *shared)
{
    const struct tables_writer *w = change->writer;
    const struct tables *t = change->next;
    unsigned family = rewrite->family, other = family == DP_IPV4 ? DP_IPV6 : DP_IPV4;
    uint32_t same = hosted_shared(w, t, rewrite->host, family),
             across = hosted_shared(w, t, rewrite->host, other);
    bool across_only = same == INDEX_NONE || hosted_shared(w, t, t->self_host, family) == INDEX_NONE;
    *shared = same;
    if (across != INDEX_NONE && across_only && hosted_shared(w, t, t->self_host, other) != INDEX_NONE)
        *shared = across; /* 2.11.2 */
    bool alike = same != INDEX_NONE && tables_route(t, 0, family, t->next_hops[same].pa) ==
                                           tables_route(t, 0, family, rewrite->pa); /* 2.12.4 */
    return alike ? same : INDEX_NONE;
}

static const struct rewrite path_unbound;

/* Of a PA, by no way yet, like another in what it stands for. */
static uint32_t path_make_rewrite(struct change *change, const struct rewrite *like, const uint8_t *pa,
                                  uint8_t family, uint32_t host)
{
    uint32_t index = objects_make(&change->writer->objects[REWRITES]);
    struct rewrite *rewrite = &change->next->rewrites[index];
    *rewrite = *like;
    memcpy(rewrite->pa, pa, 16);
    rewrite->family = family;
    rewrite->host = host;
    rewrite->next_hop = rewrite->shared = INDEX_NONE;
    rewrite->delta = rewrite_delta(family, rewrite->pa, rewrite->ca);
    return index;
}

/* A rewrite of another host with a CA goes as it should; a way of its own is made if need be. */
static int path_find_ways(struct change *change, struct rewrite *rewrite)
{
    uint32_t shared, next_hop = path_choose(change, rewrite, &shared);
    int code = DP_OK;
    if (next_hop == INDEX_NONE && change_is_own(change->next, rewrite))
        next_hop = rewrite->next_hop;
    else if (next_hop == INDEX_NONE)
        code = path_make_way(change, rewrite->family, rewrite->pa, rewrite->host, &next_hop);
    if (code)
        return code;
    rewrite->next_hop = next_hop;
    rewrite->shared = shared;
    return DP_OK;
}

int path_rebind(struct change *change, uint32_t from, const struct rewrite *like, uint32_t *index)
{
    const struct rewrite *old = &change->next->rewrites[from];
    *index = path_make_rewrite(change, like, old->pa, old->family, old->host);
    struct rewrite *rewrite = &change->next->rewrites[*index];
    int code = change_is_remote(change, rewrite) ? path_find_ways(change, rewrite) : DP_OK;
    change->writer->bonds[*index].moved = change->writer->bonds[from].moved;
    if (code) {
        objects_drop(&change->writer->objects[REWRITES], *index);
        return code;
    }
    const struct map_value value = {.act = tables_pa_act(change->next, rewrite->host, *index)};
    uint64_t key[3];
    key_pa(key, rewrite->family, rewrite->pa);
    change_entry(change, pas_of(rewrite->family), key, &value);
    return DP_OK;
}

void path_unbind(struct change *change, unsigned family, const uint8_t *pa, uint32_t vsid, const uint8_t *ca)
{
    const struct rewrite *bound = path_rewrite(change, family, pa);
    uint32_t made;
    if (!bound || bound->vsid != vsid || memcmp(bound->ca, ca, 16))
        return;
    /* For no CA: it does not fail. */
    path_rebind(change, (uint32_t)(bound - change->next->rewrites), &path_unbound, &made);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static bool path_is_shared(uint32_t act)
{
    return act_kind(act) == ACT_PA_HOST || act_kind(act) == ACT_PA_SELF;
}

/* In a PA's inverse: its order stands where a row's padding is. */
enum { PATH_ORDER = offsetof(struct dp_row_pa, pad) + 1 };
_Static_assert(PATH_ORDER % 8 == 0 && PATH_ORDER + 8 == sizeof(struct dp_row_pa), "a word of padding");

void path_remember(const struct change *change, struct inverse *back)
{
    if (path_is_shared(back->act))
        memcpy((uint8_t *)(back + 1) + PATH_ORDER, &change->writer->ways[act_index(back->act)].order, 8);
}

/* Whose change set the PA moved in, if it did: such a one can't go in the same. */
static uint32_t *path_moved(const struct change *change, uint32_t act)
{
    const uint32_t index = act_index(act);
    return path_is_shared(act) ? &change->writer->ways[index].moved : &change->writer->bonds[index].moved;
}

static int path_make_shared(struct change *change, const struct dp_row_pa *row, uint32_t was, uint32_t *act)
{
    const uint32_t index = act_index(was);
    const struct next_hop *nh = &change->next->next_hops[index];
    bool same =
        was && nh->host == row->host && nh->family == row->family && !memcmp(nh->pa, row->address, 16);
    uint32_t made;
    *act = was;
    if (same && change->writer->ways[index].refs)
        return DP_OK;
    int code = path_make_way(change, row->family, row->address, row->host, &made);
    if (code == DP_OK && was)
        memcpy(&change->writer->ways[made].order, (const uint8_t *)row + PATH_ORDER, 8);
    *act = act_make(row->host == change->next->self_host ? ACT_PA_SELF : ACT_PA_HOST, made);
    return code;
}

/*
 * On the way back a PA becomes what it was: the very same as long as there are records of it, else one of
 * the same order, or one that stands for the same CA if that lives here, whose record does not refer to it.
 */
static int path_make_pa(struct change *change, const struct dp_row_pa *row, uint32_t *act)
{
    const uint32_t was = change->restoring ? change->back->act : ACT_NONE, index = act_index(was);
    if (row->kind == DP_PA_SHARED)
        return path_make_shared(change, row, was, act);
    const struct rewrite *old = &change->next->rewrites[index], *like = &path_unbound;
    bool same =
        was && old->host == row->host && old->family == row->family && !memcmp(old->pa, row->address, 16);
    *act = was;
    if (same && change->writer->bonds[index].refs)
        return DP_OK;
    like = same && !change_is_remote(change, old) ? old : like;
    const uint32_t made = path_make_rewrite(change, like, row->address, row->family, row->host);
    *act = tables_pa_act(change->next, row->host, made);
    return DP_OK;
}

static bool path_same(const struct tables *t, const struct dp_row_pa *row, uint32_t act)
{
    if (act_kind(act) == ACT_PA_REWRITE)
        return row->kind == DP_PA_REWRITE && t->rewrites[act_index(act)].host == row->host;
    return act && row->kind == DP_PA_SHARED && t->next_hops[act_index(act)].host == row->host;
}

static int path_check_row(struct change *change, const struct dp_row_pa *row)
{
    const struct tell *where = &change->tell;
    int code = check_family(where, "family", row->family);
    if (code || (code = check_unicast(where, "address", row->family, row->address)) ||
        (!change->restoring && (code = check_zero(where, row->pad, sizeof row->pad))) ||
        (code = check_host(where, row->host)))
        return code;
    if (row->kind != DP_PA_SHARED && row->kind != DP_PA_REWRITE)
        return tell(where, DP_EINVAL, "unknown kind %u", row->kind);
    if (row->prefix_len > addr_bits(row->family))
        return tell(where, DP_EINVAL, "prefix_len %u is too long", row->prefix_len);
    return DP_OK;
}

int pa_put(struct change *change, const void *p)
{
    const struct dp_row_pa *row = p;
    struct map_value value = {0};
    int code = path_check_row(change, row);
    if (code)
        return code;
    if (path_same(change->next, row, change->at.value.act)) {
        change->back->op = 0;           /* nothing to put back, wherever the PA goes in the same change set */
        return DP_OK;
    }
    if ((code = path_host_ready(change, row->host)) || (code = path_make_pa(change, row, &value.act)))
        return code;
    if (change->at.value.act && !change->restoring) {
        change->back->moved = change->moved = true;
        *path_moved(change, value.act) = change->writer->changes;
    }
    change_entry(change, change->at.table, change->key, &value);
    return DP_OK;
}

int pa_del(struct change *change, const void *p)
{
    const struct dp_row_pa *row = p;
    const uint32_t old = change->at.value.act, index = act_index(old);
    int code = check_family(&change->tell, "family", row->family);
    if (code || (code = check_address(&change->tell, "address", row->family, row->address)))
        return code;
    const struct tell_text text = tell_address(row->family, row->address);
    if (!old)
        return tell(&change->tell, DP_ENOENT, "no PA %s", text.s);
    if (path_is_shared(old) ? change->writer->ways[index].refs > 1 : change->next->rewrites[index].vsid != 0)
        return tell(&change->tell, DP_EINVAL, "PA %s is still used by records", text.s);
    if (change->moved && !change->restoring && *path_moved(change, old) == change->writer->changes)
        return tell(&change->tell, DP_EINVAL, "PA %s has moved in this change set: it can't go in the same",
                    text.s);
    change_entry(change, change->at.table, change->key, NULL);
    return DP_OK;
}

/* ---- the end of a change set --------------------------------------------------------------------------- */

/* A local record says that this PA is its own, but it no longer is. */
static bool path_local_stale(const struct change *change, const struct rewrite *old)
{
    const struct draft *draft = policy_draft(change, old->port);
    if (!draft || draft->vsid != old->vsid)
        return false;
    const struct port_source *source = policy_own_of(draft, old->family, old->ca);
    if (!source || !source->has_pa || memcmp(source->pa, old->pa, 16))
        return false;
    const struct rewrite *now = path_rewrite(change, old->family, old->pa);
    return !now || now->vsid != old->vsid || now->host != old->host || memcmp(now->ca, old->ca, 16);
}

/* By the end of the change set nothing may use what a PA was before it moved. */
static int path_check_moved(struct change *change, const struct inverse *back)
{
    const uint32_t index = act_index(back->act);
    const struct rewrite *rewrite = &change->next->rewrites[index];
    bool used;
    if (path_is_shared(back->act))
        used = change->writer->ways[index].refs != 0;
    else if (rewrite->host == change->next->self_host)
        used = rewrite->vsid && path_local_stale(change, rewrite);
    else
        used = change->writer->bonds[index].refs != 0;
    if (!used)
        return DP_OK;
    change->tell.row_name = "PA";
    change->tell.section = back->section;
    change->tell.row = back->row;
    return tell(&change->tell, DP_EINVAL, "host or kind changed, but records of the old one are left");
}

/* Its record has the way, too. */
static void path_tell_record(const struct change *change, uint32_t index)
{
    const struct rewrite *rewrite = &change->next->rewrites[index];
    struct map *records = change->next->maps[records_of(rewrite->family)];
    struct map_value value;
    uint64_t key[3];
    key_record(key, rewrite->vsid, rewrite->family, rewrite->ca);
    if (!map_get(records, key, &value) || value.act != act_make(ACT_REWRITE, index))
        return;
    tables_rewrite_value(&value, rewrite);
    map_put(records, key, &value, NULL);        /* a key that is there: it does not fail */
}

/* A remote rewrite in use may now go another way: it does so at once, whoever reads it. */
static int path_refresh(struct change *change, uint32_t index)
{
    struct rewrite *rewrite = &change->next->rewrites[index];
    const uint32_t old = rewrite->next_hop;
    bool was_own = change_is_own(change->next, rewrite);
    int code = path_find_ways(change, rewrite);
    change->writer->visited++;
    if (code || rewrite->next_hop == old)
        return code;
    path_tell_record(change, index);
    if (change_is_own(change->next, rewrite))
        change_way_ref(change, rewrite->next_hop, 1);
    if (was_own)
        change_way_ref(change, old, -1);
    return DP_OK;
}

static int path_refresh_host(struct change *change, struct hosted *host)
{
    const struct tables_writer *w = change->writer;
    for (uint32_t i = host->first_rewrite; i != INDEX_NONE; i = w->bonds[i].behind) {
        int code = path_refresh(change, i);
        if (code)
            return code;
    }
    host->touched = false;
    return DP_OK;
}

/*
 * This host's first shared PAs. True: it has one of a family now, or no longer, which matters to every
 * rewrite.
 */
static bool path_own_pas(struct change *change)
{
    struct tables *t = change->next;
    bool *had = change->writer->own_shared, other = false;
    for (unsigned six = 0; six < 2; six++) {
        static const uint8_t none[16];
        uint8_t *own = six ? t->shared_pa6 : t->shared_pa4;
        uint32_t index = hosted_shared(change->writer, t, t->self_host, six ? DP_IPV6 : DP_IPV4);
        const uint8_t *now = index == INDEX_NONE ? none : t->next_hops[index].pa;
        change->own_pas |= memcmp(own, now, 16) != 0;
        memcpy(own, now, 16);
        other |= had[six] != (index != INDEX_NONE);
        had[six] = index != INDEX_NONE;
    }
    return other;
}

/*
 * Rewrites look for new ways where something changed: at all hosts, if it was routes or whether this host
 * has a PA.
 */
int path_finish(struct change *change)
{
    struct tables_writer *w = change->writer;
    int code = DP_OK;
    size_t at = change->inverse_at;
    for (struct inverse *back;
         change->moved && !change->restoring && !code && (back = change_inverse(change, &at));)
        code = back->moved ? path_check_moved(change, back) : DP_OK;
    if (code == DP_OK && change->provider_routes && path_resolve(change->control, w, change->next))
        code = tell_no_memory(&change->tell, DP_ENOMEM);
    bool all = path_own_pas(change) || change->provider_routes;
    for (uint32_t i = 0; all && i < w->objects[HOSTS].used; i++)
        if (w->hosted[i].made)
            hosted_touch(w, &w->hosted[i]);
    while (code == DP_OK && w->touched != INDEX_NONE) {
        struct hosted *host = &w->hosted[w->touched];
        code = path_refresh_host(change, host);
        w->touched = code ? w->touched : host->next_touched;
    }
    return code;
}
