"""What follows from the declarations of kinds: explanations, JSON Schema, references."""

import pytest
import yaml

from policy.errors import ObjectId, UnknownFieldError
from policy.kinds import codec
from policy.kinds.declare import Field, Section
from policy.kinds.explain import explanation, find
from policy.kinds.jsonschema import json_schema
from policy.kinds.model import KINDS, Host, IPPool, LookupRecord, Port, Tenant
from tests.unit.manifests import EXAMPLE


def every_field() -> list[tuple[str, Field]]:
    found: list[tuple[str, Field]] = []

    def walk(path: str, fields: tuple[Field, ...]) -> None:
        for field in fields:
            found.append((f"{path}.{field.name}", field))
            if isinstance(field.type, Section):
                walk(f"{path}.{field.name}", field.type.fields)

    for kind in KINDS.values():
        walk(kind.name, kind.fields)
    return found


@pytest.mark.parametrize(
    ("path", "field"), every_field(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_every_field_is_explained(path: str, field: Field) -> None:
    lines = list(explanation(path))
    assert field.meaning in lines[0] and field.meaning.endswith(".")
    assert field.required or field.left_out
    assert find(path.lower().split(".")[0] + path[path.index(".") :])[1] is field


@pytest.mark.parametrize(
    ("path", "field"), every_field(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_every_example_reads(path: str, field: Field) -> None:
    """As a value of its field, and it is not what is taken anyway."""
    if not field.example:
        assert isinstance(field.type, Section)
        return
    plain = yaml.safe_load(field.example)
    value = codec._parse_field(field, plain, path)
    assert (
        value == field.default or codec._write_one(field.type, value[0] if field.many else value) is not None
    )


def test_explain_what_is_not_there() -> None:
    with pytest.raises(UnknownFieldError, match="'Prot' is not a kind; did you mean Port"):
        list(explanation("Prot"))
    with pytest.raises(UnknownFieldError, match="'Deployment' is not a kind; kinds: Tenant, LogicalNetwork"):
        list(explanation("Deployment"))
    with pytest.raises(UnknownFieldError, match=r"Port\.adress: no field 'adress'; did you mean addresses"):
        list(explanation("Port.adress"))
    with pytest.raises(UnknownFieldError, match="no field 'x'; fields there: vmSubnet"):
        list(explanation("Port.x"))
    with pytest.raises(UnknownFieldError, match="fields there: none"):
        list(explanation("Port.host.name"))


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
        described = json_schema(document["kind"])
        assert check(document, described) == []
        assert check({**document, "x": 1}, described) == ["x is unknown"]
        if document.get("spec"):
            wrong = {**document, "spec": {**document["spec"], "x": 1}}
            assert check(wrong, described) == ["x is unknown"]
    assert len(json_schema()["oneOf"]) == len(KINDS)


def test_references() -> None:
    """Of the same tenant where what is named has one; empty names are those that are left out."""
    found = {
        item: list(codec.references(item))
        for item in (
            Tenant("blue"),
            Host("h1", "rack1"),
            Port("blue", "web", "sub", "h1"),
            IPPool("p", tenant="blue", vm_subnet="sub"),
            LookupRecord("blue", "r", host="h1", port="web"),
        )
    }
    assert list(found.values()) == [
        [],
        [("spec.site", ObjectId("NetworkSite", "", "rack1"))],
        [("spec.vmSubnet", ObjectId("VMSubnet", "blue", "sub")), ("spec.host", ObjectId("Host", "", "h1"))],
        [
            ("spec.site", ObjectId("NetworkSite", "", "")),
            ("spec.vmSubnet", ObjectId("VMSubnet", "blue", "sub")),
        ],
        [("spec.host", ObjectId("Host", "", "h1")), ("spec.port", ObjectId("Port", "blue", "web"))],
    ]


def test_what_may_refer_to_a_kind() -> None:
    found = {
        kind: {f"{each.name}.{field.name}" for each, field in codec.referring(kind)}
        for kind in ("Host", "VMSubnet", "Port")
    }
    assert found == {
        "Host": {"Port.host", "LookupRecord.host", "ProviderAddress.host"},
        "VMSubnet": {"Port.vmSubnet", "IPPool.vmSubnet"},
        "Port": {"LookupRecord.port"},
    }


@pytest.mark.parametrize(
    ("path", "field"), every_field(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_names_of_objects_are_references(path: str, field: Field) -> None:
    assert not field.refers_to or field.refers_to in KINDS
    assert bool(field.refers_to) == (field.type_name == "name" and path != "Port.attach.netns")
