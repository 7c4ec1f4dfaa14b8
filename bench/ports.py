"""Small packets a second through one device of each contestant, isolane beside the kernel's own overlay, in
rounds in which every contestant has its turn.

Frames are generated in the kernel, on a CPU of their own, as fast as it goes, and counted and dropped where
they reach the other end of the wire; the contestant has the other CPUs. What it can't take is lost, before
it at the device or in it.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from pyroute2 import IPRoute

from bench import contest, control_net, devices, rounds, xdp
from bench.contest import READY_SECONDS, Contest, Figures
from bench.control_net import BenchError, wait_until
from bench.devices import DEVICES, FAR_MAC
from bench.machine import described
from bench.peers import versions
from bench.rounds import Progress
from bench.sites import VM_ADDRESSES, VM_DEVICE, WIRE, Lane
from bench.xdp import Count, Generator, Sink
from dataplane.host import links, netns
from dataplane.host.links import Link

PROFILE = "wire"
_WARM_SECONDS = 0.3
_SETTLE_SECONDS = 2.0
_MOST_APART, _OTHERS = 0.001, 100
"""Between what a contestant says that it sent and what came: a share of it, and frames of its host's own."""


@dataclass(frozen=True)
class Settings:
    """contestants: none are all. frame: bytes without FCS. seconds: of each run."""

    contestants: Collection[str]
    rounds: int
    seconds: float
    frame: int


@dataclass(frozen=True)
class Run:
    """offered: what was generated; delivered: what came; cpu: seconds of all cores, the generator's too."""

    offered: int
    delivered: Count
    seconds: float
    cpu: float

    @property
    def kpps(self) -> float:
        return self.delivered.frames / self.seconds / 1e3

    @property
    def lost(self) -> float:
        """Of what was offered; a queue may empty while we count."""
        return max(1 - self.delivered.frames / self.offered, 0.0)

    @property
    def cpu_seconds_per_million(self) -> float:
        return self.cpu / (self.delivered.frames / 1e6)


def run_all(settings: Settings, progress: Progress) -> Figures:
    """The document of `isolane bench ports --json`. BenchError: what is to be measured did not happen."""
    control_net.check_root()
    entrants, skipped = contest.entrants(settings.contestants, progress, DEVICES)
    with control_net.interruptible(), xdp.stoppable(), devices.apart() as cpu:
        measure = partial(_measure, settings, cpu)
        found = contest.held(
            entrants, PROFILE, settings.rounds, measure, progress, partial(_await_frames, settings, cpu)
        )
    figures = found.figures(PROFILE, partial(_figures, found))
    return {
        "machine": described(),
        "versions": versions(entrants),
        "skipped": skipped,
        "results": [{"load": "frames", "frame": settings.frame, **figures}],
    }


def _figures(found: Contest[Run], name: str) -> Figures:
    return {
        "kpps": found.spread(name, lambda run: run.kpps),
        "ratio": found.ratio(name, lambda run: run.kpps),
        "offeredKpps": found.spread(name, lambda run: run.offered / run.seconds / 1e3),
        "lost": found.spread(name, lambda run: run.lost),
        "cpuSecondsPerMillion": found.spread(name, lambda run: run.cpu_seconds_per_million),
        "wireFrame": found.spread(name, lambda run: run.delivered.octets / run.delivered.frames),
    }


def _measure(settings: Settings, cpu: int, lane: Lane) -> Run:
    """BenchError: nothing came, or not as much as the contestant says that it sent."""
    with _sink(lane) as sink:
        said = lane.sent()
        with _generator(lane, settings.frame, cpu) as generator:
            time.sleep(_WARM_SECONDS)
            begun, used = time.monotonic(), rounds.cpu()
            offered, came = generator.count(), sink.count()
            time.sleep(settings.seconds)
            seconds, used = time.monotonic() - begun, rounds.cpu().since(used)
            offered, came = generator.count().since(offered), sink.count().since(came)
        all_that_came = sink.settled(_SETTLE_SECONDS).frames
        reconcile(lane.name, lane.sent() - said, all_that_came)
    if not came.frames:
        raise BenchError(f"{lane.name}: of {offered.frames:,} frames none came")
    return Run(offered.frames, came, seconds, used.seconds)


def reconcile(name: str, said: int, came: int) -> None:
    """BenchError: a contestant counts other frames than we do."""
    if abs(said - came) > _OTHERS + _MOST_APART * came:
        raise BenchError(f"{name} says that it sent {said:,} frames, and {came:,} came")


def _await_frames(settings: Settings, cpu: int, lane: Lane) -> None:
    with _sink(lane) as sink, _generator(lane, settings.frame, cpu) as generator:
        wait_until(
            lambda: bool(generator.count().frames and sink.count().frames),
            f"{lane.name}: no frame comes",
            READY_SECONDS,
        )


def _sink(lane: Lane) -> Sink:
    return netns.call(lane.receiver, lambda: Sink(_link(WIRE).index))


def _generator(lane: Lane, size: int, cpu: int) -> Generator:
    device = netns.call(lane.sender, _link, VM_DEVICE)
    addresses = VM_ADDRESSES[0].ip.packed + lane.address.packed
    return Generator(lane.sender, device.index, xdp.datagram(device.mac, FAR_MAC, addresses, size), cpu)


def _link(name: str) -> Link:
    with IPRoute() as ip:
        return links.get(ip, name)
