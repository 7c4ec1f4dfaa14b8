"""What becomes of a VM's device when something goes wrong amid the agent's work on it."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from pyroute2 import IPRoute

from dataplane.binding.handover import Handover
from dataplane.host import bpf_programs, links, locks, netns, packet_socket
from dataplane.host.device import Device, Opening, Terms, host_end_name
from dataplane.host.filters import Way, has_filter
from dataplane.host.links import DeviceError
from dataplane.host.tap import _open_tap, open_tap
from dataplane.host.undo import Undo
from dataplane.process.client import ClientError, GoneError
from dataplane.process.protocol import Kind
from policy.agent.attached import suspects
from policy.agent.devices import DeviceManager
from policy.agent.side_by_side import side_by_side
from policy.agent.undo_log import Entry, UndoLog
from policy.agent.wanted import Wanted
from policy.kinds.model import Attach, AttachKind, Mac

MAC = Mac("02:00:00:00:00:31")


class Dataplane:
    """Of the calls to one, those that attachments make. fail: what attach() raises."""

    def __init__(self, workers: int = 1) -> None:
        self.fail: ClientError | None = None
        self.workers = workers
        self.attached = 0
        self.left: list[Handover] = []  # of an agent before

    def hello(self) -> dict[str, Any]:
        ports = [{"name": each.config.name, "id": number, "xsks": 0} for number, each in enumerate(self.left)]
        return {"workers": self.workers, "ports": ports}

    def take(self, number: int) -> Handover:
        return self.left[number]

    def attach(self, *_: object, **__: object) -> None:
        if self.fail is not None:
            raise self.fail
        self.attached += 1

    def detach(self, _: int) -> None:
        self.left.clear()


@pytest.fixture
def vm(prefix: str, cleanup: ExitStack) -> Iterator[str]:
    name = f"{prefix}vm"
    netns.create(name)
    cleanup.callback(netns.remove, name)
    yield name


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cleanup: ExitStack) -> DeviceManager:
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path)
    found = DeviceManager(UndoLog("h1"))
    cleanup.callback(found.close)
    return found


def wanted(vm: str, kind: AttachKind = AttachKind.TAP, name: str = "web", device: str = "eth0") -> Wanted:
    return Wanted(1, name, Attach(kind, device, vm), device, MAC, 1500, owner="net")


def connected(made: DeviceManager) -> Dataplane:
    dataplane = Dataplane()
    made.connect(cast(Any, dataplane))
    return dataplane


def link(vm: str, name: str = "eth0") -> links.Link | None:
    def find() -> links.Link | None:
        with IPRoute() as ip:
            return links.find(ip, name)

    return netns.call(vm, find)


@pytest.mark.parametrize("kind", [Kind.BUSY, Kind.INTERNAL])
def test_a_data_plane_that_can_not_now_costs_no_device(made: DeviceManager, vm: str, kind: Kind) -> None:
    """It may be one that a VM has used for long, taken over from a process that was killed."""
    before = open_tap("eth0", Terms(MAC, 1500), namespace=vm)
    before.release()
    dataplane = connected(made)
    dataplane.fail = ClientError("the data plane is stopping", kind)
    with pytest.raises(ClientError, match="stopping"):
        made.ensure({"web": wanted(vm)}, [])
    there = link(vm)
    assert there is not None and there.index == before.place.index
    dataplane.fail = None
    made.connect(cast(Any, dataplane))
    assert made.names == ["web"]


@pytest.mark.parametrize(("workers", "queues"), [((1, 3, 1), (1, 1, 1)), ((3, 1, 2), (3, 1, 2))])
def test_a_data_plane_with_other_threads_gets_the_same_tap(
    made: DeviceManager, vm: str, workers: tuple[int, ...], queues: tuple[int, ...]
) -> None:
    indices = set()
    for number, width in zip(workers, queues, strict=True):
        dataplane = Dataplane(number)
        made.connect(cast(Any, dataplane))
        made.ensure({"web": wanted(vm)}, [])
        attached = dataplane.attached
        made.ensure({"web": wanted(vm)}, [])
        assert dataplane.attached == attached, "it has what it can have"
        device = made.devices_of(["web"])["web"]
        assert (len(device.fds), made.problems) == (width, {})
        indices.add(device.place.index)
    assert len(indices) == 1


FAULTS = {
    AttachKind.TAP: "TAP vm0: attach.netns: missing: the VM of a tap is the kernel of its network namespace, "
    "which must not be the host's own; for a hypervisor's TAP use vm: NAME instead",
    AttachKind.VETH: "veth vm0: attach.netns: missing: a veth needs a network namespace for its other end",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_port_whose_vm_would_be_the_host_is_never_opened(
    made: DeviceManager, vm: str, prefix: str, cleanup: ExitStack, kind: AttachKind
) -> None:
    """As a store may have it from before `check` refused it."""
    host = f"{prefix}host"
    netns.create(host)
    cleanup.callback(netns.remove, host)
    ports = {
        "bad": Wanted(2, "bad", Attach(kind, "vm0"), "vm0", MAC, 1500, owner="net"),
        "web": wanted(vm),
    }
    connected(made)
    netns.call(host, made.ensure, ports, [])
    assert made.problems == {"bad": FAULTS[kind]}
    assert made.names == ["web"]
    assert netns.call(host, names) == {"lo"}


def names() -> set[str]:
    with IPRoute() as ip:
        return {message.get_attr("IFLA_IFNAME") for message in ip.get_links()}


def test_a_tap_in_the_hosts_namespace_goes(made: DeviceManager, prefix: str, cleanup: ExitStack) -> None:
    """One that an agent of a version before this one attached."""
    host = f"{prefix}host"
    netns.create(host)
    cleanup.callback(netns.remove, host)
    undo = Undo()
    there = netns.call(host, _open_tap, undo, cast(str, None), "vm0", Terms(MAC, 1500))
    before = Device("vm0", Opening.TAP, there, MAC, 1500, tuple(undo.fds), undo)
    note = {**cast(dict[str, Any], before.handover("web").note), "owner": "net"}
    dataplane = Dataplane()
    dataplane.left = [before.handover("web")._replace(note=note)]
    ports = {"web": Wanted(0, "web", Attach(AttachKind.TAP, "vm0"), "vm0", MAC, 1500, owner="net")}
    entry = Entry(MAC, 1500, False, there.identity, there.index, undo.steps)
    made._undo_log.write({ports["web"].key: entry})
    netns.call(host, made.connect, cast(Any, dataplane))
    assert netns.call(host, names) == {"lo", "vm0"}
    netns.call(host, made.ensure, ports, [])
    assert made.problems == {"web": FAULTS[AttachKind.TAP]}
    assert netns.call(host, names) == {"lo"}


def test_a_device_that_can_not_be_looked_at_stays(
    made: DeviceManager, vm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is free, say: it is not known to have gone."""
    connected(made)
    made.ensure({"web": wanted(vm)}, [])

    def fail(_: Device) -> bool:
        raise DeviceError("Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Device, "is_present", fail)
        assert suspects(made.devices_of(["web"])) == {"web"}
        assert made.recheck(["web"]) == set()
        patch.setattr(Device, "is_present", lambda _: True)
        patch.setattr(Device, "is_as_left", fail)
        assert made.recheck(["web"]) == set()
    before = link(vm)
    assert before is not None
    made.ensure({"web": wanted(vm)}, [])
    assert link(vm) == before


def test_what_is_altered_is_repaired_however_long_it_takes(made: DeviceManager, vm: str) -> None:
    """The data plane goes amid the repairs: they go on with the next."""
    dataplane = connected(made)
    ports = {
        "a": wanted(vm, AttachKind.VETH, "a", "eth0"),
        "b": wanted(vm, AttachKind.VETH, "b", "eth1"),
    }
    made.ensure(ports, [])
    host_end = host_end_name("eth1", vm)
    links.write_sysctl(f"ipv4/conf/{host_end}/arp_ignore", "0")
    assert made.recheck(["a", "b"]) == {"b"}
    smaller = {name: replace(each, mtu=1400) for name, each in ports.items()}
    dataplane.fail = GoneError("it went")
    with pytest.raises(GoneError):
        made.ensure(smaller, [])
    dataplane.fail = None
    made.connect(cast(Any, dataplane))
    made.ensure(smaller, [])
    assert made.problems == {}
    assert made.devices_of(["b"])["b"].is_as_left()


def test_all_are_done_whatever_becomes_of_one() -> None:
    done: list[int] = []

    def body(number: int) -> None:
        if number == 0:
            raise ValueError
        done.append(number)

    with pytest.raises(ValueError):  # the one above
        side_by_side(body, range(100))
    assert sorted(done) == list(range(1, 100))


def test_a_tap_that_was_moved_goes(made: DeviceManager, vm: str, prefix: str, cleanup: ExitStack) -> None:
    other = f"{prefix}other"
    netns.create(other)
    cleanup.callback(netns.remove, other)
    connected(made)
    made.ensure({"web": wanted(vm)}, [])

    def move() -> None:
        with IPRoute() as ip:
            ip.link("set", index=links.get(ip, "eth0").index, net_ns_fd=str(netns.path(other)))

    netns.call(vm, move)
    assert link(other) is not None
    assert made.recheck(["web"]) == {"web"}
    made.ensure({"web": wanted(vm)}, [])
    assert link(other) is None and link(vm) is not None


@pytest.mark.parametrize("kind", [AttachKind.TAP, AttachKind.VETH])
def test_a_device_that_was_renamed_is_repaired(made: DeviceManager, vm: str, kind: AttachKind) -> None:
    connected(made)
    made.ensure({"web": wanted(vm, kind)}, [])

    def edit() -> None:
        with IPRoute() as ip:
            index = links.get(ip, "eth0").index
            ip.link("set", index=index, state="down")
            ip.link("set", index=index, ifname="other", address="02:00:00:00:00:99")

    netns.call(vm, edit)
    assert made.recheck(["web"]) == {"web"}
    made.ensure({"web": wanted(vm, kind)}, [])
    assert made.problems == {}
    there = link(vm, "other")
    assert there is not None and there.mac == MAC


def test_queues_that_are_bound_to_another_device_change_nothing_of_it(
    made: DeviceManager, vm: str, prefix: str, cleanup: ExitStack
) -> None:
    """By a data plane that was broken into: it has the same descriptors, and bind(2) takes no capability."""
    host = f"{prefix}host"
    netns.create(host)
    cleanup.callback(netns.remove, host)

    def attach() -> None:
        with IPRoute() as ip:
            ip.link("add", ifname="mgmt", kind="veth", peer="mgmt1", mtu=1400)
        connected(made)
        made.ensure({"web": wanted(vm, AttachKind.VETH)}, [])

    def rebound() -> tuple[dict[str, str], links.Link, list[object], list[str | None]]:
        (fd,) = made.devices_of(["web"])["web"].fds
        with socket.socket(fileno=os.dup(fd)) as queue:
            queue.bind(("mgmt", 3))
        made.recheck(["web"])
        made._altered.add("web")
        made.ensure({"web": replace(wanted(vm, AttachKind.VETH), mtu=1300)}, [])
        with IPRoute() as ip:
            link = links.get(ip, "mgmt")
            qdiscs: list[object] = [each.get_attr("TCA_KIND") for each in ip.get_qdiscs(index=link.index)]
        sysctls = [links.read_sysctl(name) for name in links.mute_sysctls("mgmt")]
        return dict(made.problems), link, qdiscs, sysctls

    netns.call(host, attach)
    before = netns.call(host, lambda: [links.read_sysctl(name) for name in links.mute_sysctls("mgmt")])
    problems, mgmt, qdiscs, sysctls = netns.call(host, rebound)
    assert list(problems) == ["web"] and "mgmt" in problems["web"]
    assert (mgmt.mtu, mgmt.up, sysctls) == (1400, False, before) and "clsact" not in qdiscs


@pytest.mark.parametrize("other", ["unix", "netlink", "file"])
def test_a_descriptor_that_is_another_by_now_is_only_suspects(
    made: DeviceManager, vm: str, other: str, cleanup: ExitStack
) -> None:
    """A look goes on while devices are closed, and their numbers given on."""
    connected(made)
    made.ensure({"web": wanted(vm, AttachKind.VETH)}, [])
    device = made.devices_of(["web"])["web"]
    makers: dict[str, Callable[[], int]] = {
        "unix": lambda: socket.socket(socket.AF_UNIX).detach(),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).detach(),
        "file": lambda: os.open(os.devnull, os.O_RDONLY),
    }
    kept, fd = os.dup(device.fds[0]), makers[other]()
    os.dup2(fd, device.fds[0])
    try:
        assert suspects({"web": device}) == {"web"}
    finally:
        os.dup2(kept, device.fds[0])
        os.close(kept)
        os.close(fd)


def test_killed_while_it_opens_a_device_of_the_host(
    made: DeviceManager, prefix: str, cleanup: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor leaves the device as it was but for its seal, whether the port is still wanted or not."""
    host = f"{prefix}host"
    netns.create(host)
    cleanup.callback(netns.remove, host)
    port = Wanted(1, "web", Attach(AttachKind.DEVICE, "v0"), "v0", MAC, 1500, owner="net")

    def state() -> tuple[bool, bool]:
        """Whether it is up, and sealed."""
        with IPRoute() as ip:
            there = links.get(ip, "v0")
            drops = has_filter(ip, there, Way.IN, bpf_programs.DROP)
        silence = links.mute_sysctls("v0")
        return there.up, drops and {name: links.read_sysctl(name) for name in silence} == silence

    def add() -> None:
        with IPRoute() as ip:
            ip.link("add", ifname="v0", kind="veth", peer={"ifname": "p0"})

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def sync(of: DeviceManager, ports: dict[str, Wanted]) -> None:
        of.connect(cast(Any, Dataplane()))
        of.ensure(ports, [])

    netns.call(host, add)
    assert netns.call(host, state) == (False, False)
    for still_wanted in (False, True):
        pid = os.fork()
        if pid == 0:
            packet_socket.open_queues = die  # type: ignore[assignment]
            netns.call(host, sync, DeviceManager(UndoLog("h1")), {"web": port})
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        assert netns.call(host, state) == (True, True)
        successor = DeviceManager(UndoLog("h1"))
        netns.call(host, sync, successor, {"web": port} if still_wanted else {})
        if still_wanted:
            assert successor.names == ["web"]
            netns.call(host, sync, successor, {})
        assert netns.call(host, state) == (False, True)
