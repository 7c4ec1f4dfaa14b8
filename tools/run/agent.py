"""`isolane agent`: the process that knows policy, apart from the one that forwards packets."""

import os
import signal
import socket

import click

from policy.store.locations import absolute, open_store
from tools.options import Seconds, complete_host, complete_instance, store_option
from tools.run.processes import check_instance, die_with, die_with_option, log_level_option, stop_signals


@click.command("agent", short_help="Make the store's intent so on this host.")
@store_option
@click.option(
    "--host",
    help="Name of the Host to be.  [default: the machine's host name]",
    shell_complete=complete_host,
)
@click.option(
    "--instance",
    callback=check_instance,
    help="The data plane's name.  [default: the host's name]",
    shell_complete=complete_instance,
)
@click.option(
    "--resync",
    default=60.0,
    show_default=True,
    type=Seconds(0.1),
    metavar="SECONDS",
    help="How often what is there is compared with what should be.",
)
@log_level_option("info")
@click.option("--netns-prefix", default="", hidden=True, help="Goes before every attach.netns (isolane lab).")
@click.option("--strict", is_flag=True, hidden=True, help="End when not all can be done at the start.")
@click.option("--remove", is_flag=True, hidden=True, help="Remove all devices at the end (isolane up).")
@click.option("--patience", type=Seconds(), hidden=True, help="Seconds for an answer of the data plane.")
@die_with_option
def command(
    location: str,
    host: str | None,
    instance: str | None,
    resync: float,
    log_level: str,
    netns_prefix: str,
    strict: bool,
    remove: bool,
    patience: float | None,
    parent: int | None,
) -> None:
    """Follow the store and make what it says so in the data plane of this host, until SIGTERM or Ctrl-C.

    It opens devices, compiles tables for this host only, pushes what differs, verifies that it is there, and
    repairs what others have changed. Packets need it for nothing: whenever it ends, what it has done stays,
    and its successor goes on from there. Needs root.

    \b
    Example:
      isolane agent --host h1
    """
    if os.geteuid() != 0:
        raise click.ClickException("an agent opens network devices: run it as root")
    die_with(parent)
    stop = stop_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # they wait until all is up, and while it goes
    from dataplane.process import privileges
    from dataplane.process.systemd import notify
    from policy.agent import environment, start
    from tools.run import logs

    logs.configure(log_level)
    privileges.raise_descriptor_limit()
    host = host or socket.gethostname()
    seconds = patience or environment.ANSWER_SECONDS
    options = environment.Options(
        host, instance or host, netns_prefix, remove, strict, resync, seconds, absolute(location)
    )
    start.run(lambda: open_store(location, create=False), options, stop, lambda: notify("READY=1"))
    notify("STOPPING=1")
