"""AF_XDP ports, of VMs and of the underlay: all that holds by AF_PACKET holds by them."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from dataplane.binding.core import PortKind
from dataplane.binding.memory import packet_memory
from dataplane.host import bpf_programs, ethtool, links, netns, xdp
from dataplane.host.device import Terms
from dataplane.host.links import DeviceError
from dataplane.host.underlay import Underlay, open_underlay
from dataplane.process.client import Client
from policy.agent.opener import HostOpener
from policy.agent.wanted import Wanted
from policy.kinds.model import Attach, AttachKind, Driver, Mac
from tests.netns.datagrams import DATAGRAMS, sent_at_once
from tests.netns.labs import EXAMPLE, Lab, running_lab
from tools.demo import command
from tools.demo.vms import echo_by_tcp

DATA = bytes(range(251)) * (1 << 12)
BY_XDP = EXAMPLE.replace("mtu: 1600}", "mtu: 1600, driver: afxdp}").replace(
    "{veth: eth0, ", "{driver: afxdp, veth: eth0, "
)
VETHS = ("blue-api", "blue-db", "red-api", "red-app")


def test_the_demo_passes(prefix: str, tmp_path: Path) -> None:
    """Its isolation checks too: nothing of the host answers, nothing forged passes."""
    manifest = tmp_path / "xdp.yaml"
    manifest.write_text(BY_XDP)
    checks = command.run(manifest, prefix, threading.Event(), lambda _: None)
    assert {check.name: check.detail for check in checks if not check.ok} == {}
    assert len(checks) == 36


@pytest.fixture(scope="module", params=[1600, 9000])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Of underlays of this MTU: larger frames than a slot take several descriptors."""
    manifest = tmp_path_factory.mktemp("xdp") / "xdp.yaml"
    manifest.write_text(BY_XDP.replace("mtu: 1600", f"mtu: {request.param}"))
    with running_lab(manifest, f"xdp-{request.param}-") as lab:
        yield lab


def test_it_is_shown_by_what_packets_come_and_why(lab: Lab) -> None:
    for host in lab.hosts:
        with Client(f"{lab.prefix}{host}") as client:
            underlay, ports = client.status()["underlay"], client.ports()
        assert (underlay["kind"], underlay["reason"]) == ("xdp", "as stated")
        kinds = {port["name"].partition("/")[2]: (port["kind"], port["reason"]) for port in ports}
        for name, shown in kinds.items():
            is_veth = name in VETHS
            assert shown == (("xdp", "as stated") if is_veth else ("tap", "")), name


@pytest.mark.parametrize("tenant", ["blue", "red"])
@pytest.mark.parametrize("version", [4, 6])
def test_what_comes_is_what_was_sent(lab: Lab, tenant: str, version: int) -> None:
    """Between ports of either kind, on one host and on two, rewritten and in NVGRE."""
    near, far = ("api", "db") if tenant == "blue" else ("api", "app")
    pairs = [(near, far), (far, near), (near, "web"), ("web", near), ("web", far)]
    for source, target in pairs:
        sending, receiving = lab.vms[f"{tenant}-{source}"], lab.vms[f"{tenant}-{target}"]
        echo_by_tcp(sending, receiving, version, DATA)
        assert sent_at_once(sending, receiving, version) == DATAGRAMS, (source, target)
    lab.assert_balanced()


# ---- devices -----------------------------------------------------------------------------------------------

MAC = "02:00:00:00:77:01"


@pytest.fixture
def host(prefix: str, cleanup: ExitStack) -> str:
    """A namespace with a veth u1, whose other end is there too."""
    name = f"{prefix}host"
    netns.create(name)
    cleanup.callback(netns.remove, name)
    netns.call(name, _add_veth)
    return name


def _add_veth() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="u1", kind="veth", address=MAC, peer={"ifname": "u2"})
        for device in ("u1", "u2"):
            ip.link("set", index=links.get(ip, device).index, mtu=1600, state="up")


@pytest.fixture
def memory(cleanup: ExitStack) -> int:
    fd = packet_memory(64 * xdp.SLOT)
    cleanup.callback(os.close, fd)
    return fd


@contextmanager
def opened(host: str, memory: int | None) -> Iterator[Underlay]:
    underlay = netns.call(host, open_it, memory)
    try:
        yield underlay
    finally:
        netns.call(host, underlay.close)


def open_it(memory: int | None) -> Underlay:
    return open_underlay("u1", Terms(MAC, 1600, driver="afxdp", memory=memory))


def test_its_program_goes_with_it(host: str, memory: int) -> None:
    with opened(host, memory) as underlay:
        assert (underlay.kind, underlay.queues, underlay.xsks) == (PortKind.XDP, 1, 1)
        assert netns.call(host, program_of, "u1") == "isolane_wire"
    assert netns.call(host, program_of, "u1") is None


@pytest.mark.parametrize("driver", [Driver.PACKET, Driver.AFXDP])
def test_a_vms_device_takes_the_descriptors_that_an_agent_expects(
    host: str, memory: int, driver: Driver
) -> None:
    attach = Attach(AttachKind.DEVICE, "u1", "", driver)
    wanted = Wanted(1, "red/red-web", attach, "u1", Mac(MAC), 1500, driver)
    terms = wanted.terms(1, memory, lambda *_: None)
    device = netns.call(host, HostOpener().open, wanted, terms, [])
    try:
        assert len(device.undo.fds) == wanted.descriptors(1)
    finally:
        netns.call(host, device.close)


def test_two_can_not_have_a_device(host: str, memory: int) -> None:
    """By AF_PACKET others can share it."""
    index = netns.call(host, index_of, "u1")
    with opened(host, memory):
        for other in (lambda: xdp.open_socket(memory, index, 0, has_long=False), lambda: steer(index)):
            with pytest.raises(OSError, match="Device or resource busy"):
                netns.call(host, other)
    fds = netns.call(host, steer, index)
    with pytest.raises(DeviceError) as error:
        netns.call(host, open_it, memory)
    assert str(error.value) == "underlay u1: driver afxdp: another XDP program or AF_XDP socket is there"
    assert netns.call(host, program_of, "u1") == "isolane_vm"
    for fd in fds:
        os.close(fd)


def test_without_memory_of_the_core_there_is_none(host: str) -> None:
    with pytest.raises(DeviceError) as error:
        netns.call(host, open_it, None)
    says = "the data plane that runs does not share its memory: restart it"
    assert str(error.value) == f"underlay u1: driver afxdp: {says}"


def test_a_tag_is_left_in_the_frame_meanwhile(host: str, memory: int) -> None:
    """Where the device would take it off, the program would take the frame for one without."""
    netns.call(host, ethtool.switch, "u1", ["rx-vlan-hw-parse"], True)
    with opened(host, memory):
        assert "rx-vlan-hw-parse" not in netns.call(host, ethtool.active, "u1")
    assert "rx-vlan-hw-parse" in netns.call(host, ethtool.active, "u1")


def index_of(device: str) -> int:
    with IPRoute() as ip:
        return links.get(ip, device).index


def program_of(device: str) -> str | None:
    shown = subprocess.run(["ip", "-d", "-j", "link", "show", device], capture_output=True, check=True)
    found = json.loads(shown.stdout)[0].get("xdp")
    return str(found["prog"]["name"]) if found else None


def steer(index: int) -> tuple[int, ...]:
    return tuple(xdp.steer(bpf_programs.VM, index, 1))
