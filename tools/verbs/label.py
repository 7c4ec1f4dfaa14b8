"""`isolane label`: labels of objects."""

import click

from tools import selection
from tools.errors import Misuse
from tools.options import service_of, store_option, tenant_options
from tools.progress import shows_progress
from tools.selection import objects_argument
from tools.verbs.apply import DRY_RUN, print_outcomes


@click.command("label", short_help="Set and remove labels.")
@objects_argument()
@store_option
@tenant_options
@click.option("--dry-run", is_flag=True, help="Check and print, change nothing.")
@shows_progress
def label(words: tuple[str, ...], location: str, tenant: str | None, dry_run: bool) -> None:
    """Set labels of objects, KEY=VALUE, and remove others, KEY-.

    \b
    Examples:
      isolane label port/blue/web app=shop canary-
      isolane label ports web db -t blue tier=front
    """
    named = [word for word in words if "=" not in word and not word.endswith("-")]
    put, remove = _labels([word for word in words if word not in named])
    if not named:
        raise Misuse("no object is named", "isolane label KIND/NAME… KEY=VALUE KEY-")
    with service_of(location) as service:
        identities = selection.find(service, selection.parse_names(named), tenant)
        done = service.label(identities, put, remove, dry_run=dry_run)
    print_outcomes(done, DRY_RUN if dry_run else "")


def _labels(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """What is to be set, and the keys of what is to go. Misuse: they are no labels."""
    from policy.kinds import scalars

    put: dict[str, str] = {}
    remove: list[str] = []
    if not words:
        raise Misuse("no label is given", "KEY=VALUE sets one, KEY- removes it")
    for word in words:
        key, equals, value = word.partition("=")
        try:
            if equals:
                put[scalars.parse_label_key(key)] = scalars.parse_label(value)
            else:
                remove.append(scalars.parse_label_key(word.removesuffix("-")))
        except ValueError as error:
            raise Misuse(str(error)) from None
    if both := put.keys() & set(remove):
        raise Misuse(f"both set and removed: {', '.join(sorted(both))}")
    return put, remove
