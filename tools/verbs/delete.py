"""`isolane delete`: objects go."""

from pathlib import Path

import click

from tools import selection
from tools.errors import Misuse
from tools.options import only_files_option, read_manifests, service_of, store_option, tenant_options
from tools.progress import shows_progress
from tools.selection import objects_argument
from tools.verbs.apply import DRY_RUN, print_outcomes


@click.command("delete", short_help="Delete objects.")
@objects_argument(required=False)
@only_files_option
@store_option
@tenant_options
@click.option("--dry-run", is_flag=True, help="Check and print, change nothing.")
@click.option("--cascade", is_flag=True, help="Delete also what refers to them.")
@click.option("--ignore-not-found", is_flag=True, help="What is not there is no error.")
@click.option(
    "--force", is_flag=True, help="Also what this version can't read; no rollback goes back beyond it."
)
@shows_progress
def delete(
    words: tuple[str, ...],
    files: list[Path],
    location: str,
    tenant: str | None,
    dry_run: bool,
    cascade: bool,
    ignore_not_found: bool,
    force: bool,
) -> None:
    """Delete objects, by kind and name or all that manifests state; nothing if one is still referred to.

    A NAME is NAME or TENANT/NAME. A large delete that was interrupted can be repeated within an hour, as it
    was if it said of what tenants.

    \b
    Examples:
      isolane delete port/blue/web port/blue/db
      isolane delete vmnetwork Blue_VMNet --cascade --dry-run
      isolane delete -f net.yaml
      isolane get ports -t blue -o name | xargs isolane delete
    """
    from policy.errors import ManifestError, ReferencedError, UnreadableError

    if bool(files) == bool(words):
        raise Misuse("either objects or -f FILE", "isolane delete KIND/NAME…")
    if force and cascade:
        raise Misuse("--force does not go with --cascade", "name all that is to go")
    wanted = selection.parse_names(words) if words else None
    with service_of(location) as service:
        if wanted is None:
            stated = read_manifests(files)
            if stated.problems:
                raise ManifestError(stated.problems)
            identities = list(stated.intent.by_id)
        else:
            identities = selection.find(
                service, wanted, tenant, ignore_not_found, were_there=service.deleted_before
            )
        try:
            done = service.delete(
                identities, cascade=cascade, ignore_missing=ignore_not_found, force=force, dry_run=dry_run
            )
        except ReferencedError as error:
            error.hint = "name these too" if force else "--cascade deletes these too"
            raise
        except UnreadableError as error:
            error.hint = "" if force else "--force deletes what can't be read and is named"
            raise
    print_outcomes(done, DRY_RUN if dry_run else "")
