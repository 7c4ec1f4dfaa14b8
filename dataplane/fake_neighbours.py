"""Of the naive twin: provider next hops, resolved by ARP and ND (csrc/README.md 2.12, 3.2, 3.3)."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from dataplane.fake_wire import BROADCAST, Packet, arp, nd

HOLD, TRIES = 16, 3
RETRY = 1_000_000_000


class State(IntEnum):
    """enum dp_neigh_state."""

    IDLE = 0
    ASKING = 1
    KNOWN = 2
    FAILED = 3
    FIXED = 4


@dataclass
class Neighbour:
    """One next hop. waiting: packets complete but for their MACs. due: when to ask again or give up."""

    address: bytes
    mac: bytes = bytes(6)
    state: State = State.IDLE
    tries: int = 0
    due: int = 0
    waiting: list[Packet] = field(default_factory=list)

    @property
    def resolved(self) -> bool:
        return self.state in (State.KNOWN, State.FIXED)


def request(underlay_mac: bytes, sender: bytes, address: bytes) -> bytes:
    """Who has this address? Broadcast ARP, or an NS to the solicited-node group (RFC 4861 section 7.2.2)."""
    if len(address) == 4:
        return arp(1, BROADCAST, (underlay_mac, sender), (bytes(6), address))
    group = bytes.fromhex("ff0200000000000000000001ff") + address[13:]
    message = struct.pack(">BBHI", 135, 0, 0, 0) + address + b"\x01\x01" + underlay_mac
    return nd((b"\x33\x33" + group[12:], underlay_mac), sender, group, message)


class Neighbours:
    """The table of next hops. ask(neighbour, time) sends a request, release(neighbour, packet) what waited;
    give_up(packet, reason) drops it."""

    def __init__(
        self,
        ask: Callable[[Neighbour, int], None],
        release: Callable[[Neighbour, Packet], None],
        give_up: Callable[[Packet, str], None],
    ) -> None:
        self._ask, self._release, self._give_up = ask, release, give_up
        self.entries: dict[bytes, Neighbour] = {}

    def entry(self, address: bytes) -> Neighbour:
        return self.entries.setdefault(address, Neighbour(address))

    def fix(self, address: bytes, mac: bytes) -> None:
        neighbour = self.entry(address)
        neighbour.mac, neighbour.state = mac, State.FIXED
        self._let_go(neighbour)

    def learn(self, address: bytes, mac: bytes) -> None:
        neighbour = self.entry(address)
        if neighbour.state != State.FIXED:
            neighbour.mac, neighbour.state = mac, State.KNOWN
            self._let_go(neighbour)

    def ask(self, neighbour: Neighbour, now: int) -> None:
        """Begins to ask, unless that is under way."""
        if neighbour.state in (State.IDLE, State.FAILED):
            neighbour.state, neighbour.tries, neighbour.due = State.ASKING, 1, now + RETRY
            self._ask(neighbour, now)

    def run_timers(self, now: int) -> None:
        for neighbour in self.entries.values():
            if neighbour.state == State.ASKING and neighbour.due <= now:
                self._ask_again(neighbour, now)

    def _ask_again(self, neighbour: Neighbour, now: int) -> None:
        if neighbour.tries < TRIES:
            neighbour.tries += 1
            neighbour.due = now + RETRY
            self._ask(neighbour, now)
            return
        neighbour.state = State.FAILED
        self._drop_waiting(neighbour, "neigh-failed")

    def stop(self) -> None:
        for neighbour in self.entries.values():
            self._drop_waiting(neighbour, "stopped")

    def _drop_waiting(self, neighbour: Neighbour, reason: str) -> None:
        for packet in neighbour.waiting:
            self._give_up(packet, reason)
        neighbour.waiting = []

    def _let_go(self, neighbour: Neighbour) -> None:
        for packet in neighbour.waiting:
            self._release(neighbour, packet)
        neighbour.waiting = []
