"""Probes from inside VMs that must not get anywhere, and the proof that they left the VM and where they
died.
"""

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from dataplane.host import netns
from policy.kinds.model import ROUTER_MAC
from tools.demo.frames import (
    ARP,
    ETHERTYPES,
    GRE,
    ICMP,
    ICMPV6,
    Address,
    arp_request,
    echo,
    ethernet,
    ip,
    mac_bytes,
    nvgre,
    udp,
)
from tools.demo.vms import TIMEOUT, TrafficError, Vm
from tools.demo.wire import Capture

ReadCounters = Callable[[str], Mapping[str, "PortCounters"]]
"""Host -> its ports' counters."""

PORTS = (7001, 7001)
UNREACHABLE, UNREACHABLE6 = 3, 1
OWN_NOISE = frozenset({"multicast", "no-receiver"})
"""Drops that a VM's kernel causes by itself: multicast listener reports, under rewrite and to nobody else."""


@dataclass(frozen=True, slots=True)
class PortCounters:
    received: int
    drops: Counter[str]


@dataclass(frozen=True, slots=True)
class Probe:
    """A frame, the drop reason that must count it, and byte strings which it, a copy and an answer all
    have.
    """

    frame: bytes
    reason: str
    marks: tuple[bytes, ...]

    def is_in(self, frame: bytes) -> bool:
        """Whether a frame is the probe or was made from it."""
        ours, theirs = (data[12:14] == ARP.to_bytes(2, "big") for data in (self.frame, frame))
        return ours == theirs and all(mark in frame for mark in self.marks)


def udp_probe(reason: str, ether: tuple[str, str], source: Address, destination: Address) -> Probe:
    """ether: (destination MAC, source MAC)."""
    mark = os.urandom(16)
    packet = udp(source, destination, PORTS, mark)
    return Probe(ethernet(*ether, ETHERTYPES[source.version], packet), reason, (mark,))


def echo_probe(reason: str, ether: tuple[str, str], source: Address, destination: Address) -> Probe:
    mark = os.urandom(16)
    packet = echo(source, destination, mark)
    return Probe(ethernet(*ether, ETHERTYPES[source.version], packet), reason, (mark,))


def nvgre_probe(
    reason: str, ether: tuple[str, str], source: Address, destination: Address, vsid: int
) -> Probe:
    """A VM that makes NVGRE by itself."""
    mark = os.urandom(16)
    inner = ethernet(ether[0], ether[1], 0x0800, mark)
    packet = ip(source, destination, GRE, nvgre(vsid, inner))
    return Probe(ethernet(*ether, ETHERTYPES[source.version], packet), reason, (mark,))


def arp_probe(reason: str, mac: str, sender: Address, target: Address) -> Probe:
    return Probe(arp_request(mac, sender, target), reason, (sender.packed, target.packed))


def send_frames(namespace: str, device: str, frames: Iterable[bytes]) -> None:
    """Sends frames as they are out of a device."""
    with netns.call(namespace, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
        opened.bind((device, 0))
        for frame in frames:
            opened.send(frame)


def is_refusal(frame: bytes) -> bool:
    """The virtual router's ICMP error to a VM: its own packet comes back as a quote."""
    if frame[6:12] != mac_bytes(ROUTER_MAC):
        return False
    if frame[12:14] == ETHERTYPES[4].to_bytes(2, "big"):
        return frame[23] == ICMP and frame[34] == UNREACHABLE
    return frame[20] == ICMPV6 and frame[54] == UNREACHABLE6


def prove_dropped(
    sender: Vm,
    probes: Sequence[Probe],
    read: ReadCounters,
    others: Iterable[tuple[str, str]],
) -> str:
    """Sends probes out of a VM and returns what was seen.

    others: (namespace, device) of all other places to watch. TrafficError: a probe did not leave the VM,
    something of it came out elsewhere, was answered (the router may say that it leads nowhere), or other drop
    counters rose than the probes name.
    """
    expected = Counter(probe.reason for probe in probes)
    with ExitStack() as stack:
        own = stack.enter_context(Capture(sender.namespace, sender.device))
        watched = [(place, stack.enter_context(Capture(*place))) for place in others]
        before = read(sender.host)[sender.name]
        send_frames(sender.namespace, sender.device, [probe.frame for probe in probes])
        drops = _wait_for_drops(sender, before, expected, read)
        left = [frame for frame, _ in own.frames()]
        elsewhere = [(place, frame) for place, capture in watched for frame, _ in capture.frames()]
    for number, probe in enumerate(probes, 1):
        copies = sum(probe.is_in(frame) and not is_refusal(frame) for frame in left)
        if copies != 1:
            what = "did not leave" if copies == 0 else "was answered into"
            raise TrafficError(f"probe {number} ({probe.reason}) {what} {sender.name}")
        for (namespace, device), frame in elsewhere:
            if probe.is_in(frame):
                raise TrafficError(f"probe {number} ({probe.reason}) came out at {device} of {namespace}")
    if drops != expected:
        raise TrafficError(f"{sender.name}: {_text(drops) or 'no drop counter'} rose, not {_text(expected)}")
    count = f"{len(probes)} probes" if len(probes) > 1 else "1 probe"
    return f"{count} left {sender.name}: {_text(drops)}; seen nowhere else"


def _wait_for_drops(
    sender: Vm, before: PortCounters, expected: Counter[str], read: ReadCounters
) -> Counter[str]:
    """What the port dropped since `before`, once it is at least as much as expected or time is up."""
    end = time.monotonic() + TIMEOUT
    while True:
        drops = read(sender.host)[sender.name].drops - before.drops
        drops = Counter({reason: n for reason, n in drops.items() if reason not in OWN_NOISE})
        if drops.total() >= expected.total() or time.monotonic() > end:
            return drops
        time.sleep(0.005)


def _text(drops: Counter[str]) -> str:
    return ", ".join(f"{reason} +{count}" for reason, count in sorted(drops.items()))
