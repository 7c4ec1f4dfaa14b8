"""How long it takes to find an intent right: all of it, and one changed port among all others in a store.

Whole: every rule on what is stated, allocation, every rule on the complete policy; in a process of its own,
whose memory is that of the objects and of their validation. Change: what `isolane apply` of one port does
until it commits: read what the port concerns, check, allocate, compare.
"""

import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.control import fill, percentile
from bench.control_plan import Plan
from bench.machine import described
from policy.ipam.allocate import allocate
from policy.kinds.model import intent_of
from policy.rules import admission
from policy.service import changes
from policy.store.sqlite import SqliteStore

BARS = {"wholeSeconds": 30.0, "peakGiB": 3.0, "changeMilliseconds": 5.0}
"""Of a million ports on 2,000 hosts."""

Progress = Callable[[str], None]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """changes: of one port each, every other one a move to another host."""

    ports: int
    hosts: int
    changes: int


def run(settings: Settings, progress: Progress) -> Figures:
    """The document of `isolane bench validation --json`."""
    progress(f"whole validation of {settings.ports:,} ports")
    whole = json.loads(
        subprocess.run(
            [sys.executable, "-m", "bench.validation", str(settings.ports), str(settings.hosts)],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
    )
    return {
        "machine": described(),
        "ports": settings.ports,
        "hosts": settings.hosts,
        "whole": whole,
        "change": _changed(settings, progress),
        "bars": BARS,
    }


def whole(plan: Plan) -> Figures:
    """Seconds of all and of each part, and the peak of this process in bytes. AssertionError: it
    is not right.
    """
    intent = plan.intent()
    gc.collect()
    times, begun = [time.perf_counter()], time.process_time()
    problems = admission.check_intent(intent)
    times.append(time.perf_counter())
    policy = allocate(intent)
    times.append(time.perf_counter())
    problems += admission.check_policy(policy)
    times.append(time.perf_counter())
    assert not problems, problems[:3]
    seconds = [round(after - before, 3) for before, after in pairwise(times)]
    return {
        "seconds": round(times[-1] - times[0], 3),
        "cpuSeconds": round(time.process_time() - begun, 3),
        **dict(zip(("statedSeconds", "allocateSeconds", "policySeconds"), seconds, strict=True)),
        "peakBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _changed(settings: Settings, progress: Progress) -> Figures:
    """Milliseconds of planning each change, which is then committed."""
    plan = Plan(settings.ports, settings.hosts)
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="isolane-bench-") as directory:
        store = SqliteStore(Path(directory) / "store.db")
        try:
            progress(f"a store of {settings.ports:,} ports")
            fill(store, plan)
            progress(f"{settings.changes} changes")
            for number in range(settings.changes):
                which, is_move = divmod(number, 2)
                port = plan.change(which, 1 + (which + is_move) % (settings.hosts - 1))
                change = changes.apply(intent_of([port]))
                begun = time.perf_counter()
                changes.plan(store, change)
                times.append((time.perf_counter() - begun) * 1e3)
                changes.commit(store, change)
        finally:
            store.close()
    return {
        "count": len(times),
        **{f"p{each}": round(percentile(times, each), 3) for each in (50, 99)},
        "min": round(min(times), 3),
        "max": round(max(times), 3),
    }


if __name__ == "__main__":
    print(json.dumps(whole(Plan(*map(int, sys.argv[1:])))))
