/*
 * relay.c: an empty relay between two devices, the least that any program between them does: it reads a frame
 * and sends it.  relay [--whole] DEVICE DEVICE, until it is ended; one for each host of `isolane bench`'s
 * contestants `relays` and `relays-whole`. It waits for packets without spinning.
 * --whole: packets of 64 KiB with partial checksums pass as they are, with their virtio_net_hdr; where the
 * device they leave by takes none, the kernel cuts them, so the queue is not bypassed.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#ifndef PACKET_IGNORE_OUTGOING
enum { PACKET_IGNORE_OUTGOING = 23 };
#endif

static int open_device(const char *name, bool whole)
{
    int on = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(name)};
    bool ready = fd >= 0 && address.sll_ifindex &&
                 !setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) &&
                 !setsockopt(fd, SOL_PACKET, whole ? PACKET_VNET_HDR : PACKET_QDISC_BYPASS, &on, sizeof on) &&
                 !bind(fd, (struct sockaddr *)&address, sizeof address);
    if (!ready)
        perror(name);
    return ready ? fd : -1;
}

/* All that is there. */
static void relay(int from, int to)
{
    static char frame[(1 << 16) + ETH_HLEN + sizeof(struct virtio_net_hdr)];
    for (ssize_t n; (n = recv(from, frame, sizeof frame, 0)) > 0;)
        (void)send(to, frame, (size_t)n, 0);
}

int main(int argc, char **argv)
{
    bool whole = argc > 1 && !strcmp(argv[1], "--whole");
    if (argc != 3 + whole)
        return 2;
    argv += whole;
    struct pollfd fds[2] = {{.fd = open_device(argv[1], whole), .events = POLLIN},
                            {.fd = open_device(argv[2], whole), .events = POLLIN}};
    if (fds[0].fd < 0 || fds[1].fd < 0)
        return 1;
    while (poll(fds, 2, -1) > 0)
        for (int i = 0; i < 2; i++)
            relay(fds[i].fd, fds[!i].fd);
    return 1;
}
