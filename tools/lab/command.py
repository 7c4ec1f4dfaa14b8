"""`isolane lab`: its commands."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click

from tools import here
from tools.errors import Failure, Group
from tools.formats import Output, output_option
from tools.lab.build import DEFAULT_PREFIX, apply, down, status, up
from tools.lab.state import LabError, NoLabError, State
from tools.options import files_option
from tools.progress import shown

PREFIX_VARIABLE = "ISOLANE_PREFIX"


def _check_prefix(_context: click.Context, _parameter: click.Parameter, prefix: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", prefix):
        raise click.BadParameter("1 to 32 letters, digits, '.', '_' or '-', the first a letter or digit")
    return prefix


_prefix = click.option(
    "--prefix",
    default=DEFAULT_PREFIX,
    show_default=True,
    envvar=PREFIX_VARIABLE,
    show_envvar=True,
    callback=_check_prefix,
    help="Goes before every namespace's name.",
)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    if os.geteuid() != 0:
        raise Failure("a lab is made of network namespaces: run this as root")
    try:
        yield
    except NoLabError as error:
        raise Failure(str(error), here.labs_hint()) from None
    except LabError as error:
        raise Failure(str(error)) from None


@click.group("lab", cls=Group, short_help="A fabric in network namespaces.")
def command() -> None:
    """Run the hosts and VMs of a manifest on this machine, in network namespaces.

    \b
    Example:
      isolane lab up -f examples/blue-red.yaml
      ip netns exec isl-blue-web ping 10.1.1.20
      isolane lab down
    """


@command.command("up")
@files_option()
@_prefix
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 8), help="Packet threads of each host."
)
def up_command(files: list[Path], prefix: str, workers: int) -> None:
    """Build a lab; returns when every host resolves the others' Provider Addresses.

    Hosts get namespaces PREFIX+name, VMs PREFIX+attach.netns, the physical network is br0 in PREFIX+fabric.
    On an unmanaged host nothing runs: its underlay device is there, with its MAC. What fails leaves nothing
    behind.

    \b
    Example:
      isolane lab up -f examples/blue-red.yaml --prefix test-
    """
    with _errors():
        up(files, prefix, lambda text: click.echo(f"lab {prefix}: {text}", err=True), workers)


@command.command("apply")
@files_option()
@_prefix
def apply_command(files: list[Path], prefix: str) -> None:
    """Apply manifests to a running lab, and give new VMs namespaces, addresses and default routes.

    The lab's store can be worked with by other commands too: its file is PREFIX.store in /run/isolane/labs.

    \b
    Example:
      isolane lab apply -f more.yaml
    """
    with _errors(), shown():
        plan = apply(files, prefix)
    for identity, outcome in plan.outcomes:
        click.echo(f"{identity.kind.lower()}/{identity.qualified_name} {outcome}")


@command.command("status")
@_prefix
@output_option("table", "wide", "json")
def status_command(prefix: str, output: Output) -> None:
    """What a lab is made of.

    \b
    Example:
      isolane lab status -o json
    """
    from tools.text import columns

    with _errors():
        document = status(prefix)
    if output.format == "json":
        click.echo(json.dumps(document, indent=2))
        return
    for rows, narrow in ((document["hosts"], _HOST_COLUMNS), (document["ports"], _PORT_COLUMNS)):
        for line in columns(rows, () if output.format == "wide" else narrow):
            click.echo(line)
        click.echo()


_HOST_COLUMNS = ("name", "netns", "managed", "providerAddresses")
_PORT_COLUMNS = ("tenant", "name", "netns", "device", "addresses", "host", "virtualSubnetId")


@command.command("list")
def list_command() -> None:
    """The prefixes of the labs on this machine.

    \b
    Example:
      isolane lab list
    """
    found = here.labs()
    for prefix in found:
        click.echo(prefix)
    if not found:
        click.echo("no labs", err=True)


@command.command("down")
@_prefix
def down_command(prefix: str) -> None:
    """Remove a lab: its processes and namespaces, and nothing else.

    \b
    Example:
      isolane lab down
    """
    from tools.text import number

    with _errors():
        removed = State.load(prefix)
        down(prefix)
    what = number(len(removed.processes), "host"), number(len(removed.namespaces), "namespace")
    click.echo(f"lab {prefix}: {' and '.join(what)} removed", err=True)
