"""Objects as documents: what the store keeps of them and what `get -o yaml` prints. Pure but
for its steps.

A document says what was stated, and leaves out what says the same when left out. Beside it the store keeps
what the object was given, so that whoever reads a document knows all of the object.

Stored documents outlive the version that wrote them. A version that adds a field, without which the object
still means the same to those who do not know it, just writes it: older ones pass it over and keep it when
they write the object. A version whose document older ones must not read as they know it puts a higher
`version` into it: to older ones the object is then unreadable, others are not, and they do not write it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from policy.errors import STORED, ObjectId, Problem, UnreadableError
from policy.kinds import codec, keys
from policy.kinds.declare import Kind
from policy.kinds.manifest import API_VERSION
from policy.kinds.model import KINDS, Intent, Object, Policy, intent_of
from policy.kinds.steps import counted

STORAGE_VERSION = 1
"""Of documents that state none, and the highest that is known here."""

_KNOWN = frozenset({"version", "created", "spec", "given", "labels"})

_CREATED = re.compile(rb'\{"created":([0-9.]+)[,}]')
"""Keys are sorted: it comes first, unless there are some that are not known."""


def encode(item: Object) -> dict[str, Any]:
    """The document of an object, as a manifest has it."""
    kind, tenant, name = item.id
    metadata: dict[str, Any] = {"name": name}
    if tenant:
        metadata["tenant"] = tenant
    if item.labels:
        metadata["labels"] = dict(item.labels)
    document = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata}
    spec = codec.write(item)
    return {**document, "spec": spec} if spec else document


def dump(
    item: Object, complete: Object | None = None, over: bytes | None = None, now: float | None = None
) -> bytes:
    """The value under the object's key: equal objects have equal ones.

    complete: with all that was given. over: the value that is there now; what it has that is not known here
    stays. now: Unix seconds, when the object was made if there is none yet. UnreadableError: `over` is of a
    version that is not known here.
    """
    stored: dict[str, Any] = {"spec": codec.write(item)}
    made = now if over is None else created(over)
    if made is not None:
        stored["created"] = round(made, 3)
    if item.labels:
        stored["labels"] = dict(item.labels)
    if complete is not None and complete != item:
        given = codec.write(complete)
        stored["given"] = {field: value for field, value in given.items() if field not in stored["spec"]}
    value = _encoded(stored)
    if over is None or over == value:
        return value
    load(keys.object_key(item.id), over)
    return _encoded(_with_unknown(KINDS[item.id.kind], json.loads(over), stored))


def _encoded(stored: Mapping[str, Any]) -> bytes:
    return json.dumps(stored, separators=(",", ":"), sort_keys=True).encode()


def created(value: bytes) -> float | None:
    """When the object of this value was made, in Unix seconds; None: it does not say."""
    if found := _CREATED.match(value):
        return float(found[1])
    if b'"created":' not in value:
        return None
    try:
        return float(json.loads(value)["created"])
    except (ValueError, KeyError, TypeError):
        return None


def _with_unknown(kind: Kind, before: Mapping[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """What is stored, and what of the document before it is not known here."""
    merged = {**{key: value for key, value in before.items() if key not in _KNOWN}, **stored}
    for part in ("spec", "given"):
        whole = codec.with_unknown(kind.spec, before.get(part, {}), stored.get(part, {}))
        if whole or part in stored:
            merged[part] = whole
    return merged


def load(key: str, value: bytes, complete: bool = False) -> Object:
    """What was stated, or with all that was given: the inverse of dump. Fields that are not known here are
    passed over. UnreadableError: not what dump makes, or of a newer version.
    """
    identity: object = key
    try:
        kind, tenant, name = identity = keys.object_id(key)
        stored = json.loads(value)
        _check_version(stored.get("version", STORAGE_VERSION))
        labels = tuple(sorted(stored.get("labels", {}).items()))
        given = stored.get("given", {}) if complete else {}
        return codec.parse(KINDS[kind], tenant, name, labels, {**stored["spec"], **given})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        text = f"not what isolane stores: {error}"
        raise UnreadableError([Problem(str(identity), "", text, STORED)]) from None


def _check_version(version: object) -> None:
    if type(version) is not int or version < 1:
        raise ValueError(f"{version!r} is no storage version")
    if version > STORAGE_VERSION:
        raise ValueError(
            f"it takes an isolane that knows storage version {version}, this one knows {STORAGE_VERSION}"
        )


def may_name(value: bytes, name: str) -> bool:
    """Whether a document can refer to an object of that name: a quick look before it is loaded."""
    return f':"{name}"'.encode() in value


@dataclass(frozen=True)
class Contents:
    """What is in documents: their objects, and by key those that can't be read here."""

    objects: tuple[Object, ...]
    unreadable: Mapping[str, Problem]


def read(items: Mapping[str, bytes], complete: bool = False) -> Contents:
    """Of a store's items; those with other keys are passed over. A document that can't be read concerns its
    object alone.
    """
    objects: list[Object] = []
    unreadable: dict[str, Problem] = {}
    for key, value in counted(items.items(), "reading documents"):
        if key.startswith(keys.INTENT):
            try:
                objects.append(load(key, value, complete))
            except UnreadableError as error:
                unreadable[key] = error.problems[0]
    return Contents(tuple(objects), unreadable)


def intent_from(items: Mapping[str, bytes]) -> Intent:
    """The intent of a store's items; those with other keys are passed over. UnreadableError: it names every
    object that can't be read.
    """
    return _intent_from(items, complete=False)


def policy_from(items: Mapping[str, bytes]) -> Policy:
    """The complete policy of a store's items, like intent_from."""
    return Policy(_intent_from(items, complete=True))


def _intent_from(items: Mapping[str, bytes], complete: bool) -> Intent:
    contents = read(items, complete)
    if contents.unreadable:
        raise UnreadableError(contents.unreadable.values())
    return intent_of(contents.objects, {item.id: {"": STORED} for item in contents.objects})


def items_of(
    objects: Iterable[Object],
    complete: Mapping[ObjectId, Object] | None = None,
    there: Callable[[str], bytes | None] = lambda _key: None,
    now: float | None = None,
) -> dict[str, bytes]:
    """The inverse of intent_from, and of policy_from with the complete objects. there: of a key, the value
    there is now; now: see dump.
    """
    completed = complete or {}
    pairs = ((keys.object_key(item.id), item) for item in objects)
    return {key: dump(item, completed.get(item.id), there(key), now) for key, item in pairs}
