"""TCP and UDP of both translations over underlays that merge and cut, or do neither: what comes is what was
sent, and the counters balance.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.netns.datagrams import DATAGRAMS, sent_at_once
from tests.netns.labs import EXAMPLE, Lab, running_lab
from tests.netns.profiles import PROFILES, Profile, shape_all
from tools.demo.checks import CHECKS
from tools.demo.vms import echo_by_tcp

DATA = bytes(range(251)) * (1 << 13)
BY_PROFILE = pytest.mark.parametrize("profile", PROFILES, ids=str)


@pytest.fixture(scope="module", params=[1600, 9000])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Of underlays of this MTU."""
    manifest = tmp_path_factory.mktemp("profiles") / "profiles.yaml"
    manifest.write_text(EXAMPLE.replace("mtu: 1600", f"mtu: {request.param}"))
    with running_lab(manifest, f"prf-{request.param}-") as lab:
        yield lab


def underlay(lab: Lab, host: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = lab.read(host)["ports"]["underlay"]
    return found


@BY_PROFILE
def test_the_demo_passes(lab: Lab, profile: Profile) -> None:
    shape_all(lab, profile)
    failed = {}
    for name, check in CHECKS.items():
        try:
            check(lab)
        except Exception as error:
            failed[name] = str(error)
    assert failed == {}


@BY_PROFILE
def test_what_comes_is_what_was_sent(lab: Lab, profile: Profile) -> None:
    shape_all(lab, profile)
    for tenant in ("blue", "red"):  # rewritten, in NVGRE
        before = {host: underlay(lab, host) for host in lab.hosts}
        for version in (4, 6):
            web, app = lab.vms[f"{tenant}-web"], lab.vms[f"{tenant}-app"]
            echo_by_tcp(web, app, version, DATA)
            assert sent_at_once(web, app, version) == DATAGRAMS
        for host, counters in before.items():
            after = underlay(lab, host)
            assert after["tx_gso"] > counters["tx_gso"], f"super-packets of {tenant} leave whole"
            assert (after["rx_gso"] > counters["rx_gso"]) == (profile.cuts or profile.merges)
    lab.assert_balanced()
