/*
 * The rings of an AF_XDP socket against a kernel of our own: a naive one, which knows of each slot whether it has it. Whatever
 * the two do, in any order, every slot is in one place, no packet's bytes change while it is on its way, and all come back.
 */
#include <stdlib.h>
#include "fake_io.h"
#include "port/xsk.h"

enum { SLOTS = 512, WANT = 64, MOST = 128, LONGEST = 6 };
enum { SHORT = 40 };

static struct pool *const pool = &fake_io.pool;
static struct xsk xsk;
static uint32_t indices[4][3];
static struct xdp_desc descs[2][XSK_RING];
static uint64_t addresses[2][XSK_RING];

static struct xsk_ring ring(uint32_t which, void *entries)
{
    uint32_t *at = indices[which];
    return (struct xsk_ring){.producer = &at[0], .consumer = &at[1], .flags = &at[2], .entries = entries};
}

static void begin(bool receives)
{
    fake_io_init(SLOTS);
    memset(indices, 0, sizeof indices);
    xsk = (struct xsk){.fd = -1, .want = receives ? WANT : 0, .most = MOST, .arena = &fake_arena};
    xsk.lent = calloc(SLOTS / 64, sizeof *xsk.lent);
    xsk.sent = calloc(SLOTS / 64, sizeof *xsk.sent);
    xsk.rx = ring(0, descs[0]);
    xsk.tx = ring(1, descs[1]);
    xsk.fill = ring(2, addresses[0]);
    xsk.done = ring(3, addresses[1]);
    xsk_fill(&xsk, pool);
}

static void kernel_is_done(uint64_t address)
{
    addresses[1][(*xsk.done.producer)++ % XSK_RING] = address;
}

static void end(void)
{
    for (uint64_t slot = 0; slot < SLOTS; slot++)       /* all that was sent has gone */
        if (xsk.sent[slot / 64] >> slot % 64 & 1)
            kernel_is_done(slot * POOL_SLOT);
    xsk_close(&xsk, pool);
    fake_io_end();
}

/* ---- the kernel ---------------------------------------------------------------------------------- */

/* A slot that waits; false: there is none. */
static bool kernel_takes(uint64_t *address)
{
    if (*xsk.fill.consumer == *xsk.fill.producer)
        return false;
    *address = addresses[0][(*xsk.fill.consumer)++ % XSK_RING];
    return true;
}

static void kernel_receives(uint64_t address, uint32_t len, bool more)
{
    descs[0][(*xsk.rx.producer)++ % XSK_RING] = (struct xdp_desc){address, len, more ? XSK_MORE : 0};
}

/* A frame of so many pieces, of bytes that say which; false: no slots wait. */
static bool kernel_frame(uint32_t pieces, uint8_t byte)
{
    for (uint32_t i = 0; i < pieces; i++) {
        uint64_t address;
        if (!kernel_takes(&address))
            return false;
        memset(fake_arena.base + address + XSK_HEADROOM, byte, SHORT);
        kernel_receives(address + XSK_HEADROOM, SHORT, i + 1 < pieces);
    }
    return true;
}

static bool is_all(const struct pkt *pkt, uint8_t byte)
{
    uint8_t bytes[POOL_CHAIN_MAX * SHORT];
    assert_true(pkt_read(&fake_arena, pkt, 0, bytes, pkt->len));
    for (uint32_t i = 0; i < pkt->len; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

/* ---- one thing at a time ------------------------------------------------------------------------- */

static void as_many_slots_wait_as_are_wanted(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(*xsk.fill.producer, WANT);
    assert_int_equal(arena_free_slots(&fake_arena, pool, 1), SLOTS - WANT);
    for (uint32_t i = 0; i < WANT; i++)
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(addresses[0][i], addresses[0][j]);
    xsk_fill(&xsk, pool);
    assert_int_equal(*xsk.fill.producer, WANT);
    end();
}

static void a_packet_is_where_the_kernel_put_it(void **state)
{
    (void)state;
    begin(true);
    struct pkt pkt;
    assert_false(xsk_receive(&xsk, pool, &pkt));
    assert_true(kernel_frame(1, 7));
    assert_true(kernel_frame(3, 8));
    assert_true(xsk_receive(&xsk, pool, &pkt));
    assert_true(pkt.slots == 1 && pkt.len == SHORT && pkt.head == SHORT);
    assert_true(pkt.data - arena_slot(&fake_arena, pkt.slot) >= POOL_HEADROOM);
    assert_true(is_all(&pkt, 7));
    pool_pkt_free(pool, &pkt);
    assert_true(xsk_receive(&xsk, pool, &pkt));
    assert_true(pkt.slots == 3 && pkt.len == 3 * SHORT && pkt.head == SHORT && is_all(&pkt, 8));
    pool_pkt_free(pool, &pkt);
    assert_false(xsk_receive(&xsk, pool, &pkt));
    assert_int_equal(*xsk.rx.consumer, 4);
    xsk_fill(&xsk, pool);
    assert_int_equal(*xsk.fill.producer, WANT + 4);
    end();
}

static void a_packet_of_too_many_slots_is_none(void **state)
{
    (void)state;
    begin(true);
    struct pkt pkt;
    assert_true(kernel_frame(POOL_CHAIN_MAX + 1, 1));
    assert_true(xsk_receive(&xsk, pool, &pkt));
    assert_true(pkt.slots == 0 && pkt.len == (POOL_CHAIN_MAX + 1) * SHORT);
    kernel_frame(1, 1);
    descs[0][(*xsk.rx.producer - 1) % XSK_RING].options = XSK_MORE;     /* of which the rest never comes */
    assert_true(xsk_receive(&xsk, pool, &pkt));
    assert_int_equal(pkt.slots, 0);
    end();
}

static void what_the_kernel_does_not_have_is_not_taken(void **state)
{
    (void)state;
    begin(true);
    struct pkt pkt;
    uint64_t address;
    assert_true(kernel_takes(&address));
    kernel_receives(address + XSK_HEADROOM, SHORT, false);
    kernel_receives(address + XSK_HEADROOM, SHORT, false);              /* twice */
    assert_true(xsk_receive(&xsk, pool, &pkt));
    struct pkt again;
    assert_true(xsk_receive(&xsk, pool, &again) && again.slots == 0);
    pool_pkt_free(pool, &pkt);
    kernel_receives((uint64_t)SLOTS * POOL_SLOT, SHORT, false);         /* beyond the arena */
    assert_true(xsk_receive(&xsk, pool, &again) && again.slots == 0);
    assert_true(kernel_takes(&address));
    kernel_receives(address + POOL_SLOT - 1, SHORT, false);             /* beyond its slot */
    assert_true(xsk_receive(&xsk, pool, &again) && again.slots == 0);
    assert_false(xsk_receive(&xsk, pool, &again));
    kernel_is_done(0);
    kernel_is_done(UINT64_MAX);
    xsk.in_flight = 0;
    xsk_reap(&xsk, pool);
    assert_int_equal(xsk.in_flight, 0);
    end();
}

/* However few slots there are, as many wait as before: what can't be replaced is dropped, the last first. */
static void the_kernel_is_never_without_slots(void **state)
{
    (void)state;
    static uint32_t taken[SLOTS];
    uint32_t n = 0;
    begin(true);
    for (uint32_t slot; (slot = pool_get(pool)) != POOL_NONE;)
        taken[n++] = slot;
    for (uint32_t spare = 0; spare < 3; spare++) {
        for (uint32_t i = 0; i < spare; i++)
            pool_put(pool, taken[--n]);
        for (uint8_t i = 0; i < 5; i++)
            assert_true(kernel_frame(1, i));
        fake_io.batch.n = 0;
        while (xsk_receive(&xsk, pool, &fake_io.batch.pkt[fake_io.batch.n])) {
            fake_io.batch.pkt[fake_io.batch.n].in_port = 1;
            fake_io.batch.n++;
        }
        uint64_t drops = fake_stats.drops[DROP_NO_SLOT];
        xsk_refill(&xsk, &fake_io);
        assert_int_equal(xsk.filled, WANT);
        assert_int_equal(fake_io.batch.n, spare);
        assert_int_equal(fake_stats.drops[DROP_NO_SLOT] - drops, 5 - spare);
        for (uint32_t i = 0; i < spare; i++) {
            assert_true(is_all(&fake_io.batch.pkt[i], (uint8_t)i));
            taken[n++] = fake_io.batch.pkt[i].slot;
        }
    }
    while (n)
        pool_put(pool, taken[--n]);
    end();
}

static void a_slot_that_a_packet_no_longer_reaches_is_free_at_once(void **state)
{
    (void)state;
    begin(false);
    struct pkt pkt;
    assert_true(pool_pkt_new_len(pool, &pkt, POOL_HEAD_MAX + 2 * POOL_SLOT));
    pkt_trim(&pkt, POOL_HEAD_MAX + 10);
    assert_true(xsk_send(&xsk, pool, &pkt));
    assert_int_equal(*xsk.tx.producer, 2);
    assert_int_equal(descs[1][0].len, POOL_HEAD_MAX);
    assert_int_equal(descs[1][0].options, XSK_MORE);
    assert_int_equal(descs[1][1].len, 10);
    assert_int_equal(descs[1][1].options, 0);
    assert_int_equal(xsk.in_flight, 2);
    assert_int_equal(arena_free_slots(&fake_arena, pool, 1), SLOTS - 2);
    end();
}

static void no_more_is_sent_than_may_be_on_its_way(void **state)
{
    (void)state;
    begin(false);
    struct pkt pkt;
    xsk.in_flight = MOST - 1;
    assert_true(pool_pkt_new_len(pool, &pkt, POOL_HEAD_MAX + 1));
    assert_false(xsk_send(&xsk, pool, &pkt));
    pool_pkt_free(pool, &pkt);
    assert_true(pool_pkt_new_len(pool, &pkt, SHORT));
    assert_true(xsk_send(&xsk, pool, &pkt));
    xsk.in_flight = 1;
    end();
}

/* Of what it takes too long for, the kernel may send the bytes later still. */
static void what_is_still_being_sent_is_not_given_back(void **state)
{
    (void)state;
    begin(true);
    struct pkt pkt;
    assert_true(pool_pkt_new_len(pool, &pkt, SHORT));
    assert_true(xsk_send(&xsk, pool, &pkt));
    xsk_close(&xsk, pool);
    assert_int_equal(arena_free_slots(&fake_arena, pool, 1), SLOTS - 1);
    pool_put(pool, pkt.slot);
    fake_io_end();
}

/* ---- anything, in any order ---------------------------------------------------------------------- */

static void a_random_kernel_gets_and_gives_all_back(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 200; round++) {
        begin(true);
        uint64_t sent[SLOTS];
        uint32_t sent_n = 0, at = 0;
        uint8_t byte = 0;
        for (uint32_t step = 0; step < 300; step++) {
            struct pkt pkt;
            switch (rnd(4)) {
            case 0:
                kernel_frame(1 + rnd(LONGEST), ++byte);
                break;
            case 1:
                while (xsk_receive(&xsk, pool, &pkt) && pkt.slots) {
                    assert_true(is_all(&pkt, pkt.data[0]));
                    if (!xsk_send(&xsk, pool, &pkt))
                        pool_pkt_free(pool, &pkt);
                }
                break;
            case 2:             /* the kernel sends some, and is done with them in any order */
                for (; at != *xsk.tx.producer && rnd(4); at++)
                    sent[sent_n++] = descs[1][at % XSK_RING].addr;
                *xsk.tx.consumer = at;
                while (sent_n && rnd(3)) {
                    uint32_t which = rnd(sent_n);
                    kernel_is_done(sent[which]);
                    sent[which] = sent[--sent_n];
                }
                break;
            default:
                xsk_reap(&xsk, pool);
                xsk_fill(&xsk, pool);
            }
            assert_true(xsk.filled <= WANT);
        }
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_slots_wait_as_are_wanted),
        cmocka_unit_test(a_packet_is_where_the_kernel_put_it),
        cmocka_unit_test(a_packet_of_too_many_slots_is_none),
        cmocka_unit_test(what_the_kernel_does_not_have_is_not_taken),
        cmocka_unit_test(the_kernel_is_never_without_slots),
        cmocka_unit_test(a_slot_that_a_packet_no_longer_reaches_is_free_at_once),
        cmocka_unit_test(no_more_is_sent_than_may_be_on_its_way),
        cmocka_unit_test(what_is_still_being_sent_is_not_given_back),
        cmocka_unit_test(a_random_kernel_gets_and_gives_all_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
