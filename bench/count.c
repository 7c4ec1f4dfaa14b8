/*
 * count.c: runs the fixed inputs whose instructions are counted. bench/instructions.py writes them and reads what
 * comes out.
 *
 *   count FILE           under valgrind: a case's are those of bench_path() and bench_find() up to count_done()
 *   count --perf FILE    the same by the CPU's own counter; exit status 3 if there is none
 *   count --compiler     says what compiled it
 * Prints a line a case: packets, dropped, instructions (0 under valgrind). FILE: cases, each a struct count_case, its
 * change sets (a length of four bytes before each) and its frames.
 */
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "dp_api.h"

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

struct count_case {
    uint32_t op, port, family, frames, frame_len, change_sets;
    uint8_t router_mac[6], underlay_mac[6], port_mac[6], gateway_mac[6];
    uint8_t gateway[16];        /* the provider's, of the family */
};

struct input {
    FILE *file;
    int counter;                /* descriptor, 0: none */
};

static void die(const char *what, int code)
{
    fprintf(stderr, "count: %s (%d)\n", what, code);
    exit(1);
}

static void check(int code, const char *what)
{
    if (code < 0)
        die(what, code);
}

static void *take(struct input *in, size_t size)
{
    void *bytes = malloc(size);
    if (!bytes || fread(bytes, 1, size, in->file) != size)
        die("the input ends too early", 0);
    return bytes;
}

/* valgrind takes its figures when this is called. */
static __attribute__((noinline)) void count_done(void)
{
    __asm__ volatile("" ::: "memory");
}

static void attach(struct dp *dp, uint32_t port, const uint8_t *mac)
{
    struct dp_port_config config = {.kind = DP_PORT_MEM, .mtu = 9000};
    snprintf(config.name, sizeof config.name, "port%u", port);
    memcpy(config.mac, mac, 6);
    check(dp_port_attach(dp, port, &config), "attaching a port");
}

static struct dp *engine(struct input *in, const struct count_case *c)
{
    struct dp_config config = {
        .workers = 1, .slots = 1 << 14, .self_host = 1, .hash_key = {0x9e3779b97f4a7c15, 0xd1b54a32d192ed03}};
    struct dp *dp;
    memcpy(config.router_mac, c->router_mac, 6);
    check(dp_create(&config, &dp), "creating the core");
    for (uint32_t i = 0; i < c->change_sets; i++) {
        uint32_t *len = take(in, 4);
        uint8_t *bytes = take(in, *len);
        struct dp_change_error error;
        check(dp_apply(dp, bytes, *len, &error), "a change set");
        free(bytes);
        free(len);
    }
    attach(dp, DP_UNDERLAY, c->underlay_mac);
    attach(dp, 1, c->port_mac);
    check(dp_neigh_set(dp, c->family, c->gateway, c->gateway_mac), "the neighbour");
    return dp;
}

static void run(struct input *in, const struct count_case *c)
{
    struct dp *dp = engine(in, c);
    uint8_t *frames = take(in, (size_t)c->frames * c->frame_len);
    struct dp_bench_config config = {
        .op = c->op, .port = c->port, .frames = c->frames, .frame_len = c->frame_len,
        .rounds = 1, .counter = (uint32_t)in->counter, .packets = c->frames - 1};
    struct dp_bench_round round;
    uint64_t digest, dropped, instructions = 0;
    if (in->counter)
        ioctl(in->counter, PERF_EVENT_IOC_RESET, 0);
    check(dp_bench(dp, NULL, &config, frames, &round, &digest, &dropped), "running a case");
    count_done();
    if (in->counter && read(in->counter, &instructions, sizeof instructions) != sizeof instructions)
        die("reading the counter", 0);
    printf("%lu %lu %lu\n", round.packets, dropped, instructions);
    free(frames);
    dp_destroy(dp);
}

static int open_counter(void)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE, .size = sizeof attr, .config = PERF_COUNT_HW_INSTRUCTIONS,
        .disabled = 1, .exclude_kernel = 1, .exclude_hv = 1};
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

int main(int argc, char **argv)
{
    struct input in = {0};
    struct count_case c;
    if (argc == 2 && !strcmp(argv[1], "--compiler")) {
        puts(COMPILER);
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "--perf") && (in.counter = open_counter()) < 0)
        return 3;
    if (argc < 2 || !(in.file = fopen(argv[argc - 1], "rb")))
        die("usage: count [--perf] FILE", argc);
    while (fread(&c, sizeof c, 1, in.file) == 1)
        run(&in, &c);
    fclose(in.file);
    return 0;
}
