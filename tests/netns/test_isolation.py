"""Isolation on real devices, both tenants' records on both hosts: what must not pass, sent from inside VMs
and by an intruder on the provider network. Of each probe: it was sent, exactly its drop counter rose and no
other, nothing came out anywhere.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import pytest

from dataplane.host import netns
from policy.kinds.model import ROUTER_MAC
from tests.netns.intruders import DELIVERED, EVIL_MAC, FROM_VM, PRIORITIES, TO_H1, Intruder, Sender, is_reply
from tests.netns.labs import Lab, wait_until
from tools.demo import frames as frames
from tools.demo.host import HOST_ADDRESSES, PosedHost, pose_as_router
from tools.demo.isolation import send_frames
from tools.demo.vms import Vm, ping
from tools.demo.wire import Capture

# ---- from inside a VM --------------------------------------------------------------------------------------

PROBES = [
    pytest.param(sender, name, id=f"{kind}-{name}")
    for sender, kind in (("red-web", "tap"), ("red-api", "veth"))
    for name in FROM_VM
    if sender == "red-web" or "neighbour" not in name  # red-api is the neighbour
]


@pytest.mark.parametrize(("sender", "name"), PROBES)
def test_from_a_vm(lab: Lab, sender: str, name: str) -> None:
    vm = lab.vms[sender]
    reason, build = FROM_VM[name]
    mark = os.urandom(16)
    frame = build(Sender(lab, vm), mark)
    with Capture(vm.namespace, vm.device) as own, Watch(lab, vm) as elsewhere:
        with lab.dropping({(vm.host, sender, reason): 1}):
            send_frames(vm.namespace, vm.device, [frame])
            ping(vm, lab.gateways[vm.vsid][4], count=1)  # answered after the probe was dealt with
        sent = [data for data, _ in own.frames()]
        assert sent.count(frame) == 1, "the probe left the VM"
        assert not any(is_reply(frame, data) for data in sent)
        assert not any(mark in data for data in elsewhere())


class Watch(ExitStack):
    """Inside, calling it gives all frames that passed any other VM or the wire."""

    def __init__(self, lab: Lab, sender: Vm | None) -> None:
        super().__init__()
        places = [(vm.namespace, vm.device) for vm in lab.vms.values() if vm != sender]
        self._captures = [self.enter_context(Capture(*place)) for place in places]
        if sender is not None:
            self._captures.append(self.enter_context(Capture(*lab.fabric())))

    def __call__(self) -> Iterator[bytes]:
        return (data for capture in self._captures for data, _ in capture.frames())

    def __enter__(self) -> "Watch":  # type: ignore[override]
        super().__enter__()
        return self


@pytest.fixture(scope="module")
def posed(proof_lab: Lab) -> PosedHost:
    host = proof_lab.hosts["h1"]
    return pose_as_router(host["netns"], host["underlay"]["device"])


@pytest.mark.parametrize("version", [4, 6])
def test_the_host_is_not_there(lab: Lab, posed: PosedHost, version: int) -> None:
    """With ip_forward, proxy_arp and addresses of its own nothing of the host answers its VMs, whichever
    MAC they use.
    """
    target = HOST_ADDRESSES[version]
    for name in ("red-web", "red-api"):
        vm = lab.vms[name]
        sender = Sender(lab, vm)
        asked = (
            frames.arp_request(vm.mac, sender.own(), target)
            if version == 4
            else sender.solicitation(target, sender.own(6), vm.mac)
        )
        mark = os.urandom(16)
        echo = frames.echo(sender.own(version), target, mark)
        macs = [*posed.macs, lab.hosts["h1"]["underlay"]["mac"]]
        probes = [
            asked,
            *(frames.ethernet(m, vm.mac, frames.ETHERTYPES[version], echo) for m in (ROUTER_MAC, *macs)),
        ]
        unknown = "arp-unknown" if version == 4 else "nd-unknown"
        expected = {
            ("h1", name, unknown): 1,
            ("h1", name, "no-route"): 1,
            ("h1", name, "no-record"): len(macs),
        }
        with Capture(vm.namespace, vm.device) as own, Watch(lab, vm) as elsewhere:
            with lab.dropping(expected):
                send_frames(vm.namespace, vm.device, probes)
                ping(vm, lab.gateways[vm.vsid][4], count=1)
            seen = [data for data, _ in own.frames()]
            assert all(seen.count(probe) == 1 for probe in probes)
            # but for the ARP or NS: each once, and once in the router's word that it has no route
            assert sum(mark in data for data in seen) == len(probes) - 1 + 1
            assert not any(is_reply(asked, data) for data in seen)
            assert not any(mark in data for data in elsewhere())
    assert posed.echoes_received() == 0


# ---- from the provider network -----------------------------------------------------------------------------


def send_from_outside(lab: Lab, frame: bytes, tag: bytes = b"") -> None:
    """From the foreign host's namespace; back when h1 has dealt with it and answered for its PA since, which
    is asked for with the tag.
    """
    host = lab.hosts["ovs1"]
    with Capture(host["netns"], host["underlay"]["device"]) as own:
        asking = frames.arp_request(EVIL_MAC, ip_address("192.168.77.66"), ip_address("192.168.77.101"))
        asked = asking[:12] + tag + asking[12:]
        send_frames(host["netns"], host["underlay"]["device"], [frame, asked])
        seen: list[bytes] = []

        def is_answered() -> bool:
            seen.extend(data for data, _ in own.frames())
            return any(is_reply(asking, data) for data in seen)

        wait_until(is_answered, "h1 does not answer for its PA")
        assert seen.count(frame) == 1, "the probe was sent"


@pytest.mark.parametrize("name", DELIVERED)
def test_the_right_frames_arrive(lab: Lab, name: str) -> None:
    receiver, build = DELIVERED[name]
    mark = os.urandom(16)
    with Watch(lab, None) as elsewhere, lab.dropping({}):
        send_from_outside(lab, build(Intruder(lab), mark))
        arrived = [data for data in elsewhere() if mark in data]
    vm = lab.vms[receiver]
    assert len(arrived) == 1
    assert arrived[0][:6] == frames.mac_bytes(vm.mac)
    version = arrived[0][14] >> 4
    assert vm.addresses[version].packed in arrived[0]


@pytest.mark.parametrize("priority", PRIORITIES)
def test_arp_with_a_priority_is_answered(lab: Lab, priority: int) -> None:
    intruder = Intruder(lab)
    with lab.dropping({}):
        send_from_outside(lab, intruder.nvgre(intruder.inner(os.urandom(16))), tag=PRIORITIES[priority])


@pytest.mark.parametrize("name", TO_H1)
def test_from_the_provider_network(lab: Lab, name: str) -> None:
    reason, build = TO_H1[name]
    mark = os.urandom(16)
    with Watch(lab, None) as elsewhere:
        with lab.dropping({("h1", "underlay", reason): 1}):
            send_from_outside(lab, build(Intruder(lab), mark))
        assert not any(mark in data for data in elsewhere())


def test_every_rule_has_a_probe() -> None:
    """What a VM or an intruder may try, by the reasons that count it."""
    wanted = """
        src-address src-mac arp-sender no-route inner-source inner-source-host rewrite-rdid outer-fragment
        gre-checksum-bit gre-sequence-bit gre-no-key vsid-reserved inner-vlan outer-checksum
    """
    assert set(wanted.split()) <= {reason for reason, _ in (FROM_VM | TO_H1).values()}


def test_udp_to_nobody_answers_nothing(lab: Lab) -> None:
    """A VM's own kernel may answer its tenant, but nothing answers for a PA from inside a VM."""
    vm = lab.vms["red-web"]
    with netns.call(vm.namespace, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((str(vm.addresses[4]), 0))
        with lab.dropping({("h1", "red-web", "no-route"): 1}):
            opened.sendto(b"?", ("192.168.77.102", 9))
            ping(vm, lab.gateways[vm.vsid][4], count=1)
