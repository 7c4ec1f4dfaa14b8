"""Options and arguments that commands share, and how they complete."""

import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from policy.errors import NoStoreError
from policy.store.contract import Store
from policy.store.locations import DEFAULT_LOCATION, LOCATION_VARIABLE, open_store
from tools.errors import Misuse

if TYPE_CHECKING:
    from policy.kinds.manifest import Stated
    from policy.kinds.model import Intent
    from policy.service.selectors import Selector
    from policy.service.service import Service
    from policy.store.reading import Reading

F = TypeVar("F", bound=Callable[..., Any])

TENANT_VARIABLE = "ISOLANE_TENANT"


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
    """`files`: manifests, as arguments or after -f."""
    shared: dict[str, Any] = {
        "multiple": True,
        "type": click.Path(exists=True, allow_dash=True, path_type=Path),
    }

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(
            *args: Any, file_arguments: Sequence[Path], file_options: Sequence[Path], **others: Any
        ) -> Any:
            files = [path for given in (*file_arguments, *file_options) for path in _expanded(given)]
            if required and not files:
                raise Misuse("no manifest is named", "FILE or -f FILE; - is standard input")
            return command(*args, files=files, **others)

        option = click.option(
            "-f",
            "--file",
            "file_options",
            help="Manifest, directory of *.yaml, or - for standard input; repeatable, taken all together.",
            **shared,
        )
        argument = click.argument("file_arguments", metavar="[FILE]...", nargs=-1, type=shared["type"])
        return argument(option(run))  # type: ignore[return-value]

    return decorate


def only_files_option(command: F) -> F:
    """`files`: manifests after -f, of a command whose arguments are something else."""
    return click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        callback=lambda _context, _option, given: [path for each in given for path in _expanded(each)],
        type=click.Path(exists=True, allow_dash=True, path_type=Path),
        help="Manifest, directory of *.yaml, or - for standard input; repeatable, taken all together.",
    )(command)


def _expanded(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted([*path.glob("*.yaml"), *path.glob("*.yml"), *path.glob("*.json")])
    if not found:
        raise Misuse(f"no *.yaml in {path}")
    return found


def output_option(*formats: str) -> Callable[[F], F]:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def selector_option(text: str) -> Callable[[F], F]:
    return click.option(
        "-l", "--selector", "selector", callback=_selector, default="", metavar="SELECTOR", help=text
    )


def check_text(text: str) -> str:
    """Misuse: it is not UTF-8, as nothing is that a store has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Misuse(f"{text!r} is not UTF-8") from None
    return text


def tenant_options(command: F) -> F:
    """`tenant`: whose objects; None: all tenants'."""

    @functools.wraps(command)
    def run(*args: Any, tenant: str | None, all_tenants: bool, **others: Any) -> Any:
        source = click.get_current_context().get_parameter_source("tenant")
        if all_tenants and source is ParameterSource.COMMANDLINE:
            raise Misuse("either -t or -A")
        return command(*args, tenant=None if all_tenants or not tenant else check_text(tenant), **others)

    tenant = click.option(
        "-t",
        "--tenant",
        envvar=TENANT_VARIABLE,
        show_envvar=True,
        help="Of kinds that are of tenants, only this one's.  [default: all]",
        shell_complete=complete_tenant,
    )
    everybody = click.option(
        "-A", "--all-tenants", is_flag=True, help=f"All tenants', whatever {TENANT_VARIABLE} says."
    )
    return tenant(everybody(run))  # type: ignore[return-value]


def timeout_option(default: float) -> Callable[[F], F]:
    return click.option(
        "--timeout",
        default=default,
        show_default=True,
        type=Seconds(),
        metavar="SECONDS",
        help="How long to wait; 1.5, 90s, 5m and 1h are taken.",
    )


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_MOST_SECONDS = 366 * 86400.0


class Seconds(click.FloatRange):
    """A number of seconds, or of another unit that it names."""

    name = "seconds"

    def __init__(self, least: float = 0.0, most: float = _MOST_SECONDS) -> None:
        super().__init__(least or None, None if most == _MOST_SECONDS else most)  # for the help
        self._least, self._most = least, most

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        unit = _UNITS.get(text[-1:])
        try:
            seconds = float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            seconds = math.nan
        if not self._least <= seconds <= self._most:  # NaN neither
            bounds = f"from {self._least:g} to {self._most:.0f}"
            self.fail(f"{value!r} is not a number of seconds {bounds}", param, ctx)
        return seconds


def check_location(context: click.Context, parameter: click.Option, location: str | None) -> str | None:
    by_default = context.get_parameter_source("location") is ParameterSource.DEFAULT
    unset = by_default and parameter.envvar and os.environ.get(LOCATION_VARIABLE) == ""
    if unset or location == "":  # click takes an empty variable for none
        raise click.BadParameter("empty: it is the location of a store")
    return location


def _selector(_context: click.Context, _parameter: click.Parameter, text: str) -> "Selector":
    from policy.errors import SelectorError
    from policy.service import selectors

    try:
        return selectors.parse(text)
    except SelectorError as error:
        raise click.BadParameter(str(error)) from None


@contextmanager
def opened(location: str, create: bool = False) -> Iterator[Store]:
    """create: make the store if there is none; else that is a NoStoreError, with the stores there are."""
    from tools.here import stores_hint

    try:
        store = open_store(location, create)
    except NoStoreError as error:
        error.hint = stores_hint()
        raise
    try:
        yield store
    finally:
        store.close()


@contextmanager
def service_of(location: str) -> "Iterator[Service]":
    """What the operator may do with the store. NoStoreError: none is there."""
    from policy.service.principal import OPERATOR
    from policy.service.service import Service

    with opened(location) as store:
        yield Service(store, OPERATOR)


@contextmanager
def opened_or_empty(location: str) -> Iterator[Store]:
    """An empty one where there is none yet, unless the operator has said that there is one."""
    from policy.store.memory import MemoryStore

    with ExitStack() as stack:
        try:
            store: Store = stack.enter_context(opened(location))
        except NoStoreError as error:
            source = click.get_current_context().get_parameter_source("location")
            if source is not ParameterSource.DEFAULT:
                raise
            click.echo(f"{error} yet: taken as empty", err=True)
            store = MemoryStore()
        yield store


def read_manifests(files: list[Path]) -> "Stated":
    """What they state, and what is wrong with their form. PolicyError: they state nothing."""
    from policy.errors import PolicyError
    from policy.kinds import manifest

    stated = manifest.read(files)
    if not stated.intent.by_id and not stated.problems:
        names = ("standard input" if path == manifest.STDIN else str(path) for path in files)
        raise PolicyError(f"no objects in {', '.join(names)}")
    return stated


# ---- completion --------------------------------------------------------------------------------------------

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _from_store(names: "Callable[[Reading, click.Context, str], list[str]]") -> Complete:
    """What the store says; nothing when there is none."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from policy.errors import PolicyError
        from policy.store.reading import Reading

        location = context.params.get("location") or DEFAULT_LOCATION
        try:
            with opened(location) as store:
                found = names(Reading(store), context, incomplete)
        except PolicyError:
            return []
        return [CompletionItem(name) for name in found if name.startswith(incomplete)]

    return complete


def _kinds(incomplete: str) -> list[CompletionItem]:
    from policy.kinds.model import KINDS

    return [CompletionItem(kind) for kind in KINDS if kind.lower().startswith(incomplete.lower())]


def complete_objects(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """A kind, then names of it; or names after KIND/."""
    before = context.params.get("words") or ()
    head, slash, _ = incomplete.partition("/")
    if not before and not slash:
        return _kinds(incomplete)
    if slash and (not before or "/" in before[0]):
        return _from_store(functools.partial(_full_names, head))(context, parameter, incomplete)
    if before and "/" not in before[0] and "," not in before[0]:
        return _from_store(functools.partial(_names, before[0]))(context, parameter, incomplete)
    return []


def _names(word: str, reading: "Reading", _context: click.Context, incomplete: str) -> list[str]:
    from policy.service import lookup
    from tools import kinds

    try:
        return lookup.names(reading, kinds.find(word), incomplete)
    except Misuse:
        return []


def _full_names(head: str, reading: "Reading", context: click.Context, incomplete: str) -> list[str]:
    names = _names(head, reading, context, incomplete.partition("/")[2])
    return [f"{head}/{name}" for name in names]


def _tenants(reading: "Reading", _context: click.Context, _incomplete: str) -> list[str]:
    from policy.service import lookup

    return lookup.tenants(reading)


def _hosts(reading: "Reading", _context: click.Context, _incomplete: str) -> list[str]:
    from policy.kinds import documents, keys

    return _managed(documents.intent_from(reading.under(keys.objects_of("Host"))))


def _managed(intent: "Intent") -> list[str]:
    return [host.name for host in intent.hosts if host.managed]


complete_tenant = _from_store(_tenants)
complete_host = _from_store(_hosts)


def complete_host_of_files(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Of the FILEs before it on the command line."""
    from policy.errors import ManifestError
    from policy.kinds import manifest

    given = [*(context.params.get("file_arguments") or ()), *(context.params.get("file_options") or ())]
    files = given or map(Path, context.args)  # args: click reads no further than --host
    try:
        stated = manifest.read(files).intent
    except ManifestError:
        return []
    return [CompletionItem(name) for name in _managed(stated) if name.startswith(incomplete)]


def complete_instance(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Of the data planes that run here."""
    from tools import here

    return [CompletionItem(name) for name in here.instances() if name.startswith(incomplete)]
