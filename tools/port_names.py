"""The ports of other hosts in lookup records: a data plane knows its own alone, the store that its agent
follows knows all.
"""

import os
from typing import Any

import click

from tools.options import opened
from tools.text import number


def name_ports(rows: list[dict[str, Any]], instance: str, location: str | None) -> list[dict[str, Any]]:
    """The rows with the ports that the store at the location names, or else that of the instance's agent;
    where that can't be said, with why on stderr.
    """
    from policy.errors import PolicyError
    from policy.service import port_names
    from policy.store.reading import Reading

    nameless = [row for row in rows if row["port"] is None]
    if not nameless:
        return rows
    try:
        location = location or _followed(instance)
    except PermissionError as error:
        _say(f"{error.filename}, which names the agent's store, may not be read")
        return rows
    if not location:
        _say("no agent of this instance says which store it follows; --store names one")
        return rows
    try:
        with opened(location) as store:
            names = port_names.names_of(Reading(store), {row["virtualSubnetId"] for row in nameless})
    except PolicyError as error:
        _say(str(error))
        return rows
    fields = ("virtualSubnetId", "customerAddress", "macAddress", "host")
    for row in nameless:
        row["port"] = names.get(port_names.Place(*(row[field] for field in fields)))
    if unknown := sum(row["port"] is None for row in nameless):
        _say(f"{number(unknown, 'record')} that {location} does not have, or has otherwise", "some ports")
    return rows


def _followed(instance: str) -> str:
    """Where the instance's agent has its store; "": it does not say. PermissionError: not to us."""
    from policy.store.locations import followed_path

    try:
        return os.fsdecode(followed_path(instance).read_bytes())
    except PermissionError:
        raise
    except OSError:
        return ""


def _say(why: str, what: str = "ports") -> None:
    click.echo(f"{what} of other hosts are not named: {why}", err=True)
