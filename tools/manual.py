"""Man pages from what the commands say of themselves: one for `isolane`, one for each group of commands.

    python -m tools.manual DIRECTORY

A page has a command's text, arguments and options as --help has them. SOURCE_DATE_EPOCH dates the pages.
"""

import inspect
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import click

from tools.cli import main

EXIT_STATUS = (
    ("0", "Done."),
    ("1", "Failed; stderr says why."),
    ("2", "Usage: an option, argument, file or name that is not right; nothing was done."),
)
DIFF = "isolane diff: 0 nothing would change, 1 something would, 2 trouble."
FILES = (
    ("/var/lib/isolane/store.db", "The store of intent, where nothing else is said."),
    ("/run/isolane/INSTANCE/dataplane.sock", "The socket of a data plane."),
    (
        "/run/isolane-agent/",
        "What the agent has changed on devices, to be undone, and which store it follows.",
    ),
)


def pages(root: click.Group, version: str, date: str) -> dict[str, str]:
    """Name of the file -> its text, of a group and the groups in it."""
    found = {}
    for context in _groups(root, None):
        name = context.command_path.replace(" ", "-")
        found[f"{name}.1"] = "\n".join(_page(context, version, date)) + "\n"
    return found


def _groups(group: click.Group, parent: click.Context | None) -> Iterator[click.Context]:
    context = _context(group, parent)
    yield context
    for each in _commands(context):
        if isinstance(each.command, click.Group):
            yield from _groups(each.command, context)


def _context(command: click.Command, parent: click.Context | None) -> click.Context:
    name = command.name if parent else "isolane"
    return command.context_class(command, parent, info_name=name, **command.context_settings)


def _commands(context: click.Context) -> list[click.Context]:
    group = context.command
    assert isinstance(group, click.Group)
    found = (group.get_command(context, name) for name in group.list_commands(context))
    return [_context(command, context) for command in found if command and not command.hidden]


def _page(context: click.Context, version: str, date: str) -> Iterator[str]:
    name = context.command_path.replace(" ", "-")
    inside = _commands(context)
    yield f'.TH "{roff(name.upper())}" 1 "{date}" "isolane {version}" "User Commands"'
    yield from (".SH NAME", f"{roff(name)} \\- {roff(_summary(context))}")
    yield from (".SH SYNOPSIS", _usage(context))
    yield from (".SH DESCRIPTION", *_prose(context.command))
    yield from (".SH OPTIONS", *_options(context))
    yield ".SH COMMANDS"
    for each in inside:
        yield from (f".SS {roff(each.command_path)}", *_command(each))
    yield from (".SH EXIT STATUS", *_list(EXIT_STATUS))
    if context.parent is None:
        yield from (".PP", roff(DIFF))
    variables = dict(_variables([context, *inside]))
    if variables:
        yield from (".SH ENVIRONMENT", *_list(sorted(variables.items())))
    if context.parent is None:
        yield from (".SH FILES", *_list(FILES))
    yield from _see_also(context)


def _command(context: click.Context) -> Iterator[str]:
    if isinstance(context.command, click.Group):
        yield f"{roff(_summary(context))} See {_reference(context)}."
    else:
        yield from (_usage(context), ".PP", *_prose(context.command), *_options(context, helps=False))


def _summary(context: click.Context) -> str:
    """A line for whatis(1) and for overviews."""
    return context.command.get_short_help_str(limit=200).rstrip(".")


def _usage(context: click.Context) -> str:
    words = " ".join(context.command.collect_usage_pieces(context))
    return f"\\fB{roff(context.command_path)}\\fR {roff(words)}".rstrip()


def _prose(command: click.Command) -> Iterator[str]:
    """Paragraphs of its docstring; those after \\b line by line, as examples are."""
    text = inspect.cleandoc(command.help or "").partition("\f")[0]
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text)):
        lines = paragraph.split("\n")
        if number:
            yield ".PP"
        if lines[0].strip() == "\b":
            yield from (".nf", *map(roff, lines[1:]), ".fi")
        else:
            yield roff(" ".join(lines))


def _options(context: click.Context, helps: bool = True) -> Iterator[str]:
    """helps: --help, too, which every command has."""
    options = context.command.get_params(context) if helps else context.command.params
    records = (each.get_help_record(context) for each in options)
    yield from _list(record for record in records if record)


def _list(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, meaning in rows:
        yield from (".TP", f"\\fB{roff(term)}\\fR", roff(meaning) or "\\&")


def _variables(contexts: list[click.Context]) -> Iterator[tuple[str, str]]:
    """Of the environment, that stand for options."""
    for context in contexts:
        for each in context.command.params:
            if isinstance(each, click.Option) and isinstance(each.envvar, str):
                yield each.envvar, f"Stands for {each.opts[-1]}: {each.help or ''}"


def _see_also(context: click.Context) -> Iterator[str]:
    root = context.find_root().command
    assert isinstance(root, click.Group)
    others = [each for each in _groups(root, None) if each.command_path != context.command_path]
    if others:
        yield from (".SH SEE ALSO", ",\n".join(map(_reference, others)))


def _reference(context: click.Context) -> str:
    return f"\\fB{roff(context.command_path.replace(' ', '-'))}\\fR(1)"


def roff(text: str) -> str:
    """Plain text for roff: `words` bold, what is not ASCII by its number."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub("`([^`]+)`", r"\\fB\1\\fR", text)
    text = "".join(each if each < "\x7f" else f"\\[u{ord(each):04X}]" for each in text)
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.M)


def write(directory: Path) -> None:
    now = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime("%Y-%m-%d", time.gmtime(now))
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages(main, version("isolane"), date).items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
