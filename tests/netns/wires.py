"""What tests need so that frames on a veth come, and come in order."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2 import IPRoute

from dataplane.host import netns
from tests.netns.labs import wait_until


def wait_for_carrier(namespace: str | None, name: str) -> None:
    """A veth that was just set up drops what is sent until the kernel has noticed its peer."""

    def state() -> object:
        with IPRoute() as ip:
            return ip.link("get", ifname=name)[0].get_attr("IFLA_OPERSTATE")

    wait_until(lambda: netns.call(namespace, state) == "UP", f"{name} has no carrier")


@contextmanager
def one_cpu() -> Iterator[None]:
    """What this thread sends is worked off by one CPU's softirq, in order."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
