"""The `isolane` command: one verb a module, imported when it is asked for.

A command's module imports what it works with inside the command: `isolane --help` and shell completion
import every module here. Exit status: 0 done, 1 failed, 2 usage.
"""

import errno
import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from policy.errors import PolicyError
from tools.errors import Failure, Group, report

COMMANDS = {
    "agent": "tools.run.agent:command",
    "api-resources": "tools.verbs.explain:api_resources",
    "apply": "tools.verbs.apply:apply",
    "bench": "tools.verbs.bench:command",
    "check": "tools.verbs.apply:check",
    "compile": "tools.verbs.compile:command",
    "dataplane": "tools.run.dataplane:command",
    "completion": "tools.verbs.explain:completion",
    "delete": "tools.verbs.delete:delete",
    "demo": "tools.demo.command:command",
    "describe": "tools.verbs.describe:describe",
    "diff": "tools.verbs.apply:diff",
    "edit": "tools.verbs.edit:edit",
    "events": "tools.verbs.events:events",
    "explain": "tools.verbs.explain:explain",
    "get": "tools.verbs.get:get",
    "history": "tools.verbs.events:history",
    "lab": "tools.lab.command:command",
    "label": "tools.verbs.label:label",
    "logs": "tools.verbs.logs:logs",
    "node": "tools.verbs.node:command",
    "replay": "tools.verbs.replay:command",
    "rollback": "tools.verbs.events:rollback",
    "up": "tools.run.up:command",
    "wait": "tools.verbs.wait:wait",
}
"""Verb -> module:command."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Of where output goes, most likely."""


class LazyGroup(Group):
    """A group whose commands are imported on use; it prints all errors in one style."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def main(
        self, args: Sequence[str] | None = None, *more: Any, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        run: Callable[..., Any] = functools.partial(super().main, args, *more, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        try:
            status = run()
        except (click.ClickException, click.Abort, PolicyError) as error:
            status = report(error)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            status = report(Failure(error.strerror or str(error)))
        sys.exit(status if isinstance(status, int) else 0)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="isolane", message="%(prog)s %(version)s")
def main() -> None:
    """Isolated tenant networks over a shared IP network.

    \b
    Example:
      isolane compile examples/blue-red.yaml --host h1
    """
