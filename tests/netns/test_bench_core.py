"""`isolane bench core --ovs-dpdk`: what it says, not how fast."""

import json
import subprocess

import pytest

from bench import ovs_dpdk
from bench.control_net import BenchError
from bench.core import MIN_ROUNDS
from tests.native import BIN
from tests.netns.traces import traces


def test_a_peer_in_memory_has_its_turns_and_nothing_is_left() -> None:
    arguments = ["bench", "core", "--op=push", "--records=500", "--seconds=0.1", "--ovs-dpdk", "--json"]
    process = subprocess.Popen(
        [BIN / "isolane", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output, said = process.communicate(timeout=120)
    assert traces(process.pid) == []
    if ovs_dpdk.CONTESTANT.missing:
        assert process.returncode == 1 and "Debian package openvswitch-switch-dpdk" in said
        return
    assert process.returncode == 0, said
    peer = json.loads(output)["peers"]["ovs-dpdk"]
    assert peer["flows"] == 500
    assert 0 < peer["clocks"]["min"] <= peer["clocks"]["median"] <= peer["clocks"]["max"]


class Switch:
    """Says so many clocks; nothing once they have run out."""

    def __init__(self, *clocks: float) -> None:
        self._clocks = iter(clocks)
        self.switch = subprocess.Popen(["sleep", "60"])

    def appctl(self, word: str) -> str:
        if word == "dpif-netdev/pmd-stats-clear":
            return ""
        clocks = next(self._clocks, None)
        return (
            f"pmd thread:\n  avg processing cycles per packet: {clocks:.2f} (9/9)\n" if clocks else "idle\n"
        )


def test_the_turn_in_which_flows_are_learned_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ovs_dpdk, "_SECONDS", 0.0)
    switch = Switch(999.0, *[200.5] * MIN_ROUNDS)
    try:
        peer = ovs_dpdk.InMemory(switch, 8)  # type: ignore[arg-type]
        for _ in range(MIN_ROUNDS + 1):
            peer.take_turn()
        assert peer.rounds == [200.5] * MIN_ROUNDS
        with pytest.raises(BenchError, match="ovs-dpdk has forwarded nothing: idle"):
            peer.take_turn()
    finally:
        switch.switch.kill()
        switch.switch.wait()


def test_what_is_replayed_is_a_capture() -> None:
    found = ovs_dpdk.pcap([b"a" * 60, b"b" * 64])
    assert found[:4].hex() == "d4c3b2a1" and len(found) == 24 + 16 + 60 + 16 + 64
    assert found[24 + 8 : 24 + 16].hex() == "3c0000003c000000"
