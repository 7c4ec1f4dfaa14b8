"""TCP and UDP of both translations over underlays that merge and cut, or do neither: what comes is what was
sent, and the counters balance.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pyroute2 import IPRoute

from dataplane.host import ethtool, netns
from tests.netns.datagrams import DATAGRAMS, sent_at_once
from tests.netns.labs import EXAMPLE, Lab, running_lab
from tools.demo.checks import CHECKS
from tools.demo.vms import echo_by_tcp

DATA = bytes(range(251)) * (1 << 13)


@pytest.fixture(scope="module", params=[1600, 9000])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Of underlays of this MTU."""
    manifest = tmp_path_factory.mktemp("profiles") / "profiles.yaml"
    manifest.write_text(EXAMPLE.replace("mtu: 1600", f"mtu: {request.param}"))
    with running_lab(manifest, f"prf-{request.param}-") as lab:
        yield lab


SENDING = (
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-udp-segmentation",
    "tx-generic-segmentation",
    "tx-checksum-ip-generic",
)


def shape(device: str, cuts: bool, merges: bool) -> None:
    """cuts: the device takes super-packets; else what it gets is cut and complete. A veth merges only what
    comes from an end that takes none.
    """
    ethtool.switch(device, SENDING, cuts)
    ethtool.switch(device, ["rx-gro"], merges)


def shape_fabric(cuts: bool) -> None:
    with IPRoute() as ip:
        for link in ip.get_links():
            if link.get_attr("IFLA_MASTER"):
                shape(link.get_attr("IFLA_IFNAME"), cuts, merges=False)


PROFILES = pytest.mark.parametrize(
    ("cuts", "merges"), [(False, False), (False, True), (True, False)], ids=["wire", "wire-gro", "offload"]
)


def shape_all(lab: Lab, cuts: bool, merges: bool) -> None:
    for host in lab.hosts.values():
        netns.call(host["netns"], shape, host["underlay"]["device"], cuts, merges)
    netns.call(lab.fabric()[0], shape_fabric, cuts)


def underlay(lab: Lab, host: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = lab.read(host)["ports"]["underlay"]
    return found


@PROFILES
def test_the_demo_passes(lab: Lab, cuts: bool, merges: bool) -> None:
    shape_all(lab, cuts, merges)
    failed = {}
    for name, check in CHECKS.items():
        try:
            check(lab)
        except Exception as error:
            failed[name] = str(error)
    assert failed == {}


@PROFILES
def test_what_comes_is_what_was_sent(lab: Lab, cuts: bool, merges: bool) -> None:
    shape_all(lab, cuts, merges)
    for tenant in ("blue", "red"):  # rewritten, in NVGRE
        before = {host: underlay(lab, host) for host in lab.hosts}
        for version in (4, 6):
            web, app = lab.vms[f"{tenant}-web"], lab.vms[f"{tenant}-app"]
            echo_by_tcp(web, app, version, DATA)
            assert sent_at_once(web, app, version) == DATAGRAMS
        for host, counters in before.items():
            after = underlay(lab, host)
            assert after["tx_gso"] > counters["tx_gso"], f"super-packets of {tenant} leave whole"
            assert (after["rx_gso"] > counters["rx_gso"]) == (cuts or merges)
    lab.assert_balanced()
