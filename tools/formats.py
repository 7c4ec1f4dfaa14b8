"""`-o`: what is printed of documents, and `--sort-by`."""

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import click

from tools import jsonpath
from tools.options import F

TABLES = ("table", "wide")
DOCUMENTS = ("json", "yaml")
TEMPLATES = ("jsonpath", "custom-columns")

Document = dict[str, Any]


class Output(NamedTuple):
    """argument: of a template, the template."""

    format: str
    argument: str = ""

    @property
    def is_table(self) -> bool:
        return self.format in TABLES


class _OutputType(click.ParamType[Output]):
    name = "format"

    def __init__(self, formats: Sequence[str]) -> None:
        self.formats = formats

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(f'{each}=…' if each in TEMPLATES else each for each in self.formats)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Output:
        if isinstance(value, Output):
            return value
        name, equals, argument = str(value).partition("=")
        if name not in self.formats or (name in TEMPLATES) is not bool(equals):
            known = ", ".join(f"{each}=…" if each in TEMPLATES else each for each in self.formats)
            self.fail(f"{value!r} is not one of {known}", param, ctx)
        try:
            _ = compiled(Output(name, argument))
        except jsonpath.PathError as error:
            self.fail(str(error), param, ctx)
        return Output(name, argument)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        known = (f"{each}=" if each in TEMPLATES else each for each in self.formats)
        return [click.shell_completion.CompletionItem(each) for each in known if each.startswith(incomplete)]


def output_option(*formats: str) -> Callable[[F], F]:
    return click.option(
        "-o",
        "--output",
        type=_OutputType(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def output_parameter(*formats: str) -> click.Option:
    return click.Option(
        ["-o", "--output"],
        type=_OutputType(formats),
        default=formats[0],
        show_default=True,
        help="Output format.",
    )


def compiled(output: Output) -> Callable[[list[Document], bool], Iterator[str]]:
    """Documents, and whether one alone was asked for -> lines. PathError: the template is none."""
    match output.format:
        case "json":
            return _json
        case "yaml":
            return _yaml
        case "jsonpath":
            template = jsonpath.template(output.argument)
            return lambda documents, is_one: iter([template.text(_root(documents, is_one))])
        case "custom-columns":
            return _custom_columns(output.argument)
    return lambda _documents, _is_one: iter(())


def write(output: Output, documents: list[Document], is_one: bool = False) -> None:
    for text in compiled(output)(documents, is_one):
        click.echo(text, nl=not text.endswith("\n"))


def _json(documents: list[Document], is_one: bool) -> Iterator[str]:
    yield json.dumps(documents[0] if is_one else documents, indent=2)


def _yaml(documents: list[Document], _is_one: bool) -> Iterator[str]:
    from policy.kinds import yaml_writer

    if documents:
        yield yaml_writer.dump(documents)


def _root(documents: list[Document], is_one: bool) -> Document:
    return documents[0] if is_one else {"items": documents}


def _custom_columns(spec: str) -> Callable[[list[Document], bool], Iterator[str]]:
    from tools.text import aligned

    parts = [part.partition(":") for part in spec.split(",")]
    if not all(heading and colon and path for heading, colon, path in parts):
        raise jsonpath.PathError(f"{spec!r} is not HEADING:PATH,HEADING:PATH…, such as NAME:.metadata.name")
    paths = [jsonpath.path(path) for _, _, path in parts]

    def lines(documents: list[Document], _is_one: bool) -> Iterator[str]:
        rows = [[path.text(document) or "<none>" for path in paths] for document in documents]
        yield from aligned([[heading for heading, _, _ in parts], *rows])

    return lines


# ---- order -------------------------------------------------------------------------------------------------


def sort_option(command: F) -> F:
    return click.option(
        "--sort-by",
        metavar="PATH",
        callback=_path,
        help="Sort by a field of the JSON documents, such as .spec.host; numbers and addresses as such.",
    )(command)


def _path(_context: click.Context, _parameter: click.Parameter, text: str | None) -> jsonpath.Path | None:
    try:
        return jsonpath.path(text) if text else None
    except jsonpath.PathError as error:
        raise click.BadParameter(str(error)) from None


def order(document: Document, path: jsonpath.Path) -> tuple[Any, ...]:
    """A key for sorted(): what has not the field comes last."""
    values = path.values(document)
    return (not values, *map(_comparable, values))


def _comparable(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool | int | float):
        return 0, value
    text = jsonpath.plain(value)
    try:
        network = ipaddress.ip_network(text)
        return 1, (network.version, int(network.network_address), network.prefixlen)
    except ValueError:
        parts = re.split(r"(\d+)", text)
        return 2, [_number(part) for part in parts if part]


def _number(part: str) -> tuple[int, int, str]:
    """Of a text: numbers, however long, by their value."""
    if not part.isdecimal():
        return 0, 0, part
    digits = part.lstrip("0")
    return 1, len(digits), digits
