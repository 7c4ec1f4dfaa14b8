"""Leases: what is put under one goes with whoever keeps it alive. The contract, on every kind of store."""

import pytest

from policy.errors import LeaseError
from policy.store.contract import Batch, Change, Store
from tests.unit.store.stores import Clock, held, told


def test_what_is_not_kept_alive_goes_in_one_commit(store: Store, clock: Clock) -> None:
    lease = store.lease(30)
    store.commit({"a": b"1", "b": b"1", "c": b"1"}, leases={"a": lease, "b": lease})
    with store.watch(1) as watch:
        clock.now += 29
        assert store.range("").revision == 1 and told(watch) == []
        clock.now += 1
        assert told(watch) == [Batch(2, (Change("a", None), Change("b", None)))]
    assert held(store) == {"c": b"1"}
    assert held(store) == {"c": b"1"} and store.range("").revision == 2
    assert [key for key, _, _ in store.range("", at=1).rows] == ["a", "b", "c"]


def test_whoever_looks_first_sees_that_it_is_gone(store: Store, clock: Clock) -> None:
    lease = store.lease(30)
    store.commit({"a": b"1"}, leases={"a": lease})
    clock.now += 31
    assert store.get(["a"]).rows == [] and store.get(["a"]).revision == 2


def test_what_is_kept_alive_stays_and_makes_no_commits(store: Store, clock: Clock) -> None:
    lease = store.lease(30)
    store.commit({"a": b"1"}, leases={"a": lease})
    for _ in range(10):
        clock.now += 10
        store.keep_alive(lease)
    assert store.range("").revision == 1 and held(store) == {"a": b"1"}
    clock.now += 30
    with pytest.raises(LeaseError, match="has ended"):
        store.keep_alive(lease)
    assert held(store) == {}


def test_a_lease_that_has_ended_takes_no_more_keys(store: Store, clock: Clock) -> None:
    lease = store.lease(30)
    clock.now += 30
    with pytest.raises(LeaseError):
        store.commit({"a": b"1", "b": b"1"}, leases={"a": lease})
    with pytest.raises(LeaseError):
        store.keep_alive("none that ever was")
    assert store.range("").revision == 0


def test_a_lease_can_be_given_back(store: Store) -> None:
    lease = store.lease(30)
    store.commit({"a": b"1"}, leases={"a": lease})
    store.revoke(lease)
    assert held(store) == {} and store.range("").revision == 2
    store.revoke(lease)
    assert store.range("").revision == 2


def test_a_key_that_is_put_again_is_under_the_lease_of_then(store: Store, clock: Clock) -> None:
    first, second = store.lease(30), store.lease(60)
    store.commit(dict.fromkeys("abcd", b"1"), leases=dict.fromkeys("abcd", first))
    assert store.commit({"a": b"1"}) == 1, "the same value is no change"
    store.commit({"b": b"2"})
    assert store.commit({"c": b"1"}, leases={"c": second}) == 2
    clock.now += 30
    assert held(store).keys() == {"a", "b", "c"}
    clock.now += 30
    assert held(store).keys() == {"a", "b"}


def test_a_key_that_was_deleted_and_made_anew_is_under_no_lease(store: Store, clock: Clock) -> None:
    lease = store.lease(30)
    store.commit({"a": b"1"}, leases={"a": lease})
    store.commit({}, ["a"])
    store.commit({"a": b"1"})
    clock.now += 30
    assert held(store) == {"a": b"1"}


def test_keys_that_go_after_a_time(store: Store, clock: Clock) -> None:
    """Of many that are put one after the other, many go at once."""
    for number in range(100):
        store.commit({f"a/{number}": b"", "b": b"%d" % number}, seconds={f"a/{number}": 1000.0})
        clock.now += 1
    clock.now += 899
    assert len(held(store, "a/")) == 100, "none before its time"
    for _ in range(100):
        clock.now += 2
        store.range("")
    assert held(store, "a/") == {} and held(store) == {"b": b"99"}
    assert store.range("").revision <= 100 + 2
