"""What adopts a device refuses what it can't have handed over; undoing is data. No device is needed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from dataplane.binding.core import PortConfig, PortKind
from dataplane.binding.handover import Handover
from dataplane.host import locks, netns, undo
from dataplane.host.adoption import adopt
from dataplane.host.device import Opening
from dataplane.host.links import DeviceError
from dataplane.host.undo import Undo, checked
from dataplane.process.client import Client
from policy.agent.devices import DeviceManager
from policy.agent.undo_log import Entry, UndoLog

NOTE: dict[str, Any] = {
    "device": "eth0",
    "opening": "tap",
    "namespace": None,
    "identity": 1,
    "index": 2,
    "reason": "as stated",
    "undo": [["remove", None, 1, 2]],
}
HELD = ("lock", "pas", "groups")


def a_handover(note: object, kind: PortKind = PortKind.TAP, queues: int = 2) -> Handover:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(queues + len(HELD))]
    config = PortConfig("web", kind, bytes(6), 1500, fds=tuple(fds[:queues]))
    return Handover(config, dict(zip(HELD, fds[queues:], strict=True)), note)


def are_open(fds: tuple[int, ...]) -> set[bool]:
    def is_open(fd: int) -> bool:
        try:
            os.fstat(fd)
        except OSError:
            return False
        return True

    return {is_open(fd) for fd in fds}


def test_a_device_of_one_process_is_that_of_another() -> None:
    handover = a_handover(NOTE)
    device = adopt(handover)
    assert (device.name, device.mac, device.mtu, len(device.fds)) == ("eth0", "00:00:00:00:00:00", 1500, 2)
    again = device.handover("web")
    assert json.loads(json.dumps(again.encode())) == handover.encode()
    assert again.fds == handover.fds
    assert are_open(handover.fds) == {True}
    device.release()
    assert are_open(handover.fds) == {False}
    device.release()
    device.close()


@pytest.mark.parametrize(
    "note",
    [
        None,
        [],
        {},
        {**NOTE, "device": None},
        {**NOTE, "opening": "vhost"},
        {**NOTE, "opening": "veth"},
        {**NOTE, "namespace": 3},
        {**NOTE, "identity": "1"},
        {**NOTE, "index": None},
        {**NOTE, "undo": None},
        {**NOTE, "undo": ["remove"]},
        {**NOTE, "undo": [["remove"]]},
        {**NOTE, "undo": [[]]},
        {**NOTE, "undo": [["format", "/dev/sda"]]},
        {**NOTE, "undo": [[["drop"], "eth0"]]},
        {**NOTE, "undo": [["drop", "eth0"]]},
        {**NOTE, "undo": [["state", None, "down"]]},
        {key: value for key, value in NOTE.items() if key != "undo"},
    ],
)
def test_a_note_of_an_unknown_shape_is_refused(note: object) -> None:
    handover = a_handover(note)
    with pytest.raises(DeviceError, match=r"^port web: its device was not handed over by this version of "):
        adopt(handover)
    assert are_open(handover.fds) == {False}


def test_a_port_without_queues_is_refused() -> None:
    handover = a_handover(NOTE, queues=0)
    with pytest.raises(DeviceError):
        adopt(handover)
    assert are_open(handover.fds) == {False}


@pytest.mark.parametrize("missing", [(), ("lock",), ("pas",)])
def test_an_underlay_needs_its_lock_and_its_map(missing: tuple[str, ...]) -> None:
    """What is called its map may be none, too."""
    whole = a_handover({**NOTE, "opening": "underlay"}, PortKind.PACKET)
    held = {name: fd for name, fd in whole.held.items() if name not in missing}
    with pytest.raises(DeviceError, match=r"^port web: "):
        adopt(Handover(whole.config, held, whole.note))
    for name in missing:
        os.close(whole.held[name])
    assert are_open(whole.fds) == {False}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that were taken, of which those that are called `fail` do."""
    taken: list[str] = []

    def step(name: str) -> Callable[[str], None]:
        def take(argument: str) -> None:
            taken.append(f"{name} {argument}")
            if name == "fail":
                raise OSError

        return take

    monkeypatch.setattr(undo, "_STEPS", {name: step(name) for name in ("fail", "put")})
    return taken


def test_steps_are_taken_last_first_whatever_fails(taken: list[str]) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    with Undo() as undo:
        undo.own(fd)
        undo.add("put", "a")
        undo.add("fail", "b")
        undo.add("put", "c")
    assert taken == ["put c", "fail b", "put a"]
    assert are_open((fd,)) == {False}
    undo.close()
    assert len(taken) == 3


def test_what_was_opened_is_undone_later(taken: list[str]) -> None:
    with Undo() as undo:
        undo.add("put", "a")
        kept = undo.pop_all()
    assert taken == []
    later = Undo()
    later.inherit(json.loads(json.dumps(kept.steps)))
    later.close()
    assert taken == ["put a"]
    kept.release()
    kept.close()
    assert taken == ["put a"], "what was released is another's to undo"


def test_what_is_inherited_is_undone_last_and_once(taken: list[str]) -> None:
    with Undo() as undo:
        undo.add("put", "b")
        undo.add("put", "c")
        undo.inherit([["put", "a"], ["put", "c"]])
    assert taken == ["put c", "put b", "put a"]


@pytest.mark.parametrize(
    ("step", "known"),
    [
        (["remove", None, 1, 2], True),
        (["remove", "vm", 1, 2], True),
        (["remove", "vm", 1], False),
        (["sysctl", "ipv4/conf/il1/arp_ignore", "0"], True),
        (["sysctl", "ipv4/conf/il1/../il2/arp_ignore", "0"], False),
        (["sysctl", "ipv4/conf/il2/arp_ignore", "0"], False),
        (["sysctl", "../../../etc/passwd", "0"], False),
        (["sysctl", "ipv6/conf/il1/disable_ipv6", "0\n1"], False),
        (["state", "il1", "down"], True),
        (["state", "il1", "up"], False),
        (["state", "il2", "down"], False),
        (["features", "il1", ["rx-gro"], True], True),
        (["features", "il1", ["rx-gro"], False], False),
        (["features", "il2", [], True], False),
        (["drop", "il1"], True),
        (["drop", "il2"], False),
        ({"drop": "il1"}, False),
        ([], False),
    ],
)
def test_steps_put_back_what_was_changed_on_that_device(step: object, known: bool) -> None:
    """A data plane that was broken into can have the agent, which is root, do nothing else."""
    if known:
        assert checked([step], "il1") == [step]
    else:
        with pytest.raises(ValueError, match=r"^unknown step .* for il1$"):
            checked([step], "il1")
    with pytest.raises(ValueError, match="unknown step"):
        checked([["drop", None]], None)


@pytest.mark.parametrize("name", ["", ".", "..", "../netns", "/proc/1/ns/net", "a/b"])
def test_a_namespace_is_a_name_not_a_path(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="no network namespace"):
        netns.path(name)


class Keeper:
    """A data plane that has one port, and says of its device what it likes."""

    def __init__(self, note: object) -> None:
        self.handover = a_handover(note)
        self.detached = False

    def hello(self) -> dict[str, Any]:
        return {"workers": 2, "ports": [{"name": "web", "id": 7, "xsks": 0}]}

    def take(self, _number: int) -> Handover:
        return self.handover

    def detach(self, number: int) -> None:
        assert number == 7
        self.detached = True


@pytest.fixture
def attachments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeviceManager:
    """An agent's, whose predecessor has opened the device of NOTE."""
    monkeypatch.setattr(locks, "DIRECTORY", tmp_path)
    journal = UndoLog("h1")
    journal.write({(Opening.TAP, "eth0", None): Entry("", 1500, False, 1, 2, NOTE["undo"])})
    return DeviceManager(journal)


@pytest.mark.parametrize("undo", [[], [["remove", None, 1, 3]], NOTE["undo"]], ids=str)
def test_what_there_is_to_undo_stands_in_the_undo_log(attachments: DeviceManager, undo: list[Any]) -> None:
    keeper = Keeper({**NOTE, "undo": undo})
    attachments.connect(cast(Client, keeper))
    assert not keeper.detached
    (device,) = attachments.devices_of(["web"]).values()
    assert device.undo.steps == NOTE["undo"]
    attachments.release()


@pytest.mark.parametrize(
    "said", [{"index": 3}, {"identity": 2}, {"device": "eth1"}, {"namespace": "vm"}], ids=str
)
def test_a_device_that_was_not_opened_by_us_is_not_taken_over(
    attachments: DeviceManager, said: dict[str, Any]
) -> None:
    """Whoever has broken into the data plane may name any device of the host."""
    keeper = Keeper({**NOTE, **said})
    attachments.connect(cast(Client, keeper))
    assert keeper.detached and attachments.names == []
    assert are_open(keeper.handover.fds) == {False}
