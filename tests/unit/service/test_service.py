"""Use cases of one who asks: applying what was edited, labels, views, history, the way back, waiting."""

import json
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import (
    ForgottenError,
    NotAppliedError,
    NotDeletedError,
    NotFoundError,
    ObjectId,
    SelectorError,
    StaleError,
    UnreadableError,
)
from policy.kinds import keys, manifest
from policy.kinds.manifest import Stated
from policy.kinds.model import Port, Tenant, intent_of
from policy.service import host_state, selectors, views
from policy.service.planning import Outcome
from policy.service.principal import OPERATOR
from policy.service.service import Service
from policy.store.memory import MemoryStore
from policy.store.reading import snapshot_of
from tests.unit.service.agents import say

EXAMPLE = Path(__file__).parents[3] / "examples" / "blue-red.yaml"
WEB = ObjectId("Port", "blue", "blue-web")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def service(store: MemoryStore) -> Service:
    service = Service(store, OPERATOR)
    service.apply(manifest.read([EXAMPLE]))
    return service


def edited(service: Service, identity: ObjectId, **spec: object) -> Stated:
    """What an editor makes of the document that it was given."""
    [view] = service.view([identity])
    document = view.document()
    document["spec"] |= spec
    return manifest.decode([("edit", yaml.safe_dump(document).encode())])


def stated(*objects: Port | Tenant) -> Stated:
    return Stated(intent_of(objects))


# ---- edits ---------------------------------------------------------------------------------------


def test_an_edit_of_what_has_not_changed_since_is_applied(service: Service) -> None:
    done = service.apply(edited(service, WEB, host="h2"))
    assert done.outcomes == ((WEB, Outcome.CHANGED),)
    before, after = done.before[WEB], done.after[WEB]
    assert isinstance(before, Port) and isinstance(after, Port)
    assert (before.host, after.host) == ("h1", "h2")


def test_an_edit_of_what_has_changed_since_is_refused_with_both_sides(service: Service) -> None:
    mine, theirs = edited(service, WEB, host="h2"), edited(service, WEB, allowedSources=["10.9.0.0/16"])
    [seen] = service.view([WEB])
    revision = service.apply(theirs).revision
    with pytest.raises(StaleError) as refused:
        service.apply(mine)
    text = str(refused.value)
    assert f"edit:10: {WEB}: metadata.revision: is an edit of revision {seen.revision}, " in text
    assert f"it is at revision {revision} now; " in text
    assert "spec.host: h1 there, h2 here" in text
    assert "spec.allowedSources: ['10.9.0.0/16'] there, nothing here" in text
    assert service.apply(mine, expected={WEB: revision}).outcomes == ((WEB, Outcome.CHANGED),)


def test_what_changes_nothing_may_be_said_again(service: Service) -> None:
    """An answer that got lost on its way."""
    edit = edited(service, WEB, host="h2")
    service.apply(edit)
    assert service.apply(edit).outcomes == ((WEB, Outcome.UNCHANGED),)


def test_an_edit_of_what_was_deleted_does_not_bring_it_back(service: Service) -> None:
    edit = edited(service, WEB, host="h2")
    service.delete([WEB])
    with pytest.raises(StaleError, match=r"has been deleted since"):
        service.apply(edit)
    assert service.apply(Stated(edit.intent)).outcomes == ((WEB, Outcome.CREATED),)


def test_what_is_to_be_new_is_not_there_yet(service: Service) -> None:
    port = Port("blue", "mine", "Blue_VMSubnet1", "h1")
    service.apply(stated(port), expected={port.id: 0})
    with pytest.raises(StaleError, match=r"was not to be there yet, but it is, at revision 2"):
        service.apply(stated(replace(port, host="h2")), expected={port.id: 0})


def test_what_changed_since_it_was_seen_is_not_deleted(service: Service) -> None:
    [seen] = service.view([WEB])
    service.apply(edited(service, WEB, host="h2"))
    with pytest.raises(StaleError, match=f"{WEB}: metadata.revision: is an edit of revision 1, but it is at"):
        service.delete([WEB], expected={WEB: seen.revision})
    service.delete([WEB], expected={WEB: 2})
    with pytest.raises(NotFoundError):
        service.view([WEB])


def test_a_dry_run_changes_nothing(service: Service, store: MemoryStore) -> None:
    before = snapshot_of(store)
    edit = edited(service, WEB, host="h2")
    assert service.apply(edit, dry_run=True).outcomes == ((WEB, Outcome.CHANGED),)
    assert service.delete([WEB], dry_run=True).outcomes == ((WEB, Outcome.DELETED),)
    assert service.label([WEB], {"a": "b"}, dry_run=True).outcomes == ((WEB, Outcome.CHANGED),)
    assert snapshot_of(store) == before


# ---- labels --------------------------------------------------------------------------------------


def test_labels_are_put_and_removed(service: Service) -> None:
    service.label([WEB], {"app": "web", "tier": "front"})
    service.label([WEB], {"tier": "back"}, ["app", "missing"])
    [view] = service.view([WEB])
    assert view.labels == {"tier": "back"}
    assert service.label([WEB], {"tier": "back"}).outcomes == ((WEB, Outcome.UNCHANGED),)
    with pytest.raises(NotFoundError, match=r"there is no Port blue/none"):
        service.label([WEB, ObjectId("Port", "blue", "none")], {"a": "b"})


labels = st.dictionaries(st.sampled_from(["app", "tier", "x.io/y"]), st.sampled_from(["", "web", "db"]))


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("app=web", lambda has: has.get("app") == "web"),
        ("app == web", lambda has: has.get("app") == "web"),
        ("app!=web", lambda has: has.get("app") != "web"),
        ("app in (web, db),tier", lambda has: has.get("app") in ("web", "db") and "tier" in has),
        ("x.io/y notin (web)", lambda has: has.get("x.io/y") != "web"),
        ("!app , tier=", lambda has: "app" not in has and has.get("tier") == ""),
        (" ", lambda _: True),
    ],
)
def test_selectors(text: str, means: object) -> None:
    @given(labels)
    def check(has: dict[str, str]) -> None:
        assert callable(means) and selectors.parse(text).matches(has) == means(has)

    check()


@pytest.mark.parametrize(
    "text", ["a=b,", ",", "a=(b)", "a in b", "a in (b", "=b", "a b", "!a=b", "a/b/c", "a=?"]
)
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(SelectorError):
        selectors.parse(text)


@given(st.text(alphabet="ab=!,() in", max_size=12))
def test_any_text_is_a_selector_or_refused(text: str) -> None:
    with suppress(SelectorError):
        selectors.parse(text).matches({"a": "b"})


def test_views_of_a_tenant_with_labels(service: Service) -> None:
    service.label([WEB], {"app": "web"})
    found = service.views("Port", "blue", selectors.parse("app"))
    assert [view.identity for view in found] == [WEB]
    assert len(service.views("Port")) == 8 and len(service.views("Port", "red")) == 3
    with pytest.raises(NotFoundError, match=r"no Tenant green"):
        service.views("Port", "green")


# ---- views ---------------------------------------------------------------------------------------


def test_a_view_says_what_was_stated_given_and_when(service: Service) -> None:
    port = Port("blue", "mine", "Blue_VMSubnet1", "h1")
    revision = service.apply(stated(port)).revision
    [first] = service.view([port.id])
    service.label([port.id], {"a": "b"})
    [view] = service.view([port.id])
    assert view.stated["spec"] == {"vmSubnet": "Blue_VMSubnet1", "host": "h1"}
    assert sorted(view.given) == ["addresses", "mac", "providerAddresses"]
    assert (first.revision, view.revision) == (revision, revision + 1)
    assert first.created == view.created and first.created is not None
    document = view.document()
    assert document["metadata"]["created"] == views.timestamp(first.created)
    read = manifest.decode([("view", yaml.safe_dump(document).encode())])
    assert not read.problems and service.apply(read).outcomes == ((port.id, Outcome.UNCHANGED),)


def test_what_is_made_anew_is_of_another_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    port = Port("blue", "mine", "Blue_VMSubnet1", "h1")
    for now in (1000.0, 2000.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        service.apply(stated(port))
        assert service.view([port.id])[0].created == now
        service.delete([port.id])


def test_status_is_what_the_host_said(service: Service, store: MemoryStore) -> None:
    def status(identity: ObjectId) -> views.Status | None:
        [view] = service.view([identity])
        return view.status

    host = ObjectId("Host", "", "h1")
    assert status(WEB) is None and status(host) == views.Status("h1", views.UNKNOWN)
    say(store, "h1", 0)
    assert status(WEB) == status(host) == views.Status("h1", views.PENDING)
    say(store, "h1", 1)
    assert status(WEB) == status(host) == views.Status("h1", host_state.APPLIED)
    say(store, "h1", 1, "failed", "blue/other: no device", ports=["blue/other"])
    assert status(WEB) == views.Status("h1", host_state.APPLIED)
    assert status(host) == views.Status("h1", host_state.FAILED, ("blue/other: no device",))
    say(
        store,
        "h1",
        1,
        "failed",
        "blue/other: no device",
        "blue/blue-web: no device",
        ports=["blue/other", "blue/blue-web"],
    )
    assert status(WEB) == views.Status("h1", host_state.FAILED, ("blue/blue-web: no device",))


# ---- history -------------------------------------------------------------------------------------


def test_back_to_a_revision(service: Service) -> None:
    before = {kind: service.views(kind) for kind in ("Port", "Tenant", "VMSubnet")}
    [entry] = service.history()
    service.apply(edited(service, WEB, host="h2"))
    service.delete([ObjectId("Port", "red", "red-web")])
    service.apply(stated(Tenant("blue"), Tenant("red"), Port("blue", "mine", "Blue_VMSubnet1", "h1")))
    assert len(service.history()) == 4
    planned = service.rollback(entry.revision, dry_run=True)
    done = service.rollback(entry.revision)
    assert dict(done.outcomes) == dict(planned.outcomes)
    assert dict(done.outcomes) == {
        WEB: Outcome.CHANGED,
        ObjectId("Port", "red", "red-web"): Outcome.CREATED,
        ObjectId("Port", "blue", "mine"): Outcome.DELETED,
        ObjectId("Tenant", "", "blue"): Outcome.DELETED,
        ObjectId("Tenant", "", "red"): Outcome.DELETED,
    }
    for kind, found in before.items():
        assert [view.stated for view in service.views(kind)] == [view.stated for view in found]
    last = service.history()[-1]
    assert (last.revision, last.event.who) == (done.revision, "operator")
    assert last.event.source == f"rollback to revision {entry.revision}"


def test_back_to_what_is_not_known(service: Service, store: MemoryStore) -> None:
    service.apply(edited(service, WEB, host="h2"))
    with pytest.raises(ForgottenError, match=r"can't go back to revision 9: "):
        service.rollback(9)
    store.compact(2)
    with pytest.raises(ForgottenError, match=r"can't go back to revision 1: .*oldest known is 2"):
        service.rollback(1)


def test_events_are_about_objects_and_say_who(service: Service) -> None:
    service.label([WEB], {"a": "b"})
    assert [event.source for event in service.events()] == ["apply", "label"]
    assert [event.source for event in service.events(ObjectId("Port", "red", "red-web"))] == ["apply"]
    assert {event.who for event in service.events(WEB)} == {"operator"}


def test_events_of_other_versions_are_read_as_far_as_they_are_known(
    service: Service, store: MemoryStore
) -> None:
    newer = {
        "time": 1.5,
        "source": "apply",
        "text": "x",
        "counts": {},
        "objects": ["Host h1"],
        "who": "a",
        "new": 1,
    }
    store.commit(
        {
            keys.event_key(1.0, "0001"): b"{",
            keys.event_key(1.1, "0001"): b"[]",
            keys.event_key(1.5, "0001"): json.dumps(newer).encode(),
        }
    )
    first, second = service.events()
    assert (first.time, first.source, first.objects, first.who) == (1.5, "apply", ("Host h1",), "a")
    assert second.counts["created"] > 1
    assert [entry.event for entry in service.history()] == [second, first]


# ---- hosts ---------------------------------------------------------------------------------------


FAR = b"""
kind: Host
metadata: {name: h3}
spec: {site: rack1, underlay: {interface: u1}}
---
kind: VMNetwork
metadata: {name: far, tenant: green}
spec: {logicalNetwork: fabric}
---
kind: VMSubnet
metadata: {name: far, tenant: green}
spec: {vmNetwork: far, prefixes: [10.1.0.0/24]}
"""


def test_a_change_concerns_hosts_of_its_network(service: Service) -> None:
    assert service.apply(edited(service, WEB, host="h2")).hosts == {"h1", "h2"}
    far = manifest.decode([("far", FAR)])
    assert service.apply(far).hosts == {"h3"}
    port = Port("green", "far", "far", "h3")
    assert service.apply(stated(port)).hosts == {"h3"}
    assert service.hosts_of([port.id]) == {"h3"}
    assert service.hosts_of([WEB]) == {"h1", "h2"}
    assert service.hosts_of([ObjectId("NetworkSite", "", "rack1")]) == {"h1", "h2", "h3"}
    assert service.delete([port.id]).hosts == {"h3"}


def test_waits_for_the_hosts_that_a_change_concerns(service: Service, store: MemoryStore) -> None:
    service.apply(manifest.decode([("far", FAR)]))
    done = service.apply(edited(service, WEB, host="h2"))
    say(store, "h1", done.revision)
    with pytest.raises(NotAppliedError, match=r"not applied after 0 s by: h2 \(no agent is there\)"):
        service.wait_done(done, 0, lambda _: None)
    say(store, "h2", done.revision)
    service.wait_done(done, 0, lambda _: None)
    service.wait_applied([WEB], 0, lambda _: None)
    with pytest.raises(NotAppliedError, match=r"by: h3"):
        service.wait_applied([ObjectId("Host", "", "h3")], 0, lambda _: None)


def test_waits_until_it_is_deleted(service: Service) -> None:
    with pytest.raises(NotDeletedError, match=r"still there after 0 s: Port blue/blue-web"):
        service.wait_deleted([WEB], 0)
    thread = threading.Thread(target=service.delete, args=([WEB],))
    thread.start()
    service.wait_deleted([WEB, ObjectId("Port", "blue", "none")], 20)
    thread.join()


# ---- what can't be read --------------------------------------------------------------------------


NEWER = b'{"spec":{"host":"h1","vmSubnet":"Red_VMSubnet1"},"version":99}'


def test_what_can_not_be_read_concerns_itself_alone(service: Service, store: MemoryStore) -> None:
    newer = ObjectId("Port", "red", "newer")
    store.commit({keys.object_key(newer): NEWER, keys.object_key(newer._replace(kind="LookupRecord")): b"{"})
    assert service.apply(edited(service, WEB, host="h2")).outcomes == ((WEB, Outcome.CHANGED),)
    assert service.delete([ObjectId("Port", "red", "red-web")]).hosts == {"h1", "h2"}
    assert newer not in {view.identity for view in service.views("Port", "red")}
    [problem] = service.unreadable("Port")
    assert problem.subject == str(newer) and "storage version 99" in problem.text
    assert service.unreadable("Port", "blue") == [] and len(service.unreadable("LookupRecord")) == 1
    with pytest.raises(UnreadableError, match=r"Port red/newer: .* storage version 99"):
        service.view([newer])
    with pytest.raises(UnreadableError, match=r"Port red/newer"):
        service.apply(stated(Port("red", "newer", "Red_VMSubnet1", "h1")))
    store.commit({keys.object_key(ObjectId("Host", "", "h9")): b"{"})
    assert service.hosts_of([WEB]) == {"h1", "h2"}
