"""Stores for tests of use cases."""

import pytest

from policy.service import changes
from policy.store.memory import MemoryStore
from tests.unit.service.example import example


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    changes.commit(store, changes.apply(example()))
    return store
