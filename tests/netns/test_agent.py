"""`isolane agent` and `isolane dataplane`, each a process of its own, on two hosts over one store."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from dataplane import bpf_programs, devices, ethtool, links, netns
from dataplane.tables import ChangeSet, Op, RowKind, Section
from tests.native import BIN
from tests.netns.labs import wait_until
from tests.netns.sites import (
    FABRIC,
    HOSTS,
    STABLE,
    Site,
    Traffic,
    Vm,
    descriptors,
    digests,
    resident,
    steady_descriptors,
    threads,
)

VMS = {vm.name: vm for vm in STABLE}
PAIRS = [
    (VMS["blue-web"], VMS["blue-app"]),
    (VMS["blue-web"], VMS["blue-api"]),
    (VMS["red-web"], VMS["red-app"]),
    (VMS["red-web"], VMS["red-api"]),
]
"""On two hosts and on one, by rewrite and by NVGRE."""
NEW = Vm("new", "blue", "h1", 50)
MOVED = Vm("new", "blue", "h2", 50, netns="new-there")


@pytest.fixture
def site(prefix: str, tmp_path: Path, cleanup: ExitStack) -> Iterator[Site]:
    made = Site(prefix, tmp_path, cleanup, [NEW, MOVED])
    yield made
    assert "Traceback" not in made.log.read_text()


def isolane(site: Site, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "ISOLANE_STORE": str(site.location)}
    command = [BIN / "isolane", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def apply(site: Site, text: str) -> "subprocess.CompletedProcess[str]":
    path = site.directory / "applied.yaml"
    path.write_text(text)
    return isolane(site, "apply", "-f", str(path), "--wait", "20")


def node_status(site: Site, host: str) -> Any:
    done = isolane(site, "node", "status", "--instance", site.nodes[host].instance, "-o", "json")
    return json.loads(done.stdout)


def records_of(site: Site, host: str, vm: Vm) -> list[Any]:
    with site.client(host) as client:
        return [each for each in client.records() if each["customerAddress"] == vm.address]


def test_what_is_applied_is_carried_out(site: Site) -> None:
    site.up()
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        before = {host: steady_descriptors(site.nodes[host].agent_pid) for host in HOSTS}

        done = apply(site, NEW.manifest)
        assert (done.returncode, done.stdout) == (0, "Port blue/new created\n"), done.stderr
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


def test_a_namespace_that_comes_later(site: Site) -> None:
    site.up()
    namespace = f"{site.prefix}{NEW.name}"
    netns.remove(namespace)
    done = apply(site, NEW.manifest)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"host h1: TAP eth0 in namespace {namespace}: no network namespace {namespace!r} in /run/netns"
    ), "it had a moment to get over it"
    state = site.states()["h1"]
    assert (state["state"], len(state["problems"])) == ("failed", 1)
    assert node_status(site, "h1")["agent"]["problems"] == state["problems"]
    with Traffic(site, PAIRS) as traffic:
        netns.create(namespace)
        site.settle()
        assert site.device(NEW) is not None
        assert node_status(site, "h1")["agent"]["state"] == "applied"
        assert traffic.lost() == {}


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


@pytest.mark.parametrize("name", ["blue-web", "blue-api"])
def test_a_device_that_goes_is_made_again(site: Site, name: str) -> None:
    """At once: long before all is compared the next time."""
    site.up()
    before = steady_descriptors(site.nodes["h1"].agent_pid)

    def is_made(last: int) -> bool:
        """All of it: what is deleted while it is made is made another time."""
        there = site.device(VMS[name])
        return there is not None and there.index != last and there.up

    for _ in range(3):
        wait_until(lambda: is_made(0), "not made", seconds=10)
        there = site.device(VMS[name])
        assert there is not None
        netns.call(f"{site.prefix}{name}", _delete, "eth0")
        wait_until(lambda last=there.index: is_made(last), "not made again", seconds=10)
    site.set_up(VMS[name])
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
    wait_until(lambda: descriptors(site.nodes["h1"].agent_pid) == before, "descriptors leak")
    site.assert_nothing_stray(site.namespaces())


def test_a_namespace_that_is_made_anew(site: Site) -> None:
    site.up()
    namespace = f"{site.prefix}red-web"
    netns.remove(namespace)
    wait_until(lambda: site.states()["h1"]["state"] == "failed", "not noticed", seconds=10)
    netns.create(namespace)
    site.settle()
    site.set_up(VMS["red-web"])
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()


def test_a_document_of_a_later_version(site: Site) -> None:
    """It and what comes after wait until it can be read, and nothing is lost meanwhile."""
    site.up()
    site.commit(NEW.manifest)
    port = f"intent/Port/blue/{NEW.name}"
    document = site.store.snapshot(port).items[port]
    site.store.commit({}, [port])
    site.settle()
    later = "intent/CustomerRoute/blue/later"
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        site.store.commit({later: b'{"spec": {"laterField": 1}}'}, [])
        wait_until(lambda: site.states()["h1"]["state"] == "failed", "not noticed", seconds=10)
        (problem,) = site.states()["h1"]["problems"]
        assert "CustomerRoute blue/later" in problem
        site.store.commit({port: document}, [])
        assert site.end_agent("h1") == 0, "it has not given up"
        site.start_agent("h1")
        wait_until(lambda: _agent(site, "h1"), "no agent", seconds=20)
        site.store.commit({}, [later])
        site.settle()
        assert site.device(NEW) is not None
        assert traffic.lost() == {}


def test_a_failure_that_nobody_expects_takes_no_device(site: Site) -> None:
    """Of an agent that removes all when it is told to stop: its successor goes on."""
    site.up()
    assert site.end_agent("h1") == 0
    site.fork_agent("h1", {"at": "raise", "number": 0}, "--remove")
    wait_until(lambda: _agent(site, "h1") == site.nodes["h1"].agent_pid, "not up", seconds=20)
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


def test_what_others_do_to_devices_is_repaired(site: Site) -> None:
    """On both ends of a VM's device and on the underlay."""
    site.up("--resync", "0.5")
    host = site.nodes["h1"].namespace
    veth = devices.host_end_name("eth0", f"{site.prefix}blue-api")

    def repaired(namespace: str, edit: Callable[[], object], is_as_before: Callable[[], bool]) -> None:
        assert netns.call(namespace, is_as_before)
        netns.call(namespace, edit)
        assert not netns.call(namespace, is_as_before)
        wait_until(lambda: netns.call(namespace, is_as_before), "not repaired", seconds=10)

    for name in (veth, "u1"):
        repaired(host, partial(_drop_filter, name), partial(_filters, name))
    for sysctl, wanted in links.silence(veth).items():
        edit = partial(links.write_sysctl, sysctl, "0")
        repaired(host, edit, lambda s=sysctl, w=wanted: links.read_sysctl(s) == w)
    repaired(host, partial(links.set_state, veth, "down"), lambda: _link(veth).up)
    merging = partial(ethtool.switch, "u1", ["rx-gro"], True)
    repaired(host, merging, lambda: "rx-gro" not in ethtool.active("u1"))
    for vm in ("blue-web", "blue-api"):
        namespace = f"{site.prefix}{vm}"
        before = netns.call(namespace, _link, "eth0")
        edits: list[dict[str, object]] = [{"address": "02:00:00:00:00:99"}, {"mtu": before.mtu + 100}]
        for edit_of_link in edits:
            repaired(namespace, partial(_set, "eth0", **edit_of_link), lambda b=before: _link("eth0") == b)
        netns.call(namespace, _set, "eth0", mtu=1300)  # a VM's own business
    wait_until(site.has_applied)
    assert netns.call(f"{site.prefix}blue-web", _link, "eth0").mtu == 1300
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
    site.assert_nothing_stray(site.namespaces())


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ("mtu: 9000", "MTU 9000, the device has 1600"),
        ("mtu: 1600", "MAC 02:00:00:00:77:99, the device has 02:00:00:00:77:01"),
    ],
)
def test_an_underlay_that_is_not_as_stated(site: Site, stated: str, problem: str) -> None:
    """It is said until it is mended, and the host goes on as it was."""
    problem = f"underlay u1: the manifest says {problem}"
    site.up()
    mac = "02:00:00:00:77:99" if "MAC" in problem else "02:00:00:00:77:01"
    host = f'''
kind: Host
metadata: {{name: h1}}
spec: {{site: rack1, underlay: {{interface: u1, mac: "{mac}", {stated}}}}}
'''
    with Traffic(site, PAIRS) as traffic:
        done = apply(site, host)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"host h1: {problem}")
        traffic.wait()
        wait_until(lambda: node_status(site, "h1")["agent"]["problems"] == [problem])
        namespace = site.nodes["h1"].namespace
        netns.call(namespace, _set, "u1", **({"address": mac} if "MAC" in problem else {"mtu": 9000}))
        wait_until(site.has_applied, "not mended", seconds=20)
        assert node_status(site, "h1")["agent"]["problems"] == []


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
            wait_until(lambda: _problems(site, "h1"), "not noticed", seconds=20)
            assert "Port blue/later" in _problems(site, "h1")[0]
        site.store.commit({}, [key])
        site.settle()
        assert traffic.lost() == {}


def test_a_port_whose_vm_would_be_the_host(site: Site) -> None:
    """Of a document from before it was refused, or by another writer: its own problem, and others go on."""
    site.up()
    host = site.nodes["h1"].namespace
    before = site._links(host)
    for attach, problem in (
        (
            {"tap": "vm0"},
            "TAP vm0: attach.netns: missing: the VM of a tap is the kernel of its",
        ),
        ({"tap": "lo"}, "TAP lo: attach.netns: missing"),
        ({"tap": "lo", "netns": NEW.name}, "is the loopback"),
    ):
        stored = {"host": "h1", "vmSubnet": "sub", "addresses": ["10.1.0.77"], "mac": "02:bb:00:00:00:77"}
        key = "intent/Port/red/from-before"
        with Traffic(site, PAIRS) as traffic:
            traffic.wait()
            site.store.commit({key: json.dumps({"spec": {**stored, "attach": attach}}).encode()}, [])
            wait_until(lambda: site.states()["h1"]["state"] == "failed", "not noticed", seconds=10)
            (found,) = site.states()["h1"]["problems"]
            assert problem in found
            assert apply(site, NEW.manifest).returncode == 0
            assert site.device(NEW) is not None
            assert traffic.lost() == {}
        assert site._links(host) == before
        site.store.commit({}, [key, f"intent/Port/blue/{NEW.name}"])
        site.settle()


def test_a_data_plane_that_stays_away_is_told(site: Site) -> None:
    site.up()
    site.kill_dataplane("h1")
    wait_until(lambda: site.states()["h1"]["state"] == "failed", "not told", seconds=10)
    done = apply(site, NEW.manifest)
    name = site.nodes["h1"].instance
    assert done.stderr.splitlines()[-1] == f"host h1: the data plane of instance {name} is not there"
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


def _problems(site: Site, host: str) -> list[str]:
    """As the agent that runs says."""
    agent = node_status(site, host)["agent"]
    found: list[str] = agent.get("problems", []) if agent.get("pid") == site.nodes[host].agent_pid else []
    return found


def _link(name: str) -> links.Link:
    with IPRoute() as ip:
        return links.get(ip, name)


def _set(name: str, **settings: object) -> None:
    links.set_link(_link(name).index, **settings)


def _filters(name: str) -> bool:
    program = bpf_programs.DIVERT if name == "u1" else bpf_programs.DROP
    with IPRoute() as ip:
        return links.drops_at_ingress(ip, links.get(ip, name), program)


def _drop_filter(name: str) -> None:
    with IPRoute() as ip:
        ip.tc("del", "clsact", links.get(ip, name).index)


def _delete(name: str) -> None:
    with IPRoute() as ip:
        ip.link("del", index=links.get(ip, name).index)


def test_an_agent_is_replaced_under_traffic(site: Site) -> None:
    site.up()
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        for host in HOSTS:
            first = site.nodes[host].agent_pid
            assert site.end_agent(host) == 0
            traffic.wait(50)
            site.start_agent(host)
            wait_until(lambda host=host, first=first: _agent(site, host) not in (0, first), seconds=20)
        site.settle()
        traffic.wait()
        assert traffic.lost() == {}
    site.assert_nothing_stray(site.namespaces())


def _agent(site: Site, host: str) -> int:
    with site.client(host) as client:
        pid: int = client.status()["agent"].get("pid", 0)
        return pid


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


@pytest.mark.parametrize("kind", ["tap", "veth"])
def test_what_goes_while_nobody_lives_is_put_back(site: Site, kind: str) -> None:
    """A port that is deleted meanwhile, one that was being opened, and the underlay's features at the end."""
    other = replace(NEW, kind=kind)

    def delete_meanwhile() -> None:
        """Of a dead agent's port, while the data plane is dead too; then both come back."""
        site.kill_dataplane("h1")
        site.change(other, None)
        site.start_dataplane("h1")
        site.start_agent("h1")
        site.settle()
        site.assert_nothing_stray(site.namespaces())

    netns.call(site.nodes["h1"].namespace, ethtool.switch, "u1", ["rx-gro"], True)
    before = netns.call(site.nodes["h1"].namespace, ethtool.active, "u1")
    assert "rx-gro" in before
    site.up()
    site.commit(other.manifest)
    site.settle()
    assert "rx-gro" not in netns.call(site.nodes["h1"].namespace, ethtool.active, "u1")
    site.kill_agent("h1")
    delete_meanwhile()

    site.kill_agent("h1")
    site.commit(other.manifest)
    site.fork_agent("h1", {"at": "attach", "number": 0})
    node = site.nodes["h1"]
    assert node.warm is not None and node.forked is not None
    assert node.warm.wait(node.forked) == -signal.SIGKILL
    node.forked = None
    assert site.device(other) is not None
    delete_meanwhile()

    assert isolane(site, "delete", "host", "h1", "--cascade").returncode == 0
    wait_until(lambda: netns.call(node.namespace, ethtool.active, "u1") == before, "not as it was")


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
    assert done.stderr == f"an agent of instance {node.instance} is running already\n"


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
