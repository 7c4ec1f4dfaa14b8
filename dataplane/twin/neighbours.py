"""Of the naive twin: provider next hops, resolved by ARP and ND (csrc/README.md 2.12, 3.2, 3.3)."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from dataplane.twin.packet import BROADCAST, Packet
from dataplane.twin.sums import crc32c
from dataplane.twin.wire import arp, nd

HOLD, SHARE, TRIES = 16, 4, 3
RETRY, FRESH = 1_000_000_000, 30_000_000_000
SPREAD, SPREAD_STEP = 16, 250_000_000
NO_MAC = bytes(6)


class State(IntEnum):
    """enum dp_neigh_state."""

    IDLE = 0
    ASKING = 1
    KNOWN = 2
    FAILED = 3
    FIXED = 4


@dataclass
class Neighbour:
    """One next hop. mac: all zero while unknown. waiting: packets complete but for their MACs. due: when
    to ask again; fresh: how long that is after it was heard of."""

    address: bytes
    fresh: int = FRESH
    mac: bytes = NO_MAC
    state: State = State.IDLE
    tries: int = 0
    due: int = 0
    waiting: list[Packet] = field(default_factory=list)


def request(underlay_mac: bytes, sender: bytes, neighbour: Neighbour) -> bytes:
    """Who has this address? To the MAC it had last, else ARP to all or an NS to the solicited-node group
    (RFC 4861 section 7.2.2)."""
    address, known = neighbour.address, neighbour.mac != NO_MAC
    if len(address) == 4:
        to = neighbour.mac if known else BROADCAST
        return arp(1, to, (underlay_mac, sender), (NO_MAC, address))
    group = bytes.fromhex("ff0200000000000000000001ff") + address[13:]
    message = struct.pack(">BBHI", 135, 0, 0, 0) + address + b"\x01\x01" + underlay_mac
    if known:
        return nd((neighbour.mac, underlay_mac), sender, address, message)
    return nd((b"\x33\x33" + group[12:], underlay_mac), sender, group, message)


def fresh_time(underlay_mac: bytes, address: bytes) -> int:
    """ns: what is heard of together is not asked again together."""
    return FRESH - crc32c(underlay_mac + address.ljust(16, b"\0"), 0) % SPREAD * SPREAD_STEP


class Neighbours:
    """The table of next hops. ask(neighbour, time) sends a request, release(neighbour, packet) what waited;
    give_up(packet, reason) drops it; in_use(address) says whether policy needs it.

    asking and fresh: who waits for an answer, the first is the first due; who is to be asked again some
    time, or has failed and is to be forgotten. underlay_mac: of the device that there is, or was last.
    """

    def __init__(
        self,
        ask: Callable[[Neighbour, int], None],
        release: Callable[[Neighbour, Packet], None],
        give_up: Callable[[Packet, str], None],
        in_use: Callable[[bytes], bool],
    ) -> None:
        self._ask, self._release, self._give_up, self._in_use = ask, release, give_up, in_use
        self.entries: dict[bytes, Neighbour] = {}
        self.asking: list[Neighbour] = []
        self.fresh: list[Neighbour] = []
        self.underlay_mac = NO_MAC

    def entry(self, address: bytes) -> Neighbour:
        return self.entries.setdefault(address, Neighbour(address))

    def fix(self, address: bytes, mac: bytes) -> None:
        neighbour = self.entry(address)
        self._leave_lists(neighbour)
        neighbour.mac, neighbour.state = mac, State.FIXED
        self._let_go(neighbour)

    def may_hold(self, neighbour: Neighbour, packet: Packet, arena: int) -> bool:
        """arena: slots of all packets. What waits has a quarter of them at most."""
        waiting = sum(p.slots for n in self.entries.values() for p in n.waiting)
        return len(neighbour.waiting) < HOLD and waiting + packet.slots <= arena // SHARE

    def learn(self, address: bytes, mac: bytes, now: int) -> bool:
        """What it says of itself. False: nobody wants to know."""
        neighbour = self.entries.get(address, Neighbour(address))
        if not self._in_use(address) and neighbour not in self.asking:
            return False
        neighbour = self.entry(address)
        if neighbour.state != State.FIXED and mac != NO_MAC and not mac[0] & 1:
            self._leave_lists(neighbour)
            neighbour.mac, neighbour.state = mac, State.KNOWN
            self._keep_fresh(neighbour, now)
            self._let_go(neighbour)
        return True

    def hold(self, neighbour: Neighbour, packet: Packet, now: int) -> None:
        neighbour.waiting.append(packet)
        self.ask(neighbour, packet.time, now)

    def ask(self, neighbour: Neighbour, time: int, now: int) -> None:
        """Begins to ask, unless that is under way. time: of what caused it."""
        if neighbour in self.asking or neighbour.state == State.FIXED:
            return
        if neighbour.state != State.KNOWN:
            neighbour.state = State.ASKING
        neighbour.tries = 0
        self._ask_once(neighbour, time, now)

    def next_timer(self) -> int:
        """When run_timers() has something to do: ns, 2^64 - 1 for never."""
        return min((n.due for n in self.asking + self.fresh), default=2**64 - 1)

    def run_timers(self, now: int) -> None:
        for neighbour in [n for n in self.asking if n.due <= now]:
            if neighbour.tries < TRIES:
                self._ask_once(neighbour, now, now)
            else:
                self._forget(neighbour, State.FAILED)
                self._keep_fresh(neighbour, now)
        due = [n for n in self.fresh if n.due <= now]
        for neighbour in sorted(due, key=lambda n: (n.due, -n.fresh)):
            if not self._in_use(neighbour.address):
                self._forget(neighbour, State.IDLE)
            elif neighbour.state == State.FAILED:
                self._keep_fresh(neighbour, now)
            else:
                self.ask(neighbour, now, now)

    def stop(self) -> None:
        for neighbour in self.entries.values():
            self._drop_waiting(neighbour, "stopped")

    def _keep_fresh(self, neighbour: Neighbour, now: int) -> None:
        self._leave_lists(neighbour)
        neighbour.fresh = fresh_time(self.underlay_mac, neighbour.address)
        neighbour.due = now + neighbour.fresh
        self.fresh.append(neighbour)

    def _ask_once(self, neighbour: Neighbour, time: int, now: int) -> None:
        self._leave_lists(neighbour)
        neighbour.tries += 1
        neighbour.due = now + RETRY
        self.asking.append(neighbour)
        self._ask(neighbour, time)

    def _forget(self, neighbour: Neighbour, state: State) -> None:
        self._leave_lists(neighbour)
        neighbour.mac, neighbour.state = NO_MAC, state
        self._drop_waiting(neighbour, "neigh-failed")

    def _leave_lists(self, neighbour: Neighbour) -> None:
        self.asking = [n for n in self.asking if n is not neighbour]
        self.fresh = [n for n in self.fresh if n is not neighbour]

    def _let_go(self, neighbour: Neighbour) -> None:
        for packet in neighbour.waiting:
            self._release(neighbour, packet)
        neighbour.waiting = []

    def _drop_waiting(self, neighbour: Neighbour, reason: str) -> None:
        for packet in neighbour.waiting:
            self._give_up(packet, reason)
        neighbour.waiting = []
