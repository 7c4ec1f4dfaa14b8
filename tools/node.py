"""`isolane node`: what this host's data plane does."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.options import complete_instance

if TYPE_CHECKING:
    from dataplane.client import Client

_COUNTERS = ("received", "originated", "sent", "dropped", "consumed", "held", "rx_kernel", "rx_gso", "tx_gso")
"""What the table of counters has room for; JSON has all."""


@click.group("node", short_help="This host's data plane.")
def command() -> None:
    """Ask the data plane of this host, as root.

    \b
    Example:
      isolane node counters --instance h1
    """


def _options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--instance"],
            help="Of `isolane up`.  [default: the machine's host name]",
            shell_complete=complete_instance,
        ),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["table", "json"]),
            default="table",
            show_default=True,
            help="Output format.",
        ),
    ]


def _add_query(
    method: str,
    text: str,
    lines: Callable[[Any], Iterable[str]],
    query: "Callable[[Client], Callable[..., Any]] | None" = None,
) -> None:
    """A command that prints what a method of the client gives."""

    def run(instance: str | None, output: str) -> None:
        _print(_ask(instance, query or attrgetter(method)), output, lines)

    example = f"\b\nExample:\n  isolane node {method} --instance h1 -o json"
    command.add_command(click.Command(method, callback=run, params=_options(), help=f"{text}\n\n{example}"))


PATIENCE = 10.0
"""Seconds; with a million records an answer takes a few."""


def _ask(instance: str | None, method: "Callable[[Client], Callable[..., Any]]", **params: object) -> Any:
    from dataplane.client import Client, ClientError

    try:
        with Client(instance or socket.gethostname(), PATIENCE) as client:
            return method(client)(**params)
    except ClientError as error:
        raise click.ClickException(str(error)) from None


def _status(client: "Client") -> Callable[[], Any]:
    """With what only this process can see: whether the agent that spoke last still runs."""

    def ask() -> dict[str, Any]:
        status = client.status()
        if agent := status["agent"]:
            agent["running"] = Path(f"/proc/{agent['pid']}").exists()
        tables = {"nextHops" if key == "next_hops" else key: count for key, count in status["tables"].items()}
        return {**status, "tables": tables}

    return ask


def _print(document: Any, output: str, lines: Callable[[Any], Iterable[str]]) -> None:
    for line in [json.dumps(document, indent=2)] if output == "json" else lines(document):
        click.echo(line)


def _fields(document: dict[str, Any]) -> Iterator[str]:
    from tools.text import cell, words

    for key, value in document.items():
        yield f"{words(key)}: {cell(value)}"


def _rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    from tools.text import columns

    yield from columns(rows)


def _sections(document: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    from tools.text import words

    for key, rows in document.items():
        yield f"{words(key)}: {len(rows) or 'none'}"
        yield from (f"  {line}" for line in _rows(rows))


def _counter_lines(document: dict[str, Any]) -> Iterator[str]:
    """A line a port, then the reasons that count, then the subnets."""
    ports = {**document["ports"], "all": document}
    drops = [
        {"port": name, "reason": reason, "packets": count}
        for name, port in document["ports"].items()
        for reason, count in port["drops"].items()
    ]
    yield from _rows(
        [{"port": name, **{key: port[key] for key in _COUNTERS}} for name, port in ports.items()]
    )
    for rows in (drops, document["subnets"]):
        if rows:
            yield ""
            yield from _rows(rows)


_add_query("status", "What runs, how full its tables are, and what the agent says.", _fields, _status)
_add_query("ports", "The tenant ports of this host and their devices.", _rows)
_add_query("records", "The lookup records: (VSID, CA) to MAC, PA, host and translation.", _rows)
_add_query("routes", "Customer routes by VM network, and provider routes.", _sections)
_add_query("neighbours", "Provider next hops and their MACs.", _rows)
_add_query("counters", "Packets by port; of those that died, by reason.", _counter_lines)


class _Address(click.ParamType[str]):
    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(ip_address(value))
        except ValueError:
            self.fail(f"{value!r} is not an IP address", param, ctx)


def _ping(client: "Client") -> Callable[[str, float], Any]:
    """One of our own is nobody else's to answer for."""
    from dataplane.client import ClientError

    def ask(address: str, seconds: float) -> Any:
        if address in client.status()["providerAddresses"]:
            raise click.ClickException(f"ping-pa: {address} is this host's own")
        try:
            return client.ping_pa(address, seconds)
        except ClientError as error:
            raise click.ClickException(str(error).replace("ping_pa", "ping-pa", 1)) from None

    return ask


def _ping_pa(address: str, seconds: float, instance: str | None, output: str) -> None:
    found = _ask(instance, _ping, address=address, seconds=seconds)
    _print(found, output, lambda neighbour: [f"{neighbour['address']} is at {neighbour['mac']}"])


command.add_command(
    click.Command(
        "ping-pa",
        callback=_ping_pa,
        params=[
            click.Argument(["address"], type=_Address()),
            click.Option(
                ["--seconds"],
                default=3.5,
                show_default=True,
                type=click.FloatRange(0.1, 60),
                help="How long to wait.",
            ),
            *_options(),
        ],
        help="Resolve a Provider Address of another host from here; exit status 1 if nobody answers.\n\n"
        "\b\nExample:\n  isolane node ping-pa 192.168.77.102 --instance h1",
    )
)
