"""The devices of a host's ports and its underlay: opened here, handed over to the data plane, kept open in
both processes, so that either can die.

What cannot be done now is a problem in words for the operator; the rest is done all the same.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TypeVar

import structlog

from dataplane import devices, links
from dataplane.bpf import Address
from dataplane.client import Client, ClientError
from dataplane.device_watch import Seen
from dataplane.devices import Device, Opening, Underlay
from dataplane.handover import Handover
from dataplane.links import DeviceError
from dataplane.server import Kind
from policy.compiler import own_pas, tenant_mtu
from policy.journal import DeviceKey, Entry, Journal
from policy.model import UNDERLAY_PORT, Attach, Driver, Mac, Policy

UNDERLAY_ID = 0

AT_ONCE = 16
"""Devices that are opened or removed side by side: the kernel may take 50 ms to bring one up, in which the
system call does not return.
"""

log = structlog.get_logger()

_SERVING = f"{UNDERLAY_PORT}: provider addresses"
"""Stands among names of ports for what is no matter of the device."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port that is to have a device. attach: None for the underlay."""

    id: int
    name: str
    attach: Attach | None
    device: str
    mac: Mac
    mtu: int
    driver: Driver = Driver.AUTO
    owner: str = ""
    """The VM network: a device of one is never a port of another."""

    @property
    def opening(self) -> Opening:
        return Opening(str(self.attach.kind)) if self.attach else Opening.UNDERLAY

    @property
    def namespace(self) -> str | None:
        return (self.attach.netns if self.attach else "") or None

    @property
    def key(self) -> DeviceKey:
        return self.opening, self.device, self.namespace

    @property
    def fault(self) -> str:
        """Why it can never have that device, which `check` refuses: of a document from before, or by another
        writer.
        """
        text = self.attach.netns_fault if self.attach else ""
        return text and f"{self.opening.words(self.device, self.namespace)}: attach.netns: {text}"


@dataclass(slots=True)
class _Attached:
    id: int
    device: Device
    owner: str

    @property
    def key(self) -> DeviceKey:
        return self.device.opening, self.device.name, self.namespace

    @property
    def namespace(self) -> str | None:
        return self.device.place.namespace

    @property
    def index(self) -> int:
        return self.device.place.index


def wanted_of(policy: Policy, host: str, ids: dict[str, int], netns_prefix: str = "") -> dict[str, Wanted]:
    """By port name. netns_prefix: goes before every attach.netns."""
    owner = policy.host_by_name.get(host)
    if owner is None or not owner.managed:
        return {}
    mtu = tenant_mtu(policy)
    found = {
        UNDERLAY_PORT: Wanted(
            UNDERLAY_ID,
            UNDERLAY_PORT,
            None,
            owner.underlay.interface,
            owner.underlay.mac,
            owner.underlay.mtu,
            owner.underlay.driver,
        )
    }
    for port in policy.ports:
        if port.host == host and port.attach:
            namespace = netns_prefix + port.attach.netns if port.attach.netns else ""
            attach = Attach(port.attach.kind, port.attach.device, namespace)
            network = policy.subnet_by_id[port.subnet_id].network_id.qualified_name
            found[port.name] = Wanted(
                ids[port.name], port.name, attach, attach.device, port.mac, mtu, owner=network
            )
    return found


def attaches_of(policy: Policy, host: str) -> list[Attach]:
    """Of its ports; none if isolane does not run there."""
    owner = policy.host_by_name.get(host)
    is_here = owner is not None and owner.managed
    return [port.attach for port in policy.ports if is_here and port.host == host and port.attach]


class Attachments:
    """One thread at a time, in the host's namespace. ClientError: the data plane has gone, or is not one to
    work with: connect again.

    The process may be killed at any step: its successor finds in the data plane what is attached, and in the
    journal what was being opened, and all of it if the data plane was killed too. So a device is removed
    before its port is detached, and written down before it is opened.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._noted = threading.Lock()
        self._attached: dict[str, _Attached] = {}
        self._client: Client | None = None
        self._queues = 1
        self._gone: set[str] = set()
        self._altered: set[str] = set()  # by others
        self.problems: dict[str, str] = {}
        """By port name, why it has no device."""

    @property
    def names(self) -> list[str]:
        return sorted(self._attached)

    def connect(self, client: Client) -> bool:
        """Take up with a data plane: what it has and we don't is taken back from it, what we have and it
        doesn't is handed over. Whether there was neither.
        """
        hello = client.hello()
        self._client, self._queues = client, hello["workers"]
        there = {port["name"]: port["id"] for port in hello["ports"]}
        as_before = there == {name: attached.id for name, attached in self._attached.items()}
        for name, number in there.items():
            if name in self._attached:
                self._attached[name].id = number
                continue
            try:
                self._attached[name] = self._adopted(number, client.take(number))
            except DeviceError:  # not what we have opened: its port is opened anew
                client.detach(number)
        for name in self._attached.keys() - there.keys():
            self._hand_over(client, name)
        return as_before

    def _adopted(self, number: int, handover: Handover) -> _Attached:
        """What the data plane says of a device is believed as far as it is written down: which one it is, and
        what there is to undo. DeviceError.
        """
        attached = _Attached(number, devices.adopt(handover), _owner(handover))
        place, entry = attached.device.place, self._journal.entries.get(attached.key)
        if entry is None or (entry.identity, entry.index) != (place.identity, place.index):
            attached.device.release()
            raise DeviceError(f"{attached.key}: opened by somebody else")
        attached.device.undo.steps = list(entry.undo)
        return attached

    def serve(self, policy: Policy, host: str, held: bool) -> bool:
        """Take frames for the host's PAs; held: for those of before too, until the tables are without them.
        Whether there are new ones, to be announced.
        """
        underlay = self._underlay()
        if underlay is None:
            return False
        pas = set(own_pas(policy, host)) if host in policy.host_by_name else set()
        before = underlay.pas.addresses
        hops = self._next_hops()
        wanted = before | pas if held else pas
        with self._problem(_SERVING):
            underlay.serve(wanted, hops)
        return bool(underlay.pas.addresses - before)

    def part(self, wanted: dict[str, Wanted]) -> None:
        """Remove what is not wanted as it is. Call it before rows are pushed: a port's id may be another's in
        them, and its name another tenant's.
        """
        self._remove(name for name in self.names if not _is_as(self._attached[name], wanted.get(name)))

    def sync(self, wanted: dict[str, Wanted], pas: list[Address]) -> bool:
        """Every port that is wanted gets its device, and nothing else has one. Whether the underlay is new.

        pas: the host's, for a new underlay.
        """
        assert self._client is not None, "connect() comes first"
        self.problems = {name: each.fault for name, each in wanted.items() if each.fault}
        wanted = {name: each for name, each in wanted.items() if not each.fault}
        self.part(wanted)
        gone, self._gone = self._gone, set()
        self._remove(name for name in self.names if name in gone)
        self._altered &= self._attached.keys()
        self._put_back_left(wanted)
        resized = [name for name, each in self._attached.items() if not self._is_as_wide(each.device)]
        missing = [each for name, each in wanted.items() if name not in self._attached or name in resized]
        for name, there in self._attached.items():
            if name not in resized:
                with self._problem(name):
                    if name in self._altered:
                        there.device.repair()
                        self._altered.remove(name)
                    self._adapt(wanted[name], there)
        if not missing:
            return False
        for name in resized:
            self._let_go(name)
        self._open(missing, pas)
        return any(each.name == UNDERLAY_PORT for each in missing) and self._underlay() is not None

    def check(self) -> bool:
        """Whether the data plane has these ports and no others, as far as it now has."""
        assert self._client is not None, "connect() comes first"
        return self.connect(self._client)

    def concerned(self, seen: Seen) -> list[str]:
        """Ports that have gone, or perhaps have, by what was seen."""
        return [
            name
            for name, attached in self._attached.items()
            if attached.namespace in seen.unsure or (attached.namespace, attached.index) in seen.gone
        ]

    def devices_of(self, names: Iterable[str]) -> dict[str, Device]:
        return {name: self._attached[name].device for name in names if name in self._attached}

    def doubt(self, names: Iterable[str]) -> set[str]:
        """Those whose devices have gone or are not as they were left: the next sync() puts them right."""
        doubtful = self.devices_of(names)
        gone = {name for name, device in doubtful.items() if _is_gone(device)}
        altered = {name for name in doubtful.keys() - gone if _is_altered(doubtful[name])}
        self._gone |= gone
        self._altered |= altered
        return gone | altered

    def release(self) -> None:
        """Leave everything to the data plane."""
        for attached in self._attached.values():
            attached.device.release()
        self._attached.clear()

    def close(self) -> None:
        """Remove all devices, those of a predecessor too; the data plane may have gone."""
        self._put_back_left({})
        try:
            self._remove(self.names)
        except ClientError:
            self._client = None
        if not self._journal.entries:
            self._journal.remove()

    # ---- some ports

    def _remove(self, names: Iterable[str]) -> None:
        """Whoever is killed in between leaves ports whose device has gone, which its successor detaches."""
        removed = [self._attached.pop(name) for name in list(names)]
        _side_by_side(lambda attached: attached.device.close(), removed)
        self._note({attached.key: None for attached in removed})
        for attached in removed:
            if self._client is not None:
                with _refusal_ignored():
                    self._client.detach(attached.id)

    def _put_back_left(self, wanted: dict[str, Wanted]) -> None:
        """What a predecessor has opened, or perhaps has, and nobody wants."""
        kept = {each.key for each in wanted.values()} | {each.key for each in self._attached.values()}
        left = {key: entry for key, entry in self._journal.entries.items() if key not in kept}
        for (opening, name, namespace), entry in left.items():
            there = links.Place(namespace, entry.identity, entry.index)
            with suppress(DeviceError):
                devices.put_back(opening, name, there, entry.undo)
            if entry.opening and opening in (Opening.TAP, Opening.VETH):
                with suppress(DeviceError):  # taken over, which is to have what to undo
                    _open_at((opening, name, namespace), entry.mac, entry.mtu, self._queues).close()
        self._note(dict.fromkeys(left))

    def _noting(self, wanted: Wanted) -> devices.Note:
        """By the thread that opens it."""
        before = self._journal.entries.get(wanted.key)

        def note(place: links.Place, steps: list[links.Step]) -> None:
            undo = links.merged(_undo_of(before, place), steps)
            with self._noted:
                self._note(
                    {wanted.key: Entry(wanted.mac, wanted.mtu, True, place.identity, place.index, undo)}
                )

        return note

    def _note(self, changes: Mapping[DeviceKey, Entry | None]) -> None:
        if changes:
            try:
                self._journal.write(changes)
            except OSError as error:
                log.warning("not written down for a later agent", problem=str(error))

    def _let_go(self, name: str) -> None:
        """To be opened again with another number of queues; a TAP or veth stays meanwhile."""
        attached = self._attached.pop(name)
        assert self._client is not None, "connect() comes first"
        if attached.device.opening in (Opening.TAP, Opening.VETH):
            attached.device.release()
        else:
            attached.device.close()
            self._note({attached.key: None})
        with _refusal_ignored():
            self._client.detach(attached.id)

    def _is_as_wide(self, device: Device) -> bool:
        return len(device.fds) == device.queues_of(self._queues)

    def _hand_over(self, client: Client, name: str) -> None:
        """A device that the data plane refuses, as its own has gone perhaps, is opened anew."""
        attached = self._attached[name]
        try:
            client.attach(attached.id, *_handover(attached, name))
        except ClientError as error:
            if error.kind not in (Kind.HOST, Kind.REQUEST):
                raise
            del self._attached[name]
            attached.device.release()

    def _open(self, missing: Collection[Wanted], pas: list[Address]) -> None:
        """With a data plane that goes meanwhile they wait for the next: a device may be one that a VM has
        used for long.
        """
        before = {each.key: self._journal.entries.get(each.key) for each in missing}
        self._note({each.key: _begun(each, before[each.key]) for each in missing})
        opened = _side_by_side(
            lambda wanted: _opened(wanted, self._queues, pas, self._noting(wanted)), missing
        )
        for wanted, found in zip(missing, opened, strict=True):
            if isinstance(found, Device):
                found.undo.inherit(_undo_of(before[wanted.key], found.place))
                self._attached[wanted.name] = _Attached(wanted.id, found, wanted.owner)
        self._note(
            {
                wanted.key: _entry(found) if isinstance(found, Device) else before[wanted.key]
                for wanted, found in zip(missing, opened, strict=True)
            }
        )
        for wanted, found in zip(missing, opened, strict=True):
            with self._problem(wanted.name):
                if isinstance(found, DeviceError):
                    raise found
                self._attach(wanted.name)

    def _attach(self, name: str) -> None:
        assert self._client is not None, "connect() comes first"
        attached = self._attached[name]
        try:
            self._client.attach(attached.id, *_handover(attached, name))
        except ClientError as error:
            if error.kind in (Kind.HOST, Kind.REQUEST):
                del self._attached[name]
                attached.device.close()
                self._note({attached.key: None})
            raise

    def _adapt(self, wanted: Wanted, there: _Attached) -> None:
        """To another MAC or MTU."""
        assert self._client is not None, "connect() comes first"
        if (there.device.mac, there.device.mtu) == (wanted.mac or there.device.mac, wanted.mtu):
            return
        resized = there.device.resize(wanted.mac or there.device.mac, wanted.mtu)
        if (resized.mac, resized.mtu) != (there.device.mac, there.device.mtu):
            resized_there = _Attached(there.id, resized, there.owner)
            self._client.attach(there.id, *_handover(resized_there, wanted.name), replace=True)
            there.device = resized

    @contextmanager
    def _problem(self, name: str) -> Iterator[None]:
        """What is the host's operator's to mend is noted; a data plane that has gone is not."""
        try:
            yield
        except DeviceError as error:
            self.problems[name] = str(error)
        except ClientError as error:
            if error.kind not in (Kind.HOST, Kind.REQUEST):
                raise
            self.problems[name] = f"port {name}: {error}"
        else:
            self.problems.pop(name, None)

    def _underlay(self) -> Underlay | None:
        attached = self._attached.get(UNDERLAY_PORT)
        return attached.device if attached and isinstance(attached.device, Underlay) else None

    def _next_hops(self) -> list[Address]:
        assert self._client is not None, "connect() comes first"
        return [ip_address(each["address"]) for each in self._client.neighbours()]


def _side_by_side(function: Callable[[U], T], items: Collection[U]) -> list[T]:
    """In the order of items; each is done whatever becomes of the others."""
    if len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE, "device") as pool:
        begun = [pool.submit(function, item) for item in items]
    return [each.result() for each in begun]


def _is_as(attached: _Attached, wanted: Wanted | None) -> bool:
    if wanted is None or wanted.fault:
        return False
    return (wanted.id, wanted.key, wanted.owner) == (attached.id, attached.key, attached.owner)


def doubtful(devices: Mapping[str, Device]) -> set[str]:
    """Those that are not there, or not as they were left; by any thread. Of one that is closed meanwhile it
    may say anything: have it looked at again before anything is done.
    """
    return {name for name, each in devices.items() if not _is_sound(each)}


def _is_sound(device: Device) -> bool:
    try:
        return device.is_present() and device.is_as_left()
    except Exception:  # its descriptors may be those of anything by now
        return False


def _is_gone(device: Device) -> bool:
    """For certain: one that can't be looked at now may be in use by a VM."""
    try:
        return not device.is_present()
    except DeviceError:
        return False


def _is_altered(device: Device) -> bool:
    try:
        return not device.is_as_left()
    except DeviceError:
        return False


def _handover(attached: _Attached, name: str) -> Handover:
    """With whose it is."""
    config, held, note = attached.device.handover(name)
    return Handover(config, held, {**note, "owner": attached.owner})


def _owner(handover: Handover) -> str:
    """Whose a device is that another agent attached; "?", which nobody is, where it has not said so."""
    return str(handover.note.get("owner", "?")) if isinstance(handover.note, dict) else "?"


def _begun(wanted: Wanted, before: Entry | None) -> Entry:
    if before is not None:
        return replace(before, opening=True)
    return Entry(wanted.mac, wanted.mtu, opening=True)


def _undo_of(entry: Entry | None, place: links.Place) -> list[links.Step]:
    """The steps that it has for this very device."""
    if entry is None or (entry.identity, entry.index) != (place.identity, place.index):
        return []
    return entry.undo


def _entry(device: Device) -> Entry:
    place, undo = device.place, device.undo.steps
    return Entry(device.mac, device.mtu, False, place.identity, place.index, undo)


@contextmanager
def _refusal_ignored() -> Iterator[None]:
    """Of what somebody else has detached already."""
    try:
        yield
    except ClientError as error:
        if error.kind != Kind.REQUEST:
            raise


def _opened(wanted: Wanted, queues: int, pas: list[Address], note: devices.Note) -> Device | DeviceError:
    try:
        return _open(wanted, queues, pas, note)
    except DeviceError as error:
        return error


def _open(wanted: Wanted, queues: int, pas: list[Address], note: devices.Note) -> Device:
    """DeviceError."""
    if wanted.opening is Opening.EXISTING:
        return devices.open_existing(wanted.device, mac=wanted.mac, mtu=wanted.mtu, queues=queues, note=note)
    if wanted.attach is not None:
        return _open_at(wanted.key, wanted.mac, wanted.mtu, queues)
    if wanted.driver is Driver.AFXDP:
        raise DeviceError(f"underlay {wanted.device}: driver afxdp is not supported yet")
    return devices.open_underlay(
        wanted.device, mac=wanted.mac, mtu=wanted.mtu, queues=queues, pas=pas, note=note
    )


def _open_at(key: DeviceKey, mac: str, mtu: int, queues: int) -> Device:
    """A VM's. DeviceError."""
    opening, name, namespace = key
    match opening:
        case Opening.TAP:
            return devices.open_tap(name, namespace=namespace or "", mac=mac, mtu=mtu, queues=queues)
        case Opening.VETH:
            return devices.open_veth(name, namespace=namespace or "", mac=mac, mtu=mtu, queues=queues)
    return devices.open_existing(name, mac=mac, mtu=mtu, queues=queues)
