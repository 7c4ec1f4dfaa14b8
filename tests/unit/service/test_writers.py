"""Names that are asked for, several writers at once, and waiting for hosts."""

import threading
import time
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from policy.errors import (
    ConflictError,
    ManifestError,
    NotAppliedError,
    NotFoundError,
    ObjectId,
    SeveralError,
)
from policy.kinds import documents, keys, manifest
from policy.kinds.model import Port, VMSubnet, intent_of
from policy.service import changes, rollout
from policy.service.lookup import find, names
from policy.store.memory import MemoryStore
from policy.store.reading import Reading, snapshot_of
from tests.unit.service.agents import say
from tests.unit.service.example import SUBNET, WEB, example, stored

# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("indexed", [True, False])
def test_find(store: MemoryStore, indexed: bool) -> None:
    if not indexed:
        store.commit({}, [keys.INDEX_READY])
    reading = Reading(store)
    assert find(reading, "Port", "blue-web") == find(reading, "Port", "blue/blue-web") == WEB
    assert find(reading, "VMSubnet", "Blue_VMSubnet1") == SUBNET
    assert find(reading, "Host", "h1") == ObjectId("Host", "", "h1")
    for kind, name in [("Port", "red/blue-web"), ("Port", "none"), ("VMSubnet", "none"), ("Host", "x/h1")]:
        with pytest.raises(NotFoundError, match=f"there is no {kind} {name}"):
            find(reading, kind, name)
    store.commit(documents.items_of([VMSubnet("red", "Blue_VMSubnet1", "x", ())]))
    with pytest.raises(SeveralError, match="several tenants have a VMSubnet Blue_VMSubnet1: blue/Blue"):
        find(Reading(store), "VMSubnet", "Blue_VMSubnet1")


@pytest.mark.parametrize("indexed", [True, False])
def test_names(store: MemoryStore, indexed: bool) -> None:
    if not indexed:
        store.commit({}, [keys.INDEX_READY])
    reading = Reading(store)
    assert names(reading, "Port", "blue-a") == ["blue-api", "blue-app"]
    assert names(reading, "Port", "red/red-a") == ["red/red-api", "red/red-app"]
    assert names(reading, "Port", "re")[:2] == ["red-api", "red-app"]
    assert len(names(reading, "Port", "re")) == 6 and len(names(reading, "Port", "")) == 16
    assert names(reading, "VMNetwork", "b") == ["blue/Blue_VMNet"]
    assert names(reading, "Host", "") == ["h1", "h2"]


# ---- several writers -----------------------------------------------------------------------------


class Racing(MemoryStore):
    """Somebody else applies a port between reading and the commit that follows, `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def commit(self, puts: Mapping[str, bytes], deletes: Collection[str] = (), **options: Any) -> int:
        if self.times:
            times, self.times = self.times, 0
            port = Port("blue", f"other{times}", "Blue_VMSubnet1", "h1")
            changes.commit(self, changes.apply(intent_of([port])))
            self.times = times - 1
        return super().commit(puts, deletes, **options)


def test_who_was_slower_plans_again() -> None:
    store = Racing(0)
    changes.commit(store, changes.apply(example()))
    store.times = 3
    mine = Port("blue", "mine", "Blue_VMSubnet1", "h1")
    revision, _ = changes.commit(store, changes.apply(intent_of([mine])))
    assert revision == 5
    names = {item.name for item in stored(store).ports}
    assert names >= {"mine", "other1", "other2", "other3"}


def test_who_is_always_slower_pauses_longer_each_time_and_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a random part of the longest pause: two who meet once do not meet again and again."""
    store = Racing(0)
    changes.commit(store, changes.apply(example()))
    store.times = 1000
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(ConflictError, match="others were faster 20 times"):
        changes.commit(store, changes.apply(intent_of([Port("blue", "mine", "Blue_VMSubnet1", "h1")])))
    longest = [min(0.001 * 2**attempt, 0.1) for attempt in range(1, 20)]
    assert all(0 <= pause <= limit for pause, limit in zip(pauses, longest, strict=True))
    assert len(set(pauses)) == len(pauses) and max(pauses) > 0.01


def test_many_writers_at_once_get_addresses_of_their_own(store: MemoryStore) -> None:
    def add(name: str) -> None:
        changes.commit(store, changes.apply(intent_of([Port("blue", name, "Blue_VMSubnet1", "h1")])))

    threads = [threading.Thread(target=add, args=(f"new{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ports = documents.policy_from(snapshot_of(store, keys.INTENT).items).ports
    blue = [address for port in ports if port.tenant == "blue" for address in port.addresses]
    assert len(set(blue)) == len(blue) == 2 * 11


# ---- hosts ---------------------------------------------------------------------------------------


def managed(store: MemoryStore) -> set[str]:
    return rollout.managed(Reading(store))


def wait(store: MemoryStore, revision: int, seconds: float = 20) -> None:
    rollout.wait_applied(store, managed(store), revision, seconds, lambda _: None)


def test_waits_until_every_host_has_applied(store: MemoryStore) -> None:
    say(store, "h1", 1)
    thread = threading.Thread(target=say, args=(store, "h2", 7))
    thread.start()
    wait(store, 1)
    thread.join()
    wait(store, 1)


def test_a_host_that_stays_behind_is_named(store: MemoryStore) -> None:
    say(store, "h1", 1)
    say(store, "h2", 0)
    with pytest.raises(NotAppliedError, match="not applied after 0 s by: h2"):
        wait(store, 1, 0)


def test_a_host_that_fails_says_why(store: MemoryStore) -> None:
    say(store, "h1", 1, "failed", "u1: is down")
    with pytest.raises(NotAppliedError, match="host h1: u1: is down"):
        wait(store, 1)
    say(store, "h1", 1)
    say(store, "h2", 0, "failed", "an older failure")
    with pytest.raises(NotAppliedError, match="not applied after 0 s by: h2"):
        wait(store, 1, 0)


@pytest.mark.parametrize("ports", [None, ["web"], ["web", "app"], ["other"], []])
def test_problems_of_other_ports_are_passed_over(store: MemoryStore, ports: list[str] | None) -> None:
    say(store, "h2", 1)
    for problems, blamed in (
        [["web: none", "app: none"], ["app", "web"]],
        [["u1: is down", "web: none"], ["web"]],
    ):
        say(store, "h1", 1, "failed", *problems, ports=blamed)
        if len(blamed) == len(problems) and ports is not None and not {"web", "app"} & {*ports}:
            rollout.wait_applied(store, managed(store), 1, 0, lambda _: None, ports)
        else:
            with pytest.raises(NotAppliedError, match=f"host h1: {problems[0]}"):
                rollout.wait_applied(store, managed(store), 1, 0, lambda _: None, ports)


def test_addresses_that_are_stated_elsewhere_by_a_name(store: MemoryStore) -> None:
    """A port renamed with its address stated: the old one gone and the new one there in one change."""
    old = stored(store).by_id[WEB]
    assert isinstance(old, Port)
    gone = [item for item in stored(store).by_id.values() if item.id != WEB]
    changes.commit(store, changes.delete([WEB]))
    renamed = Port("blue", "blue-front", old.vm_subnet, old.host, (ip_address("10.1.1.10"),))
    changes.commit(store, changes.apply(intent_of([renamed])))
    assert stored(store) == intent_of([*gone, renamed])


def test_a_host_that_is_not_there_and_one_that_is_like_it(store: MemoryStore, tmp_path: Path) -> None:
    """Planned by keys too, where not all objects are read; another tenant's are not proposed."""
    path = tmp_path / "net.yaml"
    path.write_text(
        "kind: Port\nmetadata: {name: new, tenant: red}\nspec: {vmSubnet: Blue_VMSubnet1, host: hh1}"
    )
    with pytest.raises(ManifestError) as caught:
        changes.commit(store, changes.apply(*manifest.read([path])))
    assert str(caught.value).splitlines() == [
        f"{path}:3: Port red/new: spec.host: there is no Host hh1; did you mean Host h1?",
        f"{path}:3: Port red/new: spec.vmSubnet: there is no VMSubnet red/Blue_VMSubnet1; did you mean"
        " VMSubnet red/Red_VMSubnet1?",
    ]
