"""TAPs made for hypervisors: nobody else has them, not even while they are made."""

import os
from contextlib import ExitStack

import pytest
from pyroute2 import IPRoute

from dataplane.host import netns, vm_tap
from dataplane.host.device import Terms, VmTap
from dataplane.host.links import DeviceError, Link
from dataplane.host.vm_tap import open_vm_tap
from tests.netns.hypervisor import MULTI_QUEUE, VNET_HDR, open_tap
from tests.netns.rig import MACS, MakeNamespace, link_of

TAP = "vm0"


def terms(user: str, is_multi_queue: bool = False) -> Terms:
    return Terms(MACS[0], 1500, tap=VmTap(user, is_multi_queue))


@pytest.mark.parametrize("user", [2**31 - 1, 2**31, 2**32 - 2])
def test_a_user_of_any_number(user: int, make_namespace: MakeNamespace, cleanup: ExitStack) -> None:
    host = make_namespace("host")
    device = netns.call(host, open_vm_tap, TAP, terms(str(user)))
    cleanup.callback(netns.call, host, device.close)
    there = link_of(host, TAP)
    assert there is not None and there.tap_owner == user


@pytest.mark.parametrize("is_multi_queue", [False, True])
def test_it_has_its_owner_before_all_else(
    is_multi_queue: bool, make_namespace: MakeNamespace, cleanup: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without is anybody's."""
    owners: list[int | None] = []
    seal = vm_tap.seal_link

    def sealed(ip: IPRoute, link: Link) -> None:
        owners.append(link.tap_owner)
        seal(ip, link)

    monkeypatch.setattr(vm_tap, "seal_link", sealed)
    host = make_namespace("host")
    device = netns.call(host, open_vm_tap, TAP, terms("root", is_multi_queue))
    cleanup.callback(netns.call, host, device.close)
    assert owners and set(owners) == {0}


def test_one_that_somebody_opened_before_it_had_its_owner_is_not_used(
    make_namespace: MakeNamespace, cleanup: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = vm_tap._own

    def beaten(fd: int, uid: int) -> None:
        cleanup.callback(os.close, open_tap(TAP, MULTI_QUEUE | VNET_HDR))
        own(fd, uid)

    host = make_namespace("host")
    with monkeypatch.context() as patch:
        patch.setattr(vm_tap, "_own", beaten)
        with pytest.raises(DeviceError, match=f"TAP {TAP}: somebody else opened it"):
            netns.call(host, open_vm_tap, TAP, terms("root", True))
    assert link_of(host, TAP) is None
    device = netns.call(host, open_vm_tap, TAP, terms("root", True))
    cleanup.callback(netns.call, host, device.close)
    there = link_of(host, TAP)
    assert there is not None and there.tap_queues == 0
