"""The binding against the real core, on memory ports."""

import errno
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

from dataplane.binding import tables
from dataplane.binding.benching import BenchConfig, BenchOp
from dataplane.binding.core import (
    NEVER,
    UNDERLAY,
    Config,
    Dataplane,
    Frame,
    Gso,
    NeighbourState,
    Offload,
    PortConfig,
    PortKind,
)
from dataplane.binding.errors import CallError, ChangeSetError, HostError
from dataplane.binding.stats import Counters
from dataplane.binding.tables import ChangeSet, PrefixRow, SubnetRow, delete, put
from tests.unit.dataplane.cores import (
    CAS,
    MACS,
    OTHER,
    PAS,
    PEER_MAC,
    ROUTER,
    SELF,
    UNDERLAY_MAC,
    VSID,
    config,
    datagram,
    memory_port,
    policy,
    record,
    text,
)


@pytest.fixture
def engine() -> Iterator[Dataplane]:
    with Dataplane(config()) as dataplane:
        dataplane.attach(UNDERLAY, memory_port("underlay", UNDERLAY_MAC, 1600))
        for vm in (1, 2):
            dataplane.attach(vm, memory_port(f"vm{vm}", MACS[vm]))
        dataplane.apply(ChangeSet(1, policy()).encode())
        dataplane.set_neighbour(PAS[OTHER], PEER_MAC)
        yield dataplane


# ---- life


def test_closed_engine_refuses_calls() -> None:
    engine = Dataplane(config())
    engine.close()
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.poll(0)


def test_too_many_workers_are_the_callers_error() -> None:
    with pytest.raises(CallError):
        Dataplane(config(workers=9))


def test_more_slots_than_memory_are_the_operators_error() -> None:
    """16 GiB of slots in a process that may take 1 GiB more."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, before[1]))
    try:
        with pytest.raises(HostError, match="memory"):
            Dataplane(config(slots=2**22))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_descriptor_that_is_none_is_the_operators_error(engine: Dataplane) -> None:
    closed = os.open("/dev/null", os.O_RDONLY)
    os.close(closed)
    with pytest.raises(HostError) as caught:
        engine.attach(3, PortConfig("tap", PortKind.TAP, MACS[9], fds=[closed]))
    assert caught.value.errno == errno.EBADF


def test_workers_run_and_stop(engine: Dataplane) -> None:
    engine.start()
    with pytest.raises(CallError):
        engine.poll(0)
    with pytest.raises(CallError):
        engine.inject(1, Frame(datagram(1, 2)))
    assert engine.counters().balance() == 0
    engine.stop()
    assert engine.poll(time.monotonic_ns()) == 0


# ---- ports and packets


def test_frame_between_local_ports(engine: Dataplane) -> None:
    frame = datagram(1, 2)
    engine.inject(1, Frame(frame, time=77))
    assert engine.poll(100) == 1
    assert engine.collect(2) == [Frame(frame, time=77)]
    assert engine.collect(2) == []
    assert engine.port_counters(1) == Counters(received=1, rx_bytes=len(frame))
    assert engine.port_counters(2) == Counters(sent=1, tx_bytes=len(frame))
    assert engine.counters().balance() == 0
    (subnet,) = engine.subnet_counters()
    assert (subnet.vsid, subnet.from_port, subnet.to_port) == (VSID, 1, 1)
    assert (subnet.from_port_bytes, subnet.to_port_bytes) == (len(frame), len(frame))


def test_frame_to_the_other_host_goes_by_nvgre(engine: Dataplane) -> None:
    frame = datagram(1, 9)
    engine.inject(1, Frame(frame))
    engine.poll(0)
    (out,) = engine.collect(UNDERLAY)
    assert out.data[:12] == PEER_MAC + UNDERLAY_MAC
    assert out.data[34:38] == bytes.fromhex("20006558")
    assert int.from_bytes(out.data[38:41]) == VSID
    assert out.data[42:] == frame


def test_the_last_mac_that_was_not_the_vms_is_kept(engine: Dataplane) -> None:
    assert engine.stranger(1) is None
    engine.inject(1, Frame(datagram(1, 9)))
    engine.poll(0)
    assert engine.stranger(1) is None
    for source in (MACS[2], b"\x52\x54\x00\x12\x34\x56"):
        for rest in (datagram(1, 9)[12:], bytes.fromhex("81000001") + datagram(1, 9)[12:]):
            engine.inject(1, Frame(ROUTER + source + rest))
            engine.poll(0)
            assert (engine.stranger(1), engine.stranger(2)) == (source, None)
    engine.detach(1)
    assert engine.stranger(1) is None
    engine.attach(1, memory_port("vm1", MACS[1]))
    assert engine.stranger(1) is None


def test_drop_is_counted_by_its_reason(engine: Dataplane) -> None:
    engine.inject(1, Frame(datagram(2, 1)))
    engine.poll(0)
    assert engine.counters().drops == {"src-mac": 1}
    assert engine.counters().balance() == 0


def test_offload_metadata_passes_both_ways(engine: Dataplane) -> None:
    engine.detach(2)
    engine.attach(2, memory_port("vm2", MACS[2], offloads=Offload.CSUM))
    sent = Frame(datagram(1, 2), csum_partial=True, csum_start=34, csum_offset=6)
    engine.inject(1, sent)
    engine.poll(0)
    (out,) = engine.collect(2)
    assert (out.csum_partial, out.csum_start, out.csum_offset, out.gso) == (True, 34, 6, Gso.NONE)
    assert engine.counters().rx_csum_partial == engine.counters().tx_csum_partial == 1


def test_device_that_takes_no_more(engine: Dataplane) -> None:
    """A TAP whose VM does not read: what it took came in order, the rest has its reason."""
    ours, vms = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, vms:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)  # the least there is
        engine.detach(2)
        engine.attach(2, PortConfig("vm2", PortKind.TAP, MACS[2], fds=[ours.fileno()]))
        frames = [datagram(1, 2, bytes([n])) for n in range(250)]
        for frame in frames:
            engine.inject(1, Frame(frame))
        engine.poll(0)
        counters = engine.counters()
        assert 0 < counters.sent < len(frames)
        assert counters.drops == {"tx-full": len(frames) - counters.sent}
        assert (counters.received, counters.balance()) == (len(frames), 0)
        virtio_net_header = bytes(10)
        assert [vms.recv(2048) for _ in range(counters.sent)] == [
            virtio_net_header + frame for frame in frames[: counters.sent]
        ]
        engine.detach(2)


def test_attaching_twice_is_refused(engine: Dataplane) -> None:
    with pytest.raises(CallError, match="port 1, again"):
        engine.attach(1, memory_port("again", MACS[1]))


def test_unknown_port_is_refused(engine: Dataplane) -> None:
    with pytest.raises(CallError, match="port 77"):
        engine.inject(77, Frame(datagram(1, 2)))
    with pytest.raises(CallError, match="port 77"):
        engine.detach(77)


# ---- policy


def test_generation_follows_change_sets(engine: Dataplane) -> None:
    assert engine.generation == 1
    engine.apply(ChangeSet(2, ()).encode())
    assert engine.generation == 2


def test_refused_change_set_names_the_row_and_changes_nothing(engine: Dataplane) -> None:
    before = engine.table_stats()
    bad = record(2, SELF)._replace(vsid=VSID + 1)
    rows = tables.put([tables.SubnetRow(VSID + 2, 2)]), tables.put([record(1, SELF), bad])
    with pytest.raises(ChangeSetError) as caught:
        engine.apply(ChangeSet(2, rows).encode())
    assert (caught.value.section, caught.value.row) == (1, 1)
    assert engine.generation == 1
    assert engine.table_stats() == before


def test_truncated_change_set_is_refused(engine: Dataplane) -> None:
    with pytest.raises(ChangeSetError):
        engine.apply(ChangeSet(2, policy()).encode()[:-8])
    assert engine.generation == 1


def test_table_stats_count_the_rows(engine: Dataplane) -> None:
    stats = engine.table_stats()
    assert (stats.pas, stats.subnets) == (2, 1)
    assert stats.records4 >= 3
    assert stats.bytes > 0


# ---- neighbours


def test_neighbours_are_listed(engine: Dataplane) -> None:
    (entry,) = [n for n in engine.neighbours() if n.address == PAS[OTHER]]
    assert (entry.mac, entry.state, entry.held) == (PEER_MAC, NeighbourState.FIXED, 0)


def test_probe_asks_by_arp(engine: Dataplane) -> None:
    engine.probe_neighbour(ip_address("192.168.77.9"))
    engine.poll(0)
    asked = [Ether(f.data)[ARP].pdst for f in engine.collect(UNDERLAY)]
    assert asked == ["192.168.77.9"]
    assert engine.counters().balance() == 0


def test_announce_sends_gratuitous_arp_for_local_pas(engine: Dataplane) -> None:
    engine.announce()
    engine.poll(0)
    announced = [Ether(f.data)[ARP] for f in engine.collect(UNDERLAY)]
    assert str(PAS[SELF]) in {arp.pdst for arp in announced if arp.psrc == arp.pdst}
    assert engine.counters().balance() == 0


# ---- many frames in one call


def test_packets_cross_in_one_call(engine: Dataplane) -> None:
    """More than one call of the core hands over, and of several sizes."""
    sent = [(1000 + n, datagram(1, 2) + bytes(n % 700)) for n in range(2000)]
    engine.inject_packets(1, sent)
    engine.poll(3000)
    assert engine.collect_packets(2) == sent
    assert engine.collect_packets(2) == []
    engine.inject_packets(1, [])
    assert engine.poll(3000) == 0
    assert engine.counters().balance() == 0


def test_the_longest_packets_cross_in_one_call(engine: Dataplane) -> None:
    engine.detach(2)
    engine.attach(2, PortConfig("vm2", PortKind.MEM, MACS[2], mtu=65535))
    ip = IP(src=str(CAS[1]), dst=str(CAS[2])) / UDP(sport=1, dport=2) / bytes(65507)
    frame = bytes(Ether(src=text(MACS[1]), dst=text(MACS[2])) / ip)
    sent = [(n, frame) for n in range(40)]
    engine.inject_packets(1, sent)
    engine.poll(40)
    assert engine.collect_packets(2) == sent


def test_next_timer(engine: Dataplane) -> None:
    """Of a neighbour that is asked: three times, a second apart, then it is forgotten."""
    assert engine.next_timer() == NEVER
    engine.poll(5)
    engine.probe_neighbour(ip_address("192.168.77.9"))
    for second in (1, 2, 3):
        assert engine.next_timer() == 5 + second * 10**9
        engine.poll(engine.next_timer() - 1)
        assert len(engine.collect_packets(UNDERLAY)) == 1
        engine.poll(engine.next_timer())
    assert engine.next_timer() == 5 + 33 * 10**9
    engine.poll(engine.next_timer())
    assert engine.next_timer() == NEVER
    assert engine.collect_packets(UNDERLAY) == []


# ---- threads and bench


def test_counters_are_read_beside_the_control_thread(engine: Dataplane) -> None:
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(engine.port_counters(1).received)

    reader = threading.Thread(target=read)
    reader.start()
    for now in range(200):
        engine.inject(1, Frame(datagram(1, 2), time=now))
        engine.poll(now)
        engine.collect(2)
    stop.set()
    reader.join()
    assert seen == sorted(seen)
    assert engine.port_counters(1).received == 200


def test_bench_times_packets(engine: Dataplane) -> None:
    frame = datagram(1, 9, b"x" * 18)
    result = engine.bench(BenchConfig(BenchOp.PUSH, 1, len(frame), rounds=3, packets=6400), frame * 64)
    assert [r.packets > 0 and r.clocks > 0 for r in result.rounds] == [True] * 3
    assert result.dropped == 0
    again = engine.bench(BenchConfig(BenchOp.PUSH, 1, len(frame), rounds=3, packets=6400), frame * 64)
    assert again.digest == result.digest


def test_gateway_answers_ping(engine: Dataplane) -> None:
    ping = (
        Ether(src=text(MACS[1]), dst=text(ROUTER)) / IP(src=str(CAS[1]), dst="10.1.1.1") / ICMP(id=3, seq=4)
    )
    engine.inject(1, Frame(bytes(ping)))
    engine.poll(0)
    (out,) = engine.collect(1)
    reply = Ether(out.data)
    assert (reply[IP].src, reply[ICMP].type, reply[ICMP].id) == ("10.1.1.1", 0, 3)
    assert engine.counters() == Counters(
        received=1, originated=1, sent=1, consumed=1, rx_bytes=len(bytes(ping)), tx_bytes=len(out.data)
    )


def test_a_subnet_that_changes_hands_beside_a_prefix_of_the_same() -> None:
    """A prefix's key has its subnet's routing domain of now: where it was deleted is another's place then."""
    net = ip_address("10.1.2.0").packed.ljust(16, b"\0")
    prefix = {vsid: PrefixRow(net, bytes(16), vsid, 4, 24) for vsid in (7000, 7001)}
    with Dataplane(Config(1, bytes.fromhex("02150a000001"), (1, 2))) as engine:
        first = (put([SubnetRow(7000, 1), SubnetRow(7001, 2)]), put(list(prefix.values())))
        engine.apply(ChangeSet(1, first).encode())
        engine.verified()
        moved = (delete([prefix[7000]]), put([SubnetRow(7000, 2)]))
        change_set = ChangeSet(2, moved, atomic=True).encode()
        engine.apply(change_set)
        engine.holds(change_set)
        with pytest.raises(ChangeSetError, match="hold this row"):
            engine.holds(ChangeSet(2, (delete([prefix[7001]]),)).encode())
