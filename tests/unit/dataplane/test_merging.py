"""The core's engine merges what it received segment by segment, and keeps its books (csrc/README.md 4.6)."""

from collections.abc import Iterator

import pytest

from dataplane.binding.core import Dataplane, Gso, Offload
from tests.oracle.frames import arriving, between, from_host, tcp
from tests.oracle.rig import Make, data, rigs
from tests.unit.dataplane.frames import FAMILIES, LOCAL_VM, NEIGHBOUR, REMOTE, UNDERLAY, super_packet

TAKES = Offload.CSUM | Offload.TSO4 | Offload.TSO6
PAYLOAD = bytes(range(256)) * 40
SIZE = 1000


@pytest.fixture
def core() -> Iterator[Make]:
    with rigs(Dataplane) as make:
        yield make


def parts() -> list[tuple[int, bytes, str]]:
    ends = range(0, len(PAYLOAD), SIZE)
    return [(at, PAYLOAD[at : at + SIZE], "PA" if at == ends[-1] else "A") for at in ends]


# 4.6.1, 4.6.6
@FAMILIES
def test_what_came_by_nvgre_is_one_super_packet(core: Make, family: int) -> None:
    r = core(offloads=TAKES | Offload.MERGE)
    numbered = [{"id": 7 + index} if family == 4 else {} for index in range(len(parts()))]
    sent = [
        from_host(
            2, LOCAL_VM.vsid, arriving(REMOTE, LOCAL_VM, family, tcp(part, seq=1000 + at, flags=flags), **ids)
        )
        for (at, part, flags), ids in zip(parts(), numbered, strict=True)
    ]
    (got,) = r.send(UNDERLAY, *sent)[LOCAL_VM.port]
    whole = arriving(REMOTE, LOCAL_VM, family, tcp(PAYLOAD, seq=1000, flags="PA"), **numbered[0])
    assert got == super_packet(whole, family, SIZE)
    counters = r.counters()
    assert (counters.received, counters.sent, counters.consumed) == (len(sent), 1, len(sent) - 1)
    assert r.engine.port_counters(UNDERLAY).consumed == len(sent) - 1, "where they came in"
    for _ in range(300):  # no slot is lost
        assert len(r.send(UNDERLAY, *sent)[LOCAL_VM.port]) == 1
    assert not r.counters().drops


def test_a_port_that_does_not_want_it_gets_segments(core: Make) -> None:
    sent = [
        between(LOCAL_VM, NEIGHBOUR, 4, tcp(part, seq=at, flags=flags), id=at) for at, part, flags in parts()
    ]
    assert data(core(offloads=TAKES).send(LOCAL_VM.port, *sent)[NEIGHBOUR.port]) == list(map(bytes, sent))


def test_flows_between_each_other_are_merged_side_by_side(core: Make) -> None:
    r = core(offloads=TAKES | Offload.MERGE)
    sent = []
    for at, part, _ in parts()[:5]:
        for port in (1, 2):
            sent.append(between(LOCAL_VM, NEIGHBOUR, 4, tcp(part, sport=port, seq=at, flags="A"), flags="DF"))
    left = r.send(LOCAL_VM.port, *sent)[NEIGHBOUR.port]
    assert [(each.gso, each.gso_size) for each in left] == [(Gso.TCP4, SIZE)] * 2
    assert [each.data[54:] for each in left] == [PAYLOAD[: 5 * SIZE]] * 2
