"""Logs of the processes that run on: one event a line, JSON unless a person watches."""

import contextlib
import io
import logging
import os
import sys
from typing import Any, TextIO, cast

import structlog

_PRIORITIES = {"info": 6, "warning": 4, "error": 3}


def configure(level: str) -> None:
    """On stderr, from this level on. Events name counts, revisions and times; never a packet or a secret."""
    render: structlog.typing.Processor = structlog.processors.JSONRenderer(default=str)
    if sys.stderr.isatty():
        render = structlog.dev.ConsoleRenderer()
    elif _is_journal():
        render = _with_priority(render)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Stderr())),
        cache_logger_on_first_use=True,
    )


def _with_priority(render: structlog.typing.Processor) -> structlog.typing.Processor:
    """As the journal reads it (sd-daemon(3)), so that `journalctl -p warning` finds what to look at."""

    def rendered(logger: Any, method: str, event: structlog.typing.EventDict) -> str:
        return f"<{_PRIORITIES[method]}>{cast(str, render(logger, method, event))}"

    return rendered


def _is_journal() -> bool:
    """Whether stderr is what systemd has connected to the journal (systemd.exec(5))."""
    status = os.fstat(sys.stderr.fileno())
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _Stderr(io.TextIOBase):
    """A line is written in one piece; that nobody reads any more is no reason to end."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), text.encode(errors="backslashreplace"))
        return len(text)
