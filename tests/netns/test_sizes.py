"""Pings of every size up to 9,000 bytes over a provider network with jumbo frames."""

from collections.abc import Iterator

import pytest

from tests.netns.labs import EXAMPLE, Lab, running_lab
from tools.demo.vms import ping
from tools.demo.wire import Capture

MTU = 9000
OVERHEAD = 42
HEADERS = {4: 20 + 8, 6: 40 + 8}
AROUND = [65, 128, 576, 1280, 1460, 1500, 1542, 2048, 3392, 4096, 6000, 8192, 9000]
SIZES = sorted({64, *AROUND, *(size - 1 for size in AROUND), 1501, 3393, 4097})
PAIRS = ["blue-web:blue-app", "red-web:red-app", "blue-web:blue-db", "red-web:red-api"]


@pytest.fixture(scope="module")
def jumbo_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    manifest = tmp_path_factory.mktemp("jumbo") / "jumbo.yaml"
    manifest.write_text(EXAMPLE.replace("mtu: 1600", f"mtu: {MTU + OVERHEAD}"))
    with running_lab(manifest, "prf-jumbo-") as lab:
        yield lab


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("pair", PAIRS)
def test_pings_of_64_to_9000_bytes(jumbo_lab: Lab, pair: str, version: int) -> None:
    client, server = (jumbo_lab.vms[name] for name in pair.split(":"))
    for size in SIZES:
        payload = bytes(number & 0xFF for number in range(max(size - HEADERS[version], 0)))
        ping(client, server.addresses[version], count=1, payload=payload)
    jumbo_lab.assert_balanced()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("pair", PAIRS[:2])
def test_one_byte_more_goes_in_fragments(jumbo_lab: Lab, pair: str, version: int) -> None:
    """The VM's MTU is what the provider network carries; its kernel makes fragments, which we carry too."""
    client, server = (jumbo_lab.vms[name] for name in pair.split(":"))
    for size, frames in ((MTU, 2), (MTU + 1, 4)):
        with Capture(*jumbo_lab.fabric()) as wire:
            ping(client, server.addresses[version], count=1, payload=bytes(size - HEADERS[version]))
            assert len([packet for packet in wire.packets() if packet.is_traffic]) == frames
