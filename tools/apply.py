"""`isolane check`, `diff`, `apply`, `delete`: changes of intent."""

import difflib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from policy.store import NoStoreError, Store
from tools.options import (
    KindArgument,
    check_location,
    complete_name,
    files_option,
    labels_option,
    opened,
    opened_or_empty,
    read_manifests,
    store_option,
)

if TYPE_CHECKING:
    from policy.errors import ObjectId
    from policy.intent import Change, Plan
    from policy.model import Labels, Object
    from policy.store import Reading

WAIT_SECONDS = 60.0
DRY_RUN = " (dry run)"


@click.command("check", short_help="Whether manifests are right.")
@files_option()
@click.option(
    "--store",
    "location",
    callback=check_location,
    help="Check them together with what is in this store.  [default: the manifests alone]",
)
def check(files: list[Path], location: str | None) -> None:
    """Check manifests, all together, and print everything that is wrong with file and line.

    They are checked alone, without any store, or with --store together with all that it has: as apply would.
    Exit status 1 if anything is wrong.

    \b
    Examples:
      isolane check -f examples/blue-red.yaml
      isolane check -f port.yaml --store /var/lib/isolane/store.db
    """
    from policy import intent
    from policy.store_memory import MemoryStore

    with nullcontext(MemoryStore()) if location is None else opened(location, create=False) as store:
        checked = len(intent.plan(store, intent.apply(*read_manifests(files))).outcomes)
    alone = ", checked alone, without a store" if location is None else ""
    click.echo(f"no problems in {checked} object{'s' if checked != 1 else ''}{alone}", err=True)


@click.command("diff", short_help="What apply would change.")
@files_option()
@store_option
def diff(files: list[Path], location: str) -> None:
    """Print how manifests differ from what is stored, as a unified diff.

    Exit status 0: they don't, 1: they do, 2: trouble, such as manifests that are wrong.

    \b
    Example:
      isolane diff -f net.yaml
    """
    from policy import intent
    from policy.errors import PolicyError

    try:
        with opened_or_empty(location) as store:
            plan = intent.plan(store, intent.apply(*read_manifests(files)))
    except PolicyError as error:
        click.echo(error, err=True)
        sys.exit(2)
    lines = list(_difference(plan))
    for line in lines:
        click.echo(click.style(line, fg=_colour(line)))
    sys.exit(1 if lines else 0)


def _difference(plan: "Plan") -> Iterator[str]:
    for identity, _ in plan.outcomes:
        before, after = plan.before.by_id.get(identity), plan.after.by_id.get(identity)
        names = f"store: {identity}", f"stated: {identity}"
        yield from difflib.unified_diff(_lines(before), _lines(after), *names, lineterm="")


def _lines(item: "Object | None") -> list[str]:
    import yaml

    from policy import documents

    if item is None:
        return []
    text: str = yaml.safe_dump(documents.encode(item), sort_keys=False)
    return text.splitlines()


def _colour(line: str) -> str | None:
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[0])


class _Seconds(click.ParamType[float]):
    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = -1.0
        with suppress(ValueError):
            seconds = float(value)
        if not seconds >= 0:  # NaN neither
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


@click.command("apply", short_help="Make manifests so.")
@files_option()
@store_option
@click.option("--dry-run", is_flag=True, help="Check and print, change nothing.")
@click.option(
    "--wait",
    is_flag=False,
    flag_value=WAIT_SECONDS,
    type=_Seconds(),
    metavar="[SECONDS]",
    help="Return when every host has applied it, or fail after so many seconds; early, after 3 s, when a host"
    f" says that it failed and does not get over it.  [{WAIT_SECONDS:.0f} if given without a number]",
)
@click.option("--prune", is_flag=True, help="Delete objects with the labels of -l that are not in the files.")
@labels_option("Labels of the objects that --prune may delete.")
def apply(
    files: list[Path], location: str, dry_run: bool, wait: float | None, prune: bool, labels: "Labels"
) -> None:
    """Make the store say what manifests say: all of it, or nothing if anything is wrong.

    Everything stored is checked with it; what is wrong is printed with file and line. What the files don't
    mention stays. Applied again it changes nothing. Where there is no store yet, it makes one.

    \b
    Examples:
      isolane apply -f net.yaml --wait
      isolane apply -f team/ --prune -l team=blue --dry-run
    """
    from policy import documents, intent

    if prune != bool(labels):
        raise click.UsageError("--prune and -l go together: the labels say what may be deleted")
    change = intent.apply(*read_manifests(files), prune=labels)
    if dry_run:
        with opened_or_empty(location) as store:
            _print_outcomes(intent.plan(store, change), DRY_RUN)
        return
    with _opened_for(location, change) as store:
        revision, plan = intent.commit(store, change)
        _print_outcomes(plan)
        if wait is not None:
            snapshot = store.snapshot(documents.prefix_of("Host"), intent.HOST_PREFIX)
            hosts = documents.policy_from(snapshot.items)
            if alone := intent.without_agent(snapshot, hosts):
                click.echo(f"{intent.NO_AGENT}: {', '.join(alone)}", err=True)
            ports = {identity.name for identity, _ in plan.outcomes if identity.kind == "Port"}
            intent.wait_applied(store, hosts, revision, wait, _print_behind, ports)


@contextmanager
def _opened_for(location: str, change: "Change") -> Iterator[Store]:
    """The store, made if there is none; not for what is wrong."""
    from policy import intent
    from policy.store_memory import MemoryStore

    with ExitStack() as stack:
        try:
            store = stack.enter_context(opened(location, create=False))
        except NoStoreError:
            intent.plan(MemoryStore(), change)
            store = stack.enter_context(opened(location))
        yield store


def _print_outcomes(plan: "Plan", remark: str = "") -> None:
    for identity, outcome in plan.outcomes:
        click.echo(f"{identity} {outcome}{remark}")


def _print_behind(hosts: list[str]) -> None:
    click.echo(f"waiting for {', '.join(hosts)}", err=True)


@click.command("delete", short_help="Delete objects.")
@click.argument("kind", type=KindArgument(), required=False)
@click.argument("names", metavar="[NAME…]", nargs=-1, shell_complete=complete_name)
@files_option(required=False)
@store_option
@click.option("--dry-run", is_flag=True, help="Check and print, change nothing.")
@click.option("--cascade", is_flag=True, help="Delete also what refers to them.")
@click.option("--ignore-missing", is_flag=True, help="What is not there is no error.")
def delete(
    kind: str | None,
    names: tuple[str, ...],
    files: list[Path],
    location: str,
    dry_run: bool,
    cascade: bool,
    ignore_missing: bool,
) -> None:
    """Delete objects, by kind and name or all that manifests state; nothing if one is still referred to.

    A NAME is NAME or TENANT/NAME.

    \b
    Examples:
      isolane delete port blue/web
      isolane delete -f net.yaml
      isolane delete vmnetwork Blue_VMNet --cascade --dry-run
    """
    from policy import intent
    from policy.errors import ManifestError
    from policy.store import Reading

    if bool(files) == bool(kind and names):
        raise click.UsageError("either KIND and NAME, or -f")
    with opened(location, create=False) as store:
        if files:
            stated, problems = read_manifests(files)
            if problems:
                raise ManifestError(problems)
            identities = list(stated.by_id)
        else:
            assert kind is not None
            reading = Reading(store)
            identities = list(_named(reading, kind, names, ignore_missing))
        change = intent.delete(identities, cascade, ignore_missing)
        plan = intent.plan(store, change) if dry_run else intent.commit(store, change, "delete")[1]
    _print_outcomes(plan, DRY_RUN if dry_run else "")


def _named(
    reading: "Reading", kind: str, names: tuple[str, ...], ignore_missing: bool
) -> "Iterator[ObjectId]":
    from policy.finding import NotFoundError, find

    for name in names:
        try:
            yield find(reading, kind, name)
        except NotFoundError:
            if not ignore_missing:
                raise
