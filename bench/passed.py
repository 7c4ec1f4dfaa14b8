"""Small packets that were sent, and those that came."""

from dataclasses import dataclass

from bench.control_net import BenchError

_MOST_APART, _OTHERS = 0.001, 100
"""Between two who count the same: a share of it, and packets that are not of the measurement."""


@dataclass(frozen=True)
class Run:
    """offered, delivered: packets in `seconds`; cpu: seconds of all cores, of who sends and counts too;
    octets: of what was delivered, as frames on the wire without FCS, where they are counted there.
    """

    offered: int
    delivered: int
    seconds: float
    cpu: float
    octets: int | None = None

    @property
    def kpps(self) -> float:
        return self.delivered / self.seconds / 1e3

    @property
    def offered_kpps(self) -> float:
        return self.offered / self.seconds / 1e3

    @property
    def lost(self) -> float:
        """Of what was offered; a queue may empty while we count."""
        return max(1 - self.delivered / self.offered, 0.0) if self.offered else 0.0

    @property
    def cpu_seconds_per_million(self) -> float:
        return self.cpu / (self.delivered / 1e6) if self.delivered else 0.0


def reconcile(name: str, said: int, came: int) -> None:
    """BenchError: somebody counts other packets than we do."""
    if abs(said - came) > _OTHERS + _MOST_APART * came:
        raise BenchError(f"{name} says {said:,} packets, and we count {came:,}")
