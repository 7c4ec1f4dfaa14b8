"""Who has which value of which pool, and the book in which that is kept. Pure; times are Unix seconds.

A value (a VSID, a MAC, a customer or a provider address) belongs to an owner, an object with its full
identity, for a purpose, such as the prefix that an address is from. It stays with them for as long as they
want it. When they no longer do it is held down: for HOLD_SECONDS nobody else is given it, so that nothing
that still remembers the old owner reaches a new one. Whoever states a value outright may have it at once.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple, Protocol

HOLD_SECONDS = 300.0
PREFIX = "grant/"
"""Of their keys in the store: grant/POOL/VALUE."""

Ranges = Sequence[range]

_ROUNDS = 16


class Value(NamedTuple):
    """A value of a pool, as text: `pa/rack1`, `192.168.77.100`."""

    pool: str
    text: str

    @property
    def key(self) -> str:
        return f"{PREFIX}{self.pool}/{self.text}"


@dataclass(frozen=True, slots=True)
class Grant:
    """held_until: when others may have it; None while the owner has it."""

    owner: str
    purpose: str
    held_until: float | None = None


Grants = Mapping[Value, Grant]


def ca_pool(tenant: str, subnet: str, version: int) -> str:
    """The pool of the customer addresses of a VM subnet, of one IP version."""
    return f"ca/{tenant}/{subnet}/{version}"


def pa_pool(site: str, version: int) -> str:
    """The pool of the provider addresses of a site, of one IP version."""
    return f"pa/{site}/{version}"


def vsid_value(vsid: int) -> Value:
    return Value("vsid", str(vsid))


MAC_POOL = "mac"


class Others(Protocol):
    """What those have who are not in the book, for a book that holds a part of all grants; values as text."""

    def stated(self, pool: str, texts: Iterable[str]) -> set[str]:
        """Those of `texts` that somebody states without a grant."""

    def taken(self, pool: str, texts: Iterable[str]) -> set[str]:
        """Those of `texts` that nobody can be given: stated, granted or held down."""

    def all_taken(self, pool: str) -> set[str]:
        """All of the pool that nobody can be given."""


class Nobody:
    """Others, of a book that holds all grants."""

    def stated(self, pool: str, texts: Iterable[str]) -> set[str]:
        return set()

    def taken(self, pool: str, texts: Iterable[str]) -> set[str]:
        return set()

    def all_taken(self, pool: str) -> set[str]:
        return set()


class Notation(NamedTuple):
    """How the values of a pool are written, and read back to integers."""

    text: Callable[[int], str]
    value: Callable[[str], int]


class Claim(NamedTuple):
    """A value wanted from `ranges`, as integers. Whoever asks for the first time gets what follows from
    `name`, if that is free: the same every time and for everybody.
    """

    owner: str
    purpose: str
    name: str
    ranges: Ranges


def encode(grants: Grants) -> dict[str, bytes]:
    """As items of the store."""
    return {
        value.key: json.dumps(
            {"owner": grant.owner, "purpose": grant.purpose, "heldUntil": grant.held_until},
            separators=(",", ":"),
        ).encode()
        for value, grant in grants.items()
    }


def decode(items: Mapping[str, bytes]) -> dict[Value, Grant]:
    """The inverse of encode; items with other keys are passed over."""
    grants = {}
    for key, content in items.items():
        if key.startswith(PREFIX):
            document = json.loads(content)
            pool, _, text = key.removeprefix(PREFIX).rpartition("/")
            grants[Value(pool, text)] = Grant(document["owner"], document["purpose"], document["heldUntil"])
    return grants


class Conflict(NamedTuple):
    """A value that one object has been given and wants to keep, and that another one states."""

    value: Value
    owner: str
    stated_by: str


class Book:
    """The grants of before, and those that hold now.

    Every value that is wanted is told to the book by `state` or `claim`; `close` holds down what nobody has
    wanted again.
    """

    def __init__(self, grants: Grants | None = None, now: float = 0.0, others: Others | None = None) -> None:
        self._before = grants or {}
        self._now = now
        self._others = others or Nobody()
        self._granted: dict[Value, Grant] = {}
        self._values: dict[tuple[str, str, str], Value] = {}
        self._reserved: dict[str, list[str]] = {}
        for value, grant in sorted(self._before.items(), key=lambda item: item[1].held_until is None):
            self._values[value.pool, grant.owner, grant.purpose] = value  # what is not held down comes last
            if grant.held_until is None or grant.held_until > now:
                self._reserved.setdefault(value.pool, []).append(value.text)
        self.conflicts: list[Conflict] = []

    def state(self, value: Value, owner: str, purpose: str) -> None:
        """The owner says that it has this value. It has, also when it was given to somebody else: who wants
        to keep it makes a conflict with `claim`.
        """
        self._granted[value] = Grant(owner, purpose)

    def claim(
        self, pool: str, notation: Notation, claims: Iterable[Claim], taken: Iterable[int]
    ) -> dict[str, int]:
        """By the claims' names: what each has already, else a free value of its ranges; none where nothing
        is free. taken: values that are not to be given to anybody.
        """
        used = set(taken)
        wanted = {claim.name: claim for claim in claims}
        had = [self._values.get((pool, claim.owner, claim.purpose)) for claim in wanted.values()]
        texts = [value.text for value in had if value is not None]
        used |= set(map(notation.value, self._others.stated(pool, texts)))
        granted = dict(self._keep(pool, notation, wanted.values(), used))
        used |= {notation.value(text) for text in self._reserved.get(pool, ())}
        missing = {name: claim.ranges for name, claim in wanted.items() if name not in granted}
        granted |= spread(missing, used.union(granted.values()), _Rest(self._others, pool, notation))
        for name, number in granted.items():
            claim = wanted[name]
            self._granted[Value(pool, notation.text(number))] = Grant(claim.owner, claim.purpose)
        return granted

    def _keep(
        self, pool: str, notation: Notation, claims: Iterable[Claim], used: set[int]
    ) -> Iterator[tuple[str, int]]:
        for claim in claims:
            value = self._values.get((pool, claim.owner, claim.purpose))
            if value is None:
                continue
            number = notation.value(value.text)
            now = self._granted.get(value)
            if now is not None:
                if self._before[value].held_until is None:
                    self.conflicts.append(Conflict(value, claim.owner, now.owner))
            elif number not in used and any(number in values for values in claim.ranges):
                yield claim.name, number

    def close(self) -> dict[Value, Grant]:
        """All grants that are to be remembered, those that are held down among them."""
        gone = {value: grant for value, grant in self._before.items() if value not in self._granted}
        held = {value: replace(grant, held_until=self._hold_until(grant)) for value, grant in gone.items()}
        return self._granted | {
            value: grant for value, grant in held.items() if self._now < (grant.held_until or self._now)
        }

    def _hold_until(self, grant: Grant) -> float:
        return self._now + HOLD_SECONDS if grant.held_until is None else grant.held_until


@dataclass(frozen=True, slots=True)
class _Rest:
    """What others have of one pool, as integers."""

    others: Others
    pool: str
    notation: Notation

    def taken(self, values: Iterable[int]) -> set[int]:
        found = self.others.taken(self.pool, map(self.notation.text, values))
        return set(map(self.notation.value, found))

    def all_taken(self) -> set[int]:
        return set(map(self.notation.value, self.others.all_taken(self.pool)))


def spread(claims: Mapping[str, Ranges], taken: Iterable[int], rest: _Rest | None = None) -> dict[str, int]:
    """A value of its own for every claim, from its ranges and not in `taken`, nor in the rest of what is
    taken; none where nothing is free.

    Names that hash to the same value are sorted out in rounds: in round n everyone without a value asks for
    the nth choice of its name; of several that ask for one value, the first by name gets it. So an object
    that got its first choice keeps it, unless a newcomer with a name before its own has the same first
    choice.
    """
    used = set(taken)
    granted: dict[str, int] = {}
    pending = sorted(claims)
    for attempt in range(_ROUNDS):
        wishes: dict[int, str] = {}
        choices = {name: _choice(name, attempt, claims[name]) for name in pending}
        if rest and choices:
            used |= rest.taken({value for value in choices.values() if value is not None} - used)
        for name, value in choices.items():
            if value is not None and value not in used:
                wishes.setdefault(value, name)
        used.update(wishes)
        granted.update((name, value) for value, name in wishes.items())
        pending = [name for name in pending if name not in granted]
    if rest and pending:
        used |= rest.all_taken()
    for name in pending:  # ranges that are nearly full, or small
        free = next((value for value in chain(*claims[name]) if value not in used), None)
        if free is not None:
            used.add(free)
            granted[name] = free
    return granted


def _choice(name: str, attempt: int, ranges: Ranges) -> int | None:
    size = sum(values.stop - values.start for values in ranges)
    if not size:
        return None
    index = int.from_bytes(blake2b(f"{name}#{attempt}".encode(), digest_size=16).digest()) % size
    for values in ranges:
        if index < values.stop - values.start:
            return values.start + index
        index -= values.stop - values.start
    return None
