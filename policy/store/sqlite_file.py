"""The file of an SQLite store: its connections, what goes wrong with it in words, and the bell beside it.

PATH-bell wakes those who watch, and says which revision the store had last. It is no part of a backup: where
the store is behind it, the store was put back.
"""

import errno
import os
import select
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dataplane.host.inotify import MODIFY, Inotify
from policy.errors import NoStoreError, UnavailableError
from policy.store import sqlite_rows

_LOCK_SECONDS = 10.0
_BUSY_SECONDS = 0.01
_KEPT_IDLE = 4
_SUFFIXES = "", "-wal", "-shm", "-bell"
_WORDS = {
    sqlite3.SQLITE_FULL: os.strerror(errno.ENOSPC),
    sqlite3.SQLITE_BUSY: f"others have kept it locked for {_LOCK_SECONDS:.0f} seconds",
    sqlite3.SQLITE_NOTADB: "not a database",
    sqlite3.SQLITE_CORRUPT: "a damaged database: put a copy in its place",
    sqlite3.SQLITE_READONLY: os.strerror(errno.EROFS),
    sqlite3.SQLITE_CANTOPEN: "it can't be opened",
    sqlite3.SQLITE_IOERR: os.strerror(errno.EIO),
    sqlite3.SQLITE_NOMEM: os.strerror(errno.ENOMEM),
}
_NO_SHARED_MEMORY = (
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMMAP,
)
_LEAST_FREE = 1 << 16

_Inode = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True)
class Opened:
    """inode: of the file that was opened. alone: nobody else can use the store meanwhile."""

    connection: sqlite3.Connection
    inode: _Inode
    alone: bool = False


def remove(path: Path) -> None:
    """A store that nobody uses, with all its files; none is no error."""
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


class File:
    """UnavailableError from everything: the file can't be used, and why. A file that was put in its place is
    taken up.

    Each transaction has a connection for itself: those that read wait for nobody.
    """

    def __init__(self, path: Path, create: bool) -> None:
        self.path = path
        self._bell = f"{path}-bell"
        self._lock = threading.Lock()
        self._is_closed = False
        self._idle: list[Opened] = []
        self._give_back(self.open(create))

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for each in idle:
            each.connection.close()

    @contextmanager
    def transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self.errors():
            opened = self._take()
            try:
                with transaction(opened.connection, begin):
                    yield opened.connection
            finally:
                self._give_back(opened)

    def _take(self) -> Opened:
        inode = self.inode()
        with self._lock:
            if self._is_closed:
                raise UnavailableError(f"{self.path}: the store is closed")
            for each in self._idle:
                if each.inode == inode:
                    self._idle.remove(each)
                    return each
        opened = self.open(create=False)  # as long as it fails the old file may come back
        with self._lock:
            stale = [each for each in self._idle if each.inode != opened.inode]
            self._idle = [each for each in self._idle if each.inode == opened.inode]
        for each in stale:
            each.connection.close()
        return opened

    def _give_back(self, opened: Opened) -> None:
        with self._lock:
            if not self._is_closed and not opened.alone and len(self._idle) < _KEPT_IDLE:
                self._idle.append(opened)
                return
        opened.connection.close()

    # ---- opening

    def inode(self) -> _Inode:
        """Of the file that is at the path now."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise NoStoreError(f"{self.path}: no store is there") from None
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return status.st_dev, status.st_ino

    def open(self, create: bool = False, shared: bool = False) -> Opened:
        """A connection of one's own, to be closed. shared: none that keeps all others out."""
        with self.errors():
            if create:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _make_file(self.path)
            inode = self.inode()
            _check_access(self.path)
            try:
                return Opened(self._connect(alone=False), inode)
            except sqlite3.OperationalError as error:
                if shared or error.sqlite_errorcode not in _NO_SHARED_MEMORY:
                    raise
            return Opened(self._connect(alone=True), inode, alone=True)

    def _connect(self, alone: bool) -> sqlite3.Connection:
        """alone: without the memory that those who use the store share, where there is no space for it."""
        connection = sqlite3.connect(
            self.path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            if alone:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._prepare_patiently(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare_patiently(self, connection: sqlite3.Connection) -> None:
        """To change the journal's mode SQLite does not wait for others that make the store too."""
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                self._prepare(connection)
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() >= end:
                    raise
                time.sleep(_BUSY_SECONDS)
            else:
                return

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        # Before what marks them as ours: another process may be making them, all in one transaction.
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if tables and application != sqlite_rows.APPLICATION_ID:
            raise UnavailableError(f"{self.path}: a database, but not a store of isolane")
        if tables and version != sqlite_rows.VERSION:
            whose = "a newer" if version > sqlite_rows.VERSION else "an older"
            raise UnavailableError(
                f"{self.path}: written by {whose} isolane: version {version}, known is {sqlite_rows.VERSION}"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        if not tables:
            connection.executescript(sqlite_rows.SCHEMA)

    # ---- what goes wrong

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnavailableError(f"{self.path}: {self._words(error)}") from error
        except OSError as error:
            raise UnavailableError(f"{self.path}: {error.strerror or error}") from error

    def _words(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_IOERR and self._is_full():
            code = sqlite3.SQLITE_FULL
        return _WORDS.get(code) or f"SQLite does not take it: {error}"

    def _is_full(self) -> bool:
        with suppress(OSError):
            there = os.statvfs(self.path.parent)
            return there.f_bavail * there.f_frsize < _LEAST_FREE
        return False

    # ---- the bell

    def ring(self, revision: int) -> None:
        """Wake all who listen. Some may not hear it: whoever should have rung was killed."""
        with suppress(OSError), closing_fd(os.open(self._bell, _BELL_FLAGS, 0o600)) as fd:
            os.pwrite(fd, b"%020d\n" % revision, 0)

    def rung(self) -> int:
        """The revision that was rung last; 0: none that is known."""
        try:
            with closing_fd(os.open(self._bell, os.O_RDONLY | os.O_CLOEXEC)) as fd:
                return int(os.pread(fd, 21, 0) or b"0")
        except (OSError, ValueError):
            return 0

    @contextmanager
    def listening(self) -> Iterator["Listener"]:
        with self.errors():
            os.close(os.open(self._bell, _BELL_FLAGS, 0o600))
            listener = Listener(Path(self._bell))
        with closing(listener):
            yield listener


_BELL_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class Listener:
    """Hears every ring after it was made. One thread at a time; close it."""

    def __init__(self, bell: Path) -> None:
        self._inotify = Inotify(bell, MODIFY)

    def wait(self, timeout: float) -> bool:
        """Whether it has rung since the last call, after at most `timeout` seconds."""
        poller = select.poll()  # select() knows no descriptor above 1023
        poller.register(self._inotify, select.POLLIN)
        rung = bool(poller.poll(max(timeout, 0) * 1000))
        if rung:
            self._inotify.names()
        return rung

    def close(self) -> None:
        self._inotify.close()


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _make_file(path: Path) -> None:
    """Unless there is one.

    It is never opened: closing any descriptor of it would give up the locks that SQLite holds for this
    process, and another process, taking itself for the last, would remove the log that this one reads.
    """
    with suppress(FileExistsError):
        os.mknod(path, 0o600)


def _check_access(path: Path) -> None:
    """Readers write, too, beside the file: SQLite would only say that it can't open it."""
    if not os.access(path, os.R_OK | os.W_OK):
        reason = errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(reason, os.strerror(reason))
