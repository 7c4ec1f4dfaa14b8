"""Hears of devices and namespaces that go or come, which nobody announces to us, and seals at once those that
lead to VMs: what a VM says until the agent has attached it must not get to the host's stack either.
"""

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from dataplane.host import netns
from dataplane.host.existing import seal
from dataplane.host.inotify import ENTRIES, Inotify
from dataplane.host.links import DeviceError

_RTMGRP_LINK = 1
_RTM_NEWLINK, _RTM_DELLINK = 16, 17
_ATTRIBUTE = struct.Struct("=HH")
_IFLA_IFNAME = 3
_LINK = struct.Struct("=IHHIIBxHiII")  # nlmsghdr and ifinfomsg
_DATAGRAM = 65536
_AT_A_TIME = 64  # datagrams of one namespace, before others have their turn


@dataclass(slots=True)
class Seen:
    """gone, changed: devices, by namespace and index. came: the namespaces in which there is one more, or one
    is another than it was. unsure: those that went, came, or of which something was missed: look at all in
    them. None is the watcher's own.
    """

    gone: set[tuple[str | None, int]] = field(default_factory=set)
    changed: set[tuple[str | None, int]] = field(default_factory=set)
    came: set[str | None] = field(default_factory=set)
    unsure: set[str | None] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.gone or self.came or self.unsure)


class DeviceWatch:
    """Make it in the host's namespace. follow() and close() by one thread, wait() by another.

    Of what the kernel says nothing but kind, index and, in the host's namespace, name is read: a tenant who
    makes it say much costs little.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: dict[str | None, tuple[int, socket.socket]] = {}  # with the namespace's identity
        self._unsure: set[str | None] = set()
        self._tenants: frozenset[str] = frozenset()  # devices of the host's namespace that lead to VMs
        self._sealed: dict[int, str] = {}  # or refused, by index
        self._directory: Inotify | None = None
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._is_closed = False

    def follow(self, namespaces: Collection[str | None], tenants: Collection[str] = ()) -> None:
        """These from now on, of which some may be still to come. Devices in those that are new count as
        unsure: open them after. tenants: devices of the host that lead to VMs, sealed now or when they come.
        """
        with self._lock:
            self._follow_directory()
            new, self._tenants = frozenset(tenants) - self._tenants, frozenset(tenants)
            for name in self._sockets.keys() - namespaces:
                self._drop(name)
            for name in namespaces:
                with suppress(OSError):
                    identity = netns.identity(name)
                    if name in self._sockets and self._sockets[name][0] != identity:
                        self._drop(name)
                    if name not in self._sockets:
                        self._sockets[name] = identity, netns.call(name, _listening)
                        self._epoll.register(self._sockets[name][1], select.EPOLLIN)
                        self._unsure.add(name)
            for device in new:  # after its namespace is listened to
                _seal(device)
            if self._unsure:
                os.eventfd_write(self._wake, 1)

    def wait(self) -> Seen | None:
        """What has happened since the last call, once something has; None: it is closed."""
        while True:
            ready = {fd for fd, _ in self._epoll.poll()}
            with self._lock:
                if self._is_closed:
                    self._close()
                    return None
                seen = self._take(ready)
            if seen:
                return seen

    def close(self) -> None:
        """wait() ends, now or when it is called, and all is let go."""
        with self._lock:
            self._is_closed = True
            os.eventfd_write(self._wake, 1)

    def _take(self, ready: Collection[int]) -> Seen:
        seen = Seen(unsure=self._unsure)
        self._unsure = set()
        if self._wake in ready:
            os.eventfd_read(self._wake)
        if self._directory is not None and self._directory.fileno() in ready:
            changed = self._directory.names()
            for name in {*changed, *(self._sockets if "" in changed else ())}:
                if name:
                    seen.unsure.add(name)
                    self._drop_if_another(name)
        for name, (_, listening) in self._sockets.items():
            if listening.fileno() in ready:
                self._read(listening, name, seen)
        return seen

    def _read(self, listening: socket.socket, namespace: str | None, seen: Seen) -> None:
        for _ in range(_AT_A_TIME):
            try:
                data = listening.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                seen.unsure.add(namespace)
                if namespace is None:
                    self._seal_all()
                continue
            if len(data) < _LINK.size:
                continue
            _, kind, _, _, _, _, _, index, _, _ = _LINK.unpack_from(data)
            if kind == _RTM_DELLINK:
                seen.gone.add((namespace, index))
            else:
                seen.came.add(namespace)
                seen.changed.add((namespace, index))
            if namespace is None:
                self._heed(index, _name(data) if kind == _RTM_NEWLINK else "")

    def _heed(self, index: int, name: str) -> None:
        """A device of the host; "" if it has gone. Each is sealed once: of one that its attachment finds
        unsealed the operator is to hear.
        """
        if name not in self._tenants:
            self._sealed.pop(index, None)
        elif self._sealed.get(index) != name:
            self._sealed[index] = name
            _seal(name)

    def _seal_all(self) -> None:
        self._sealed.clear()
        for name in self._tenants:
            _seal(name)

    def _follow_directory(self) -> None:
        """Which is made with the first namespace."""
        if self._directory is None:
            with suppress(OSError):
                self._directory = Inotify(netns.DIRECTORY, ENTRIES)
                self._epoll.register(self._directory, select.EPOLLIN)

    def _drop_if_another(self, name: str) -> None:
        """Whoever holds a socket of it keeps a namespace that nobody sees."""
        try:
            is_same = name in self._sockets and netns.identity(name) == self._sockets[name][0]
        except OSError:
            is_same = False
        if not is_same:
            self._drop(name)

    def _drop(self, name: str | None) -> None:
        if name in self._sockets:
            self._sockets.pop(name)[1].close()

    def _close(self) -> None:
        for name in [*self._sockets]:
            self._drop(name)
        if self._directory is not None:
            self._directory.close()
        self._epoll.close()
        os.close(self._wake)


def _listening() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    listening = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    listening.bind((0, _RTMGRP_LINK))
    return listening


def _name(link: bytes) -> str:
    """The device's, in what the kernel says of it; "" if it doesn't."""
    at = _LINK.size
    while at + _ATTRIBUTE.size <= len(link):
        length, kind = _ATTRIBUTE.unpack_from(link, at)
        if kind == _IFLA_IFNAME:
            return link[at + _ATTRIBUTE.size : at + length].rstrip(b"\0").decode(errors="replace")
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return ""


def _seal(name: str) -> None:
    """Whoever attaches it says what can't be done."""
    with suppress(DeviceError):
        seal(name)
