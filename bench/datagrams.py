"""Small UDP datagrams between VMs of two hosts: real sockets, through the kernel's stack of both VMs and of
one contestant's two hosts. What arrives is counted by who receives it, and has to be what the kernels of both
VMs say.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench import rounds
from bench.contest import READY_SECONDS, run_in
from bench.control_net import BenchError
from bench.instructions import ROOT
from bench.passed import Run, reconcile
from bench.sites import Lane
from dataplane.host import netns

PROGRAM = ROOT / "build" / "py" / "bench" / "datagrams"
MOST_LOST = 0.001
"""Of what is sent, where loss is to be none (RFC 2544 wants none at all)."""
_PRECISION = 0.04
"""Of the highest rate."""
_LEAST_RATE = 1000.0
_ATTEMPT_SECONDS = 1.0
_DRAIN_SECONDS = 0.2
_PORT = 9
_HEADERS = 42
"""Ethernet, IPv4, UDP: bytes of a frame that are not the datagram's."""


def flood(frame: int, seconds: float, lane: Lane) -> Run:
    """As many as the sender can. frame: bytes without FCS. BenchError: none arrives."""
    run = at_rate(frame, seconds, lane, 0.0)
    if not run.delivered:
        raise BenchError(f"{lane.name}: of {run.offered:,} datagrams none came")
    return run


def without_loss(frame: int, seconds: float, lane: Lane) -> Run:
    """At the highest rate that loses at most MOST_LOST. seconds: of an attempt, but at most
    _ATTEMPT_SECONDS.
    """
    short = min(seconds, _ATTEMPT_SECONDS)
    return highest(lambda rate: at_rate(frame, short, lane, rate), flood(frame, short, lane))


def highest(attempt: Callable[[float], Run], top: Run) -> Run:
    """By bisection of rates (packets a second) below that of `top`: the best attempt that lost at most
    MOST_LOST. A rate is given up only when it has lost more twice: one bad moment of the machine is none of
    the contestant's. Nothing is in it if there is none.
    """
    if top.lost <= MOST_LOST:
        return top
    least, most = 0.0, top.offered / top.seconds
    best = Run(0, 0, top.seconds, 0.0)
    while most > _LEAST_RATE and most - least > _PRECISION * most:
        rate = (least + most) / 2
        run = attempt(rate)
        if run.lost > MOST_LOST:
            run = attempt(rate)
        if run.lost <= MOST_LOST:
            best, least = run, rate
        else:
            most = rate
    return best


def at_rate(frame: int, seconds: float, lane: Lane, rate: float, cpu: int | None = None) -> Run:
    """rate: packets a second; 0 is as many as it can, and so is what is more than that. cpu: that the sender
    is on; None is as the scheduler likes.
    """
    place = [str(lane.address), str(_PORT)]
    command = ["taskset", "--cpu-list", str(cpu)] if cpu is not None else []
    command += [str(PROGRAM), "send", *place, str(frame - _HEADERS), f"{rate:.3f}", f"{seconds:.3f}"]
    before = netns.call(lane.sender, _sent), netns.call(lane.receiver, _received)
    with _receiving(lane.receiver, place) as receiver:
        used = rounds.cpu()
        done = run_in(lane.sender, command, seconds)
        used = rounds.cpu().since(used)
        time.sleep(_DRAIN_SECONDS)
        came = _ended(receiver)
    if done.returncode != 0:
        raise BenchError(f"{lane.name}: datagrams can't be sent: {done.stderr.strip()}")
    sent, nanoseconds = map(int, done.stdout.split())
    reconcile(f"{lane.name}: the sender's kernel", netns.call(lane.sender, _sent) - before[0], sent)
    reconcile(f"{lane.name}: the receiver's kernel", netns.call(lane.receiver, _received) - before[1], came)
    return Run(sent, came, nanoseconds / 1e9, used.seconds)


@contextmanager
def _receiving(namespace: str, place: list[str]) -> "Iterator[subprocess.Popen[str]]":
    process: subprocess.Popen[str] = netns.call(
        namespace,
        subprocess.Popen,
        [str(PROGRAM), "receive", *place],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BenchError(f"datagrams can't be received: {_rest(process.stderr)}")
        yield process
    finally:
        process.kill()
        process.communicate()


def _rest(pipe: IO[str] | None) -> str:
    return pipe.read().strip() if pipe else ""


def _ended(process: "subprocess.Popen[str]") -> int:
    """How many it has received."""
    process.send_signal(signal.SIGTERM)
    try:
        output, _ = process.communicate(timeout=READY_SECONDS)
        return int(output)
    except (subprocess.TimeoutExpired, ValueError):
        raise BenchError("who receives datagrams does not say how many") from None


def _counters() -> dict[str, int]:
    """Of UDP, since the namespace was made."""
    rows = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
    names, values = (row[1:] for row in rows if row[0] == "Udp:")
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def _sent() -> int:
    """Those too for which the device had no room."""
    found = _counters()
    return found["OutDatagrams"] + found["SndbufErrors"]


def _received() -> int:
    return _counters()["InDatagrams"]


def missing() -> str:
    """Why no datagrams can be sent; "" if they can."""
    return "" if PROGRAM.exists() else f"{PROGRAM} not found: it is built in a checkout"
