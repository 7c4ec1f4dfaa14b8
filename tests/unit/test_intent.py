"""Changes of intent: planned whole, checked whole, committed with their grants or not at all."""

import json
import threading
import time
from collections.abc import Collection
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import documents, events, index, intent, manifest, validate
from policy.errors import ManifestError, ObjectId
from policy.finding import NotFoundError, SeveralError, find, names
from policy.grants import HOLD_SECONDS, decode
from policy.intent import NotAppliedError, Outcome, ReferencedError
from policy.model import Intent, LogicalNetwork, Port, VMSubnet, intent_of
from policy.store import ConflictError, Reading, Snapshot
from policy.store_memory import MemoryStore
from tests.unit.intents import intents
from tests.unit.manifests import EXAMPLE

WEB = ObjectId("Port", "blue", "blue-web")
SUBNET = ObjectId("VMSubnet", "blue", "Blue_VMSubnet1")
NETWORK = ObjectId("VMNetwork", "blue", "Blue_VMNet")


def example() -> Intent:
    stated, problems = manifest.read([EXAMPLE])
    assert not problems
    return stated


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    intent.commit(store, intent.apply(example()))
    return store


def stored(store: MemoryStore) -> Intent:
    return documents.intent_from(store.snapshot(documents.PREFIX).items)


def outcomes(plan: intent.Plan) -> dict[ObjectId, Outcome]:
    return dict(plan.outcomes)


# ---- apply ---------------------------------------------------------------------------------------


def test_apply_creates_then_changes_nothing(store: MemoryStore) -> None:
    assert stored(store) == example()
    revision, plan = intent.commit(store, intent.apply(example()))
    assert revision == 1
    assert set(outcomes(plan).values()) == {Outcome.UNCHANGED} and not plan.changes
    assert (plan.puts, plan.deletes) == ({}, ())


def test_apply_leaves_alone_what_is_not_stated(store: MemoryStore) -> None:
    port = Port("blue", "new", "Blue_VMSubnet1", "h1")
    revision, plan = intent.commit(store, intent.apply(intent_of([port])))
    assert revision == 2
    assert outcomes(plan) == {port.id: Outcome.CREATED}
    assert stored(store) == intent_of([*example().by_id.values(), port])
    others = {key for key in plan.puts if not key.startswith(("grant/", "index/"))}
    assert others == {documents.key_of(port.id)}, "nothing else is written"
    policy = documents.policy_from(store.snapshot(documents.PREFIX).items)
    given_addresses = policy.by_id[port.id].addresses  # type: ignore[union-attr]
    assert [address.version for address in given_addresses] == [4, 6]


@settings(max_examples=25)
@given(intents())
def test_any_policy_is_what_every_reader_resolves(stated: Intent) -> None:
    store = MemoryStore()
    _, plan = intent.commit(store, intent.apply(stated))
    assert documents.policy_from(store.snapshot(documents.PREFIX).items) == plan.policy
    assert not intent.apply(stated)(store.snapshot(*intent.SCOPE)).changes


@settings(max_examples=25)
@given(intents(), st.randoms())
def test_any_order_of_documents_is_the_same_change(stated: Intent, random: Random) -> None:
    shuffled = list(stated.by_id.values())
    random.shuffle(shuffled)
    empty = MemoryStore().snapshot()
    plans = [intent.apply(intent_of(objects))(empty) for objects in (stated.by_id.values(), shuffled)]
    assert plans[0] == plans[1]


def test_what_is_wrong_with_the_whole_is_an_error_and_nothing_is_stored(
    store: MemoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(
        "kind: VMSubnet\nmetadata: {name: more, tenant: blue}\n"
        "spec: {vmNetwork: Blue_VMNet, prefixes: [10.1.1.0/25], vsid: 5001}\n---\n"
        "kind: Port\nmetadata: {name: p, tenant: blue}\nspec: {vmSubnet: nowhere, host: h1}\n"
    )
    stated, problems = manifest.read([path])
    with pytest.raises(ManifestError) as caught:
        intent.commit(store, intent.apply(stated, problems))
    lines = str(caught.value).splitlines()
    assert [line.removeprefix(str(path)).split(": ")[0] for line in lines] == [":3", ":3", ":7"]
    assert "overlaps 10.1.1.0/24 of VMSubnet blue/Blue_VMSubnet1" in lines[0]
    assert "5001 is the VSID of VMSubnet blue/Blue_VMSubnet1 already" in lines[1]
    assert "there is no VMSubnet blue/nowhere" in lines[2]
    assert store.snapshot().revision == 1


MORE = """\
kind: ProviderRoute
metadata: {name: mm}
spec: {site: rack1, prefix: 10.99.0.0/16, nextHop: 192.168.77.9}
---
kind: CustomerRoute
metadata: {name: mm, tenant: blue}
spec: {vmNetwork: Blue_VMNet, prefix: 10.98.0.0/16, nextHop: 10.1.1.10}
---
kind: Port
metadata: {name: mm, tenant: red}
spec: {vmSubnet: Red_VMSubnet1, host: h1, attach: {device: vnet7}, mac: "02:bb:00:00:00:77"}
---
kind: IPPool
metadata: {name: mm}
spec: {site: rack1, range: 192.168.77.20-192.168.77.29}
---
kind: LookupRecord
metadata: {name: mm, tenant: red}
spec: {virtualSubnetId: 6001, customerAddress: 10.1.1.99, macAddress: "02:bb:00:00:00:77", host: h1, port: mm}
"""
PORT = "kind: Port\nmetadata: {name: NAME, tenant: blue}\nspec: {vmSubnet: Blue_VMSubnet1, host: h1, %s}"
RED_PORT = "kind: Port\nmetadata: {name: NAME, tenant: red}\nspec: {vmSubnet: Red_VMSubnet1, host: h1, %s}"
NEW_SUBNET = "kind: VMSubnet\nmetadata: {name: NAME, tenant: blue}\nspec: {vmNetwork: Blue_VMNet, %s}"
HOST = "kind: Host\nmetadata: {name: NAME}\nspec: {site: rack1, %s}"
SITE = "kind: NetworkSite\nmetadata: {name: NAME}\nspec: {logicalNetwork: fabric, subnets: [%s]}"
CLASHES = {
    "address": (PORT % "addresses: [10.1.1.10]", "10.1.1.10 is an address of Port blue/blue-web already"),
    "MAC": (PORT % 'mac: "02:bb:00:00:00:10"', "02:bb:00:00:00:10 is the MAC of Port blue/blue-web already"),
    "device": (RED_PORT % "attach: {device: vnet7}", "vnet7 is the device of Port red/mm already"),
    "underlay": (RED_PORT % "attach: {device: u1}", "u1 is the underlay of Host h1 already"),
    "record": (
        RED_PORT % "addresses: [10.1.1.99]",
        "10.1.1.99 is the customer address of LookupRecord red/mm at store already",
    ),
    "VSID": (
        NEW_SUBNET % "prefixes: [10.5.0.0/24], vsid: 5001",
        "5001 is the VSID of VMSubnet blue/Blue_VMSubnet1 already",
    ),
    "prefix inside": (
        NEW_SUBNET % "prefixes: [10.1.1.0/25]",
        "10.1.1.0/25 overlaps 10.1.1.0/24 of VMSubnet blue/Blue_VMSubnet1 in VMNetwork blue/Blue_VMNet",
    ),
    "prefix around": (
        NEW_SUBNET % "prefixes: [10.1.0.0/23]",
        "10.1.0.0/23 overlaps 10.1.1.0/24 of VMSubnet blue/Blue_VMSubnet1 in VMNetwork blue/Blue_VMNet",
    ),
    "prefix that a route leads to": (
        NEW_SUBNET % "prefixes: [10.98.0.0/16]",
        "10.98.0.0/16 is where CustomerRoute blue/mm leads already",
    ),
    "customer route": (
        "kind: CustomerRoute\nmetadata: {name: NAME, tenant: blue}\n"
        "spec: {vmNetwork: Blue_VMNet, prefix: 10.98.0.0/16, nextHop: 10.1.1.11}",
        "CustomerRoute blue/mm leads to 10.98.0.0/16 with metric 0 already",
    ),
    "provider route": (
        "kind: ProviderRoute\nmetadata: {name: NAME}\n"
        "spec: {site: rack1, prefix: 10.99.0.0/16, nextHop: 192.168.77.8}",
        "ProviderRoute mm leads to 10.99.0.0/16 with metric 0 already",
    ),
    "provider address": (
        HOST % "providerAddresses: [192.168.77.101], underlay: {interface: u1}",
        "192.168.77.101 is a provider address of Host h1 at store already",
    ),
    "underlay MAC": (
        HOST % 'providerAddresses: [192.168.77.109], underlay: {interface: u1, mac: "02:00:00:00:77:01"}',
        "02:00:00:00:77:01 is the MAC of Host h1 already",
    ),
    "gateway MAC": (
        SITE % '{prefix: 10.7.0.0/24, gateway: 10.7.0.1, gatewayMac: "02:00:00:00:77:01"}',
        "02:00:00:00:77:01 is the MAC of Host h1 already",
    ),
    "site": (
        SITE % "{prefix: 192.168.0.0/16}",
        "192.168.0.0/16 overlaps 192.168.77.0/24 of NetworkSite rack1",
    ),
    "pool": (
        "kind: IPPool\nmetadata: {name: NAME}\nspec: {site: rack1, range: 192.168.77.10-192.168.77.24}",
        "overlaps the pool of IPPool mm",
    ),
}


@pytest.mark.parametrize("name", ["aaa", "zzz"])
@pytest.mark.parametrize("clash", CLASHES)
def test_what_clashes_with_the_store_is_told_of_the_file(
    store: MemoryStore, tmp_path: Path, name: str, clash: str
) -> None:
    """Whatever their names sort like."""
    path = tmp_path / "net.yaml"
    path.write_text(MORE)
    intent.commit(store, intent.apply(*manifest.read([path])))
    text, expected = CLASHES[clash]
    path.write_text(text.replace("NAME", name))
    with pytest.raises(ManifestError) as caught:
        intent.commit(store, intent.apply(*manifest.read([path])))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}:3: {text.split()[1]} ") and line.endswith(f": {expected}")


def test_a_port_name_that_another_tenant_has(store: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(RED_PORT.replace("NAME", "blue-web").replace("red}", "amber}") % "attach: {device: t9}")
    with pytest.raises(ManifestError) as caught:
        intent.commit(store, intent.apply(*manifest.read([path])))
    assert f"{path}:2: Port amber/blue-web: metadata.name: Port blue/blue-web at store has this name" in str(
        caught.value
    )


def test_a_full_host_is_told_of_the_file(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "MAX_LOCAL_PORTS", 5)
    path = tmp_path / "net.yaml"
    path.write_text(RED_PORT.replace("NAME", "aaa") % "attach: {device: t9}")
    with pytest.raises(ManifestError) as caught:
        intent.commit(store, intent.apply(*manifest.read([path])))
    assert str(caught.value) == f"{path}:3: Port red/aaa: spec.host: Host h1 has 5 ports already, the limit"


def test_a_problem_in_what_is_stored_already_says_so(store: MemoryStore) -> None:
    subnet = stored(store).by_id[SUBNET]
    assert isinstance(subnet, VMSubnet)
    moved = VMSubnet(
        subnet.tenant,
        subnet.name,
        subnet.vm_network,
        (ip_network("10.99.0.0/24"),),
        vsid=5001,
        translation=subnet.translation,
    )
    with pytest.raises(ManifestError) as caught:
        intent.commit(store, intent.apply(intent_of([moved])))
    assert "store: Port blue/blue-web: spec.addresses[0]: 10.1.1.10 is in no prefix of" in str(caught.value)


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        (
            "prefixes: [10.99.0.0/24]",
            "10.1.1.10 is in no prefix of VMSubnet blue/Blue_VMSubnet1 at net.yaml:2",
        ),
        (
            'prefixes: [10.1.1.0/24, "fd00:1:1::/64"], gateways: [10.1.1.10]',
            "10.1.1.10 is the gateway of 10.1.1.0/24 at net.yaml:2",
        ),
    ],
)
def test_a_problem_of_what_is_stored_names_the_file_that_makes_it(
    store: MemoryStore, tmp_path: Path, subnet: str, expected: str
) -> None:
    path = tmp_path / "net.yaml"
    text = NEW_SUBNET.replace("NAME", "Blue_VMSubnet1").replace(
        "%s", f"{subnet}, vsid: 5001, translation: rewrite"
    )
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        intent.commit(store, intent.apply(*manifest.read([path])))
    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert f"store: Port blue/blue-web: spec.addresses[0]: {expected}" in lines


def test_what_changes_nothing_makes_no_revision_when_a_hold_has_ended(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent.commit(store, intent.delete([WEB]))
    later = time.time() + 10 * HOLD_SECONDS
    monkeypatch.setattr(time, "time", lambda: later)
    rest = intent_of(item for item in example().by_id.values() if item.id != WEB)
    assert intent.commit(store, intent.apply(rest))[0] == 2
    intent.commit(store, intent.apply(intent_of([LogicalNetwork("other")])))
    held = [grant for grant in decode(store.snapshot("grant/").items).values() if grant.held_until]
    assert not held, "the next change that is planned in the whole takes them along"


# ---- prune and delete ----------------------------------------------------------------------------


def test_prune_takes_only_what_has_the_labels(store: MemoryStore) -> None:
    blue = (("team", "blue"),)
    labelled = [
        Port("blue", name, "Blue_VMSubnet1", "h1", labels=labels)
        for name, labels in (("one", blue), ("two", blue), ("other", (("team", "red"),)))
    ]
    intent.commit(store, intent.apply(intent_of(labelled)))
    _, plan = intent.commit(store, intent.apply(intent_of(labelled[:1]), prune=blue))
    assert outcomes(plan) == {
        labelled[0].id: Outcome.UNCHANGED,
        labelled[1].id: Outcome.DELETED,
    }
    assert stored(store) == intent_of([*example().by_id.values(), labelled[0], labelled[2]])


def test_delete_refuses_what_is_still_referred_to(store: MemoryStore) -> None:
    with pytest.raises(ReferencedError) as caught:
        intent.commit(store, intent.delete([SUBNET]))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{SUBNET} is still referred to by Port blue/blue-api: spec.vmSubnet"
    assert len(lines) == 3
    assert stored(store) == example()


def test_delete_all_at_once_needs_no_cascade(store: MemoryStore) -> None:
    blue = [identity for identity in example().by_id if identity.tenant == "blue"]
    revision, _ = intent.commit(store, intent.delete(blue))
    assert revision == 2
    assert not [identity for identity in stored(store).by_id if identity.tenant == "blue"]


def test_cascade_deletes_referrers_before_what_they_refer_to(store: MemoryStore) -> None:
    revision, plan = intent.commit(store, intent.delete([NETWORK], cascade=True))
    assert revision == 2, "in one transaction"
    kinds = [identity.kind for identity, _ in plan.outcomes]
    assert kinds == ["Port"] * 5 + ["VMSubnet"] * 2 + ["VMNetwork"]
    held = [key for key in store.snapshot("grant/").items if b'"Port blue/' in store.snapshot().items[key]]
    assert held, "their addresses are held down"


def test_delete_what_is_not_there(store: MemoryStore) -> None:
    with pytest.raises(NotFoundError, match="there is no Port blue/none"):
        intent.commit(store, intent.delete([ObjectId("Port", "blue", "none"), WEB]))
    assert WEB in stored(store).by_id


# ---- events --------------------------------------------------------------------------------------


def test_every_change_is_one_event_in_its_own_commit(store: MemoryStore) -> None:
    intent.commit(store, intent.delete([WEB]), "delete")
    intent.commit(store, intent.apply(intent_of([example().by_id[WEB]])))
    intent.commit(store, intent.apply(example()))
    found = events.read(store.snapshot(events.PREFIX).items)
    assert [(event.source, event.text) for event in found] == [
        ("apply", "17 created"),
        ("delete", "1 deleted"),
        ("apply", "1 created"),
    ]
    assert [event.is_about(str(WEB)) for event in found] == [True, True, True]
    assert found[1].objects == (str(WEB),) and found[0].counts == {"created": 17}
    assert store.snapshot().revision == 3


def test_the_newest_events_are_kept(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEPT", 3)
    for number in range(5):
        port = Port("blue", f"p{number}", "Blue_VMSubnet1", "h1")
        intent.commit(store, intent.apply(intent_of([port])))
    found = events.read(store.snapshot(events.PREFIX).items)
    assert [event.objects[0] for event in found] == [f"Port blue/p{number}" for number in (2, 3, 4)]


def test_the_last_change_is_known_whatever_hosts_tell(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied again, nothing changes: hosts are waited for until they have the change that was the last."""
    monkeypatch.setattr(events, "KEPT", 3)
    for number in range(5):
        key, value = events.item(events.Event(time.time(), "host h1", f"applied {number}", {}))
        store.commit({key: value}, events.outdated(store.snapshot(events.PREFIX).items))
    assert intent.commit(store, intent.apply(example()))[0] == 1


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("indexed", [True, False])
def test_find(store: MemoryStore, indexed: bool) -> None:
    if not indexed:
        store.commit({}, [index.READY])
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
        store.commit({}, [index.READY])
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

    def snapshot(
        self, *prefixes: str, keys: Collection[str] | None = None, at: int | None = None
    ) -> Snapshot:
        taken = super().snapshot(*prefixes, keys=keys, at=at)
        if self.times and prefixes == (events.PREFIX,):
            times, self.times = self.times, 0
            port = Port("blue", f"other{times}", "Blue_VMSubnet1", "h1")
            intent.commit(self, intent.apply(intent_of([port])))
            self.times = times - 1
        return taken


def test_who_was_slower_plans_again() -> None:
    store = Racing(0)
    intent.commit(store, intent.apply(example()))
    store.times = 3
    mine = Port("blue", "mine", "Blue_VMSubnet1", "h1")
    revision, _ = intent.commit(store, intent.apply(intent_of([mine])))
    assert revision == 5
    names = {item.name for item in stored(store).ports}
    assert names >= {"mine", "other1", "other2", "other3"}


def test_who_is_always_slower_gives_up() -> None:
    store = Racing(0)
    intent.commit(store, intent.apply(example()))
    store.times = 1000
    with pytest.raises(ConflictError):
        intent.commit(store, intent.apply(intent_of([Port("blue", "mine", "Blue_VMSubnet1", "h1")])))


def test_many_writers_at_once_get_addresses_of_their_own(store: MemoryStore) -> None:
    def add(name: str) -> None:
        intent.commit(store, intent.apply(intent_of([Port("blue", name, "Blue_VMSubnet1", "h1")])))

    threads = [threading.Thread(target=add, args=(f"new{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ports = documents.policy_from(store.snapshot(documents.PREFIX).items).ports
    blue = [address for port in ports if port.tenant == "blue" for address in port.addresses]
    assert len(set(blue)) == len(blue) == 2 * 11


# ---- hosts ---------------------------------------------------------------------------------------


def say(store: MemoryStore, host: str, revision: int, state: str = "applied", *problems: str) -> None:
    document = {"revision": revision, "state": state, "problems": problems}
    store.commit({f"host/{host}": json.dumps(document).encode()})


def wait(store: MemoryStore, revision: int, seconds: float = 20) -> None:
    policy = documents.policy_from(store.snapshot(documents.PREFIX).items)
    intent.wait_applied(store, policy, revision, seconds, lambda _: None)


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
    policy = documents.policy_from(store.snapshot(documents.PREFIX).items)
    say(store, "h2", 1)
    for problems, blamed in (
        [["web: none", "app: none"], ["app", "web"]],
        [["u1: is down", "web: none"], ["web"]],
    ):
        document = {"revision": 1, "state": "failed", "problems": problems, "ports": blamed}
        store.commit({"host/h1": json.dumps(document).encode()})
        if len(blamed) == len(problems) and ports is not None and not {"web", "app"} & {*ports}:
            intent.wait_applied(store, policy, 1, 0, lambda _: None, ports)
        else:
            with pytest.raises(NotAppliedError, match=f"host h1: {problems[0]}"):
                intent.wait_applied(store, policy, 1, 0, lambda _: None, ports)


def test_addresses_that_are_stated_elsewhere_by_a_name(store: MemoryStore) -> None:
    """A port renamed with its address stated: the old one gone and the new one there in one change."""
    old = stored(store).by_id[WEB]
    assert isinstance(old, Port)
    gone = [item for item in stored(store).by_id.values() if item.id != WEB]
    intent.commit(store, intent.delete([WEB]))
    renamed = Port("blue", "blue-front", old.vm_subnet, old.host, (ip_address("10.1.1.10"),))
    intent.commit(store, intent.apply(intent_of([renamed])))
    assert stored(store) == intent_of([*gone, renamed])
