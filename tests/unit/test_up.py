"""`isolane up`: what it decides before it opens anything."""

import signal
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from policy import manifest
from policy.compiler import tenant_mtu
from policy.model import Policy
from tools.processes import stop_signals

EXAMPLE = Path(__file__).parents[2] / "examples" / "blue-red.yaml"


def policy_with(*hosts: tuple[int, str]) -> Policy:
    """The example's policy, its hosts with these underlay MTUs and shared PAs."""
    policy = manifest.load([EXAMPLE])
    changed = tuple(
        replace(host, provider_addresses=(ip_address(pa),), underlay=replace(host.underlay, mtu=mtu))
        for host, (mtu, pa) in zip(policy.hosts, hosts, strict=True)
    )
    return Policy(replace(policy, hosts=changed))


V4, V6 = "192.168.77.1", "fd77::1"


@pytest.mark.parametrize(
    ("first", "second", "mtu"),
    [
        ((1600, V4), (1600, V4), 1500),  # room to spare, but VMs expect an Ethernet
        ((1542, V4), (1542, V4), 1500),
        ((1541, V4), (1541, V4), 1499),
        ((1500, V4), (1500, V4), 1458),
        ((1500, V6), (1500, V6), 1438),
        ((1500, V4), (1500, V6), 1438),  # the longer header counts
        ((9000, V4), (9000, V4), 8958),
        ((9000, V6), (9000, V6), 8938),
        ((9000, V4), (1500, V4), 1458),  # the narrowest host counts
        ((2000, V4), (2000, V4), 1958),
        ((1999, V4), (1999, V4), 1500),
    ],
)
def test_tenant_mtu(first: tuple[int, str], second: tuple[int, str], mtu: int) -> None:
    assert tenant_mtu(policy_with(first, second)) == mtu


def test_an_ignored_signal_does_not_stop() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stop_signals() == {signal.SIGTERM, signal.SIGINT}
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert stop_signals() == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    finally:
        signal.signal(signal.SIGHUP, before)
