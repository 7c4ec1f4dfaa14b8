"""Bulk TCP between VMs of two hosts, isolane beside the kernel's own overlay: one stream of iperf3, in rounds
in which every contestant has its turn.
"""

import json
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import contest, control_net, rounds
from bench.contest import READY_SECONDS, Contest, Figures, run_in, worked
from bench.control_net import BenchError, wait_until
from bench.machine import described
from bench.peers import versions
from bench.rounds import Progress
from bench.sites import NARROW, Lane
from dataplane.host import netns

PORT = 5201
"""Of iperf3, unless it is told another."""
CONGESTION = "cubic"
"""What Linux takes unless it is told otherwise; others may send by estimates of their own (bbr)."""
_SYSCTLS = Path("/proc/sys/net/ipv4")
_LISTEN = "0A"  # include/net/tcp_states.h


@dataclass(frozen=True)
class Settings:
    """contestants: none are all. seconds: of each run. congestion: TCP's control of it, by its name."""

    profiles: Sequence[str]
    contestants: Collection[str]
    rounds: int
    seconds: int
    congestion: str = CONGESTION


@dataclass(frozen=True)
class Run:
    """bits and segments as the receiver and the sender count them; cpu: seconds of all cores; wakeups: of the
    contestant's workers, on both hosts, if they count them.
    """

    bits: float
    seconds: float
    retransmits: int
    cpu: float
    wakeups: int | None = None

    @property
    def gbit(self) -> float:
        return self.bits / 1e9

    @property
    def gbps(self) -> float:
        return self.gbit / self.seconds


def run_all(settings: Settings, progress: Progress) -> Figures:
    """The document of `isolane bench tcp --json`. BenchError: what is to be measured did not happen."""
    control_net.check_root()
    version = _version()
    _check_congestion(settings.congestion)
    entrants = contest.entrants(settings.contestants, progress)
    results = []
    with control_net.interruptible():
        for profile in settings.profiles:
            measure = partial(_measure, settings)
            found = contest.held(entrants, profile, settings.rounds, measure, progress)
            results.append(found.figures(profile, partial(_figures, found)))
    return {
        "machine": described(),
        "congestion": settings.congestion,
        "versions": {"iperf3": version} | versions(entrants.there),
        "skipped": entrants.skipped,
        "results": results,
    }


def _version() -> str:
    try:
        said = subprocess.run(["iperf3", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"iperf3 (Debian package iperf3) is needed: {error}") from None
    return said.split()[1]


def _figures(found: Contest[Run], name: str) -> Figures:
    narrow = name + NARROW
    of_own = {"ofOwnAt1600": found.ratio(name, lambda run: run.gbps, narrow)} if narrow in found.runs else {}
    woken = [run.wakeups / run.gbit for run in found.runs[name] if run.wakeups is not None]
    counted = {"wakeUpsPerGbit": rounds.spread(woken)} if woken else {}
    return of_own | {
        "gbps": found.spread(name, lambda run: run.gbps),
        "ratio": found.ratio(name, lambda run: run.gbps),
        "retransmits": found.spread(name, lambda run: run.retransmits),
        "cpuSecondsPerGbit": found.spread(name, lambda run: run.cpu / run.gbit),
        **counted,
    }


def _measure(settings: Settings, lane: Lane) -> Run:
    """BenchError: iperf3 fails."""
    for namespace in (lane.sender, lane.receiver):
        netns.call(namespace, _control_congestion, settings.congestion)
    address = str(lane.address)
    server = ["iperf3", "--server", "--one-off", "--bind", address]
    client = ["iperf3", "--client", address, "--time", str(settings.seconds), "--json"]
    with control_net.program(lane.receiver, server):
        wait_until(partial(is_listening, lane.receiver, PORT), "iperf3 does not listen", READY_SECONDS)
        done, cpu, woken = worked(lane, partial(run_in, lane.sender, client, settings.seconds))
    return parse(done.stdout, cpu, woken)


def _check_congestion(name: str) -> None:
    """BenchError: this kernel has none of that name."""
    known = (_SYSCTLS / "tcp_available_congestion_control").read_text().split()
    if name not in known:
        raise BenchError(f"no congestion control {name!r}; there are {', '.join(known)}")


def _control_congestion(name: str) -> None:
    """Of all connections to come: one that has begun with bbr goes on pacing. BenchError: the machine keeps
    it from VMs.
    """
    try:
        (_SYSCTLS / "tcp_congestion_control").write_text(name)
    except PermissionError:
        raise BenchError(f"{name} is none of sysctl net.ipv4.tcp_allowed_congestion_control") from None


def parse(report: str, cpu: float, woken: int | None = None) -> Run:
    """A report of iperf3. BenchError: it tells of no run."""
    try:
        document = json.loads(report)
        sent, received = document["end"]["sum_sent"], document["end"]["sum_received"]
        if not received["bytes"]:
            raise BenchError("no byte of the stream arrived")
        return Run(received["bytes"] * 8, received["seconds"], sent["retransmits"], cpu, woken)
    except (ValueError, KeyError, TypeError):
        said = report.strip().splitlines()[-1:] or ["nothing"]
        with suppress(ValueError, KeyError, TypeError):
            said = [str(json.loads(report)["error"])]
        raise BenchError(f"iperf3 has measured nothing: {said[0]}") from None


def is_listening(namespace: str, port: int) -> bool:
    """Whether somebody takes TCP connections there, of either family."""
    return netns.call(namespace, _listens, port)


def _listens(port: int) -> bool:
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path("/proc/thread-self/net", name).read_text().splitlines()[1:]
    ]
    return any(int(row[1].rpartition(":")[2], 16) == port and row[3] == _LISTEN for row in rows)
