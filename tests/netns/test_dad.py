"""Duplicate detection as Linux does it: silence about a VM's own address, an answer about another VM's."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dataplane.host import netns
from tests.netns.labs import Lab, wait_until
from tests.netns.programs import attempt, run
from tools.demo.frames import Address
from tools.demo.vms import Vm

TENTATIVE, DAD_FAILED = 0x40, 0x08  # linux/if_addr.h
VMS = ["blue-web", "red-api"]
"""One of each tenant, one of each kind of device."""


@pytest.fixture
def vm(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Vm]:
    """A VM; its IPv6 addresses are what they were afterwards."""
    vm = lab.vms[request.param]
    yield vm
    for address in flags(vm):
        if address not in vm.addresses.values() and not address.is_link_local:
            run(vm.namespace, "ip", "address", "del", f"{address}/64", "dev", vm.device)


def flags(vm: Vm) -> dict[Address, int]:
    """The VM's IPv6 addresses and what its kernel says of them."""
    rows = netns.call(vm.namespace, Path("/proc/thread-self/net/if_inet6").read_text).splitlines()
    found = (row.split() for row in rows)
    return {ip_address(bytes.fromhex(row[0])): int(row[4], 16) for row in found if row[5] == vm.device}


def detect(vm: Vm, address: Address) -> bool:
    """Whether duplicate address detection finds that somebody has an address."""
    run(vm.namespace, "ip", "address", "add", f"{address}/64", "dev", vm.device)

    def is_decided() -> bool:
        found = flags(vm).get(address, TENTATIVE)
        return bool(not found & TENTATIVE or found & DAD_FAILED)

    wait_until(is_decided, "DAD hangs")
    return bool(flags(vm)[address] & DAD_FAILED)


@pytest.mark.parametrize("vm", VMS, indirect=True)
def test_dad_finds_no_duplicate_of_the_own_address(vm: Vm) -> None:
    own = vm.addresses[6]
    run(vm.namespace, "ip", "address", "del", f"{own}/64", "dev", vm.device)
    assert not detect(vm, own)
    link_local = next(address for address in flags(vm) if address.is_link_local)
    assert not flags(vm)[link_local] & DAD_FAILED


@pytest.mark.parametrize("vm", VMS, indirect=True)
@pytest.mark.parametrize("host", ["h1", "h2"], ids=["local", "remote"])
def test_dad_finds_another_vms_address(lab: Lab, vm: Vm, host: str) -> None:
    other = next(
        each.addresses[6]
        for each in lab.vms.values()
        if each.host == host and each.vsid == vm.vsid and each != vm
    )
    assert detect(vm, other)


@pytest.mark.parametrize("vm", VMS, indirect=True)
def test_dad_finds_the_gateway(lab: Lab, vm: Vm) -> None:
    assert detect(vm, lab.gateways[vm.vsid][6])


OPAQUE = ip_address("fe80::a1b2:c3d4:e5f6:718")


@pytest.fixture
def opaque(lab: Lab) -> Iterator[Vm]:
    """A VM with an opaque link-local address (RFC 7217) alone, and its CA on lo: it solicits from that."""
    vm = lab.vms["red-api"]
    ca = vm.addresses[6]
    old = next(address for address in flags(vm) if address.is_link_local)
    moves = [("add", f"{ca}/128", "lo"), ("del", f"{ca}/64", vm.device), ("del", f"{old}/64", vm.device)]
    assert not detect(vm, OPAQUE)
    for verb, address, device in moves:
        run(vm.namespace, "ip", "address", verb, address, "dev", device)
    route = ["to", f"{ip_network((ca, 64), strict=False)}", "dev", vm.device]
    run(vm.namespace, "ip", "route", "add", *route)
    yield vm
    run(vm.namespace, "ip", "route", "del", *route)
    for verb, address, device in reversed([("add", f"{OPAQUE}/64", vm.device), *moves]):
        back = "add" if verb == "del" else "del"
        run(vm.namespace, "ip", "address", back, address, "dev", device, *["nodad"] * (back == "add"))


def test_a_guest_solicits_from_an_opaque_link_local_address(lab: Lab, opaque: Vm) -> None:
    """Neighbours and the gateway; no form tells whose an interface id is (RFC 7136)."""
    others = [each for each in lab.vms.values() if each.vsid == opaque.vsid and each != opaque]
    assert len({each.host for each in others}) == 2
    with lab.dropping({}):
        for address in [*(each.addresses[6] for each in others), lab.gateways[opaque.vsid][6]]:
            run(opaque.namespace, "ip", "neigh", "flush", "dev", opaque.device)
            run(opaque.namespace, "ping", "-c", "1", "-W", "5", "-I", str(opaque.addresses[6]), str(address))


def arping(vm: Vm, address: Address) -> bool:
    """Whether `arping -D` finds that somebody has an address."""
    done = attempt(vm.namespace, "arping", "-D", "-c", "2", "-w", "2", "-I", vm.device, str(address))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    received = "Received 0 response" not in done.stdout
    assert received == (done.returncode == 1)
    return received


@pytest.mark.parametrize("name", VMS)
def test_arping_finds_no_duplicate_of_the_own_address(lab: Lab, name: str) -> None:
    assert not arping(lab.vms[name], lab.vms[name].addresses[4])


@pytest.mark.parametrize("name", VMS)
def test_arping_finds_another_vms_address(lab: Lab, name: str) -> None:
    vm = lab.vms[name]
    others = [each for each in lab.vms.values() if each.vsid == vm.vsid and each != vm]
    assert len({each.host for each in others}) == 2
    for other in others:
        assert arping(vm, other.addresses[4])


@pytest.mark.parametrize("name", VMS)
def test_nobody_answers_for_what_no_vm_has(lab: Lab, name: str) -> None:
    with lab.dropping({("h1", name, "arp-unknown"): 2}):
        assert not arping(lab.vms[name], ip_address("10.1.1.99"))
