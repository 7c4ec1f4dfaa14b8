"""Drop reasons that any test of this session has seen rise.

Every read of an engine's counters in this process is noted by itself; a test that reads counters of another
process (counters.json, `node counters`) calls note().
"""

from collections.abc import Iterable

from dataplane.core import Dataplane
from dataplane.stats import Counters

REASONS: set[str] = set()


def note(names: Iterable[str]) -> None:
    REASONS.update(names)


def watch_engines() -> None:
    read = Dataplane.port_counters

    def port_counters(self: Dataplane, port: int) -> Counters:
        counters = read(self, port)
        note(counters.drops)
        return counters

    Dataplane.port_counters = port_counters  # type: ignore[method-assign]
