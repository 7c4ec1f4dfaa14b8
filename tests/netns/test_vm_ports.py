"""Ports whose TAP isolane makes for a hypervisor: what becomes of them whoever comes, goes and interferes."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dataplane.host import links, netns
from dataplane.host.links import ALIAS, Link
from policy.agent.port_links import LOOK_SECONDS
from policy.agent.strangers import LOOK_SECONDS as LOOK_FOR_STRANGERS
from tests.native import ROOT
from tests.netns.agents import apply, delete_link, isolane, node_status, problems_of, set_link
from tests.netns.hypervisor import MULTI_QUEUE, Hypervisor, open_tap
from tests.netns.labs import wait_until
from tests.netns.rig import link_of, run
from tests.netns.sites import FABRIC, FIRST_RUN, Site, Vm

TAP = "vm0"
VM = Vm("guest", "blue", "h1", 60, netns="blue-web")
MAC, GATEWAY = "02:bb:00:00:00:3c", "10.0.0.1"
NOBODY = 65534
WAITS = [f"TAP {TAP}: no hypervisor has opened it"]


OTHER = """
kind: Port
metadata: {name: other, tenant: red}
spec: {vmSubnet: sub, host: h1, attach: {vm: vm1}}
"""


def port(attach: str) -> str:
    return VM.manifest.replace("{tap: eth0, netns: blue-web}", f"{{{attach}}}")


@pytest.fixture
def site(prefix: str, tmp_path: Path, cleanup: ExitStack) -> Iterator[Site]:
    made = Site(prefix, tmp_path, cleanup)
    yield made
    assert "Traceback" not in made.log.read_text()


def up(site: Site, attach: str, *options: str) -> str:
    """The namespace of the host."""
    site.commit(FABRIC + port(attach))
    site.start_dataplane("h1")
    site.start_agent("h1", *options)
    wait_until(lambda: site.is_so("h1") and site.has_applied(["h1"]), "not up", FIRST_RUN)
    return site.nodes["h1"].namespace


def tap(host: str) -> Link:
    there = link_of(host, TAP)
    assert there is not None
    return there


def is_answered(vm: Hypervisor) -> None:
    wait_until(vm.asks(MAC, VM.address, GATEWAY), "the gateway does not answer", seconds=5)


def told(site: Site) -> tuple[str, str]:
    """State and link."""
    status = json.loads(isolane(site, "get", "port", f"blue/{VM.name}", "-o", "json").stdout)["status"]
    return status["state"], status["link"]


def test_a_vm_that_comes_and_goes(site: Site) -> None:
    host = up(site, f"vm: {TAP}")
    first = tap(host)
    assert (first.alias, first.mac, first.mtu, first.up) == (ALIAS, MAC, 1500, True)
    assert (first.tap_owner, first.tap_is_multi_queue) == (0, False)
    assert told(site) == ("waiting", "waiting")
    agent = node_status(site, "h1")["agent"]
    assert (agent["state"], agent["problems"], agent["waiting"]) == ("applied", [], WAITS)
    for _ in range(2):
        with Hypervisor(host, TAP) as vm:
            is_answered(vm)
            wait_until(lambda: told(site) == ("applied", "up"), "not told", LOOK_SECONDS + 15)
            assert node_status(site, "h1")["agent"]["waiting"] == []
            with pytest.raises(OSError) as refused:
                netns.call(host, open_tap, TAP)
            assert refused.value.errno == errno.EBUSY
    wait_until(lambda: told(site) == ("waiting", "waiting"), "not told", 4 * LOOK_SECONDS + 15)
    assert tap(host).index == first.index
    site.change(VM, None)
    wait_until(lambda: link_of(host, TAP) is None, "not removed")


def test_what_others_do_to_it_is_put_right_at_once(site: Site) -> None:
    """By netlink, long before all is compared."""
    host = up(site, f"vm: {TAP}")
    with Hypervisor(host, TAP) as vm:
        is_answered(vm)
        index = tap(host).index
        edits: list[dict[str, object]] = [{"state": "down"}, {"mtu": 1400}, {"mtu": 9000}]
        for edit in edits:
            netns.call(host, set_link, TAP, **edit)
            wait_until(lambda: (tap(host).up, tap(host).mtu) == (True, 1500), "not put right", seconds=3)
        is_answered(vm)
        netns.call(host, delete_link, TAP)
        wait_until(lambda: (there := link_of(host, TAP)) and there.index != index, "not made anew", seconds=5)
    wait_until(lambda: site.is_so("h1"))
    with Hypervisor(host, TAP) as vm:
        is_answered(vm)


def test_one_that_is_renamed_gets_its_name_back(site: Site) -> None:
    """Its VM has it all the while; the next hypervisor looks for it by its name."""
    host = up(site, f"vm: {TAP}")
    with Hypervisor(host, TAP) as vm:
        is_answered(vm)
        index = tap(host).index
        edits = f"link set {TAP} down\nlink set {TAP} name other0\nlink set other0 up"
        run(host, "sh", "-c", f"echo '{edits}' | ip -batch -")
        wait_until(lambda: link_of(host, TAP), "not named again", seconds=5)
        wait_until(lambda: (tap(host).index, tap(host).up) == (index, True), "not up", seconds=3)
        is_answered(vm)
    wait_until(lambda: site.is_so("h1"))


@pytest.mark.parametrize("name", ["vm", "device"])
def test_a_device_that_is_set_down_is_up_at_once(site: Site, name: str) -> None:
    host = site.nodes["h1"].namespace
    if name == "device":
        run(host, "ip", "tuntap", "add", TAP, "mode", "tap", "vnet_hdr")
    up(site, f"{name}: {TAP}")
    with Hypervisor(host, TAP) as vm:
        is_answered(vm)
        for _ in range(3):
            netns.call(host, links.set_state, TAP, "down")
            wait_until(lambda: tap(host).up, "still down", seconds=3)
            is_answered(vm)


def test_several_queues(site: Site) -> None:
    host = up(site, f"vm: {TAP}, queues: 2")
    assert tap(host).tap_is_multi_queue
    with pytest.raises(OSError) as refused:
        netns.call(host, open_tap, TAP)
    assert refused.value.errno == errno.EINVAL
    with Hypervisor(host, TAP, queues=2) as vm:
        assert tap(host).tap_queues == 2
        is_answered(vm)
    site.commit(port(f"vm: {TAP}"))
    wait_until(lambda: (there := link_of(host, TAP)) and not there.tap_is_multi_queue, "not made anew")
    with pytest.raises(OSError) as refused:
        netns.call(host, open_tap, TAP, MULTI_QUEUE)
    assert refused.value.errno == errno.EINVAL


def open_as(host: str, user: int) -> int:
    """What the kernel tells a process of that user that asks for the TAP; 0: it has it."""
    tun = netns.call(host, os.open, "/dev/net/tun", os.O_RDWR)
    code = f"from tests.netns.hypervisor import ask_for\ntry:\n  ask_for({tun}, {TAP!r})\n"
    code += "except OSError as error:\n  raise SystemExit(error.errno)"
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, cwd=ROOT, pass_fds=[tun], user=user, group=user, extra_groups=[], check=False
        )
    finally:
        os.close(tun)
    return done.returncode


def owner(host: str) -> int | None:
    there = link_of(host, TAP)
    return there.tap_owner if there is not None else None


def test_who_may_open_it(site: Site) -> None:
    host = up(site, f"vm: {TAP}")
    assert open_as(host, NOBODY) == errno.EPERM
    first = tap(host).index
    for user in ("nobody", str(NOBODY)):
        site.commit(port(f'vm: {TAP}, user: "{user}"'))
        wait_until(lambda: site.is_so("h1") and owner(host) == NOBODY, "not made anew")
        assert [open_as(host, each) for each in (NOBODY, 0, NOBODY - 1)] == [0, 0, errno.EPERM]
    assert tap(host).index != first
    site.commit(port(f"vm: {TAP}, user: no-such"))
    problem = f"port blue/{VM.name}: TAP {TAP}: there is no user no-such on this host"
    wait_until(lambda: problems_of(site, "h1") == [problem])


def test_a_tap_of_somebody_else_is_left_alone(site: Site) -> None:
    host = site.nodes["h1"].namespace
    run(host, "ip", "tuntap", "add", TAP, "mode", "tap")
    before = tap(host)
    site.commit(FABRIC + port(f"vm: {TAP}"))
    site.start_dataplane("h1")
    site.start_agent("h1")
    problem = (
        f"port blue/{VM.name}: TAP {TAP}: there is one already that isolane has not made; it is left alone"
    )
    wait_until(lambda: _problems(site) == [problem], "not told", FIRST_RUN)
    assert told(site) == ("failed", "failing")
    assert (tap(host), filters_of(host)) == (before, "")
    run(host, "ip", "tuntap", "del", TAP, "mode", "tap")
    wait_until(lambda: site.is_so("h1"), "not made when it has gone", seconds=5)
    assert tap(host).alias == ALIAS
    site.change(VM, None)
    wait_until(lambda: link_of(host, TAP) is None)


def _problems(site: Site) -> list[str]:
    return list(site.states().get("h1", {}).get("problems", ()))


def filters_of(host: str) -> str:
    return run(host, "tc", "filter", "show", "dev", TAP, "ingress").stdout


@pytest.mark.parametrize("victims", [("agent",), ("dataplane",), ("agent", "dataplane")], ids="+".join)
def test_its_vm_survives_who_is_killed(site: Site, victims: tuple[str, ...]) -> None:
    host = up(site, f"vm: {TAP}, user: nobody")
    before = tap(host)
    with Hypervisor(host, TAP) as vm:
        is_answered(vm)
        kill: dict[str, Any] = {"agent": site.kill_agent, "dataplane": site.kill_dataplane}
        start: dict[str, Any] = {"agent": site.start_agent, "dataplane": site.start_dataplane}
        for victim in victims:
            kill[victim]("h1")
        if victims == ("agent",):
            is_answered(vm)
        for victim in victims:
            start[victim]("h1")
        wait_until(lambda: site.is_so("h1"), "not so again", FIRST_RUN)
        is_answered(vm)
        assert (tap(host).index, tap(host).tap_owner) == (before.index, NOBODY)


@pytest.mark.parametrize("attach", [f"vm: {TAP}", f"device: {TAP}"])
def test_a_vm_with_another_mac_is_told_with_both(site: Site, attach: str) -> None:
    """It speaks to its gateway, as ever; then its port gets the MAC that it has."""
    host, theirs = site.nodes["h1"].namespace, "52:54:00:12:34:56"
    if attach.startswith("device"):
        run(host, "ip", "tuntap", "add", TAP, "mode", "tap", "vnet_hdr")
    up(site, attach)
    with Hypervisor(host, TAP) as vm:
        asks = vm.asks(theirs, VM.address, GATEWAY)
        assert not asks()
        wait_until(lambda: _problems(site), "not told", LOOK_FOR_STRANGERS + 10)
        (problem,) = _problems(site)
        assert problem.startswith(
            f"port blue/{VM.name}: its VM sends from {theirs}, but the port's MAC is {MAC}"
        )
        assert told(site)[0] == "failed"
        assert f"failed: {problem}" in isolane(site, "describe", "port", f"blue/{VM.name}").stdout
        assert apply(site, OTHER).returncode == 0, "others do not wait for it"
        site.commit(port(attach).replace(MAC, theirs))
        wait_until(lambda: site.is_so("h1"), "not attached anew")
        if attach.startswith("device"):
            wait_until(asks, "not answered", seconds=5)
    if attach.startswith("vm"):
        with Hypervisor(host, TAP) as vm:
            wait_until(vm.asks(theirs, VM.address, GATEWAY), "not answered", seconds=5)
    wait_until(lambda: _problems(site) == [], "not taken back", LOOK_FOR_STRANGERS + 10)


@pytest.mark.parametrize("victims", [("agent",), ("agent", "dataplane")], ids="+".join)
def test_it_is_never_another_vm_networks(site: Site, victims: tuple[str, ...]) -> None:
    """Its hypervisor goes on while its name becomes that of another tenant's port, and all that knew whose it
    was are killed.
    """
    host = up(site, f"vm: {TAP}")
    index = tap(host).index
    with Hypervisor(host, TAP) as vm:
        is_answered(vm)
        site.kill_agent("h1")
        if "dataplane" in victims:
            site.kill_dataplane("h1")
        site.change(VM, None)
        site.commit(OTHER.replace("vm1", TAP))
        if "dataplane" in victims:
            site.start_dataplane("h1")
        site.start_agent("h1")
        wait_until(lambda: site.is_so("h1"), "not so again", FIRST_RUN)
        assert tap(host).index != index
        with pytest.raises(OSError) as gone:
            os.read(vm.fds[0], 100)
        assert gone.value.errno == errno.EBADFD


def test_killed_while_it_makes_one(site: Site) -> None:
    """And its port is deleted meanwhile."""
    host = site.nodes["h1"].namespace
    site.commit(FABRIC)
    site.start_dataplane("h1")
    site.start_agent("h1")
    wait_until(lambda: site.is_so("h1"), "not up", FIRST_RUN)
    site.kill_agent("h1")
    site.commit(port(f"vm: {TAP}"))
    site.fork_agent("h1", {"at": "attach", "number": 0})
    node = site.nodes["h1"]
    assert node.warm is not None and node.forked is not None
    assert node.warm.wait(node.forked) == -signal.SIGKILL
    node.forked = None
    assert tap(host).alias == ALIAS
    site.change(VM, None)
    site.start_agent("h1")
    wait_until(lambda: link_of(host, TAP) is None, "not removed", FIRST_RUN)


def test_it_goes_with_a_clean_end_and_stays_with_another(site: Site) -> None:
    host = up(site, f"vm: {TAP}", "--remove")
    index = tap(host).index
    site.kill_agent("h1")
    site.start_agent("h1")
    wait_until(lambda: agent_is_there(site), "not up", FIRST_RUN)
    assert site.end_agent("h1") == 0
    assert tap(host).index == index
    site.start_agent("h1", "--remove")
    wait_until(lambda: agent_is_there(site), "not up", FIRST_RUN)
    with Hypervisor(host, TAP) as vm:
        assert site.end_agent("h1") == 0
        assert link_of(host, TAP) is None
        with pytest.raises(OSError):
            os.read(vm.fds[0], 100)


def agent_is_there(site: Site) -> bool:
    agent: dict[str, Any] = node_status(site, "h1")["agent"]
    return agent.get("pid") == site.nodes["h1"].agent_pid and agent["state"] == "applied"
