"""What happened to intent and on hosts, for whoever asks why: the store keeps it for a week. Pure.

An event never holds a secret or a packet. It is written in the commit that it tells of, or in one of its own.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from policy.kinds import keys

HOST_SOURCE = "host "
"""So begins the source of what a host's agent tells."""

KEPT_SECONDS = 7 * 86400.0
"""As long the store remembers them."""

NAMED = 100
"""Objects that one event names; of more it only tells how many."""


@dataclass(frozen=True, slots=True)
class Event:
    """time: Unix seconds. source: `apply`, `delete`, or a host's agent. counts: of what, such as "created".

    objects: whom it is about, as ObjectIds print; the first NAMED of them. who: changed intent.
    """

    time: float
    source: str
    text: str
    counts: Mapping[str, int]
    objects: tuple[str, ...] = ()
    who: str = ""

    def is_about(self, identity: str) -> bool:
        return identity in self.objects


def item(event: Event) -> tuple[str, bytes]:
    """Its key and value; later events have higher keys."""
    key = keys.event_key(event.time, secrets.token_hex(2))
    return key, json.dumps(asdict(event), separators=(",", ":")).encode()


def read(items: Mapping[str, bytes]) -> list[Event]:
    """The events among a store's items, oldest first."""
    return list(by_key(items).values())


def by_key(items: Mapping[str, bytes]) -> dict[str, Event]:
    """The same, with their keys; without those that can't be read."""
    found = {key: _decode(items[key]) for key in sorted(items) if key.startswith(keys.EVENTS)}
    return {key: event for key, event in found.items() if event is not None}


def _decode(value: bytes) -> Event | None:
    """Fields that are not known here are passed over: another version may have written it."""
    try:
        said = json.loads(value)
        return Event(
            float(said["time"]),
            str(said["source"]),
            str(said["text"]),
            {str(what): int(number) for what, number in said["counts"].items()},
            tuple(map(str, said["objects"])),
            str(said["who"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
