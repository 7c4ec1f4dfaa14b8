"""Reads and commits: the contract, on every kind of store."""

import pytest

from policy.errors import ConflictError, TooLargeError
from policy.store.contract import PAGE_BYTES, Expect, Page, Store
from policy.store.reading import Reading, rows_under, snapshot_of
from tests.unit.store.stores import held

# ---- commits -------------------------------------------------------------------------------------


def test_a_new_store_is_empty_at_revision_0(store: Store) -> None:
    assert store.range("") == Page(0, [])
    assert store.get(["a"]) == Page(0, [])


def test_a_commit_is_one_revision(store: Store) -> None:
    assert store.commit({"a/1": b"x", "a/2": b"y"}) == 1
    assert store.commit({"a/1": b"z"}, ["a/2"]) == 2
    assert store.range("") == Page(2, [("a/1", b"z", 2)])


def test_what_changes_nothing_is_no_revision(store: Store) -> None:
    store.commit({"a": b"x", "b": b""})
    assert store.commit({"a": b"x", "b": b""}, ["none"]) == 1
    assert store.commit({}) == 1
    assert store.commit({}, ["b"]) == 2, "an empty value is a value"
    assert store.commit({}, ["b"]) == 2


@pytest.mark.parametrize(("puts", "deletes"), [({"": b""}, []), ({}, ["a\0b"]), ({"a": b""}, ["a"])])
def test_commits_that_make_no_sense(store: Store, puts: dict[str, bytes], deletes: list[str]) -> None:
    with pytest.raises(ValueError, match=r"is not a key|both put and deleted: a"):
        store.commit(puts, deletes)
    with pytest.raises(ValueError, match="under a lease, but not put: b"):
        store.commit({"a": b""}, seconds={"b": 1.0})
    assert store.range("").revision == 0


def test_a_commit_beyond_the_limits_is_refused_whole(store: Store) -> None:
    ops, size, value = store.limits()
    with pytest.raises(TooLargeError, match=r"5,001 changes of .* this store takes 5,000"):
        store.commit({f"a/{number}": b"" for number in range(ops)}, ["b"])
    full = {key: bytes(size // 5 - 1) for key in "abcde"}
    with pytest.raises(TooLargeError, match=r"of 20,971,521 bytes in one commit"):
        store.commit({**full, "f": b""})
    with pytest.raises(TooLargeError, match="a value of 4,194,305 bytes: this store takes 4,194,304"):
        store.commit({"a": bytes(value + 1)})
    assert store.range("").revision == 0
    assert store.commit({f"a/{number}": b"" for number in range(ops)}) == 1
    assert store.commit(full) == 2


# ---- what a commit expects -----------------------------------------------------------------------


def test_a_prefix_under_which_something_has_changed(store: Store) -> None:
    base = store.commit({"a/1": b"1"})
    store.commit({"b/1": b"1"})
    assert store.commit({"a/1": b"2"}, expect=Expect(prefixes={"a/": base})) == 3
    with pytest.raises(ConflictError, match="a/ has changed since revision 1"):
        store.commit({"b/1": b"2"}, expect=Expect(prefixes={"a/": base, "b/": 2}))
    store.commit({}, ["a/1"])
    with pytest.raises(ConflictError, match="a/ has changed since revision 3"):
        store.commit({"c": b""}, expect=Expect(prefixes={"a/": 3}))
    assert held(store) == {"b/1": b"1"}
    assert store.commit({"d": b""}, expect=Expect(prefixes={"nothing/": 0})) == 5


def test_a_key_that_has_changed(store: Store) -> None:
    store.commit({"a": b"1"})
    store.commit({"ab": b"1", "a/1": b"1"})
    assert store.commit({"b": b""}, expect=Expect(keys={"a": 1})) == 3, "what only begins so is another key"
    with pytest.raises(ConflictError, match="ab has changed since revision 1"):
        store.commit({"c": b""}, expect=Expect(keys={"a": 1, "ab": 1}))
    store.commit({}, ["a"])
    with pytest.raises(ConflictError, match="a has changed since revision 3"):
        store.commit({"c": b""}, expect=Expect(keys={"a": 3}))
    assert store.commit({"a": b"2"}, expect=Expect(keys={"a": 4, "none": 0})) == 5


def test_what_is_expected_of_a_revision_that_is_to_come(store: Store) -> None:
    store.commit({"a": b"1"})
    for expect in (Expect(keys={"a": 2}), Expect(prefixes={"b/": 2})):
        with pytest.raises(ConflictError):
            store.commit({"c": b""}, expect=expect)


# ---- commit ids ----------------------------------------------------------------------------------


def test_a_commit_whose_outcome_was_not_heard_is_made_once(store: Store) -> None:
    assert store.outcome("first") is None
    assert store.commit({"a": b"1"}, commit_id="first") == 1
    store.commit({"a": b"2"})
    assert store.outcome("first") == 1
    assert store.commit({"a": b"1"}, expect=Expect(keys={"a": 0}), commit_id="first") == 1
    assert held(store) == {"a": b"2"}
    with pytest.raises(ConflictError):
        store.commit({"b": b"1"}, expect=Expect(keys={"a": 1}), commit_id="second")
    assert store.outcome("second") is None
    assert store.commit({"a": b"2"}, commit_id="nothing to change") == 2
    assert store.outcome("nothing to change") == 2


# ---- reads ---------------------------------------------------------------------------------------


def test_a_range_by_pages(store: Store) -> None:
    store.commit({f"a/{number:02}": b"%d" % number for number in range(7)} | {"a": b"", "a0": b"", "b": b""})
    page = store.range("a/", limit=3)
    assert [key for key, _, _ in page.rows] == ["a/00", "a/01", "a/02"] and page.more
    store.commit({"a/05": b"new"}, ["a/03"])
    page = store.range("a/", page.revision, "a/02", 3)
    assert page == Page(1, [("a/03", b"3", 1), ("a/04", b"4", 1), ("a/05", b"5", 1)], more=True)
    assert store.range("a/", 1, "a/05", 1) == Page(1, [("a/06", b"6", 1)])
    assert store.range("a/", after="a/05") == Page(2, [("a/06", b"6", 1)])
    assert store.range("a/", after="a") == store.range("a/"), "a key before all of them"
    assert store.range("a/", after="a/06") == Page(2, [])


def test_a_page_ends_where_it_is_large_enough(store: Store) -> None:
    large = bytes(PAGE_BYTES // 2)
    store.commit({f"a/{number}": large for number in range(5)})
    page = store.range("a/")
    assert (len(page.rows), page.more) == (2, True)
    assert [key for key, _, _ in rows_under(store, "a/", 1)] == [f"a/{number}" for number in range(5)]


def test_keys_sort_by_their_code_points(store: Store) -> None:
    keys = ["a", "a ", "a/", "a/1", "aZ", "a\xe9", "a\u20ac", "a\U0001f600"]
    store.commit(dict.fromkeys(keys, b""))
    assert [key for key, _, _ in store.range("a").rows] == keys
    assert [key for key, _, _ in store.range("a\u20ac").rows] == ["a\u20ac"]


def test_some_keys(store: Store) -> None:
    store.commit({"a": b"1", "a/1": b"2", "b": b"3", "c": b"4"})
    store.commit({"a/1": b"5"}, ["c"])
    assert store.get(["b", "a", "c", "none", "a"]) == Page(2, [("a", b"1", 1), ("b", b"3", 1)])
    assert store.get(["a/1", "c"], at=1) == Page(1, [("a/1", b"2", 1), ("c", b"4", 1)])
    assert store.get(f"a/{number}" for number in range(3000)) == Page(2, [("a/1", b"5", 2)])


def test_what_was_at_a_revision(store: Store) -> None:
    store.commit({"a": b"1"})
    store.commit({"a": b"2", "b": b"1"})
    store.commit({}, ["a"])
    store.commit({"a": b"4"})
    there = [{key: value for key, value, _ in store.range("", at).rows} for at in range(5)]
    assert there == [{}, {"a": b"1"}, {"a": b"2", "b": b"1"}, {"b": b"1"}, {"a": b"4", "b": b"1"}]
    for read in (lambda: store.range("", 5), lambda: store.get(["a"], 5)):
        with pytest.raises(ValueError, match="revision 5 is in the future; the newest is 4"):
            read()


def test_a_snapshot_is_made_of_pages(store: Store) -> None:
    store.commit({"a/1": b"1", "a/2": b"2", "ab": b"3", "b/1": b"4"})
    store.commit({"a/1": b"5"})
    whole = snapshot_of(store)
    assert list(whole.items) == ["a/1", "a/2", "ab", "b/1"] and whole.revisions["a/1"] == whole.revision == 2
    assert list(snapshot_of(store, "b", "a/", keys=["ab", "a/1", "none"]).items) == list(whole.items)
    assert list(snapshot_of(store, "a", "a/").items) == ["a/1", "a/2", "ab"]
    assert snapshot_of(store, "a/", at=1).items == {"a/1": b"1", "a/2": b"2"}
    assert not snapshot_of(store, "c").items and not snapshot_of(store, keys=[]).items


def test_a_reading_is_of_one_revision_and_knows_what_it_relies_on(store: Store) -> None:
    store.commit({"a/1": b"1", "a/2": b"2", "b": b"3"})
    reading = Reading(store)
    assert reading.get("b") == b"3" and reading.get("none") is None
    store.commit({"a/1": b"x", "none": b"x", "d": b"x"})
    assert reading.under("a/") == {"a/1": b"1", "a/2": b"2"}
    assert reading.get("a/1") == b"1" and reading.get("none") is None and reading.get("a/3") is None
    assert reading.relied_on == Expect(dict.fromkeys(["b", "none", "a/3"], 1), {"a/": 1})
    with pytest.raises(ConflictError):
        store.commit({"e": b""}, expect=reading.relied_on)
    assert Reading(store).revision == 2
    again = Reading(store)
    again.load(["b"], ["c", "d"])
    assert (again.under("c"), again.under("d")) == ({}, {"d": b"x"})
    store.commit({"a/1": b"y"})
    assert store.commit({"e": b""}, expect=again.relied_on) == 4
