"""The page of a report. It needs nothing but itself: its pictures are in it, and browsers are told to load no
others.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from bench.plots import Plot
from bench.tables import Table


class Part(NamedTuple):
    """What is shown together. name: of its place in the page; said: by whom and how it was measured."""

    name: str
    title: str
    said: str
    plot: Plot
    table: Table


def page(facts: Table, parts: Sequence[Part]) -> str:
    links = "".join(f'<li><a href="#{escape(each.name)}">{escape(each.title)}</a></li>\n' for each in parts)
    return (
        f"{_HEAD}<h1>isolane bench</h1>\n"
        "<p>Figures are a median, and in parentheses the least and the most.</p>\n"
        f"<h2>Measured on</h2>\n{_table(facts, 'facts')}"
        f"<ul>\n{links}</ul>\n{''.join(map(_part, parts))}</main>\n</body>\n</html>\n"
    )


def _part(part: Part) -> str:
    return (
        f'<section id="{escape(part.name)}">\n<h2>{escape(part.title)}</h2>\n<p>{escape(part.said)}</p>\n'
        f"{_picture(part.plot, part.title)}{_table(part.table, 'figures')}</section>\n"
    )


def _picture(plot: Plot, title: str) -> str:
    light, dark = (f"data:image/png;base64,{b64encode(png).decode()}" for png in (plot.light, plot.dark))
    return (
        f'<picture>\n<source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
        f'<img src="{light}" alt="Plot of the table below: {escape(title)}">\n</picture>\n'
    )


def _table(table: Table, kind: str) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "".join(_row(row) for row in table.rows)
    return (
        f'<div class="scroll"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table></div>\n"
    )


def _row(row: Sequence[str]) -> str:
    name, *cells = row
    return (
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
    )


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>isolane bench</title>
<style>
:root { --page: #ffffff; --text: #1c2530; --soft: #5b6774; --line: #dde2e8; --link: #1f6feb; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14191f; --text: #dfe6ee; --soft: #98a4b1; --line: #2c3540; --link: #5aa2ff; }
}
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 1.5rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; }
p { color: var(--soft); }
a { color: var(--link); }
img { display: block; width: 100%; max-width: 50rem; height: auto; margin: 0.5rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { text-align: left; font-weight: 600; }
.figures td, .figures th + th { text-align: right; white-space: nowrap; }
.facts td, .facts th { text-align: left; }
</style>
</head>
<body>
<main>
"""
