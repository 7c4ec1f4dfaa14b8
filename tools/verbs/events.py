"""`isolane events`, `history`, `rollback`: what happened to intent and on hosts, and the way back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tools import formats, kinds, selection
from tools.formats import Output
from tools.options import opened, service_of, store_option, tenant_options, timeout_option
from tools.progress import shows_progress
from tools.selection import Selection, objects_argument
from tools.text import age, columns
from tools.verbs.apply import DRY_RUN, WAIT_SECONDS, print_outcomes, wait_for_hosts

if TYPE_CHECKING:
    from policy.service.events import Event
    from policy.service.history import Entry
    from policy.service.service import Service
    from policy.store.contract import Store

PATIENCE = 3600.0

Wanted = Callable[["Event"], bool]


def _last_option(most: int) -> Callable[[Any], Any]:
    return click.option(
        "-n",
        "--last",
        "most",
        default=most,
        show_default=True,
        type=click.IntRange(min=0),
        metavar="N",
        help="The newest N.",
    )


_no_headers = click.option("--no-headers", is_flag=True, help="No headings.")


@click.command("events", short_help="What happened to intent and on hosts.")
@objects_argument(required=False)
@store_option
@tenant_options
@_last_option(50)
@formats.output_option("table", "wide", "json")
@_no_headers
@click.option("-w", "--watch", is_flag=True, help="Then print what happens, until Ctrl-C.")
def events(
    words: tuple[str, ...],
    location: str,
    tenant: str | None,
    most: int,
    output: Output,
    no_headers: bool,
    watch: bool,
) -> None:
    """Print events, oldest first: changes of intent, and what hosts made of them; all, or those of objects,
    of kinds or of a tenant. The store remembers those of the last week.

    \b
    Examples:
      isolane events
      isolane events port/blue/web -o wide
      isolane events hosts -w
    """
    from policy.service.principal import OPERATOR
    from policy.service.service import Service
    from policy.store.reading import newest

    wanted = selection.parse(words) if words else None
    with opened(location) as store:
        revision = newest(store)
        service = Service(store, OPERATOR)
        is_wanted = _filter(service, wanted, tenant)
        found = list(filter(is_wanted, service.events()))
        shown = found[-most:] if most else []
        if output.format == "json" and not watch:
            formats.write(output, [asdict(event) for event in shown])
        else:
            for line in _lines(shown, output, not no_headers):
                click.echo(line)
        if watch:
            _follow(store, revision, lambda event: is_wanted(event) and _print(event, output))


def _print(event: "Event", output: Output) -> bool:
    for line in _lines([event], output, headings=False):
        click.echo(line)
    return True


def _filter(service: "Service", wanted: Selection | None, tenant: str | None) -> Wanted:
    if wanted is None:
        return lambda event: tenant is None or any(_is_of(name, tenant) for name in event.objects)
    about = {str(_identity(service, kind, name, tenant)) for kind, name in wanted.names}
    starts = tuple(f"{kind} " for kind in wanted.kinds)

    def is_wanted(event: "Event") -> bool:
        found = [name for name in event.objects if name in about or (starts and name.startswith(starts))]
        return any(tenant is None or about or _is_of(name, tenant) for name in found)

    return is_wanted


def _is_of(printed: str, tenant: str) -> bool:
    """Whether an object, as events name it, is the tenant's."""
    kind, _, name = printed.partition(" ")
    return name.startswith(f"{tenant}/") or (kind, name) == ("Tenant", tenant)


def _identity(service: "Service", kind: str, name: str, tenant: str | None) -> object:
    """Also of what is not there any more, if all of its name is said."""
    from policy.errors import NotFoundError, ObjectId

    owner, _, short = name.rpartition("/")
    try:
        [found] = selection.find(service, Selection((), ((kind, name),)), tenant)
    except NotFoundError:
        if not (owner or tenant or not kinds.take_tenants(kind)):
            raise
        return ObjectId(kind, owner or (tenant or "" if kinds.take_tenants(kind) else ""), short)
    return found


def _lines(found: "list[Event]", output: Output, headings: bool) -> Iterator[str]:
    import json

    if output.format == "json":
        return (json.dumps(asdict(event)) for event in found)
    rows = [_row(event) for event in found]
    return columns(rows, () if output.format == "wide" else ("age", "source", "what", "objects"), headings)


def _row(event: "Event") -> dict[str, Any]:
    from policy.service.views import timestamp

    return {
        "time": timestamp(event.time),
        "age": age(time.time() - event.time),
        "source": event.source,
        "who": event.who,
        "what": event.text,
        "objects": list(event.objects),
    }


def _follow(store: "Store", revision: int, tell: "Callable[[Event], object]") -> None:
    """Until Ctrl-C, which is how this ends well."""
    from policy.kinds import keys
    from policy.service import events as told

    try:
        with store.watch(revision, [keys.EVENTS]) as watch:
            while True:
                batch = watch.next(PATIENCE)
                for key, value in batch.changes if batch else ():
                    for event in told.read({key: value}) if value is not None else ():
                        tell(event)
    except KeyboardInterrupt:
        return


@click.command("history", short_help="The changes of intent.")
@objects_argument(required=False)
@store_option
@tenant_options
@_last_option(20)
@formats.output_option("table", "wide", "json")
@_no_headers
def history(
    words: tuple[str, ...], location: str, tenant: str | None, most: int, output: Output, no_headers: bool
) -> None:
    """Print the changes of intent, oldest first, each with the revision that it made, to which `isolane
    rollback` can go back; all, or those of objects or a tenant.

    \b
    Examples:
      isolane history
      isolane history port/blue/web
    """
    wanted = selection.parse(words) if words else None
    with service_of(location) as service:
        is_wanted = _filter(service, wanted, tenant)
        found = [entry for entry in service.history() if is_wanted(entry.event)]
    rows = [_entry(entry) for entry in (found[-most:] if most else [])]
    if output.format == "json":
        formats.write(output, rows)
        return
    narrow = () if output.format == "wide" else ("revision", "age", "source", "what", "objects")
    for line in columns(rows, narrow, not no_headers):
        click.echo(line)


def _entry(entry: "Entry") -> dict[str, Any]:
    return {"revision": entry.revision, **_row(entry.event)}


@click.command("rollback", short_help="Go back to an earlier revision.")
@store_option
@click.option(
    "--to-revision",
    required=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="A revision of `isolane history`.",
)
@click.option("--dry-run", is_flag=True, help="Check and print, change nothing.")
@click.option("--wait", is_flag=True, help="Return when every host that it concerns has applied it.")
@timeout_option(WAIT_SECONDS)
@shows_progress
def rollback(location: str, to_revision: int, dry_run: bool, wait: bool, timeout: float) -> None:
    """Make the intent what it was at an earlier revision: what has changed since changes back, what is new
    goes, what has gone comes again. That is a new change, to which or from which one can go back too.

    What objects left out may be given other values than then.

    \b
    Example:
      isolane history
      isolane rollback --to-revision 7 --dry-run
    """
    with service_of(location) as service:
        done = service.rollback(to_revision, dry_run=dry_run)
        print_outcomes(done, DRY_RUN if dry_run else "")
        if not done.outcomes:
            click.echo("nothing has changed since", err=True)
        if wait and not dry_run:
            wait_for_hosts(service, done, timeout)
