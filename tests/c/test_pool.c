/* Slots, packets of several slots, and the depot between threads. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include "frames.h"
#include "pkt/cursor.h"

static struct arena arena;
static struct pool pool;

static void set_up(uint32_t slots)
{
    assert_int_equal(arena_create(&arena, slots), DP_OK);
    pool_init(&pool, &arena);
}

static void tear_down(void)
{
    assert_int_equal(arena_free_slots(&arena, &pool, 1), arena.slots);
    pool_drain(&pool);
    assert_int_equal(pool.n, 0);
    assert_int_equal(arena_free_slots(&arena, NULL, 0), arena.slots);
    arena_destroy(&arena);
}

static void every_slot_is_given_once(void **state)
{
    (void)state;
    const uint32_t sizes[] = {1, 2, 255, 256, 257, 1000, 2048};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        static bool seen[2048];
        static uint32_t slots[2048];
        set_up(sizes[s]);
        memset(seen, 0, sizeof seen);
        for (uint32_t i = 0; i < sizes[s]; i++) {
            slots[i] = pool_get(&pool);
            assert_in_range(slots[i], 0, sizes[s] - 1);
            assert_false(seen[slots[i]]);
            seen[slots[i]] = true;
            assert_int_equal((uintptr_t)arena_slot(&arena, slots[i]) % POOL_SLOT, 0);
        }
        assert_int_equal(pool_get(&pool), POOL_NONE);
        assert_int_equal(arena_free_slots(&arena, &pool, 1), 0);
        for (uint32_t i = 0; i < sizes[s]; i++)
            pool_put(&pool, slots[i]);
        tear_down();
    }
}

static void frames_keep_their_bytes_at_every_length(void **state)
{
    (void)state;
    static struct frame f, back;
    const uint32_t edges[] = {0, 1, 14, POOL_HEAD_MAX - 1, POOL_HEAD_MAX, POOL_HEAD_MAX + 1, POOL_HEAD_MAX + POOL_SLOT,
                              POOL_HEAD_MAX + POOL_SLOT + 1, 65535 + 18};
    set_up(64);
    for (size_t i = 0; i < sizeof edges / sizeof *edges + 50; i++) {
        struct pkt pkt;
        f.len = i < sizeof edges / sizeof *edges ? edges[i] : rnd(65536);
        rnd_fill(f.bytes, f.len);
        assert_true(pool_pkt_new_len(&pool, &pkt, f.len));
        assert_int_equal(pkt.len, f.len);
        assert_int_equal(pkt.slots, 1 + (f.len > POOL_HEAD_MAX ? (f.len - POOL_HEAD_MAX + POOL_SLOT - 1) / POOL_SLOT : 0));
        assert_true(pkt.data - arena_slot(&arena, pkt.slot) >= POOL_HEADROOM);
        assert_true(pkt.data + pkt.head <= arena_slot(&arena, pkt.slot) + POOL_SLOT);
        assert_true(pkt_write(&arena, &pkt, 0, f.bytes, f.len));
        frame_of_pkt(&arena, &pkt, &back);
        assert_memory_equal(back.bytes, f.bytes, f.len);
        pool_pkt_free(&pool, &pkt);
    }
    tear_down();
}

static void parts_of_a_frame_are_where_they_belong(void **state)
{
    (void)state;
    static struct frame f;
    static uint8_t part[FRAME_MAX];
    struct pkt pkt;
    set_up(64);
    f.len = 20000;
    rnd_fill(f.bytes, f.len);
    frame_to_pkt(&pool, &f, &pkt, 1000);            /* a short head, as after a pop */
    for (int i = 0; i < 2000; i++) {
        uint32_t at = rnd(f.len + 1), len = rnd(f.len - at + 1);
        assert_true(pkt_read(&arena, &pkt, at, part, len));
        assert_memory_equal(part, f.bytes + at, len);
        len = len < 300 ? len : 300;
        rnd_fill(f.bytes + at, len);
        assert_true(pkt_write(&arena, &pkt, at, f.bytes + at, len));
    }
    assert_false(pkt_read(&arena, &pkt, 0, part, f.len + 1));
    assert_false(pkt_read(&arena, &pkt, f.len + 1, part, 0));
    assert_false(pkt_read(&arena, &pkt, 1, part, UINT32_MAX));
    assert_false(pkt_write(&arena, &pkt, f.len, part, 1));
    pool_pkt_free(&pool, &pkt);
    tear_down();
}

static void runs_cover_a_frame_without_gap(void **state)
{
    (void)state;
    static struct frame f;
    struct pkt pkt;
    struct iovec iov[POOL_CHAIN_MAX];
    set_up(64);
    f.len = 50000;
    rnd_fill(f.bytes, f.len);
    frame_to_pkt(&pool, &f, &pkt, POOL_HEAD_MAX);
    for (int i = 0; i < 500; i++) {
        uint32_t at = rnd(f.len), len = rnd(f.len - at) + 1, seen = 0;
        int n = pkt_iov(&arena, &pkt, at, len, iov, POOL_CHAIN_MAX);
        assert_in_range(n, 1, POOL_CHAIN_MAX);
        for (int r = 0; r < n; seen += (uint32_t)iov[r++].iov_len)
            assert_memory_equal(iov[r].iov_base, f.bytes + at + seen, iov[r].iov_len);
        assert_int_equal(seen, len);
    }
    assert_int_equal(pkt_iov(&arena, &pkt, 0, f.len, iov, 3), -1);
    pool_pkt_free(&pool, &pkt);
    tear_down();
}

static void nothing_is_taken_when_short_of_slots(void **state)
{
    (void)state;
    struct pkt pkt;
    set_up(4);
    assert_false(pool_pkt_new_len(&pool, &pkt, POOL_HEAD_MAX + 3 * POOL_SLOT + 1));
    assert_int_equal(arena_free_slots(&arena, &pool, 1), 4);
    assert_true(pool_pkt_new_len(&pool, &pkt, POOL_HEAD_MAX + 3 * POOL_SLOT));
    assert_int_equal(arena_free_slots(&arena, &pool, 1), 0);
    pool_pkt_free(&pool, &pkt);
    tear_down();
}

/* ---- segments that are not full slots, or another packet's ---------------------------------------------------------- */

/* Any piece of the frame by any way to its bytes is that of `f`. */
static void assert_frame(struct pkt *pkt, const struct frame *f)
{
    static uint8_t part[FRAME_MAX];
    struct iovec iov[64];
    assert_int_equal(pkt->len, f->len);
    for (int i = 0; i < 200; i++) {
        uint32_t at = rnd(f->len + 1), len = rnd(f->len - at + 1), seen = 0;
        assert_true(pkt_read(&arena, pkt, at, part, len));
        assert_memory_equal(part, f->bytes + at, len);
        int n = pkt_iov(&arena, pkt, at, len, iov, 64);
        for (int r = 0; r < n; seen += (uint32_t)iov[r++].iov_len)
            assert_memory_equal(iov[r].iov_base, f->bytes + at + seen, iov[r].iov_len);
        assert_int_equal(seen, len);
    }
}

/* A received frame of several buffers, each with an offset and a length of its own, as AF_XDP hands them over. */
static void buffers_have_offsets_and_lengths(void **state)
{
    (void)state;
    static struct frame f;
    set_up(64);
    for (int i = 0; i < 50; i++) {
        struct pkt pkt;
        uint32_t slot, pieces = 1 + rnd(8);
        assert_true(pool_pkt_new(&pool, &pkt));
        pkt.head = (uint16_t)rnd(POOL_HEAD_MAX + 1);
        f.len = pkt.head;
        rnd_fill(f.bytes, FRAME_MAX);
        memcpy(pkt.data, f.bytes, pkt.head);
        slot = pkt.slot;
        for (; pkt.slots < pieces; pkt.slots++) {
            struct seg *seg = &arena.segs[slot];
            slot = pool_get(&pool);
            *seg = (struct seg){slot, (uint16_t)rnd(POOL_SLOT), 0};
            seg->len = (uint16_t)rnd(POOL_SLOT - seg->off + 1u);
            memcpy(arena_slot(&arena, slot) + seg->off, f.bytes + f.len, seg->len);
            f.len += seg->len;
        }
        pkt.len = f.len;
        assert_frame(&pkt, &f);
        pool_pkt_free(&pool, &pkt);
    }
    tear_down();
}

/* What receive offload makes: the payload of a second packet behind a first one's, all its slots the first one's now. */
static void a_train_of_two_packets_is_one(void **state)
{
    (void)state;
    enum { HEADERS = 66 };
    static struct frame first, second;
    set_up(64);
    for (int i = 0; i < 50; i++) {
        struct pkt train, next;
        first.len = rnd(20000) + 1;
        second.len = HEADERS + rnd(20000);
        rnd_fill(first.bytes, first.len);
        rnd_fill(second.bytes, second.len);
        frame_to_pkt(&pool, &first, &train, 1 + rnd(POOL_HEAD_MAX));
        frame_to_pkt(&pool, &second, &next, HEADERS + rnd(POOL_HEAD_MAX - HEADERS));
        uint32_t last = train.slot;
        for (uint32_t s = 1; s < train.slots; s++)
            last = arena.segs[last].next;
        uint16_t at = (uint16_t)(next.data + HEADERS - arena_slot(&arena, next.slot));
        arena.segs[last] = (struct seg){next.slot, at, (uint16_t)(next.head - HEADERS)};
        train.slots = (uint16_t)(train.slots + next.slots);
        train.len += next.len - HEADERS;
        memcpy(first.bytes + first.len, second.bytes + HEADERS, second.len - HEADERS);
        first.len = train.len;
        assert_frame(&train, &first);
        assert_true(pool_pkt_own(&pool, &train));   /* nothing is borrowed */
        pool_pkt_free(&pool, &train);
    }
    tear_down();
}

/* Headers in a slot of its own, any part of another packet's payload behind it; then that, too, in slots of its own. */
static void borrowed_payload_can_be_made_its_own(void **state)
{
    (void)state;
    static struct frame lent, f;
    for (uint32_t slots = 12; slots <= 64; slots++) {
        struct pkt lender, pkt;
        set_up(slots);
        lent.len = 10000 + rnd(30000);
        rnd_fill(lent.bytes, lent.len);
        frame_to_pkt(&pool, &lent, &lender, 1 + rnd(POOL_HEAD_MAX));
        uint32_t at = rnd(lent.len), len = 1 + rnd(lent.len - at);
        struct cursor c = cursor_at(&arena, &lender, at);
        assert_true(pool_pkt_new(&pool, &pkt));
        pkt.head = (uint16_t)rnd(200);
        rnd_fill(pkt.data, pkt.head);
        arena.segs[pkt.slot] = cursor_seg(&c);
        pkt.len = f.len = pkt.head + len;
        memcpy(f.bytes, pkt.data, pkt.head);
        memcpy(f.bytes + pkt.head, lent.bytes + at, len);
        assert_frame(&pkt, &f);
        bool owned = pool_pkt_own(&pool, &pkt);
        if (owned) {
            pool_pkt_free(&pool, &lender);
            memset(arena_slot(&arena, lender.slot), 0, POOL_SLOT);
            assert_int_equal(pkt.slots, 1 + (pkt.len - pkt.head + POOL_SLOT - 1) / POOL_SLOT);
        }
        assert_frame(&pkt, &f);
        pool_pkt_free(&pool, &pkt);
        if (!owned) {
            assert_in_range(slots, 12, 23);         /* ten for the lender, and not enough for twice that */
            pool_pkt_free(&pool, &lender);
        }
        tear_down();
    }
}

/* ---- threads -------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, STEPS = 200000, HAVE = 700, EXCHANGE = 64 };

static struct pool pools[THREADS];
static _Atomic uint32_t owner[8 * 256];             /* by slot: thread + 1, or 0 when it is free */
static _Atomic uint32_t exchange[EXCHANGE];         /* slots on their way between threads, + 1 */

static _Atomic uint32_t wrong;                       /* owners that were not as expected: cmocka asserts on one thread only */

static void change_owner(uint32_t slot, uint32_t from, uint32_t to)
{
    if (atomic_exchange_explicit(&owner[slot], to, memory_order_relaxed) != from)
        atomic_fetch_add(&wrong, 1);
    *(uint32_t *)(void *)arena_slot(&arena, slot) = to;         /* a second owner would race here: TSan sees it */
}

static void give_up(struct pool *from, uint32_t slot, uint32_t thread)
{
    change_owner(slot, thread + 1, 0);
    pool_put(from, slot);
}

/* Leaves a slot for any thread, and takes what another has left there. */
static uint32_t swap_with_others(uint32_t slot, uint32_t thread, uint32_t at)
{
    change_owner(slot, thread + 1, THREADS + 1);
    uint32_t got = atomic_exchange_explicit(&exchange[at], slot + 1, memory_order_acq_rel);
    if (got)
        change_owner(got - 1, THREADS + 1, thread + 1);
    return got;
}

/* Gets and puts in waves, so that pools run full and dry; a slot may be freed by another thread than the one that got it. */
static void *trade(void *arg)
{
    uint32_t thread = (uint32_t)(uintptr_t)arg, have[HAVE], n = 0;
    uint64_t random = 0x9e3779b97f4a7c15u * (thread + 1);
    struct pool *own = &pools[thread];
    for (uint32_t step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        bool want = (random >> 33) % 100 < (step / 2000 % 2 ? 90 : 10);
        if (want && n < HAVE) {
            uint32_t slot = pool_get(own);
            if (slot == POOL_NONE)
                continue;
            change_owner(slot, 0, thread + 1);
            have[n++] = slot;
        } else if (!want && n) {
            give_up(own, have[--n], thread);
        }
        if (n && (random >> 40) % 4 == 0) {
            uint32_t got = swap_with_others(have[--n], thread, (random >> 50) % EXCHANGE);
            if (got)
                have[n++] = got - 1;
        }
    }
    while (n)
        give_up(own, have[--n], thread);
    return NULL;
}

static void threads_trade_slots_through_the_depot(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    set_up(8 * 256);
    for (uint32_t t = 0; t < THREADS; t++)
        pool_init(&pools[t], &arena);
    for (uint32_t t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, trade, (void *)(uintptr_t)t), 0);
    for (uint32_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (uint32_t i = 0; i < EXCHANGE; i++)
        if (exchange[i]) {
            change_owner(exchange[i] - 1, THREADS + 1, 0);
            pool_put(&pool, exchange[i] - 1);
        }
    assert_int_equal(wrong, 0);
    uint32_t own = pool.n;
    assert_int_equal(arena_free_slots(&arena, pools, THREADS), arena.slots - own);
    for (uint32_t t = 0; t < THREADS; t++)
        pool_drain(&pools[t]);
    tear_down();
}

enum { JUGGLES = 300000 };

/* Takes two bundles and puts them back the other way round: what makes a stack's top come back with another bundle below it. */
static void *juggle(void *arg)
{
    uint32_t thread = (uint32_t)(uintptr_t)arg;
    struct pool hands[2];
    pool_init(&hands[0], &arena);
    pool_init(&hands[1], &arena);
    for (int i = 0; i < JUGGLES; i++) {
        for (int h = 0; h < 2; h++) {
            uint32_t slot = pool_get(&hands[h]);
            if (slot == POOL_NONE)
                continue;
            change_owner(slot, 0, thread + 1);
            give_up(&hands[h], slot, thread);
        }
        pool_drain(&hands[0]);
        pool_drain(&hands[1]);
    }
    return NULL;
}

static void a_top_that_comes_back_is_not_mistaken(void **state)
{
    (void)state;
    enum { BUNDLES = 5 };
    pthread_t threads[THREADS];
    set_up(BUNDLES);
    uint32_t slots[BUNDLES];
    for (uint32_t i = 0; i < BUNDLES; i++)
        slots[i] = pool_get(&pool);
    for (uint32_t i = 0; i < BUNDLES; i++) {
        pool_put(&pool, slots[i]);
        pool_drain(&pool);
    }
    for (uint32_t t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, juggle, (void *)(uintptr_t)t), 0);
    for (uint32_t t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    assert_int_equal(wrong, 0);
    tear_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_slot_is_given_once),
        cmocka_unit_test(frames_keep_their_bytes_at_every_length),
        cmocka_unit_test(parts_of_a_frame_are_where_they_belong),
        cmocka_unit_test(runs_cover_a_frame_without_gap),
        cmocka_unit_test(nothing_is_taken_when_short_of_slots),
        cmocka_unit_test(buffers_have_offsets_and_lengths),
        cmocka_unit_test(a_train_of_two_packets_is_one),
        cmocka_unit_test(borrowed_payload_can_be_made_its_own),
        cmocka_unit_test(threads_trade_slots_through_the_depot),
        cmocka_unit_test(a_top_that_comes_back_is_not_mistaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
