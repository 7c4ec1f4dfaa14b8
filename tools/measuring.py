"""What commands that measure have in common."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import click

from tools.errors import Failure

Document = dict[str, Any]


def spread(figures: Mapping[str, float]) -> str:
    return f"{figures['median']:.2f} ({figures['min']:.2f}-{figures['max']:.2f})"


def report(
    run: Callable[[Callable[[str], None]], Document], show: Callable[[Document], None], as_json: bool
) -> None:
    """Print the document of a run, which is told whom to tell how far it is."""
    from bench.control_net import BenchError

    try:
        document = run(partial(click.echo, err=True))
    except BenchError as error:
        raise Failure(str(error)) from None
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        show(document)
