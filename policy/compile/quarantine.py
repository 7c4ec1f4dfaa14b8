"""Documents of the store that a host can't go by: each concerns itself alone, and what can't be without it.

One that can't be read, as a newer isolane wrote it, say, waits until it changes; one that refers to something
that is not there waits until that is. What was read of an object before stays in force meanwhile. Pure.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from policy.errors import ObjectId, UnreadableError
from policy.kinds import codec, documents, keys
from policy.kinds.model import Object

Changes = Mapping[str, bytes | None]


class Known(Protocol):
    """What is in force."""

    def has(self, identity: ObjectId) -> bool: ...
    def read(self, identity: ObjectId) -> Object | None:
        """None: it is not there."""


@dataclass(frozen=True, slots=True)
class _Held:
    """waits: for what it refers to."""

    value: bytes
    problem: str
    waits: bool


class Quarantine:
    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._held

    @property
    def problems(self) -> dict[str, str]:
        """By key, in words that name the object."""
        return {key: held.problem for key, held in sorted(self._held.items())}

    @property
    def waiting(self) -> dict[str, bytes]:
        """By key, documents that can be read."""
        return {key: held.value for key, held in self._held.items() if held.waits}

    def admit(
        self, changes: Changes, load: Callable[[str, bytes], Object | None], known: Known
    ) -> tuple[dict[str, bytes | None], dict[str, Object]]:
        """What is to be taken over of changes and of what waited for them, and its objects.

        load: UnreadableError of what can't be read; None: it need not be.
        """
        taken: dict[str, bytes | None] = {}
        items: dict[str, Object] = {}
        for key, value in {**self.waiting, **changes}.items():
            self._held.pop(key, None)
            try:
                item = None if value is None else load(key, value)
            except UnreadableError as error:
                assert value is not None
                self.hold(key, value, str(error))
                continue
            if identity_of(key) is not None:
                taken[key] = value
            if item is not None:
                items[key] = item
        self._hold_dangling(taken, items, known)
        self._drop_stranded(taken, known)
        return taken, items

    def hold(self, key: str, value: bytes, problem: str, waits: bool = False) -> None:
        self._held[key] = _Held(value, problem, waits)

    def in_force(self, known: Known) -> list[ObjectId]:
        """What was read before of objects that are held."""
        identities = (identity_of(key) for key in self._held)
        return [identity for identity in identities if identity is not None and known.has(identity)]

    def hold_referrers(self, items: Iterable[Object], known: Known) -> list[ObjectId]:
        """Of these those that refer to what is not there."""
        found = []
        for item in items:
            if missing := _missing(item, {}, known):
                self._hold_waiting(item.id, documents.dump(item), missing)
                found.append(item.id)
        return found

    def _hold_waiting(self, identity: ObjectId, document: bytes, missing: ObjectId) -> None:
        problem = f"{identity}: waits for {missing}, which is not there or can't be read"
        self.hold(keys.object_key(identity), document, problem, waits=True)

    def _hold_dangling(self, taken: dict[str, bytes | None], items: dict[str, Object], known: Known) -> None:
        """What can't be without one that is held can't be either, and so on."""
        found = True
        while found:
            found = False
            for key, item in list(items.items()):
                if missing := _missing(item, taken, known):
                    value = taken.pop(key)
                    assert value is not None
                    self._hold_waiting(item.id, value, missing)
                    del items[key]
                    found = True

    def _drop_stranded(self, taken: dict[str, bytes | None], known: Known) -> None:
        """Of what is held what is in force still, if it referred to something that goes now."""
        if not any(value is None for value in taken.values()):
            return
        for key in self._held:
            identity = identity_of(key)
            before = known.read(identity) if identity is not None else None
            if before is not None and _missing(before, taken, known):
                taken[key] = None


def identity_of(key: str) -> ObjectId | None:
    """None: nobody's key."""
    try:
        return keys.object_id(key)
    except (TypeError, ValueError):
        return None


def _missing(item: Object, taken: Changes, known: Known) -> ObjectId | None:
    """The first that it refers to which is not there."""
    for _, target in codec.references(item):
        key = keys.object_key(target)
        if target.name and not (taken[key] is not None if key in taken else known.has(target)):
            return target
    return None
