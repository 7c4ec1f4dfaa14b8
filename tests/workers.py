"""How a run of all tests is spread over workers (`pytest -n 2`, as `make test` calls it).

A file's tests run in one worker, in order. Tests with devices do so in a single one and have the machine for
themselves, as others have that are marked `alone`: they wait for packets and processes. Before them the rest
is run by all workers, those of packages by a single one.
"""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

DEVICES = ("tests/netns/", "tests/vm/")
ONE_WORKER = (*DEVICES, "tests/package/")
"""They have labs, wheels and what the machine has but once in common."""
FIRST = ("tests/c/", "tests/unit/service/test_scope.py", "tests/oracle/", "tests/fuzz/")
"""What takes longest of the rest, so that no worker is left with it at the end."""


class Turns:
    """Whose turn it is, by locks of files that all workers have: one test alone, or any others."""

    def __init__(self, directory: Path) -> None:
        self._door, self._room = ((directory / name).open("w") for name in ("turns.door", "turns.room"))
        self._inside = ExitStack()

    def begin(self, alone: bool) -> None:
        """Who waits to be alone keeps the door shut, or those who come and go would never all be out."""
        how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        with _locked(self._door.fileno(), fcntl.LOCK_EX):
            self._inside.enter_context(_locked(self._room.fileno(), how))

    def end(self) -> None:
        self._inside.close()


@contextmanager
def _locked(file: int, how: int) -> Iterator[None]:
    fcntl.flock(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def is_alone(item: pytest.Item | None) -> bool:
    return item is not None and (
        item.nodeid.startswith(DEVICES) or item.get_closest_marker("alone") is not None
    )


class InTurn:
    """In a worker: those that are alone follow each other without others in between."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._keeps = turns, False

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # what waits is not what pytest-timeout times
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        if not self._keeps:
            self._turns.begin(is_alone(item))
        try:
            return (yield)
        finally:
            self._keeps = is_alone(item) and is_alone(nextitem)
            if not self._keeps:
                self._turns.end()


class Files(LoadScopeScheduling):
    """A worker gets files, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return "one worker" if nodeid.startswith(ONE_WORKER) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return Files(config, log)


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: while it runs no other worker runs a test")
    if is_worker(config):
        build = config.rootpath / "build"
        build.mkdir(exist_ok=True)
        config.pluginmanager.register(InTurn(Turns(build)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_worker(config):
        items.sort(key=when)


def when(item: pytest.Item) -> tuple[int, int]:
    """Those that are alone last: one of the others that takes minutes would keep them waiting."""
    if item.nodeid.startswith(ONE_WORKER):
        return 1, is_alone(item)
    return 0, next((at for at, path in enumerate(FIRST) if item.nodeid.startswith(path)), len(FIRST))
