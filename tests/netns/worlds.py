"""Devices to adopt, and processes that hold them and die."""

import json
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataplane.binding.handover import Handover
from dataplane.host import ethtool, netns
from dataplane.host.adoption import adopt
from dataplane.host.device import Device, Terms
from dataplane.host.existing import open_existing
from dataplane.host.tap import open_tap
from dataplane.host.veth import open_veth
from dataplane.process import framing
from tests.netns.labs import wait_until
from tests.netns.programs import run
from tests.netns.rig import is_ipv4, link_of, receive, udp4_frame
from tests.netns.wires import wait_for_carrier

MakeNamespace = Callable[[str], str]
MAC, OTHER_MAC = "02:bb:00:00:00:01", "02:bb:00:00:00:02"
KINDS = ("tap", "veth", "device")


# ---- processes that die ------------------------------------------------------------------------------------


class Opened:
    """A device that another process has opened, and the descriptors of who keeps it: this one, in place of
    the data plane.
    """

    def __init__(self, stack: ExitStack, open_it: Callable[[], Device]) -> None:
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                handover = open_it().handover("web")
                framing.send(theirs, handover.encode(), fds=handover.fds)
                signal.pause()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        stack.callback(self.kill)
        theirs.close()
        with ours:
            frame = framing.receive(ours)
        self.kept = Handover.decode(frame.header, frame.fds)
        stack.callback(self.detach)

    def kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._pid = 0

    def take(self) -> Handover:
        document = json.loads(json.dumps(self.kept.encode()))
        return Handover.decode(document, [os.dup(fd) for fd in self.kept.fds])

    def detach(self) -> None:
        """The keeper lets go."""
        framing.close_all(self.kept.fds)
        self.kept = self.kept._replace(config=replace(self.kept.config, fds=()), held={})


class Frames:
    """Numbered frames that a thread sends out of a device, one a millisecond."""

    def __init__(self, stack: ExitStack, namespace: str, device: str) -> None:
        link = link_of(namespace, device)
        assert link is not None
        if not link.tap_queues:
            wait_for_carrier(namespace, device)
        self.socket = netns.call(namespace, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
        stack.enter_context(self.socket)
        self.socket.bind((device, 0))
        self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        stack.callback(self.stop)

    def wait(self, more: int = 30) -> None:
        wanted = self.sent + more
        wait_until(lambda: self.sent >= wanted)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            self.socket.send(udp4_frame(self.sent % 7, self.sent))
            self.sent += 1


def numbers(fds: Sequence[int], count: int) -> list[int]:
    """Of the frames that came, until there are so many."""
    came = receive(fds, count, is_ipv4)
    return [int.from_bytes(data[52:56], "big") for _, data in came if is_ipv4(data)]


# ---- where devices are -------------------------------------------------------------------------------------


@dataclass
class World:
    host: str
    vm: str
    open_it: Callable[[], Device]
    inside: str
    """The VM's device, from which frames come to the data plane."""

    def adopt(self, handover: Handover) -> Device:
        return netns.call(self.host, adopt, handover)

    def state(self) -> dict[str, Any]:
        return {namespace: state(namespace) for namespace in (self.host, self.vm)}

    def left(self, before: dict[str, Any], during: dict[str, Any]) -> dict[str, Any]:
        """The state once it is closed: as it was, but for the seal of a device that others made."""
        if self.inside != "guest0":
            return before
        sealed = {key: during[self.host]["vnet0"][key] for key in ("filters", "clsact", "settings")}
        return {**before, self.host: {**before[self.host], "vnet0": {**before[self.host]["vnet0"], **sealed}}}


def state(namespace: str) -> dict[str, Any]:
    """All of a namespace that a device which was opened and closed may have left changed."""
    found = {}
    for link in json.loads(run(namespace, "ip", "-d", "-j", "link", "show")):
        name = link["ifname"]
        keys = ("ifindex", "address", "mtu", "txqlen", "ifalias", "promiscuity", "allmulti")
        found[name] = {
            **{key: link.get(key) for key in keys},
            "up": "UP" in link["flags"],
            "filters": run(namespace, "tc", "filter", "show", "dev", name, "ingress"),
            "clsact": "clsact" in run(namespace, "tc", "qdisc", "show", "dev", name),
            "settings": netns.call(namespace, settings, name),
            "features": netns.call(namespace, ethtool.active, name),
        }
    return found


def settings(name: str) -> list[str]:
    names = (f"ipv6/conf/{name}/disable_ipv6", f"ipv4/conf/{name}/arp_ignore")
    paths = [Path("/proc/sys/net", setting) for setting in names]
    return [path.read_text() for path in paths if path.exists()]


def make_world(kind: str, make_namespace: MakeNamespace, queues: int = 2) -> World:
    host, vm = make_namespace("host"), make_namespace("vm")

    def open_it() -> Device:
        terms = Terms(MAC, 1400, queues=queues)
        match kind:
            case "tap":
                return netns.call(host, open_tap, "eth0", terms, namespace=vm)
            case "veth":
                return netns.call(host, open_veth, "eth0", terms, namespace=vm)
        return netns.call(host, open_existing, "vnet0", terms)

    if kind == "device":
        run(host, "ip", "link", "add", "vnet0", "type", "veth", "peer", "name", "guest0", "netns", vm)
        run(vm, "ip", "link", "set", "guest0", "up")
    return World(host, vm, open_it, "guest0" if kind == "device" else "eth0")
