"""Options and arguments that the commands on intent share, and how they complete."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from policy.store import DEFAULT_LOCATION, LOCATION_VARIABLE, NoStoreError, Store, open_store

if TYPE_CHECKING:
    from policy.errors import Problem
    from policy.model import Intent, Labels
    from policy.store import Reading

F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    return click.option(
        "--store",
        "location",
        envvar=LOCATION_VARIABLE,
        default=DEFAULT_LOCATION,
        show_default=True,
        show_envvar=True,
        callback=check_location,
        help="The store of intent.",
    )(command)


def files_option(required: bool = True) -> Callable[[F], F]:
    return click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        required=required,
        callback=_files,
        type=click.Path(exists=True, allow_dash=True, path_type=Path),
        help="Manifest, directory of *.yaml, or - for standard input; repeatable, taken all together.",
    )


def output_option(*formats: str) -> Callable[[F], F]:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def labels_option(text: str) -> Callable[[F], F]:
    return click.option("-l", "--labels", callback=_labels, default="", metavar="KEY=VALUE[,…]", help=text)


def check_location(context: click.Context, parameter: click.Option, location: str | None) -> str | None:
    by_default = context.get_parameter_source("location") is ParameterSource.DEFAULT
    unset = by_default and parameter.envvar and os.environ.get(LOCATION_VARIABLE) == ""
    if unset or location == "":  # click takes an empty variable for none
        raise click.BadParameter("empty: it is the location of a store")
    return location


def _files(_context: click.Context, _parameter: click.Parameter, given: tuple[Path, ...]) -> list[Path]:
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            found = sorted([*path.glob("*.yaml"), *path.glob("*.yml"), *path.glob("*.json")])
            if not found:
                raise click.BadParameter(f"no *.yaml in {path}")
            files += found
        else:
            files.append(path)
    return files


def _labels(_context: click.Context, _parameter: click.Parameter, text: str) -> "Labels":
    pairs = [part.partition("=") for part in text.split(",") if part]
    if not all(key and equals for key, equals, _ in pairs):
        raise click.BadParameter("KEY=VALUE, several with commas between them")
    return tuple(sorted((key, value) for key, _, value in pairs))


@contextmanager
def opened(location: str, create: bool = True) -> Iterator[Store]:
    """create: make the store if there is none; else that is a NoStoreError."""
    store = open_store(location, create)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def opened_or_empty(location: str) -> Iterator[Store]:
    """An empty one where there is none yet, unless the operator has said that there is one."""
    from policy.store_memory import MemoryStore

    with ExitStack() as stack:
        try:
            store: Store = stack.enter_context(opened(location, create=False))
        except NoStoreError as error:
            source = click.get_current_context().get_parameter_source("location")
            if source is not ParameterSource.DEFAULT:
                raise
            click.echo(f"{error} yet: taken as empty", err=True)
            store = MemoryStore()
        yield store


Stated: TypeAlias = "tuple[Intent, list[Problem]]"
"""What manifests state, and what is wrong with their form."""


def read_manifests(files: list[Path]) -> Stated:
    """What they state, and what is wrong with their form. PolicyError: they state nothing."""
    from policy import manifest
    from policy.errors import PolicyError

    intent, problems = manifest.read(files)
    if not intent.by_id and not problems:
        names = ("standard input" if path == manifest.STDIN else str(path) for path in files)
        raise PolicyError(f"no objects in {', '.join(names)}")
    return intent, problems


def plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


class KindArgument(click.ParamType[str]):
    """A kind, in the singular or plural, in any case."""

    name = "kind"

    def convert(self, value: str, _parameter: click.Parameter | None, _context: click.Context | None) -> str:
        from policy.schema import KINDS

        for kind in KINDS:
            if value.lower() in (kind.lower(), plural(kind).lower()):
                return kind
        raise click.BadParameter(f"{value!r} is not a kind; kinds: {', '.join(KINDS)}")

    def shell_complete(
        self, _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from policy.schema import KINDS

        return [CompletionItem(kind) for kind in KINDS if kind.lower().startswith(incomplete.lower())]


Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _from_store(names: "Callable[[Reading, click.Context, str], list[str]]") -> Complete:
    """What the store says; nothing when there is none."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from policy.errors import PolicyError
        from policy.store import Reading

        location = context.params.get("location") or DEFAULT_LOCATION
        try:
            with opened(location, create=False) as store:
                found = names(Reading(store), context, incomplete)
        except PolicyError:
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


def _names(reading: "Reading", context: click.Context, incomplete: str) -> list[str]:
    """Of the kind on the command line."""
    from policy import finding

    kind = context.params.get("kind")
    return finding.names(reading, kind, incomplete) if kind else []


def _tenants(reading: "Reading", _context: click.Context, _incomplete: str) -> list[str]:
    from policy import finding

    return finding.tenants(reading)


def _hosts(reading: "Reading", _context: click.Context, _incomplete: str) -> list[str]:
    from policy import documents

    return _managed(documents.intent_from(reading.under(documents.prefix_of("Host"))))


def _managed(intent: "Intent") -> list[str]:
    return [host.name for host in intent.hosts if host.managed]


complete_name = _from_store(_names)
complete_tenant = _from_store(_tenants)
complete_host = _from_store(_hosts)


def complete_host_of_files(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Of the FILEs before it on the command line."""
    from policy import manifest
    from policy.errors import ManifestError

    files = context.params.get("files") or map(Path, context.args)  # args: click reads no further than --host
    try:
        stated, _problems = manifest.read(files)
    except ManifestError:
        return []
    return [CompletionItem(name) for name in _managed(stated) if name.startswith(incomplete)]


def complete_instance(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Of the data planes that run here."""
    from dataplane import server

    sockets = server.RUN_DIRECTORY.glob(server.socket_path("*").relative_to(server.RUN_DIRECTORY).as_posix())
    names = sorted(path.parent.name for path in sockets)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
