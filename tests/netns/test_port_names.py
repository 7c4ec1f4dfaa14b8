"""Ports of one name in two tenants, on one host: each has its device, its id and its counters."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dataplane.process.client import Client
from tests.netns.labs import wait_until
from tests.netns.sites import STABLE, Site, Vm
from tests.netns.traffic import Traffic

TWINS = (
    Vm("twin", "blue", "h1", 60, netns="blue-twin"),
    Vm("twin", "red", "h1", 60, "veth", netns="red-twin"),
)
FAR = {vm.tenant: vm for vm in STABLE if vm.host == "h2"}


@pytest.fixture
def site(prefix: str, tmp_path: Path, cleanup: ExitStack) -> Iterator[Site]:
    made = Site(prefix, tmp_path, cleanup, TWINS)
    yield made
    assert "Traceback" not in made.log.read_text()


def ids(client: Client) -> dict[str, int]:
    return {port["name"]: port["id"] for port in client.hello()["ports"]}


def test_one_comes_and_goes_and_the_other_stays(site: Site) -> None:
    blue, red = TWINS
    site.up()
    site.change(red, red.manifest)
    site.settle()
    site.set_up(red)
    with Traffic(site, [(red, FAR["red"])]) as traffic:
        traffic.wait()
        with site.client("h1") as client:
            number = ids(client)["red/twin"]
        site.change(blue, blue.manifest)
        site.settle()
        site.set_up(blue)
        with Traffic(site, [(blue, FAR["blue"])]) as more, site.client("h1") as client:
            more.wait()
            assert ids(client)["red/twin"] == number != ids(client)["blue/twin"]
            received = {name: port["received"] for name, port in client.call("counters")["ports"].items()}
            assert received["blue/twin"] > 0 and received["red/twin"] > 0
        site.change(blue, None)
        site.settle()
        with site.client("h1") as client:
            wait_until(lambda: "blue/twin" not in ids(client))
            assert ids(client)["red/twin"] == number
        traffic.wait()
        assert traffic.lost() == {}
