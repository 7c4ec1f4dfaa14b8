"""`isolane compile`: the tables a host would get, offline."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from tools.formats import Output, output_option
from tools.options import complete_host_of_files, files_option
from tools.progress import shown

# Which field tells the rows of a table apart, for -o name.
_NAMES = {
    "providerAddresses": ("providerAddress", ("address",)),
    "records": ("record", ("virtualSubnetId", "customerAddress")),
    "customerRoutes": ("customerRoute", ("routingDomain", "prefix")),
    "providerRoutes": ("providerRoute", ("prefix",)),
    "subnets": ("subnet", ("virtualSubnetId",)),
}

RECORD_COLUMNS = (
    "virtualSubnetId",
    "customerAddress",
    "macAddress",
    "providerAddress",
    "translation",
    "host",
    "port",
)
"""Of lookup records, those that a table has room for."""

NARROW = {"records": RECORD_COLUMNS}


@click.command("compile", short_help="The tables a host would get, offline.")
@files_option()
@click.option(
    "--host",
    required=True,
    help="Name of the Host whose tables to print.",
    shell_complete=complete_host_of_files,
)
@output_option("table", "wide", "json", "yaml", "name")
def command(files: list[Path], host: str, output: Output) -> None:
    """Compile manifests into the tables that one host would get.

    They hold every record of every VM network that has a port on the host, and nothing of any other. All
    FILEs together are one policy; if anything is wrong with it, all of that is reported with file and line.

    \b
    Example:
      isolane compile examples/blue-red.yaml --host h1 -o json
    """
    from policy.compile import compiler
    from policy.kinds.steps import step
    from policy.service import resolve

    with shown():
        policy = resolve.load(files)
        with step("compiling"):
            text = "\n".join(_FORMATS[output.format](compiler.compile_host(policy, host).view()))
    click.echo(text)


def _json(view: dict[str, Any]) -> Iterator[str]:
    yield json.dumps(view, indent=2)


def _yaml(view: dict[str, Any]) -> Iterator[str]:
    import yaml

    yield yaml.safe_dump(view, sort_keys=False).rstrip()


def _name(view: dict[str, Any]) -> Iterator[str]:
    for key, (noun, fields) in _NAMES.items():
        for row in view[key]:
            yield "/".join([noun, *(str(row[field]) for field in fields)])


def _table(view: dict[str, Any]) -> Iterator[str]:
    """The arrays one below the other; of the columns those that fit beside each other."""
    yield from _sections(view, NARROW)


def _wide(view: dict[str, Any]) -> Iterator[str]:
    yield from _sections(view, {})


def _sections(view: dict[str, Any], narrow: Mapping[str, Collection[str]]) -> Iterator[str]:
    from tools.text import columns, words

    yield f"host {view['host']}, generation {view['generation']}"
    for key in _NAMES:
        yield ""
        yield click.style(f"{words(key)}: {len(view[key]) or 'none'}", bold=True)
        yield from (f"  {line}" for line in columns(view[key], narrow.get(key, ())))


_FORMATS = {"table": _table, "wide": _wide, "json": _json, "yaml": _yaml, "name": _name}
