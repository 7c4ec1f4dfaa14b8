"""Whatever is killed, and when: packets flow on, and in the end everything is as the store says.

ISOLANE_CRASHES=1000 ISOLANE_CRASH_SEED=7 pytest -s --timeout 3600 tests/netns/test_crashes.py kills agents a
thousand times (writers and data planes in proportion), in the order of seed 7; a seed is printed by each run.
The moments are the machine's, so that the same seed does not meet the same state each time.
"""

import os
import random
import select
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.binding.tables import RowKind
from dataplane.process.client import ClientError
from policy.errors import ManifestError, NotFoundError, ObjectId
from policy.kinds import documents, keys
from policy.store.reading import snapshot_of
from tests.netns.labs import wait_until
from tests.netns.sites import (
    FABRIC,
    HOSTS,
    STABLE,
    Site,
    Vm,
    descriptors,
    digests,
    steady_descriptors,
    threads,
)
from tests.netns.traffic import Traffic

CRASHES = int(os.environ.get("ISOLANE_CRASHES", "120"))
"""Kills of an agent, half of them with AF_XDP ports."""
SEED = int(os.environ.get("ISOLANE_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
REAL_EVERY = 15
"""As seldom is an agent the command itself, not a fork of what has imported it all."""
WRITERS_EVERY, DATAPLANES_EVERY = 5, 12
LONGEST_STEP = 0.12
"""Seconds: within them an agent that was just started has found and done everything."""

VMS = {vm.name: vm for vm in STABLE}
PAIRS = [
    (VMS["blue-web"], VMS["blue-app"]),
    (VMS["blue-web"], VMS["blue-api"]),
    (VMS["red-web"], VMS["red-app"]),
    (VMS["red-web"], VMS["red-api"]),
]
NUMBERS = range(50, 54)
CHURN = [
    Vm(f"{tenant}-c{number}", tenant, host, number, kind, netns=f"{tenant}-c{number}-{host}")
    for tenant in ("blue", "red")
    for number in NUMBERS
    for host in HOSTS
    for kind in (("tap", "veth")[number % 2],)
]
"""Ports that come and go. On either host each has a namespace of its own: a VM that moves is elsewhere."""


class Writer:
    """Changes of the ports that come and go, at random."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self._site = site
        self._rng = rng
        self._there: dict[str, Vm] = {}
        self.commits = 0

    def text(self) -> str:
        """Of one or several ports that are new, moved or have other MACs."""
        chosen = [self._rng.choice(CHURN) for _ in range(self._rng.choice((1, 1, 1, 3)))]
        found = {vm.name: replace(vm, mac=f"02:bb:00:00:{self._rng.randrange(256):02x}:aa") for vm in chosen}
        macs = {vm.mac for vm in found.values()} | {vm.mac for vm in self._there.values()}
        self._there |= found
        return "".join(vm.manifest for vm in found.values()) if macs else ""

    def step(self) -> None:
        """MACs that meet in a subnet are refused: what was not to be is tried in another way."""
        with suppress(NotFoundError, ManifestError):
            if self._there and self._rng.random() < 0.4:
                names = [name for name in self._there if self._rng.random() < 0.5]
                self.delete(names)
            else:
                self._site.commit(self.text())
            self.commits += 1

    def delete(self, names: list[str]) -> None:
        stored = self.stored()
        gone = [identity for identity in stored if identity.name in names]
        for name in names:
            self._there.pop(name, None)
        if gone:
            self._site.delete(gone)

    def stored(self) -> list[ObjectId]:
        items = snapshot_of(self._site.store, f"{keys.INTENT}Port/").items
        names = {vm.name for vm in CHURN}
        return [identity for identity in map(keys.object_id, items) if identity.name in names]

    def clear(self) -> None:
        self.delete([identity.name for identity in self.stored()])


@pytest.fixture(params=["auto"])
def site(request: pytest.FixtureRequest, prefix: str, tmp_path: Path, cleanup: ExitStack) -> Iterator[Site]:
    """By a driver."""
    made = Site(prefix, tmp_path, cleanup, CHURN, request.param)
    yield made
    log = made.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


@pytest.mark.parametrize("site", ["auto", "afxdp"], indirect=True)
def test_agents_and_writers_killed_at_any_moment(site: Site) -> None:
    print(f"ISOLANE_CRASH_SEED={SEED} ISOLANE_CRASHES={CRASHES}")
    rng = random.Random(SEED)
    site.up()
    with site.client("h1") as one, site.client("h2") as other:
        held = {client_host: descriptors(c.hello()["pid"]) for client_host, c in (("h1", one), ("h2", other))}
    namespaces = site.namespaces()
    for host in HOSTS:
        site.kill_agent(host)
    writer = Writer(site, rng)
    kills: Counter[str] = Counter()
    slowest = 0.0
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        while kills.total() < CRASHES // 2:
            _kill_agents(site, rng, writer, kills)
            if kills.total() % WRITERS_EVERY == 0:
                _kill_writer(site, rng, writer)
                kills_of_writers = kills.total() // WRITERS_EVERY
            if kills.total() % 40 < len(HOSTS):
                begun = time.monotonic()
                _start_all(site)
                site.settle()
                slowest = max(slowest, time.monotonic() - begun)
                assert traffic.lost() == {}, (kills, traffic.summary())
                site.assert_nothing_stray(namespaces)
                for host in HOSTS:
                    site.kill_agent(host)
        _start_all(site)
        site.settle()
        site.assert_nothing_stray(namespaces)
        writer.clear()
        site.settle()
        traffic.wait()
        assert traffic.lost() == {}
        sent = traffic.sent
    site.assert_nothing_stray(namespaces)
    for host in HOSTS:
        with site.client(host) as client:
            pid = client.hello()["pid"]
            wait_until(lambda pid=pid, host=host: descriptors(pid) <= held[host], "the data plane leaks")
    print(
        f"{dict(kills)} kills of agents, {kills_of_writers} of writers, {writer.commits} changes;"
        f" {sent} packets, none lost; slowest to settle {slowest:.3f} s"
    )


def _start_all(site: Site) -> None:
    for host in HOSTS:
        site.fork_agent(host)


def _kill_agents(site: Site, rng: random.Random, writer: Writer, kills: Counter[str]) -> None:
    """Agents of both hosts start, the intent changes, they are killed: by themselves at a step, or at a
    moment after the change.
    """
    how = rng.choice(("time", "time", "call", "step"))
    if kills.total() % REAL_EVERY == 0:
        how = "command"
    before = rng.random() < 0.5
    if before:
        writer.step()
    started = time.monotonic()
    for host in HOSTS:
        match how:
            case "command":
                site.start_agent(host)
            case "time":
                site.fork_agent(host)
            case _:
                site.fork_agent(host, {"at": how, "number": rng.randrange(120)})
    if how == "command":
        wait_until(lambda: all(_agent_reports(site, host) for host in HOSTS), seconds=20)
    elif rng.random() < 0.7:
        with suppress(AssertionError):  # it may have killed itself before
            wait_until(lambda: all(_agent_reports(site, host) for host in HOSTS), seconds=0.3)
    writer.step()
    pause = rng.random() * LONGEST_STEP
    if how in ("call", "step"):
        pause = max(pause, LONGEST_STEP - (time.monotonic() - started))
    _pass(pause)
    for host in HOSTS:
        assert site.end_agent(host, signal.SIGKILL) == -signal.SIGKILL
        kills[how] += 1


def _agent_reports(site: Site, host: str) -> bool:
    with suppress(ClientError), site.client(host) as client:
        return client.status()["agent"].get("pid") == site.nodes[host].agent_pid
    return False


def _pass(seconds: float) -> None:
    select.select([], [], [], seconds)


def _kill_writer(site: Site, rng: random.Random, writer: Writer) -> None:
    """Amid a commit, with luck. What it leaves is all it wanted, or nothing of it."""
    before = snapshot_of(site.store, keys.INTENT, keys.GRANTS, keys.INDEX)
    path = site.directory / "killed.yaml"
    path.write_text(site.driven(writer.text()))
    node = site.nodes["h1"]
    assert node.warm is not None
    argv = ["apply", "--store", str(site.location), "-f", str(path)]
    pid = node.warm.start(argv, site.directory / "writers")
    _pass(rng.random() * 0.06)
    os.kill(pid, signal.SIGKILL)
    node.warm.wait(pid)
    after = snapshot_of(site.store, keys.INTENT, keys.GRANTS, keys.INDEX)
    changed = [key for key, at in after.revisions.items() if at > before.revision]
    assert len({after.revisions[key] for key in changed}) <= 1, changed


@pytest.mark.parametrize("site", ["auto", "afxdp"], indirect=True)
def test_data_planes_killed_at_any_moment(site: Site) -> None:
    """Agents live, and are killed with them now and then. Packets may be lost; devices, tables and all else
    come back.
    """
    crashes = max(CRASHES // DATAPLANES_EVERY, 2)
    rng = random.Random(SEED)
    print(f"ISOLANE_CRASH_SEED={SEED} ISOLANE_CRASHES={CRASHES}")
    site.up()
    for host in HOSTS:
        site.kill_agent(host)
        site.fork_agent(host)
    site.settle()
    namespaces = site.namespaces()
    writer = Writer(site, rng)
    devices = {vm.name: site.device(vm) for vm in STABLE}
    files = {host: steady_descriptors(site.nodes[host].agent_pid) for host in HOSTS}
    running = {host: threads(site.nodes[host].agent_pid) for host in HOSTS}
    taken, slow, agents_too = [], [], 0
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        for number in range(crashes):
            host = HOSTS[number % 2]
            both = number % 5 == 4
            writer.step()
            if both:  # with both of them goes what they knew of a device that is not wanted any more
                site.settle()
            else:
                _pass(rng.random() * 0.03)  # in mid-push
            site.kill_dataplane(host)
            if both:
                agents_too += 1
                site.kill_agent(host)
                site.fork_agent(host)
            begun = time.monotonic()
            site.start_dataplane(host)
            wait_until(lambda begun=begun: traffic.came_since(begun), "no packets", seconds=20)
            taken.append(time.monotonic() - begun)
            slow += [(number, host, both, taken[-1])] if taken[-1] > 1 else []
            if not both:
                assert {vm.name: site.device(vm) for vm in STABLE} == devices
        site.settle()
        site.assert_nothing_stray(namespaces)
        writer.clear()
        site.settle()
        traffic.wait()
    for host in HOSTS:
        if agents_too == 0 or crashes < 5:
            pid = site.nodes[host].agent_pid
            wait_until(lambda pid=pid, host=host: descriptors(pid) <= files[host], "the agent leaks")
            wait_until(lambda pid=pid, host=host: threads(pid) == running[host], "threads leak")
    assert _indices(site) == {name: link and link.index for name, link in devices.items()}
    site.assert_nothing_stray(namespaces)
    print(
        f"{crashes} kills of data planes, {agents_too} with their agent; packets flow again after"
        f" {statistics.median(taken):.3f} s (median), {max(taken):.3f} s (longest); slow: {slow}"
    )


def _indices(site: Site) -> dict[str, int | None]:
    return {vm.name: link and link.index for vm in STABLE for link in [site.device(vm)]}


# ---- many records ------------------------------------------------------------------------------------------

RECORDS = int(os.environ.get("ISOLANE_CRASH_RECORDS", "100000"))
ROUNDS = 3


def test_a_data_plane_with_many_records_comes_back(site: Site) -> None:
    """How long it takes is printed, not asserted: that depends on what else the machine does."""
    site.commit(FABRIC + "".join(vm.manifest for vm in STABLE))
    _fill(site, RECORDS)
    site.start_dataplane("h1")
    site.start_agent("h1")
    policy = site.policy()
    with site.client_when_up("h1") as client:
        wait_until(lambda: site.has_applied(["h1"]), "not applied", seconds=60)
        expected = digests(policy, "h1", client)
    for vm in STABLE:
        if vm.host == "h1":
            site.set_up(vm)
    del policy
    pairs = [(one, other) for one, other in PAIRS if other.host == "h1"]
    taken: dict[str, list[float]] = {"process up": [], "tables": [], "packets": []}
    with Traffic(site, pairs, seconds=0.005) as traffic:
        traffic.wait()
        for _ in range(ROUNDS):
            site.kill_dataplane("h1")
            begun = time.monotonic()
            site.start_dataplane("h1")
            with site.client_when_up("h1") as client:
                client.hello()
                taken["process up"].append(time.monotonic() - begun)
                wait_until(lambda client=client: client.digest() == expected, "no tables", seconds=60)
                taken["tables"].append(time.monotonic() - begun)
                wait_until(lambda: traffic.came_since(begun), "no packets", seconds=60)  # noqa: B023
                taken["packets"].append(time.monotonic() - begun)
                assert len(client.hello()["ports"]) == 5
                records = len(client.rows(RowKind.RECORD)) // 64
    print(f"{records} records:", {what: f"{statistics.median(each):.3f} s" for what, each in taken.items()})


def _fill(site: Site, count: int) -> None:
    """Ports of Red on the other host, straight into the store."""
    policy = site.policy()
    like = next(port for port in policy.ports if port.name == "red-app")
    first = int(IPv4Address("10.1.8.0"))
    ports = [
        replace(
            like,
            name=f"many-{number}",
            addresses=(IPv4Address(first + number),),
            mac="02:cc:" + number.to_bytes(4, "big").hex(":"),
            attach=None,
        )
        for number in range(count)
    ]
    site.store.commit(documents.items_of(ports))
