"""The devices of a host's ports and its underlay: opened here, handed over to the data plane, kept open in
both processes, so that either can die.

What cannot be done now is a problem in words for the operator; the rest is done all the same.
"""

import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from itertools import accumulate

import structlog

from dataplane.binding.core import Offload
from dataplane.binding.handover import Handover
from dataplane.host import links
from dataplane.host.bpf import Address
from dataplane.host.device import MADE, Device, Note, Opening, Terms
from dataplane.host.device_watch import Seen
from dataplane.host.links import AbsentError, DeviceError, TakenError
from dataplane.host.underlay import Underlay
from dataplane.host.undo import Step, merged
from dataplane.process.client import ClientError
from dataplane.process.protocol import Kind
from policy.agent.attached import (
    Attached,
    begun,
    entry_of,
    handover_of,
    is_altered,
    is_as,
    is_as_opened,
    is_gone,
    owner_of,
    undo_of,
)
from policy.agent.opener import HostOpener, Opener
from policy.agent.side_by_side import side_by_side
from policy.agent.switch import Switch, refusal_ignored
from policy.agent.undo_log import DeviceKey, Entry, UndoLog
from policy.agent.wanted import Wanted
from policy.kinds.model import UNDERLAY_PORT, Driver

log = structlog.get_logger()

_SERVING, _UNDO_LOG = f"{UNDERLAY_PORT}: provider addresses", "undo log"
"""Stand among names of ports for what is no matter of the device."""


class DeviceManager:
    """One thread at a time, in the host's namespace. ClientError: the data plane has gone, or is not one to
    work with: connect again.

    The process may be killed at any step: its successor finds in the data plane what is attached, and in the
    undo log what was being opened, and all of it if the data plane was killed too. So a device is removed
    before its port is detached, and written down before it is opened.
    """

    def __init__(self, undo_log: UndoLog, opener: Opener | None = None) -> None:
        self._undo_log = undo_log
        self._opener = opener or HostOpener()
        self._noted = threading.Lock()
        self._attached: dict[str, Attached] = {}
        self._client: Switch | None = None
        self._queues = 1
        self._gone: set[str] = set()
        self._altered: set[str] = set()  # by others
        self._problems: dict[str, str] = {}
        self._is_anothers = False  # the underlay
        self._unwritten = ""  # why the undo log can't be written
        self.wanted_ports: frozenset[str] = frozenset()
        """Those of tenants that are to have devices, as ensure() was told last."""
        self.waiting: dict[str, str] = {}
        """By port name, what it waits for: a device that somebody else makes, such as a hypervisor."""

    @property
    def problems(self) -> dict[str, str]:
        """By port name, or what else of the host it is, why not all is as it should be."""
        return {**self._problems, _UNDO_LOG: self._unwritten} if self._unwritten else self._problems

    @property
    def suspected(self) -> dict[str, str]:
        """Ports whose devices are not as they were left, as far as is known: `gone`, or `altered`."""
        return dict.fromkeys(self._altered, "altered") | dict.fromkeys(self._gone, "gone")

    @property
    def names(self) -> list[str]:
        return sorted(self._attached)

    def connect(self, client: Switch) -> bool:
        """Take up with a data plane: what it has and we don't is taken back from it, what we have and it
        doesn't is handed over. Whether there was neither.
        """
        hello = client.hello()
        self._client, self._queues = client, hello["workers"]
        there = {port["name"]: port["id"] for port in hello["ports"]}
        for port in hello["ports"]:  # which it was given back without the AF_XDP sockets of one before
            if (ours := self._attached.get(port["name"])) and ours.device.xsks != port["xsks"]:
                self._attached.pop(port["name"]).device.release()
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

    def _adopted(self, number: int, handover: Handover) -> Attached:
        """What the data plane says of a device is believed as far as it is written down: which one it is, and
        what there is to undo. DeviceError.
        """
        device = self._opener.adopt(handover)
        attached = Attached(number, device, owner_of(handover), handover.config.spins)
        place, entry = attached.device.place, self._undo_log.entries.get(attached.key)
        if entry is None or (entry.identity, entry.index) != (place.identity, place.index):
            attached.device.release()
            raise DeviceError(f"{attached.key}: opened by somebody else")
        attached.device.undo.steps = list(entry.undo)
        return attached

    def serve(self, addresses: Iterable[Address], held: bool) -> bool:
        """Take frames for these PAs of the host; held: for those of before too, until the tables are without
        them. Whether there are new ones, to be announced.
        """
        underlay = self._underlay()
        if underlay is None:
            return False
        pas = set(addresses)
        before = underlay.pas.addresses
        hops = self._next_hops()
        wanted = before | pas if held else pas
        with self._problem(_SERVING):
            underlay.serve(wanted, hops)
        return bool(underlay.pas.addresses - before)

    def remove_unwanted(self, wanted: dict[str, Wanted]) -> None:
        """Remove what is not wanted as it is. Call it before rows are pushed: a port's id may be another's in
        them, and its name another tenant's.
        """
        self._remove(name for name in self.names if not is_as(self._attached[name], wanted.get(name)))

    def ensure(self, wanted: dict[str, Wanted], pas: list[Address]) -> bool:
        """Every port that is wanted gets its device, and nothing else has one. Whether the underlay is new or
        another than it was.

        pas: the host's, for a new underlay.
        """
        assert self._client is not None, "connect() comes first"
        self.wanted_ports = frozenset(wanted.keys() - {UNDERLAY_PORT})
        self._problems = {name: each.fault for name, each in wanted.items() if each.fault}
        self.waiting = {}
        self._note({})
        wanted = {name: each for name, each in wanted.items() if not each.fault}
        self.remove_unwanted(wanted)
        gone, self._gone = self._gone, set()
        self._remove(name for name in self.names if name in gone)
        self._altered &= self._attached.keys()
        self._put_back_left(wanted)
        outdated = {
            name
            for name, each in self._attached.items()
            if not is_as_opened(each.device, wanted[name], self._queues)
        }
        before = self._underlay()
        is_another = before is not None and UNDERLAY_PORT in self._altered
        for name, there in self._attached.items():
            if name not in outdated:
                with self._problem(name):
                    is_kept = name not in self._altered or self._put_right(wanted[name], there)
                    if not (is_kept and self._adapt(wanted[name], there)):
                        outdated.add(name)
        for name in outdated:
            self._let_go(name)
        self._open_all([each for name, each in wanted.items() if name not in self._attached], pas)
        is_another = is_another and UNDERLAY_PORT not in self._problems
        return is_another or (before is not self._underlay() is not None)

    def compare(self) -> bool:
        """Whether the data plane has these ports and no others, as far as it now has."""
        assert self._client is not None, "connect() comes first"
        return self.connect(self._client)

    def affected_by(self, seen: Seen) -> list[str]:
        """Ports whose devices have gone or changed, or perhaps have, by what was seen. What a VM does to its
        end of one is its own business.
        """
        return [
            name
            for name, attached in self._attached.items()
            if attached.namespace in seen.unsure
            or (attached.namespace, attached.index) in seen.gone
            or (attached.namespace is None and (None, attached.index) in seen.changed)
        ]

    def relinked_by(self, seen: Seen) -> set[str]:
        """Ports to whose links something was done, or perhaps was, by what was seen."""
        return {
            name
            for name, attached in self._attached.items()
            if attached.namespace in seen.unsure or (attached.namespace, attached.index) in seen.changed
        }

    def devices_of(self, names: Iterable[str]) -> dict[str, Device]:
        return {name: self._attached[name].device for name in names if name in self._attached}

    def recheck(self, names: Iterable[str]) -> set[str]:
        """Those of which something is new: their devices have gone, or are not as they were left, which the
        next ensure() puts right, or are so again.
        """
        doubtful = self.devices_of(names)
        gone = {name for name, device in doubtful.items() if is_gone(device)}
        altered = {name for name in doubtful.keys() - gone if is_altered(doubtful[name])}
        known = self.suspected.keys() & doubtful.keys()
        self._gone |= gone
        self._altered = (self._altered - doubtful.keys()) | altered
        return (gone | altered) ^ known

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
        if not self._undo_log.entries:
            self._undo_log.remove()

    # ---- some ports

    def _remove(self, names: Iterable[str]) -> None:
        """Whoever is killed in between leaves ports whose device has gone, which its successor detaches."""
        removed = [self._attached.pop(name) for name in list(names)]
        side_by_side(lambda attached: attached.device.close(), removed)
        self._note({attached.key: None for attached in removed})
        for attached in removed:
            if self._client is not None:
                with refusal_ignored():
                    self._client.detach(attached.id)

    def _put_back_left(self, wanted: dict[str, Wanted]) -> None:
        """What a predecessor has opened, or perhaps has, and nobody wants, or another VM network does: the VM
        behind it is not that one's.
        """
        owners = {each.key: each.owner for each in wanted.values()}
        attached = {each.key for each in self._attached.values()}
        left = {
            key: entry
            for key, entry in self._undo_log.entries.items()
            if key not in attached and not (key in owners and entry.owner in ("", owners[key]))
        }
        for (opening, name, namespace), entry in left.items():
            there = links.Place(namespace, entry.identity, entry.index)
            with suppress(DeviceError):
                self._opener.put_back((opening, name, namespace), there, entry.undo)
            if entry.opening and opening in MADE:
                with suppress(DeviceError):  # taken over, which is to have what to undo
                    terms = Terms(entry.mac, entry.mtu, self._queues)
                    self._opener.take_over((opening, name, namespace), terms).close()
        self._note(dict.fromkeys(left))

    def _noting(self, wanted: Wanted) -> Note:
        """By the thread that opens it."""
        before = self._undo_log.entries.get(wanted.key)

        def note(place: links.Place, steps: list[Step]) -> None:
            undo = merged(undo_of(before, place), steps)
            with self._noted:
                there = (place.identity, place.index, undo, wanted.owner)
                self._note({wanted.key: Entry(wanted.mac, wanted.mtu, True, *there)})

        return note

    def _note(self, changes: Mapping[DeviceKey, Entry | None]) -> None:
        """Without changes: what could not be written before."""
        if not changes and not self._unwritten:
            return
        try:
            self._undo_log.write(changes)
            self._unwritten = ""
        except OSError as error:
            self._unwritten = f"undo log {self._undo_log.path}: {error.strerror or error}"
            log.warning("not written down for a later agent", problem=self._unwritten)

    def _let_go(self, name: str) -> None:
        """To be opened again with another number of queues; what isolane made stays meanwhile."""
        attached = self._attached.pop(name)
        assert self._client is not None, "connect() comes first"
        if attached.device.opening in MADE:
            attached.device.release()
        else:
            attached.device.close()
            self._note({attached.key: None})
        with refusal_ignored():
            self._client.detach(attached.id)

    def _hand_over(self, client: Switch, name: str) -> None:
        """A device that the data plane refuses, as its own has gone perhaps, is opened anew; so is one with
        AF_XDP sockets, which served the one before.
        """
        attached = self._attached[name]
        if attached.device.xsks:
            del self._attached[name]
            attached.device.release()
            return
        try:
            client.attach(attached.id, *handover_of(attached, name))
        except ClientError as error:
            if error.kind not in (Kind.HOST, Kind.REQUEST):
                raise
            del self._attached[name]
            attached.device.release()

    def _open_all(self, missing: Collection[Wanted], pas: list[Address]) -> None:
        """The underlay first: where another isolane has it, the host is that one's: nothing is touched."""
        self._open([each for each in missing if each.name == UNDERLAY_PORT], pas)
        rest = [each for each in missing if each.name != UNDERLAY_PORT]
        if not self._is_anothers:
            self._open(self._fitting(rest), pas)

    def _fitting(self, missing: list[Wanted]) -> list[Wanted]:
        """For whose devices there are descriptors."""
        free, limit = self._opener.room()
        needed = accumulate(each.descriptors(self._queues) for each in missing)
        fit = sum(1 for total in needed if total <= free)
        for each in missing[fit:]:
            self._problems[each.name] = (
                f"port {each.name}: no descriptors for its device: a process may have {limit} "
                f"(RLIMIT_NOFILE; LimitNOFILE= of the units, ulimit -n), {fit} more ports fit"
            )
        return missing[:fit]

    def _open(self, missing: Collection[Wanted], pas: list[Address]) -> None:
        """With a data plane that goes meanwhile they wait for the next: a device may be one that a VM has
        used for long.
        """
        before = {each.key: self._undo_log.entries.get(each.key) for each in missing}
        self._note({each.key: begun(each, before[each.key]) for each in missing})
        with self._memory(missing) as memory:
            opened = side_by_side(lambda wanted: self._opened(wanted, pas, memory), missing)
        for wanted, found in zip(missing, opened, strict=True):
            if isinstance(found, Device):
                found.undo.inherit(undo_of(before[wanted.key], found.place))
                self._attached[wanted.name] = Attached(wanted.id, found, wanted.owner, wanted.spins)
        self._note(
            {
                wanted.key: entry_of(found, wanted.owner) if isinstance(found, Device) else before[wanted.key]
                for wanted, found in zip(missing, opened, strict=True)
            }
        )
        for wanted, found in zip(missing, opened, strict=True):
            if isinstance(found, AbsentError) and wanted.opening is Opening.EXISTING:
                self.waiting[wanted.name] = str(found)
                continue
            if wanted.name == UNDERLAY_PORT:
                self._is_anothers = isinstance(found, TakenError)
            with self._problem(wanted.name):
                if isinstance(found, DeviceError):
                    raise found
                self._attach(wanted.name, before[wanted.key] is None)
                if wanted.name == UNDERLAY_PORT and not found.xsks and Offload.NVGRE not in found.offloads:
                    log.warning("super-packets are cut before they go into tunnels", device=found.name)

    @contextmanager
    def _memory(self, missing: Collection[Wanted]) -> Iterator[int | None]:
        """The data plane's, for AF_XDP; None: nobody needs it, or it shares none."""
        fd = None
        if self._client is not None and any(each.driver is Driver.AFXDP for each in missing):
            with refusal_ignored():
                fd = self._client.memory()
        try:
            yield fd
        finally:
            if fd is not None:
                os.close(fd)

    def _opened(self, wanted: Wanted, pas: list[Address], memory: int | None) -> Device | DeviceError:
        try:
            terms = wanted.terms(self._queues, memory, self._noting(wanted))
            return self._opener.open(wanted, terms, pas)
        except DeviceError as error:
            return error

    def _attach(self, name: str, is_new: bool) -> None:
        """is_new: if it is refused, it goes; else it stays, for a VM may be using it."""
        assert self._client is not None, "connect() comes first"
        attached = self._attached[name]
        try:
            self._client.attach(attached.id, *handover_of(attached, name))
        except ClientError as error:
            if error.kind in (Kind.HOST, Kind.REQUEST):
                self._give_up(name, is_new)
            raise
        try:
            attached.device.begin()
        except DeviceError:
            self._give_up(name, is_new)
            with refusal_ignored():
                self._client.detach(attached.id)
            raise

    def _give_up(self, name: str, is_new: bool) -> None:
        attached = self._attached.pop(name)
        if is_new:
            attached.device.close()
            self._note({attached.key: None})
        else:
            attached.device.release()

    def _put_right(self, wanted: Wanted, there: Attached) -> bool:
        """What others have done. An underlay has to be as stated by now; what is not stated is followed. As
        _adapt().
        """
        is_kept = there.device.opening is not Opening.UNDERLAY or self._resize(wanted, there, wanted.mac)
        if is_kept:
            there.device.repair()
        self._altered.remove(wanted.name)
        return is_kept

    def _adapt(self, wanted: Wanted, there: Attached) -> bool:
        """To another MAC, MTU or spin. False: it has to be opened anew."""
        assert self._client is not None, "connect() comes first"
        if there.spins != wanted.spins:
            self._client.spin(there.id, wanted.spins)
            there.spins = wanted.spins
        if (there.device.mac, there.device.mtu) == (wanted.mac or there.device.mac, wanted.mtu):
            return True
        return self._resize(wanted, there, wanted.mac or there.device.mac)

    def _resize(self, wanted: Wanted, there: Attached, mac: str) -> bool:
        """As _adapt()."""
        assert self._client is not None, "connect() comes first"
        resized = there.device.resize(mac, wanted.mtu)
        if (resized.mac, resized.mtu) == (there.device.mac, there.device.mtu):
            return True
        if resized.xsks:
            return False
        resized_there = replace(there, device=resized)
        self._client.attach(there.id, *handover_of(resized_there, wanted.name), replace=True)
        there.device = resized
        return True

    @contextmanager
    def _problem(self, name: str) -> Iterator[None]:
        """What is the host's operator's to mend is noted; a data plane that has gone is not."""
        try:
            yield
        except DeviceError as error:
            self._problems[name] = str(error)
        except ClientError as error:
            if error.kind not in (Kind.HOST, Kind.REQUEST):
                raise
            self._problems[name] = f"data plane: {error}"
        else:
            self._problems.pop(name, None)

    @property
    def underlay_link(self) -> str:
        """As Device.link; "" before there is one."""
        underlay = self._underlay()
        return underlay.link if underlay is not None else ""

    def _underlay(self) -> Underlay | None:
        attached = self._attached.get(UNDERLAY_PORT)
        return attached.device if attached and isinstance(attached.device, Underlay) else None

    def _next_hops(self) -> list[Address]:
        assert self._client is not None, "connect() comes first"
        return [ip_address(each["address"]) for each in self._client.neighbours()]
