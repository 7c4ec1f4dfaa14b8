"""What a golden case is: frames that come in, and what becomes of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scapy.packet import Packet

START = 1_700_000_000_000_000_000
"""ns: the time of a case's first frame; each later one comes a millisecond after."""

STEP = 1_000_000

Frame = Packet | bytes


@dataclass(frozen=True)
class Step:
    """One frame that comes in at `port`: `out` are the frames it causes and where they leave."""

    port: str
    given: Frame
    out: tuple[tuple[str, Frame], ...] = ()
    drop: str = ""
    originated: int = 0
    consumed: int = 0


@dataclass(frozen=True)
class Case:
    """A described row. rules: numbers of csrc/README.md; by one that drops, a step dies here."""

    name: str
    rules: tuple[str, ...]
    text: str
    steps: tuple[Step, ...]
    manifest: Path | None = None
    """None: tests/golden/manifest.yaml."""

    def inputs(self) -> dict[str, list[tuple[int, bytes]]]:
        """Port -> frames with their times."""
        ports: dict[str, list[tuple[int, bytes]]] = {}
        for number, step in enumerate(self.steps):
            ports.setdefault(step.port, []).append((START + number * STEP, bytes(step.given)))
        return ports

    def outputs(self) -> dict[str, list[tuple[int, bytes]]]:
        ports: dict[str, list[tuple[int, bytes]]] = {}
        for number, step in enumerate(self.steps):
            for port, frame in step.out:
                ports.setdefault(port, []).append((START + number * STEP, bytes(frame)))
        return ports

    def counters(self, ports: Sequence[str]) -> dict[str, Any]:
        """counters.json of a host with these ports."""
        by_port = {
            port: self._counters([s for s in self.steps if s.port == port], port) for port in sorted(ports)
        }
        total = self._counters(self.steps, None)
        return {**total, "ports": by_port}

    def _counters(self, steps: Sequence[Step], sender: str | None) -> dict[str, Any]:
        """Of the steps that came in by one port, and what left by it; None: of all."""
        drops = Counter(step.drop for step in steps if step.drop)
        return {
            "received": len(steps),
            "originated": sum(step.originated for step in steps),
            "sent": sum(sender in (None, port) for step in self.steps for port, _ in step.out),
            "dropped": drops.total(),
            "consumed": sum(step.consumed for step in steps),
            "held": 0,
            "drops": dict(sorted(drops.items())),
        }


def case(name: str, rules: str, text: str, *steps: Step, manifest: Path | None = None) -> Case:
    """rules: numbers with a blank between."""
    return Case(name, tuple(rules.split()), text, steps, manifest)


def passes(port: str, given: Frame, to: str, out: Frame) -> Step:
    """Leaves by another port, changed or not."""
    return Step(port, given, ((to, out),))


def drops(port: str, given: Frame, reason: str) -> Step:
    return Step(port, given, drop=reason)


def refuses(port: str, given: Frame, reason: str, told: Frame) -> Step:
    """Dropped, and its sender is told so."""
    return Step(port, given, ((port, told),), drop=reason, originated=1)


def answers(port: str, given: Frame, out: Frame) -> Step:
    """Answered by the port it came from."""
    return Step(port, given, ((port, out),), originated=1, consumed=1)


def ends(port: str, given: Frame) -> Step:
    """Ends here as intended, in silence."""
    return Step(port, given, consumed=1)
