"""A store that several processes share, some of which are killed."""

import multiprocessing
import multiprocessing.synchronize
import signal
import subprocess
import sys
from pathlib import Path

from policy.store.contract import Batch, Change
from policy.store.reading import snapshot_of
from policy.store.sqlite import SqliteStore
from tests.native import ROOT
from tests.unit.store.stores import PATIENCE

WRITER = """
import sys
from policy.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
for number in range(int(sys.argv[3])):
    store.commit({f"{sys.argv[2]}/{number}/{part}": b"x" * 300 for part in range(20)})
    print(number, flush=True)
"""


OPEN = "from policy.store.sqlite import SqliteStore; store = SqliteStore(sys.argv[1])"


def start_writer(path: Path, name: str, commits: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), name, str(commits)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_commits_of_other_processes_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    with store.watch(0, ["a/", "b/"]) as watch:
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
    assert snapshot_of(store).revision == 4
    store.close()


def test_many_processes_make_one_store(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path / "store.db", str(number), 3) for number in range(6)]
    outputs = [writer.communicate(timeout=PATIENCE * 3)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 6
    assert outputs == ["0\n1\n2\n"] * 6
    store = SqliteStore(tmp_path / "store.db")
    assert snapshot_of(store).revision == 18
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
        held = snapshot_of(store, f"{round_number}/").items
        store.close()
        commits = {int(key.split("/")[1]) for key in held}
        assert commits >= set(range(told + 1))
        assert len(held) == 20 * len(commits)
