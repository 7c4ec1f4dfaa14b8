"""The host's end of a VM's device is not a host."""

from contextlib import ExitStack

import pytest

from dataplane.host import netns
from dataplane.host.device import Terms, host_end_name
from dataplane.host.veth import open_veth
from tests.netns.probing import HOST_MAC, answers, make_router
from tests.netns.rig import MACS, MakeNamespace, address_flags, run


@pytest.fixture
def router(make_namespace: MakeNamespace) -> str:
    host = make_namespace("host")
    make_router(host)
    return host


def test_a_plain_veth_lets_the_host_answer(router: str, make_namespace: MakeNamespace) -> None:
    """The control of the next test: the same probes, without us."""
    vm = make_namespace("vm")
    run(router, "ip", "link", "add", "host0", "address", HOST_MAC, "type", "veth",
        "peer", "name", "eth0", "address", MACS[0], "netns", vm)  # fmt: skip
    run(router, "ip", "link", "set", "host0", "up")
    run(vm, "ip", "link", "set", "eth0", "up")
    assert answers(router, vm, "host0") >= 5


def test_nothing_of_the_host_answers(router: str, make_namespace: MakeNamespace, cleanup: ExitStack) -> None:
    vm = make_namespace("vm")
    device = netns.call(router, open_veth, "eth0", Terms(MACS[0], 1500), namespace=vm)
    cleanup.callback(netns.call, router, device.close)
    host_end = host_end_name("eth0", vm)
    run(router, "ip", "link", "set", host_end, "address", HOST_MAC)
    run(vm, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
    assert answers(router, vm, host_end) == 0
    assert address_flags(router, host_end) == {}, "no address, not even a link-local one"
