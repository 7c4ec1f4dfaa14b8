"""What DeviceWatch sees in namespaces that it follows."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pyroute2 import IPRoute

from dataplane.host import links, netns
from dataplane.host.device_watch import DeviceWatch, Seen
from tests.netns.labs import wait_until


class Watching:
    """A watch whose sights are gathered by a thread."""

    def __init__(self, stack: ExitStack) -> None:
        self.watch = DeviceWatch()
        self._seen: list[Seen] = []
        self._thread = threading.Thread(target=self._gather)
        self._thread.start()
        stack.callback(self._end)

    def _gather(self) -> None:
        while (seen := self.watch.wait()) is not None:
            self._seen.append(seen)

    def sees(self, what: Callable[[Seen], bool]) -> None:
        wait_until(lambda: any(map(what, list(self._seen))), "not seen", seconds=5)
        self._seen.clear()

    def _end(self) -> None:
        self.watch.close()
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture
def watching(cleanup: ExitStack) -> Iterator[Watching]:
    yield Watching(cleanup)


def add_pair(name: str) -> int:
    with IPRoute() as ip:
        ip.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}p"})
        return links.get(ip, name).index


def remove_pair(name: str) -> None:
    with IPRoute() as ip:
        ip.link("del", ifname=name)


def test_a_device_that_goes(watching: Watching, prefix: str, cleanup: ExitStack) -> None:
    name = f"{prefix}vm"
    netns.create(name)
    cleanup.callback(netns.remove, name)
    watching.watch.follow({None, name})
    watching.sees(lambda seen: {None, name} <= seen.unsure)
    index = netns.call(name, add_pair, "eth0")
    watching.sees(lambda seen: name in seen.came)
    netns.call(name, remove_pair, "eth0")
    watching.sees(lambda seen: (name, index) in seen.gone)


def test_a_namespace_that_goes_and_comes(watching: Watching, prefix: str, cleanup: ExitStack) -> None:
    name = f"{prefix}vm"
    cleanup.callback(netns.remove, name)
    netns.create(f"{prefix}first")  # the directory is there now
    cleanup.callback(netns.remove, f"{prefix}first")
    watching.watch.follow({name})
    netns.create(name)
    watching.sees(lambda seen: name in seen.unsure)
    watching.watch.follow({name})
    watching.sees(lambda seen: name in seen.unsure)
    netns.remove(name)
    watching.sees(lambda seen: name in seen.unsure)
    netns.create(name)
    watching.watch.follow({name})
    index = netns.call(name, add_pair, "eth0")
    netns.call(name, remove_pair, "eth0")
    watching.sees(lambda seen: (name, index) in seen.gone)


def test_a_namespace_that_is_followed_before_it_is_heard_of(prefix: str, cleanup: ExitStack) -> None:
    """Made and followed while the watcher did something else: what it then hears of it is old."""
    name = f"{prefix}vm"
    cleanup.callback(netns.remove, name)
    netns.create(f"{prefix}first")
    cleanup.callback(netns.remove, f"{prefix}first")
    watch = DeviceWatch()
    cleanup.callback(watch.close)
    watch.follow(set())
    netns.create(name)
    watch.follow({name})
    assert watch.wait() == Seen(unsure={name})
    index = netns.call(name, add_pair, "eth0")
    netns.call(name, remove_pair, "eth0")
    seen = watch.wait()
    assert seen is not None and name in seen.came | {each for each, _ in seen.gone}
    while (name, index) not in seen.gone:
        seen = watch.wait()
        assert seen is not None


def test_what_is_followed_no_more_is_not_held(watching: Watching, prefix: str, cleanup: ExitStack) -> None:
    """A namespace whose name has gone ends with the last socket of it, and its devices with it."""
    host, name = f"{prefix}host", f"{prefix}vm"
    for each in (host, name):
        netns.create(each)
        cleanup.callback(netns.remove, each)
    netns.call(host, add_across, "across", name)
    watching.watch.follow({None, name})
    netns.remove(name)
    wait_until(lambda: netns.call(host, find, "across") is None, "the namespace is held", seconds=5)


def add_across(name: str, there: str) -> None:
    with IPRoute() as ip:
        ip.link("add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": str(netns.path(there))})


def find(name: str) -> links.Link | None:
    with IPRoute() as ip:
        return links.find(ip, name)


def test_what_is_missed_is_said(watching: Watching, prefix: str, cleanup: ExitStack) -> None:
    """More than the socket holds: whoever waits is to look for himself."""
    name = f"{prefix}vm"
    netns.create(name)
    cleanup.callback(netns.remove, name)
    watch = DeviceWatch()
    cleanup.callback(watch.close)
    watch.follow({name})
    assert watch.wait() == Seen(unsure={name})

    def flood() -> None:
        index = add_pair("eth0")
        with IPRoute() as ip:
            for number in range(2000):
                ip.link("set", index=index, mtu=1400 + number % 2)
            ip.link("del", index=index)

    netns.call(name, flood)
    seen = watch.wait()
    assert seen is not None and name in seen.came
    while name not in seen.unsure:
        seen = watch.wait()
        assert seen is not None
