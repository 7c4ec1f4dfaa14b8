"""Records in a move: two homes until it ends, and one redirect, by csrc/README.md 3.9, 3.12 and 3.14.

Seen from host 1, VM 20 of host 2 was here; and VM 10, which is here, was on host 2. VM 30 of host 3 talks
to both.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from dataplane.binding.core import Config, Dataplane, Frame, Gso, PortConfig, PortKind
from dataplane.binding.tables import (
    NO_ADDRESS,
    ChangeSet,
    MoveRow,
    PaKind,
    PaRow,
    PortRow,
    ProviderRouteRow,
    RecordRow,
    RecordType,
    Section,
    SubnetRow,
    Translation,
    delete,
    pack_address,
    put,
)
from dataplane.twin.reference import FakeDataplane
from tests.oracle.frames import arriving, ether, from_host, gre, ip, outer, tcp, udp
from tests.oracle.rig import SECOND, Make, Rig, data, rigs
from tests.oracle.world import (
    GATEWAY_VM,
    LOCAL,
    LOCAL_APPLIANCE,
    NEXT_HOPS,
    OUTSIDE,
    ROUTER_MAC,
    SHARED,
    UNDERLAY_MAC,
    Vm,
    World,
    gateway,
    vsid,
)

UNDERLAY, HERE = 0, 1
Homes = dict[int, dict[int, int]]
VM = World().vm
A, NEIGHBOUR, OTHER = VM(0, 0, LOCAL), VM(0, 0, LOCAL_APPLIANCE), VM(0, 1, LOCAL)
GONE, SENDER, NO_WAY = VM(0, 0, 20), VM(0, 0, 30), VM(0, 0, 40)
BEHIND = ip_address("10.9.0.1")
"""Routed to VM 20."""
TTL, AGAIN = 64, 32


@pytest.fixture(params=(FakeDataplane, Dataplane), ids=("twin", "core"))
def engine(request: pytest.FixtureRequest) -> type[Dataplane] | type[FakeDataplane]:
    made: type[Dataplane] | type[FakeDataplane] = request.param
    return made


@pytest.fixture
def rig(engine: type[Dataplane] | type[FakeDataplane]) -> Iterator[Make]:
    """Makes engines for worlds with moves: rig((VM number, other home), ..., rewrite=...)."""
    with rigs(engine) as make:
        yield lambda *moves, **more: make(moves=frozenset(moves), flowid=False, **more)


def dies(r: Rig, frame: Packet | Frame, reason: str) -> None:
    before = r.counters().drops
    assert r.send(UNDERLAY, frame) == {}
    assert r.counters().drops == before | {reason: before.get(reason, 0) + 1}


def arrives(r: Rig, frame: Packet, to: Vm, inner: Packet) -> None:
    assert {p: data(frames) for p, frames in r.send(UNDERLAY, frame).items()} == {to.port: [bytes(inner)]}


def redirected(inner: Packet, to: int = 2, family: int = 4, **more: int) -> bytes:
    """As this host sends it on."""
    pas = SHARED[1, family], SHARED[to, family]
    tunnel = gre(A.vsid, inner)
    return bytes(outer(*pas, tunnel, macs=(NEXT_HOPS[pas[1]], UNDERLAY_MAC), ttl=AGAIN, **more))


def end(r: Rig) -> None:
    """All moves."""
    rows = [row for row in r.world.rows() if isinstance(row, MoveRow)]
    r.engine.apply(ChangeSet(2, (delete(rows),)).encode())


# ---- the source: two homes ---------------------------------------------------------------------------------

ASKS = ether(b"\xff" * 6, GONE.mac) / ARP(op=1, hwsrc=GONE.mac.hex(":"), psrc="10.1.1.20", pdst="10.1.1.10")


@pytest.mark.parametrize("family", (4, 6))
@pytest.mark.parametrize("to", (A, OTHER), ids=("same subnet", "routed"))
def test_either_home_may_send(rig: Make, family: int, to: Vm) -> None:
    r, inner = rig((20, 3)), arriving(GONE, to, family, udp())
    for host in (2, 3):
        arrives(r, from_host(host, to.vsid, inner), to, inner)  # 3.9.14
        arrives(r, from_host(host, to.vsid, inner, ttl=AGAIN), to, inner)
    dies(r, from_host(4, to.vsid, inner), "inner-source-host")
    dies(r, from_host(3, to.vsid, ether(to.mac, NEIGHBOUR.mac) / inner.payload), "inner-src-mac")
    end(r)
    arrives(r, from_host(2, to.vsid, inner), to, inner)
    dies(r, from_host(3, to.vsid, inner), "inner-source-host")


@pytest.mark.parametrize("source", (BEHIND, OUTSIDE[4]), ids=("next hop", "wildcard"))
def test_either_home_of_who_leads_there_may_send(rig: Make, source: object) -> None:
    inner = ether(A.mac, GONE.mac) / ip(str(source), A.ca(4)) / udp()
    r = rig((20, 3), wildcard=20)
    for host in (2, 3):
        arrives(r, from_host(host, A.vsid, inner), A, inner)
    dies(r, from_host(4, A.vsid, inner), "inner-source")
    end(r)
    dies(r, from_host(3, A.vsid, inner), "inner-source")


def test_either_home_may_ask(rig: Make) -> None:
    r = rig((20, 3))
    for host in (2, 3):
        (answer,) = data(r.send(UNDERLAY, from_host(host, A.vsid, ASKS))[UNDERLAY])
        assert answer[30:34] == SHARED[host, 4].packed
    dies(r, from_host(4, A.vsid, ASKS), "inner-source-host")


def test_a_gateway_is_never_in_a_move(rig: Make) -> None:
    r = rig()
    for host in (3, HERE):
        r.engine.apply(ChangeSet(2, (put([MoveRow(pack_address(gateway(0, 4)), A.vsid, host, 4)]),)).encode())
        sends_and_is_sent_to(r)


def sends_and_is_sent_to(r: Rig) -> None:
    inner = ether(A.mac, ROUTER_MAC) / ip(gateway(0, 4), A.ca(4)) / udp()
    dies(r, from_host(3, A.vsid, inner), "inner-source")
    to_it = ether(ROUTER_MAC, SENDER.mac) / ip(SENDER.ca(4), gateway(0, 4)) / udp()
    dies(r, from_host(3, A.vsid, to_it), "router-local")


# ---- the old home: redirects -------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", (4, 6))
@pytest.mark.parametrize("came", (4, 6))
@pytest.mark.parametrize("goes", (4, 6))
def test_what_has_left_is_redirected(rig: Make, inside: int, came: int, goes: int) -> None:
    r = rig((20, HERE), outer={2: goes, 3: 4, 4: 4})
    inner = arriving(SENDER, GONE, inside, udp(b"x"), ttl=9)
    left = r.send(UNDERLAY, from_host(3, A.vsid, inner, came))  # 3.12.8, 3.14.3
    assert {p: data(frames) for p, frames in left.items()} == {UNDERLAY: [redirected(inner, family=goes)]}
    counters = r.counters()
    assert (counters.received, counters.sent, counters.originated, counters.drops) == (1, 1, 0, {})
    assert not any(c.to_port for c in r.engine.subnet_counters())
    end(r)
    dies(r, from_host(3, A.vsid, inner, came), "not-local")


def test_a_rewrite_record_is_redirected_by_nvgre(rig: Make) -> None:
    r, inner = rig((20, HERE), rewrite=frozenset(((0, 0),))), arriving(SENDER, GONE, 4, udp())
    assert data(r.send(UNDERLAY, from_host(3, A.vsid, inner))[UNDERLAY]) == [redirected(inner)]


def test_by_a_tunnel_with_options(rig: Make) -> None:
    """The same by the way that tunnels which look like few go."""
    r, inner = rig((20, HERE)), arriving(SENDER, GONE, 4, udp())
    frame = bytearray(bytes(from_host(3, A.vsid, inner, tos=1, ttl=33)))
    frame[14:15] = b"\x46"
    frame[34:34] = b"\x01" * 4
    frame[16:18] = (len(frame) - 14).to_bytes(2, "big")
    frame[24:26] = bytes(2)
    words = sum(int.from_bytes(frame[i : i + 2], "big") for i in range(14, 38, 2))
    frame[24:26] = (0xFFFF - (words % 0xFFFF or 0xFFFF)).to_bytes(2, "big")
    assert data(r.send(UNDERLAY, bytes(frame))[UNDERLAY]) == [redirected(inner)]
    frame[22], frame[24:26] = AGAIN, (int.from_bytes(frame[24:26], "big") + 0x100).to_bytes(2, "big")
    dies(r, Frame(bytes(frame)), "not-local")


def test_what_was_redirected_is_not_again(rig: Make) -> None:
    r, inner = rig((20, HERE)), arriving(SENDER, GONE, 4, udp())
    for ttl in (255, AGAIN + 1):
        assert data(r.send(UNDERLAY, from_host(3, A.vsid, inner, ttl=ttl))[UNDERLAY]) == [redirected(inner)]
    for ttl in (AGAIN, 1, 0):
        for family in (4, 6):
            dies(r, from_host(3, A.vsid, inner, family, ttl=ttl), "not-local")  # 3.14.1


def test_only_who_may_send_is_redirected(rig: Make) -> None:
    r, inner = rig((20, HERE), (21, 3)), arriving(SENDER, GONE, 4, udp())
    dies(r, from_host(2, A.vsid, inner), "inner-source-host")
    dies(r, from_host(2, A.vsid, inner, ttl=AGAIN), "inner-source-host")
    dies(r, from_host(3, A.vsid, ether(GONE.mac, A.mac) / inner.payload), "inner-src-mac")
    dies(r, from_host(3, A.vsid, ether(A.mac, SENDER.mac) / inner.payload), "inner-dst-mac")
    dies(r, from_host(3, A.vsid, arriving(SENDER, VM(0, 0, 21), 4, udp())), "not-local")


def test_ecn_of_a_redirected_packet(rig: Make) -> None:
    """The congestion that it met goes on outside and inside."""
    r = rig((20, HERE))
    capable, marked = (arriving(SENDER, GONE, 4, udp(), tos=0xB8 | ecn) for ecn in (2, 3))
    left = data(r.send(UNDERLAY, from_host(3, A.vsid, capable, tos=3))[UNDERLAY])
    assert left == [redirected(marked, tos=0xBB)]  # 3.14.2
    dies(r, from_host(3, A.vsid, arriving(SENDER, GONE, 4, udp()), tos=3), "ecn")


def test_by_who_leads_there(rig: Make) -> None:
    """What is behind a VM that has left goes after it: a prefix, and what has no record."""
    r = rig((20, HERE), wildcard=20)
    for source, destination in ((SENDER.ca(4), BEHIND), (SENDER.ca(4), "198.51.100.9")):
        inner = ether(GONE.mac, SENDER.mac) / ip(source, destination) / udp()
        assert data(r.send(UNDERLAY, from_host(3, A.vsid, inner))[UNDERLAY]) == [redirected(inner)]
        dies(r, from_host(3, A.vsid, inner, ttl=AGAIN), "no-record")


def test_a_redirect_that_can_not_be(rig: Make) -> None:
    inner = arriving(SENDER, GONE, 4, udp())
    fits = len(inner) + 28
    for mtu, reasons in ((fits, {}), (fits - 1, {"too-big": 1})):
        r = rig((20, HERE), underlay_mtu=mtu)
        assert len(r.send(UNDERLAY, from_host(3, A.vsid, inner))) == (not reasons)
        assert r.counters().drops == reasons
    dies(rig((40, HERE)), from_host(3, A.vsid, arriving(SENDER, NO_WAY, 4, udp())), "no-provider-route")
    r = rig((20, HERE), pa_families=frozenset((4,)), outer={2: 6, 3: 4, 4: 4})
    dies(r, from_host(3, A.vsid, inner), "no-shared-pa")


def test_a_redirected_packet_waits_for_its_next_hop(rig: Make) -> None:
    r, inner = rig((20, HERE), resolved=False), arriving(SENDER, GONE, 4, udp())
    r.send(UNDERLAY, from_host(3, A.vsid, inner))
    assert r.counters().held == 1
    mac = NEXT_HOPS[SHARED[2, 4]]
    reply = ARP(op=2, hwsrc=mac.hex(":"), psrc=str(SHARED[2, 4]), pdst=str(SHARED[1, 4]))
    left = data(r.send(UNDERLAY, ether(UNDERLAY_MAC, mac) / reply)[UNDERLAY])
    assert left == [redirected(inner)] and r.counters().held == 0


def test_a_redirected_super_packet_is_cut(rig: Make) -> None:
    inner = arriving(SENDER, GONE, 4, tcp(bytes(250)))
    whole = from_host(3, A.vsid, inner)
    frame = Frame(bytes(whole), csum_partial=True, csum_start=76, csum_offset=16, gso=Gso.TCP4, gso_size=100)
    r = rig((20, HERE))
    left = data(r.send(UNDERLAY, frame)[UNDERLAY])
    assert [len(one) for one in left] == [42 + 54 + size for size in (100, 100, 50)]
    assert {one[22] for one in left} == {AGAIN} and r.counters().originated == 2


# ---- the new home ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", (4, 6))
def test_the_new_home_takes_what_is_redirected(rig: Make, family: int) -> None:
    r, inner = rig((LOCAL, 2)), arriving(SENDER, A, family, udp())
    arrives(r, from_host(2, A.vsid, inner, ttl=AGAIN), A, inner)  # 3.9.15
    arrives(r, from_host(2, A.vsid, inner, 6, ttl=AGAIN - 5), A, inner)
    dies(r, from_host(2, A.vsid, inner), "inner-source-host")
    dies(r, from_host(4, A.vsid, inner, ttl=AGAIN), "inner-source-host")
    neighbour = arriving(SENDER, NEIGHBOUR, family, udp())
    dies(r, from_host(2, A.vsid, neighbour, ttl=AGAIN), "inner-source-host")
    forged = ether(A.mac, GONE.mac) / inner.payload
    dies(r, from_host(2, A.vsid, forged, ttl=AGAIN), "inner-src-mac")
    to_all = ether(b"\xff" * 6, SENDER.mac) / inner.payload
    dies(r, from_host(2, A.vsid, to_all, ttl=AGAIN), "inner-source-host")
    end(r)
    dies(r, from_host(2, A.vsid, inner, ttl=AGAIN), "inner-source-host")


def test_what_a_redirected_packet_can_not_say(rig: Make) -> None:
    """It may be from any VM of the network, and from nobody else; ARP may not."""
    r = rig((LOCAL, 2))

    def from_ca(source: str, mac: bytes, destination: str = "10.1.1.10") -> Packet:
        return from_host(2, A.vsid, ether(A.mac, mac) / ip(source, destination) / udp(), ttl=AGAIN)

    dies(r, from_ca("10.1.1.1", ROUTER_MAC), "inner-source")
    dies(r, from_ca("10.1.1.99", SENDER.mac), "inner-source")
    dies(r, from_ca("203.0.113.5", ROUTER_MAC), "inner-source")
    dies(r, from_ca("10.1.1.30", SENDER.mac, "0.0.0.0"), "inner-source-host")
    asks = ether(b"\xff" * 6, SENDER.mac) / ARP(
        op=1, hwsrc=SENDER.mac.hex(":"), psrc="10.1.1.30", pdst="10.1.1.10"
    )
    dies(r, from_host(2, A.vsid, asks, ttl=AGAIN), "inner-source-host")


def test_behind_who_has_moved_here(rig: Make) -> None:
    r = rig((LOCAL_APPLIANCE, 2), (GATEWAY_VM, 2), wildcard=GATEWAY_VM)
    gateway_vm = VM(0, 0, GATEWAY_VM)
    for to, destination in ((NEIGHBOUR, "10.8.1.1"), (gateway_vm, "198.51.100.9")):
        inner = ether(to.mac, SENDER.mac) / ip(SENDER.ca(4), destination) / udp()
        arrives(r, from_host(2, A.vsid, inner, ttl=AGAIN), to, inner)
        dies(r, from_host(2, A.vsid, inner), "inner-source-host")


def test_a_tenant_is_not_moved_by_another(rig: Make) -> None:
    """The same CAs, MACs and hosts in the other network, of which none is in a move."""
    r = rig((20, HERE), (LOCAL, 2))
    moves = [row for row in r.world.rows() if isinstance(row, MoveRow) and row.vsid == vsid(1, 0)]
    r.engine.apply(ChangeSet(2, (delete(moves),)).encode())
    to_gone, to_a = arriving(SENDER, GONE, 4, udp()), arriving(SENDER, A, 4, udp())
    dies(r, from_host(3, vsid(1, 0), to_gone), "not-local")
    dies(r, from_host(2, vsid(1, 0), to_a, ttl=AGAIN), "inner-source-host")
    assert data(r.send(UNDERLAY, from_host(3, A.vsid, to_gone))[UNDERLAY]) == [redirected(to_gone)]


# ---- several hosts -----------------------------------------------------------------------------------------


class Fabric:
    """Hosts 1 to 3, each with its own idea of where VMs live, and the wire between them.

    homes, moves: by host; of VM numbers, their homes and their other ones. wire: every frame that went by it.
    """

    def __init__(self, engine: type[Dataplane] | type[FakeDataplane], homes: Homes, moves: Homes) -> None:
        self.now = SECOND
        self.wire: list[bytes] = []
        self.hosts: dict[int, Dataplane | FakeDataplane] = {}
        self.local = {here: [vm(n) for n, host in of.items() if host == here] for here, of in homes.items()}
        for here in homes:
            made = self.hosts[here] = engine(Config(here, ROUTER_MAC, (1, 2), slots=512))
            made.attach(UNDERLAY, PortConfig("underlay", PortKind.MEM, mac_of(here), 1600))
            for one in self.local[here]:
                made.attach(one.port, PortConfig(f"vm{one.port}", PortKind.MEM, one.mac, 1500))
            made.apply(ChangeSet(1, tuple(sections(here, homes[here], moves[here]))).encode())
            for other in homes:
                made.set_neighbour(SHARED[other, 4], mac_of(other))

    def run(self, host: int, port: int, frame: bytes) -> dict[int, list[bytes]]:
        """Until nothing is left on the wire, but not for ever; what VMs got, by their number."""
        self.hosts[host].inject(port, Frame(frame))
        got: dict[int, list[bytes]] = {}
        for _ in range(9):
            for here, made in self.hosts.items():
                self.now += 1
                made.poll(self.now)
                for one in self.local[here]:
                    got[one.number] = got.get(one.number, []) + data(made.collect(one.port))
            for passed in [one for made in self.hosts.values() for one in data(made.collect(UNDERLAY))]:
                self.wire.append(passed)
                self.hosts[passed[5]].inject(UNDERLAY, Frame(passed))
        assert not any(made.counters().balance() for made in self.hosts.values())
        return {number: frames for number, frames in got.items() if frames}

    def drops(self) -> dict[int, dict[str, int]]:
        return {here: made.counters().drops for here, made in self.hosts.items() if made.counters().drops}


def mac_of(host: int) -> bytes:
    return bytes((2, 0, 0, 0, 0x77, host))


def vm(number: int) -> Vm:
    return Vm(0, 0, number, 0, number)


def sections(here: int, homes: dict[int, int], moves: dict[int, int]) -> Iterator[Section]:
    yield put([PaRow(pack_address(SHARED[host, 4]), host, 4, PaKind.SHARED, 24) for host in (1, 2, 3)])
    yield put([ProviderRouteRow(NO_ADDRESS, NO_ADDRESS, 4, 0)])
    yield put([SubnetRow(A.vsid, 1)])
    for number, host in homes.items():
        one, port = vm(number), number if host == here else 0
        if port:
            yield put([PortRow(port, one.vsid, one.mac)])
        pa, how = pack_address(SHARED[host, 4]), (4, 4, Translation.NVGRE, RecordType.STATIC)
        yield put([RecordRow(pack_address(one.ca(4)), pa, one.vsid, host, port, one.mac, *how)])
    for number, host in moves.items():
        yield put([MoveRow(pack_address(vm(number).ca(4)), A.vsid, host, 4)])


MOVING, TALKS = 10, 30
HELLO = arriving(vm(TALKS), vm(MOVING), 4, udp(b"hello"))


@pytest.fixture
def fabric(engine: type[Dataplane] | type[FakeDataplane]) -> Iterator[Callable[[Homes, Homes], Fabric]]:
    with ExitStack() as stack:

        def make(homes: Homes, moves: Homes) -> Fabric:
            made = Fabric(engine, homes, moves)
            for host in made.hosts.values():
                stack.callback(host.close)
            return made

        yield make


def test_who_does_not_know_yet_is_understood(fabric: Callable[[Homes, Homes], Fabric]) -> None:
    """VM 10 has gone from host 1 to host 2, and host 3 has not heard of it."""
    moved, moves = {MOVING: 2, TALKS: 3}, {MOVING: 1}
    f = fabric({1: moved, 2: moved, 3: moved | {MOVING: 1}}, {1: moves, 2: moves, 3: {}})
    assert f.run(3, TALKS, bytes(HELLO)) == {MOVING: [bytes(HELLO)]}
    assert [frame[22] for frame in f.wire] == [TTL, AGAIN] and f.drops() == {}


def test_two_that_each_take_the_other_for_its_home(fabric: Callable[[Homes, Homes], Fabric]) -> None:
    homes = {1: {MOVING: 2, TALKS: 3}, 2: {MOVING: 1, TALKS: 3}, 3: {MOVING: 1, TALKS: 3}}
    f = fabric(homes, {1: {MOVING: 1}, 2: {MOVING: 2}, 3: {}})
    assert f.run(3, TALKS, bytes(HELLO)) == {}
    assert [frame[22] for frame in f.wire] == [TTL, AGAIN] and f.drops() == {2: {"inner-source-host": 1}}


def test_two_that_send_each_other_all_their_vms(fabric: Callable[[Homes, Homes], Fabric]) -> None:
    """Each is a home of the source for the other as well, so that the outer source alone would not tell a
    packet that was redirected; its TTL does."""
    f = fabric(
        {1: {MOVING: 2, TALKS: 2}, 2: {MOVING: 1, TALKS: 1}},
        {1: {MOVING: 1, TALKS: 1}, 2: {MOVING: 2, TALKS: 2}},
    )
    hello = outer(SHARED[2, 4], SHARED[1, 4], gre(A.vsid, HELLO), macs=(mac_of(1), mac_of(2)))
    assert f.run(1, UNDERLAY, bytes(hello)) == {}
    assert [frame[22] for frame in f.wire] == [AGAIN] and f.drops() == {2: {"not-local": 1}}
