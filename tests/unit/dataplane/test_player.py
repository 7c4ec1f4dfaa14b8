"""Player: merging, the clock and its timers, batches; against an engine that only moves packets about."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from dataplane.binding.core import NEVER, Neighbour, NeighbourState
from tools.verbs.captures import SECOND, Packet
from tools.verbs.replay import COLLECT, Player

T0 = 1_700_000_000 * SECOND
SEND, HOLD = b"send", b"hold"
OUT = 9


@dataclass
class Hub:
    """Sends all out of one port: SEND at once, HOLD a second after its own time.

    fixed: of its one neighbour. batches: (clock, port, packets) of each poll that had any. let_go: the clock
    whenever one was let go.
    """

    fixed: bool = True
    inbox: list[tuple[int, Packet]] = field(default_factory=list)
    outbox: list[Packet] = field(default_factory=list)
    held: list[Packet] = field(default_factory=list)
    batches: list[tuple[int, int, int]] = field(default_factory=list)
    let_go: list[int] = field(default_factory=list)
    now: int = 0
    most_waiting: int = 0

    def neighbours(self) -> list[Neighbour]:
        state = NeighbourState.FIXED if self.fixed else NeighbourState.KNOWN
        return [Neighbour(ip_address("192.0.2.1"), bytes(6), state, len(self.held))]

    def next_timer(self) -> int:
        return min((time + SECOND for time, _ in self.held), default=NEVER)

    def poll(self, now: int) -> int:
        assert now >= self.now
        self.now = now
        while self.next_timer() <= now:
            first = min(self.held, key=lambda packet: packet[0])
            self.held.remove(first)
            self.outbox.append(first)
            self.let_go.append(now)
        for _, packet in self.inbox:
            (self.held if packet[1].startswith(HOLD) else self.outbox).append(packet)
        if self.inbox:
            self.batches.append((now, self.inbox[0][0], len(self.inbox)))
        assert len({port for port, _ in self.inbox}) <= 1
        self.inbox = []
        self.most_waiting = max(self.most_waiting, len(self.outbox))
        return 0

    def inject_packets(self, port: int, packets: list[Packet]) -> None:
        self.inbox += [(port, packet) for packet in packets]

    def collect_packets(self, port: int) -> list[Packet]:
        assert port == OUT
        taken, self.outbox = self.outbox, []
        return taken


def play(
    hub: Hub, *sources: tuple[int, list[Packet]], batch: int = 64, linger: int = 10 * SECOND
) -> list[Packet]:
    left: list[Packet] = []
    Player(hub, {OUT: left.extend}, batch).play(sources, linger)
    return left


def frames(times: list[int], first: int = 0, kind: bytes = SEND) -> list[Packet]:
    return [(T0 + time, kind + bytes([first + n])) for n, time in enumerate(times)]


def numbers(packets: list[Packet]) -> list[int]:
    return [data[-1] for _, data in packets]


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("fixed", [True, False])
def test_sources_merge_by_time_then_by_order(batch: int, fixed: bool) -> None:
    a, b = frames([5, 7, 7, 9]), frames([1, 7, 8, 9], first=10)
    left = play(Hub(fixed), (1, a), (2, b), batch=batch)
    assert numbers(left) == [10, 0, 1, 2, 11, 12, 3, 13]
    assert sorted(left) == sorted(a + b)


def test_two_sources_of_one_port() -> None:
    hub = Hub()
    assert numbers(play(hub, (1, frames([1, 3])), (1, frames([2, 3], 10)))) == [0, 10, 1, 11]
    assert hub.batches == [(T0 + 1, 1, 4)]


def test_a_file_that_falls_back_is_read_in_its_order() -> None:
    left = play(Hub(), (1, frames([5, 1, 6])), (2, frames([3, 4], 10)))
    assert numbers(left) == [10, 11, 0, 1, 2]


def test_nothing_to_read_is_no_error() -> None:
    hub = Hub()
    assert play(hub) == play(hub, (1, [])) == []
    assert hub.batches == []


def test_an_iterator_is_read_no_further_than_it_must() -> None:
    """A capture is longer than the memory."""
    seen = 0

    def endless() -> Iterator[Packet]:
        nonlocal seen
        while True:
            yield T0 + seen, SEND + b"\0"
            seen += 1
            if seen == 1000:
                raise KeyboardInterrupt

    left: list[Packet] = []
    with pytest.raises(KeyboardInterrupt):
        Player(Hub(), {OUT: left.extend}, 64).play([(1, endless())], 0)
    assert 1000 - len(left) <= 64 + COLLECT


def test_batches_end_where_the_port_changes() -> None:
    hub = Hub()
    play(hub, (1, frames([*range(100), 200])), (2, frames([*range(100, 105)])))
    assert hub.batches == [(T0, 1, 64), (T0 + 64, 1, 36), (T0 + 100, 2, 5), (T0 + 200, 1, 1)]


def test_batches_end_where_the_time_changes_unless_all_next_hops_are_fixed() -> None:
    hub = Hub(fixed=False)
    play(hub, (1, frames([0, 0, 5, 5, 5, 6])), batch=2)
    assert hub.batches == [(T0, 1, 2), (T0 + 5, 1, 2), (T0 + 5, 1, 1), (T0 + 6, 1, 1)]


def test_timers_run_at_their_own_time() -> None:
    hub = Hub(fixed=False)
    a = frames([0, 1], kind=HOLD)
    a += frames([SECOND], 2)  # the first timer is due at this very time: it goes first
    a += frames([10 * SECOND], 3, HOLD)
    assert numbers(play(hub, (1, a), linger=SECOND)) == [0, 2, 1, 3]
    assert hub.let_go == [T0 + SECOND, T0 + SECOND + 1, T0 + 11 * SECOND]


def test_timers_from_before_the_first_packet_are_due_with_it() -> None:
    hub = Hub(held=[(5, HOLD + b"\7")])
    left = play(hub, (1, frames([0])))
    assert numbers(left) == [7, 0]
    assert hub.let_go == [T0]


def test_the_clock_of_no_packets_lingers_too() -> None:
    hub = Hub(held=[(5, HOLD + b"\7")])
    assert numbers(play(hub)) == [7]
    assert hub.let_go == [5 + SECOND]


@pytest.mark.parametrize("linger", [SECOND - 1, SECOND])
def test_the_clock_lingers_no_longer_than_asked(linger: int) -> None:
    hub = Hub(fixed=False)
    left = play(hub, (1, frames([0], kind=HOLD)), linger=linger)
    assert len(left) == (linger == SECOND)
    assert len(hub.held) == (linger < SECOND)


def test_a_falling_timestamp_does_not_turn_the_clock_back() -> None:
    hub = Hub(fixed=False)
    a = [*frames([10 * SECOND]), *frames([8 * SECOND], 1, HOLD), *frames([10 * SECOND], 2)]
    left = play(hub, (1, a))
    assert left == a
    assert [now for now, *_ in hub.batches] == [T0 + 10 * SECOND] * 3
    assert hub.let_go == [T0 + 10 * SECOND]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_what_came_out_does_not_pile_up(batch: int) -> None:
    """It has slots of the core until it is collected."""
    hub = Hub()
    a = frames([0] * 250) * 4
    assert play(hub, (1, a), batch=batch) == a
    assert hub.most_waiting < 64 + COLLECT
