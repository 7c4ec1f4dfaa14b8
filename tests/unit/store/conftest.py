"""Each kind of store, new and empty: what keeps the contract passes the tests of this directory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policy.store.contract import Limits, Store
from policy.store.memory import MemoryStore
from policy.store.sqlite import SqliteStore
from tests.unit.store.stores import Clock

SMALL = Limits(ops=5_000, size=20 << 20, value=4 << 20)
KINDS: dict[str, Callable[[Path, Clock], Store]] = {
    "memory": lambda _, clock: MemoryStore(SMALL, clock),
    "sqlite": lambda directory, clock: SqliteStore(directory / "store.db", limits=SMALL, clock=clock),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(KINDS))
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    opened = KINDS[request.param](tmp_path, clock)
    yield opened
    opened.close()
