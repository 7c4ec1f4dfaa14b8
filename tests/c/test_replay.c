/* Capture files through the engine: merging, clock and timers, batch sizes, and files that can't be read. */
#include <fcntl.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "hub.h"

#define SECOND 1000000000ull

static struct frame f;

/* ---- capture files in memory ---------------------------------------------------------------------------------------- */

enum format { PCAP_NS, PCAP_US };

struct file {
    int fd;
    pcap_dumper_t *dumper;
    uint64_t unit;                      /* ns of one step of the fraction */
};

static struct file file_open(enum format format, int link)
{
    struct file file = {.fd = memfd_create("capture", MFD_CLOEXEC), .unit = format == PCAP_NS ? 1 : 1000};
    pcap_t *pcap = pcap_open_dead_with_tstamp_precision(link, 262144, format == PCAP_NS ? PCAP_TSTAMP_PRECISION_NANO : PCAP_TSTAMP_PRECISION_MICRO);
    file.dumper = pcap_dump_fopen(pcap, fdopen(dup(file.fd), "wb"));
    assert_non_null(file.dumper);
    pcap_close(pcap);
    return file;
}

static void file_put(struct file *file, uint64_t time, const struct frame *frame, uint32_t caplen)
{
    struct pcap_pkthdr h = {.ts = {(time_t)(time / SECOND), (suseconds_t)(time % SECOND / file->unit)}, .caplen = caplen, .len = frame->len};
    pcap_dump((u_char *)file->dumper, &h, frame->bytes);
}

static void put(struct file *file, uint64_t time, enum hub_action action, uint8_t port, uint32_t number, uint32_t len)
{
    hub_frame(&f, len, action, port, number);
    file_put(file, time, &f, f.len);
}

static void file_end(struct file *file)
{
    if (file->dumper)
        pcap_dump_close(file->dumper);
    file->dumper = NULL;
    assert_int_equal(lseek(file->fd, 0, SEEK_SET), 0);
}

static int source(uint32_t port, struct file *file)
{
    file_end(file);
    int error = dp_replay_source(hub, port, file->fd);
    close(file->fd);
    return error;
}

/* ---- what came out -------------------------------------------------------------------------------------------------- */

enum { OUT_MAX = 600 };

struct out {
    int fd;
    uint32_t n;
    uint64_t time[OUT_MAX];
    uint32_t number[OUT_MAX], len[OUT_MAX];
};

static struct out out[3];               /* by port */

static void start(void)
{
    hub_start(1, 0);
    for (uint32_t id = 0; id < 3; id++) {
        out[id] = (struct out){.fd = memfd_create("out", MFD_CLOEXEC)};
        assert_int_equal(hub_attach(id, DP_PORT_PCAP, 0, 1, &out[id].fd), DP_OK);
    }
}

static void read_out(struct out *o)
{
    char text[PCAP_ERRBUF_SIZE];
    struct pcap_pkthdr *h;
    const u_char *bytes;
    lseek(o->fd, 0, SEEK_SET);
    pcap_t *pcap = pcap_fopen_offline_with_tstamp_precision(fdopen(dup(o->fd), "rb"), PCAP_TSTAMP_PRECISION_NANO, text);
    assert_non_null(pcap);
    for (o->n = 0; pcap_next_ex(pcap, &h, &bytes) == 1; o->n++) {
        assert_in_range(o->n, 0, OUT_MAX - 1);
        o->time[o->n] = (uint64_t)h->ts.tv_sec * SECOND + (uint64_t)h->ts.tv_usec;
        o->number[o->n] = get32(bytes + 6);
        o->len[o->n] = h->len;
    }
    pcap_close(pcap);
}

static void end(void)
{
    hub_end();
    for (uint32_t id = 0; id < 3; id++)
        close(out[id].fd);
}

static int64_t replay(uint32_t batch, uint64_t linger)
{
    int64_t n = dp_replay(hub, batch, linger);
    hub_balance();
    for (uint32_t id = 0; id < 3; id++)
        read_out(&out[id]);
    return n;
}

/* ---- tests ---------------------------------------------------------------------------------------------------------- */

static void sources_merge_by_time_then_by_order(void **state)
{
    (void)state;
    const uint64_t a_times[] = {5, 7, 7, 9}, b_times[] = {1, 7, 8, 9}, t0 = 1700000000 * SECOND;
    const uint32_t expected[] = {10, 0, 1, 2, 11, 12, 3, 13};
    for (uint32_t batch = 1; batch <= 64; batch += 63) {
        start();
        struct file a = file_open(PCAP_NS, DLT_EN10MB), b = file_open(PCAP_NS, DLT_EN10MB);
        for (uint32_t i = 0; i < 4; i++) {
            put(&a, t0 + a_times[i], HUB_SEND, 0, i, 60);
            put(&b, t0 + b_times[i], HUB_SEND, 0, 10 + i, 60);
        }
        assert_int_equal(source(1, &a), DP_OK);
        assert_int_equal(source(2, &b), DP_OK);
        assert_int_equal(replay(batch, 0), 8);
        assert_int_equal(out[0].n, 8);
        for (uint32_t i = 0; i < 8; i++) {
            assert_int_equal(out[0].number[i], expected[i]);
            assert_int_equal(out[0].time[i], t0 + (expected[i] < 10 ? a_times[expected[i]] : b_times[expected[i] - 10]));
        }
        end();
    }
}

static void microseconds_and_nanoseconds_are_read(void **state)
{
    (void)state;
    start();
    struct file us = file_open(PCAP_US, DLT_EN10MB), ns = file_open(PCAP_NS, DLT_EN10MB);
    put(&us, 3 * SECOND + 2000, HUB_SEND, 0, 0, 60);
    put(&ns, 3 * SECOND + 1999, HUB_SEND, 0, 1, 60);
    assert_int_equal(source(1, &us), DP_OK);
    assert_int_equal(source(2, &ns), DP_OK);
    assert_int_equal(replay(64, 0), 2);
    assert_int_equal(out[0].number[0], 1);
    assert_int_equal(out[0].time[0], 3 * SECOND + 1999);
    assert_int_equal(out[0].time[1], 3 * SECOND + 2000);
    end();
}

static void put_word(int fd, uint32_t word)
{
    assert_int_equal(write(fd, &word, 4), 4);
}

/* Section header, interface description (Ethernet, microseconds), one enhanced packet block. */
static void pcapng_is_read(void **state)
{
    (void)state;
    start();
    struct file ng = {.fd = memfd_create("pcapng", MFD_CLOEXEC)};
    const uint32_t head[] = {0x0a0d0d0a, 28, 0x1a2b3c4d, 1, 0xffffffff, 0xffffffff, 28, 1, 20, DLT_EN10MB, 0, 20};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        put_word(ng.fd, head[i]);
    hub_frame(&f, 60, HUB_SEND, 0, 77);
    const uint32_t block[] = {6, 32 + 60, 0, 0, 5000123, 60, 60};
    for (size_t i = 0; i < sizeof block / sizeof *block; i++)
        put_word(ng.fd, block[i]);
    assert_int_equal(write(ng.fd, f.bytes, 60), 60);
    put_word(ng.fd, 32 + 60);
    assert_int_equal(source(1, &ng), DP_OK);
    assert_int_equal(replay(64, 0), 1);
    assert_int_equal(out[0].number[0], 77);
    assert_int_equal(out[0].time[0], 5000123000);
    end();
}

static void timers_run_at_their_own_time(void **state)
{
    (void)state;
    hub_fixed = false;
    start();
    struct file a = file_open(PCAP_NS, DLT_EN10MB);
    put(&a, 10 * SECOND, HUB_HOLD, 0, 0, 60);
    put(&a, 10 * SECOND + 1, HUB_HOLD, 0, 1, 60);
    put(&a, 11 * SECOND, HUB_SEND, 0, 2, 60);           /* the first timer is due at this very time: it goes first */
    put(&a, 20 * SECOND, HUB_HOLD, 0, 3, 60);
    assert_int_equal(source(1, &a), DP_OK);
    assert_int_equal(replay(64, SECOND), 4);
    const uint32_t order[] = {0, 2, 1, 3};
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(out[0].number[i], order[i]);
    assert_int_equal(hub_clock_n, 3);
    assert_int_equal(hub_clock[0], 11 * SECOND);
    assert_int_equal(hub_clock[1], 11 * SECOND + 1);
    assert_int_equal(hub_clock[2], 21 * SECOND);
    end();
    hub_fixed = true;
}

static void the_clock_lingers_no_longer_than_asked(void **state)
{
    (void)state;
    for (uint64_t linger = SECOND - 1; linger <= SECOND; linger++) {
        start();
        struct file a = file_open(PCAP_NS, DLT_EN10MB);
        put(&a, 10 * SECOND, HUB_HOLD, 0, 0, 60);
        assert_int_equal(source(1, &a), DP_OK);
        assert_int_equal(replay(64, linger), 1);
        assert_int_equal(out[0].n, linger == SECOND);
        assert_int_equal(hub_counters(1).held, linger < SECOND);
        end();
    }
}

static void a_falling_timestamp_does_not_turn_the_clock_back(void **state)
{
    (void)state;
    hub_fixed = false;
    start();
    struct file a = file_open(PCAP_NS, DLT_EN10MB);
    put(&a, 10 * SECOND, HUB_SEND, 0, 0, 60);
    put(&a, 8 * SECOND, HUB_HOLD, 0, 1, 60);            /* due at 9 s, which is over: at once */
    put(&a, 10 * SECOND, HUB_SEND, 0, 2, 60);
    assert_int_equal(source(1, &a), DP_OK);
    assert_int_equal(replay(64, 0), 3);
    assert_int_equal(out[0].n, 3);
    assert_int_equal(out[0].number[1], 1);
    assert_int_equal(out[0].time[1], 8 * SECOND);
    assert_int_equal(hub_clock[0], 10 * SECOND);
    end();
    hub_fixed = true;
}

/* The same random captures with every batch size, with and without timers. */
static void the_batch_size_does_not_show(void **state)
{
    (void)state;
    static struct out first[3];
    const uint32_t sizes[] = {1, 2, 63, 64};
    for (uint32_t round = 0; round < 4; round++) {
        const uint64_t seed = 0x1234567 + round;
        hub_fixed = round % 2;
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            struct file in[2] = {file_open(PCAP_NS, DLT_EN10MB), file_open(PCAP_NS, DLT_EN10MB)};
            uint64_t time = SECOND;
            rnd_state = seed;
            start();
            for (uint32_t i = 0; i < 400; i++) {
                const enum hub_action actions[] = {HUB_SEND, HUB_COPY, HUB_DROP, HUB_CONSUME, hub_fixed ? HUB_SEND : HUB_HOLD};
                time += rnd(4) ? 0 : rnd(SECOND / 4);
                put(&in[rnd(3) == 0], time - (rnd(20) ? 0 : rnd(SECOND)), actions[rnd(5)], (uint8_t)rnd(3), i, ETH_LEN + rnd(6000));
            }
            assert_int_equal(source(1, &in[0]), DP_OK);
            assert_int_equal(source(2, &in[1]), DP_OK);
            assert_int_equal(replay(sizes[s], 10 * SECOND), 400);
            for (uint32_t id = 0; id < 3; id++) {
                int fd = out[id].fd;
                out[id].fd = 0;
                if (s == 0)
                    first[id] = out[id];
                assert_memory_equal(&out[id], &first[id], sizeof out[id]);
                out[id].fd = fd;
            }
            end();
        }
    }
    hub_fixed = true;
}

static void expect_error(int64_t got, const char *part)
{
    assert_int_equal(got, DP_EFORMAT);
    assert_non_null(strstr(dp_replay_error(hub), part));
}

static void files_that_are_no_use_are_named(void **state)
{
    (void)state;
    start();
    struct file snapped = file_open(PCAP_NS, DLT_EN10MB), cooked = file_open(PCAP_NS, DLT_LINUX_SLL), cut = file_open(PCAP_NS, DLT_EN10MB);
    struct file text = {.fd = memfd_create("text", MFD_CLOEXEC)}, absent = file_open(PCAP_NS, DLT_EN10MB);
    expect_error(source(1, &cooked), "LINUX_SLL");
    assert_int_equal(write(text.fd, "no capture file at all", 22), 22);
    expect_error(source(1, &text), "");
    assert_true(strlen(dp_replay_error(hub)) > 0);
    assert_int_equal(source(9, &absent), DP_EINVAL);
    assert_int_equal(dp_replay_source(hub, 1, -1), DP_ESYS);

    put(&snapped, SECOND, HUB_SEND, 0, 0, 60);
    hub_frame(&f, 100, HUB_SEND, 0, 1);
    file_put(&snapped, SECOND, &f, 96);
    assert_int_equal(source(1, &snapped), DP_OK);
    expect_error(replay(1, 0), "port port1, packet 2: snapped to 96 of 100 bytes");

    put(&cut, SECOND, HUB_SEND, 0, 0, 60);
    file_end(&cut);
    assert_int_equal(ftruncate(cut.fd, 24 + 16 + 59), 0);
    assert_int_equal(source(2, &cut), DP_OK);
    expect_error(replay(1, 0), "port port2, packet 1: truncated");
    end();
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    start();
    assert_int_equal(dp_replay(hub, 0, 0), DP_EINVAL);
    assert_int_equal(dp_replay(hub, DP_BATCH + 1, 0), DP_EINVAL);
    assert_int_equal(replay(64, 0), 0);                 /* nothing to read is no error */
    struct file a = file_open(PCAP_NS, DLT_EN10MB);
    put(&a, SECOND, HUB_SEND, 0, 0, 60);
    assert_int_equal(source(1, &a), DP_OK);
    assert_int_equal(dp_port_detach(hub, 1), DP_OK);
    assert_int_equal(dp_replay(hub, 64, 0), DP_EINVAL);
    int read_only = open("/dev/null", O_RDONLY), full = open("/dev/full", O_WRONLY);
    assert_int_equal(hub_attach(5, DP_PORT_PCAP, 0, 1, &read_only), DP_ESYS);
    assert_int_equal(hub_attach(6, DP_PORT_PCAP, 0, 1, &full), DP_OK);
    assert_int_equal(dp_replay(hub, 64, 0), DP_ESYS);
    close(read_only);
    close(full);
    end();
    hub_start(2, 0);
    assert_int_equal(dp_replay(hub, 64, 0), DP_EINVAL);
    hub_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_merge_by_time_then_by_order),
        cmocka_unit_test(microseconds_and_nanoseconds_are_read),
        cmocka_unit_test(pcapng_is_read),
        cmocka_unit_test(timers_run_at_their_own_time),
        cmocka_unit_test(the_clock_lingers_no_longer_than_asked),
        cmocka_unit_test(a_falling_timestamp_does_not_turn_the_clock_back),
        cmocka_unit_test(the_batch_size_does_not_show),
        cmocka_unit_test(files_that_are_no_use_are_named),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
