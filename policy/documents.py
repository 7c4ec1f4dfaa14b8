"""Objects as documents: what the store keeps of them and what `get -o yaml` prints. Pure.

A document says what was stated, and leaves out what says the same when left out. Beside it the store keeps
what the object was given, so that whoever reads a document knows all of the object.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from policy import schema
from policy.errors import STORED, ManifestError, ObjectId, Problem
from policy.model import Intent, Object, Policy, intent_of
from policy.schema import API_VERSION, KINDS

PREFIX = "intent/"
"""Of the keys of objects in a store: intent/KIND/TENANT/NAME, the tenant empty for objects of the fabric."""


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


def prefix_of(kind: str, tenant: str | None = None) -> str:
    """Of the keys of a kind, or of a tenant's objects of a kind."""
    return f"{PREFIX}{kind}/" if tenant is None else f"{PREFIX}{kind}/{tenant}/"


def id_of(key: str) -> ObjectId:
    """The inverse of key_of."""
    return ObjectId(*key.removeprefix(PREFIX).split("/"))


def dump(item: Object, complete: Object | None = None) -> bytes:
    """The value under the object's key: equal objects have equal ones. complete: with all that was given."""
    stored: dict[str, Any] = {"spec": schema.write(item)}
    if item.labels:
        stored["labels"] = dict(item.labels)
    if complete is not None and complete != item:
        given = schema.write(complete)
        stored["given"] = {field: value for field, value in given.items() if field not in stored["spec"]}
    return json.dumps(stored, separators=(",", ":"), sort_keys=True).encode()


def load(key: str, value: bytes, complete: bool = False) -> Object:
    """The inverse of key_of and dump: what was stated, or with all that was given. ManifestError: not what
    dump makes.
    """
    identity: object = key
    try:
        kind, tenant, name = identity = id_of(key)
        stored = json.loads(value)
        labels = tuple(sorted(stored.get("labels", {}).items()))
        given = stored.get("given", {}) if complete else {}
        return schema.parse(KINDS[kind], tenant, name, labels, {**stored["spec"], **given})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        text = f"not what isolane stores: {error}"
        raise ManifestError([Problem(str(identity), "", text, STORED)]) from None


def intent_from(items: Mapping[str, bytes]) -> Intent:
    """The intent of a store's items; those with other keys are passed over. ManifestError: see load."""
    return _intent_from(items, complete=False)


def policy_from(items: Mapping[str, bytes]) -> Policy:
    """The complete policy of a store's items, like intent_from."""
    return Policy(_intent_from(items, complete=True))


def _intent_from(items: Mapping[str, bytes], complete: bool) -> Intent:
    objects = [load(key, value, complete) for key, value in items.items() if key.startswith(PREFIX)]
    return intent_of(objects, {item.id: {"": STORED} for item in objects})


def items_of(
    objects: Iterable[Object], complete: Mapping[ObjectId, Object] | None = None
) -> dict[str, bytes]:
    """The inverse of intent_from, and of policy_from with the complete objects."""
    completed = complete or {}
    return {key_of(item.id): dump(item, completed.get(item.id)) for item in objects}
