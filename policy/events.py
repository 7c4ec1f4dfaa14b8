"""What happened to intent and on hosts, for whoever asks why: the newest are kept in the store. Pure.

An event never holds a secret or a packet. It is written in the commit that it tells of, or in one of its own.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

PREFIX = "event/"
"""Of their keys in the store: event/UNIX NANOSECONDS, 20 digits-4 hex digits."""

HOST_SOURCE = "host "
"""So begins the source of what a host's agent tells."""

KEPT = 1_000
NAMED = 100
"""Objects that one event names; of more it only tells how many."""


@dataclass(frozen=True, slots=True)
class Event:
    """time: Unix seconds. source: `apply`, `delete`, or a host's agent. counts: of what, such as "created".

    objects: whom it is about, as ObjectIds print; the first NAMED of them.
    """

    time: float
    source: str
    text: str
    counts: Mapping[str, int]
    objects: tuple[str, ...] = ()

    def is_about(self, identity: str) -> bool:
        return identity in self.objects


def item(event: Event) -> tuple[str, bytes]:
    """Its key and value; later events have higher keys."""
    key = f"{PREFIX}{int(event.time * 1e9):020d}-{secrets.token_hex(2)}"
    return key, json.dumps(asdict(event), separators=(",", ":")).encode()


def read(items: Mapping[str, bytes]) -> list[Event]:
    """The events among a store's items, oldest first."""
    documents = [json.loads(items[key]) for key in sorted(items) if key.startswith(PREFIX)]
    return [Event(**{**document, "objects": tuple(document["objects"])}) for document in documents]


def outdated(keys: Iterable[str]) -> list[str]:
    """The keys of events to delete when one more is written."""
    mine = sorted(key for key in keys if key.startswith(PREFIX))
    return mine[: max(len(mine) + 1 - KEPT, 0)]
