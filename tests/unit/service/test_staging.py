"""Changes of which a store takes only a part at once."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from policy.errors import (
    ConflictError,
    ManifestError,
    NotFoundError,
    ObjectId,
    TooLargeError,
    UnavailableError,
)
from policy.kinds.manifest import Stated
from policy.kinds.model import (
    Intent,
    Mac,
    Port,
    VMNetwork,
    intent_of,
)
from policy.service import changes
from policy.service.planning import Outcome
from policy.service.principal import OPERATOR
from policy.service.service import Service
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of
from tests.unit.service import plain
from tests.unit.service.small import FABRIC, Small, networks, stated_in


def check_each_step(store: MemoryStore) -> None:
    """What was committed at every revision is right, and complete with its grants and its index."""
    for revision in range(1, snapshot_of(store).revision + 1):
        then = MemoryStore()
        then.commit(dict(snapshot_of(store, *plain.SCOPE, at=revision).items))
        again = plain.plan(then, changes.apply(Intent()))
        assert not again.puts and not again.deletes


world = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 8)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(world, st.integers(0, 12))
def test_steps_lead_where_one_commit_would(sizes: list[tuple[int, int]], lives: int) -> None:
    small, large = Small(), MemoryStore()
    for size in sizes:
        wanted = intent_of([*FABRIC, *networks(*size)])
        gone = [each for each in stated_in(large).by_id if each not in wanted.by_id]
        for store in (small, large):
            if isinstance(store, Small):
                store.left = lives
                try:
                    changes.commit(store, changes.apply(wanted))
                    changes.commit(store, changes.delete(gone, ignore_missing=True))
                except UnavailableError:
                    event("interrupted")
                    store.left = 1_000_000
            _, plan = changes.commit(store, changes.apply(wanted))
            assert len(plan.outcomes) == len(wanted.by_id)
            changes.commit(store, changes.delete(gone, ignore_missing=True))
        assert stated_in(small) == stated_in(large) == wanted
    check_each_step(small)


def test_what_is_wrong_is_told_before_the_first_step() -> None:
    store = Small()
    objects = [*FABRIC, *networks(3, 8), Port("blue", "wrong", "none", "h1")]
    with pytest.raises(ManifestError, match=r"Port blue/wrong: spec.vmSubnet"):
        changes.commit(store, changes.apply(intent_of(objects)))
    assert snapshot_of(store).revision == 0


def test_what_is_freed_by_a_change_can_be_had_in_it() -> None:
    """Those that nothing needs go first: their addresses are other ports' then."""
    store = Small()
    address = ip_address("10.0.0.77")
    old = [Port("blue", f"old{each}", "s0", "h1", (address + each,)) for each in range(12)]
    changes.commit(store, changes.apply(intent_of([*FABRIC, *networks(1, 0), *old])))
    new = [Port("blue", f"new{each}", "s0", "h1", (address + each,)) for each in range(12)]
    labelled = [Port("blue", each.name, "s0", "h1", each.addresses, labels=(("a", "b"),)) for each in old]
    changes.commit(store, changes.apply(intent_of(labelled)))
    _, plan = changes.commit(store, changes.apply(intent_of(new), prune=(("a", "b"),)))
    assert [outcome for _, outcome in plan.outcomes].count(Outcome.DELETED) == 12
    assert {port.name for port in stated_in(store).ports} == {port.name for port in new}


def test_what_can_not_be_done_in_steps_is_refused() -> None:
    """Ports that swap their addresses would have to do so at once."""
    store = Small()
    addresses = [ip_address("10.0.0.77") + each for each in range(24)]
    ports = [Port("blue", f"p{each}", "s0", "h1", (address,)) for each, address in enumerate(addresses)]
    changes.commit(store, changes.apply(intent_of([*FABRIC, *networks(1, 0), *ports])))
    turned = [
        Port("blue", port.name, "s0", "h1", (address,))
        for port, address in zip(ports, reversed(addresses), strict=True)
    ]
    before = stated_in(store).by_id
    with pytest.raises(TooLargeError, match=r"step 1 of \d is wrong:\n.*Port blue/p22: spec.addresses"):
        changes.commit(store, changes.apply(intent_of(turned)))
    assert stated_in(store).by_id == before


class Shared(Small):
    """After the first step somebody else changes an object of a later one."""

    meanwhile: Port | None = None

    def commit(self, puts: Mapping[str, bytes], deletes: Collection[str] = (), **words: Any) -> int:
        revision = super().commit(puts, deletes, **words)
        if self.meanwhile is not None:
            other, self.meanwhile = self.meanwhile, None
            changes.commit(self, changes.apply(intent_of([other])))
        return revision


def test_what_others_change_between_two_steps_stays() -> None:
    """A label is put on what is there, not on what was there before the first step."""
    store = Shared()
    changes.commit(store, changes.apply(intent_of([*FABRIC, *networks(3, 24)])))
    ports = [port.id for port in stated_in(store).ports]
    last = stated_in(store).ports[-1]
    store.meanwhile = replace(last, host="h1", mac=Mac("02:00:00:00:00:77"))
    changes.commit(store, changes.label(ports, {"a": "b"}))
    assert store.meanwhile is None
    found = stated_in(store)
    assert found.by_id[last.id] == replace(
        last, host="h1", mac=Mac("02:00:00:00:00:77"), labels=(("a", "b"),)
    )
    assert {port.labels for port in found.ports} == {(("a", "b"),)}


def test_a_delete_that_was_interrupted_can_be_made_again() -> None:
    store = Small()
    service = Service(store, OPERATOR)
    service.apply(Stated(intent_of([*FABRIC, *networks(3, 24)])))
    ports = [port.id for port in stated_in(store).ports]
    for _ in range(2):
        store.left = 1
        with pytest.raises(UnavailableError):
            service.delete(ports)
        store.left = 1_000_000
    assert 0 < len(stated_in(store).ports) < len(ports)
    with pytest.raises(NotFoundError, match=r"^there is no Port blue/none$"):
        service.delete([*ports, ObjectId("Port", "blue", "none")])
    others = replace(OPERATOR, name="somebody else")
    with pytest.raises(NotFoundError):
        Service(store, others).delete(ports)
    service.delete(ports)
    assert not stated_in(store).ports
    with pytest.raises(NotFoundError):
        service.delete(ports)
    check_each_step(store)


class Beaten(Small):
    """Others are faster, at the second step, as often as it takes."""

    beats = 0

    def commit(self, puts: Mapping[str, bytes], deletes: Collection[str] = (), **words: Any) -> int:
        if self.left == 0 and self.beats:
            self.beats -= 1
            raise ConflictError("changed")
        self.left = max(self.left, 1)
        return super().commit(puts, deletes, **words)


def test_what_it_has_deleted_itself_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(changes, "_LONGEST_PAUSE", 0.0)
    store = Beaten()
    changes.commit(store, changes.apply(intent_of([*FABRIC, *networks(3, 24)])))
    store.left, store.beats = 1, changes._ATTEMPTS
    changes.commit(store, changes.delete([port.id for port in stated_in(store).ports]), "delete")
    assert not store.beats and not stated_in(store).ports


@pytest.mark.parametrize("commits", [1, 2, 3, 7, 12])
def test_a_delete_of_several_kinds_can_be_made_again(commits: int) -> None:
    """Objects of some kinds take more than others, so that steps are split again."""
    store = Small()
    service = Service(store, OPERATOR)
    bare = [VMNetwork("blue", f"bare{number}", "fabric") for number in range(60)]
    other = VMNetwork("blue", "other", "fabric")
    service.apply(Stated(intent_of([*FABRIC, *networks(3, 24), *bare, other])))
    ports = [port.id for port in stated_in(store).ports]
    named = [*ports, *(network.id for network in bare)]
    store.left = commits
    with pytest.raises(UnavailableError):
        service.delete(named)
    store.left = 1_000_000
    service.delete([other.id])
    assert service.deleted_before([other.id]) == set()
    service.delete(named)
    there = stated_in(store)
    assert not there.ports and len(there.vm_networks) == 3
    with pytest.raises(NotFoundError):
        service.delete(named)
    assert service.deleted_before(ports) == service.deleted_before(named) == set()
    check_each_step(store)
