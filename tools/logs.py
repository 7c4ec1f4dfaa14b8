"""Logs of the processes that run on: one event a line, JSON unless a person watches."""

import contextlib
import io
import logging
import os
import sys
from typing import TextIO, cast

import structlog


def configure(level: str) -> None:
    """On stderr, from this level on. Events name counts, revisions and times; never a packet or a secret."""
    render: structlog.typing.Processor = structlog.processors.JSONRenderer(default=str)
    if sys.stderr.isatty():
        render = structlog.dev.ConsoleRenderer()
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


class _Stderr(io.TextIOBase):
    """A line is written in one piece; that nobody reads any more is no reason to end."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), text.encode(errors="backslashreplace"))
        return len(text)
