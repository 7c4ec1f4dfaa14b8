"""Objects as whoever looks sees them: as stated, what they were given, and what has become of them. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from policy.errors import ObjectId
from policy.kinds import codec, documents
from policy.kinds.model import Host, Object, Port
from policy.service.host_state import APPLIED, FAILED, WAITING, HostState
from policy.service.host_state import UNKNOWN as LINK_UNKNOWN


@dataclass(frozen=True, slots=True)
class View:
    """stated: the document, as a manifest has it. given: fields of its spec that were left out there, as they
    were allocated. revision: of its last change. created: Unix seconds; None: not known. status: of a Port
    and of a Host, what the agent of the host last said of it; None: there is none, or nothing to say.
    complete: the object with all that it was given.
    """

    identity: ObjectId
    stated: Mapping[str, Any]
    given: Mapping[str, Any]
    revision: int
    created: float | None
    status: "Status | None"
    complete: Object

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.complete.labels)

    def document(self) -> dict[str, Any]:
        """Of all of it. Read as a manifest it is an edit of this revision."""
        metadata = {**self.stated["metadata"], "revision": self.revision}
        if self.created is not None:
            metadata["created"] = timestamp(self.created)
        status = {} if self.status is None else {"status": self.status.document()}
        return {**self.stated, "metadata": metadata, "given": dict(self.given), **status}


@dataclass(frozen=True, slots=True)
class Status:
    """state: `applied`, `failed`, `pending` (the host has not got there yet), or `unknown` (no agent); of a
    Port also `waiting`: applied, and its VM is not there. link: of a Port's device, see host_state; None: not
    known, or there is to be none. unlisted: of how many ports of the host that are not up nothing more is
    said.
    """

    host: str
    state: str
    problems: tuple[str, ...] = ()
    link: str | None = None
    unlisted: int = 0

    def document(self) -> dict[str, Any]:
        link = {} if self.link is None else {"link": self.link}
        unlisted = {"linksUnlisted": self.unlisted} if self.unlisted else {}
        return {"host": self.host, "state": self.state, "problems": list(self.problems), **link, **unlisted}


PENDING, UNKNOWN = "pending", "unknown"


def timestamp(seconds: float) -> str:
    """RFC 3339, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def view(
    key: str, value: bytes, revision: int, states: Mapping[str, HostState], of_hosts: bool = True
) -> View:
    """Of an item of the store and the revision of its key. states: of all hosts, see host_state; of_hosts:
    whether to say what problems a host has besides those of its Ports.
    """
    complete = documents.load(key, value, complete=True)
    stated = documents.encode(documents.load(key, value))
    spec = stated.get("spec", {})
    given = {field: value for field, value in codec.write(complete).items() if field not in spec}
    status = _status(complete, revision, states, of_hosts)
    return View(complete.id, stated, given, revision, documents.created(value), status, complete)


def _status(item: Object, revision: int, states: Mapping[str, HostState], of_hosts: bool) -> Status | None:
    match item:
        case Host() if item.managed:
            unlisted = states[item.name].unlisted if item.name in states else 0
            return replace(host_status(item.name, revision, states), unlisted=unlisted)
        case Port() if item.host in states:
            name = item.id.qualified_name
            state = states[item.host]
            link = state.link_of(name, revision) if item.attach else None
            unlisted = state.unlisted if of_hosts and link == LINK_UNKNOWN else 0
            status = host_status(item.host, revision, states, [name], of_hosts)
            if status.state == APPLIED and link == WAITING:
                status = replace(status, state=WAITING)
            return replace(status, link=link, unlisted=unlisted)
    return None


def host_status(
    host: str,
    revision: int,
    states: Mapping[str, HostState],
    ports: Collection[str] | None = None,
    of_hosts: bool = True,
) -> Status:
    """What has become of a revision there; ports: of these alone."""
    state = states.get(host)
    if state is None:
        return Status(host, UNKNOWN)
    if state.has_failed(revision, ports):
        problems = state.problems_of(ports) if of_hosts else state.problems_of_ports(ports or ())
        return Status(host, FAILED, problems)
    return Status(host, APPLIED if state.has_applied(revision, ports) else PENDING)
