"""Deletes of what can't be read."""

import re

import pytest

from policy.errors import ObjectId, ReferencedError, TooLargeError, UnavailableError, UnreadableError
from policy.kinds import keys
from policy.kinds.manifest import Stated
from policy.kinds.model import Intent, intent_of
from policy.service import changes, staging
from policy.service.principal import OPERATOR
from policy.service.service import Service
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of
from tests.unit.service import plain
from tests.unit.service.small import FABRIC, Small, networks, stated_in


def overwrite(store: MemoryStore, *identities: ObjectId, value: bytes = b'{"version":99}') -> None:
    store.commit({keys.object_key(identity): value for identity in identities})


def about(store: MemoryStore, *identities: ObjectId) -> set[str]:
    """Keys of their documents, grants, index."""
    names = {each.name for each in identities}
    return {
        key
        for key, value in snapshot_of(store, *plain.SCOPE).items.items()
        if names
        & {*key.split("/"), value.decode(), *re.findall(r'"owner":"Port blue/([^"]+)', value.decode())}
    }


def test_what_can_not_be_read_is_deleted_in_steps() -> None:
    store = Small()
    service = Service(store, OPERATOR)
    service.apply(Stated(intent_of([*FABRIC, *networks(3, 24)])))
    ports = [port.id for port in stated_in(store).ports]
    overwrite(store, *ports[::30])
    done = service.delete(ports, force=True)
    assert sorted(identity for identity, _ in done.outcomes) == sorted(ports)
    assert not stated_in(store).ports
    told = [event for event in service.events() if event.source.startswith("delete")]
    assert sum(event.counts["deleted"] for event in told) == len(ports)


def test_a_subnet_that_can_not_be_read_goes_after_its_ports() -> None:
    store = Small()
    service = Service(store, OPERATOR)
    service.apply(Stated(intent_of([*FABRIC, *networks(1, 40)])))
    intent = stated_in(store)
    subnet = intent.vm_subnets[0].id
    overwrite(store, subnet, value=b"{")
    with pytest.raises(ReferencedError, match=r"VMSubnet blue/s0 is still referred to by Port blue/p0-0: "):
        service.delete([subnet], force=True)
    store.left = 2
    named = [subnet, *(port.id for port in intent.ports)]
    with pytest.raises(UnavailableError):
        service.delete(named, force=True)
    assert keys.object_key(subnet) in snapshot_of(store).items
    store.left = 1_000_000
    service.delete(named, force=True)
    assert not stated_in(store).ports and not stated_in(store).vm_subnets


def test_others_that_can_not_be_read_stay_as_they_are() -> None:
    store = MemoryStore()
    service = Service(store, OPERATOR)
    service.apply(Stated(intent_of([*FABRIC, *networks(2, 6)])))
    ports = [port.id for port in stated_in(store).ports]
    one, two, *_ = ports
    two_too = ports[-1]
    before = {
        key: snapshot_of(store).items[key] for key in about(store, two, two_too) if keys.INTENT not in key
    }
    values = {identity: snapshot_of(store).items[keys.object_key(identity)] for identity in (two, two_too)}
    overwrite(store, one, two, two_too)
    service.delete([one], force=True)
    after = snapshot_of(store).items
    assert keys.object_key(one) not in after
    assert before and all(after[key] == value for key, value in before.items())
    store.commit({keys.object_key(identity): value for identity, value in values.items()})
    check_last(store)


def check_last(store: MemoryStore) -> None:
    then = MemoryStore()
    then.commit(dict(snapshot_of(store, *plain.SCOPE).items))
    again = plain.plan(then, changes.apply(Intent()))
    assert not again.puts and not again.deletes


def test_what_may_need_it_and_can_not_be_read_is_told() -> None:
    store = MemoryStore()
    service = Service(store, OPERATOR)
    service.apply(Stated(intent_of([*FABRIC, *networks(2, 1)])))
    port, subnet = ObjectId("Port", "blue", "p0-0"), ObjectId("VMSubnet", "blue", "s0")
    overwrite(store, port, subnet, value=b'{"spec":{"host":"h0","vmSubnet":"s0"},"version":99}')
    with pytest.raises(
        ReferencedError, match=r"^Port blue/p0-0 may still refer to one of them, and can't be"
    ):
        service.delete([subnet], force=True)
    overwrite(store, ObjectId("VMSubnet", "blue", "s1"))
    with pytest.raises(UnreadableError, match=r"^store: VMSubnet blue/s1: [^\n]*$"):  # p1-0 needs it
        service.delete([port, subnet], force=True)
    service.delete([port, subnet, ObjectId("Port", "blue", "p1-0")], force=True)


def test_steps_that_are_no_smaller_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "steps", lambda edit, *_: [edit, edit])
    with pytest.raises(TooLargeError, match=r"in no smaller steps"):
        changes.commit(Small(), changes.apply(intent_of([*FABRIC, *networks(3, 24)])))
