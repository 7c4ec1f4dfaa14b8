"""`isolane node`: what this host's data plane does."""

import json
import socket
import textwrap
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools import formats
from tools.data_plane import meaning
from tools.errors import Failure, Group
from tools.formats import Output
from tools.options import Seconds, check_location, complete_instance
from tools.verbs.compile import RECORD_COLUMNS

if TYPE_CHECKING:
    from dataplane.process.client import Client

_COUNTERS = ("received", "originated", "sent", "dropped", "consumed", "held")
_MORE_COUNTERS = ("rx_kernel", "rx_gso", "tx_gso", "icmp_limited")
"""What the table of counters has room for, and what -o wide has besides; JSON has all."""

_PORT_COLUMNS = ("name", "virtualSubnetId", "mac", "kind", "device", "mtu")

_MEANING_WIDTH = 56
_SHOWN = 3
"""Of a list in `status`, at most."""

Lines = Callable[[Any, bool], Iterable[str]]
"""Of a document; the second: whether all columns are wanted."""


@click.group("node", cls=Group, short_help="This host's data plane.")
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
        formats.output_parameter("table", "wide", "json"),
    ]


def _add_query(
    method: str,
    text: str,
    lines: Lines,
    query: "Callable[[Client], Callable[..., Any]] | None" = None,
) -> None:
    """A command that prints what a method of the client gives."""

    def run(instance: str | None, output: Output) -> None:
        _print(_ask(instance, query or attrgetter(method)), output, lines)

    _add(method, text, run)


def _add(name: str, text: str, run: Callable[..., None], *options: click.Parameter) -> None:
    text = f"{text}\n\n\b\nExample:\n  isolane node {name} --instance h1 -o json"
    command.add_command(click.Command(name, callback=run, params=[*_options(), *options], help=text))


def _records(instance: str | None, location: str | None, output: Output) -> None:
    from policy.kinds.steps import step
    from tools.port_names import name_ports
    from tools.progress import shown

    with shown():
        with step("asking the data plane"):
            rows = _ask(instance, attrgetter("records"))
        named = name_ports(rows, instance or socket.gethostname(), location)
    _print(named, output, _rows(*RECORD_COLUMNS))


PATIENCE = 10.0
"""Seconds; with a million records an answer takes a few."""


def _ask(instance: str | None, method: "Callable[[Client], Callable[..., Any]]", **params: object) -> Any:
    from dataplane.process.client import Client, ClientError

    try:
        with Client(instance or socket.gethostname(), PATIENCE) as client:
            return method(client)(**params)
    except ClientError as error:
        from tools import here

        missing = not instance or instance not in here.instances()
        raise Failure(str(error), here.instances_hint() if missing else "") from None


def _status(client: "Client") -> Callable[[], Any]:
    """With what only this process can see: whether the agent that spoke last still runs."""

    def ask() -> dict[str, Any]:
        status = client.status()
        agent: dict[str, Any] = {**status["agent"]}
        underlay = {**status["underlay"], "link": agent.pop("link", None)}
        if "pid" in agent:
            agent["running"] = Path(f"/proc/{agent['pid']}").exists()
        tables = {"nextHops" if key == "next_hops" else key: count for key, count in status["tables"].items()}
        return {**status, "underlay": underlay, "tables": tables, "agent": agent}

    return ask


def _print(document: Any, output: Output, lines: Lines) -> None:
    found = lines(document, output.format == "wide") if output.is_table else [json.dumps(document, indent=2)]
    for line in found:
        click.echo(line)


def _fields(document: dict[str, Any], wide: bool) -> Iterator[str]:
    from tools.text import cell, words

    for key, value in document.items():
        many = isinstance(value, list) and len(value) > _SHOWN and not wide
        yield f"{words(key)}: {f'{len(value)}, -o wide lists them' if many else cell(value)}"


def _rows(*narrow: str) -> Lines:
    """narrow: the columns that a table has room for."""
    from tools.text import columns

    return lambda rows, wide: columns(rows, () if wide else narrow)


def _sections(document: dict[str, list[dict[str, Any]]], wide: bool) -> Iterator[str]:
    from tools.text import columns, words

    for key, rows in document.items():
        yield f"{words(key)}: {len(rows) or 'none'}"
        yield from (f"  {line}" for line in columns(rows))


def _counter_lines(document: dict[str, Any], wide: bool) -> Iterator[str]:
    """A line a port, then the reasons that count, then the subnets."""
    from tools.text import columns

    ports = {**document["ports"], "all": document}
    shown = _COUNTERS + (_MORE_COUNTERS if wide else ())
    drops = [
        {"port": name, "reason": reason, "packets": count, "meaning": _cut(meaning(reason), wide)}
        for name, port in document["ports"].items()
        for reason, count in port["drops"].items()
    ]
    yield from columns([{"port": name, **{key: port[key] for key in shown}} for name, port in ports.items()])
    for rows in (drops, document["subnets"]):
        if rows:
            yield ""
            yield from columns(rows)


def _cut(text: str, wide: bool) -> str:
    return text if wide else textwrap.shorten(text, _MEANING_WIDTH, placeholder=" …")


_add_query("status", "What runs, how full its tables are, and what the agent says.", _fields, _status)
_add_query("ports", "The tenant ports of this host and their devices.", _rows(*_PORT_COLUMNS))
_add(
    "records",
    "The lookup records: (VSID, CA) to MAC, PA, host and translation.\n\nOf other hosts' ports the data plane"
    " knows the host alone: the agent's store names them, where it may be read and has the same record; else"
    " PORT is a dash (JSON: null), and stderr says why.",
    _records,
    click.Option(
        ["--store", "location"],
        callback=check_location,
        help="The store that names ports of other hosts.  [default: the one that the agent follows]",
    ),
)
_add_query("routes", "Customer routes by VM network, and provider routes.", _sections)
_add_query("neighbours", "Provider next hops and their MACs.", _rows())
_add_query(
    "counters",
    "Packets by port; of those that died, by reason.\n\nRECEIVED and DROPPED count at the port where a packet"
    " came in, SENT where it left. ORIGINATED: made by the core itself, such as answers to ARP and copies of"
    " a broadcast. CONSUMED: ended here as intended, answered or merged into another packet. HELD: waits for"
    " a next hop. Received and originated are the sum of all others. A drop `multicast` or `no-receiver` is"
    " usual: VMs send multicast that nobody asked for.",
    _counter_lines,
)


class _Address(click.ParamType[str]):
    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(ip_address(value))
        except ValueError:
            self.fail(f"{value!r} is not an IP address", param, ctx)


def _ping(client: "Client") -> Callable[[str, float], Any]:
    """One of our own is nobody else's to answer for."""
    from dataplane.process.client import ClientError

    def ask(address: str, seconds: float) -> Any:
        if address in client.status()["providerAddresses"]:
            raise Failure(f"ping-pa: {address} is this host's own")
        try:
            return client.ping_pa(address, seconds)
        except ClientError as error:
            raise Failure(str(error).replace("ping_pa", "ping-pa", 1)) from None

    return ask


def _ping_pa(address: str, seconds: float, instance: str | None, output: Output) -> None:
    found = _ask(instance, _ping, address=address, seconds=seconds)
    _print(found, output, lambda neighbour, _: [f"{neighbour['address']} is at {neighbour['mac']}"])


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
                type=Seconds(0.1, 60),
                help="How long to wait.",
            ),
            *_options(),
        ],
        help="Resolve a Provider Address of another host from here; exit status 1 if nobody answers.\n\n"
        "\b\nExample:\n  isolane node ping-pa 192.168.77.102 --instance h1",
    )
)
