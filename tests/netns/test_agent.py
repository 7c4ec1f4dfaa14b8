"""`isolane agent` and `isolane dataplane`, each a process of its own, on two hosts over one store."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dataplane.binding.tables import ChangeSet, Op, RowKind, Section
from dataplane.host import netns
from policy.store.reading import snapshot_of
from tests.native import BIN
from tests.netns.agents import (
    MOVED,
    NEW,
    PAIRS,
    VMS,
    agent_of,
    apply,
    isolane,
    node_status,
    problems_of,
    records_of,
)
from tests.netns.labs import wait_until
from tests.netns.sites import (
    FABRIC,
    HOSTS,
    STABLE,
    Site,
    Vm,
    descriptors,
    digests,
    resident,
    steady_descriptors,
    threads,
)
from tests.netns.traffic import Traffic


@pytest.fixture
def site(prefix: str, tmp_path: Path, cleanup: ExitStack) -> Iterator[Site]:
    made = Site(prefix, tmp_path, cleanup, [NEW, MOVED])
    yield made
    assert "Traceback" not in made.log.read_text()


def test_what_is_applied_is_carried_out(site: Site) -> None:
    site.up()
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        before = {host: steady_descriptors(site.nodes[host].agent_pid) for host in HOSTS}

        done = apply(site, NEW.manifest)
        assert (done.returncode, done.stdout) == (0, "port/blue/new created\n"), done.stderr
        site.set_up(NEW)
        with Traffic(site, [(NEW, VMS["blue-web"]), (NEW, VMS["blue-app"])]) as more:
            more.wait()
        assert [each["host"] for each in records_of(site, "h2", NEW)] == ["h1"]

        other = Vm("new", "blue", "h1", 50, mac="02:bb:00:00:01:50")
        index = site.device(NEW)
        assert apply(site, other.manifest).returncode == 0
        link = site.device(NEW)
        assert link is not None and index is not None
        assert (link.index, link.mac) == (index.index, other.mac)
        assert [each["macAddress"] for each in records_of(site, "h2", NEW)] == [other.mac]
        with Traffic(site, [(NEW, VMS["blue-web"]), (NEW, VMS["blue-app"])]) as more:
            more.wait()

        assert apply(site, MOVED.manifest).returncode == 0
        assert site.device(NEW) is None
        site.set_up(MOVED)
        assert [each["host"] for each in records_of(site, "h1", NEW)] == ["h2"]
        with Traffic(site, [(MOVED, VMS["blue-web"]), (MOVED, VMS["blue-app"])]) as more:
            more.wait()

        assert isolane(site, "delete", "port", "blue/new").returncode == 0
        site.settle()
        assert site.device(MOVED) is None
        assert records_of(site, "h1", NEW) == []
        site.assert_nothing_stray(site.namespaces())
        assert {host: steady_descriptors(site.nodes[host].agent_pid) for host in HOSTS} == before
        assert traffic.lost() == {}


def test_many_changes_leave_nothing(site: Site) -> None:
    """In agents and data planes: no descriptor, thread or memory of ports that came, moved and went."""
    site.up()
    pids = [pid for node in site.nodes.values() for pid in (node.agent_pid, node.dataplane_pid)]
    changes = [NEW.manifest, MOVED.manifest, None]
    measured = []
    for number in range(240):
        site.change(NEW, changes[number % 3])
        wait_until(site.has_applied)
        if number in (119, 239):
            site.settle()
            measured.append([(steady_descriptors(pid), threads(pid), resident(pid)) for pid in pids])
    before, after = measured
    assert [each[:2] for each in after] == [each[:2] for each in before]
    growth = [now[2] - then[2] for now, then in zip(after, before, strict=True)]
    assert max(growth) < 1 << 20, growth
    site.assert_nothing_stray(site.namespaces())


def test_a_store_that_goes_away(site: Site) -> None:
    """It is put back, then one is put there that goes on from a copy."""
    site.up()
    files = [site.location.with_name(site.location.name + end) for end in ("", "-wal", "-shm")]
    ids = site.ids("h1")
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        for file in files:
            if file.exists():
                file.rename(f"{file}.away")
        wait_until(lambda: "no store is there" in node_status(site, "h1")["agent"]["store"], seconds=20)
        site.location.mkdir()
        wait_until(lambda: "directory" in node_status(site, "h1")["agent"]["store"], seconds=20)
        site.location.rmdir()
        site.location.write_text("nothing of a database" * 1000)
        wait_until(lambda: "not a database" in node_status(site, "h1")["agent"]["store"], seconds=20)
        site.location.unlink()
        for file in files:
            if Path(f"{file}.away").exists():
                Path(f"{file}.away").rename(file)
        wait_until(lambda: node_status(site, "h1")["agent"]["store"] == "available", seconds=20)
        site.commit(NEW.manifest)
        site.settle()
        assert {name: site.ids("h1")[name] for name in ids} == ids
        assert traffic.lost() == {}


def test_a_store_that_is_locked(site: Site) -> None:
    """A data plane that dies meanwhile is brought back all the same, and what could not be told is told."""
    import sqlite3

    site.up()
    site.commit(NEW.manifest)
    site.settle()
    with sqlite3.connect(site.location, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):  # the second while it waits to tell of the first
            site.kill_dataplane("h1")
            site.start_dataplane("h1")
            wait_until(lambda: site.is_so("h1"), seconds=8)
        other.execute("ROLLBACK")
    site.settle()


def test_a_data_plane_that_hangs_is_told(site: Site) -> None:
    """And waited for no longer than that: without systemd nobody ends it."""
    site.up("--patience", "0.5")
    pid = site.nodes["h1"].dataplane_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        site.commit(NEW.manifest)
        wait_until(lambda: "no answer within 0.5 s" in site.nodes["h1"].log.read_text(), seconds=20)
        site.commit(MOVED.manifest)
        wait_until(
            lambda: "h2" in site.states() and site.has_applied(["h2"]), "the other host waits", seconds=20
        )
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(site.has_applied, seconds=20)
    site.settle()


def test_what_others_do_is_repaired(site: Site) -> None:
    site.up("--resync", "0.5")
    with site.client("h1") as client:
        row = client.rows(RowKind.RECORD)[:64]
        change = ChangeSet(client.generation() + 1, (Section(RowKind.RECORD, Op.DEL, row),), False)
        client.apply(change.encode())
        wait_until(lambda: client.digest() == digests(site.policy(), "h1", client))
        client.detach(site.ids("h1")["blue-api"])
        wait_until(lambda: "blue-api" in site.ids("h1"), "not attached again")
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
    site.assert_nothing_stray(site.namespaces())


def test_a_document_that_can_not_be_read(site: Site) -> None:
    """It concerns itself alone: it is named, others go on, deletes included."""
    site.up()
    site.commit(NEW.manifest)
    port = f"intent/Port/blue/{NEW.name}"
    document = snapshot_of(site.store, keys=[port]).items[port]
    site.store.commit({}, [port])
    site.settle()
    odd = "intent/CustomerRoute/blue/odd"
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        site.store.commit({odd: b'{"spec": 7}'}, [])
        wait_until(lambda: site.states()["h1"]["state"] == "failed", "not noticed", seconds=10)
        (problem,) = site.states()["h1"]["problems"]
        assert "CustomerRoute blue/odd" in problem
        site.store.commit({port: document}, [])
        wait_until(lambda: site.device(NEW) is not None, "others wait")
        assert site.end_agent("h1") == 0
        site.start_agent("h1")
        wait_until(lambda: problems_of(site, "h1") == [problem], "no agent", seconds=20)
        assert site.device(NEW) is not None
        site.store.commit({}, [port])
        wait_until(lambda: site.device(NEW) is None, "deletes wait")
        loads = site.log.read_text().count('"loaded"')
        site.store.commit({}, [odd])
        site.settle()
        assert site.log.read_text().count('"loaded"') == loads, "it was read again"
        assert traffic.lost() == {}


def test_a_failure_that_nobody_expects_takes_no_device(site: Site) -> None:
    """Of an agent that removes all when it is told to stop: its successor goes on."""
    site.up()
    assert site.end_agent("h1") == 0
    site.fork_agent("h1", {"at": "raise", "number": 0}, "--remove")
    wait_until(lambda: agent_of(site, "h1") == site.nodes["h1"].agent_pid, "not up", seconds=20)
    node = site.nodes["h1"]
    assert node.warm is not None and node.forked is not None
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        site.commit(NEW.manifest)
        assert node.warm.wait(node.forked) == 1
        node.forked = None
        assert "nobody expects this" in site.log.read_text()
        site.log.write_text("")
        site.start_agent("h1")
        site.settle()
        assert traffic.lost() == {}


def test_a_port_of_a_later_version(site: Site) -> None:
    """Whether the agent reads it when it starts or by a change."""
    site.up()
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        key = "intent/Port/blue/later"
        site.store.commit({key: b'{"spec": {"host": "h2", "vmSubnet": ["sub"]}}'}, [])
        wait_until(lambda: site.states()["h1"]["state"] == "failed", "not noticed", seconds=10)
        for _ in range(2):
            assert site.end_agent("h1") == 0
            site.start_agent("h1")
            wait_until(lambda: problems_of(site, "h1"), "not noticed", seconds=20)
            assert "Port blue/later" in problems_of(site, "h1")[0]
        site.store.commit({}, [key])
        site.settle()
        assert traffic.lost() == {}


def test_a_data_plane_that_stays_away_is_told(site: Site) -> None:
    site.up()
    site.kill_dataplane("h1")
    wait_until(lambda: site.states()["h1"]["state"] == "failed", "not told", seconds=10)
    done = apply(site, NEW.manifest)
    name = site.nodes["h1"].instance
    assert done.stderr.splitlines()[-1] == f"error: host h1: the data plane of instance {name} is not there"
    site.start_dataplane("h1")
    site.settle()


def test_another_tenants_problem_is_not_waited_for(site: Site) -> None:
    site.up()
    absent = Vm("absent", "red", "h1", 60)
    assert apply(site, absent.manifest).returncode == 1
    done = apply(site, NEW.manifest)
    assert (done.returncode, done.stderr) == (0, "")
    assert apply(site, absent.manifest).returncode == 1
    assert isolane(site, "delete", "port", "red/absent").returncode == 0
    site.settle()


def test_an_agent_is_replaced_under_traffic(site: Site) -> None:
    site.up()
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        for host in HOSTS:
            first = site.nodes[host].agent_pid
            assert site.end_agent(host) == 0
            traffic.wait(50)
            site.start_agent(host)
            wait_until(lambda host=host, first=first: agent_of(site, host) not in (0, first), seconds=20)
        site.settle()
        traffic.wait()
        assert traffic.lost() == {}
    site.assert_nothing_stray(site.namespaces())


def test_a_data_plane_that_is_killed_comes_back(site: Site, cleanup: ExitStack) -> None:
    """Its devices and a connection between VMs are what they were; nothing is left of it in the agent."""
    site.up()
    server = netns.call(f"{site.prefix}blue-app", socket.create_server, (VMS["blue-app"].address, 5000))
    cleanup.enter_context(server)
    client = netns.call(f"{site.prefix}blue-web", socket.create_connection, (VMS["blue-app"].address, 5000))
    cleanup.enter_context(client)
    accepted, _ = server.accept()
    cleanup.enter_context(accepted)
    before = {vm.name: site.device(vm) for vm in STABLE}
    pid = site.nodes["h1"].agent_pid
    files, running, ids = steady_descriptors(pid), threads(pid), site.ids("h1")
    for number in range(5):
        site.kill_dataplane("h1")
        client.sendall(b"%d" % number)
        site.start_dataplane("h1")
        wait_until(lambda: site.is_so("h1"), seconds=20)
        accepted.settimeout(20)
        assert accepted.recv(1) == b"%d" % number
    site.settle()
    assert site.ids("h1") == ids
    assert {vm.name: site.device(vm) for vm in STABLE} == before
    wait_until(lambda: descriptors(pid) == files, "descriptors leak")
    wait_until(lambda: threads(pid) == running, "threads leak")
    site.assert_nothing_stray(site.namespaces())


def test_ports_keep_their_ids_and_devices_when_both_die(site: Site) -> None:
    """The agent first, as the data plane knows; then both, and devices are found where they were."""
    site.up()
    before = {vm.name: site.device(vm) for vm in STABLE}
    site.kill_agent("h1")
    site.kill_dataplane("h1")
    site.commit(NEW.manifest)
    site.fork_agent("h1")
    site.start_dataplane("h1")  # the agent waits for it
    site.settle()
    assert {vm.name: link and link.index for vm in STABLE for link in [site.device(vm)]} == {
        name: link and link.index for name, link in before.items()
    }
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
    site.assert_nothing_stray(site.namespaces())


def test_a_data_plane_that_stops_is_waited_for(site: Site) -> None:
    site.up()
    node = site.nodes["h1"]
    assert node.dataplane is not None and node.agent is not None
    for _ in range(3):
        node.dataplane.send_signal(signal.SIGTERM)
        assert node.dataplane.wait(10) == 0
        site.start_dataplane("h1")
        wait_until(lambda: site.is_so("h1"), seconds=20)
    assert node.agent.poll() is None


def test_a_second_agent_refuses(site: Site) -> None:
    site.up()
    node = site.nodes["h1"]
    options = ["--store", site.location, "--host", "h1", "--instance", node.instance]
    command = [BIN / "isolane", "agent", *options]
    done = netns.call(node.namespace, subprocess.run, command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == f"error: an agent of instance {node.instance} is running already\n"


def test_a_host_that_is_deleted(site: Site) -> None:
    site.up()
    assert isolane(site, "delete", "host", "h2", "--cascade").returncode == 0

    def is_empty() -> bool:
        with site.client("h2") as client:
            return not client.hello()["ports"] and not any(client.rows(kind) for kind in RowKind)

    wait_until(is_empty, "something is left")
    wait_until(site.has_applied)
    site.assert_nothing_stray(site.namespaces())
    site.commit(FABRIC + "".join(vm.manifest for vm in STABLE))
    site.settle()
    for vm in STABLE:
        site.set_up(vm)
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
