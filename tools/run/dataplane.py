"""`isolane dataplane`: the process that forwards packets, apart from the one that knows policy."""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tools.run.processes import check_instance, default_instance, die_with, die_with_option, stop_signals

SLOTS_A_WORKER = 8192
"""Packets on their way, and as many again for those that wait."""
SPIN_US = 60
"""How long an idle worker polls, at most, before it blocks: a VM answers within it. It does so where little
comes, and soon.
"""


@click.command("dataplane", short_help="Forward packets, for an agent that says how.")
@click.option(
    "--instance", callback=check_instance, help="Name of the socket.  [default: the machine's host name]"
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 8), help="Packet threads.")
@click.option(
    "--table-memory",
    type=click.IntRange(16),
    help="MiB that tables may hold.  [default: what the limit of the process's cgroup leaves, if it has one]",
)
@die_with_option
def command(instance: str | None, workers: int, table_memory: int | None, parent: int | None) -> None:
    """Run a data plane without ports and tables until SIGTERM or Ctrl-C.

    It listens on /run/isolane/INSTANCE/dataplane.sock, where an agent hands over devices and tables and may
    come and go while packets flow. Needs root to make the socket, then becomes the user isolane-dataplane, or
    nobody's id where there is none, and gives up every capability.

    \b
    Example:
      isolane dataplane --instance h1 --workers 2
    """
    from dataplane.process import instances, privileges

    instance = instance or default_instance()
    die_with(parent)
    stop = stop_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # they wait until all is up, and while it goes
    try:
        with instances.listening(instance) as listener:
            privileges.raise_descriptor_limit()
            with _told():
                privileges.bound(
                    instances.socket_path(instance).parent
                )  # before libraries that start threads
            from dataplane.binding import core, memory
            from dataplane.binding.errors import DataplaneError
            from dataplane.process import instances, service
            from dataplane.process.views import SELF_HOST
            from policy.kinds.model import ROUTER_MAC

            slots = SLOTS_A_WORKER * (1 + workers)
            packets = core.SLOT * slots
            try:
                slots_fd = 1 + memory.packet_memory(packets)
            except OSError as error:
                raise click.ClickException(f"memory for packets: {error.strerror}") from None
            config = core.Config(
                self_host=SELF_HOST,
                router_mac=bytes.fromhex(ROUTER_MAC.replace(":", "")),
                hash_key=(secrets.randbits(64), secrets.randbits(64)),
                workers=workers,
                slots=slots,
                spin_us=SPIN_US,
                table_budget=memory.table_budget(packets) if table_memory is None else table_memory << 20,
                slots_fd=slots_fd,
            )
            with _told():
                privileges.drop()
            die_with(parent)
            try:
                service.run(instance, listener, config, stop)
            except DataplaneError as error:
                raise click.ClickException(str(error)) from None
    except instances.InstanceError as error:
        if os.geteuid() != 0:
            raise click.ClickException(f"{error}: run it as root") from None
        raise click.ClickException(str(error)) from None


@contextmanager
def _told() -> Iterator[None]:
    """A root who may not become somebody else, as in some containers, hears what it takes."""
    try:
        yield
    except OSError as error:
        words = "it becomes another user, which takes CAP_SETUID, CAP_SETGID, CAP_CHOWN and CAP_DAC_OVERRIDE"
        raise click.ClickException(f"giving up what root may do: {error.strerror}: {words}") from None
