"""Objects as documents and back: through the store's form, and through a manifest."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import documents, manifest, schema
from policy.errors import ManifestError, ObjectId
from policy.model import Attach, AttachKind, Intent, Object, Port, intent_of
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
    assert {documents.id_of(key) for key in items} == {item.id for item in stated}
    assert documents.items_of(documents.intent_from(items).by_id.values()) == items


@settings(max_examples=30)
@given(objects())
def test_a_document_reads_back_as_its_object(stated: list[Object]) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory, "all.yaml")
        path.write_text(yaml.safe_dump_all([documents.encode(item) for item in stated]))
        intent, problems = manifest.read([path])
    assert (intent, problems) == (intent_of(stated), [])


def test_what_says_the_same_when_left_out_is_left_out() -> None:
    intent, _ = manifest.read([EXAMPLE])
    network = documents.encode(intent.by_id[ObjectId("LogicalNetwork", "", "fabric")])
    assert network == {
        "apiVersion": "isolane/v1",
        "kind": "LogicalNetwork",
        "metadata": {"name": "fabric"},
    }
    host = documents.encode(intent.by_id[ObjectId("Host", "", "h1")])
    assert list(host["spec"]) == ["site", "providerAddresses", "underlay"]


def test_keys() -> None:
    for identity, key in (
        (ObjectId("Host", "", "h1"), "intent/Host//h1"),
        (ObjectId("Port", "blue", "web"), "intent/Port/blue/web"),
    ):
        assert documents.key_of(identity) == key
        assert documents.id_of(key) == identity


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"{", "Expecting property name"),
        (b"[]", "has no attribute 'get'"),
        (
            b'{"spec": {"host": "h1", "addresses": ["x"]}}',
            "spec.addresses[0]: 'x' is not an IPv4 or IPv6 address",
        ),
        (b'{"spec": {"hosts": "h1"}}', "spec.hosts: unknown field"),
    ],
)
def test_what_the_store_should_not_hold(value: bytes, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        documents.load("intent/Port/blue/web", value)
    assert str(caught.value).startswith("store: Port blue/web: not what isolane stores: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "key", ["intent/Port/blue", "intent/Port/blue/web/2", "intent/Ports/blue/web", "intent/"]
)
def test_a_key_that_the_store_should_not_hold(key: str) -> None:
    with pytest.raises(ManifestError, match="not what isolane stores"):
        documents.load(key, b'{"spec": {}}')


@pytest.mark.parametrize("attach", ["{tap: vm0}", "{tap: lo, netns: vm}", "{device: all}"])
def test_what_is_refused_by_now_is_read_from_the_store(attach: str) -> None:
    """It is a problem of that port then, and not of all intent."""
    spec = {"vmSubnet": "sub", "host": "h1", "attach": yaml.safe_load(attach)}
    port = documents.load("intent/Port/blue/web", json.dumps({"spec": spec}).encode())
    assert json.loads(documents.dump(port)) == {"spec": spec}


# ---- the schema itself ---------------------------------------------------------------------------


def every_field() -> list[tuple[str, schema.Field]]:
    found: list[tuple[str, schema.Field]] = []

    def walk(path: str, fields: tuple[schema.Field, ...]) -> None:
        for field in fields:
            found.append((f"{path}.{field.name}", field))
            if isinstance(field.type, schema.Section):
                walk(f"{path}.{field.name}", field.type.fields)

    for kind in schema.KINDS.values():
        walk(kind.name, kind.fields)
    return found


@pytest.mark.parametrize(
    ("path", "field"), every_field(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_every_field_is_explained(path: str, field: schema.Field) -> None:
    lines = list(schema.explain(path))
    assert field.meaning in lines[0] and field.meaning.endswith(".")
    assert field.required or field.when_left_out
    assert schema.find(path.lower().split(".")[0] + path[path.index(".") :])[1] is field


@pytest.mark.parametrize(
    ("path", "field"), every_field(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_every_example_reads(path: str, field: schema.Field) -> None:
    """As a value of its field, and it is not what is taken anyway."""
    if not field.example:
        assert isinstance(field.type, schema.Section)
        return
    plain = yaml.safe_load(field.example)
    value = schema._parse_field(field, plain, path)
    assert (
        value == field.default or schema._write_one(field.type, value[0] if field.many else value) is not None
    )


def test_explain_what_is_not_there() -> None:
    with pytest.raises(schema.UnknownFieldError, match="'Prot' is not a kind; kinds: Tenant, LogicalNetwork"):
        list(schema.explain("Prot"))
    with pytest.raises(
        schema.UnknownFieldError, match=r"Port\.adress: no field 'adress'; fields there: vmSubnet"
    ):
        list(schema.explain("Port.adress"))
    with pytest.raises(schema.UnknownFieldError, match="fields there: none"):
        list(schema.explain("Port.host.name"))


def check(value: object, described: dict[str, object]) -> list[str]:
    """The keywords of JSON Schema that ours is made of; what is wrong with the value."""
    if "const" in described:
        return [] if value == described["const"] else [f"{value} is not {described['const']}"]
    if "enum" in described and value not in described["enum"]:  # type: ignore[operator]
        return [f"{value} is none of {described['enum']}"]
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if not isinstance(value, types[described["type"]]):  # type: ignore[index]
        return [f"{value} is no {described['type']}"]
    if isinstance(value, list):
        return [each for item in value for each in check(item, described["items"])]  # type: ignore[arg-type]
    if not isinstance(value, dict):
        return []
    known = described.get("properties", {})
    found = [f"{key} is missing" for key in described.get("required", []) if key not in value]  # type: ignore[attr-defined]
    for key, each in value.items():
        further = described["additionalProperties"]
        if key in known:  # type: ignore[operator]
            found += check(each, known[key])  # type: ignore[index]
        elif further is False:
            found.append(f"{key} is unknown")
        else:
            found += check(each, further)  # type: ignore[arg-type]
    return found


def test_the_json_schema_takes_the_example_and_nothing_unknown() -> None:
    for document in yaml.safe_load_all(EXAMPLE.read_text()):
        described = schema.json_schema(document["kind"])
        assert check(document, described) == []
        assert check({**document, "x": 1}, described) == ["x is unknown"]
        if document.get("spec"):
            wrong = {**document, "spec": {**document["spec"], "x": 1}}
            assert check(wrong, described) == ["x is unknown"]
    assert len(schema.json_schema()["oneOf"]) == len(schema.KINDS)


def test_the_intent_of_the_example_survives_the_store() -> None:
    intent, _ = manifest.read([EXAMPLE])
    stored: Intent = documents.intent_from(documents.items_of(intent.by_id.values()))
    assert stored == intent
