"""iperf3 between VMs of two hosts: nothing stalls, and super-packets with partial checksums came in."""

import os

import pytest

from tests.netns.labs import Lab
from tests.netns.programs import iperf3

SECONDS = int(os.environ.get("ISOLANE_IPERF_SECONDS", "10"))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tenant", ["blue", "red"], ids=["rewrite", "nvgre"])
def test_tcp_does_not_stall(lab: Lab, tenant: str, version: int) -> None:
    client, server = lab.vms[f"{tenant}-web"], lab.vms[f"{tenant}-app"]
    before = {vm.name: lab.read(vm.host)["ports"][vm.name] for vm in (client, server)}
    report = iperf3(client.namespace, server.namespace, str(server.addresses[version]), SECONDS)
    rates = [interval["sum"]["bits_per_second"] for interval in report["intervals"]]
    assert len(rates) >= SECONDS
    assert min(rates) > 0
    after = {vm.name: lab.read(vm.host)["ports"][vm.name] for vm in (client, server)}
    for counter in ("rx_gso", "rx_csum_partial"):
        assert after[client.name][counter] > before[client.name][counter] + 100
    assert after[server.name]["rx_csum_partial"] > before[server.name]["rx_csum_partial"]
    assert after[client.name]["drops"] == before[client.name]["drops"]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tenant", ["blue", "red"], ids=["rewrite", "nvgre"])
def test_udp_does_not_stall(lab: Lab, tenant: str, version: int) -> None:
    client, server = lab.vms[f"{tenant}-web"], lab.vms[f"{tenant}-app"]
    before = lab.read(client.host)["ports"][client.name]
    options = ("--udp", "--bitrate", "50M", "--length", "1400")
    report = iperf3(client.namespace, server.namespace, str(server.addresses[version]), SECONDS, options)
    packets = [interval["sum"]["packets"] for interval in report["intervals"]]
    assert len(packets) >= SECONDS
    assert min(packets) > 0
    total = report["end"]["sum"]
    assert total["packets"] > 1000
    assert total["lost_percent"] < 2, f"{total['lost_packets']} of {total['packets']} lost"
    after = lab.read(client.host)["ports"][client.name]
    assert after["rx_csum_partial"] >= before["rx_csum_partial"] + total["packets"] // 2
