"""What the commands that run until a signal have in common."""

import ctypes
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def stop_signals() -> set[signal.Signals]:
    """Signals that ask to stop; one that is ignored (nohup, a shell's background job) would come all the same
    while it is blocked.
    """
    asking = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    return {number for number in asking if signal.getsignal(number) is not signal.SIG_IGN}


_PR_SET_PDEATHSIG = 1

die_with_option = click.option("--die-with", "parent", type=int, hidden=True, help="Die with this process.")


def log_level_option(default: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--log-level",
        default=default,
        show_default=True,
        type=click.Choice(["info", "warning", "error"]),
        help="What is logged on stderr.",
    )


def die_with(parent: int | None) -> None:
    """SIGKILL when the thread of our parent that started us ends; at once if that has happened."""
    if parent is not None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)


def readable(fds: Iterable[int], seconds: float) -> set[int]:
    """Those that can be read, or have ended, within that time; unlike select(), whatever their numbers."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return {fd for fd, _ in poller.poll(max(seconds, 0) * 1000)}


def check_instance(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """Of --instance: a name that can be a directory's."""
    if name is not None and not _INSTANCE.fullmatch(name):
        raise click.BadParameter("1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit")
    return name


def default_instance() -> str:
    return socket.gethostname()
