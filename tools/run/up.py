"""`isolane up`: data plane and agent of one host in one command that starts again whichever of them dies."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from policy.store.locations import open_store
from policy.store.reading import snapshot_of
from tools.errors import Failure, Misuse
from tools.options import check_location, files_option, read_manifests
from tools.run.processes import check_instance, log_level_option, stop_signals
from tools.run.supervisor import ChildError, StoppedError, Supervisor

if TYPE_CHECKING:
    from policy.kinds.manifest import Stated

DATAPLANE_WATCHDOG, AGENT_WATCHDOG = 30.0, 120.0
"""Seconds, as in the units: an agent says nothing while it loads."""


@click.command("up", short_help="Data plane and agent of this host in one.")
@files_option(required=False)
@click.option(
    "--store",
    "location",
    callback=check_location,
    help="Follow this store.  [default: one of its own, for the manifests]",
)
@click.option("--host", help="Name of the Host to be.  [default: the machine's host name]")
@click.option(
    "--instance",
    callback=check_instance,
    help="Name of the socket, for `isolane node`.  [default: the host's name]",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 8), help="Packet threads.")
@log_level_option("warning")
@click.option("--netns-prefix", default="", hidden=True, help="Goes before every attach.netns (isolane lab).")
@click.option("--ready-fd", type=int, hidden=True, help="Socket of isolane lab: says go, hears ready.")
def command(
    files: list[Path],
    location: str | None,
    host: str | None,
    instance: str | None,
    workers: int,
    log_level: str,
    netns_prefix: str,
    ready_fd: int | None,
) -> None:
    """Run data plane and agent of one host until SIGTERM or Ctrl-C, which remove what they made.

    Manifests are applied first: to the store that is named, or to one that lasts as long as the command.
    Prints `ready` on stderr when all ports are attached. Whichever process dies is started again: VMs keep
    their devices. Needs root.

    \b
    Examples:
      isolane up -f examples/blue-red.yaml --host h1
      isolane up --store /var/lib/isolane/store.db --host h1
    """
    if os.geteuid() != 0:
        raise Failure("up opens network devices: run it as root")
    if not files and location is None:
        raise Misuse("nothing to run", "FILE, or --store, or both")
    host = host or socket.gethostname()
    instance = instance or host
    # Signals wait until all is up, and while it goes; libraries that start threads come after this.
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals())
    stated = read_manifests(files) if files else None  # once: it may be standard input
    if location is not None:
        _apply(location, stated, host)
    elif stated is not None:
        _check_host(stated, host)
    if ready_fd is not None and not os.read(ready_fd, 16):
        sys.exit(1)  # the lab died before it had noted that we are there
    try:
        with _directories_removed(instance), Supervisor() as supervisor:
            dataplane = ["dataplane", "--instance", instance, "--workers", str(workers)]
            supervisor.start("data plane", dataplane, watchdog=DATAPLANE_WATCHDOG, is_trusted=False)
            with _followed(location, instance, stated) as store:
                agent = ["agent", "--store", store, "--host", host, "--instance", instance, "--remove"]
                agent += ["--log-level", log_level, "--netns-prefix", netns_prefix]
                supervisor.start("agent", agent, "--strict", watchdog=AGENT_WATCHDOG)
                click.echo("ready", err=True)
                if ready_fd is not None:
                    os.write(ready_fd, b"ready\n")
                    os.close(ready_fd)
                supervisor.run()
                supervisor.end()
    except StoppedError:
        pass
    except ChildError as error:
        if str(error):
            raise Failure(str(error)) from None
        sys.exit(1)
    if not supervisor.have_ended:
        raise Failure("a process had to be killed: not all may have been removed")


def _check_host(stated: "Stated", host: str) -> None:
    """UnknownHostError, ManifestError: before anything is made."""
    from policy.compile import compiler
    from policy.service import resolve

    compiler.managed_host(resolve.resolve(stated), host)


def _apply(location: str, stated: "Stated | None", host: str) -> None:
    """UnknownHostError, ManifestError, UnavailableError: before anything is made but what is stated."""
    from policy.compile import compiler
    from policy.kinds import documents, keys
    from policy.service import changes

    with contextlib.closing(open_store(location, create=stated is not None)) as store:
        if stated is not None:
            changes.commit(store, changes.apply(*stated))
        hosts = documents.policy_from(snapshot_of(store, keys.objects_of("Host")).items)
    compiler.managed_host(hosts, host)


@contextlib.contextmanager
def _directories_removed(instance: str) -> Iterator[None]:
    """What the data plane, which is nobody when it ends, can't remove."""
    from dataplane.host import locks, netns
    from dataplane.process import instances

    with instances.directory_removed(instance):
        try:
            yield
        finally:
            locks.sweep(netns.identity(None))


@contextlib.contextmanager
def _followed(location: str | None, instance: str, stated: "Stated | None") -> Iterator[str]:
    """The location of the store; one that lasts as long as the command, with what is stated in it, if none is
    named.
    """
    from dataplane.host import locks
    from policy.service import changes
    from policy.store import sqlite_file

    if location is not None or stated is None:
        yield location or ""
        return
    path = locks.agent_directory(instance) / "store.db"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sqlite_file.remove(path)  # of one that was killed
    try:
        with contextlib.closing(open_store(str(path))) as store:
            changes.commit(store, changes.apply(*stated))
        yield str(path)
    finally:
        sqlite_file.remove(path)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
