"""Changes of intent: planned whole, checked whole, committed with their grants or not at all."""

import time
from ipaddress import ip_network
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.errors import (
    ManifestError,
    NotFoundError,
    ObjectId,
    ReferencedError,
    SeveralError,
)
from policy.ipam.ledger import decode
from policy.ipam.quarantine import HOLD_SECONDS
from policy.kinds import documents, keys, manifest
from policy.kinds.model import Intent, LogicalNetwork, Port, VMSubnet, intent_of
from policy.rules import tenant
from policy.service import changes, events
from policy.service.lookup import find, names
from policy.service.planning import Outcome
from policy.store.memory import MemoryStore
from policy.store.reading import Reading, snapshot_of
from tests.unit.intents import intents
from tests.unit.service.example import NETWORK, SUBNET, WEB, example, outcomes, stored

# ---- apply ---------------------------------------------------------------------------------------


def test_apply_creates_then_changes_nothing(store: MemoryStore) -> None:
    assert stored(store) == example()
    revision, plan = changes.commit(store, changes.apply(example()))
    assert revision == 1
    assert set(outcomes(plan).values()) == {Outcome.UNCHANGED} and not plan.changes
    assert (plan.puts, plan.deletes) == ({}, ())


def test_apply_leaves_alone_what_is_not_stated(store: MemoryStore) -> None:
    port = Port("blue", "new", "Blue_VMSubnet1", "h1")
    revision, plan = changes.commit(store, changes.apply(intent_of([port])))
    assert revision == 2
    assert outcomes(plan) == {port.id: Outcome.CREATED}
    assert stored(store) == intent_of([*example().by_id.values(), port])
    others = {key for key in plan.puts if not key.startswith(("grant/", "index/"))}
    assert others == {keys.object_key(port.id)}, "nothing else is written"
    policy = documents.policy_from(snapshot_of(store, keys.INTENT).items)
    given_addresses = policy.by_id[port.id].addresses  # type: ignore[union-attr]
    assert [address.version for address in given_addresses] == [4, 6]


@settings(max_examples=25)
@given(intents())
def test_any_policy_is_what_every_reader_resolves(stated: Intent) -> None:
    store = MemoryStore()
    _, plan = changes.commit(store, changes.apply(stated))
    assert documents.policy_from(snapshot_of(store, keys.INTENT).items) == plan.policy
    assert not changes.plan(store, changes.apply(stated)).changes


@settings(max_examples=25)
@given(intents(), st.randoms())
def test_any_order_of_documents_is_the_same_change(stated: Intent, random: Random) -> None:
    shuffled = list(stated.by_id.values())
    random.shuffle(shuffled)
    empty = MemoryStore()
    with patch.object(time, "time", lambda: 1000.0):
        one, other = (changes.apply(intent_of(objects)) for objects in (stated.by_id.values(), shuffled))
        plans = [changes.plan(empty, one), changes.plan(empty, other)]
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
    stated, problems, _ = manifest.read([path])
    with pytest.raises(ManifestError) as caught:
        changes.commit(store, changes.apply(stated, problems))
    lines = str(caught.value).splitlines()
    assert [line.removeprefix(str(path)).split(": ")[0] for line in lines] == [":3", ":3", ":7"]
    assert "overlaps 10.1.1.0/24 of VMSubnet blue/Blue_VMSubnet1" in lines[0]
    assert "5001 is the VSID of VMSubnet blue/Blue_VMSubnet1 at store already" in lines[1]
    assert "there is no VMSubnet blue/nowhere" in lines[2]
    assert snapshot_of(store).revision == 1


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
    "address": (
        PORT % "addresses: [10.1.1.10]",
        "10.1.1.10 is an address of Port blue/blue-web at store already",
    ),
    "MAC": (
        PORT % 'mac: "02:bb:00:00:00:10"',
        "02:bb:00:00:00:10 is the MAC of Port blue/blue-web at store already",
    ),
    "device": (RED_PORT % "attach: {device: vnet7}", "vnet7 is the device of Port red/mm at store already"),
    "underlay": (RED_PORT % "attach: {device: u1}", "u1 is the underlay of Host h1 at store already"),
    "record": (
        RED_PORT % "addresses: [10.1.1.99]",
        "10.1.1.99 is the customer address of LookupRecord red/mm at store already",
    ),
    "VSID": (
        NEW_SUBNET % "prefixes: [10.5.0.0/24], vsid: 5001",
        "5001 is the VSID of VMSubnet blue/Blue_VMSubnet1 at store already",
    ),
    "prefix inside": (
        NEW_SUBNET % "prefixes: [10.1.1.0/25]",
        "10.1.1.0/25 overlaps 10.1.1.0/24 of VMSubnet blue/Blue_VMSubnet1 at store in VMNetwork"
        " blue/Blue_VMNet",
    ),
    "prefix around": (
        NEW_SUBNET % "prefixes: [10.1.0.0/23]",
        "10.1.0.0/23 overlaps 10.1.1.0/24 of VMSubnet blue/Blue_VMSubnet1 at store in VMNetwork"
        " blue/Blue_VMNet",
    ),
    "prefix that a route leads to": (
        NEW_SUBNET % "prefixes: [10.98.0.0/16]",
        "10.98.0.0/16 is where CustomerRoute blue/mm leads already",
    ),
    "customer route": (
        "kind: CustomerRoute\nmetadata: {name: NAME, tenant: blue}\n"
        "spec: {vmNetwork: Blue_VMNet, prefix: 10.98.0.0/16, nextHop: 10.1.1.11}",
        "CustomerRoute blue/mm at store leads to 10.98.0.0/16 with metric 0 already",
    ),
    "provider route": (
        "kind: ProviderRoute\nmetadata: {name: NAME}\n"
        "spec: {site: rack1, prefix: 10.99.0.0/16, nextHop: 192.168.77.8}",
        "ProviderRoute mm at store leads to 10.99.0.0/16 with metric 0 already",
    ),
    "provider address": (
        HOST % "providerAddresses: [192.168.77.101], underlay: {interface: u1}",
        "192.168.77.101 is a provider address of Host h1 at store already",
    ),
    "underlay MAC": (
        HOST % 'providerAddresses: [192.168.77.109], underlay: {interface: u1, mac: "02:00:00:00:77:01"}',
        "02:00:00:00:77:01 is the MAC of Host h1 at store already",
    ),
    "gateway MAC": (
        SITE % '{prefix: 10.7.0.0/24, gateway: 10.7.0.1, gatewayMac: "02:00:00:00:77:01"}',
        "02:00:00:00:77:01 is the MAC of Host h1 at store already",
    ),
    "site": (
        SITE % "{prefix: 192.168.0.0/16}",
        "192.168.0.0/16 overlaps 192.168.77.0/24 of NetworkSite rack1 at store",
    ),
    "pool": (
        "kind: IPPool\nmetadata: {name: NAME}\nspec: {site: rack1, range: 192.168.77.10-192.168.77.24}",
        "overlaps the pool of IPPool mm at store",
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
    changes.commit(store, changes.apply(*manifest.read([path])))
    text, expected = CLASHES[clash]
    path.write_text(text.replace("NAME", name))
    with pytest.raises(ManifestError) as caught:
        changes.commit(store, changes.apply(*manifest.read([path])))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}:3: {text.split()[1]} ") and line.endswith(f": {expected}")


def test_a_port_name_that_another_tenant_has(store: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(RED_PORT.replace("NAME", "blue-web") % "attach: {device: t9}")
    assert find(Reading(store), "Port", "blue-web") == ObjectId("Port", "blue", "blue-web")
    changes.commit(store, changes.apply(*manifest.read([path])))
    with pytest.raises(SeveralError, match="Port blue-web: blue/blue-web, red/blue-web"):
        find(Reading(store), "Port", "blue-web")
    assert names(Reading(store), "Port", "blue-w") == ["blue-web"]
    red = find(Reading(store), "Port", "red/blue-web")
    changes.commit(store, changes.delete([red]))
    assert find(Reading(store), "Port", "blue-web") == ObjectId("Port", "blue", "blue-web")


def test_a_full_host_is_told_of_the_file(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant, "MAX_LOCAL_PORTS", 5)
    path = tmp_path / "net.yaml"
    path.write_text(RED_PORT.replace("NAME", "aaa") % "attach: {device: t9}")
    with pytest.raises(ManifestError) as caught:
        changes.commit(store, changes.apply(*manifest.read([path])))
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
        changes.commit(store, changes.apply(intent_of([moved])))
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
        changes.commit(store, changes.apply(*manifest.read([path])))
    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert f"store: Port blue/blue-web: spec.addresses[0]: {expected}" in lines


def test_what_changes_nothing_makes_no_revision_when_a_hold_has_ended(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes.commit(store, changes.delete([WEB]))
    later = time.time() + 10 * HOLD_SECONDS
    monkeypatch.setattr(time, "time", lambda: later)
    rest = intent_of(item for item in example().by_id.values() if item.id != WEB)
    assert changes.commit(store, changes.apply(rest))[0] == 2
    changes.commit(store, changes.apply(intent_of([LogicalNetwork("other")])))
    held = [grant for grant in decode(snapshot_of(store, "grant/").items).values() if grant.held_until]
    assert not held, "the next change that is planned in the whole takes them along"


# ---- prune and delete ----------------------------------------------------------------------------


def test_prune_takes_only_what_has_the_labels(store: MemoryStore) -> None:
    blue = (("team", "blue"),)
    labelled = [
        Port("blue", name, "Blue_VMSubnet1", "h1", labels=labels)
        for name, labels in (("one", blue), ("two", blue), ("other", (("team", "red"),)))
    ]
    changes.commit(store, changes.apply(intent_of(labelled)))
    _, plan = changes.commit(store, changes.apply(intent_of(labelled[:1]), prune=blue))
    assert outcomes(plan) == {
        labelled[0].id: Outcome.UNCHANGED,
        labelled[1].id: Outcome.DELETED,
    }
    assert stored(store) == intent_of([*example().by_id.values(), labelled[0], labelled[2]])


def test_delete_refuses_what_is_still_referred_to(store: MemoryStore) -> None:
    with pytest.raises(ReferencedError) as caught:
        changes.commit(store, changes.delete([SUBNET]))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{SUBNET} is still referred to by Port blue/blue-api: spec.vmSubnet"
    assert len(lines) == 3
    assert stored(store) == example()


def test_delete_all_at_once_needs_no_cascade(store: MemoryStore) -> None:
    blue = [identity for identity in example().by_id if identity.tenant == "blue"]
    revision, _ = changes.commit(store, changes.delete(blue))
    assert revision == 2
    assert not [identity for identity in stored(store).by_id if identity.tenant == "blue"]


def test_cascade_deletes_referrers_before_what_they_refer_to(store: MemoryStore) -> None:
    revision, plan = changes.commit(store, changes.delete([NETWORK], cascade=True))
    assert revision == 2, "in one transaction"
    kinds = [identity.kind for identity, _ in plan.outcomes]
    assert kinds == ["Port"] * 5 + ["VMSubnet"] * 2 + ["VMNetwork"]
    held = [
        key for key in snapshot_of(store, "grant/").items if b'"Port blue/' in snapshot_of(store).items[key]
    ]
    assert held, "their addresses are held down"


def test_delete_what_is_not_there(store: MemoryStore) -> None:
    with pytest.raises(NotFoundError, match="there is no Port blue/none"):
        changes.commit(store, changes.delete([ObjectId("Port", "blue", "none"), WEB]))
    assert WEB in stored(store).by_id


# ---- events --------------------------------------------------------------------------------------


def test_every_change_is_one_event_in_its_own_commit(store: MemoryStore) -> None:
    changes.commit(store, changes.delete([WEB]), "delete")
    changes.commit(store, changes.apply(intent_of([example().by_id[WEB]])))
    changes.commit(store, changes.apply(example()))
    found = events.read(snapshot_of(store, keys.EVENTS).items)
    assert [(event.source, event.text) for event in found] == [
        ("apply", "17 created"),
        ("delete", "1 deleted"),
        ("apply", "1 created"),
    ]
    assert [event.is_about(str(WEB)) for event in found] == [True, True, True]
    assert found[1].objects == (str(WEB),) and found[0].counts == {"created": 17}
    assert snapshot_of(store).revision == 3


def test_events_are_kept_for_a_week() -> None:
    now = 0.0
    store = MemoryStore(clock=lambda: now)
    for number in range(3):
        now = number * events.KEPT_SECONDS / 2
        port = Port("blue", f"p{number}", "Blue_VMSubnet1", "h1")
        changes.commit(store, changes.apply(intent_of([*example().by_id.values(), port])))
    now = events.KEPT_SECONDS * 1.2
    found = events.read(snapshot_of(store, keys.EVENTS).items)
    assert [event.text for event in found] == ["1 created"] * 2
    assert stored(store).ports, "nothing else goes"


def test_the_last_change_is_known_whatever_hosts_tell(store: MemoryStore) -> None:
    """Applied again, nothing changes: hosts are waited for until they have the change that was the last."""
    for number in range(5):
        key, value = events.item(events.Event(time.time(), "host h1", f"applied {number}", {}))
        store.commit({key: value}, seconds={key: events.KEPT_SECONDS})
    assert changes.commit(store, changes.apply(example()))[0] == 1
