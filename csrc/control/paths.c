/*
 * paths.c: Provider Addresses, and the ways to them. A shared PA has a next hop: its header, its neighbour. A rewrite PA uses that of its
 * host's shared PA when both go the same way, else one of its own.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include "control/changes.h"
#include "step/nvgre.h"
#include "base/qsbr.h"

static enum table pas_of(unsigned family) { return family == DP_IPV4 ? TABLE_PAS4 : TABLE_PAS6; }

bool path_find(const struct change *change, unsigned family, const uint8_t *pa, struct map_value *value)
{
    uint64_t key[3];
    key_pa(key, family, pa);
    return change_get(change, pas_of(family), key, value);
}

static int set_pa(struct change *change, unsigned family, const uint8_t *pa, uint32_t act, struct map_value *old)
{
    uint64_t key[3];
    key_pa(key, family, pa);
    return change_entry(change, pas_of(family), key, act ? &(struct map_value){.act = act} : NULL, old);
}

static const uint8_t *shared_pa(const struct tables *t, unsigned family)
{
    return family == DP_IPV4 ? t->shared_pa4 : t->shared_pa6;
}

/* ---- the shared PAs of each host, in the order in which they were put -------------------------------------------- */

static uint32_t host_first(const struct tables_writer *w, uint32_t host)
{
    const uint64_t key = (uint64_t)host + 1;
    struct map_value value;
    return map_get(w->hosts, &key, &value) && value.act != HOST_EMPTY ? value.act : 0;
}

/* A host's entry stays, so that linking can't fail. */
static int host_set(struct tables_writer *w, uint32_t host, uint32_t first)
{
    const uint64_t key = (uint64_t)host + 1;
    return map_put(w->hosts, &key, &(struct map_value){.act = first ? first : HOST_EMPTY}, NULL);
}

void path_link(struct change *change, uint32_t index, bool in)
{
    struct tables_writer *w = change->writer;
    struct way *way = change_way(w, index);
    uint32_t host = change->next->next_hops[index].host, first = host_first(w, host), *at = &first;
    while (*at && change_way(w, *at - 1)->order < way->order)
        at = &change_way(w, *at - 1)->behind;
    if (in) {
        way->behind = *at;
        *at = index + 1;
    } else {
        *at = way->behind;
    }
    host_set(w, host, first);
}

/* Index of the host's first shared PA of a family, POOL_NONE: it has none. */
static uint32_t host_shared(const struct tables_writer *w, const struct tables *t, uint32_t host, unsigned family)
{
    for (uint32_t at = host_first(w, host); at; at = change_way(w, at - 1)->behind)
        if (t->next_hops[at - 1].family == family)
            return at - 1;
    return POOL_NONE;
}

/* ---- headers ----------------------------------------------------------------------------------------------------- */

static struct next_hop header_of(const struct tables_writer *w, const struct tables *t, const struct next_hop *nh)
{
    struct next_hop made;
    memset(&made, 0, sizeof made);
    nvgre_template(&made, nh->family, shared_pa(t, nh->family), nh->pa, w->underlay_mac);
    if (is_any(nh->family, shared_pa(t, nh->family)))
        made.header_len = 0;
    return made;
}

/* All but the eth word, which is the neighbour's. */
static bool header_same(const struct next_hop *a, const struct next_hop *b)
{
    return a->header_len == b->header_len && !memcmp(a->header + 8, b->header + 8, sizeof a->header - 8);
}

/*
 * Headers don't change, but for this: this host's own PA or MAC is a new one. Readers find the next hop closed (length 0) while
 * its header is written.
 */
static bool set_headers(const struct tables_writer *w, const struct tables *t, bool write)
{
    bool changed = false;
    for (uint32_t i = 0; i < w->next_hops.used; i++) {
        struct next_hop *nh = &t->next_hops[i];
        if (!change_way(w, i)->refs)
            continue;
        struct next_hop made = header_of(w, t, nh);
        if (header_same(nh, &made))
            continue;
        if (write) {
            __atomic_store_n(next_hop_rest_word(nh), *next_hop_rest_word(&made), __ATOMIC_RELAXED);
            memcpy(nh->header + 12, made.header + 12, sizeof nh->header - 12);
            nh->sum = made.sum;
        }
        __atomic_store_n(&nh->header_len, write ? made.header_len : 0, __ATOMIC_RELEASE);
        changed = true;
    }
    return changed;
}

void path_headers(struct control *control, struct tables_writer *w, const struct tables *t)
{
    if (set_headers(w, t, false))
        qsbr_wait(control->qsbr);
    set_headers(w, t, true);
}

void tables_underlay(struct control *control, const uint8_t *mac)
{
    struct tables *t = control_tables(control);
    memcpy(t->writer->underlay_mac, mac, 6);
    path_headers(control, t->writer, t);
    neigh_underlay(control->neigh, mac);
}

/* ---- provider next hops ------------------------------------------------------------------------------------------ */

/* The provider next hop by the routes of now; false: there is none. */
static bool find_hop(const struct tables *t, const struct next_hop *nh, uint8_t hop[16])
{
    uint32_t route = tables_route(t, 0, nh->family, nh->pa);
    if (route)
        memcpy(hop, act_kind(route) == ACT_VIA ? t->vias[act_index(route)].ca : nh->pa, 16);
    return route != 0;
}

/* The way joins the neighbour that is its provider next hop. */
static int use_hop(struct control *control, struct tables_writer *w, const struct tables *t, uint32_t index)
{
    struct next_hop *nh = &t->next_hops[index];
    struct way *way = change_way(w, index);
    bool known = find_hop(t, nh, way->hop);
    uint32_t neigh = known ? neigh_use(control->neigh, nh->family, way->hop, index) : POOL_NONE;
    __atomic_store_n(&nh->neigh, neigh, __ATOMIC_RELEASE);
    if (neigh == POOL_NONE)
        atomic_store(&nh->eth, 0);
    return known && neigh == POOL_NONE ? DP_ENOMEM : DP_OK;
}

static bool must_move(const struct tables_writer *w, const struct tables *t, uint32_t index)
{
    uint8_t hop[16];
    bool known = find_hop(t, &t->next_hops[index], hop), had = t->next_hops[index].neigh != POOL_NONE;
    return known != had || (known && memcmp(hop, change_way(w, index)->hop, 16));
}

int path_resolve(struct control *control, struct tables_writer *w, const struct tables *t)
{
    bool released = false;
    int code = DP_OK;
    for (uint32_t i = 0; i < w->next_hops.used; i++) {
        struct way *way = change_way(w, i);
        const struct next_hop *nh = &t->next_hops[i];
        way->moving = way->refs && nh->host != t->self_host && must_move(w, t, i);
        if (!way->moving || nh->neigh == POOL_NONE)
            continue;
        neigh_release(control->neigh, nh->neigh, i);
        released = true;
    }
    if (released)
        qsbr_wait(control->qsbr);      /* neigh.h: only then may a next hop that was released be used again */
    for (uint32_t i = 0; i < w->next_hops.used; i++)
        if (change_way(w, i)->moving && use_hop(control, w, t, i))
            code = DP_ENOMEM;
    return code;
}

/* ---- making next hops and rewrites ------------------------------------------------------------------------------- */

static int make_way(struct change *change, unsigned family, const uint8_t *pa, uint32_t host, uint32_t *index)
{
    struct tables_writer *w = change->writer;
    int code = objects_make(&w->next_hops, index);
    if (code)
        return change_no_memory(change, code);
    struct next_hop *nh = &change->next->next_hops[*index];
    struct way *way = change_way(w, *index);
    nh->family = (uint8_t)family;
    memcpy(nh->pa, pa, 16);
    *nh = header_of(w, change->next, nh);
    nh->host = host;
    nh->neigh = nh->sibling = POOL_NONE;
    way->order = w->order++;
    if (host != change->next->self_host && use_hop(change->control, w, change->next, *index))
        return change_no_memory(change, DP_ENOMEM);
    return DP_OK;
}

/* Where a remote rewrite goes: ways, and whether its own is needed (next_hop POOL_NONE). */
struct choice {
    uint32_t next_hop, shared;
};

static struct choice choose(const struct change *change, const struct rewrite *rewrite)
{
    const struct tables_writer *w = change->writer;
    const struct tables *t = change->next;
    const uint32_t self = change->next->self_host;
    unsigned family = rewrite->family, other = family == DP_IPV4 ? DP_IPV6 : DP_IPV4;
    uint32_t same = host_shared(w, t, rewrite->host, family), across = host_shared(w, t, rewrite->host, other);
    struct choice choice = {POOL_NONE, same};
    bool across_only = same == POOL_NONE || host_shared(w, t, self, family) == POOL_NONE;
    if (across != POOL_NONE && across_only && host_shared(w, t, self, other) != POOL_NONE)
        choice.shared = across;
    if (same != POOL_NONE && tables_route(t, 0, family, t->next_hops[same].pa) == tables_route(t, 0, family, rewrite->pa))
        choice.next_hop = same;
    return choice;
}

static const struct rewrite unbound;

static bool has_own_way(const struct tables *t, const struct rewrite *rewrite)
{
    return rewrite->next_hop != POOL_NONE && !memcmp(t->next_hops[rewrite->next_hop].pa, rewrite->pa, 16);
}

/* Of a PA, by no way yet, like another in what it stands for. */
static int make_rewrite(struct change *change, const struct rewrite *like, const uint8_t *pa, uint8_t family, uint32_t host, uint32_t *index)
{
    int code = objects_make(&change->writer->rewrites, index);
    if (code)
        return change_no_memory(change, code);
    struct rewrite *rewrite = &change->next->rewrites[*index];
    *rewrite = *like;
    memcpy(rewrite->pa, pa, 16);
    rewrite->family = family;
    rewrite->host = host;
    rewrite->next_hop = rewrite->shared = POOL_NONE;
    return DP_OK;
}

int path_rebind(struct change *change, uint32_t from, const struct rewrite *like, uint32_t *index)
{
    const struct rewrite *old = &change->next->rewrites[from];
    int code = make_rewrite(change, like, old->pa, old->family, old->host, index);
    if (code)
        return code;
    struct rewrite *rewrite = &change->next->rewrites[*index];
    if (rewrite->vsid && rewrite->host != change->next->self_host) {
        struct choice choice = choose(change, rewrite);
        if (choice.next_hop == POOL_NONE && (code = make_way(change, rewrite->family, rewrite->pa, rewrite->host, &choice.next_hop)))
            return code;
        rewrite->next_hop = choice.next_hop;
        rewrite->shared = choice.shared;
    }
    return set_pa(change, rewrite->family, rewrite->pa, act_make(ACT_PA_REWRITE, *index), NULL);
}

int path_unbind(struct change *change, uint32_t index)
{
    const struct rewrite *old = &change->next->rewrites[index];
    struct map_value value;
    uint32_t made;
    if (!path_find(change, old->family, old->pa, &value) || value.act != act_make(ACT_PA_REWRITE, index))
        return DP_OK;
    return path_rebind(change, index, &unbound, &made);
}

void path_own_way(struct change *change, uint32_t index, int n)
{
    const struct rewrite *rewrite = &change->next->rewrites[index];
    if (has_own_way(change->next, rewrite))
        change_way_ref(change, rewrite->next_hop, n);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static int make_pa(struct change *change, const struct dp_row_pa *row, uint32_t *act)
{
    uint32_t index = 0;
    int code;
    if (row->kind == DP_PA_SHARED) {
        if (host_set(change->writer, row->host, host_first(change->writer, row->host)))
            return change_no_memory(change, DP_ENOMEM);
        code = make_way(change, row->family, row->address, row->host, &index);
        *act = act_make(row->host == change->next->self_host ? ACT_PA_SELF : ACT_PA_HOST, index);
        return code;
    }
    code = make_rewrite(change, &unbound, row->address, row->family, row->host, &index);
    *act = act_make(ACT_PA_REWRITE, index);
    return code;
}

static bool is_shared(uint32_t act) { return act_kind(act) == ACT_PA_HOST || act_kind(act) == ACT_PA_SELF; }

static bool pa_same(const struct tables *t, const struct dp_row_pa *row, uint32_t act)
{
    if (act_kind(act) == ACT_PA_REWRITE)
        return row->kind == DP_PA_REWRITE && t->rewrites[act_index(act)].host == row->host;
    return act && row->kind == DP_PA_SHARED && t->next_hops[act_index(act)].host == row->host;
}

static int check_pa_row(struct change *change, const struct dp_row_pa *row)
{
    int code = check_family(change, "family", row->family);
    if (code || (code = check_unicast(change, "address", row->family, row->address)) || (code = check_zero(change, row->pad, sizeof row->pad)))
        return code;
    if (row->host == POOL_NONE)
        return change_fail(change, DP_EINVAL, "host %u is reserved", row->host);
    if (row->kind != DP_PA_SHARED && row->kind != DP_PA_REWRITE)
        return change_fail(change, DP_EINVAL, "unknown kind %u", row->kind);
    if (row->prefix_len > (row->family == DP_IPV4 ? 32 : 128))
        return change_fail(change, DP_EINVAL, "prefix_len %u is too long", row->prefix_len);
    return DP_OK;
}

static int remember_stale(struct change *change, uint32_t act)
{
    if (!change_room(&change->stale, change->stale_n, &change->stale_capacity, sizeof *change->stale))
        return change_no_memory(change, DP_ENOMEM);
    change->stale[change->stale_n++] = (struct stale){act, change->section, change->row};
    return DP_OK;
}

int pa_put(struct change *change, const void *p)
{
    const struct dp_row_pa *row = p;
    struct map_value old = {0};
    uint32_t act = 0;
    int code = check_pa_row(change, row);
    if (code)
        return code;
    path_find(change, row->family, row->address, &old);
    if (pa_same(change->next, row, old.act))
        return DP_OK;
    change->shared_pas |= row->kind == DP_PA_SHARED || is_shared(old.act);
    code = make_pa(change, row, &act);
    if (code == DP_OK)
        code = set_pa(change, row->family, row->address, act, &old);
    return code || !old.act ? code : remember_stale(change, old.act);
}

int pa_del(struct change *change, const void *p)
{
    const struct dp_row_pa *row = p;
    struct map_value old;
    int code = check_family(change, "family", row->family);
    if (code || (code = check_address(change, "address", row->family, row->address)))
        return code;
    const struct change_text text = change_address(row->family, row->address);
    if (!path_find(change, row->family, row->address, &old))
        return change_fail(change, DP_ENOENT, "no PA %s", text.s);
    uint32_t index = act_index(old.act);
    bool used = is_shared(old.act) ? change_way(change->writer, index)->refs > 1 : change->next->rewrites[index].vsid != 0;
    if (used)
        return change_fail(change, DP_EINVAL, "PA %s is still used by records", text.s);
    change->shared_pas |= is_shared(old.act);
    return set_pa(change, row->family, row->address, 0, NULL);
}

/* ---- the end of a change set ------------------------------------------------------------------------------------- */

/* A local record says that this PA is its own, but it no longer is. */
static bool local_stale(const struct change *change, const struct rewrite *old)
{
    const struct draft *draft = policy_draft(change, old->port);
    struct map_value value;
    if (!draft || draft->vsid != old->vsid)
        return false;
    const struct port_source *source = policy_source_of(draft, old->family, old->ca, old->family == DP_IPV4 ? 32 : 128, false);
    if (!source || !source->has_pa || memcmp(source->pa, old->pa, 16))
        return false;
    if (!path_find(change, old->family, old->pa, &value) || act_kind(value.act) != ACT_PA_REWRITE)
        return true;
    const struct rewrite *now = &change->next->rewrites[act_index(value.act)];
    return now->vsid != old->vsid || now->host != old->host || memcmp(now->ca, old->ca, 16);
}

static int check_stale(struct change *change)
{
    for (uint32_t i = 0; i < change->stale_n; i++) {
        const struct stale *stale = &change->stale[i];
        uint32_t index = act_index(stale->act);
        const struct rewrite *rewrite = &change->next->rewrites[index];
        bool used;
        if (is_shared(stale->act))
            used = change_way(change->writer, index)->refs != 0;
        else if (rewrite->host == change->next->self_host)
            used = rewrite->vsid && local_stale(change, rewrite);
        else
            used = *change_rewrite_refs(change->writer, index) != 0;
        if (!used)
            continue;
        change->row_name = "PA";
        change->section = stale->section;
        change->row = stale->row;
        return change_fail(change, DP_EINVAL, "host or kind changed, but records of the old one are left");
    }
    return DP_OK;
}

/* Routes or shared PAs have changed: a remote rewrite in use may now go another way. Its PA's entry and its record's get a new one. */
static int refresh(struct change *change, uint32_t index)
{
    const struct rewrite old = change->next->rewrites[index];
    struct choice choice = choose(change, &old);
    struct map_value value;
    uint64_t key[3];
    uint32_t made;
    bool own = choice.next_hop == POOL_NONE;
    if (choice.shared == old.shared && (own ? has_own_way(change->next, &old) : choice.next_hop == old.next_hop))
        return DP_OK;
    int code = path_rebind(change, index, &old, &made);
    key_record(key, old.vsid, old.family, old.ca);
    if (code || !change_get(change, records_of(old.family), key, &value) || value.act != act_make(ACT_REWRITE, index))
        return code;
    value.act = act_make(ACT_REWRITE, made);
    return change_entry(change, records_of(old.family), key, &value, NULL);
}

static int refresh_rewrites(struct change *change)
{
    const uint32_t used = change->writer->rewrites.used, self = change->next->self_host;
    for (uint32_t i = 0; i < used; i++) {
        const struct rewrite *rewrite = &change->next->rewrites[i];
        if (*change_rewrite_refs(change->writer, i) == 0 || rewrite->vsid == 0 || rewrite->host == self)
            continue;
        int code = refresh(change, i);
        if (code)
            return code;
    }
    return DP_OK;
}

static void own_pa(uint8_t *pa, const struct tables *t, uint32_t index)
{
    static const uint8_t none[16];
    memcpy(pa, index == POOL_NONE ? none : t->next_hops[index].pa, 16);
}

int path_finish(struct change *change)
{
    struct tables *t = change->next;
    const uint32_t self = change->next->self_host;
    int code = check_stale(change);
    if (code == DP_OK && change->provider_routes && path_resolve(change->control, change->writer, t))
        code = change_no_memory(change, DP_ENOMEM);
    if (code == DP_OK && (change->provider_routes || change->shared_pas))
        code = refresh_rewrites(change);
    if (code || !change->shared_pas)
        return code;
    own_pa(t->shared_pa4, t, host_shared(change->writer, t, self, DP_IPV4));
    own_pa(t->shared_pa6, t, host_shared(change->writer, t, self, DP_IPV6));
    return DP_OK;
}
