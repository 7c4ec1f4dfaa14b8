"""Sends one frame again and again, as fast as its device takes it: `python -m tests.netns.flood DEVICE`, its
virtio-net header and bytes on standard input. It runs until it is ended.
"""

import socket
import sys
from itertools import repeat

_SOL_PACKET, _VNET_HDR = 263, 15


def main() -> None:
    frame = sys.stdin.buffer.read()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.setsockopt(_SOL_PACKET, _VNET_HDR, 1)
        raw.bind((sys.argv[1], 0))
        for _ in repeat(None):
            try:
                raw.send(frame)
            except OSError:  # the device's queue is full
                continue


if __name__ == "__main__":
    main()
