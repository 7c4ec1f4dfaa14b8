"""Locks are held by descriptors, go with the last of them, and survive that their files are removed."""

import os
from pathlib import Path

import pytest

from dataplane.host import locks


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path / "run")
    return tmp_path / "run"


def test_one_holds_a_directory_at_a_time(directory: Path) -> None:
    first = locks.of_directory(directory / "h1")
    assert first is not None
    assert (directory / "h1").stat().st_mode & 0o777 == 0o700
    assert locks.of_directory(directory / "h1") is None
    other = locks.of_directory(directory / "h2")
    assert other is not None
    (directory / "h1").rmdir()
    again = locks.of_directory(directory / "h1")  # another one of that name
    assert again is not None
    for fd in (first, other, again):
        os.close(fd)


def test_a_lock_lasts_as_long_as_a_duplicate() -> None:
    lock = locks.of_underlay(4, 7)
    assert lock is not None and locks.of_underlay(4, 7) is None
    duplicate = os.dup(lock)
    os.close(lock)
    assert locks.of_underlay(4, 7) is None
    os.close(duplicate)
    lock = locks.of_underlay(4, 7)
    assert lock is not None
    os.close(lock)


def test_what_nobody_holds_is_swept(directory: Path) -> None:
    held = locks.of_underlay(4, 7)
    assert held is not None
    for namespace, index in ((4, 8), (40, 7)):
        lock = locks.of_underlay(namespace, index)
        assert lock is not None
        os.close(lock)
    locks.sweep(4)
    assert {path.name for path in directory.iterdir()} == {".underlay-4-7", ".underlay-40-7"}
    os.close(held)


def test_no_link_is_followed(directory: Path, tmp_path: Path) -> None:
    directory.mkdir()
    (directory / "h1").symlink_to(tmp_path)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        locks.of_directory(directory / "h1")
