"""`isolane explain`, `api-resources`, `completion`: what can be said on a command line and in manifests."""

import json

import click
from click.shell_completion import CompletionItem, get_completion_class

from tools import formats, kinds
from tools.errors import Misuse, did_you_mean
from tools.formats import Output
from tools.options import output_option


class _Path(click.ParamType[str]):
    """KIND or KIND.FIELD[.FIELD…]"""

    name = "path"

    def shell_complete(
        self, _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from policy.errors import UnknownFieldError
        from policy.kinds.explain import fields_of
        from policy.kinds.model import KINDS

        head, dot, part = incomplete.rpartition(".")
        if not dot:
            return [CompletionItem(kind) for kind in KINDS if kind.lower().startswith(part.lower())]
        try:
            fields = fields_of(head)
        except UnknownFieldError:
            return []
        return [CompletionItem(f"{head}.{field.name}") for field in fields if field.name.startswith(part)]


@click.command("explain", short_help="What kinds and fields mean.")
@click.argument("path", metavar="[KIND[.FIELD…]]", type=_Path(), required=False)
@output_option("table", "json", "markdown")
def explain(path: str | None, output: str) -> None:
    """Print what a kind or field of manifests means, what it is when left out, and what fields are in it.

    With -o json: the JSON Schema of the kind, or of all kinds, for editors. With -o markdown: the reference
    of all kinds.

    \b
    Examples:
      isolane explain port.attach
      isolane explain -o json > isolane.schema.json
    """
    from policy.errors import UnknownFieldError
    from policy.kinds.explain import explanation, find, reference
    from policy.kinds.jsonschema import json_schema
    from policy.kinds.model import KINDS

    head, dot, rest = (path or "").partition(".")
    path = f"{kinds.find(head)}{dot}{rest}" if path else None
    try:
        kind = find(path)[0] if path else None
        if output == "json":
            click.echo(json.dumps(json_schema(kind.name if kind else None), indent=2))
        elif output == "markdown":
            click.echo("\n".join(reference()))
        elif path:
            click.echo("\n".join(explanation(path)))
        else:
            for each in KINDS.values():
                click.echo(f"{each.name}: {each.meaning}")
    except UnknownFieldError as error:
        assert path is not None
        raise Misuse(str(error), _near(path)) from None


def _near(path: str) -> str:
    """Of the first field that is not there."""
    from policy.kinds.explain import fields_of

    head, *parts = path.split(".")
    for part in parts:
        known = [field.name for field in fields_of(head)]
        if part != "spec" and part not in known:
            return did_you_mean(part, known)
        head = f"{head}.{part}"
    return ""


@click.command("api-resources", short_help="The kinds and their names.")
@formats.output_option("table", "wide", "json", "name")
@click.option("--no-headers", is_flag=True, help="No headings.")
def api_resources(output: Output, no_headers: bool) -> None:
    """List the kinds of objects, what else they may be called on a command line, and whether they are of a
    tenant.

    \b
    Example:
      isolane api-resources -o wide
    """
    from policy.kinds.model import KINDS
    from tools.text import columns

    tenancy = {True: "yes", False: "no", None: "may be"}
    rows = [
        {
            "name": kinds.plural(kind.name).lower(),
            "shortNames": kinds.SHORT_NAMES[kind.name],
            "ofTenant": tenancy[kind.of_tenant],
            "kind": kind.name,
            "meaning": kind.meaning,
        }
        for kind in KINDS.values()
    ]
    if output.format == "json":
        formats.write(output, rows)
    elif output.format == "name":
        click.echo("\n".join(row["name"] for row in rows))
    else:
        narrow = () if output.format == "wide" else ("name", "shortNames", "ofTenant", "kind")
        click.echo("\n".join(columns(rows, narrow, not no_headers)))


@click.command("completion", short_help="Completion for your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes commands, kinds and the names in the store.

    \b
    Examples:
      eval "$(isolane completion bash)"
      isolane completion fish > ~/.config/fish/completions/isolane.fish
    """
    make = get_completion_class(shell)
    assert make is not None, "one of the choices"
    click.echo(make(context.find_root().command, {}, "isolane", "_ISOLANE_COMPLETE").source())
