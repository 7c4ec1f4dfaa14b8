"""The twin, and the core, against frames that scapy builds, byte for byte: out of NVGRE."""

import pytest

from tests.oracle.frames import arriving, ether, from_host, ip, tcp, udp
from tests.oracle.rig import Make, data
from tests.oracle.world import (
    GATEWAY_VM,
    OUTSIDE,
    Vm,
)
from tests.unit.dataplane.frames import (
    FAMILIES,
    LOCAL_VM,
    NEIGHBOUR,
    REMOTE,
    REMOTE_OTHER_SUBNET,
    RFC_6040,
    UNDERLAY,
    VM,
)


@FAMILIES
@pytest.mark.parametrize("pa_family", (4, 6))
@pytest.mark.parametrize("source", (REMOTE, REMOTE_OTHER_SUBNET), ids=("same-subnet", "other-subnet"))
def test_pop(rig: Make, family: int, pa_family: int, source: Vm) -> None:
    inner = arriving(source, LOCAL_VM, family, tcp(b"payload"), ttl=1)
    r = rig()
    assert data(r.send(UNDERLAY, from_host(2, LOCAL_VM.vsid, inner, pa_family))[LOCAL_VM.port]) == [
        bytes(inner)
    ]


@FAMILIES
@pytest.mark.parametrize("inner", RFC_6040)
@pytest.mark.parametrize("outer_ecn", range(4))
def test_ecn(rig: Make, family: int, inner: int, outer_ecn: int) -> None:
    r = rig()
    expected = RFC_6040[inner][outer_ecn]
    frame = arriving(REMOTE, LOCAL_VM, family, udp(b"x"), tos=0xB8 | inner)
    left = r.send(UNDERLAY, from_host(2, LOCAL_VM.vsid, frame, tos=outer_ecn))
    if expected is None:
        assert left == {} and r.counters().drops == {"ecn": 1}
    else:
        assert data(left[LOCAL_VM.port]) == [
            bytes(arriving(REMOTE, LOCAL_VM, family, udp(b"x"), tos=0xB8 | expected))
        ]


# 3.12.4, 3.12.5
def test_pop_to_wildcard_and_route(rig: Make) -> None:
    r = rig(wildcard=GATEWAY_VM)
    local_gateway = VM(0, 0, GATEWAY_VM)
    outside = ether(local_gateway.mac, REMOTE.mac) / ip(REMOTE.ca(4), OUTSIDE[4]) / udp()
    routed = ether(NEIGHBOUR.mac, REMOTE.mac) / ip(REMOTE.ca(4), "10.8.0.9") / udp()
    left = r.send(UNDERLAY, *(from_host(2, REMOTE.vsid, frame) for frame in (outside, routed)))
    assert {port: data(frames) for port, frames in left.items()} == {
        local_gateway.port: [bytes(outside)],
        NEIGHBOUR.port: [bytes(routed)],
    }
