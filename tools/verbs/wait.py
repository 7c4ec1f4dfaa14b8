"""`isolane wait`: until hosts have applied objects, or objects are gone."""

import click

from tools import selection
from tools.options import service_of, store_option, tenant_options, timeout_option
from tools.selection import objects_argument
from tools.verbs.apply import WAIT_SECONDS, print_behind


@click.command("wait", short_help="Until objects are applied or deleted.")
@objects_argument()
@store_option
@tenant_options
@click.option(
    "--for",
    "what",
    required=True,
    type=click.Choice(["applied", "deleted"]),
    help="applied: every host that they concern has them; deleted: they are not there.",
)
@timeout_option(WAIT_SECONDS)
def wait(words: tuple[str, ...], location: str, tenant: str | None, what: str, timeout: float) -> None:
    """Return when it is so, or fail when the time is up; early, after 3 s, when a host says that it failed
    and does not get over it.

    \b
    Examples:
      isolane wait port/blue/web --for=applied --timeout 30
      isolane wait port/blue/web port/blue/db --for=deleted
    """
    wanted = selection.parse_names(words)
    with service_of(location) as service:
        identities = selection.find(service, wanted, tenant, ignore_not_found=what == "deleted")
        if what == "deleted":
            service.wait_deleted(identities, timeout)
        else:
            service.wait_applied(identities, timeout, print_behind)
