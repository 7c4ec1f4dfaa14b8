"""Brings the data plane of one host to what the store says: the desired state, what differs, devices, rows,
and what came of it. When that is done, and when again, is the loop's to decide.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from dataplane.binding.tables import RowKind
from dataplane.host.bpf import Address
from policy.agent.devices import DeviceManager
from policy.agent.programmer import Programmer, PushResult, known_ids
from policy.agent.session import Dataplane
from policy.agent.strangers import Strangers
from policy.agent.wanted import UNDERLAY_ID, Wanted, attaches_of, wanted_of
from policy.compile.collection import set_aside, uncollected
from policy.compile.compiler import own_pas
from policy.compile.host_view import HostView, Step
from policy.compile.quarantine import identity_of
from policy.compile.tables import Ids
from policy.errors import ObjectId
from policy.kinds.model import AttachKind

log = structlog.get_logger()


class Watch(Protocol):
    """dataplane.host.device_watch.DeviceWatch, as far as it is told what to watch."""

    def follow(self, namespaces: Collection[str | None], tenants: Collection[str] = ()) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """result: of pushing rows; None where only devices were concerned. has_new_hops: packets go to next hops
    that nobody listens to yet.
    """

    result: PushResult | None
    has_new_hops: bool = False


class Reconciler:
    """One thread at a time. ClientError, of whatever asks the data plane: it has gone, or is not one to work
    with; connect() to the next. What can't be done on the host is a problem, told by `problems`.
    """

    def __init__(
        self, host: str, netns_prefix: str, devices: DeviceManager, watch: Watch, strangers: Strangers
    ) -> None:
        self._host = host
        self._netns_prefix = netns_prefix
        self.devices = devices
        self._strangers = strangers
        self._watch = watch
        self.view: HostView | None = None
        """The desired state; None until a store has been read."""
        self.has_rows = False
        """Whether the data plane has the rows of the view, as far as is known."""
        self._client: Dataplane | None = None
        self._programmer: Programmer | None = None
        self._ids: Ids | None = None  # of the rows and ports that the data plane had
        self._attached: object = None  # the policy that devices were last made by
        self._tried: object = None  # the policy that devices were last to be made by
        self._watched: object = None  # the policy whose devices are listened for

    @property
    def has_devices(self) -> bool:
        """Whether all devices are as the view says, as far as is known."""
        return self.view is not None and self._attached is self.view.policy

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to try again."""
        is_blocked = self.view is None or self.view.is_blocked
        return self.has_rows and self.has_devices and not is_blocked

    @property
    def knows_ports(self) -> bool:
        """Whether the devices' wanted_ports are those of the view."""
        return self.view is not None and self._tried is self.view.policy

    @property
    def digest(self) -> str:
        return self._programmer.digest if self._programmer is not None else ""

    @property
    def problems(self) -> list[str]:
        """Of documents and devices; a port's begins with its name, so that others' can be left out."""
        unread = self.view.quarantined if self.view is not None else {}
        ports = self.view.ids.ports if self.view is not None else {}
        return [
            *(_of_port(_port_of(key), text) for key, text in unread.items()),
            *(_of_port(name if name in ports else "", text) for name, text in self.devices.problems.items()),
            *(_of_port(name, self._strangers.problems[name]) for name in self._strange),
        ]

    @property
    def _strange(self) -> list[str]:
        """Ports that have no other problem: with more than one each, they would pass for the host's."""
        return [name for name in self._strangers.problems if name not in self.devices.problems]

    @property
    def ports_with_problems(self) -> Collection[str]:
        """Ports that each has one of the problems: the others are the host's."""
        if self.view is None:
            return ()
        unread = {each.qualified_name for each in self.quarantined if each.kind == "Port"}
        troubled = self.devices.problems.keys() | self._strangers.problems.keys()
        return unread | (troubled & self.view.ids.ports.keys())

    @property
    def quarantined(self) -> list[ObjectId]:
        keys = self.view.quarantined if self.view is not None else ()
        return [identity for key in keys if (identity := identity_of(key)) is not None]

    # ---- the desired state

    def load(self, items: Mapping[str, bytes]) -> None:
        """All that the store has."""
        ids = self.view.ids if self.view is not None else self._ids
        self.has_rows = False
        self.view = None  # two would take twice the memory
        with uncollected():
            self.view = HostView(self._host, items, ids)
            set_aside()
        if not self.view.is_managed:
            log.warning("no such host, or not one that isolane runs on", host=self._host)

    def change(self, changes: Mapping[str, bytes | None]) -> Step | None:
        """What a commit has changed. None: reconcile all rows."""
        assert self.view is not None, "load() comes first"
        step = self.view.change(changes)
        if step is None or not self.has_rows or self._programmer is None:
            self.has_rows = False
            return None
        return step

    # ---- the data plane

    def connect(self, client: Dataplane) -> None:
        """Go on with another data plane, from whatever it has."""
        self.devices.connect(client)
        self._learn_ids(client)
        self._client, self._programmer = client, Programmer(client, self._host)
        self.has_rows, self._attached, self._tried = False, None, None

    def disconnect(self) -> None:
        self._client = self._programmer = None

    def _learn_ids(self, client: Dataplane) -> None:
        """A data plane that has rows says what is called what there; a new one goes by our ids, if we have
        some, or by those of ports that it was given back.
        """
        ids = known_ids(client, self._host)
        if self.view is not None and not ids.routing_domains:
            return
        for port in client.hello()["ports"]:
            if port["id"] != UNDERLAY_ID and port["id"] not in ids.ports.values():
                ids.ports.setdefault(port["name"], port["id"])
        self._ids = ids
        if self.view is not None:
            self.view.go_by(ids)

    # ---- bringing it there

    def reconcile(self, step: Step | None = None) -> Outcome:
        """Rows and devices become what the view says. step: of the view's last change, the rows that differ;
        None: what differs from what the data plane has is found out.

        PushError: the data plane does not take the rows, or does not hold what it took; after a step,
        reconcile all rows. PolicyError: the store holds what nobody committed.
        """
        view, programmer = self._view(), self._ready_programmer()
        rows = step or view.whole()
        concerns_devices = step is None or not self.has_devices
        if concerns_devices:
            self.devices.remove_unwanted(self._wanted())  # before rows: an id may be another tenant's in them
            self.devices.serve(self._own_pas(), held=True)  # also those of before, until no row has them
        if isinstance(rows, Step):
            result = programmer.push_step(rows, view.used_ids)  # and verified
        else:
            result = programmer.push(rows)  # and verified
        self.has_rows = True
        if concerns_devices:
            self.ensure_devices()
        view.prune()
        return Outcome(result, step is not None and not concerns_devices and _changes_hops(step))

    def ensure_devices(self) -> Outcome:
        """Devices become what the view says; those that can't be are problems, to be tried again."""
        assert self._client is not None, "connect() comes first"
        self._attached = None
        self.watch_devices()
        is_new = self.devices.ensure(self._wanted(), self._own_pas())
        self._tried = self._view().policy
        if self.devices.serve(self._own_pas(), held=False) or is_new:
            self._client.announce()
        if not self.devices.problems:
            self._attached = self._view().policy
        return Outcome(None)

    def listen_to_hops(self) -> None:
        """Other hosts' PAs came or went: take what those say of themselves that packets go to now."""
        self.devices.serve(self._own_pas(), held=True)
        if self.devices.problems:
            self._attached = None

    # ---- comparing

    def compare_rows(self, anew: bool = False) -> bool | None:
        """Some of the rows that the data plane has, so that nothing waits for them. anew: from the first on.
        None: call again, there are more.
        """
        if not self.has_rows:
            return True
        is_right = self._ready_programmer().compare(anew)
        if is_right is False:
            log.warning("the data plane has not the rows it was given: pushing them again")
            self.has_rows = False
        return is_right

    def compare_ports(self) -> None:
        """Whether the data plane has the ports that it was given, and no others."""
        if not self.devices.compare():
            log.warning("the data plane has not the ports it was given: attaching them again")
            self._attached = None

    def recheck(self, names: Collection[str]) -> bool:
        """Look at the devices of these ports. Whether one is another than it was known to be."""
        found = self.devices.recheck(names)
        if found:
            self._attached = None
        suspected = self.devices.suspected
        if told := sorted(f"{name}: {suspected[name]}" for name in found & suspected.keys()):
            log.warning("devices are not as they were left", ports=told)
        return bool(found)

    def retry_devices(self) -> None:
        """What some wait for may be there."""
        self._attached = None

    # ---- of the view

    def watch_devices(self) -> None:
        """Also without a data plane: VMs' devices are kept from the host's stack all the same."""
        if self.view is None or self.view.policy is self._watched:
            return
        attached = attaches_of(self.view.policy, self._host)
        namespaces = {self._netns_prefix + each.netns for each in attached if each.netns}
        tenants = {each.device for each in attached if each.kind is AttachKind.DEVICE}
        self._watch.follow({None, *namespaces}, tenants)
        self._watched = self.view.policy

    def _view(self) -> HostView:
        assert self.view is not None, "load() comes first"
        return self.view

    def _ready_programmer(self) -> Programmer:
        assert self._programmer is not None, "connect() comes first"
        return self._programmer

    def _wanted(self) -> dict[str, Wanted]:
        view = self._view()
        return wanted_of(view.policy, self._host, view.ids.ports, self._netns_prefix)

    def _own_pas(self) -> list[Address]:
        view = self._view()
        return own_pas(view.policy, self._host) if self._host in view.policy.host_by_name else []


def _port_of(key: str) -> str:
    """The name of the Port that is under a key; "" if it is none's."""
    identity = identity_of(key)
    return identity.qualified_name if identity is not None and identity.kind == "Port" else ""


def _of_port(name: str, problem: str) -> str:
    return f"port {name}: {problem}" if name and not problem.startswith(f"port {name}: ") else problem


def _changes_hops(step: Step) -> bool:
    return step.before[RowKind.PA] != step.after[RowKind.PA]
