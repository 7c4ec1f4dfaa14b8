"""`isolane logs`: what a host's processes log."""

import os
import shutil
import subprocess
from pathlib import Path

import click

from tools import here
from tools.errors import Failure
from tools.options import complete_instance

JOURNAL = Path("/run/systemd/system")
"""Is there where systemd runs."""

PROCESSES = {"agent": "isolane-agent", "dataplane": "isolane-dataplane"}
"""Process -> the name of its unit."""


@click.command("logs", short_help="What a host's processes log.")
@click.argument("instance", required=False, shell_complete=complete_instance)
@click.option("-f", "--follow", is_flag=True, help="Then print what is logged, until Ctrl-C.")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(min=0), help="The newest.")
@click.option(
    "-p",
    "--process",
    "processes",
    multiple=True,
    type=click.Choice(sorted(PROCESSES)),
    help="Of this process only, where systemd runs them; repeatable.  [default: both]",
)
def logs(instance: str | None, follow: bool, lines: int, processes: tuple[str, ...]) -> None:
    """Print what agent and data plane of an instance log: from the journal of their units, or of a host of a
    lab from its file. `isolane up` logs to its own stderr.

    \b
    Examples:
      isolane logs h1 -f
      isolane logs isl-h1 -n 100
    """
    import socket

    instance = instance or socket.gethostname()
    command = _command(instance, follow, lines, processes or tuple(PROCESSES))
    if follow:
        os.execvp(command[0], command)
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise Failure(f"{command[0]} failed: exit status {done.returncode}")


def _command(instance: str, follow: bool, lines: int, processes: tuple[str, ...]) -> list[str]:
    following = ["-f"] if follow else []
    if file := _file_of_lab(instance):
        return ["tail", "-n", str(lines), *following, "--", str(file)]
    if JOURNAL.is_dir() and shutil.which("journalctl"):
        units = [f"--unit={PROCESSES[process]}@{instance}" for process in processes]
        return ["journalctl", "--no-pager", f"--lines={lines}", *following, *units]
    raise Failure(
        f"no logs of {instance} here: neither a lab's host nor units of systemd", here.instances_hint()
    )


def _file_of_lab(instance: str) -> Path | None:
    from tools.lab.state import State

    for prefix in here.labs():
        path = State(prefix).log(instance.removeprefix(prefix))
        if instance.startswith(prefix) and path.exists():
            return path
    return None
