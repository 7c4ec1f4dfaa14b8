"""`isolane get`, `describe`, `explain`, `completion`: looking at intent."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from tools.options import (
    KindArgument,
    complete_name,
    complete_tenant,
    labels_option,
    opened,
    output_option,
    plural,
    store_option,
)

if TYPE_CHECKING:
    from policy.errors import ObjectId
    from policy.model import Labels, Object, Policy
    from policy.store import Reading, Snapshot, Store


@click.command("get", short_help="Objects of a kind.")
@click.argument("kind", type=KindArgument())
@click.argument("name", required=False, shell_complete=complete_name)
@store_option
@click.option("--tenant", help="Only this tenant's.", shell_complete=complete_tenant)
@labels_option("Only objects with all of these labels.")
@output_option("table", "json", "yaml", "name")
def get(
    kind: str, name: str | None, location: str, tenant: str | None, labels: "Labels", output: str
) -> None:
    """Print objects: as they were stated, and in the table and under `allocated` also what they were given.

    NAME is NAME or TENANT/NAME. Of a kind and a name JSON is that object, of a kind a list; YAML has a
    document for each. Both can be applied again: what was added to what was stated is passed over.

    \b
    Examples:
      isolane get ports --tenant blue
      isolane get ports -o yaml > ports.yaml
    """
    from policy import documents, intent
    from policy.finding import NotFoundError, check_tenant, find
    from policy.store import Reading

    with opened(location, create=False) as store:
        reading = Reading(store)
        if tenant is not None:
            check_tenant(reading, tenant)
        if name is None:
            snapshot = store.snapshot(documents.prefix_of(kind, tenant), at=reading.revision)
        else:
            wanted = find(reading, kind, f"{tenant}/{name}" if tenant and "/" not in name else name)
            snapshot = store.snapshot(keys=[documents.key_of(wanted)], at=reading.revision)
    found = intent.selected(documents.policy_from(snapshot.items), kind, tenant, labels)
    whose = f" of tenant {tenant}" if tenant else ""
    narrowed = f"{whose}{' with these labels' if labels else ''}"
    if name is not None and not found:
        raise NotFoundError(f"there is no {kind} {name}{narrowed}")
    if output == "table" and not found:
        click.echo(f"no {plural(kind)}{narrowed}", err=True)
        return
    views = [_view(snapshot, item) for item in found]
    if output == "json":
        click.echo(json.dumps(views[0] if name is not None else views, indent=2))
        return
    if output == "yaml":
        click.echo(_yaml(views), nl=False)
        return
    for line in _names(found) if output == "name" else _table(found):
        click.echo(line)


def _view(snapshot: "Snapshot", item: "Object") -> dict[str, Any]:
    """The document as stated, and what has been allocated."""
    from policy import documents, schema

    key = documents.key_of(item.id)
    stated = documents.encode(documents.load(key, snapshot.items[key]))
    spec = stated.get("spec", {})
    allocated = {field: value for field, value in schema.write(item).items() if field not in spec}
    added = dict(zip(schema.ADDED, (allocated, snapshot.revisions[key]), strict=True))
    return {**stated, **added}


def _yaml(documents: list[dict[str, Any]]) -> str:
    import yaml

    text: str = yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True)
    return text


def _names(items: list["Object"]) -> Iterator[str]:
    return (f"{item.id.kind.lower()}/{item.id.qualified_name}" for item in items)


def _table(items: list["Object"]) -> Iterator[str]:
    from policy import schema
    from tools.text import columns

    rows = []
    for item in items:
        kind = schema.KINDS[item.id.kind]
        spec = schema.write_all(item)
        whose = {} if kind.of_tenant is False else {"tenant": item.id.tenant}
        rows.append({**whose, "name": item.id.name, **spec})
    if not any(row.get("rateLimit") for row in rows):  # few have one: no column for it then
        for row in rows:
            row.pop("rateLimit", None)
    return columns(rows)


@click.command("describe", short_help="One object, and what has become of it.")
@click.argument("kind", type=KindArgument())
@click.argument("name", shell_complete=complete_name)
@store_option
@click.option(
    "--events",
    "most",
    default=10,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Of its events the newest.",
)
def describe(kind: str, name: str, location: str, most: int) -> None:
    """Print an object, what it was given, what refers to it, which hosts have applied it, and its events.

    \b
    Examples:
      isolane describe port blue/web
      isolane describe host h1 --events 100
    """
    from policy import documents, events, finding, intent, schema
    from policy.store import Reading
    from tools.text import cell, words

    with opened(location, create=False) as store:
        reading = Reading(store)
        identity = finding.find(reading, kind, name)
        prefixes = documents.prefix_of("Host"), intent.HOST_PREFIX, events.PREFIX
        snapshot = store.snapshot(*prefixes, keys=[documents.key_of(identity)], at=reading.revision)
        referrers = _referrers(store, reading, identity)
    policy = documents.policy_from(snapshot.items)
    item = policy.by_id[identity]
    revision = snapshot.revisions[documents.key_of(identity)]
    view = _view(snapshot, item)
    click.echo(f"{identity}: {schema.KINDS[kind].meaning}")
    click.echo(f"revision: {revision}")
    stated, allocated = view.get("spec", {}), view["allocated"]
    defaults = {
        key: value
        for key, value in schema.write_all(item).items()
        if key not in stated and key not in allocated and value not in (None, [], "")
    }
    for section, remark in ((stated, ""), (allocated, " (allocated)"), (defaults, " (default)")):
        for key, value in section.items():
            click.echo(f"{words(key)}: {cell(value)}{remark}")
    for label, value in item.labels:
        click.echo(f"label {label}: {value}")
    for referrer in sorted(referrers - {identity}):
        click.echo(f"used by: {referrer}")
    for line in _host_lines(policy, snapshot, revision):
        click.echo(line)
    told = [event for event in events.read(snapshot.items) if event.is_about(str(identity))]
    if 0 < most < len(told):
        click.echo(f"older events: {len(told) - most} are left out, --events {len(told)} prints them too")
    for event in told[-most:] if most else ():
        when = datetime.fromtimestamp(event.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        click.echo(f"event {when}: {event.source}: {event.text}")


def _referrers(store: "Store", reading: "Reading", identity: "ObjectId") -> set["ObjectId"]:
    from policy import documents, finding, intent

    try:
        return finding.with_referrers(reading, [identity])
    except finding.WideError:
        items = store.snapshot(documents.PREFIX, at=reading.revision).items
        return intent.with_referrers(documents.policy_from(items), [identity])


def _host_lines(policy: "Policy", snapshot: "Snapshot", revision: int) -> Iterator[str]:
    from policy import intent

    states = intent.host_states(snapshot)
    for host in policy.hosts:
        if not host.managed:
            continue
        state = states.get(host.name)
        if state is None:
            yield f"host {host.name}: {intent.NO_AGENT}"
        elif state["revision"] < revision:
            yield f"host {host.name}: behind, at revision {state['revision']}"
        else:
            problems = "".join(f": {problem}" for problem in state["problems"])
            yield f"host {host.name}: {state['state']}{problems}"


class _Path(click.ParamType[str]):
    """KIND or KIND.FIELD[.FIELD…]"""

    name = "path"

    def shell_complete(
        self, _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from policy import schema

        head, dot, part = incomplete.rpartition(".")
        if not dot:
            return [CompletionItem(kind) for kind in schema.KINDS if kind.lower().startswith(part.lower())]
        try:
            fields = schema.fields_of(head)
        except schema.UnknownFieldError:
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
    from policy import schema

    try:
        kind = schema.find(path)[0] if path else None
        if output == "json":
            click.echo(json.dumps(schema.json_schema(kind.name if kind else None), indent=2))
        elif output == "markdown":
            click.echo("\n".join(schema.reference()))
        elif path:
            click.echo("\n".join(schema.explain(path)))
        else:
            for each in schema.KINDS.values():
                click.echo(f"{each.name}: {each.meaning}")
    except schema.UnknownFieldError as error:
        raise click.UsageError(str(error)) from None


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
