"""What becomes of the devices of ports and of the underlay, whatever others do to them."""

import json
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from dataplane.host import ethtool, links, netns
from dataplane.host.device import host_end_name
from policy.agent.port_links import LOOK_SECONDS
from tests.native import BIN
from tests.netns.agents import (
    MOVED,
    NEW,
    PAIRS,
    VMS,
    apply,
    delete_link,
    drop_filter,
    has_filter,
    isolane,
    link_named,
    node_status,
    problems_of,
    set_link,
)
from tests.netns.labs import wait_until
from tests.netns.sites import (
    FABRIC,
    STABLE,
    Site,
    Vm,
    descriptors,
    steady_descriptors,
)
from tests.netns.traffic import Traffic


@pytest.fixture
def site(prefix: str, tmp_path: Path, cleanup: ExitStack) -> Iterator[Site]:
    made = Site(prefix, tmp_path, cleanup, [NEW, MOVED])
    yield made
    assert "Traceback" not in made.log.read_text()


def test_what_a_vm_does_to_its_link_is_told(site: Site) -> None:
    site.up()
    vm = VMS["blue-web"]

    def links_told() -> dict[str, str] | None:
        return site.states()["h1"]["links"]  # type: ignore[no-any-return]

    wait_until(lambda: links_told() == {})
    for state, told in (("down", {f"blue/{vm.name}": "down"}), ("up", {})):
        netns.call(f"{site.prefix}{vm.name}", links.set_state, "eth0", state)
        wait_until(lambda told=told: links_told() == told, seconds=LOOK_SECONDS + 5)
        shown = isolane(site, "describe", "port", f"blue/{vm.name}").stdout
        assert f"link: {state}" in shown
    assert site.states()["h1"]["state"] == "applied"


def test_a_namespace_that_comes_later(site: Site) -> None:
    site.up()
    namespace = f"{site.prefix}{NEW.name}"
    netns.remove(namespace)
    done = apply(site, NEW.manifest)
    assert done.returncode == 1
    absent = f"TAP eth0 in namespace {namespace}: no network namespace {namespace!r} in /run/netns"
    expected = f"error: host h1: port blue/new: {absent}"
    assert done.stderr.splitlines()[-1] == expected, "it had a moment to get over it"
    state = site.states()["h1"]
    assert (state["state"], len(state["problems"])) == ("failed", 1)
    assert node_status(site, "h1")["agent"]["problems"] == list(state["problems"])
    with Traffic(site, PAIRS) as traffic:
        netns.create(namespace)
        site.settle()
        assert site.device(NEW) is not None
        assert node_status(site, "h1")["agent"]["state"] == "applied"
        assert traffic.lost() == {}


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
        netns.call(f"{site.prefix}{name}", delete_link, "eth0")
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


def test_what_others_do_to_devices_is_repaired(site: Site) -> None:
    """On both ends of a VM's device and on the underlay."""
    site.up("--resync", "0.5")
    host = site.nodes["h1"].namespace
    veth = host_end_name("eth0", f"{site.prefix}blue-api")

    def repaired(namespace: str, edit: Callable[[], object], is_as_before: Callable[[], bool]) -> None:
        assert netns.call(namespace, is_as_before)
        netns.call(namespace, edit)
        assert not netns.call(namespace, is_as_before)
        wait_until(lambda: netns.call(namespace, is_as_before), "not repaired", seconds=10)

    for name in (veth, "u1"):
        repaired(host, partial(drop_filter, name), partial(has_filter, name))
    for sysctl, wanted in links.mute_sysctls(veth).items():
        edit = partial(links.write_sysctl, sysctl, "0")
        repaired(host, edit, lambda s=sysctl, w=wanted: links.read_sysctl(s) == w)
    repaired(host, partial(links.set_state, veth, "down"), lambda: link_named(veth).up)
    merging = partial(ethtool.switch, "u1", ["rx-gro-list"], True)
    repaired(host, merging, lambda: "rx-gro-list" not in ethtool.active("u1"))
    for vm in ("blue-web", "blue-api"):
        namespace = f"{site.prefix}{vm}"
        before = netns.call(namespace, link_named, "eth0")
        edits: list[dict[str, object]] = [{"address": "02:00:00:00:00:99"}, {"mtu": before.mtu + 100}]
        for edit_of_link in edits:
            repaired(
                namespace, partial(set_link, "eth0", **edit_of_link), lambda b=before: link_named("eth0") == b
            )
        netns.call(namespace, set_link, "eth0", mtu=1300)  # a VM's own business
    wait_until(site.has_applied)
    assert netns.call(f"{site.prefix}blue-web", link_named, "eth0").mtu == 1300
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
        assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"error: host h1: {problem}")
        traffic.wait()
        wait_until(lambda: node_status(site, "h1")["agent"]["problems"] == [problem])
        namespace = site.nodes["h1"].namespace
        netns.call(namespace, set_link, "u1", **({"address": mac} if "MAC" in problem else {"mtu": 9000}))
        wait_until(site.has_applied, "not mended", seconds=20)
        assert node_status(site, "h1")["agent"]["problems"] == []


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

    netns.call(site.nodes["h1"].namespace, ethtool.switch, "u1", ["rx-gro-list"], True)
    before = netns.call(site.nodes["h1"].namespace, ethtool.active, "u1")
    assert "rx-gro-list" in before
    site.up()
    site.commit(other.manifest)
    site.settle()
    assert "rx-gro-list" not in netns.call(site.nodes["h1"].namespace, ethtool.active, "u1")
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


def test_an_underlay_that_goes_down_is_told_at_once(site: Site) -> None:
    """By netlink, long before all is compared; and so is that it is up again."""
    site.up()
    host = site.nodes["h1"].namespace
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        netns.call(host, links.set_state, "u1", "down")
        wait_until(lambda: problems_of(site, "h1") == ["underlay u1: is down"], "not told", seconds=3)
        wait_until(lambda: site.states()["h1"]["state"] == "failed", "not told the store", seconds=3)
        assert node_status(site, "h1")["underlay"]["link"] == "down"
        netns.call(host, links.set_state, "u1", "up")
        wait_until(lambda: problems_of(site, "h1") == [], "not told that it is up", seconds=5)
        assert node_status(site, "h1")["underlay"]["link"] == "up"
        wait_until(site.has_applied, seconds=5)
        traffic.wait()


def test_an_underlay_of_another_mtu_is_told_once(site: Site) -> None:
    """And no repair is claimed that is none."""
    site.up("--resync", "0.3")
    host = site.nodes["h1"].namespace
    problem = "underlay u1: the manifest says MTU 1600, the device has 1500"
    netns.call(host, set_link, "u1", mtu=1500)
    wait_until(lambda: problems_of(site, "h1") == [problem], "not told", seconds=3)
    said = site.log.read_text().count("devices are not as they were left")
    assert "underlay: altered" in site.log.read_text()
    resyncs = site.log.read_text().count("\n")
    netns.call(host, set_link, "u1", txqlen=999)  # of no concern
    wait_until(lambda: problems_of(site, "h1") == [problem])
    assert site.log.read_text().count("devices are not as they were left") == said == 1
    assert site.log.read_text().count("\n") - resyncs < 5, "it goes on about it"
    netns.call(host, set_link, "u1", mtu=1600)
    wait_until(lambda: problems_of(site, "h1") == [], "not taken back", seconds=5)


def test_an_underlays_mac_is_followed_where_none_is_stated(site: Site) -> None:
    site.up()
    unstated = """
kind: Host
metadata: {name: h1}
spec: {site: rack1, underlay: {interface: u1, mtu: 1600}}
"""
    assert apply(site, unstated).returncode == 0
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        netns.call(site.nodes["h1"].namespace, set_link, "u1", address="02:00:00:00:77:51")
        wait_until(lambda: _macs_at_h2(site) == {"02:00:00:00:77:51"}, "not announced", seconds=5)
        assert node_status(site, "h1")["underlay"]["mac"] == "02:00:00:00:77:51"
        assert problems_of(site, "h1") == []
        traffic.wait()


def _macs_at_h2(site: Site) -> set[str | None]:
    """Of the PAs of h1, as h2 knows them."""
    pas = node_status(site, "h1")["providerAddresses"]
    with site.client("h2") as client:
        return {each["mac"] for each in client.neighbours() if each["address"] in pas}


def test_a_second_instance_of_a_host_touches_nothing(site: Site) -> None:
    """A veth that was taken over would be another to its VM, without its addresses."""
    site.up()
    before = {vm.name: site.device(vm) for vm in STABLE}
    node = site.nodes["h1"]
    other = f"{node.instance}-2"
    options = ["--store", site.location, "--host", "h1", "--instance", other, "--netns-prefix", site.prefix]
    command = [BIN / "isolane", "up", *options]
    with Traffic(site, PAIRS) as traffic:
        traffic.wait()
        done = netns.call(node.namespace, subprocess.run, command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "underlay u1: another isolane uses it" in done.stderr
        assert "web" not in done.stderr and "api" not in done.stderr, "one reason is enough"
        assert {vm.name: site.device(vm) for vm in STABLE} == before
        assert traffic.lost() == {}


def test_a_vm_that_is_off_is_waited_for(site: Site) -> None:
    """Its device is a hypervisor's, which makes it with the VM: nobody's fault, and taken at once when it is
    there.
    """
    site.up()
    port = """
kind: Port
metadata: {name: absent, tenant: blue}
spec: {vmSubnet: sub, host: h1, addresses: [10.1.0.60], mac: "02:bb:00:00:00:60", attach: {device: vnet7}}
"""
    assert apply(site, port).returncode == 0
    agent = node_status(site, "h1")["agent"]
    assert (agent["state"], agent["problems"]) == ("applied", [])
    assert agent["waiting"] == ["device vnet7: no such device"]

    def add() -> None:
        with IPRoute() as ip:
            ip.link("add", ifname="vnet7", kind="veth", peer={"ifname": "vnet7p"})

    host = site.nodes["h1"].namespace
    netns.call(host, add)
    wait_until(lambda: "absent" in site.ids("h1"), "not taken", seconds=3)
    wait_until(lambda: node_status(site, "h1")["agent"]["waiting"] == [])
    netns.call(host, delete_link, "vnet7")
    wait_until(lambda: "absent" not in site.ids("h1"), "not noticed", seconds=5)
    wait_until(lambda: node_status(site, "h1")["agent"]["waiting"] != [])
    assert problems_of(site, "h1") == []


def test_ports_without_descriptors_are_told_and_the_others_work(site: Site) -> None:
    """Of agent and data plane alike, under the limit that a shell gives."""
    ports = [Vm(f"p{number}", "blue", "h1", number, netns=NEW.name) for number in range(100, 180)]
    stated = [vm.manifest.replace("tap: eth0", f"tap: p{vm.number}") for vm in ports]
    site.commit(FABRIC + "".join(vm.manifest for vm in STABLE) + "".join(stated))
    limit = 180
    site.start_dataplane("h1")
    site.start_agent("h1")
    for pid in (site.nodes["h1"].dataplane_pid, site.nodes["h1"].agent_pid):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    wait_until(lambda: len(problems_of(site, "h1")) > 10, "not told", seconds=30)
    problems = problems_of(site, "h1")
    assert all("a process may have 180 (RLIMIT_NOFILE" in each for each in problems)
    here = [vm for vm in STABLE if vm.host == "h1"]
    assert len(site.ids("h1")) + len(problems) == 1 + len(ports) + len(here)
    assert len(site.ids("h1")) > 20
