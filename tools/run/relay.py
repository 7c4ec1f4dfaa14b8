"""What a process that may have been broken into writes, for the operator's terminal or log."""

import contextlib
import os
import time

import click

from dataplane.process.text import printable

LINE = 4096
"""Bytes of a line that are shown."""
BUDGET, BUDGET_SECONDS = 1 << 16, 10.0
"""Bytes that are shown in that time."""


class Relay:
    """The reading end of a pipe: lines without characters that move a cursor, and not too many of them."""

    def __init__(self) -> None:
        self.fd, self.write_end = os.pipe()
        os.set_blocking(self.fd, False)
        self.has_ended = False
        """Nobody writes any more: its end can be read for ever."""
        self._rest = b""
        self._shown = 0
        self._since = time.monotonic()

    def writer_has_it(self) -> None:
        """The other process holds the writing end now, and nobody else does."""
        os.close(self.write_end)

    def read(self) -> bool:
        """Shows what is there; False: there is nothing now, or never will be."""
        try:
            data = os.read(self.fd, LINE)
        except BlockingIOError:
            return False
        self.has_ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE or not data:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            if line:
                self._show(line)
        return bool(data)

    def close(self) -> None:
        """After the last of it."""
        for _ in range(BUDGET // LINE):
            if not self.read():
                break
        os.close(self.fd)

    def _show(self, line: bytes) -> None:
        now = time.monotonic()
        if now - self._since > BUDGET_SECONDS:
            self._since, self._shown = now, 0
        before, self._shown = self._shown, self._shown + len(line)
        if before <= BUDGET < self._shown:
            say("... it says more than is shown")
        elif self._shown <= BUDGET:
            say(printable(line[:LINE].decode(errors="replace")))


def say(text: str) -> None:
    """Whoever reads it may have gone, which is no reason to end."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
