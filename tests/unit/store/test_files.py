"""What only a file can get wrong."""

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from policy.errors import CompactedError, ConflictError, UnavailableError
from policy.store import sqlite
from policy.store.contract import Batch, Change, Expect
from policy.store.locations import open_store
from policy.store.sqlite import SqliteStore
from tests.native import ROOT
from tests.unit.store.stores import PATIENCE, Clock, held


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
    assert held(second) == {"a": b"1"}
    assert second.commit({"a": b"2"}) == 2
    second.close()


def put_in_its_place(backup: Path, path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    backup.rename(path)


def empty_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def restore(backup: Path, path: Path) -> None:
    """As `sqlite3 store.db ".restore backup.db"` does it, with everybody at work."""
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


PUT_BACK = pytest.mark.parametrize("put_back", [put_in_its_place, restore])


@PUT_BACK
def test_a_store_that_is_put_back(tmp_path: Path, put_back: Callable[[Path, Path], None]) -> None:
    """It goes on behind all revisions that it had, so that nothing of one past is taken for another's."""
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    store = SqliteStore(path)
    store.commit({"a": b"1"})
    subprocess.run(["sqlite3", path, f".backup {backup}"], check=True)
    store.commit({"a": b"2"})
    store.commit({"b": b"3"})
    before = store.identity()
    with store.watch(3) as watch:
        assert watch.next(0) is None
        put_back(backup, path)
        with pytest.raises(CompactedError):
            watch.next(PATIENCE)
    assert store.range("").rows == [("a", b"1", 1)]
    assert store.identity() != before
    with pytest.raises(ConflictError):
        store.commit({"a": b"x"}, expect=Expect(keys={"b": 3}))
    with pytest.raises(CompactedError), store.watch(3):
        pass
    revision = store.commit({"a": b"4"})
    assert revision > 3
    other = SqliteStore(path)
    assert held(other) == {"a": b"4"} and other.identity() == store.identity()
    other.close()
    store.close()


@PUT_BACK
def test_a_store_that_is_put_back_and_written_to_before_anybody_looks(
    tmp_path: Path, put_back: Callable[[Path, Path], None]
) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    store = SqliteStore(path)
    store.commit({"a": b"1"})
    subprocess.run(["sqlite3", path, f".backup {backup}"], check=True)
    store.commit({"a": b"2"})
    with store.watch(2) as watch:
        put_back(backup, path)
        for number in range(5):
            store.commit({"a": b"new %d" % number})
        with pytest.raises(CompactedError):
            watch.next(PATIENCE)
    store.close()


def test_another_store_has_another_identity(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / name) for name in ("1.db", "2.db")]
    assert stores[0].identity() != stores[1].identity()
    again = SqliteStore(tmp_path / "1.db")
    assert again.identity() == stores[0].identity()
    for each in (again, *stores):
        each.close()


def test_a_store_that_is_made_anew_where_one_was_says_that_it_is_new(tmp_path: Path) -> None:
    """Until something is written: its revisions go on behind those of the other one."""
    path = tmp_path / "store.db"
    old = SqliteStore(path)
    old.commit({"a": b"1"})
    old.commit({"a": b"2"})
    old.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    store = SqliteStore(path)
    assert store.range("").revision == 0
    assert store.commit({"a": b"3"}) > 2
    store.close()


def test_a_store_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with pytest.raises(UnavailableError, match=r"store\.db: no store is there"):
        SqliteStore(path, create=False)
    store = SqliteStore(path)
    store.commit({"a": b"1"})
    with store.watch(1) as watch:
        path.rename(tmp_path / "aside.db")
        for use in (lambda: watch.next(0), store.identity, lambda: store.commit({"a": b"2"})):
            with pytest.raises(UnavailableError, match=r"store\.db: no store is there"):
                use()
    assert not path.exists()
    (tmp_path / "aside.db").rename(path)
    assert held(store) == {"a": b"1"}
    store.close()


def _not_a_database(path: Path) -> str:
    path.write_bytes(b"just some text, long enough to be no empty file" * 10)
    return "not a database"


def _somebody_elses_database(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    return "a database, but not a store of isolane"


def _another_version(path: Path, version: int) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def _newer_version(path: Path) -> str:
    _another_version(path, 3)
    return "written by a newer isolane: version 3, known is 2"


def _older_version(path: Path) -> str:
    _another_version(path, 1)
    return "written by an older isolane: version 1, known is 2"


def _directory_in_its_place(path: Path) -> str:
    path.mkdir()
    return "Is a directory"


@pytest.mark.parametrize(
    "spoil",
    [_not_a_database, _somebody_elses_database, _newer_version, _older_version, _directory_in_its_place],
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
        for call in (store.identity, lambda: store.commit({"a": b"y"}), lambda: watch.next(0)):
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
    empty_log(path)  # or the log would make up for the file
    path.rename(away)
    path.write_text("no database, however long it is looked at" * 100)
    with pytest.raises(UnavailableError, match="not a database"):
        store.identity()
    away.rename(path)
    assert held(store) == {"a": b"x"}
    store.close()


@pytest.mark.parametrize("create", [False, True])
def test_a_file_system_that_can_only_be_read(tmp_path: Path, create: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace of its own: the root is no mount, as in a plain chroot")
    path = tmp_path / "store.db"
    SqliteStore(path).close()
    program = f"import sys; from policy.store.sqlite import SqliteStore; SqliteStore(sys.argv[1], {create})"
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && "$2" -c "$3" "$4"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", tmp_path, sys.executable, program, path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.endswith(f"UnavailableError: {path}: Read-only file system\n")


def test_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOLANE_STORE", str(tmp_path / "from-environment.db"))
    for location in (None, str(tmp_path / "path.db"), f"sqlite:{tmp_path}/scheme.db"):
        open_store(location).close()
    assert {path.stem for path in tmp_path.glob("*.db")} == {"from-environment", "path", "scheme"}
    with pytest.raises(UnavailableError, match="etcd:x: no such kind of store; known: sqlite:…"):
        open_store("etcd:x")


# ---- several at once -----------------------------------------------------------------------------


def test_who_reads_waits_for_nobody(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    store.commit({"a": b"1"})
    found: list[dict[str, bytes]] = []
    for begin in ("BEGIN", "BEGIN IMMEDIATE"):
        with store._file.transaction(begin) as connection:
            assert connection.execute("SELECT revision FROM store").fetchone() == (1,)
            thread = threading.Thread(target=lambda: found.append(held(store)))
            thread.start()
            thread.join(PATIENCE)
    assert found == [{"a": b"1"}] * 2
    store.close()


def test_a_store_keeps_few_connections(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    store.commit({"a": b"1"})
    barrier = threading.Barrier(20)

    def read() -> None:
        with store._file.transaction("BEGIN") as connection:
            connection.execute("SELECT revision FROM store").fetchone()
            barrier.wait(PATIENCE)

    threads = [threading.Thread(target=read) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(store._file._idle) <= 4
    store.close()
    with pytest.raises(UnavailableError, match="the store is closed"):
        store.identity()


# ---- a clock that jumps --------------------------------------------------------------------------


def test_a_clock_that_is_put_back_makes_no_lease_longer(tmp_path: Path) -> None:
    clock = Clock()
    store = SqliteStore(tmp_path / "store.db", clock=clock)
    lease = store.lease(30)
    store.commit({"a": b"1"}, leases={"a": lease})
    clock.now -= 500_000
    assert held(store) == {"a": b"1"}
    clock.now += 29
    assert held(store) == {"a": b"1"}
    clock.now += 2
    assert held(store) == {}
    store.close()


# ---- no space left -------------------------------------------------------------------------------

FULL = """
import os, sys
from pathlib import Path
from policy.errors import CompactedError, ConflictError, UnavailableError
from policy.store.sqlite import SqliteStore

path = Path(sys.argv[1])
store = SqliteStore(path)
store.commit({"a": b"1"}, seconds={"a": 0.001})
store.commit({"b": b"2"})
store.commit({}, ["a"])
if sys.argv[2] == "open":
    store.get(["b"])
else:
    store.close()
with open(path.with_name("filler"), "wb", buffering=0) as filler:
    for size in (4096, 1):
        try:
            while filler.write(bytes(size)):
                pass
        except OSError as error:
            print(error.strerror)
if sys.argv[2] != "open":
    store = SqliteStore(path, create=False)
for value in (b"3", bytes(1 << 20)):
    try:
        store.commit({"c": value})
    except UnavailableError as error:
        print(error)
print([row[:2] for row in store.get(["b"]).rows], [key for key, _, _ in store.range("").rows if key != "c"])
if sys.argv[2] != "open":
    try:
        with store.watch(0) as watch:
            print("watches")
    except UnavailableError as error:
        print(error)
path.with_name("filler").unlink()
print(store.commit({"d": b"4"}) > 2)
store.close()
"""


@pytest.mark.parametrize("how", ["open", "closed"])
def test_no_space_is_left(tmp_path: Path, how: str) -> None:
    """It is said in so many words, what is there can be read, and nothing is lost."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace of its own: the root is no mount, as in a plain chroot")
    path = tmp_path / "store.db"
    script = 'mount -t tmpfs -o size=512k none "$1" && "$2" -c "$3" "$4" "$5"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", tmp_path, sys.executable, FULL, path, how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    words = os.strerror(errno.ENOSPC)
    assert done.stderr == ""
    said = done.stdout.splitlines()
    assert said[:2] == [words, words]
    assert said[2:-2] and set(said[2:-2]) <= {f"{path}: {words}", "[('b', b'2')] ['b']"}
    assert "[('b', b'2')] ['b']" in said and said[-1] == "True"


def test_what_leases_end_is_forgotten_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is the end of a lease that makes the revision at which the past is forgotten."""
    monkeypatch.setattr(sqlite, "KEPT_REVISIONS", 2)
    monkeypatch.setattr(sqlite, "_COMPACT_EVERY", 3)
    clock = Clock()
    with closing(SqliteStore(tmp_path / "store.db", clock=clock)) as store:
        for number in range(10):
            store.commit({"a": b"%d" % number}, seconds={"a": 10.0})
            store.commit({"b": b"%d" % number})
            clock.now += 12
            assert store.get(["a"]).rows == []
            with pytest.raises(CompactedError):
                store.get(["a"], at=store.get(()).revision - 6)
