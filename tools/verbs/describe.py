"""`isolane describe`: objects, and what has become of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tools import selection
from tools.options import service_of, store_option, tenant_options
from tools.progress import shows_progress
from tools.selection import objects_argument

if TYPE_CHECKING:
    from policy.errors import ObjectId
    from policy.service.service import Service
    from policy.service.views import Status, View


@click.command("describe", short_help="Objects, and what has become of them.")
@objects_argument()
@store_option
@tenant_options
@click.option(
    "--events",
    "most",
    default=10,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="N",
    help="Of its events the newest.",
)
@shows_progress
def describe(words: tuple[str, ...], location: str, tenant: str | None, most: int) -> None:
    """Print an object, what it was given, what refers to it, which hosts have applied it, and its events.

    Of a port also the link of its device, as the agent of its host last said (up, down, no carrier, waiting,
    absent, failing), its device and drops, where its host's data plane runs here and may be asked, and
    if a hypervisor opens its device, what QEMU and libvirt have to be told, ready to paste.

    \b
    Examples:
      isolane describe port blue/web
      isolane describe host/h1 --events 100
    """
    wanted = selection.parse_names(words)
    with service_of(location) as service:
        for index, identity in enumerate(selection.find(service, wanted, tenant)):
            if index:
                click.echo()
            for line in _lines(service, identity, most):
                click.echo(line)


def _lines(service: "Service", identity: "ObjectId", most: int) -> Iterator[str]:
    from policy.kinds.model import KINDS
    from policy.service.views import timestamp
    from tools.data_plane import port_lines
    from tools.hypervisors import hypervisor_lines

    [view] = service.view([identity])
    yield f"{identity}: {KINDS[identity.kind].meaning}"
    yield f"revision: {view.revision}"
    if view.created is not None:
        yield f"created: {timestamp(view.created)}"
    yield from _fields(view)
    for label, value in view.labels.items():
        yield f"label {label}: {value}"
    for referrer in sorted(service.referrers(identity)):
        yield f"used by: {referrer}"
    for status in service.rollout(identity):
        yield f"host {status.host}: {_status(status)}"
    yield from _link(view)
    yield from port_lines(view.complete)
    yield from hypervisor_lines(view.complete, service.vm_mtu)
    told = service.events(identity)
    if 0 < most < len(told):
        yield f"older events: {len(told) - most} are left out, --events {len(told)} prints them too"
    for event in told[-most:] if most else ():
        yield f"event {timestamp(event.time)}: {event.source}: {event.text}"


def _fields(view: "View") -> Iterator[str]:
    """As stated, as given, and what holds where nothing is said."""
    from policy.kinds import codec
    from tools.text import cell, words

    stated = view.stated.get("spec", {})
    defaults = {
        key: value
        for key, value in codec.write_all(view.complete).items()
        if key not in stated and key not in view.given and value not in (None, [], "")
    }
    for section, remark in ((stated, ""), (view.given, " (allocated)"), (defaults, " (default)")):
        for key, value in section.items():
            yield f"{words(key)}: {cell(value)}{remark}"


_LINKS = {
    "down": "set so, by the VM perhaps",
    "no carrier": "nobody has its other end, or has that down",
    "waiting": "for its VM: no hypervisor has made its device, or opened it",
    "absent": "there is no such device",
    "failing": "its host has problems with it",
    "unknown": "it could not be looked at yet, or its host has more to tell than there is room for",
}
"""Why it is not up."""


def _link(view: "View") -> Iterator[str]:
    """Of a port's device, as the agent of its host says."""
    from tools.text import number

    status = view.status
    if status is not None and status.link:
        why = f", {_LINKS[status.link]}" if status.link in _LINKS else ""
        yield f"link: {status.link}{why}"
    if status is not None and status.unlisted:
        links = number(status.unlisted, "link")
        yield f"unlisted: {links} of host {status.host} that are not up, for want of room"


def _status(status: "Status") -> str:
    from policy.service.host_state import NO_AGENT
    from policy.service.views import UNKNOWN

    return NO_AGENT if status.state == UNKNOWN else ": ".join([status.state, *status.problems])
