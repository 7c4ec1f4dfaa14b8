"""Documents that a newer version wrote, through an older one: what is not known is kept, or refused."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import ObjectId, UnreadableError
from policy.kinds import documents, keys, manifest
from policy.kinds.model import NO_MAC, Host, LogicalNetwork, NetworkSite, Object, Port, VMSubnet
from policy.service import changes
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of
from tests.unit.intents import intents
from tests.unit.manifests import EXAMPLE
from tests.unit.service.plain import plan

PORT = "intent/Port/blue/web"
plain = st.none() | st.booleans() | st.integers() | st.text(max_size=4)
values = plain | st.lists(plain, max_size=2) | st.dictionaries(st.text(max_size=4), plain, max_size=2)
unknown = st.dictionaries(st.sampled_from(["later", "x-1", "Host", ""]), values, max_size=2)


@st.composite
def newer(draw: st.DrawFn, document: Any) -> Any:
    """With fields that are not known in any of its mappings but labels, which are the author's."""
    if isinstance(document, list):
        return [draw(newer(each)) for each in document]
    if not isinstance(document, dict):
        return document
    known = {key: value if key == "labels" else draw(newer(value)) for key, value in document.items()}
    return {**draw(unknown), **known}


@st.composite
def stored(draw: st.DrawFn) -> tuple[str, bytes]:
    item = draw(st.sampled_from(sorted(draw(intents()).by_id.values(), key=lambda each: each.id)))
    document = draw(newer({"given": {}, **json.loads(documents.dump(item, now=1.25))}))
    return keys.object_key(item.id), json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


@given(stored())
def test_an_older_writer_that_changes_nothing_changes_nothing(item: tuple[str, bytes]) -> None:
    key, value = item
    found, complete = documents.load(key, value), documents.load(key, value, complete=True)
    again = json.loads(documents.dump(found, complete, over=value))
    assert {"given": {}, **again} == json.loads(value)


@given(stored(), st.sampled_from([(), (("app", "web"),)]))
def test_an_older_writer_changes_what_it_knows_alone(
    item: tuple[str, bytes], labels: tuple[tuple[str, str], ...]
) -> None:
    key, value = item
    changed = changed_object(replace(documents.load(key, value), labels=labels))
    written = documents.dump(changed, over=value)
    assert documents.load(key, written) == changed
    assert documents.created(written) == 1.25
    assert paths(json.loads(value)) <= paths(json.loads(written))


def changed_object(item: Object) -> Object:
    match item:
        case Port():
            return replace(item, host="other", addresses=())
        case Host():
            return replace(item, site="other", underlay=replace(item.underlay, mtu=9000, mac=NO_MAC))
        case VMSubnet():
            return replace(item, vm_network="other")
        case NetworkSite():
            return replace(item, subnets=tuple(reversed(item.subnets)))
        case _:
            return item


UNKNOWN = {"later", "x-1", "Host", ""}


def paths(document: Any, at: str = "") -> set[tuple[str, str]]:
    """Of what is not known, with the values. Elements of lists may change their places."""
    if isinstance(document, list):
        return {found for each in document for found in paths(each, f"{at}[]")}
    if not isinstance(document, dict):
        return set()
    own = {(f"{at}.{key}", json.dumps(value)) for key, value in document.items() if key in UNKNOWN}
    inner = (
        paths(value, f"{at}.{key}") for key, value in document.items() if key not in {*UNKNOWN, "labels"}
    )
    return own.union(*inner)


def test_an_element_that_goes_takes_what_is_not_known_of_it_along() -> None:
    first = {"prefix": "192.168.77.0/24", "later": 1}
    second = {"prefix": "192.168.78.0/24", "later": 2}
    key = "intent/NetworkSite//rack1"
    value = json.dumps({"spec": {"logicalNetwork": "fabric", "subnets": [first, second]}}).encode()
    site = documents.load(key, value)
    assert isinstance(site, NetworkSite)
    written = documents.dump(replace(site, subnets=site.subnets[1:]), over=value)
    assert json.loads(written)["spec"]["subnets"] == [second]


def test_a_section_of_fields_that_are_not_known_is_kept_until_another_comes() -> None:
    """To an older version it is a port without a device."""
    spec = {"vmSubnet": "sub", "host": "h1", "attach": {"vhostUser": "/run/vm.sock"}}
    value = json.dumps({"spec": spec}).encode()
    port = documents.load(PORT, value)
    assert isinstance(port, Port)
    assert port.attach is None
    moved = documents.dump(replace(port, host="h2"), over=value)
    assert json.loads(moved)["spec"] == {**spec, "host": "h2"}


def test_a_newer_version_is_not_written_over() -> None:
    port = Port("blue", "web", "sub", "h1")
    newest = json.dumps({"spec": {}, "version": documents.STORAGE_VERSION + 1}).encode()
    with pytest.raises(UnreadableError, match=r"Port blue/web: .* storage version 2"):
        documents.dump(port, over=newest)


def test_one_document_that_cannot_be_read_concerns_its_object_alone() -> None:
    items = documents.items_of([LogicalNetwork("a"), LogicalNetwork("b"), Port("blue", "web", "sub", "h1")])
    items["intent/LogicalNetwork//a"] = b'{"spec": {}, "version": 9}'
    items["intent/Gateway/blue/new"] = b'{"spec": {}}'
    contents = documents.read(items)
    assert contents.objects == (LogicalNetwork("b"), Port("blue", "web", "sub", "h1"))
    assert sorted(contents.unreadable) == ["intent/Gateway/blue/new", "intent/LogicalNetwork//a"]
    assert contents.unreadable["intent/LogicalNetwork//a"].subject == "LogicalNetwork a"
    with pytest.raises(UnreadableError) as caught:
        documents.intent_from(items)
    assert [problem.subject for problem in caught.value.problems] == ["Gateway blue/new", "LogicalNetwork a"]


def test_apply_keeps_what_a_newer_version_stored() -> None:
    """Planned by what it concerns, and in the whole."""
    store = MemoryStore()
    intent = manifest.read([EXAMPLE]).intent
    changes.commit(store, changes.apply(intent))
    key = keys.object_key(next(item.id for item in intent.ports))
    spoken = json.loads(snapshot_of(store, keys=[key]).items[key])
    spoken["spec"]["later"] = {"a": 1}
    value = json.dumps(spoken, separators=(",", ":"), sort_keys=True).encode()
    store.commit({key: value})
    changed = [replace(port, labels=(("app", "web"),)) for port in intent.ports]
    change = changes.apply(documents.intent_from(documents.items_of(changed)))
    for planned in (plan(store, change), changes.plan(store, change)):
        assert json.loads(planned.puts[key])["spec"]["later"] == {"a": 1}
        assert json.loads(planned.puts[key])["labels"] == {"app": "web"}


def test_apply_does_not_touch_what_it_cannot_read() -> None:
    store = MemoryStore()
    intent = manifest.read([EXAMPLE]).intent
    changes.commit(store, changes.apply(intent))
    odd = keys.object_key(ObjectId("Port", "blue", "blue-web"))
    assert snapshot_of(store, keys=[odd]).items
    store.commit({odd: b'{"spec": {}, "version": 2}'})
    with pytest.raises(UnreadableError, match=r"Port blue/blue-web: .* storage version 2"):
        changes.commit(store, changes.apply(intent))
