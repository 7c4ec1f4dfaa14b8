"""Objects as documents and back: through the store's form, and through a manifest."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.errors import ObjectId, UnreadableError
from policy.kinds import codec, documents, keys, manifest
from policy.kinds.model import Attach, AttachKind, Driver, Intent, Object, Port, intent_of
from tests.unit.intents import intents
from tests.unit.manifests import EXAMPLE

label_keys = st.sampled_from(["app", "example.com/tier", "x_1"])
labels = st.dictionaries(label_keys, st.sampled_from(["", "web", "1.2-3"])).map(
    lambda each: tuple(sorted(each.items()))
)
attachments = st.sampled_from(
    [
        None,
        Attach(AttachKind.TAP, "eth0", "vm"),
        Attach(AttachKind.VETH, "eth0", "vm"),
        Attach(AttachKind.DEVICE, "vnet7"),
        Attach(AttachKind.VM, "vm0"),
        Attach(AttachKind.VM, "vm0", user="libvirt-qemu"),
        Attach(AttachKind.VM, "vm0", user="64055", queues=4),
        Attach(AttachKind.VM, "vm0", driver=Driver.AFXDP, queues=1),
    ]
)


@st.composite
def objects(draw: st.DrawFn) -> list[Object]:
    found: list[Object] = []
    for item in draw(intents()).by_id.values():
        changed = replace(item, attach=draw(attachments)) if isinstance(item, Port) else item
        found.append(replace(changed, labels=draw(labels)))
    return found


@given(objects())
def test_the_store_gives_back_what_it_was_given(stated: list[Object]) -> None:
    items = documents.items_of(stated)
    assert documents.intent_from(items) == intent_of(stated)
    assert {keys.object_id(key) for key in items} == {item.id for item in stated}
    assert documents.items_of(documents.intent_from(items).by_id.values()) == items


@settings(max_examples=30)
@given(objects())
def test_a_document_reads_back_as_its_object(stated: list[Object]) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory, "all.yaml")
        path.write_text(yaml.safe_dump_all([documents.encode(item) for item in stated]))
        intent, problems, _ = manifest.read([path])
    assert (intent, problems) == (intent_of(stated), [])


@given(objects())
def test_who_refers_to_an_object_is_seen_at_a_quick_look(stated: list[Object]) -> None:
    for item in stated:
        value = documents.dump(item)
        assert all(
            documents.may_name(value, target.name) for _, target in codec.references(item) if target.name
        )
        assert not documents.may_name(value, "nobody")


def test_what_says_the_same_when_left_out_is_left_out() -> None:
    intent = manifest.read([EXAMPLE]).intent
    network = documents.encode(intent.by_id[ObjectId("LogicalNetwork", "", "fabric")])
    assert network == {
        "apiVersion": "isolane/v1",
        "kind": "LogicalNetwork",
        "metadata": {"name": "fabric"},
    }
    host = documents.encode(intent.by_id[ObjectId("Host", "", "h1")])
    assert list(host["spec"]) == ["site", "providerAddresses", "underlay"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"{", "Expecting property name"),
        (b"[]", "has no attribute 'get'"),
        (
            b'{"spec": {"vmSubnet": "s", "host": "h1", "addresses": ["x"]}}',
            "spec.addresses[0]: 'x' is not an IPv4 or IPv6 address",
        ),
        (b'{"spec": {"host": "h1"}}', "spec.vmSubnet: missing"),
        (b'{"spec": {}, "version": 2}', "it takes an isolane that knows storage version 2, this one knows 1"),
        (b'{"spec": {}, "version": "1"}', "'1' is no storage version"),
        (b'{"spec": {}, "version": 0}', "0 is no storage version"),
        (b'{"spec": ' + b"[" * 100_000, "recursion"),
    ],
)
def test_what_the_store_should_not_hold(value: bytes, words: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        documents.load("intent/Port/blue/web", value)
    assert str(caught.value).startswith("store: Port blue/web: not what isolane stores: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "key", ["intent/Port/blue", "intent/Port/blue/web/2", "intent/Ports/blue/web", "intent/"]
)
def test_a_key_that_the_store_should_not_hold(key: str) -> None:
    with pytest.raises(UnreadableError, match="not what isolane stores"):
        documents.load(key, b'{"spec": {}}')


@pytest.mark.parametrize("attach", ["{tap: vm0}", "{tap: lo, netns: vm}", "{device: all}"])
def test_what_is_refused_by_now_is_read_from_the_store(attach: str) -> None:
    """It is a problem of that port then, and not of all intent."""
    spec = {"vmSubnet": "sub", "host": "h1", "attach": yaml.safe_load(attach)}
    port = documents.load("intent/Port/blue/web", json.dumps({"spec": spec}).encode())
    assert json.loads(documents.dump(port)) == {"spec": spec}


def test_the_intent_of_the_example_survives_the_store() -> None:
    intent = manifest.read([EXAMPLE]).intent
    stored: Intent = documents.intent_from(documents.items_of(intent.by_id.values()))
    assert stored == intent
