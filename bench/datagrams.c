/*
 * datagrams.c: small UDP datagrams through the kernel's stack of both ends, for `isolane bench ports`.
 *
 *   datagrams send ADDRESS PORT BYTES RATE SECONDS   so many a second, or with RATE 0 as fast as it goes; prints
 *                                                    how many went and in how many nanoseconds
 *   datagrams receive ADDRESS PORT                   prints "ready"; at SIGTERM, how many have come
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum {
    BATCH = 32,
    LONGEST = 1472,
    PAUSE_NS = 50000, /* of a paced sender: a few datagrams come due in it */
    BUFFER = 4 << 20,
};

static struct mmsghdr messages[BATCH];
static struct iovec pieces[BATCH];
static char payload[BATCH][LONGEST];
static volatile sig_atomic_t ends;

static void prepare(size_t bytes)
{
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){payload[i], bytes};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    }
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* A UDP socket's descriptor, or -1 with errno. */
static int open_socket(const char *address, const char *port, struct sockaddr_in *place)
{
    *place = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &place->sin_addr) != 1) {
        errno = EINVAL;
        return -1;
    }
    return socket(AF_INET, SOCK_DGRAM, 0);
}

/* Returns how many of at most `wanted` went: none if there is no room for them. */
static unsigned send_some(int fd, int64_t wanted)
{
    int sent = sendmmsg(fd, messages, wanted < BATCH ? (unsigned)wanted : BATCH, 0);
    return sent > 0 ? (unsigned)sent : 0;
}

static int sending(char **words)
{
    struct sockaddr_in place;
    int fd = open_socket(words[0], words[1], &place);
    size_t bytes = (size_t)atoi(words[2]);
    double rate = atof(words[3]) / 1e9, duration = atof(words[4]) * 1e9;
    if (fd < 0 || bytes > LONGEST || connect(fd, (struct sockaddr *)&place, sizeof place)) {
        perror("send");
        return 1;
    }
    prepare(bytes);
    prctl(PR_SET_TIMERSLACK, 1);
    int64_t begun = now(), passed = 0, sent = 0;
    for (; (double)passed < duration; passed = now() - begun) {
        int64_t due = rate > 0 ? (int64_t)(rate * (double)passed) - sent : BATCH;
        if (due > 0)
            sent += send_some(fd, due);
        else
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    printf("%lld %lld\n", (long long)sent, (long long)passed);
    return 0;
}

static void end(int number)
{
    (void)number;
    ends = 1;
}

/* All that is there; returns how many. */
static int64_t take(int fd)
{
    int64_t taken = 0;
    for (int n; (n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL)) > 0;)
        taken += n;
    return taken;
}

static int receiving(char **words)
{
    struct sockaddr_in place;
    int fd = open_socket(words[0], words[1], &place), size = BUFFER;
    sigset_t awake, asleep;
    sigemptyset(&asleep);
    sigaddset(&asleep, SIGTERM);
    sigprocmask(SIG_BLOCK, &asleep, &awake); /* it comes while nothing is being taken, so none is missed */
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) ||
        bind(fd, (struct sockaddr *)&place, sizeof place)) {
        perror("receive");
        return 1;
    }
    prepare(LONGEST);
    puts("ready");
    fflush(stdout);
    int64_t came = 0;
    while (!ends) {
        ppoll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, NULL, &awake);
        came += take(fd);
    }
    printf("%lld\n", (long long)came);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 7 && !strcmp(argv[1], "send"))
        return sending(argv + 2);
    if (argc == 4 && !strcmp(argv[1], "receive"))
        return receiving(argv + 2);
    return 2;
}
