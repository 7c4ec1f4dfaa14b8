"""What may be sent to a device, by the kernel's release."""

import pytest

from dataplane.binding.core import Offload
from dataplane.host.device import offloads_since


@pytest.mark.parametrize(
    ("release", "udp"),
    [
        ("6.1.0-18-amd64", False),
        ("6.2", True),
        ("6.18.44", True),
        ("5.15.0-92-generic", False),
        ("7.0-rc1", True),
    ],
)
def test_udp_super_packets_since_linux_6_2(release: str, udp: bool) -> None:
    tcp = Offload.CSUM | Offload.TSO4 | Offload.TSO6
    assert offloads_since(release) == (tcp | Offload.USO if udp else tcp)
