"""What a provider next hop announces about its MAC is heard at once, not when it is asked again."""

import os
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from dataplane.host import netns
from dataplane.process.client import Client
from tests.netns.labs import EXAMPLE, FOREIGN_HOST, Lab, balance, running_lab, wait_until
from tests.netns.programs import run
from tools.demo import frames as frames
from tools.demo.isolation import send_frames
from tools.lab.state import State

AT_ONCE = 1.0
"""Seconds; a neighbour that is known is asked again after 30."""

OLD_MAC, NEW_MAC = "02:00:00:00:77:02", "02:00:00:00:77:f2"
ALL_NODES, ALL_NODES_MAC = ip_address("ff02::1"), "33:33:00:00:00:01"
OVERRIDE = 0x20000000
ISOLANE = Path(sysconfig.get_path("scripts"), "isolane")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "announcements.yaml"
    path.write_text(EXAMPLE + FOREIGN_HOST)
    return path


@pytest.fixture
def lab(manifest: Path) -> Iterator[Lab]:
    """A lab of the test's own, whose neighbours it may mislead."""
    with running_lab(manifest, f"ann{os.getpid()}-") as lab:
        yield lab


def neighbours(lab: Lab, host: str) -> dict[str, str | None]:
    """Address -> MAC, of those that are known."""
    with Client(lab.hosts[host]["netns"]) as client:
        return {row["address"]: row["mac"] for row in client.call("neighbours") if row["state"] == "known"}


def next_hops_at_h2(lab: Lab) -> list[str]:
    """Those of h1: h2's shared PA, and for want of one of IPv6 the PAs of its VMs."""
    vms = [lab.vms[name].provider_addresses[6] for name in ("blue-app", "blue-db")]
    pas = [*lab.hosts["h2"]["providerAddresses"], *map(str, vms)]
    known = neighbours(lab, "h1")
    assert {known[pa] for pa in pas} == {OLD_MAC}
    return pas


def wait_for_mac(lab: Lab, pas: list[str], mac: str) -> None:
    wait_until(
        lambda: {neighbours(lab, "h1")[pa] for pa in pas} == {mac}, f"{pas}: h1 has not heard it", AT_ONCE
    )


def gratuitous_arp(mac: str, pa: frames.Address) -> bytes:
    return frames.arp_request(mac, pa, pa)


def unsolicited_na(mac: str, pa: frames.Address) -> bytes:
    """RFC 4861 section 4.4, with the target's link-layer address."""
    rest = OVERRIDE.to_bytes(4, "big") + pa.packed + b"\x02\x01" + frames.mac_bytes(mac)
    pseudo = frames.pseudo_header(pa, ALL_NODES, frames.ICMPV6, 4 + len(rest))
    total = frames.checksum(pseudo + bytes([136, 0, 0, 0]) + rest)
    message = bytes([136, 0]) + total.to_bytes(2, "big") + rest
    packet = frames.ip(pa, ALL_NODES, frames.ICMPV6, message, ttl=255)
    return frames.ethernet(ALL_NODES_MAC, mac, frames.ETHERTYPES[6], packet)


def stop(lab: Lab, host: str) -> None:
    (pid,) = (each.pid for each in State.load(lab.prefix).processes if each.host == host)
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def test_an_announcement_moves_a_neighbour(lab: Lab) -> None:
    """A machine on the provider network takes over Provider Addresses of h2, which asks nobody any more: who
    hears a request learns from it too.
    """
    elsewhere = lab.hosts["ovs1"]
    device, mac = (elsewhere["underlay"][key] for key in ("device", "mac"))
    pas = next_hops_at_h2(lab)
    stop(lab, "h2")
    for pa in map(ip_address, pas):
        announcement = gratuitous_arp(mac, pa) if pa.version == 4 else unsolicited_na(mac, pa)
        send_frames(elsewhere["netns"], device, [announcement])
        wait_for_mac(lab, [str(pa)], mac)
    wait_until(lambda: balance(lab.read("h1")) == 0, "h1 does not balance")


def test_a_host_that_comes_back_with_another_mac_is_heard(lab: Lab, manifest: Path) -> None:
    """Others learn from what it asks too, but it asks with one PA of a family; it announces them all."""
    host = lab.hosts["h2"]
    pas = next_hops_at_h2(lab)
    stop(lab, "h2")
    run(host["netns"], "ip", "link", "set", host["underlay"]["device"], "address", NEW_MAC)
    manifest.write_text(manifest.read_text().replace(OLD_MAC, NEW_MAC))
    command = [ISOLANE, "up", "-f", manifest, "--host", "h2", "--instance", host["netns"]]
    command += ["--netns-prefix", lab.prefix]
    with netns.call(host["netns"], subprocess.Popen, command, stderr=subprocess.PIPE, text=True) as again:
        try:
            assert again.stderr is not None
            assert again.stderr.readline() == "ready\n"
            wait_for_mac(lab, pas, NEW_MAC)
        finally:
            again.terminate()
