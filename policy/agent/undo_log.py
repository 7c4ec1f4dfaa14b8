"""What an agent has changed on its host for devices, in a file that the data plane can't reach: for a
successor, which believes nobody else what there is to undo.

A line of JSON a change, appended before a device is opened, once it is, and when it has gone. A line that was
being written when the machine or the process stopped is the last, and counts as not written.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dataplane.host import locks
from dataplane.host.device import Opening

MAX_LINES = 256
"""That say nothing any more: the file is written anew."""

DeviceKey = tuple[Opening, str, str | None]
"""How a device is opened, its name and the VM's namespace."""


@dataclass(frozen=True, slots=True)
class Entry:
    """identity, index: of the device that undo, the steps, are about; identity is its namespace's. opening:
    one is being opened besides, or perhaps is open. owner: see Wanted; "" where an earlier version wrote it.
    """

    mac: str
    mtu: int
    opening: bool
    identity: int = 0
    index: int = 0
    undo: list[Any] = field(default_factory=list)
    owner: str = ""


class UndoLog:
    """Only root reads and writes it. One process at a time, one thread."""

    def __init__(self, instance: str) -> None:
        self.path = locks.agent_directory(instance) / "devices"
        self._dead = 0
        self._is_behind = False  # the file, as it could not be written
        self.entries: dict[DeviceKey, Entry] = {}
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                self._take(line)

    def write(self, changes: Mapping[DeviceKey, Entry | None]) -> None:
        """None: the device has gone. OSError: it can't be written now; the next write, of nothing perhaps,
        writes this too.
        """
        lines = [_encode(key, entry) for key, entry in changes.items()]
        self._dead += len(lines)
        for key, entry in changes.items():
            self.entries.pop(key, None)
            if entry is not None:
                self.entries[key] = entry
        is_behind, self._is_behind = self._is_behind, True
        if is_behind or self._dead > MAX_LINES + len(self.entries):
            self._write_anew()
        elif lines:
            self._append(self.path, lines)
        self._is_behind = False

    def remove(self) -> None:
        """Nothing is left of which it would tell."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.parent.rmdir()

    def _take(self, line: bytes) -> None:
        self._dead += 1
        try:
            document = dict(json.loads(line))
            kind, device, namespace = document.pop("key")
            key = Opening(kind), device, namespace
            self.entries.pop(key, None)
            if document:
                self.entries[key] = Entry(**document)
        except (ValueError, KeyError, TypeError):
            pass  # torn, or of an agent of another make

    def _write_anew(self) -> None:
        new = self.path.with_name("devices.new")
        new.unlink(missing_ok=True)
        self._append(new, [_encode(key, entry) for key, entry in self.entries.items()])
        new.replace(self.path)
        self._dead = 0

    @staticmethod
    def _append(path: Path, lines: Iterable[bytes]) -> None:
        """In one system call: a successor that is killed at once has all of them."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            end = os.fstat(fd).st_size
            torn = end and os.pread(fd, 1, end - 1) != b"\n"
            data = b"\n" * bool(torn) + b"".join(lines)
            if os.write(fd, data) < len(data):
                raise OSError("no room")
        finally:
            os.close(fd)


def _encode(key: DeviceKey, entry: Entry | None) -> bytes:
    """None: gone."""
    opening, device, namespace = key
    document: dict[str, Any] = {"key": [str(opening), device, namespace]}
    if entry is not None:
        document |= asdict(entry)
    return json.dumps(document).encode() + b"\n"
