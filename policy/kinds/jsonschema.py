"""The JSON Schema of documents, for editors. What objects say of each other it can't check."""

from typing import Any

from policy.kinds.declare import Field, Kind
from policy.kinds.manifest import ADDED, ADDED_METADATA, API_VERSION
from policy.kinds.model import KINDS
from policy.kinds.scalars import NAME, REVISION, Scalar

Plain = Any


def json_schema(name: str | None = None) -> dict[str, Plain]:
    """Of one kind's documents, or of all."""
    if name is not None:
        return {"$schema": _DIALECT, **_document_schema(KINDS[name])}
    return {"$schema": _DIALECT, "oneOf": [_document_schema(kind) for kind in KINDS.values()]}


_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _document_schema(kind: Kind) -> dict[str, Plain]:
    whose = ["name", *(["tenant"] if kind.of_tenant else [])]
    may = ["name"] if kind.of_tenant is False else ["name", "tenant"]
    labels = {"type": "object", "additionalProperties": {"type": "string"}}
    metadata: dict[str, Plain] = {**{part: dict(NAME.schema) for part in may}, "labels": labels}
    metadata["revision"] = {
        **REVISION.schema,
        "description": "Of the object that was edited; apply refuses it where the object has changed since.",
    }
    added = {"description": "Added by `isolane get`; means nothing here."}
    metadata |= dict.fromkeys(ADDED_METADATA, added)
    properties = {
        "apiVersion": {"const": API_VERSION},
        "kind": {"const": kind.name},
        "metadata": _object_schema(metadata, whose),
        "spec": _fields_schema(kind.fields),
        **dict.fromkeys(ADDED, added),
    }
    required = ["kind", "metadata", *(["spec"] if any(field.required for field in kind.fields) else [])]
    return {"description": kind.meaning, **_object_schema(properties, required)}


def _fields_schema(fields: tuple[Field, ...]) -> dict[str, Plain]:
    required = [field.name for field in fields if field.required and not field.condition]
    return _object_schema({field.name: _field_schema(field) for field in fields}, required)


def _field_schema(field: Field) -> dict[str, Plain]:
    one = dict(field.type.schema) if isinstance(field.type, Scalar) else _fields_schema(field.type.fields)
    whole = (
        {"type": "array", "items": one, **({"minItems": 1} if field.required else {})} if field.many else one
    )
    return {"description": field.meaning, **whole}


def _object_schema(properties: dict[str, Plain], required: list[str]) -> dict[str, Plain]:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }
