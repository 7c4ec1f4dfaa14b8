"""The `isolane` command: one verb a module, imported when it is asked for.

A command's module imports what it works with inside the command: `isolane --help` and shell completion
import every module here. Exit status: 0 done, 1 failed, 2 usage.
"""

import importlib

import click

from policy.errors import PolicyError

COMMANDS = {
    "agent": "tools.agent:command",
    "apply": "tools.apply:apply",
    "bench": "tools.bench:command",
    "check": "tools.apply:check",
    "compile": "tools.compile:command",
    "dataplane": "tools.dataplane:command",
    "completion": "tools.get:completion",
    "delete": "tools.apply:delete",
    "demo": "tools.demo:command",
    "describe": "tools.get:describe",
    "diff": "tools.apply:diff",
    "explain": "tools.get:explain",
    "get": "tools.get:get",
    "lab": "tools.lab:command",
    "node": "tools.node:command",
    "replay": "tools.replay:command",
    "up": "tools.up:command",
}
"""Verb -> module:command."""


class LazyGroup(click.Group):
    """A group whose commands are imported on use; it prints the errors that are meant for operators."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PolicyError as error:
            click.echo(error, err=True)
            ctx.exit(1)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isolane", message="%(prog)s %(version)s")
def main() -> None:
    """Isolated tenant networks over a shared IP network.

    \b
    Example:
      isolane compile examples/blue-red.yaml --host h1
    """
