"""`isolane compile`: the tables a host would get, offline."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tools.options import complete_host_of_files

# Which field tells the rows of a table apart, for -o name.
_NAMES = {
    "providerAddresses": ("providerAddress", ("address",)),
    "records": ("record", ("virtualSubnetId", "customerAddress")),
    "customerRoutes": ("customerRoute", ("routingDomain", "prefix")),
    "providerRoutes": ("providerRoute", ("prefix",)),
    "subnets": ("subnet", ("virtualSubnetId",)),
}


@click.command("compile", short_help="The tables a host would get, offline.")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--host",
    required=True,
    help="Name of the Host whose tables to print.",
    shell_complete=complete_host_of_files,
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "name"]),
    default="table",
    show_default=True,
    help="Output format.",
)
def command(files: tuple[Path, ...], host: str, output: str) -> None:
    """Compile manifests into the tables that one host would get.

    They hold every record of every VM network that has a port on the host, and nothing of any other. All
    FILEs together are one policy; if anything is wrong with it, all of that is reported with file and line.

    \b
    Example:
      isolane compile examples/blue-red.yaml --host h1 -o json
    """
    from policy import compiler, manifest

    view = compiler.compile_host(manifest.load(files), host).view()
    click.echo("\n".join(_FORMATS[output](view)))


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
    """The arrays one below the other, numbers and addresses as the JSON document has them."""
    from tools.text import columns, words

    yield f"host {view['host']}, generation {view['generation']}"
    for key in _NAMES:
        yield ""
        yield click.style(f"{words(key)}: {len(view[key]) or 'none'}", bold=True)
        yield from (f"  {line}" for line in columns(view[key]))


_FORMATS = {"table": _table, "json": _json, "yaml": _yaml, "name": _name}
