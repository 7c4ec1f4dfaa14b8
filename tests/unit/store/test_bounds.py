"""However large a commit was: who reads it holds a page of it, and reads nothing that is for others."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policy.store import sqlite_rows
from policy.store.contract import PAGE, PAGE_BYTES, Change
from policy.store.reading import rows_under
from policy.store.sqlite import SqliteStore

KEYS = 30_000
VALUE = 1_000
FOR_OTHERS = 10_000
MOST_HELD = 4 * PAGE * (VALUE + 500)
"""Bytes: a page, what the objects around it take, and as much again where one is made after the other."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "store.db"
    store = SqliteStore(path)
    store.commit(
        {f"intent/{number:06}": b"%06d" % number + bytes(VALUE - 6) for number in range(KEYS)}
        | {f"grant/{number:06}": bytes(VALUE) for number in range(FOR_OTHERS)}
    )
    store.close()
    return path


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


@contextmanager
def held_at_most(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:,} bytes were held at once"


def test_a_watch_holds_a_page_of_a_large_commit(store: SqliteStore) -> None:
    assert MOST_HELD < KEYS * VALUE / 4, "else this shows nothing"
    told = 0
    with held_at_most(MOST_HELD), store.watch(0, ["intent/"]) as watch:
        more = True
        while more:
            batch = watch.next(0)
            assert batch is not None and batch.revision == 1 and len(batch.changes) <= PAGE
            assert batch.changes[0].key == f"intent/{told:06}"
            told += len(batch.changes)
            more = batch.more
            del batch
    assert told == KEYS


def test_a_range_holds_a_page(store: SqliteStore) -> None:
    with held_at_most(10 * MOST_HELD):
        assert sum(1 for _ in rows_under(store, "intent/", 1)) == KEYS


def test_a_page_of_large_values_ends_early(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    size = store.limits().value
    store.commit({f"{number:02}": bytes(size) for number in range(12)})
    with store.watch(0) as watch:
        batch = watch.next(0)
    assert batch is not None and batch.more
    assert len(batch.changes) == PAGE_BYTES // size == len(store.range("").rows)
    store.close()


def test_of_large_values_no_more_than_some_pages_are_held(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    size = store.limits().value
    for number in range(50):
        store.commit({f"{number:02}": bytes(size)})
    with held_at_most(4 * PAGE_BYTES):
        assert store.range("").more
    store.close()


def test_what_is_for_others_is_not_read(store: SqliteStore) -> None:
    """Of a revision, SQLite goes to the first key of each prefix at once."""
    asked: list[str] = []
    with store._file.transaction("BEGIN") as connection:
        connection.set_trace_callback(asked.append)
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        connection.set_progress_handler(count, 100)
        batch = sqlite_rows.next_batch(connection, 0, "", ["intent/000007", "intent/02"], PAGE)
        connection.set_progress_handler(None, 0)
        connection.set_trace_callback(None)
    assert batch is not None
    assert batch.changes[0] == Change("intent/000007", b"000007" + bytes(VALUE - 6))
    assert len(batch.changes) == PAGE and batch.more
    assert steps * 100 < 40 * PAGE, f"{steps * 100:,} steps for {PAGE} of {KEYS + FOR_OTHERS:,} keys"
    assert sum("FROM version" in each for each in asked) == 3
