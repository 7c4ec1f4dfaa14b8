"""`isolane check`, `diff`, `apply`: manifests and the store."""

import difflib
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from policy.errors import NoStoreError
from policy.store.contract import Store
from tools import errors
from tools.errors import Misuse
from tools.options import (
    check_location,
    files_option,
    opened,
    opened_or_empty,
    read_manifests,
    selector_option,
    store_option,
    timeout_option,
)
from tools.progress import shows_progress

if TYPE_CHECKING:
    from policy.kinds.manifest import Stated
    from policy.kinds.model import Labels, Object
    from policy.service.selectors import Selector
    from policy.service.service import Done, Service

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
@shows_progress
def check(files: list[Path], location: str | None) -> None:
    """Check manifests, all together, and print everything that is wrong with file and line.

    They are checked alone, without any store, or with --store together with all that it has: as apply would.
    Exit status 1 if anything is wrong.

    \b
    Examples:
      isolane check examples/blue-red.yaml
      isolane check -f port.yaml --store /var/lib/isolane/store.db
    """
    from policy.service.principal import OPERATOR
    from policy.service.service import Service
    from policy.store.memory import MemoryStore
    from tools.text import number

    with nullcontext(MemoryStore()) if location is None else opened(location) as store:
        checked = len(Service(store, OPERATOR).apply(read_manifests(files), dry_run=True).outcomes)
    alone = ", checked alone, without a store" if location is None else ""
    click.echo(f"no problems in {number(checked, 'object')}{alone}", err=True)


@click.command("diff", short_help="What apply would change.")
@files_option(required=False)
@store_option
@click.option("--full", is_flag=True, help="Print new and deleted objects in full.")
@shows_progress
def diff(files: list[Path], location: str, full: bool) -> None:
    """Print how manifests differ from what is stored, as a unified diff, and on stderr how many objects do.

    Of an object that is new one line is printed, or all of it with --full. Exit status 0: they don't differ,
    1: they do, 2: trouble, such as manifests that are wrong.

    \b
    Example:
      isolane diff net.yaml
    """
    from policy.errors import PolicyError
    from policy.service.principal import OPERATOR
    from policy.service.service import Service

    if not files:
        raise Misuse("no manifest is named", "FILE or -f FILE; - is standard input")
    try:
        with opened_or_empty(location) as store:
            done = Service(store, OPERATOR).apply(read_manifests(files), dry_run=True)
    except (PolicyError, errors.Failure) as error:
        errors.report(error)
        sys.exit(2)
    lines = list(_difference(done, full))
    for line in lines:
        click.echo(click.style(line, fg=_colour(line)))
    click.echo(summary(done), err=True)
    sys.exit(1 if lines else 0)


def summary(done: "Done") -> str:
    """`2 created, 1 changed, 14 unchanged`"""
    from policy.service.planning import Outcome
    from tools.text import listed

    counts = Counter(outcome for _, outcome in done.outcomes)
    return listed((str(outcome), counts[outcome]) for outcome in Outcome) or "nothing to do"


def _difference(done: "Done", full: bool) -> Iterator[str]:
    for identity, _ in done.outcomes:
        before, after = done.before[identity], done.after[identity]
        if before is None and not full:
            yield f"+ {identity}"
            continue
        names = f"store: {identity}", f"stated: {identity}"
        yield from difflib.unified_diff(_lines(before), _lines(after), *names, lineterm="")


def _lines(item: "Object | None") -> list[str]:
    import yaml

    from policy.kinds import documents

    if item is None:
        return []
    text: str = yaml.safe_dump(documents.encode(item), sort_keys=False)
    return text.splitlines()


def _colour(line: str) -> str | None:
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[0])


@click.command("apply", short_help="Make manifests so.")
@files_option()
@store_option
@click.option("--dry-run", is_flag=True, help="Check and print, change nothing.")
@click.option(
    "--wait",
    is_flag=True,
    help="Return when every host that the change concerns has applied it, or fail: early, after 3 s, when one"
    " says that it failed and does not get over it.",
)
@timeout_option(WAIT_SECONDS)
@click.option("--prune", is_flag=True, help="Delete objects with the labels of -l that are not in the files.")
@selector_option("Labels of the objects that --prune may delete: a=b; with commas: all of them.")
@shows_progress
def apply(
    files: list[Path],
    location: str,
    dry_run: bool,
    wait: bool,
    timeout: float,
    prune: bool,
    selector: "Selector",
) -> None:
    """Make the store say what manifests say: all of it, or nothing if anything is wrong.

    Everything stored is checked with it; what is wrong is printed with file and line. What the files don't
    mention stays. Applied again it changes nothing. Where there is no store yet, it makes one.

    \b
    Examples:
      isolane apply net.yaml --wait
      isolane apply -f team/ --prune -l team=blue --dry-run
    """
    from policy.service.principal import OPERATOR
    from policy.service.service import Service

    if prune != bool(selector):
        raise Misuse("--prune and -l go together", "the labels say what may be deleted")
    stated, labels = read_manifests(files), _equalities(selector)
    if dry_run:
        with opened_or_empty(location) as store:
            print_outcomes(Service(store, OPERATOR).apply(stated, prune=labels, dry_run=True), DRY_RUN)
        return
    with _opened_for(location, stated) as store:
        service = Service(store, OPERATOR)
        done = service.apply(stated, prune=labels)
        print_outcomes(done)
        if wait:
            wait_for_hosts(service, done, timeout)


def _equalities(selector: "Selector") -> "Labels":
    """What may be deleted has to be said outright."""
    from policy.service.selectors import Operator

    pairs = []
    for each in selector.requirements:
        if each.operator is not Operator.IN or len(each.values) != 1:
            raise Misuse(f"-l: {each.key}: --prune takes KEY=VALUE alone")
        pairs.append((each.key, *each.values))
    return tuple(sorted((key, value) for key, value in pairs))


def wait_for_hosts(service: "Service", done: "Done", timeout: float) -> None:
    """NotAppliedError: a host that it concerns has not applied it in time."""
    from policy.service.host_state import NO_AGENT

    if alone := service.without_agent(done.hosts):
        click.echo(f"{NO_AGENT}: {', '.join(alone)}", err=True)
    service.wait_done(done, timeout, print_behind)


@contextmanager
def _opened_for(location: str, stated: "Stated") -> Iterator[Store]:
    """The store, made if there is none; not for what is wrong."""
    from policy.service.principal import OPERATOR
    from policy.service.service import Service
    from policy.store.memory import MemoryStore

    with ExitStack() as stack:
        try:
            store = stack.enter_context(opened(location))
        except NoStoreError:
            Service(MemoryStore(), OPERATOR).apply(stated, dry_run=True)
            store = stack.enter_context(opened(location, create=True))
        yield store


def print_outcomes(done: "Done", remark: str = "") -> None:
    """`port/blue/web created`, as `get -o name` has it."""
    for identity, outcome in done.outcomes:
        click.echo(f"{identity.kind.lower()}/{identity.qualified_name} {outcome}{remark}")


def print_behind(hosts: list[str]) -> None:
    """Whom a command waits for."""
    from tools.text import number

    named = ", ".join(hosts[:5])
    more = f" and {number(len(hosts) - 5, 'other')}" if len(hosts) > 5 else ""
    click.echo(f"waiting for {named}{more}", err=True)
