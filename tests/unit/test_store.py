"""The store's contract, on every kind of store; and what only a file can get wrong."""

import multiprocessing
import multiprocessing.synchronize
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from policy import store as contract
from policy.store import (
    Batch,
    Change,
    CompactedError,
    ConflictError,
    Reading,
    Store,
    UnavailableError,
    open_store,
)
from policy.store_memory import MemoryStore
from policy.store_sqlite import SqliteStore
from tests.native import ROOT

PATIENCE = 20.0
"""Seconds after which something that must come has not come."""


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "store.db")
    yield opened
    opened.close()


# ---- snapshots and commits -----------------------------------------------------------------------


def test_a_new_store_is_empty_at_revision_0(store: Store) -> None:
    snapshot = store.snapshot()
    assert (snapshot.revision, dict(snapshot.items), dict(snapshot.revisions)) == (0, {}, {})


def test_a_commit_is_one_revision(store: Store) -> None:
    assert store.commit({"a/1": b"x", "a/2": b"y"}) == 1
    assert store.commit({"a/1": b"z"}, ["a/2"]) == 2
    snapshot = store.snapshot()
    assert (snapshot.revision, snapshot.items, snapshot.revisions) == (2, {"a/1": b"z"}, {"a/1": 2})


def test_what_changes_nothing_is_no_revision(store: Store) -> None:
    store.commit({"a": b"x", "b": b""})
    assert store.commit({"a": b"x", "b": b""}, ["none"]) == 1
    assert store.commit({}) == 1
    assert store.commit({}, ["b"]) == 2, "an empty value is a value"
    assert store.commit({}, ["b"]) == 2


def test_snapshot_of_prefixes(store: Store) -> None:
    store.commit(
        {"a/1": b"1", "a/2": b"2", "ab": b"3", "b/1": b"4", "a\N{LATIN SMALL LETTER Z WITH CARON}": b"5"}
    )
    assert list(store.snapshot("a/").items) == ["a/1", "a/2"]
    assert list(store.snapshot("b", "a/2").items) == ["a/2", "b/1"]
    assert len(store.snapshot("a").items) == 4
    assert not store.snapshot("c").items


def test_items_are_those_of_the_newest_snapshot(store: Store) -> None:
    assert store.items("a/") == (0, {})
    store.commit({"a/2": b"x", "a/1": b"y", "b": b"z"})
    store.commit({"a/1": b"w"}, ["a/2"])
    store.commit({"a/3": b"v"})
    revision, items = store.items("a/")
    assert (revision, list(items.items())) == (3, [("a/1", b"w"), ("a/3", b"v")])
    assert items == store.snapshot("a/").items


def test_snapshot_of_keys(store: Store) -> None:
    store.commit({"a": b"1", "a/1": b"2", "b": b"3", "c": b"4"})
    store.commit({"a/1": b"5"}, ["c"])
    assert store.snapshot(keys=["b", "a", "c", "none", "a"]).items == {"a": b"1", "b": b"3"}
    assert list(store.snapshot("a", keys=["b", "a/1"]).items) == ["a", "a/1", "b"]
    assert store.snapshot(keys=["a/1", "c"], at=1).revisions == {"a/1": 1, "c": 1}
    assert store.snapshot(keys=[]).items == {} and store.snapshot(keys=[]).revision == 2
    many = [f"a/{number}" for number in range(3000)]
    assert list(store.snapshot(*many, keys=many).items) == ["a/1"]


def test_a_reading_is_of_one_revision_and_knows_what_it_relies_on(store: Store) -> None:
    store.commit({"a/1": b"1", "a/2": b"2", "b": b"3"})
    reading = Reading(store)
    assert reading.get("b") == b"3" and reading.get("none") is None
    store.commit({"a/1": b"x", "none": b"x", "d": b"x"})
    assert reading.under("a/") == {"a/1": b"1", "a/2": b"2"}
    assert reading.get("a/1") == b"1" and reading.get("none") is None and reading.get("a/3") is None
    assert reading.relied_on == dict.fromkeys(["a/", "b", "none", "a/3"], 1)
    with pytest.raises(ConflictError):
        store.commit({"e": b""}, unchanged=reading.relied_on)
    assert Reading(store).revision == 2
    again = Reading(store)
    again.load(["b"], ["c", "d"])
    assert (again.under("c"), again.under("d")) == ({}, {"d": b"x"})
    store.commit({"a/1": b"y"})
    assert store.commit({"e": b""}, unchanged=again.relied_on) == 4


def test_snapshot_at_a_revision(store: Store) -> None:
    store.commit({"a": b"1"})
    store.commit({"a": b"2", "b": b"1"})
    store.commit({}, ["a"])
    store.commit({"a": b"4"})
    assert [dict(store.snapshot(at=at).items) for at in range(5)] == [
        {},
        {"a": b"1"},
        {"a": b"2", "b": b"1"},
        {"b": b"1"},
        {"a": b"4", "b": b"1"},
    ]
    assert store.snapshot(at=2).revisions == {"a": 2, "b": 2}
    with pytest.raises(ValueError, match="revision 5 is in the future; the newest is 4"):
        store.snapshot(at=5)


@pytest.mark.parametrize(("puts", "deletes"), [({"": b""}, []), ({}, ["a\0b"]), ({"a": b""}, ["a"])])
def test_commits_that_make_no_sense(store: Store, puts: dict[str, bytes], deletes: list[str]) -> None:
    with pytest.raises(ValueError, match=r"is not a key|both put and deleted: a"):
        store.commit(puts, deletes)
    assert store.snapshot().revision == 0


def test_conflict(store: Store) -> None:
    base = store.commit({"a/1": b"1"})
    store.commit({"b/1": b"1"})
    assert store.commit({"a/1": b"2"}, unchanged={"a/": base}) == 3
    with pytest.raises(ConflictError, match="a/ has changed since revision 1"):
        store.commit({"b/1": b"2"}, unchanged={"a/": base, "b/": 2})
    with pytest.raises(ConflictError, match="changed since revision 3"):
        store.commit({}, ["a/1"])
        store.commit({"c": b""}, unchanged={"a/": 3})
    assert store.snapshot().items == {"b/1": b"1"}
    assert store.commit({"d": b""}, unchanged={"nothing/": 0}) == 5


# ---- compaction ----------------------------------------------------------------------------------


def test_compaction_keeps_what_holds(store: Store) -> None:
    store.commit({"a": b"1", "b": b"1"})
    store.commit({"a": b"2"})
    store.commit({"c": b"1"}, ["b"])
    store.compact(3)
    with pytest.raises(CompactedError, match="revision 2 is gone; the oldest known is 3"):
        store.snapshot(at=2)
    assert store.snapshot(at=3) == store.snapshot()
    assert store.snapshot().items == {"a": b"2", "c": b"1"}
    with pytest.raises(CompactedError), store.watch(2):
        pass
    with pytest.raises(ConflictError):
        store.commit({"x": b""}, unchanged={"b": 2})
    store.compact(1)
    with pytest.raises(CompactedError):
        store.snapshot(at=2)
    assert store.commit({"b": b"3"}) == 4


def test_compaction_stops_at_the_newest(store: Store) -> None:
    store.commit({"a": b"1"})
    store.compact(99)
    assert store.snapshot(at=1).items == {"a": b"1"}
    with store.watch(1) as watch:
        store.commit({"a": b"2"})
        assert watch.next(PATIENCE) == Batch(2, (Change("a", b"2"),))


# ---- watches -------------------------------------------------------------------------------------


def test_watch_from_the_past_and_on(store: Store) -> None:
    store.commit({"a/2": b"1", "a/1": b"1"})
    store.commit({"b/1": b"1"})
    store.commit({}, ["a/1"])
    with store.watch(0, "a/") as watch:
        assert watch.next(0) == Batch(1, (Change("a/1", b"1"), Change("a/2", b"1")))
        assert watch.next(0) == Batch(3, (Change("a/1", None),))
        assert watch.next(0) is None
        store.commit({"a/3": b"1", "b/2": b"1"})
        assert watch.next(PATIENCE) == Batch(4, (Change("a/3", b"1"),))


def test_a_watch_says_what_the_newest_revision_is(store: Store) -> None:
    with store.watch(0, "a/") as watch:
        store.commit({"b": b"1"})
        store.commit({"b": b"2"})
        assert watch.next(PATIENCE) == Batch(2, ())
        assert watch.next(0) is None


def test_a_watch_from_the_future(store: Store) -> None:
    store.commit({"a": b"1"})
    with pytest.raises(CompactedError, match="revision 2 is gone; the newest is 1"), store.watch(2):
        pass


def test_a_watch_wakes_up(store: Store) -> None:
    with store.watch(0) as watch:
        thread = threading.Thread(target=store.commit, args=({"a": b"1"},))
        thread.start()
        assert watch.next(PATIENCE) == Batch(1, (Change("a", b"1"),))
        thread.join()


def test_a_watch_that_has_fallen_behind(store: Store) -> None:
    with store.watch(0) as watch:
        for number in range(3):
            store.commit({"a": b"%d" % number})
        store.compact(2)
        with pytest.raises(CompactedError, match="revision 0 is gone"):
            watch.next(0)


def test_every_commit_of_many_threads_is_seen_once_and_in_order(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(40):
            store.commit({f"{name}/{number}": b"x"})

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    with store.watch(0) as watch:
        for thread in threads:
            thread.start()
        seen = [watch.next(PATIENCE) for _ in range(120)]
        for thread in threads:
            thread.join()
    assert [batch.revision for batch in seen if batch] == list(range(1, 121))
    assert {change.key for batch in seen if batch for change in batch.changes} == set(store.snapshot().items)


# ---- random operations, beside the twin ----------------------------------------------------------

keys = st.sampled_from(["a", "a/1", "a/2", "b/1", "b/", "c"])
prefixes = st.lists(st.sampled_from(["a", "a/", "b/", "c", "x"]), max_size=2)
puts = st.dictionaries(keys, st.binary(max_size=2), max_size=4)


class Stores(RuleBasedStateMachine):
    revisions = Bundle("revisions")

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        directory = self._stack.enter_context(TemporaryDirectory())
        self.real = SqliteStore(Path(directory, "store.db"))
        self.twin = MemoryStore()
        self.watches = [
            (
                self._stack.enter_context(self.real.watch(0, "a")),
                self._stack.enter_context(self.twin.watch(0, "a")),
            )
        ]

    def same(self, call: Callable[[Store], object]) -> object:
        outcomes = []
        for each in (self.real, self.twin):
            try:
                outcomes.append((call(each), None))
            except (contract.StoreError, ValueError) as error:
                outcomes.append((None, f"{type(error).__name__}: {error}"))
        assert outcomes[0] == outcomes[1]
        return outcomes[0][0]

    @rule(target=revisions, puts=puts, deletes=st.sets(keys, max_size=3))
    def commit(self, puts: dict[str, bytes], deletes: set[str]) -> object:
        return self.same(lambda store: store.commit(puts, deletes - puts.keys()))

    @rule(puts=puts, prefix=st.sampled_from(["a", "a/", "b", ""]), revision=revisions)
    def commit_if(self, puts: dict[str, bytes], prefix: str, revision: int) -> None:
        unchanged = {"never": self.twin.snapshot().revision, prefix: revision}
        self.same(lambda store: store.commit(puts, unchanged=unchanged))

    @rule(
        prefixes=prefixes,
        wanted=st.none() | st.lists(keys),
        revision=st.none() | revisions | st.integers(0, 30),
    )
    def snapshot(self, prefixes: list[str], wanted: list[str] | None, revision: int | None) -> None:
        self.same(lambda store: store.snapshot(*prefixes, keys=wanted, at=revision))

    @rule(revision=revisions)
    def compact(self, revision: int) -> None:
        self.same(lambda store: store.compact(revision))

    @rule()
    def watched(self) -> None:
        for real, twin in self.watches:
            outcomes = []
            for watch in (real, twin):
                try:
                    outcomes.append(watch.next(0))
                except CompactedError as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1]

    @rule(revision=revisions, prefixes=prefixes)
    def watch_from(self, revision: int, prefixes: list[str]) -> None:
        def seen(store: Store) -> list[Batch]:
            with store.watch(revision, *prefixes) as watch:
                return list(iter(lambda: watch.next(0), None))

        self.same(seen)

    @invariant()
    def hold_the_same(self) -> None:
        self.same(lambda store: store.snapshot())

    def teardown(self) -> None:
        self._stack.close()
        self.real.close()


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# ---- files ---------------------------------------------------------------------------------------


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        store.commit({"a": b"1"})
    finally:
        os.umask(before)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    store.close()


def test_it_is_all_there_when_opened_again(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "store.db")
    first.commit({"a": b"1"})
    first.close()
    second = SqliteStore(tmp_path / "store.db")
    assert second.snapshot().items == {"a": b"1"}
    assert second.commit({"a": b"2"}) == 2
    second.close()


def put_in_its_place(backup: Path, path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    backup.rename(path)


def restore(backup: Path, path: Path) -> None:
    """As `sqlite3 store.db ".restore backup.db"` does it, with everybody at work."""
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


@pytest.mark.parametrize("put_back", [put_in_its_place, restore])
def test_a_store_that_is_put_back(tmp_path: Path, put_back: Callable[[Path, Path], None]) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    store = SqliteStore(path)
    store.commit({"a": b"1"})
    subprocess.run(["sqlite3", path, f".backup {backup}"], check=True)
    store.commit({"a": b"2"})
    store.commit({"b": b"3"})
    with store.watch(3) as watch:
        assert watch.next(0) is None
        put_back(backup, path)
        with pytest.raises(CompactedError):
            watch.next(PATIENCE)
    assert (store.snapshot().revision, store.snapshot().items) == (1, {"a": b"1"})
    assert store.commit({"a": b"4"}) == 2
    other = SqliteStore(path)
    assert other.snapshot().items == {"a": b"4"}
    other.close()
    store.close()


def test_a_store_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with pytest.raises(UnavailableError, match=r"store\.db: no store is there"):
        SqliteStore(path, create=False)
    store = SqliteStore(path)
    store.commit({"a": b"1"})
    with store.watch(1) as watch:
        path.rename(tmp_path / "aside.db")
        for use in (lambda: watch.next(0), store.snapshot, lambda: store.commit({"a": b"2"})):
            with pytest.raises(UnavailableError, match=r"store\.db: no store is there"):
                use()
    assert not path.exists()
    (tmp_path / "aside.db").rename(path)
    assert store.snapshot().items == {"a": b"1"}
    store.close()


def _not_a_database(path: Path) -> str:
    path.write_bytes(b"just some text, long enough to be no empty file" * 10)
    return "file is not a database"


def _somebody_elses_database(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    return "a database, but not a store of isolane"


def _newer_version(path: Path) -> str:
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    return "written by a newer isolane: version 2, known is 1"


def _directory_in_its_place(path: Path) -> str:
    path.mkdir()
    return "Is a directory"


@pytest.mark.parametrize(
    "spoil", [_not_a_database, _somebody_elses_database, _newer_version, _directory_in_its_place]
)
def test_files_that_are_no_store(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    path = tmp_path / "store.db"
    words = spoil(path)
    with pytest.raises(UnavailableError) as caught:
        SqliteStore(path)
    assert str(caught.value) == f"{path}: {words}"


def test_a_file_that_is_moved_away_is_no_longer_the_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with pytest.raises(UnavailableError, match="no store is there"):
        SqliteStore(path, create=False)
    assert not path.exists()
    store = SqliteStore(path)
    store.commit({"a": b"x"})
    with store.watch(1) as watch:
        path.rename(tmp_path / "away.db")
        for call in (store.snapshot, lambda: store.commit({"a": b"y"}), lambda: watch.next(0)):
            with pytest.raises(UnavailableError, match="no store is there"):
                call()
        path.touch()
        with pytest.raises(CompactedError, match="another file has taken its place"):
            watch.next(0)
        (tmp_path / "away.db").rename(path)
        store.commit({"a": b"z"})
        assert watch.next(0) == Batch(2, (Change("a", b"z"),))
    store.close()


def test_a_file_that_comes_back_after_another_is_the_store_again(tmp_path: Path) -> None:
    path, away = tmp_path / "store.db", tmp_path / "away.db"
    store = SqliteStore(path)
    store.commit({"a": b"x"})
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # or the log would make up for the file
    path.rename(away)
    path.write_text("no database, however long it is looked at" * 100)
    with pytest.raises(UnavailableError, match="not a database"):
        store.snapshot()
    away.rename(path)
    assert store.snapshot().items == {"a": b"x"}
    store.close()


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    store.commit({"a": b"1"})
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(UnavailableError, match="database or disk is full"):
        store.commit({"a": b"2", **{f"b/{number}": bytes(4096) for number in range(10)}})
    assert store.snapshot().items == {"a": b"1"}
    assert store.commit({"a": b"2"}) == 2
    store.close()


@pytest.mark.parametrize("create", [False, True])
def test_a_file_system_that_can_only_be_read(tmp_path: Path, create: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    path = tmp_path / "store.db"
    SqliteStore(path).close()
    program = f"import sys; {OPEN.replace('argv[1]', f'argv[1], {create}')}"
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && "$2" -c "$3" "$4"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", tmp_path, sys.executable, program, path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.endswith(f"UnavailableError: {path}: Read-only file system\n")


def test_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOLANE_STORE", str(tmp_path / "from-environment.db"))
    for location in (None, str(tmp_path / "path.db"), f"sqlite:{tmp_path}/scheme.db"):
        open_store(location).close()
    assert {path.stem for path in tmp_path.glob("*.db")} == {"from-environment", "path", "scheme"}
    with pytest.raises(UnavailableError, match="etcd:x: no such kind of store; known: sqlite:PATH"):
        open_store("etcd:x")


# ---- several processes ---------------------------------------------------------------------------

WRITER = """
import sys
from policy.store_sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
for number in range(int(sys.argv[3])):
    store.commit({f"{sys.argv[2]}/{number}/{part}": b"x" * 300 for part in range(20)})
    print(number, flush=True)
"""


OPEN = "from policy.store_sqlite import SqliteStore; store = SqliteStore(sys.argv[1])"


def start_writer(path: Path, name: str, commits: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(commits)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_commits_of_other_processes_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    with store.watch(0, "a/", "b/") as watch:
        writers = [start_writer(path, name, 25) for name in "ab"]
        seen = [watch.next(PATIENCE) for _ in range(50)]
        assert [writer.wait() for writer in writers] == [0, 0]
    for writer in writers:
        assert writer.stdout
        writer.stdout.close()
    assert [batch.revision for batch in seen if batch] == list(range(1, 51))
    assert {len(batch.changes) for batch in seen if batch} == {20}
    store.close()


def test_a_watch_outlives_the_other_processes_of_the_store(tmp_path: Path) -> None:
    """Each takes itself for the last when it ends, unless we hold our locks."""
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    store.commit({"a": b"1"})
    with store.watch(1) as watch:
        for number in range(3):
            program = f"import sys; {OPEN}; store.commit({{'a': b'{number}x'}}); store.close()"
            subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, check=True)
            assert watch.next(PATIENCE) == Batch(number + 2, (Change("a", f"{number}x".encode()),))
            assert Path(f"{path}-wal").exists()
        with store.watch(0):
            pass
    assert store.snapshot().revision == 4
    store.close()


def test_many_processes_make_one_store(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path / "store.db", str(number), 3) for number in range(6)]
    outputs = [writer.communicate(timeout=PATIENCE * 3)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 6
    assert outputs == ["0\n1\n2\n"] * 6
    store = SqliteStore(tmp_path / "store.db")
    assert store.snapshot().revision == 18
    store.close()


def test_many_processes_make_stores_at_the_same_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    makers = [context.Process(target=make_stores, args=(tmp_path, barrier)) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(PATIENCE)
    assert [maker.exitcode for maker in makers] == [0] * 8


def make_stores(directory: Path, barrier: multiprocessing.synchronize.Barrier) -> None:
    for number in range(40):
        barrier.wait(PATIENCE)
        SqliteStore(directory / f"{number}.db").close()


def test_a_writer_killed_at_any_moment(tmp_path: Path) -> None:
    """What it was told is committed is there; what it was not told is there whole, or not at all."""
    path = tmp_path / "store.db"
    for round_number in range(12):
        writer = start_writer(path, str(round_number), 1_000_000)
        assert writer.stdout
        told = -1
        for line in writer.stdout:
            told = int(line)
            if told >= round_number * 3:
                break
        writer.send_signal(signal.SIGKILL)
        told = max([told, *map(int, writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()
        store = SqliteStore(path)
        held = store.snapshot(f"{round_number}/").items
        store.close()
        commits = {int(key.split("/")[1]) for key in held}
        assert commits >= set(range(told + 1))
        assert len(held) == 20 * len(commits)
