"""What the tests of stores share."""

from dataclasses import dataclass

from policy.store.contract import Batch, Store, Watch

PATIENCE = 20.0
"""Seconds after which something that must come has not come."""


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def told(watch: Watch) -> list[Batch]:
    """All that a watch has to tell now."""
    return list(iter(lambda: watch.next(0), None))


def held(store: Store, prefix: str = "") -> dict[str, bytes]:
    return {key: value for key, value, _ in store.range(prefix).rows}
