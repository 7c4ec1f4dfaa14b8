"""Errors as every command prints them: `error: ...` on stderr, then `hint: ...` where something is known
that helps. Exit status 1 for what failed, 2 for how a command was called.
"""

from collections.abc import Collection

import click

from policy.kinds.words import near

_OFFERED, _LIKE = 2, 0.7
"""Names that a hint offers at most, and how much they have to be alike, of 1: of several none is far off."""


class Failure(click.ClickException):
    """What was asked for could not be done."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.hint = hint


class Misuse(click.UsageError):
    """The command was called in a way that means nothing."""

    def __init__(self, text: str, hint: str = "", context: click.Context | None = None) -> None:
        super().__init__(text, context)
        self.hint = hint


class Group(click.Group):
    """A group of commands that knows what may have been meant by a name it has not."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            hint = did_you_mean(name, self.list_commands(ctx)) or f"{ctx.command_path} --help"
            raise Misuse(f"no such command: {name}", hint, ctx)
        return super().resolve_command(ctx, args)


def report(error: Exception) -> int:
    """Print it; the exit status."""
    text, hint = str(error), getattr(error, "hint", "")
    status = 1
    if isinstance(error, click.Abort):
        text = "interrupted"
    elif isinstance(error, click.ClickException):
        status = error.exit_code
        text = error.format_message()
        if isinstance(error, click.UsageError):
            text, hint = _usage(error)
    for line in text.splitlines():
        click.echo(f"{click.style('error:', fg='red')} {line}", err=True)
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {hint}", err=True)
    return status


def _usage(error: click.UsageError) -> tuple[str, str]:
    """What click says, in our words."""
    hint = getattr(error, "hint", "")
    if isinstance(error, click.NoSuchOption):
        text = f"no such option: {error.option_name}"
        hint = hint or _one_of(error.possibilities or ())
    else:
        text = error.format_message().rstrip(".")
        text = text[:1].lower() + text[1:] if text[1:2].islower() else text
    if not hint and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    return text, hint


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A hint, or nothing where nothing is near."""
    return _one_of(near(name, known, _OFFERED, _LIKE))


def _one_of(names: Collection[str]) -> str:
    return f"did you mean {' or '.join(names)}?" if names else ""
