"""`isolane get`: objects of a store, in a table or as documents, once or as they change."""

from typing import TYPE_CHECKING

import click

from tools import kinds, selection
from tools.errors import Misuse, did_you_mean
from tools.formats import Output, order, output_option, sort_option, write
from tools.listing import cells, name_of
from tools.options import opened, selector_option, store_option, tenant_options
from tools.progress import shows_progress
from tools.selection import Selection, objects_argument
from tools.text import aligned, brief, cell, heading

if TYPE_CHECKING:
    from policy.service.selectors import Selector
    from policy.service.service import Service
    from policy.service.views import View
    from tools.jsonpath import Path


@click.command("get", short_help="Objects of kinds.")
@objects_argument()
@store_option
@tenant_options
@selector_option("Only objects with such labels: a=b, a!=b, a in (b,c), a notin (b,c), a, !a; commas: all.")
@output_option("table", "wide", "json", "yaml", "name", "jsonpath", "custom-columns")
@sort_option
@click.option("--no-headers", is_flag=True, help="No headings.")
@click.option("--show-labels", is_flag=True, help="With a column of labels.")
@click.option("--ignore-not-found", is_flag=True, help="What is not there is no error.")
@click.option("-w", "--watch", is_flag=True, help="Then print what changes, until Ctrl-C.")
@shows_progress
def get(
    words: tuple[str, ...],
    location: str,
    tenant: str | None,
    selector: "Selector",
    output: Output,
    sort_by: "Path | None",
    no_headers: bool,
    show_labels: bool,
    ignore_not_found: bool,
    watch: bool,
) -> None:
    """Print objects: as they were stated, and in the table and under `given` also what they were given.

    KIND is one of `isolane api-resources`, in the singular, the plural or short; `all` is every kind.
    NAME is NAME or TENANT/NAME. STATE says what the object's host has made of it: applied, failed,
    pending, of a port waiting (for its VM); unknown or - where no agent is. Of one name JSON is that
    object, else a list; YAML has a document for each. Both can be edited and applied, as long as nobody
    else has changed the object since. A template begins at the object, or at {"items": [...]} of several.

    \b
    Examples:
      isolane get ports -t blue
      isolane get port/blue/web host/h1 -o yaml
      isolane get ports,hosts -l 'app in (web,db)' --sort-by .spec.host
      isolane get ports -o jsonpath='{range .items[*]}{.metadata.name} {.spec.host}{"\\n"}{end}'
      isolane get hosts -o custom-columns=NAME:.metadata.name,SITE:.spec.site
      isolane get ports -o name | xargs isolane delete
    """
    from policy.service.principal import OPERATOR
    from policy.service.service import Service
    from policy.store.reading import newest

    wanted = selection.parse(words)
    if wanted.names and selector:
        raise Misuse("either names or -l")
    show = Show(
        output, sort_by, show_labels, several_kinds=len(wanted.all_kinds) > 1, headings=not no_headers
    )
    with opened(location) as store:
        service = Service(store, OPERATOR)
        revision = newest(store)
        found = _views(service, wanted, tenant, selector, ignore_not_found)
        if not found and output.is_table and not watch and not (wanted.names and ignore_not_found):
            click.echo(_nothing(wanted, tenant, selector), err=True)
        if watch:
            from tools.watching import Watching

            show.each(found)
            Watching(store, service, wanted, tenant, selector, show.changed).run(revision, found)
        else:
            show.all(found, wanted.is_one)


def _views(
    service: "Service", wanted: Selection, tenant: str | None, selector: "Selector", ignore_not_found: bool
) -> "list[View]":
    """What is wanted, in order of kinds and names."""
    if wanted.names:
        return service.view(selection.find(service, wanted, tenant, ignore_not_found))
    found = []
    for kind in wanted.kinds:
        if kinds.take_tenants(kind) or tenant is None or not wanted.is_all:
            whose = tenant if kinds.take_tenants(kind) else None  # of no tenant: meant where it is named
            found += _of_tenant(service, kind, whose, selector)
            for problem in service.unreadable(kind, whose):
                click.echo(problem, err=True)
    return found


def _of_tenant(service: "Service", kind: str, tenant: str | None, selector: "Selector") -> "list[View]":
    """NotFoundError: there is no such tenant; the hint has those that are like it."""
    from policy.errors import NotFoundError

    try:
        return service.views(kind, tenant, selector)
    except NotFoundError as error:
        error.hint = did_you_mean(tenant or "", service.tenants())
        raise


def _nothing(wanted: Selection, tenant: str | None, selector: "Selector") -> str:
    what = "objects" if wanted.is_all else " or ".join(map(kinds.plural, wanted.kinds))
    whose = f" of tenant {tenant}" if tenant and any(map(kinds.take_tenants, wanted.kinds)) else ""
    return f"no {what or 'such objects'}{whose}{' with such labels' if selector else ''}"


class Show:
    """Prints views, as the command line says."""

    def __init__(
        self, output: Output, sort_by: "Path | None", labels: bool, *, several_kinds: bool, headings: bool
    ) -> None:
        self._output = output
        self._sort_by = sort_by
        self._labels = labels
        self._several_kinds = several_kinds
        self._headings = headings
        self._widths: dict[str, list[int]] = {}
        """By kind, of the columns that were printed."""

    def all(self, views: "list[View]", is_one: bool) -> None:
        if self._sort_by is not None:
            path = self._sort_by
            views = sorted(views, key=lambda view: order(view.document(), path))
        if self._output.format == "name":
            for view in views:
                click.echo(name_of(view.identity))
        elif self._output.is_table:
            self._tables(views)
        else:
            write(self._output, [view.document() for view in views], is_one)

    def each(self, views: "list[View]") -> None:
        """Like all, but of documents one after the other, to go on from."""
        if self._output.is_table or self._output.format == "name":
            self.all(views, False)
        else:
            for view in views:
                write(self._output, [view.document()], True)

    def changed(self, view: "View", gone: bool) -> None:
        """One more line or document; of something that has gone the last that was known of it."""
        if not self._output.is_table:
            self.each([view])
            return
        row = self._row(view)
        if gone:
            row["age" if "state" not in row else "state"] = "deleted"
        line = self._cells(row)
        widths = self._widths.setdefault(view.identity.kind, [0] * len(line))
        widths[:] = map(max, widths, map(len, line))
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())

    def _tables(self, views: "list[View]") -> None:
        """One for each kind."""
        by_kind: dict[str, list[View]] = {}
        for view in views:
            by_kind.setdefault(view.identity.kind, []).append(view)
        for index, (kind, of_kind) in enumerate(by_kind.items()):
            if index:
                click.echo()
            rows = [self._row(view) for view in of_kind]
            lines = [self._cells(row) for row in rows]
            if self._headings:
                lines.insert(0, heading(rows[0]))
            self._widths[kind] = [max(map(len, column)) for column in zip(*lines, strict=True)]
            for line in aligned(lines):
                click.echo(line)

    def _row(self, view: "View") -> dict[str, object]:
        return cells(view, self._output.format == "wide", self._labels, self._several_kinds)

    def _cells(self, row: dict[str, object]) -> list[str]:
        return list(map(cell if self._output.format == "wide" else brief, row.values()))
