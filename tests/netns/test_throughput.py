"""iperf3 between VMs of two hosts, both translations at a time: nothing stalls, super-packets with partial
checksums come in.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.netns.labs import Lab
from tests.netns.programs import iperf3
from tools.demo.isolation import OWN_NOISE

SECONDS = int(os.environ.get("ISOLANE_IPERF_SECONDS", "10"))
TENANTS = {"rewrite": "blue", "nvgre": "red"}
UDP = ("--udp", "--bitrate", "50M", "--length", "1400")


def measure(lab: Lab, version: int, *options: str) -> dict[str, Any]:
    """iperf3's report of each translation, all run together."""

    def run(tenant: str) -> Any:
        client, server = lab.vms[f"{tenant}-web"], lab.vms[f"{tenant}-app"]
        return iperf3(client.namespace, server.namespace, str(server.addresses[version]), SECONDS, options)

    with ThreadPoolExecutor() as pool:
        return dict(zip(TENANTS, pool.map(run, TENANTS.values()), strict=True))


def received(report: Mapping[str, Any]) -> list[int]:
    """Bytes that arrived in each second."""
    sums = (interval["sum"] for interval in report["server_output_json"]["intervals"])
    return [each["bytes"] for each in sums if each["seconds"] > 0.5]


def port_counters(lab: Lab) -> dict[str, Mapping[str, Any]]:
    return {vm.name: lab.read(vm.host)["ports"][f"{vm.tenant}/{vm.name}"] for vm in lab.vms.values()}


def real_drops(counters: Mapping[str, Any]) -> dict[str, int]:
    return {reason: count for reason, count in counters["drops"].items() if reason not in OWN_NOISE}


def risen(before: Mapping[str, Any], after: Mapping[str, Any], counter: str) -> int:
    return int(after[counter] - before[counter])


@pytest.mark.parametrize("version", [4, 6])
def test_tcp_does_not_stall(lab: Lab, version: int) -> None:
    before = port_counters(lab)
    reports = measure(lab, version)
    after = port_counters(lab)
    for translation, tenant in TENANTS.items():
        arrived = received(reports[translation])
        assert len(arrived) >= SECONDS
        assert min(arrived) > 0, translation
        client, server = f"{tenant}-web", f"{tenant}-app"
        assert risen(before[client], after[client], "rx_gso") > 100
        assert risen(before[client], after[client], "rx_csum_partial") > 100
        assert risen(before[server], after[server], "rx_csum_partial") > 100
        assert risen(before[server], after[server], "tx_gso") > 100, "whole by rewrite, merged behind NVGRE"
        assert real_drops(after[client]) == real_drops(before[client])


@pytest.mark.parametrize("version", [4, 6])
def test_udp_does_not_stall(lab: Lab, version: int) -> None:
    before = port_counters(lab)
    reports = measure(lab, version, *UDP)
    after = port_counters(lab)
    for translation, tenant in TENANTS.items():
        arrived = received(reports[translation])
        assert len(arrived) >= SECONDS
        assert min(arrived) > 0, translation
        total = reports[translation]["end"]["sum"]
        assert total["packets"] > 1000
        assert total["lost_percent"] < 2, f"{translation}: {total['lost_packets']} of {total['packets']} lost"
        client = f"{tenant}-web"
        assert risen(before[client], after[client], "rx_csum_partial") >= total["packets"] // 2
