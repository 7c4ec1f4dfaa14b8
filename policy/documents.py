"""Objects as documents: what the store keeps of them and what `get -o yaml` prints. Pure.

A document says what was stated, not what was allocated, and leaves out what says the same when left out.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from policy import schema
from policy.errors import Location, ManifestError, ObjectId, Problem
from policy.model import Intent, Object, intent_of
from policy.schema import API_VERSION, KINDS

PREFIX = "intent/"
"""Of the keys of objects in a store: intent/KIND/TENANT/NAME, the tenant empty for objects of the fabric."""

STORE = "store"
"""Stands for the file in the location of what is stored."""


def encode(item: Object) -> dict[str, Any]:
    """The document of an object, as a manifest has it."""
    kind, tenant, name = item.id
    metadata: dict[str, Any] = {"name": name}
    if tenant:
        metadata["tenant"] = tenant
    if item.labels:
        metadata["labels"] = dict(item.labels)
    document = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata}
    spec = schema.write(item)
    return {**document, "spec": spec} if spec else document


def key_of(identity: ObjectId) -> str:
    return PREFIX + "/".join(identity)


def id_of(key: str) -> ObjectId:
    """The inverse of key_of."""
    return ObjectId(*key.removeprefix(PREFIX).split("/"))


def dump(item: Object) -> bytes:
    """The value under the object's key: equal objects have equal ones."""
    stored: dict[str, Any] = {"spec": schema.write(item)}
    if item.labels:
        stored["labels"] = dict(item.labels)
    return json.dumps(stored, separators=(",", ":"), sort_keys=True).encode()


def load(key: str, value: bytes) -> Object:
    """The inverse of key_of and dump. ManifestError: not what dump makes."""
    kind, tenant, name = identity = id_of(key)
    try:
        stored = json.loads(value)
        labels = tuple(sorted(stored.get("labels", {}).items()))
        return schema.parse(KINDS[kind], tenant, name, labels, stored["spec"])
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        text = f"not what isolane stores: {error}"
        raise ManifestError([Problem(str(identity), "", text, Location(STORE, 0))]) from None


def intent_from(items: Mapping[str, bytes]) -> Intent:
    """The intent of a store's items; those with other keys are passed over. ManifestError: see load."""
    objects = [load(key, value) for key, value in items.items() if key.startswith(PREFIX)]
    return intent_of(objects, {item.id: {"": Location(STORE, 0)} for item in objects})


def items_of(objects: Iterable[Object]) -> dict[str, bytes]:
    """The inverse of intent_from."""
    return {key_of(item.id): dump(item) for item in objects}
