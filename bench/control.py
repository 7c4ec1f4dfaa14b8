"""How fast a change of intent reaches packets, and how fast a host learns all of it: real processes, real
devices, a store of so many records.

A change's time is from the return of the commit to the kernel's timestamp of the first packet, at the far end
of the underlay device, that only the change lets through: a VM sends to a CA that nobody has until then, or
that moves to another host.
"""

import gc
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median
from typing import Any

from bench import control_net as net
from bench.control_hosts import new_hosts
from bench.control_plan import HOST, Plan, datagram
from bench.machine import described
from bench.rounds import spread
from dataplane.binding import core
from dataplane.binding.tables import ChangeSet
from dataplane.process.client import Client
from dataplane.process.views import SELF_HOST
from policy.agent.programmer import FIRST_ROWS, Programmer
from policy.compile import diff
from policy.compile.collection import uncollected
from policy.compile.host_view import HostView, Whole
from policy.kinds import keys
from policy.kinds.model import ROUTER_MAC, Port, intent_of, mac_value
from policy.service import changes as intent
from policy.service import host_state
from policy.store.reading import snapshot_of
from policy.store.sqlite import SqliteStore

WARM_UP = 5
"""Changes before those that count."""
ROUNDS = 3
NEW_HOSTS = 20
CHANGE_HOSTS = 100
"""On as many at most ports appear."""
SETTLE_SECONDS = (0.005, 0.1)
"""A VM sends in vain before a change is made, between: some are made while the last one is verified."""
PATIENCE_SECONDS = 60.0
LOAD_SECONDS = 600.0
PROGRESS_SECONDS = 2.0
_MTU = 1600

Progress = Callable[[str], None]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """records in the tables of a host among `hosts`; changes that are timed, every other one a move."""

    records: int
    hosts: int
    changes: int = 200


def run_all(settings: Sequence[Settings], progress: Progress) -> Figures:
    """The document of `isolane bench control --json`. BenchError: what is to be measured did not happen."""
    net.check_root()
    with net.interruptible():
        results = [_run(each, progress) for each in settings]
    load = [round(each, 2) for each in os.getloadavg()]
    return {"machine": {**described(), "load": load}, "results": results}


def _run(settings: Settings, progress: Progress) -> Figures:
    plan = Plan(settings.records, settings.hosts)
    say = _Saying(f"{settings.records:,} records", progress)
    with tempfile.TemporaryDirectory(prefix="isolane-bench-") as directory:
        path = Path(directory) / "store.db"
        store = SqliteStore(path)
        try:
            say("applying the intent")
            filled = fill(store, plan)
            say("rows in this process")
            parts = _parts(store, say)
            say("new hosts")
            hosts = new_hosts(settings.records, settings.hosts, NEW_HOSTS)
            with ExitStack() as stack:
                live = _Live(stack, plan, path)
                loads = [live.load(say, each + 1) for each in range(ROUNDS)]
                loaded = live.memory()
                say("resolving next hops")
                live.resolve(min(settings.hosts - 1, CHANGE_HOSTS))
                changes = _changes(live, store, settings, say)
                memory = live.memory()
        finally:
            store.close()
    load = {key: spread([each[key] for each in loads]) for key in loads[0]}
    return {
        "records": live.records,
        "hosts": settings.hosts,
        "fill": {**filled, "recordsPerSecond": _rate(settings.records, filled["seconds"])},
        "load": {**load, "recordsPerSecond": _rate(settings.records, load["seconds"]["median"])},
        **{name: _timed(settings.records, seconds) for name, seconds in parts.items()},
        "newHost": _percentiles([1e3 * seconds for seconds in hosts]),
        **changes,
        "agentRss": memory["rss"],
        "agentRssLoaded": loaded["rss"],
        "agentRssPeak": memory["peak"],
    }


# ---- the store ---------------------------------------------------------------------------------------------


def fill(store: SqliteStore, plan: Plan) -> dict[str, float]:
    """The store as `isolane apply` of all at once leaves it; how many seconds that takes."""
    begun = time.perf_counter()
    with uncollected():
        intent.commit(store, intent.apply(plan.intent()))
    seconds = time.perf_counter() - begun
    gc.collect()
    return {"seconds": round(seconds, 3)}


def commit(store: SqliteStore, port: Port) -> None:
    """What `isolane apply` does with a manifest of one port."""
    intent.commit(store, intent.apply(intent_of([port])))


# ---- in this process ---------------------------------------------------------------------------------------


def _parts(store: SqliteStore, say: Progress) -> dict[str, list[float]]:
    """Seconds of each round: from the store's items to rows, rows over the socket, rows into the tables."""
    items = snapshot_of(store, keys.INTENT).items
    found: dict[str, list[float]] = {"compile": [], "push": [], "table": []}
    for number in range(ROUNDS):
        say(f"compile, push, table: round {number + 1} of {ROUNDS}")
        begun = time.perf_counter()
        whole = HostView(HOST, items).whole()
        found["compile"].append(time.perf_counter() - begun)
        found["push"].append(_push(whole))
        found["table"].append(_table(whole))
    return found


def _push(whole: Whole) -> float:
    """With its verification, as the agent does it, to a data-plane process."""
    with net.dataplane(f"bench-{os.getpid()}-push") as client:
        programmer = Programmer(client, HOST)
        begun = time.perf_counter()
        programmer.push(whole)
        return time.perf_counter() - begun


def _table(whole: Whole) -> float:
    """Encoded change sets into an engine of this process."""
    config = core.Config(SELF_HOST, mac_value(ROUTER_MAC).to_bytes(6, "big"), hash_key=(1, 2))
    change_sets = [
        ChangeSet(generation, sections).encode()
        for generation, sections in enumerate(diff.from_nothing(whole.rows, FIRST_ROWS), 1)
    ]
    with core.Dataplane(config) as dataplane:
        begun = time.perf_counter()
        for change_set in change_sets:
            dataplane.apply(change_set)
        return time.perf_counter() - begun


# ---- with an agent -----------------------------------------------------------------------------------------


class _Live:
    """A data plane, an agent and the wire around them."""

    def __init__(self, stack: ExitStack, plan: Plan, store: Path) -> None:
        self._plan, self._store = plan, store
        self._instance = f"bench-{os.getpid()}"
        self._wire = net.Wire(f"{self._instance}-", stack, plan.underlay_mac, _MTU)
        self._stack = stack
        self._running = stack.enter_context(ExitStack())
        self._client: Client
        self._agent: net.Agent
        self._probe: net.Probe | None = None
        self.records = 0

    def load(self, say: Progress, number: int) -> dict[str, float]:
        """Start both anew. Seconds: from the first read of the store to tables verified, its parts, and from
        the agent's start to where `isolane node status` shows it.
        """
        say(f"agent loads, round {number} of {ROUNDS}")
        self._running.close()
        self._client = self._running.enter_context(net.dataplane(self._instance, self._wire.host))
        begun = time.time()
        self._agent = self._running.enter_context(
            net.agent(self._wire.host, self._wire.prefix, self._instance, HOST, self._store)
        )
        reading, loaded, applied = (
            self._agent.first(event, LOAD_SECONDS) for event in ("reading", "loaded", "applied")
        )
        net.wait_until(self._is_shown, "node status does not show what is applied", net.START_SECONDS)
        end = time.time()
        status = self._client.status()
        self.records = status["tables"]["records4"]
        first, middle, last = (net.time_of(event) for event in (reading, loaded, applied))
        return {
            "seconds": last - first,
            "read": middle - first - loaded["seconds"],
            "view": loaded["seconds"],
            "push": applied["seconds"],
            "wall": end - begun,
        }

    def _is_shown(self) -> bool:
        report: Mapping[str, Any] = self._client.status()["agent"]
        return report.get("state") == host_state.APPLIED and report["revision"] > 0

    def memory(self) -> Mapping[str, int]:
        return self._agent.memory()

    def resolve(self, hosts: int) -> None:
        """The next hops to the first hosts, so that no packet waits for one."""
        self._probe = net.Probe(self._stack, self._wire)
        for number in range(1, hosts + 1):
            self._client.ping_pa(str(self._plan.pa(number)))

    def send(self, port: Port, pa: IPv4Address) -> None:
        """To the port's address, until a datagram has left by that PA."""
        (address,) = port.addresses
        assert isinstance(address, IPv4Address)
        assert self._probe is not None, "resolve() comes first"
        self._probe.send(datagram(port.mac, address), address, pa)

    def seen(self) -> int:
        assert self._probe is not None, "resolve() comes first"
        return self._probe.seen(PATIENCE_SECONDS)


def _changes(live: _Live, store: SqliteStore, settings: Settings, say: Progress) -> Figures:
    """Milliseconds: of each apply until it returns, and from there until a packet goes by it. Each port
    appears on one host and moves to another.
    """
    plan = Plan(settings.records, settings.hosts)
    times: dict[str, list[float]] = {"add": [], "move": []}
    commits: list[float] = []
    pause = random.Random(1)
    hosts = min(settings.hosts - 1, CHANGE_HOSTS)
    for number in range(settings.changes + WARM_UP):
        say(f"change {number + 1} of {settings.changes + WARM_UP}")
        which, is_move = divmod(number, 2)
        host = 1 + (which + is_move) % hosts
        port = plan.change(which, host)
        live.send(port, plan.pa(host))
        time.sleep(pause.uniform(*SETTLE_SECONDS))
        begun = time.perf_counter()
        commit(store, port)
        returned, committed = time.time_ns(), time.perf_counter()
        seen = live.seen()
        if number >= WARM_UP:
            times["move" if is_move else "add"].append((seen - returned) / 1e6)
            commits.append((committed - begun) * 1e3)
    every = [*times["add"], *times["move"]]
    kinds = {kind: _percentiles(found) for kind, found in times.items() if found}
    return {"apply": _percentiles(commits), "change": {**_percentiles(every), **kinds}}


# ---- figures -----------------------------------------------------------------------------------------------


def _rate(records: int, seconds: float) -> int:
    return round(records / seconds)


def _timed(records: int, seconds: Sequence[float]) -> Figures:
    return {"seconds": spread(seconds), "recordsPerSecond": _rate(records, median(seconds))}


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * percent // 100), 1) - 1]


def _percentiles(values: Sequence[float]) -> Figures:
    return {
        "p50": round(percentile(values, 50), 3),
        "p99": round(percentile(values, 99), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "count": len(values),
    }


# ---- around it ---------------------------------------------------------------------------------------------


class _Saying:
    """Progress of what takes long, every PROGRESS_SECONDS at most."""

    def __init__(self, what: str, progress: Progress) -> None:
        self._what, self._progress = what, progress
        self._due = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, text: str) -> None:
        if time.monotonic() >= self._due:
            self._progress(f"{self._what}: {text}")
            self._due = time.monotonic() + PROGRESS_SECONDS
