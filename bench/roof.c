/* roof.c: the four bare operations, over tables of their own that are copied from an engine's. See roof.h. */
#include "roof.h"
#include <immintrin.h>
#include <stdlib.h>
#include "table/map_inline.h"

/* ROOF_LOAD: entries for ten buckets. */
enum { ROOF_SLOTS = 3, ROOF_LOAD = 15, ROOF_KICKS = 500, ROOF_OUTER = NVGRE4_LEN };
#define ROOF_NO_KEY UINT64_MAX      /* of a frame that is refused: no record has it, and no empty slot */
#define ROOF_LOCAL 0x80000000u      /* beside a port's number; remote values are below */
#define ROOF_MISS UINT32_MAX
#define ROOF_LOCAL_PA (1ull << 63)  /* beside the PA in the key of one of this host */

/* push, pop: (VSID, CA) -> next hop, MAC; rewrite-out: -> PA, next hop; rewrite-in: PA -> CA, MAC, domain. */
struct roof_bucket {
    uint32_t value[ROOF_SLOTS];
    uint32_t pad;
    uint64_t who[ROOF_SLOTS];       /* a MAC; rewrite-in: the routing domain in the last two bytes */
    uint64_t key[ROOF_SLOTS];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct roof_bucket) == 64, "one line");

struct roof_entry {
    uint64_t key, who;
    uint32_t value;
};

struct roof_hop {
    uint8_t header[NVGRE4_LEN];
    uint16_t sum;
} __attribute__((aligned(64)));

struct dp_roof {
    void (*run)(const struct dp_roof *roof, uint8_t **p, uint32_t len);
    struct roof_bucket *buckets;
    uint64_t n;                     /* buckets */
    struct roof_hop *hops;
    uint64_t mac;                   /* of the port that frames come in at: its six bytes as they lie */
    uint32_t vsid;                  /* as it lies in the GRE key, FlowID 0 */
    uint32_t ca, pa;                /* the port's */
    int growth;
    uint8_t image[64], mask[64];    /* pop: bytes 0..31 and 10..41 of the outer header */
    struct mem bucket_mem, hop_mem;
    uint64_t random;                /* of roof_put() */
};

/* ---- lookup -------------------------------------------------------------------------------------------- */

static inline uint64_t roof_hash(uint64_t key)
{
    __m128i s = _mm_set_epi64x(0x1234567, (long long)0x89abcdef);
    __m128i x = _mm_set_epi64x((long long)0x9e3779b97f4a7c15, (long long)key);
    return (uint64_t)_mm_cvtsi128_si64(_mm_aesenc_si128(_mm_aesenc_si128(x, s), s));
}

static inline struct roof_bucket *roof_bucket_at(const struct dp_roof *roof, uint64_t hash)
{
    return &roof->buckets[(uint64_t)((unsigned __int128)hash * roof->n >> 64)];
}

/* The value, or ROOF_MISS. A plain scan of the slots, then of the second bucket's. */
static inline uint32_t roof_find(const struct dp_roof *roof, uint64_t key, uint64_t hash, uint64_t *who)
{
    uint32_t value = ROOF_MISS;
    for (int second = 0; second < 2 && value == ROOF_MISS; second++) {
        const struct roof_bucket *b = roof_bucket_at(roof, second ? map_rotate(hash) : hash);
        for (int slot = 0; slot < ROOF_SLOTS; slot++)
            if (b->key[slot] == key) {
                value = b->value[slot];
                *who = b->who[slot];
            }
    }
    return value;
}

static inline uint64_t roof_key(uint32_t vsid, uint32_t ca) { return (uint64_t)vsid << 32 | ca; }

static inline uint64_t roof_start(const struct dp_roof *roof, uint64_t key)
{
    uint64_t hash = roof_hash(key);
    _mm_prefetch((const char *)roof_bucket_at(roof, hash), _MM_HINT_T0);
    return hash;
}

/* ---- bytes --------------------------------------------------------------------------------------------- */

static inline uint64_t roof_mac(const uint8_t *p) { return load64(p) & 0xffffffffffff; }

static inline void roof_put_mac(uint8_t *p, uint64_t mac)
{
    uint32_t head = (uint32_t)mac;
    uint16_t tail = (uint16_t)(mac >> 32);
    memcpy(p, &head, 4);
    memcpy(p + 4, &tail, 2);
}

/* 0 for a frame of `len` bytes with IPv4 without options, TOS or fragments, no longer than the frame. */
static inline uint64_t roof_odd4(const uint8_t *p, uint32_t len)
{
    uint64_t l3 = __builtin_bswap16(load16(p + 16));
    uint64_t too_long = (len - ETH_LEN) - l3, too_short = l3 - (IP4_LEN + UDP_LEN);
    return (load32(p + 12) ^ 0x00450008) | (load16(p + 20) & 0xffbfu) | (too_long | too_short) >> 63;
}

static inline __m256i roof_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* 0 for an outer header as it must be. */
static inline uint64_t roof_odd_outer(const struct dp_roof *roof, const uint8_t *p, uint32_t len)
{
    __m256i a = _mm256_xor_si256(roof_load(p), roof_load(roof->image));
    __m256i b = _mm256_xor_si256(roof_load(p + 10), roof_load(roof->image + 32));
    a = _mm256_and_si256(a, roof_load(roof->mask));
    b = _mm256_and_si256(b, roof_load(roof->mask + 32));
    a = _mm256_or_si256(a, b);
    return (uint64_t)!_mm256_testz_si256(a, a) | (__builtin_bswap16(load16(p + 16)) ^ (len - ETH_LEN));
}

static inline uint16_t roof_fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)(sum + (sum >> 16));
}

/* New addresses, and both sums by the one difference (RFC 1624 equation 3). */
static inline void roof_readdress(uint8_t *p, uint32_t source, uint32_t destination)
{
    uint64_t delta = (uint64_t)(uint32_t)~load32(p + 26) + (uint32_t)~load32(p + 30) + source + destination;
    delta = (delta & 0xffffffff) + (delta >> 32);
    uint32_t d = (uint32_t)((delta & 0xffff) + (delta >> 16));
    uint16_t ip = (uint16_t)~roof_fold((uint16_t)~load16(p + 24) + d), udp = load16(p + 40);
    memcpy(p + 24, &ip, 2);
    memcpy(p + 26, &source, 4);
    memcpy(p + 30, &destination, 4);
    uint16_t sum = (uint16_t)~roof_fold((uint16_t)~udp + d);
    sum = udp == 0 ? 0 : sum == 0 ? 0xffff : sum;
    memcpy(p + 40, &sum, 2);
}

/* ---- from the tenant ----------------------------------------------------------------------------------- */

/* The key of where it goes, or none: the frame is not the port's to send. */
static inline uint64_t roof_key_out(const struct dp_roof *roof, const uint8_t *p, uint32_t len)
{
    uint64_t odd = roof_odd4(p, len) | (roof_mac(p + 6) ^ roof->mac) | (load32(p + 26) ^ roof->ca);
    odd |= p[23] ^ (unsigned)PROTO_UDP;
    return odd ? ROOF_NO_KEY : roof_key(roof->vsid, load32(p + 30));
}

static inline uint8_t roof_flowid(const uint8_t *p)
{
    uint64_t crc = _mm_crc32_u64(0, load64(p + 26));
    uint32_t flow = (uint32_t)_mm_crc32_u64(crc, (uint64_t)load32(p + 34) << 32 | PROTO_UDP);
    flow ^= flow >> 16;
    return (uint8_t)(flow ^ flow >> 8);
}

static void roof_push(const struct dp_roof *roof, uint8_t **p, uint32_t len)
{
    uint64_t key[DP_BATCH], hash[DP_BATCH], mac[DP_BATCH];
    uint32_t hop[DP_BATCH];
    uint8_t flowid[DP_BATCH];
    uint16_t l3_len = __builtin_bswap16((uint16_t)(len + ROOF_OUTER - ETH_LEN));
    for (int i = 0; i < DP_BATCH; i++) {
        key[i] = roof_key_out(roof, p[i], len);
        flowid[i] = roof_flowid(p[i]);
        hash[i] = roof_start(roof, key[i]);
    }
    for (int i = 0; i < DP_BATCH; i++) {
        hop[i] = roof_find(roof, key[i], hash[i], &mac[i]);
        _mm_prefetch((const char *)&roof->hops[hop[i] < ROOF_LOCAL ? hop[i] : 0], _MM_HINT_T0);
    }
    for (int i = 0; i < DP_BATCH; i++) {
        if (hop[i] >= ROOF_LOCAL) {
            p[i] = NULL;
            continue;
        }
        const struct roof_hop *to = &roof->hops[hop[i]];
        uint8_t *q = p[i] - ROOF_OUTER;
        roof_put_mac(p[i], mac[i]);
        memcpy(q + 26, to->header + 26, 16);
        memcpy(q, to->header, 32);
        uint16_t sum = (uint16_t)~roof_fold((uint32_t)to->sum + l3_len);
        uint32_t gre_key = roof->vsid | (uint32_t)flowid[i] << 24;
        memcpy(q + 16, &l3_len, 2);
        memcpy(q + 24, &sum, 2);
        memcpy(q + 38, &gre_key, 4);
        p[i] = q;
    }
}

static void roof_rewrite_out(const struct dp_roof *roof, uint8_t **p, uint32_t len)
{
    uint64_t key[DP_BATCH], hash[DP_BATCH], hop[DP_BATCH];
    uint32_t pa[DP_BATCH];
    for (int i = 0; i < DP_BATCH; i++) {
        key[i] = roof_key_out(roof, p[i], len);
        hash[i] = roof_start(roof, key[i]);
    }
    for (int i = 0; i < DP_BATCH; i++) {
        hop[i] = 0;
        pa[i] = roof_find(roof, key[i], hash[i], &hop[i]);
        _mm_prefetch((const char *)&roof->hops[hop[i]], _MM_HINT_T0);
    }
    for (int i = 0; i < DP_BATCH; i++) {
        if (pa[i] == ROOF_MISS) {
            p[i] = NULL;
            continue;
        }
        memcpy(p[i], roof->hops[hop[i]].header, 12);
        roof_readdress(p[i], roof->pa, pa[i]);
    }
}

/* ---- from the provider --------------------------------------------------------------------------------- */

static void roof_pop(const struct dp_roof *roof, uint8_t **p, uint32_t len)
{
    uint64_t from[DP_BATCH], from_hash[DP_BATCH], from_mac[DP_BATCH];
    uint64_t to[DP_BATCH], to_hash[DP_BATCH], to_mac[DP_BATCH];
    uint32_t hop[DP_BATCH], port[DP_BATCH];
    for (int i = 0; i < DP_BATCH; i++) {
        const uint8_t *q = p[i], *inner = q + ROOF_OUTER;
        uint64_t odd = roof_odd_outer(roof, q, len) | roof_odd4(inner, len - ROOF_OUTER);
        uint32_t vsid = load32(q + 38) & 0x00ffffff;
        from[i] = odd ? ROOF_NO_KEY : roof_key(vsid, load32(inner + 26));
        to[i] = odd ? ROOF_NO_KEY : roof_key(vsid, load32(inner + 30));
        from_hash[i] = roof_start(roof, from[i]);
        to_hash[i] = roof_start(roof, to[i]);
    }
    for (int i = 0; i < DP_BATCH; i++) {
        hop[i] = roof_find(roof, from[i], from_hash[i], &from_mac[i]);
        port[i] = roof_find(roof, to[i], to_hash[i], &to_mac[i]);
        _mm_prefetch((const char *)&roof->hops[hop[i] < ROOF_LOCAL ? hop[i] : 0], _MM_HINT_T0);
    }
    for (int i = 0; i < DP_BATCH; i++) {
        uint8_t *inner = p[i] + ROOF_OUTER;
        if (hop[i] >= ROOF_LOCAL || port[i] < ROOF_LOCAL || port[i] == ROOF_MISS) {
            p[i] = NULL;
            continue;
        }
        uint64_t odd = load32(p[i] + 26) ^ load32(roof->hops[hop[i]].header + 30);
        odd |= (roof_mac(inner) ^ to_mac[i]) | (roof_mac(inner + 6) ^ from_mac[i]);
        p[i] = odd ? NULL : inner;
    }
}

static void roof_rewrite_in(const struct dp_roof *roof, uint8_t **p, uint32_t len)
{
    uint64_t from[DP_BATCH], from_hash[DP_BATCH], from_mac[DP_BATCH];
    uint64_t to[DP_BATCH], to_hash[DP_BATCH], to_mac[DP_BATCH];
    uint32_t source[DP_BATCH], destination[DP_BATCH];
    for (int i = 0; i < DP_BATCH; i++) {
        const uint8_t *q = p[i];
        uint64_t odd = roof_odd4(q, len) | (roof_mac(q) ^ roof->mac) | (q[6] & 1u);
        odd |= q[23] ^ (unsigned)PROTO_UDP;
        from[i] = odd ? ROOF_NO_KEY : load32(q + 26);
        to[i] = odd ? ROOF_NO_KEY : ROOF_LOCAL_PA | load32(q + 30);
        from_hash[i] = roof_start(roof, from[i]);
        to_hash[i] = roof_start(roof, to[i]);
    }
    for (int i = 0; i < DP_BATCH; i++) {
        source[i] = roof_find(roof, from[i], from_hash[i], &from_mac[i]);
        destination[i] = roof_find(roof, to[i], to_hash[i], &to_mac[i]);
    }
    for (int i = 0; i < DP_BATCH; i++) {
        if (source[i] == ROOF_MISS || destination[i] == ROOF_MISS || (from_mac[i] ^ to_mac[i]) >> 48) {
            p[i] = NULL;
            continue;
        }
        roof_put_mac(p[i], to_mac[i]);
        roof_put_mac(p[i] + 6, from_mac[i]);
        roof_readdress(p[i], source[i], destination[i]);
    }
}

/* ---- tables -------------------------------------------------------------------------------------------- */

static struct roof_entry roof_swap(struct roof_bucket *b, unsigned slot, const struct roof_entry *e)
{
    struct roof_entry old = {b->key[slot], b->who[slot], b->value[slot]};
    b->key[slot] = e->key;
    b->who[slot] = e->who;
    b->value[slot] = e->value;
    return old;
}

/* Both buckets full: it takes the place of one in them, which goes on (a random walk). False: in vain. */
static bool roof_put(struct dp_roof *roof, struct roof_entry e)
{
    for (unsigned kick = 0; kick < ROOF_KICKS; kick++) {
        uint64_t hash = roof_hash(e.key);
        struct roof_bucket *both[2] = {roof_bucket_at(roof, hash), roof_bucket_at(roof, map_rotate(hash))};
        for (unsigned at = 0; at < 2 * ROOF_SLOTS; at++)
            if (both[at / ROOF_SLOTS]->key[at % ROOF_SLOTS] == 0) {
                roof_swap(both[at / ROOF_SLOTS], at % ROOF_SLOTS, &e);
                return true;
            }
        roof->random = roof->random * 6364136223846793005u + 1442695040888963407u;
        e = roof_swap(both[roof->random >> 63], (unsigned)(roof->random >> 33) % ROOF_SLOTS, &e);
    }
    return false;
}

/* The VSID as it lies in a GRE key whose FlowID is 0. */
static uint32_t roof_vsid(uint32_t vsid) { return __builtin_bswap32(vsid << 8); }

static uint64_t roof_who(const uint8_t *mac, uint32_t domain)
{
    return roof_mac(mac) | (uint64_t)domain << 48;
}

struct roof_copy {
    struct dp_roof *roof;
    const struct tables *tables;
    uint32_t self_host;
    uint32_t hops;                  /* highest index of a next hop so far + 1 */
    bool full;                      /* an entry found no place */
};

static bool roof_copy_put(struct roof_copy *c, struct roof_entry e)
{
    c->full = !roof_put(c->roof, e);
    return !c->full;
}

static bool roof_copy_pa(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct roof_copy *c = ctx;
    const struct rewrite *r = &c->tables->rewrites[act_index(value->act)];
    (void)key;
    if (act_kind(value->act) != ACT_PA_REWRITE)
        return true;
    uint64_t local = r->host == c->self_host ? ROOF_LOCAL_PA : 0;
    struct roof_entry e = {local | load32(r->pa), roof_who(r->mac, r->rdid), load32(r->ca)};
    return roof_copy_put(c, e);
}

/* The wildcards among the records stay out: their address, 0, is no destination. */
static bool roof_copy_record(void *ctx, const uint64_t *key, const struct map_value *value)
{
    struct roof_copy *c = ctx;
    enum act kind = act_kind(value->act);
    uint32_t index = act_index(value->act), hop = index;
    uint32_t ca = (uint32_t)key[0];
    struct roof_entry e = {roof_key(roof_vsid((uint32_t)(key[0] >> 32)), ca), roof_who(value->mac, 0), index};
    bool rewrites = c->roof->run == roof_rewrite_out;
    if (ca == 0 || kind == ACT_GATEWAY || rewrites != (kind == ACT_REWRITE))
        return true;
    if (rewrites) {
        const struct rewrite *r = &c->tables->rewrites[index];
        hop = r->next_hop;
        e.who = hop;
        e.value = load32(r->pa);
    }
    if (kind == ACT_LOCAL)
        e.value |= ROOF_LOCAL;
    else if (hop >= c->hops)
        c->hops = hop + 1;
    return roof_copy_put(c, e);
}

static int roof_copy_hops(struct roof_copy *c)
{
    struct dp_roof *roof = c->roof;
    if (mem_map(&roof->hop_mem, (c->hops + 1) * sizeof *roof->hops))
        return DP_ENOMEM;
    roof->hops = (struct roof_hop *)(void *)roof->hop_mem.base;
    for (uint32_t i = 0; i < c->hops; i++) {
        memcpy(roof->hops[i].header, c->tables->next_hops[i].header, sizeof roof->hops[i].header);
        roof->hops[i].sum = c->tables->next_hops[i].sum;
    }
    return DP_OK;
}

static int roof_copy_tables(const struct dp *dp, struct dp_roof *roof)
{
    struct roof_copy copy = {.roof = roof, .tables = dp_tables(dp), .self_host = dp->config.self_host};
    bool pas = roof->run == roof_rewrite_in;
    const struct map *map = pas ? copy.tables->pas4 : copy.tables->records4;
    struct map_stats stats;
    map_stats(map, &stats);
    roof->n = stats.entries * 10 / ROOF_LOAD + 1;
    if (mem_map(&roof->bucket_mem, roof->n * sizeof *roof->buckets))
        return DP_ENOMEM;
    roof->buckets = (struct roof_bucket *)(void *)roof->bucket_mem.base;
    map_each(map, pas ? roof_copy_pa : roof_copy_record, &copy);
    return copy.full ? DP_EFULL : roof_copy_hops(&copy);
}

/* What the outer header of a packet for this host looks like, and which of its bits say so. */
static void roof_make_image(struct dp_roof *roof, const uint8_t *mac, const uint8_t *pa)
{
    uint8_t image[ROOF_OUTER] = {0}, mask[ROOF_OUTER] = {0};
    memcpy(image, mac, 6);
    memset(mask, 0xff, 6);
    mask[6] = 1;                                                        /* the source MAC is no group's */
    memcpy(image + 12, (const uint8_t[]){0x08, 0x00, 0x45, 0x00}, 4);
    memset(mask + 12, 0xff, 4);
    memcpy(mask + 20, (const uint8_t[]){0xbf, 0xff}, 2);                /* no fragment; DF may be set */
    image[23] = PROTO_GRE;
    mask[23] = 0xff;
    memcpy(image + 30, pa, 4);
    memcpy(image + 34, (const uint8_t[]){0x20, 0x00, 0x65, 0x58}, 4);
    memcpy(mask + 30, (const uint8_t[]){0xff, 0xff, 0xff, 0xff, 0xfc, 0x07, 0xff, 0xff}, 8);
    for (unsigned i = 0; i < 2; i++) {
        memcpy(roof->image + 32 * i, image + 10 * i, 32);
        memcpy(roof->mask + 32 * i, mask + 10 * i, 32);
    }
}

static void (*const roof_operations[])(const struct dp_roof *, uint8_t **, uint32_t) = {
    [DP_BENCH_PUSH] = roof_push,
    [DP_BENCH_POP] = roof_pop,
    [DP_BENCH_REWRITE_OUT] = roof_rewrite_out,
    [DP_BENCH_REWRITE_IN] = roof_rewrite_in,
};

/* False: there is no such roof. */
static bool roof_init(struct dp_roof *roof, const struct dp *dp, uint32_t op, const struct port *in)
{
    const struct tables *tables = dp_tables(dp);
    const struct port_policy *policy = tables->policies[in->id];
    bool out = op == DP_BENCH_PUSH || op == DP_BENCH_REWRITE_OUT;
    if (op < DP_BENCH_PUSH || op > DP_BENCH_REWRITE_IN)
        return false;
    roof->run = roof_operations[op];
    if (out != (in->id != DP_UNDERLAY) || (out && (!policy || policy->n4 == 0)))
        return false;
    roof->mac = roof_mac(in->mac);
    if (out) {
        roof->vsid = roof_vsid(policy->vsid);
        roof->ca = load32(policy->sources[0].ca);
        roof->pa = load32(policy->sources[0].pa);
    }
    roof_make_image(roof, in->mac, tables->shared_pa4);
    roof->growth = op == DP_BENCH_PUSH ? ROOF_OUTER : op == DP_BENCH_POP ? -ROOF_OUTER : 0;
    return true;
}

int dp_roof_create(const struct dp *dp, uint32_t op, uint32_t port, struct dp_roof **out)
{
    const struct port *in = port < DP_MAX_PORTS ? dp_port(dp, port) : NULL;
    struct dp_roof *roof = calloc(1, sizeof *roof);
    if (!roof)
        return DP_ENOMEM;
    int result = in && roof_init(roof, dp, op, in) ? roof_copy_tables(dp, roof) : DP_EINVAL;
    if (result == DP_OK)
        *out = roof;
    else
        dp_roof_destroy(roof);
    return result;
}

void dp_roof_destroy(struct dp_roof *roof)
{
    mem_unmap(&roof->bucket_mem);
    mem_unmap(&roof->hop_mem);
    free(roof);
}

void roof_run(const struct dp_roof *roof, uint8_t *p[DP_BATCH], uint32_t len)
{
    roof->run(roof, p, len);
}

int roof_growth(const struct dp_roof *roof)
{
    return roof->growth;
}
