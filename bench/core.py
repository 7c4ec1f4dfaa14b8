"""Clocks a packet of the packet core in memory, and the proof that what was timed is right.

Each operation gets an engine of its own with the tables of bench/workload.py; a sample of packets goes
through the same engine and through the naive twin before anything is timed. Operations take
turns of a few rounds each, and so does the roof of each: the bare limit of bench/roof.h over the same frames,
records and buffers.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Protocol

from bench import scaling, workload
from bench.machine import described
from bench.scaling import Turns
from bench.workload import (
    GATEWAY_MAC,
    NETWORKS,
    PORT,
    PORT_MAC,
    ROUTER_MAC,
    SELF_HOST,
    UNDERLAY_MAC,
    Bytes,
    Numbers,
    Plan,
)
from dataplane.binding.benching import BenchConfig, BenchOp, BenchResult, BenchRound, Roof
from dataplane.binding.core import UNDERLAY, Config, Dataplane, Frame, PortConfig, PortKind
from dataplane.twin.reference import FakeDataplane

SAMPLE = 10_000
ROUND = 1 << 13
"""Packets of a round, at most."""
ROUND_CLOCKS = 2_000_000
"""Of a round, about, at most: under a millisecond, so that most end before the kernel takes the CPU away."""
TURN = 16
"""Rounds of one operation before it is the next one's turn; the first fills the caches and is not kept."""
MIN_ROUNDS = 5
PATIENCE = 20.0
"""Seconds to go on for MIN_ROUNDS."""
FrameBuilder = Callable[[Plan, int, Numbers, Numbers], Bytes]


@dataclass(frozen=True)
class Operation:
    op: BenchOp
    rewrite: bool
    port_in: int
    port_out: int
    frames: FrameBuilder
    bar: float | None = None
    """What its clocks may be of its roof's, at most. None: it has no roof."""
    reason: str | None = None
    """Every packet is dropped for it."""
    sourced: bool = False
    """Its port has the other sources of the settings."""


OPERATIONS = {
    "push": Operation(BenchOp.PUSH, False, PORT, UNDERLAY, workload.frames_out, 1.25),
    "pop": Operation(BenchOp.POP, False, UNDERLAY, PORT, workload.frames_pop, 1.25),
    "rewrite-out": Operation(BenchOp.REWRITE_OUT, True, PORT, UNDERLAY, workload.frames_out, 1.35),
    "rewrite-in": Operation(BenchOp.REWRITE_IN, True, UNDERLAY, PORT, workload.frames_rewrite_in, 1.35),
    "lookup": Operation(BenchOp.LOOKUP, False, PORT, UNDERLAY, workload.frames_out),
    "push-miss": Operation(BenchOp.PUSH, False, PORT, UNDERLAY, workload.frames_miss, reason="no-record"),
    "push-spoof": Operation(
        BenchOp.PUSH, False, PORT, UNDERLAY, workload.frames_spoof, reason="src-address", sourced=True
    ),
    "push-allowed": Operation(BenchOp.PUSH, False, PORT, UNDERLAY, workload.frames_allowed, sourced=True),
}


@dataclass(frozen=True)
class Settings:
    """records in the table, flows over them, hosts behind them.

    frame: bytes of the tenant's frame without FCS; for pop the inner one. family: of the CAs; and of the PAs,
    if pa_family is 0 or it is rewrite. roof: time the roofs too (IPv4). sources: prefixes that the port may
    send from besides its own CA. workers: of an engine; if there are several, how many packets they pass at
    once is measured too.
    """

    records: int = 8192
    flows: int = 8192
    hosts: int = 1000
    frame: int = 64
    keys: str = "uniform"
    family: int = 4
    pa_family: int = 0
    seconds: float = 1.0
    roof: bool = False
    sources: int = 0
    workers: int = 1


class WrongResult(Exception):
    """The core and its twin disagree: nothing that was timed counts."""


class Unmeasurable(Exception):
    """Somebody else needs the CPU."""


@dataclass
class Run:
    """One operation under way."""

    name: str
    operation: Operation
    settings: Settings
    plan: Plan
    dataplane: Dataplane
    frames: bytes
    frame_len: int
    sample: int
    round: int = ROUND
    roof: Roof | None = None
    rounds: list[BenchRound] = field(default_factory=list)
    roof_rounds: list[BenchRound] = field(default_factory=list)
    digest: int = 0
    timed: int = 0
    dropped: int = 0
    first: int = 0
    roof_first: int = 0
    scaling: Turns | None = None
    roof_scaling: Turns | None = None

    def bench(self, packets: int, first: int = 0, roof: Roof | None = None) -> BenchResult:
        """One round from this frame on."""
        op, port = self.operation.op, self.operation.port_in
        config = BenchConfig(op, port, self.frame_len, 1, packets - 1, first)
        return self.dataplane.bench(config, self.frames, roof)

    def behind(self, first: int) -> int:
        """The frame where the round from this one ends."""
        return (first + self.round) % (len(self.frames) // self.frame_len)

    def time(self) -> BenchRound:
        result = self.bench(self.round, self.first)
        self.first = self.behind(self.first)
        self.digest ^= result.digest
        self.timed += self.round
        self.dropped += result.dropped
        return result.rounds[0]

    def time_roof(self) -> BenchRound:
        """On through the frames as the path goes: the same over again would stay in the caches."""
        result = self.bench(self.round, self.roof_first, self.roof)
        self.roof_first = self.behind(self.roof_first)
        return result.rounds[0]

    def time_workers(self, workers: int, rounds: int) -> BenchResult:
        result = self._bench_workers(workers, rounds, None)
        self.digest ^= result.digest
        self.timed += sum(each.packets for each in result.rounds)
        self.dropped += result.dropped
        return result

    def time_roof_workers(self, workers: int, rounds: int) -> BenchResult:
        return self._bench_workers(workers, rounds, self.roof)

    def _bench_workers(self, workers: int, rounds: int, roof: Roof | None) -> BenchResult:
        op, port = self.operation.op, self.operation.port_in
        packets = (self.round - 1) * rounds
        config = BenchConfig(op, port, self.frame_len, rounds, packets, self.first, workers)
        return self.dataplane.bench(config, self.frames, roof)

    def scale(self) -> None:
        if self.settings.workers > 1:
            self.scaling = Turns(self.settings.workers, self.time_workers)
        if self.scaling and self.roof:
            self.roof_scaling = Turns(self.settings.workers, self.time_roof_workers)

    def shorten(self) -> None:
        """The round, where a packet takes long."""
        timed = self.time()
        while self.round > 64 and timed.clocks / timed.packets * self.round > ROUND_CLOCKS:
            self.round //= 2

    def take_turn(self) -> None:
        """A round in which the kernel gave the CPU to somebody else says nothing, and is not kept."""
        self.rounds += turn(self.time)
        if self.roof:
            self.roof_rounds += turn(self.time_roof)
        for turns in filter(None, (self.scaling, self.roof_scaling)):
            turns.take()

    @property
    def is_missing(self) -> bool:
        """Whether too little was measured."""
        counts = [len(self.rounds)] + ([len(self.roof_rounds)] if self.roof else [])
        counts += [len(turns.kept) for turns in (self.scaling, self.roof_scaling) if turns]
        return min(counts) < MIN_ROUNDS

    def result(self) -> dict[str, object]:
        clocks = clocks_of(self.rounds)
        document: dict[str, object] = {
            "op": self.name,
            "keys": self.settings.keys,
            "family": self.settings.family,
            "pa_family": self.plan.pa_family,
            "records": self._records(),
            "flows": self.settings.flows,
            "hosts": self.settings.hosts,
            "frame": self.settings.frame,
            "rounds": len(self.rounds),
            "packets": sum(r.packets for r in self.rounds),
            "clocks": spread(clocks),
            "mpps": spread([tsc_mhz(self.rounds) / c for c in clocks]),
            "digest": f"{self.digest:016x}",
            "drops": self.dropped,
        }
        if self.operation.reason:
            document["reason"] = self.operation.reason
        if self.operation.sourced:
            document["sources"] = self.settings.sources
        if self.roof:
            roof = clocks_of(self.roof_rounds)
            document["roof"] = {"clocks": spread(roof)}
            document["ratio"] = round(median(clocks) / median(roof), 3)
            document["bar"] = self.operation.bar
        if self.scaling:
            document["scaling"] = scaling.document(self.scaling, self.roof_scaling)
        return document

    def check(self) -> None:
        """Every packet went the way it is there for, as the counters have it. WrongResult: it did not."""
        drops = self.dataplane.port_counters(self.operation.port_in).drops
        expected = {self.operation.reason: self.sample + self.timed} if self.operation.reason else {}
        if drops != expected:
            raise WrongResult(f"{self.name}: packets were dropped: {drops}, expected: {expected}")

    def _records(self) -> int:
        stats = self.dataplane.table_stats()
        return stats.records4 if self.settings.family == 4 else stats.records6


def turn(time: Callable[[], BenchRound]) -> list[BenchRound]:
    time()
    return [timed for _ in range(TURN - 1) if not (timed := time()).preempted]


def clocks_of(rounds: Sequence[BenchRound]) -> list[float]:
    return [r.clocks / r.packets for r in rounds]


def tsc_mhz(rounds: Sequence[BenchRound]) -> float:
    """Clocks a microsecond."""
    return 1000 * sum(r.elapsed_clocks for r in rounds) / sum(r.nanoseconds for r in rounds)


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def machine(rounds: Sequence[BenchRound]) -> dict[str, object]:
    """What the figures were measured on; the TSC's rate is measured too, by the rounds."""
    return {**described(), "tsc_mhz": round(tsc_mhz(rounds), 1)}


def _attach(dataplane: Dataplane | FakeDataplane, family: int) -> None:
    dataplane.attach(UNDERLAY, PortConfig("underlay", PortKind.MEM, UNDERLAY_MAC, mtu=9000))
    dataplane.attach(PORT, PortConfig("port", PortKind.MEM, PORT_MAC, mtu=9000))
    dataplane.set_neighbour(NETWORKS[family].gateway, GATEWAY_MAC)


def _config(workers: int = 1) -> Config:
    return Config(
        self_host=SELF_HOST,
        router_mac=ROUTER_MAC,
        hash_key=(0x9E3779B97F4A7C15, 0xD1B54A32D192ED03),
        workers=workers,
        slots=(1 + workers) << 14,
    )


def _outputs(
    dataplane: Dataplane | FakeDataplane, operation: Operation, frames: Sequence[bytes]
) -> Iterator[list[bytes]]:
    for at in range(0, len(frames), 64):
        for data in frames[at : at + 64]:
            dataplane.inject(operation.port_in, Frame(data))
        dataplane.poll(1)
        yield [frame.data for frame in dataplane.collect(operation.port_out)]


def verify(run: Run, numbers: Numbers) -> None:
    """A sample of the timed packets through core and twin.

    WrongResult: they differ, or a packet did not come out.
    """
    sample = run.sample
    frames = [run.frames[i * run.frame_len : (i + 1) * run.frame_len] for i in range(sample)]
    with FakeDataplane(_config()) as twin:
        _attach(twin, run.plan.pa_family)
        for change_set in workload.change_sets(run.plan, numbers[:sample]):
            twin.apply(change_set)
        pairs = zip(
            _outputs(run.dataplane, run.operation, frames), _outputs(twin, run.operation, frames), strict=True
        )
        for at, (core, naive) in enumerate(pairs):
            count = len(frames[at * 64 : (at + 1) * 64])
            expected = 0 if run.operation.reason else count
            if core != naive or len(core) != expected:
                where = f"packets {at * 64}..{at * 64 + count - 1}"
                raise WrongResult(f"{run.name}: core and twin differ in {where} of the sample")
        port = run.operation.port_in
        if run.dataplane.port_counters(port).drops != twin.port_counters(port).drops:
            raise WrongResult(f"{run.name}: core and twin drop for different reasons")


def verify_roof(run: Run) -> None:
    """The roof makes the very packets that the path makes. WrongResult: it does not."""
    path, roof = (run.bench(SAMPLE, roof=roof) for roof in (None, run.roof))
    if roof.dropped or path.digest != roof.digest:
        raise WrongResult(f"{run.name}: the roof makes other packets than the path")


@dataclass(frozen=True)
class Work:
    """What one operation has to do: over which tables, with which frames."""

    plan: Plan
    numbers: Numbers
    frames: Bytes


def work(name: str, settings: Settings, length: int) -> Work:
    """length: frames in the pool."""
    operation = OPERATIONS[name]
    sources = settings.sources if operation.sourced else 0
    family = settings.family
    pa_family = family if operation.rewrite else settings.pa_family or family
    plan = Plan(settings.records, settings.hosts, family, pa_family, operation.rewrite, sources)
    numbers, flow = workload.sequence(settings.keys, settings.flows, settings.records, length, seed=1)
    return Work(plan, numbers, operation.frames(plan, settings.frame, numbers, flow))


def prepare(name: str, settings: Settings, stack: ExitStack) -> Run:
    operation = OPERATIONS[name]
    todo = work(name, settings, 1 << 20 if settings.records > 100_000 else 1 << 17)
    dataplane = stack.enter_context(Dataplane(_config(settings.workers)))
    for change_set in workload.change_sets(todo.plan):
        dataplane.apply(change_set)
    _attach(dataplane, todo.plan.pa_family)
    sample = min(SAMPLE, len(todo.frames))
    frames = todo.frames.tobytes()
    run = Run(name, operation, settings, todo.plan, dataplane, frames, todo.frames.shape[1], sample)
    verify(run, todo.numbers)
    run.check()
    if settings.roof and operation.bar and todo.plan.family == todo.plan.pa_family == 4:
        run.roof = stack.enter_context(dataplane.roof(operation.op, operation.port_in))
        verify_roof(run)
    run.scale()
    return run


class Peer(Protocol):
    """Another program with the same frames. rounds: clocks a packet."""

    flows: int
    rounds: list[float]

    def take_turn(self) -> None: ...


def missing(runs: Sequence[Run], peers: Iterable[Peer]) -> bool:
    return any(run.is_missing for run in runs) or any(len(peer.rounds) < MIN_ROUNDS for peer in peers)


def variants(
    names: Sequence[str], settings: Settings, families: Sequence[int], sources: Sequence[int]
) -> list[tuple[str, Settings]]:
    """Each operation once for each family; those that depend on the number of sources, for each of them."""
    return [
        (name, replace(settings, family=family, sources=n))
        for name in names
        for family in families
        for n in (sources if OPERATIONS[name].sourced else (0,))
    ]


def run_all(
    todo: Sequence[tuple[str, Settings]],
    progress: Callable[[str], None],
    peers: Mapping[str, Callable[[ExitStack], Peer]],
) -> dict[str, object]:
    """The document of `isolane bench core --json`. Each is timed for its settings' seconds in all. peers:
    what starts them, and raises what it likes.
    """
    workers = max(settings.workers for _, settings in todo)
    if workers > len(scaling.cpus(workers)):
        raise Unmeasurable(f"{workers} workers need {workers} CPUs")
    with ExitStack() as stack:
        runs = []
        for name, settings in todo:
            progress(f"{name}: {settings.records:,} records, sample of {SAMPLE:,} packets against the twin")
            runs.append(prepare(name, settings, stack))
        found = {name: start(stack) for name, start in peers.items()}
        for run in runs:
            run.shorten()
        end = time.monotonic() + sum(settings.seconds for _, settings in todo)
        while time.monotonic() < end or (missing(runs, found.values()) and time.monotonic() < end + PATIENCE):
            for run in runs:
                run.take_turn()
            for peer in found.values():
                peer.take_turn()
        if missing(runs, found.values()):
            raise Unmeasurable(
                f"fewer than {MIN_ROUNDS} rounds ran without interruption: the machine is too busy"
            )
        for run in runs:
            run.check()
        progress(f"{min(len(run.rounds) for run in runs)} or more rounds without interruption")
        results = [run.result() for run in runs]
        document: dict[str, object] = {"machine": machine(runs[0].rounds), "results": results}
        if found:
            document["peers"] = {
                name: {"flows": peer.flows, "clocks": spread(peer.rounds)} for name, peer in found.items()
            }
        return document
