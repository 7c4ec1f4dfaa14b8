"""Small packets a second, isolane beside the kernel's own overlay, in rounds in which every contestant has
its turn.

frames     through one device of each. They are generated in the kernel, on a CPU of their own, as fast as it
           goes, and counted and dropped where they reach the other end of the wire; the contestant has the
           other CPUs. What it can't take is lost, before it at the device or in it.
overload   the same frames, of so many a second as is one to ten times what passes at most.
datagrams  between VMs of two hosts, through the kernel's stack of both, as fast as one sender goes.
no-loss    the same, at the highest rate that loses next to nothing; 0 if every rate loses more.
overload-datagrams
           the same, of so many a second as is one to ten times what passes at most, or as one sender can,
           which has a CPU of its own.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from pyroute2 import IPRoute

from bench import contest, control_net, datagrams, devices, overload, rounds, xdp
from bench.contest import READY_SECONDS, Contest, Entrants, Figures
from bench.control_net import BenchError, wait_until
from bench.devices import DEVICES, FAR_MAC
from bench.machine import described
from bench.passed import Run, reconcile
from bench.peers import CONTESTANTS, Contestant, versions
from bench.rounds import Progress
from bench.sites import VM_ADDRESSES, VM_DEVICE, WIRE, Lane
from bench.xdp import Generator, Sink
from dataplane.host import links, netns
from dataplane.host.links import Link

PROFILE = "wire"
FRAMES, OVERLOAD, DATAGRAMS, NO_LOSS = "frames", "overload", "datagrams", "no-loss"
OVERLOAD_DATAGRAMS = f"{OVERLOAD}-{DATAGRAMS}"
_OF_DEVICES = (FRAMES, OVERLOAD)
_WARM_SECONDS = 0.3
_SETTLE_SECONDS = 2.0
_ATTEMPT_SECONDS = 0.5


@dataclass(frozen=True)
class Settings:
    """loads: of FRAMES and the others. contestants: none are all. frame: bytes without FCS.
    seconds: of each run.
    """

    loads: Sequence[str]
    contestants: Collection[str]
    rounds: int
    seconds: float
    frame: int


def run_all(settings: Settings, progress: Progress) -> Figures:
    """The document of `isolane bench ports --json`. BenchError: what is to be measured did not happen."""
    control_net.check_root()
    why = datagrams.missing()
    skipped = {each: why for each in settings.loads if each not in _OF_DEVICES and why}
    skipped |= {each: words for each in settings.loads if (words := _nobody(each, settings.contestants))}
    loads = [each for each in settings.loads if each not in skipped]
    if not loads:
        raise BenchError("; ".join(dict.fromkeys(skipped.values())))
    for each, words in skipped.items():
        progress(f"without {each}: {words}")
    results: list[Figures] = []
    found_versions: dict[str, str] = {}
    with control_net.interruptible():
        for load in loads:
            entrants = contest.entrants(settings.contestants, progress, _known(load))
            found_versions |= versions(entrants.there)
            figures = _HELD[load](settings, entrants, partial(_say, progress, load))
            skipped |= entrants.skipped
            results.append({"load": load, "frame": settings.frame, **figures})
    return {"machine": described(), "versions": found_versions, "skipped": skipped, "results": results}


def _known(load: str) -> Sequence[Contestant]:
    return DEVICES if load in _OF_DEVICES else CONTESTANTS


def _nobody(load: str, asked: Collection[str]) -> str:
    """Why the load is none for those who are asked for; "" if it is one for one of them."""
    is_one = not asked or any(each.name in asked for each in _known(load))
    return "" if is_one else f"{', '.join(asked)}: frames through one device alone"


def _say(progress: Progress, load: str, text: str) -> None:
    progress(f"{load}, {text}")


def _figures(found: Contest[Run], name: str) -> Figures:
    figures = {
        "kpps": found.spread(name, lambda run: run.kpps),
        "ratio": found.ratio(name, lambda run: run.kpps),
        "offeredKpps": found.spread(name, lambda run: run.offered_kpps),
        "lost": found.spread(name, lambda run: run.lost),
        "cpuSecondsPerMillion": found.spread(name, lambda run: run.cpu_seconds_per_million),
    }
    lengths = [run.octets / run.delivered for run in found.runs[name] if run.octets is not None]
    return figures | ({"wireFrame": rounds.spread(lengths)} if lengths else {})


def _datagrams(
    measure: Callable[[int, float, Lane], Run],
    settings: Settings,
    entrants: Entrants,
    progress: Progress,
) -> Figures:
    timed = partial(measure, settings.frame, settings.seconds)
    found = contest.held(entrants, PROFILE, settings.rounds, timed, progress)
    return found.figures(PROFILE, partial(_figures, found))


# ---- overload ----------------------------------------------------------------------------------------------


def _overload(settings: Settings, entrants: Entrants, progress: Progress) -> Figures:
    with xdp.stoppable(), devices.apart() as cpu:
        measure = partial(_measure, settings.frame, cpu)
        ready = partial(_await_frames, settings.frame, cpu)
        return _overloaded(measure, ready, settings, entrants, progress)


def _overload_datagrams(settings: Settings, entrants: Entrants, progress: Progress) -> Figures:
    with devices.apart() as cpu:
        measure = partial(datagrams.at_rate, settings.frame, cpu=cpu)
        return _overloaded(measure, contest.await_answer, settings, entrants, progress)


def _overloaded(
    measure: Callable[[float, Lane, float], Run],
    await_ready: Callable[[Lane], None],
    settings: Settings,
    entrants: Entrants,
    progress: Progress,
) -> Figures:
    """measure: for so many seconds, at so many packets a second."""
    most: dict[str, float] = {}

    def ready(lane: Lane) -> None:
        await_ready(lane)
        most[lane.name] = overload.most(partial(measure, min(settings.seconds, _ATTEMPT_SECONDS), lane))

    def stepped(lane: Lane) -> overload.Steps:
        return overload.steps(partial(measure, settings.seconds, lane), most[lane.name])

    found = contest.held(entrants, PROFILE, settings.rounds, stepped, progress, ready)
    last = found.of(lambda steps: steps.last)
    return found.figures(PROFILE, lambda name: _figures(last, name) | overload.figures(found, name))


# ---- frames ------------------------------------------------------------------------------------------------


def _frames(settings: Settings, entrants: Entrants, progress: Progress) -> Figures:
    with xdp.stoppable(), devices.apart() as cpu:

        def measure(lane: Lane) -> Run:
            return _measure(settings.frame, cpu, settings.seconds, lane, 0.0)

        ready = partial(_await_frames, settings.frame, cpu)
        found = contest.held(entrants, PROFILE, settings.rounds, measure, progress, ready)
    return found.figures(PROFILE, partial(_figures, found))


def _measure(frame: int, cpu: int, seconds: float, lane: Lane, rate: float) -> Run:
    """rate: frames a second, 0 is as many as there can be. BenchError: nothing came, or not as much as the
    contestant says that it sent.
    """
    with _sink(lane) as sink:
        said = lane.sent()
        with _generator(lane, frame, cpu, rate) as generator:
            time.sleep(_WARM_SECONDS)
            begun, used = time.monotonic(), rounds.cpu()
            offered, came = generator.count(), sink.count()
            time.sleep(seconds)
            seconds, used = time.monotonic() - begun, rounds.cpu().since(used)
            offered, came = generator.count().since(offered), sink.count().since(came)
        all_that_came = sink.settled(_SETTLE_SECONDS).frames
        reconcile(lane.name, lane.sent() - said, all_that_came)
    if not came.frames:
        raise BenchError(f"{lane.name}: of {offered.frames:,} frames none came")
    return Run(offered.frames, came.frames, seconds, used.seconds, came.octets)


def _await_frames(frame: int, cpu: int, lane: Lane) -> None:
    with _sink(lane) as sink, _generator(lane, frame, cpu) as generator:
        wait_until(
            lambda: bool(generator.count().frames and sink.count().frames),
            f"{lane.name}: no frame comes",
            READY_SECONDS,
        )


def _sink(lane: Lane) -> Sink:
    try:
        return netns.call(lane.receiver, lambda: Sink(_link(WIRE).index))
    except OSError as error:
        raise BenchError(f"frames can't be counted: {error}") from None


def _generator(lane: Lane, size: int, cpu: int, rate: float = 0.0) -> Generator:
    device = netns.call(lane.sender, _link, VM_DEVICE)
    addresses = VM_ADDRESSES[0].ip.packed + lane.address.packed
    frame = xdp.datagram(device.mac, FAR_MAC, addresses, size)
    return Generator(lane.sender, device.index, frame, cpu, rate)


def _link(name: str) -> Link:
    with IPRoute() as ip:
        return links.get(ip, name)


_HELD: dict[str, Callable[[Settings, Entrants, Progress], Figures]] = {
    FRAMES: _frames,
    OVERLOAD: _overload,
    DATAGRAMS: partial(_datagrams, datagrams.flood),
    NO_LOSS: partial(_datagrams, datagrams.without_loss),
    OVERLOAD_DATAGRAMS: _overload_datagrams,
}
